"""Claims of the teachers over continuous task spaces, on CubeWorld and its challenges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kit.claims.core import Claim

EPISODES = 20_000
MILESTONES = {"mastered_5k": 5_000, "mastered_10k": 10_000, "mastered_20k": 20_000}  # metric -> after so many episodes
TEACHERS = ("alp_gmm", "riac", "covar_gmm", "adr", "oracle", "random")
CORNER = 0.05  # middle of the first of ten cubes: where somebody who knows that the corner is easy starts ADR


def make_teacher(name: str, world: Any, seed: int) -> Any:
    """A teacher at its class's defaults. ADR and the oracle alone must be told something: where it is easy."""
    from kit.curricula import adr, alp_gmm, covar_gmm, oracle, riac
    from kit.curricula.teacher import RandomTeacher

    easy = (CORNER,) * world.cfg.dims + (0.5,) * world.cfg.useless
    box = adr.Config(start=easy, probe_share=0.7, t_high=0.75, t_low=-float("inf"))
    makers: dict[str, Callable[[], Any]] = {
        "alp_gmm": lambda: alp_gmm.ALPGMM(world.space, seed=seed),
        "riac": lambda: riac.RIAC(world.space, seed=seed),
        "covar_gmm": lambda: covar_gmm.CovarGMM(world.space, seed=seed),
        "adr": lambda: adr.ADR(world.space, box, seed=seed),
        "oracle": lambda: oracle.OracleTeacher(world.space, oracle.Config(threshold=0.75), seed=seed),
        "random": lambda: RandomTeacher(world.space, seed=seed),
    }
    return makers[name]()


def play(arm: str, world: Any, seed: int, budget: str) -> dict[str, float]:
    """Shares of learnable cubes mastered, at the milestones, at the end, and on average over the run."""
    from kit.curricula.loop import run

    episodes = EPISODES if budget == "full" else EPISODES // 10
    shares = [m["mastered"] for m in run(make_teacher(arm, world, seed), world, episodes)]
    noted = {name: shares[min(n, episodes) - 1] for name, n in MILESTONES.items()}
    return noted | {"mastered": shares[-1], "mean_mastered": sum(shares) / episodes}


def cube(arm: str, seed: int, budget: str, challenge: str = "base") -> dict[str, float]:
    """The seed draws the teacher's choices, and a rugged world's order."""
    from kit.curricula.worlds.cube import CHALLENGES, CubeWorld

    return play(arm, CubeWorld(CHALLENGES[challenge], seed=seed), seed, budget)


def unfeasible(arm: str, seed: int, budget: str) -> dict[str, float]:
    return cube(arm, seed, budget, "unfeasible")


def feasible(arm: str, seed: int, budget: str) -> dict[str, float]:
    return cube(arm, seed, budget, "feasible")


def forgetting(arm: str, seed: int, budget: str) -> dict[str, float]:
    return cube(arm, seed, budget, "forgetting")


def rugged(arm: str, seed: int, budget: str) -> dict[str, float]:
    return cube(arm, seed, budget, "rugged")


def useless(arm: str, seed: int, budget: str) -> dict[str, float]:
    return cube(arm, seed, budget, "useless")


GRIDS = {"none": 5, "half": 7, "three_quarters": 10, "fifteen_sixteenths": 20}  # unlearnable share -> cubes an axis


def crowded(arm: str, seed: int, budget: str) -> dict[str, float]:
    """The same 25 learnable cubes, with more or fewer unlearnable ones beside them; what ALP-GMM adds to uniform."""
    from kit.curricula.worlds.cube import Config, CubeWorld

    bins = GRIDS[arm]
    cfg = Config(bins=bins, learnable=(5 / bins) ** 2)
    taught, uniform = (play(name, CubeWorld(cfg, seed=seed), seed, budget) for name in ("alp_gmm", "random"))
    gaps = {f"gap_{name}": taught[name] - uniform[name] for name in taught}
    return gaps | {f"alp_gmm_{k}": v for k, v in taught.items()} | {f"random_{k}": v for k, v in uniform.items()}


def others(*judged: str) -> tuple[str, ...]:
    """The judged arms first, then every other teacher, to be shown beside them."""
    return (*judged, *(t for t in TEACHERS if t not in judged))


on_cube = partial(Claim, metric="mastered", unit="share of learnable cubes")
PARKOUR = "Parkour, SAC, 16 seeds of 3 bodies: 26.4 % of tasks mastered against 16.9 %"
DIRECTION = "direction only; what the same world gave with the authors' classes decided the arms, not a number"

CLAIMS: tuple[Claim, ...] = (
    on_cube(
        id="alp_gmm.cube",
        papers=(1, 41),
        statement="ALP-GMM masters more of CubeWorld in 20,000 episodes than uniform tasks do.",
        arms=others("alp_gmm", "random"),
        run=cube,
        margin=0.17,
        source="at least 25 % against at most 8 %: what the authors' classes gave on the same world, with room",
        paper_number=PARKOUR,
    ),
    Claim(
        id="alp_gmm.unlearnable",
        papers=(1,),
        statement="ALP-GMM adds more to uniform tasks where three quarters of all are unlearnable than where none is.",
        arms=("three_quarters", "none", "half", "fifteen_sixteenths"),
        metric="gap_mean_mastered",
        run=crowded,
        source="direction only; the mean over the run, because uniform tasks too master all in the end if all can be",
        paper_number="the gap to uniform tasks widens as the task space gets less learnable",
        unit="share of learnable cubes",
    ),
    on_cube(
        id="riac.cube",
        papers=(41,),
        statement="RIAC masters more of CubeWorld in 20,000 episodes than uniform tasks do.",
        arms=("riac", "random"),
        run=cube,
        margin=0.27,
        source="at least 35 % against at most 8 %: what the authors' classes gave on the same world, with room",
        paper_number="Parkour: 23.0 % of tasks mastered against 16.9 %",
    ),
    on_cube(
        id="covar_gmm.cube",
        papers=(41,),
        statement="Covar-GMM masters more of CubeWorld in 20,000 episodes than uniform tasks do.",
        arms=("covar_gmm", "random"),
        run=cube,
        margin=0.42,
        source="at least 50 % against at most 8 %: what the authors' classes gave on the same world, with room",
        paper_number="Parkour: 22.1 % of tasks mastered against 16.9 %",
    ),
    on_cube(
        id="adr.smooth",
        papers=(41,),
        statement="Where difficulty rises smoothly from a corner that it is told, ADR masters more than any other.",
        arms=("adr", "covar_gmm"),
        run=cube,
        source="direction only, against the best of the others",
        paper_number="ADR needs expert knowledge of where to start",
    ),
    on_cube(
        id="adr.rugged",
        papers=(41,),
        statement="Where the order of difficulty is rugged ADR masters less than ALP-GMM.",
        arms=others("alp_gmm", "adr"),
        run=rugged,
        source=DIRECTION,
        paper_number="Parkour: 6.7 % of tasks mastered, below uniform tasks' 16.9 %",
    ),
    on_cube(
        id="tma.useless",
        papers=(41,),
        statement="With four coordinates that do nothing ALP-GMM masters more than RIAC, which cuts boxes along them.",
        arms=others("alp_gmm", "riac"),
        run=useless,
        source=DIRECTION,
    ),
    Claim(
        id="tma.unfeasible",
        papers=(41,),
        statement="With three quarters of tasks unfeasible ALP-GMM is ahead of uniform tasks after 5,000 episodes.",
        arms=others("alp_gmm", "random"),
        metric="mastered_5k",
        run=unfeasible,
        source=DIRECTION,
        unit="share of learnable cubes",
    ),
    on_cube(
        id="tma.feasible",
        papers=(41,),
        statement="With half of the tasks mastered from the start ALP-GMM masters more of the rest than uniform tasks.",
        arms=others("alp_gmm", "random"),
        run=feasible,
        source=DIRECTION,
    ),
    on_cube(
        id="tma.forgetting",
        papers=(41,),
        statement="A student that forgets everything half-way masters more again under ALP-GMM than uniform tasks.",
        arms=others("alp_gmm", "random"),
        run=forgetting,
        source=DIRECTION,
    ),
)
