"""The exercises of notebook 31: goals in hindsight, samples without a goal, the transformer's tokens, and what sampling
starts from."""

from __future__ import annotations

import numpy as np
import torch

from kit.check.core import Case, Exercise
from kit.diffusion import beso, goal_policy, goals


def _tensor(x: object) -> torch.Tensor:
    return torch.as_tensor(np.asarray(x), dtype=torch.float32)


def _rows(rng: np.random.Generator) -> tuple:
    n = int(rng.integers(3, 30))
    rows = rng.integers(0, 50, n)
    distribution = goals.DISTRIBUTIONS[rng.integers(3)]
    return rows, rows + rng.integers(1, 40, n), rng.random(n), distribution, float(rng.uniform(0.6, 0.98))


later = Exercise(
    goals.later,
    by_hand=(
        Case(
            "the last row of two episodes",
            (np.array([3, 0]), np.array([9, 4]), np.array([0.5, 0.99]), "final", 0.9),
            np.array([9, 4]),
        ),
        # four rows are left, 3 .. 6: u = 0 is the next one, u just below 1 the last
        Case(
            "uniform over the four rows that come after row 2",
            (np.array([2, 2, 2]), np.array([6, 6, 6]), np.array([0.0, 0.5, 0.999]), "uniform", 0.9),
            np.array([3, 5, 6]),
        ),
        # gamma = 1/2: one step with probability 1/2 (u < 1/2), two with 1/4, three with 1/8; row 12 is the last
        Case(
            "geometric with gamma 1/2: one step, two, and four cut to three",
            (np.array([9, 9, 9]), np.array([12, 12, 12]), np.array([0.4, 0.6, 0.9]), "geometric", 0.5),
            np.array([10, 11, 12]),
        ),
    ),
    draw=_rows,
)


def _tokens(rng: np.random.Generator) -> tuple:
    n, length, width = (int(rng.integers(low, high)) for low, high in ((3, 12), (2, 6), (1, 5)))
    there = np.arange(length) < rng.integers(1, length + 1, (n, 1))
    dropped = rng.random(n) < 0.4
    return (
        _tensor(rng.normal(size=(n, length, width))),
        torch.as_tensor(there),
        _tensor(rng.normal(size=width)),
        torch.as_tensor(dropped),
    )


drop = Exercise(
    goals.drop,
    by_hand=(
        Case(
            "two samples of two tokens, the second one loses its goal",
            (
                _tensor([[[1.0], [2.0]], [[3.0], [4.0]]]),
                torch.tensor([[True, True], [True, True]]),
                _tensor([9.0]),
                torch.tensor([False, True]),
            ),
            (_tensor([[[1.0], [2.0]], [[9.0], [9.0]]]), torch.tensor([[True, True], [True, False]])),
        ),
        Case(
            "a goal of one token among three, kept",
            (
                _tensor([[[1.0], [2.0], [3.0]]]),
                torch.tensor([[True, False, False]]),
                _tensor([9.0]),
                torch.tensor([False]),
            ),
            (_tensor([[[1.0], [9.0], [9.0]]]), torch.tensor([[True, False, False]])),
        ),
    ),
    draw=_tokens,
)


def _sequence(rng: np.random.Generator) -> tuple:
    n, length, k, width = (int(rng.integers(low, high)) for low, high in ((1, 5), (1, 4), (2, 6), (1, 4)))
    shapes = (n, width), (n, length, width), (n, k, width), (n, k, width)
    return tuple(_tensor(rng.normal(size=shape)) for shape in shapes)


interleave = Exercise(
    beso.interleave,
    by_hand=(
        Case(
            "sigma is 0, the goal 5, states 1 and 2, actions 10 and 20",
            (_tensor([[0.0]]), _tensor([[[5.0]]]), _tensor([[[1.0], [2.0]]]), _tensor([[[10.0], [20.0]]])),
            _tensor([[[0.0], [5.0], [1.0], [10.0], [2.0], [20.0]]]),
        ),
    ),
    draw=_sequence,
)


def _slots(rng: np.random.Generator) -> tuple:
    n, k, d = (int(rng.integers(low, high)) for low, high in ((3, 9), (2, 6), (1, 4)))
    past, noise = rng.normal(size=(n, k, d)), rng.normal(size=(n, d))
    return _tensor(past), torch.as_tensor(rng.integers(0, k, n)), _tensor(noise), float(rng.uniform(0.3, 3))


lay = Exercise(
    goal_policy.lay,
    by_hand=(
        Case(
            "three slots; the second one is now, and the level is 2",
            (_tensor([[[7.0], [8.0], [9.0]]]), torch.tensor([1]), _tensor([[0.5]]), 2.0),
            _tensor([[[7.0], [1.0], [0.0]]]),
        ),
        Case(
            "two rows of a batch, one at its first step, one with a full window",
            (_tensor([[[7.0], [8.0]], [[5.0], [6.0]]]), torch.tensor([0, 1]), _tensor([[1.0], [-1.0]]), 1.0),
            _tensor([[[1.0], [0.0]], [[5.0], [-1.0]]]),
        ),
    ),
    draw=_slots,
)
