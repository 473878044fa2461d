"""The exercises of notebook 11: pieces of four methods that design levels, and of one that schedules a discount."""

from __future__ import annotations

import numpy as np

from kit.check.core import Case, Exercise
from kit.curricula import accel, clutr, discount_schedule, paired, plr


def _scores(rng: np.random.Generator) -> tuple:
    scores = rng.random(int(rng.integers(4, 12))).round(1)
    scores[rng.integers(1, len(scores))] = scores[0]  # at least one tie
    return scores, float(rng.choice([0.3, 0.6, 1.5, 3.0]))


rank_weights = Exercise(
    plr.rank_weights,
    by_hand=(
        # ranks 1, 3, 2: 1, 1/3, 1/2, which add up to 11/6
        Case("three levels", (np.array([0.9, 0.1, 0.5]), 1.0), np.array([6, 2, 3]) / 11),
        # beta 1/2 squares the weights: 1, 1/9, 1/4, which add up to 49/36
        Case("the same with beta one half", (np.array([0.9, 0.1, 0.5]), 0.5), np.array([36, 4, 9]) / 49),
        # the first two are equal and share ranks 1 and 2: (1 + 1/2) / 2 each
        Case("a tie at the top", (np.array([0.7, 0.7, 0.0]), 1.0), np.array([4.5, 4.5, 2]) / 11),
    ),
    draw=_scores,
)


def _batch(rng: np.random.Generator) -> tuple:
    n = int(rng.integers(5, 20))
    return rng.random(n), rng.random(n), int(rng.integers(2, n))


easiest = Exercise(
    accel.easiest,
    by_hand=(
        # return minus score: 0.4, 0.5, -0.2, 0.0
        Case(
            "the two easiest of four levels",
            (np.array([0.9, 0.6, 0.1, 0.0]), np.array([0.5, 0.1, 0.3, 0.0]), 2),
            np.array([1, 0]),
        ),
        Case("the easiest of two", (np.array([0.2, 0.8]), np.array([0.1, 0.2]), 1), np.array([1])),
    ),
    draw=_batch,
)


def _returns(rng: np.random.Generator) -> tuple:
    k, n = rng.integers(2, 6, size=2)
    protagonist, antagonist = rng.random((2, k, n)) + rng.normal(0, 0.6, (2, 1, n))  # either may be the stronger one
    return protagonist, antagonist, str(rng.choice(paired.VARIANTS, p=[0.3, 0.35, 0.35]))


# two episodes on three levels; means 1/4, 1/2, 1/2 and 1/2, 0, 1/2
_P = np.array([[0.0, 1.0, 0.5], [0.5, 0.0, 0.5]])
_A = np.array([[1.0, 0.0, 0.5], [0.0, 0.0, 0.5]])

regret = Exercise(
    paired.regret,
    by_hand=(
        Case("PAIRED's regret", (_P, _A, "regret"), np.array([0.75, 0.0, 0.0])),
        # on the second level the protagonist is the stronger one: its best 1, the other's mean 0
        Case("the flexible variant", (_P, _A, "flexible"), np.array([0.75, 1.0, 0.0])),
        Case("minimax", (_P, _A, "minimax"), np.array([-0.25, -0.5, -0.5])),
    ),
    draw=_returns,
)


def _spellings(rng: np.random.Generator) -> tuple:
    levels, walls = rng.integers(3, 9, size=2)
    tokens = rng.integers(0, 6, size=(levels, walls + 2))  # so few cells that many are named twice
    tokens[:, :-2][rng.random((levels, walls)) < 0.25] = clutr.NONE
    return (tokens,)


sort_tokens = Exercise(
    clutr.sort_tokens,
    by_hand=(
        Case("two walls in another order", (np.array([[7, 3, 20, 5]]),), np.array([[3, 7, 20, 5]])),
        Case(
            "a wall named twice, and a goal behind the start",
            (np.array([[7, 3, 3, 49, 5, 20]]),),
            np.array([[3, 7, 49, 49, 5, 20]]),
        ),
    ),
    draw=_spellings,
)


def _sequences(rng: np.random.Generator) -> tuple:
    shape = (*rng.integers(2, 5, size=int(rng.integers(1, 3))), int(rng.integers(5, 15)))
    return (rng.integers(0, 12, size=shape) + np.arange(shape[-1]) // 2,)


longest_increasing_subsequence = Exercise(
    discount_schedule.longest_increasing_subsequence,
    by_hand=(
        # 1 3 4 (or 2 3 4); the two 3s count once
        Case("one sequence", (np.array([[2, 1, 3, 3, 4]]),), np.array([3])),
        # stands still; goes back; two stretches that interleave: 0 1 2 3
        Case(
            "standing still, going back, a mixture",
            (np.array([[5, 5, 5, 5, 5], [4, 3, 2, 1, 0], [0, 4, 1, 2, 3]]),),
            np.array([1, 1, 4]),
        ),
    ),
    draw=_sequences,
)
