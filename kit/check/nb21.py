"""The exercises of notebook 21: the loss of a map of time, two prompts, and the sign of a far advantage."""

from __future__ import annotations

import numpy as np
import torch

from kit.check.core import Case, Exercise
from kit.offline import goals
from kit.skills import hilp, planner, prompts


def _tensor(x: object) -> torch.Tensor:
    return torch.as_tensor(np.asarray(x), dtype=torch.float32)


def _values(rng: np.random.Generator) -> tuple:
    n = int(rng.integers(3, 40))
    value, here, after = -3 * rng.random((3, 2, n))
    at_goal = rng.random(n) < 0.3
    return (
        *map(_tensor, (value, here, after, at_goal)),
        float(rng.uniform(0.8, 0.99)),
        float(rng.uniform(0.6, 0.95)),
    )


temporal_loss = Exercise(
    hilp.temporal_loss,
    by_hand=(
        # q = -1 + (-2) / 2 = -2, A = -2 + 3 = 1 > 0: weight 0.9; targets -2 and -1.5, errors 1 and 1.5
        Case(
            "one step that is better than believed",
            (*map(_tensor, ([[-3.0], [-3.0]], [[-3.0], [-3.0]], [[-2.0], [-1.0]], [0.0])), 0.5, 0.9),
            _tensor(0.9 * (1.0**2 + 1.5**2)),
        ),
        # at the goal nothing is paid and nothing follows: targets 0, A = 0 + 1 > 0
        Case(
            "one step that starts at the goal",
            (*map(_tensor, ([[-1.0], [-2.0]], [[-1.0], [-1.0]], [[-9.0], [-9.0]], [1.0])), 0.5, 0.9),
            _tensor(0.9 * (1.0 + 4.0)),
        ),
        # two rows: q = -1 - 4 / 2 = -3, A = -3 + 1 = -2 < 0: weight 0.1, errors -2 and -1; a mean over rows
        Case(
            "one step that is worse, and one as good as believed",
            (
                *map(_tensor, ([[-1.0, -2.0], [-1.0, -2.0]], [[-1.0, -2.0]] * 2, [[-4.0, -2.0], [-2.0, -2.0]], [0, 0])),
                0.5,
                0.9,
            ),
            _tensor(0.1 * (4.0 + 1.0) / 2),
        ),
    ),
    draw=_values,
    gradients=("value",),
    rtol=1e-4,
)


def _rewards(rng: np.random.Generator) -> tuple:
    n, dim = int(rng.integers(12, 60)), int(rng.integers(2, 7))
    phi = rng.normal(size=(n, dim)) * rng.uniform(0.5, 3, dim) + rng.normal(size=dim) * 5
    return phi, phi @ rng.normal(size=dim) + rng.normal(size=n) + 3


z_from_reward = Exercise(
    prompts.z_from_reward,
    by_hand=(
        Case(
            "four points of a square; the reward is three times the first coordinate and four times the second",
            (np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.array([0.0, 3.0, 4.0, 7.0])),
            np.array([0.6, 0.8]),
        ),
        Case(
            "the same square far from the origin, and a reward that falls to the right",
            (np.array([[10.0, 5.0], [11.0, 5.0], [10.0, 6.0], [11.0, 6.0]]), np.array([1.0, 0.0, 1.0, 0.0])),
            np.array([-1.0, 0.0]),
        ),
    ),
    draw=_rewards,
)


def _ways(rng: np.random.Generator) -> tuple:
    n, dim = int(rng.integers(1, 6)), int(rng.integers(2, 5))
    stored = rng.normal(size=(int(rng.integers(20, 60)), dim))
    return stored, rng.normal(size=(n, dim)), rng.normal(size=(n, dim)), int(rng.integers(1, 6))


midpoint = Exercise(
    planner.midpoint,
    by_hand=(
        Case(
            "states 0, 1, .., 8 on a line, from 0 to 8, one neighbour",
            (np.arange(9.0)[:, None], np.array([[0.0]]), np.array([[8.0]]), 1),
            np.array([[4.0]]),
        ),
        Case(
            "from 2 to 8 and back again, the mean of three neighbours",
            (np.arange(9.0)[:, None], np.array([[2.0], [8.0]]), np.array([[8.0], [2.0]]), 3),
            np.array([[5.0], [5.0]]),
        ),
    ),
    draw=_ways,
)


def _chain(rng: np.random.Generator) -> tuple:
    k, n = int(rng.integers(5, 30)), int(rng.integers(1, 6))
    return rng.integers(40, 400, int(rng.integers(2, 9))).astype(float), float(rng.uniform(0.97, 0.995)), k, n


chain_advantage = Exercise(
    goals.chain_advantage,
    by_hand=(
        # V(d) = -(1 - 0.5^d) / 0.5: V(1) = -1, V(2) = -1.5, V(3) = -1.75
        Case("three steps from the goal, two of them at once", (np.array([3.0]), 0.5, 2, 1), np.array([0.75])),
        # an option of two steps pays -1 once: distances 4 and 2 cost as much as 2 and 1
        Case("options of two steps", (np.array([4.0]), 0.5, 2, 2), np.array([0.5])),
    ),
    draw=_chain,
)
