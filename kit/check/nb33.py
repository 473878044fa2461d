"""The exercises of notebook 33: rows for a diffusion model, two questions to what it draws, and TD3+BC's two sums."""

from __future__ import annotations

import numpy as np
import torch

from kit.check.core import Case, Exercise
from kit.diffusion import synther
from kit.offline import td3_bc


def _tensor(x: object) -> torch.Tensor:
    return torch.as_tensor(np.asarray(x), dtype=torch.float32)


def _table(rng: np.random.Generator) -> tuple:
    n, d = int(rng.integers(3, 40)), int(rng.integers(2, 9))
    x = rng.normal(size=(n, d)) * rng.uniform(0.1, 9, d) + rng.normal(size=d) * 5
    x[:, -1] = rng.random(n) < 0.4
    if rng.random() < 0.5:
        x[:, 0] = 3.0
    return (x,)


standards = Exercise(
    synther.standards,
    by_hand=(
        # column 1: mean 2, deviations -2, 0, 2; column 2 never changes; column 3 is done
        Case(
            "three rows: a number that varies, one that never does, and done",
            (np.array([[0.0, 5.0, 0.0], [2.0, 5.0, 1.0], [4.0, 5.0, 1.0]]),),
            (np.array([2.0, 5.0, 0.0]), np.array([np.sqrt(8 / 3), 1.0, 1.0])),
        ),
        Case(
            "two rows of which none is done",
            (np.array([[1.0, 0.0], [-1.0, 0.0]]),),
            (np.array([0.0, 0.0]), np.array([1.0, 1.0])),
        ),
    ),
    draw=_table,
)


def _walk(obs: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A simulator: the first number of the state moves by the action, the others stay."""
    return obs + actions[:, :1] * (np.arange(obs.shape[1]) == 0), np.zeros(len(obs))


def _steps(rng: np.random.Generator) -> tuple:
    n, d = int(rng.integers(1, 20)), int(rng.integers(1, 5))
    obs, after = rng.normal(size=(2, n, d))
    return obs, rng.uniform(-1, 1, (n, 1)), after, _walk, rng.uniform(0.3, 4, d)


dynamics_error = Exercise(
    synther.dynamics_error,
    by_hand=(
        # from 0 the action 0.5 leads to 0.5, the row says 1: 0.5 off; the other number is 2 off, four scales of 0.5
        Case(
            "one row; the simulator adds the action to the first number",
            (np.array([[0.0, 1.0]]), np.array([[0.5]]), np.array([[1.0, 3.0]]), _walk, np.array([1.0, 0.5])),
            np.array([(0.5**2 + 4.0**2) / 2]),
        ),
        Case(
            "two rows, the second of which is true",
            (np.array([[0.0], [1.0]]), np.array([[1.0], [-1.0]]), np.array([[3.0], [0.0]]), _walk, np.array([2.0])),
            np.array([1.0, 0.0]),
        ),
    ),
    draw=_steps,
)


def _clouds(rng: np.random.Generator) -> tuple:
    d = int(rng.integers(1, 6))
    return rng.normal(size=(int(rng.integers(2, 30)), d)), rng.normal(size=(int(rng.integers(2, 30)), d)) * 2


nearest_distance = Exercise(
    synther.nearest_distance,
    by_hand=(
        Case(
            "a copy, and a point 3 and 4 away from one",
            (np.array([[1.0, 1.0], [3.0, 4.0]]), np.array([[0.0, 0.0], [1.0, 1.0], [9.0, 0.0], [0.0, 9.0]])),
            np.array([0.0, np.sqrt(13)]),
        ),
        Case(
            "one number, two rows of data",
            (np.array([[4.0], [-1.0], [0.9]]), np.array([[0.0], [2.0]])),
            np.array([2.0, 1.0, 0.9]),
        ),
    ),
    draw=_clouds,
)


def _values(rng: np.random.Generator) -> tuple:
    n = int(rng.integers(2, 30))
    return (
        *map(_tensor, (rng.normal(size=n), rng.random(n) < 0.3, rng.normal(size=(2, n)) * 9)),
        float(rng.uniform(0.8, 0.99)),
    )


critic_target = Exercise(
    td3_bc.critic_target,
    by_hand=(
        # 1 + 0.9 min(3, 2) = 2.8; the second row ends
        Case(
            "a row that goes on, and one that ends the task",
            (*map(_tensor, ([1.0, 1.0], [0.0, 1.0], [[3.0, 4.0], [2.0, 5.0]])), 0.9),
            _tensor([2.8, 1.0]),
        ),
    ),
    draw=_values,
    rtol=1e-4,
)


def _policy(rng: np.random.Generator) -> tuple:
    n, d = int(rng.integers(2, 30)), int(rng.integers(1, 4))
    q = rng.normal(size=n) * 9 - 4
    actions, logged = rng.uniform(-1, 1, (2, n, d))
    return *map(_tensor, (q, actions, logged)), float(rng.uniform(0.5, 5))


actor_loss = Exercise(
    td3_bc.actor_loss,
    by_hand=(
        # mean |q| = 2, lambda = 2.5 / 2, -lambda (-2) = 2.5; the actions are 1/2 and 1 off: (1/4 + 1) / 2
        Case(
            "two rows, both values negative",
            (*map(_tensor, ([-1.0, -3.0], [[0.5], [0.0]], [[0.0], [1.0]])), 2.5),
            _tensor(2.5 + 0.625),
        ),
        # mean q = 1, mean |q| = 2
        Case(
            "two rows, values of both signs, actions as they were logged",
            (*map(_tensor, ([3.0, -1.0], [[0.5, 0.1], [0.0, 0.2]], [[0.5, 0.1], [0.0, 0.2]])), 1.0),
            _tensor(-0.5),
        ),
    ),
    draw=_policy,
    gradients=("q", "actions"),
    rtol=1e-4,
)
