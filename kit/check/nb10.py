"""The exercises of notebook 10: what two teachers are made of, and how a student is judged."""

from __future__ import annotations

import numpy as np

from kit.check.core import Case, Exercise
from kit.curricula import alp_gmm, evaluate, gmm, riac


def _history(rng: np.random.Generator) -> tuple:
    n = 5 if rng.random() < 0.3 else int(rng.integers(6, 12))
    points = rng.random((n, int(rng.integers(3, 6))))
    if n > 5:  # two tasks that lie on the same point, and the new one beside them
        first, second = sorted(rng.choice(n, 2, replace=False))
        points[second] = points[first]
        return points[first] + rng.normal(0, 0.08, points.shape[1]), float(rng.random()), points, rng.random(n)
    return rng.random(points.shape[1]), float(rng.random()), points, rng.random(n)


_LINE = np.linspace(0, 1, 6)[:, None]  # tasks at 0, 0.2, 0.4, 0.6, 0.8, 1
_RETURNS = np.array([0.9, 0.7, 0.5, 0.3, 0.1, 0.0])

absolute_learning_progress = Exercise(
    alp_gmm.absolute_learning_progress,
    by_hand=(
        # the nearest is the one at 0.6, with return 0.3
        Case("a task at 0.63 that went better than the one at 0.6", (np.array([0.63]), 0.8, _LINE, _RETURNS), 0.5),
        # the nearest is the one at 0.2, with return 0.7
        Case("a task at 0.25 that went worse than the one at 0.2", (np.array([0.25]), 0.3, _LINE, _RETURNS), 0.4),
        Case("no more than five earlier tasks", (np.array([0.63]), 0.8, _LINE[:5], _RETURNS[:5]), 0.0),
    ),
    draw=_history,
)


def _fits(rng: np.random.Generator) -> tuple:
    sizes = np.arange(1, int(rng.integers(3, 9)))
    return rng.normal(0.5, 1, len(sizes)), int(rng.integers(20, 300)), sizes, int(rng.integers(1, 6))


aic = Exercise(
    gmm.aic,
    by_hand=(
        # a mean and a variance: p = 2; log L = 10 (-1): 4 + 20
        Case("one Gaussian on a line, ten points", (np.array([-1.0]), 10, np.array([1]), 1), np.array([24.0])),
        # two means (4), two symmetric covariances (6), one free weight: p = 11; log L = 5 * 2: 22 - 20
        Case("two Gaussians in a plane, five points", (np.array([2.0]), 5, np.array([2]), 2), np.array([2.0])),
    ),
    draw=_fits,
)


def _sides(rng: np.random.Generator) -> tuple:
    left, right = (np.cumsum(rng.normal(0.1, 0.3, int(rng.integers(6, 30)))) for _ in range(2))
    return left, right, int(rng.integers(4, 12))


split_score = Exercise(
    riac.split_score,
    by_hand=(
        # the left half rose from 0 to 1: ALP 1; nothing happened on the right: ALP 0; 4 times 3 episodes
        Case(
            "progress on the left only",
            (np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.5, 0.5, 0.5]), 100),
            12.0,
        ),
        # of the last 4 on the left the older half has mean 0, the newer 0.5; on the right it fell from 1 to 0
        Case(
            "less progress on the left than there is loss on the right, as far as the window looks back",
            (np.array([9.0, 9.0, 0.0, 0.0, 0.5, 0.5]), np.array([1.0, 1.0, 0.0, 0.0]), 4),
            12.0,
        ),
    ),
    draw=_sides,
)


def _evaluations(rng: np.random.Generator) -> tuple:
    skill = rng.random(int(rng.integers(12, 60)))
    first, second = skill + rng.normal(0, 0.2, (2, len(skill)))
    return first, second, float(rng.uniform(0.15, 0.5))


cvar = Exercise(
    evaluate.cvar,
    by_hand=(
        # the third and the first did worst in the first evaluation; the second says 0.4 and 0.2
        Case(
            "the worst half of four tasks",
            (np.array([0.2, 0.9, 0.1, 0.8]), np.array([0.2, 0.0, 0.4, 1.0]), 0.5),
            0.3,
        ),
        # 0.3 of four tasks is 1.2: rounded up to two
        Case(
            "a share that is no whole number of tasks",
            (np.array([0.2, 0.9, 0.1, 0.8]), np.array([0.2, 0.0, 0.4, 1.0]), 0.3),
            0.3,
        ),
    ),
    draw=_evaluations,
)
