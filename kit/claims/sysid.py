"""Claims of system identification: an arm's parameters, the servo's friction, and what both are good for."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np

from kit.claims.core import Claim

ALLOWED = 0.02  # error of each parameter that counts as recovered [share of the truth]


@functools.cache
def _recording(seed: int, seconds: float) -> Any:
    from kit.sim2real.motor import Gap
    from kit.sim2real.transfer import sysid

    hidden = Gap(stiffness=13 / 16, coulomb=0.12, viscous=0.09, payload=0.15, action_delay=0.03)
    goals = sysid.excitation(sysid.Config(seconds=seconds), seed=seed)
    return hidden, sysid.record_twin(hidden, goals, seed=seed)


def recovery(arm: str, seed: int, budget: str) -> dict[str, float]:
    """The seed draws the excitation and the unit's encoder offsets; the five hidden numbers are the same."""
    if arm == "allowed":
        return {"worst_error": ALLOWED}
    from kit.sim2real.transfer import sysid

    cfg = sysid.Config() if budget == "full" else sysid.Config(seconds=6.0)
    hidden, recording = _recording(seed, cfg.seconds)
    changes = {"identified": {}, "zero_order": {"interpolation": "zero-order"}, "no_supply": {"supply": False}}[arm]
    found = sysid.identify(recording, replace(cfg, **changes))
    errors = found.relative_errors(hidden)
    return {"worst_error": max(errors.values()), "rmse_deg": found.rmse, "rollouts": float(found.rollouts), **errors}


def friction(arm: str, seed: int, budget: str) -> dict[str, float]:
    """The seed draws the servo's friction, which is of the form M4, and how far the runs go."""
    from kit.sim2real.transfer import friction as bam

    rng = np.random.default_rng((seed, 0))
    low, high = np.array([[0.04, 0.04, 0.1, 0.02, 0.0, 0.1], [0.1, 0.1, 0.25, 0.08, 0.1, 0.3]])
    names = ("coulomb", "viscous", "load", "stribeck", "load_stribeck", "speed")
    truth = dict(zip(names, rng.uniform(low, high).tolist(), strict=True))
    cfg = bam.Config(starts=2) if budget == "full" else bam.Config(starts=1, seconds=3.0, gains=(8.0, 32.0))
    _, seen, held_out = bam.compare(truth, cfg, models=(arm,), seed=seed)[arm]
    return {"held_out_deg": held_out, "fitted_deg": seen}


@functools.cache
def _found(seed: int) -> Any:
    from kit.sim2real.transfer.sysid import identify_twin
    from kit.sim2real.transfer.twin import TWIN_A

    return identify_twin(TWIN_A, seed=seed)


def tracking(arm: str, seed: int, budget: str) -> dict[str, float]:
    """The seed draws the excitation, the references and the lost packets; every controller follows the same."""
    from kit.sim2real.motor import Gap
    from kit.sim2real.transfer import tracking as task
    from kit.sim2real.transfer.twin import TWIN_A

    believed = {"naive": Gap, "identified": lambda: _found(seed).gap, "oracle": lambda: TWIN_A}[arm]()
    episodes = 100 if budget == "full" else 10
    twin = task.track(TWIN_A, believed, episodes=episodes, seed=seed)
    nominal = task.track(Gap(), believed, episodes=episodes, seed=seed)
    return {
        "success": twin.success, "success_nominal": nominal.success, "gap": nominal.success - twin.success,
        "error_deg": float(twin.error.max(axis=1).mean()), "error_nominal_deg": float(nominal.error.max(axis=1).mean()),
    }  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="sysid.recovers",
        papers=(),
        statement="From 12 s over the servo bus the five hidden numbers of an arm are found, each within 2 %.",
        arms=("identified", "allowed", "no_supply"),
        metric="worst_error",
        run=recovery,
        source="2 % is asked for; the excitation was moved up from the table after a look at seeds 0-2, "
        "and the supply's resistance came in for the bias that its absence gives",
        more_is_better=False,
        paper_number="measured elsewhere, on data of the very model that was fitted: within 0.3 %",
        unit="share of the truth",
    ),
    Claim(
        id="sysid.trap",
        papers=(),
        statement="With delayed goals held instead of interpolated, the same fit settles on wrong numbers.",
        arms=("identified", "zero_order"),
        metric="worst_error",
        run=recovery,
        margin=0.1,
        source="theory: the delay's gradient is zero, so it stays where it starts, an error of 1; a tenth of that",
        more_is_better=False,
        paper_number="friction .163 for .12, payload 280 g for 150 g",
        unit="share of the truth",
    ),
    Claim(
        id="friction.held_out",
        papers=(),
        statement="At a gain that was not fitted, load-dependent friction (M3) is closer than Coulomb-viscous (M1).",
        arms=("M3", "M1", "M2", "M4"),
        metric="held_out_deg",
        run=friction,
        source="direction only: the paper's arm is better",
        more_is_better=False,
        paper_number="M6 halves the error of M1 on two-joint arms, on four servos (Duclusaud et al. 2025)",
        unit="deg mean absolute error",
    ),
    Claim(
        id="tracking.identified",
        papers=(),
        statement="Feed-forward from the identified model tracks on Twin A more often than from the nominal one.",
        arms=("identified", "naive", "oracle"),
        metric="success",
        run=tracking,
        source="direction only; the tolerance is twice the encoder's step plus the twin's play, 0.68 degrees",
        unit="success",
    ),
)
