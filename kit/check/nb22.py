"""The exercises of notebook 22: the arm's tip, elites, novelty, improvement and the Pareto front."""

from __future__ import annotations

import numpy as np

from kit.check.core import Case, Exercise
from kit.envs import arm12
from kit.skills import repertoire, stax


def _angles(rng: np.random.Generator) -> tuple:
    n, k = int(rng.integers(2, 7)), int(rng.integers(2, 13))
    return (rng.uniform(-np.pi, np.pi, (n, k)),)


tip = Exercise(
    arm12.tip,
    by_hand=(
        Case("two straight arms, one of them turned up", (np.array([[0, 0], [np.pi / 2, 0]]),), np.eye(2)),
        # half of the arm goes right, half of it up
        Case("an elbow of a quarter turn", (np.array([[0, np.pi / 2]]),), np.array([[0.5, 0.5]])),
        Case("an arm folded back on itself", (np.array([[0, np.pi]]),), np.array([[0.0, 0.0]])),
    ),
    draw=_angles,
)


def _solutions(rng: np.random.Generator) -> tuple:
    n = int(rng.integers(20, 50))
    return rng.integers(0, 9, n), rng.integers(-4, 3, n).astype(float)


elites = Exercise(
    repertoire.elites,
    by_hand=(
        Case("two cells, the better one of each", (np.array([5, 2, 5]), np.array([1.0, 0.0, 3.0])), np.array([1, 2])),
        Case("equally good: the first stays", (np.array([4, 4]), np.array([-1.0, -1.0])), np.array([0])),
    ),
    draw=_solutions,
)


def _points(rng: np.random.Generator) -> tuple:
    n, m, d = int(rng.integers(3, 7)), int(rng.integers(9, 20)), int(rng.integers(2, 5))
    points, others, skip = rng.normal(size=(n, d)), rng.normal(size=(m, d)), int(rng.integers(0, 2))
    return points, np.concatenate((points, others)) if skip else others, int(rng.integers(2, 6)), skip


_LINE = np.array([[0.0], [1.0], [3.0], [9.0]])
novelty = Exercise(
    stax.novelty,
    by_hand=(
        Case("a newcomer at 2: 1 and 3 are nearest", (np.array([[2.0]]), _LINE, 2, 0), np.array([1.0])),
        # 0: 1 and 3 away; 1: 1 and 2; 3: 2 and 3; 9: 6 and 8
        Case("points among themselves", (_LINE, _LINE, 2, 1), np.array([2.0, 1.5, 2.5, 7.0])),
    ),
    draw=_points,
)


def _rewards(rng: np.random.Generator) -> tuple:
    return (rng.uniform(0, 1, (int(rng.integers(6, 13)), int(rng.integers(2, 8)))),)


improvement = Exercise(
    stax.improvement,
    by_hand=(
        # first three steps: mean 0.1; last three: mean 0.8
        Case(
            "seven steps of one policy",
            (np.array([[0.0], [0.1], [0.2], [9.0], [0.7], [0.8], [0.9]]),),
            0.7,
        ),
        Case("no gain", (np.ones((6, 3)),), 0.0),
    ),
    draw=_rewards,
)


def _scores(rng: np.random.Generator) -> tuple:
    n = int(rng.integers(8, 25))
    return rng.integers(0, 6, n).astype(float), rng.integers(0, 6, n).astype(float)


pareto_front = Exercise(
    stax.pareto_front,
    by_hand=(
        Case(
            "(1, 3), (2, 2) and (3, 1) stand, (2, 1) falls",
            (np.array([1.0, 2, 3, 2]), np.array([3.0, 2, 1, 1])),
            np.array([True, True, True, False]),
        ),
        Case("twins do not beat each other", (np.ones(2), np.ones(2)), np.array([True, True])),
    ),
    draw=_scores,
)
