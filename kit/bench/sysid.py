"""Seconds that system identification of an SO-101 takes, beside SciPy's least squares on the same rollouts.

Both fit the same recording of a virtual arm over its servo bus, 12 s at 30 Hz, from nominal, with the same residual,
bounds and finite differences. Ours rolls out all columns of a jacobian in one batch; SciPy asks for one at a time.
`worst_error` is the largest relative error of the five numbers, on each seed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from kit.bench import fresh
from kit.sim2real.motor import Gap
from kit.sim2real.transfer import sysid

OURS, PEER = "kit.sim2real.transfer.sysid", "scipy.optimize.least_squares"
SOLVERS = {OURS: "minimize", PEER: "scipy"}
HIDDEN = Gap(stiffness=13 / 16, coulomb=0.12, viscous=0.09, payload=0.15, action_delay=0.03)


def measure(seeds: Sequence[int] = tuple(range(5)), seconds: float = 12.0) -> dict[str, Any]:
    """`ratio` is the median over seeds of the peer's seconds to ours; both run one after the other, in turn first."""
    return fresh.call(run, seeds=list(seeds), seconds=seconds)


def run(seeds: Sequence[int], seconds: float) -> dict[str, Any]:
    """Measure in this process."""
    cfg = sysid.Config(seconds=seconds)
    times: dict[str, list[float]] = {name: [] for name in SOLVERS}
    worst: dict[str, list[float]] = {name: [] for name in SOLVERS}
    rollouts: dict[str, list[int]] = {name: [] for name in SOLVERS}
    for turn, seed in enumerate(seeds):
        recording = sysid.record_twin(HIDDEN, sysid.excitation(cfg, seed=seed), seed=seed)
        for name in list(SOLVERS)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            found = sysid.identify(recording, cfg, solver=SOLVERS[name])
            times[name].append(time.perf_counter() - start)
            worst[name].append(max(found.relative_errors(HIDDEN).values()))
            rollouts[name].append(found.rollouts)
    return result(times, worst, rollouts, seeds, seconds)


def result(
    times: dict[str, list[float]],
    worst: dict[str, list[float]],
    rollouts: dict[str, list[int]],
    seeds: Sequence[int],
    seconds: float,
) -> dict[str, Any]:
    return {
        "name": "sysid",
        "ours": statistics.median(times[OURS]),
        "peer": statistics.median(times[PEER]),
        "peer_name": PEER,
        "ratio": statistics.median(p / o for o, p in zip(times[OURS], times[PEER], strict=True)),
        "unit": "s",
        "compared": f"fits of five hidden numbers and the supply to {seconds:g} s of an arm's goals and readings, from "
        "nominal, one thread: a batch of rollouts for each jacobian against one rollout at a time",
        "seeds": list(seeds),
        "seconds": times,
        "worst_error": worst,
        "rollouts": rollouts,
    }
