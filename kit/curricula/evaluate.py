"""What a student can do, on tasks that no teacher chose: mastered share, percentiles, and the worst of them.

A mean hides failures. On random levels the methods that won hand-made mazes lost to plain domain randomisation in
their worst twentieth (Rutherford et al. 2024), so a report here always has that number beside the mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit import rollout, stats
from kit.curricula.space import Space
from kit.envs.env import BatchEnv
from kit.types import Policy

PERCENTILES = (5, 10, 20, 50)


def cvar(pick: np.ndarray, report: np.ndarray, share: float = 0.05) -> float:
    """Mean of `report` over the `share` of levels that did worst in `pick`; both (levels,).

    The two are separate evaluations of the same levels: the worst of one evaluation are partly just unlucky, and
    picking and reporting on the same numbers would call bad luck weakness (Rutherford et al. 2024).

    Raises:
        ValueError: the shapes differ, are empty or not finite, or `share` is outside (0, 1].
    """
    pick, report = np.asarray(pick, float), np.asarray(report, float)
    if pick.ndim != 1 or pick.shape != report.shape or not len(pick):
        raise ValueError(f"the two evaluations have shapes {pick.shape} and {report.shape}; give one shape (levels,)")
    if not (np.isfinite(pick).all() and np.isfinite(report).all()):
        raise ValueError("an outcome is not finite; every level needs a number in both evaluations")
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it must be above 0 and at most 1")
    worst = np.argsort(pick, kind="stable")[: math.ceil(share * len(pick))]
    return float(report[worst].mean())


@dataclass(frozen=True)
class Report:
    """A student on a fixed set of tasks: each task's outcome in two evaluations, (tasks,) each."""

    mastered: np.ndarray  # bool, in the first evaluation
    first: np.ndarray  # return
    second: np.ndarray  # return

    @property
    def share(self) -> stats.Estimate:
        """Share of tasks mastered, with Wilson's interval."""
        return stats.success_rate(self.mastered)

    @property
    def percentiles(self) -> dict[int, float]:
        """Percentiles of the tasks' returns."""
        values = np.percentile(self.first, PERCENTILES)
        return dict(zip(PERCENTILES, values.tolist(), strict=True))

    @property
    def worst(self) -> float:
        """Mean return on the worst 5 % of tasks."""
        return cvar(self.first, self.second)


def held_out(space: Space, n: int, *, seed: int) -> list[dict[str, Any]]:
    """n tasks drawn uniformly, fixed by the seed."""
    return space.decode(space.sample(np.random.default_rng(seed), n))


def evaluate(policy: Policy, env: BatchEnv, tasks: Sequence[Mapping[str, Any]], *, seed: int) -> Report:
    """Play each task twice on `env`'s simulations, as many at a time as there are; success is the environment's.

    The teacher of a `CurriculumEnv` never hears of these episodes.
    """
    if not tasks:
        raise ValueError("no tasks to evaluate on; at least one is needed")
    base = env.unwrapped
    source, base.task_source = base.task_source, None
    try:
        runs = [_play_all(policy, base, tasks, seed + i) for i in range(2)]
    finally:
        base.task_source = source
    return Report(runs[0][0], runs[0][1], runs[1][1])


def _play_all(
    policy: Policy, env: BatchEnv, tasks: Sequence[Mapping[str, Any]], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    success, returns = [], []
    for start in range(0, len(tasks), env.num_envs):
        some = list(tasks[start : start + env.num_envs])
        padded = some + [some[-1]] * (env.num_envs - len(some))  # every simulation needs a task
        played = rollout.evaluate(policy, env, seed=seed + 2 * start, tasks=padded)
        success.append(played.success[: len(some)])
        returns.append(played.returns[: len(some)])
    return np.concatenate(success), np.concatenate(returns)
