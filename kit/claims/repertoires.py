"""Claims about repertoires: MAP-Elites against random search, and STAX against a search that is told where to look."""

from __future__ import annotations

import numpy as np

from kit.claims.core import Claim

SETTINGS = {
    "stax": {},
    "stax_stale": {"reencode": False},
    "stax_untrained": {"epochs": 0},
    "stax_short": {"short_steps": True},
    "stax_no_emitters": {"exploit": False},
    "serene": {"descriptor": "given"},
    "novelty": {"descriptor": "given", "exploit": False},
    "random": {"descriptor": "given", "exploit": False},
}


def arm_cells(arm: str, seed: int, budget: str) -> dict[str, float]:
    """The seed draws all genomes and parents; every arm evaluates as many."""
    from kit.envs.arm12 import Arm12
    from kit.skills import repertoire

    cfg = repertoire.Config(method=arm, evaluations=105_000 if budget == "full" else 6_000)
    for metrics in repertoire.train(Arm12(), cfg, seed=seed):
        last = metrics
    return {
        "log2_cells": float(np.log2(last["cells"])), "cells": last["cells"], "qd_score": last["qd_score"],
        "best": last["best"],
    }  # fmt: skip


def search(arm: str, seed: int, budget: str) -> dict[str, float]:
    """The seed draws genomes, parents, criteria and the autoencoder; every arm runs as many policies.

    "novelty" and "serene" are given the end position as descriptor; "serene" and the two "stax" follow up rewards;
    "stax_stale" leaves descriptors in store as they were when first computed, "stax_untrained" the autoencoder as it
    began, "stax_short" divides an emitter's sigma by the square root of the number of weights.
    """
    from kit.envs.deceptive_point import DeceptivePoint
    from kit.skills import stax

    cfg = stax.Config(evaluations=20_000 if budget == "full" else 3_000, **SETTINGS[arm])
    half = None
    run = stax.train if arm != "random" else stax.random_search
    for metrics in run(DeceptivePoint(), cfg, seed=seed):
        half = metrics if half is None and metrics["progress"] >= 0.5 else half
    far, right, low = metrics.agent.best
    return {
        "log_coverage": float(np.log(metrics["coverage"])), "coverage": metrics["coverage"],
        "coverage_half": half["coverage"], "best": metrics["best"], "best_half": half["best"],
        "discs": metrics["discs"], "best_far": far, "best_right": right, "best_low": low,
    }  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="map_elites.random",
        papers=(4,),
        statement="With 105,000 evaluations MAP-Elites fills at least twice as many of the cells that a twelve-joint "
        "arm's tip can reach as uniformly random joint angles do.",
        arms=("map_elites", "random", "iso_line", "cma_me", "novelty"),
        metric="log2_cells",
        run=arm_cells,
        margin=1.0,
        source="twice is one doubling; an independent run of one seed gave 7,561 against 3,522 cells",
        paper_number="pyribs tutorial: CMA-ME fills 7,928 cells with as many evaluations",
        unit="doublings",
    ),
    Claim(
        id="stax.coverage",
        papers=(4,),
        statement="With a learned descriptor, and rewards to follow up as well, STAX covers at least nine tenths of "
        "the cells that novelty search covers when it is given the end position.",
        arms=("stax", "novelty", "stax_stale", "stax_untrained", "serene", "random"),
        metric="log_coverage",
        run=search,
        margin=float(np.log(0.9)),
        source="the kit's reading of 'comparable': a ratio of 0.9, as a difference of logarithms; the mutation's size "
        "was chosen for novelty search on seeds 1000-1002: most reward, and within 0.01 of its best coverage",
        paper_number="comparable to baselines that are given the behaviour space, in three environments",
        unit="log of the covered share",
    ),
    Claim(
        id="stax.best",
        papers=(4,),
        statement="STAX earns more than novelty search alone: mean over the three discs of the best reward found.",
        arms=("stax", "novelty", "stax_short", "serene", "stax_no_emitters", "random"),
        metric="best",
        run=search,
        paper_number="emitters raise the rewards that exploration discovers",
        unit="reward [share of the largest]",
        tried="seeds 1000-1002: the rule sigma = distance to the nearest genome / 3, for each of 122 weights, makes "
        "steps sqrt(122) times as long as a third of that distance, and emitters gain little; divided by sqrt(122), "
        "or with sigma 0.05, they bring the rewards from 0.89 to 0.99 (see stax.short_steps). Novelty search alone "
        "has the whole budget to explore with, and lands near every centre by number.",
    ),
    Claim(
        id="stax.short_steps",
        papers=(4,),
        statement="With emitter steps as long as a third of the way to the nearest genome STAX earns more than novelty "
        "search alone: mean over the three discs of the best reward found.",
        arms=("stax_short", "novelty"),
        metric="best",
        run=search,
        source="direction only; the shorter step, the kit's own reading, was chosen on seeds 1000-1002",
        paper_number="emitters raise the rewards that exploration discovers",
        unit="reward [share of the largest]",
    ),
    Claim(
        id="stax.random",
        papers=(4,),
        statement="STAX earns more than random search: mean over the three discs of the best reward found.",
        arms=("stax", "random"),
        metric="best",
        run=search,
        paper_number="above random search",
        unit="reward [share of the largest]",
    ),
    Claim(
        id="stax.discs",
        papers=(4,),
        statement="STAX finds more of the three sparse rewards than random search.",
        arms=("stax", "random", "novelty"),
        metric="discs",
        run=search,
        paper_number="above random search; all rewards of the three environments are found",
        unit="discs",
        tried="as it was planned: 20,000 policies find all three discs in every arm and seed, random ones too, if only "
        "at their rims; what is left is how much is earned there (stax.random).",
    ),
)
