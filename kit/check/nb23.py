"""The exercises of notebook 23: contact, advantages of several critics, and a search over skills."""

from __future__ import annotations

import numpy as np

from kit.check.core import Case, Exercise
from kit.envs import planar_push
from kit.skills import skill_planning, slim


def _points(*xy: tuple[float, float]) -> np.ndarray:
    return np.array(xy, float)


# ---- contact --------------------------------------------------------------------------------------------------------


def _contacts(rng: np.random.Generator) -> tuple:
    tip = rng.uniform(-0.3, 0.3, (int(rng.integers(3, 12)), 2))
    return tip + rng.uniform(-0.07, 0.07, tip.shape), tip


push = Exercise(
    planar_push.push,
    by_hand=(
        # they touch at 6 cm and are 5 cm apart: one more to the right; 10 cm apart: nothing
        Case(
            "one tip presses from the left, one is far away",
            (_points((0.10, 0.30), (0.10, 0.30)), _points((0.05, 0.30), (0.0, 0.30))),
            _points((0.11, 0.30), (0.10, 0.30)),
        ),
        # 3-4-5: the line of centres is (0.6, 0.8)
        Case("a tip that presses askew", (_points((0.03, 0.34)), _points((0.0, 0.30))), _points((0.036, 0.348))),
    ),
    draw=_contacts,
)


# ---- advantages -----------------------------------------------------------------------------------------------------


def _one_advantage(rng: np.random.Generator) -> tuple:
    shape = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    return rng.normal(rng.normal(), rng.choice([0.05, 1.0, 3.0]), shape), 0.2


_FOUR = np.array([[1.0, 5.0], [1.0, 5.0]])

normalise = Exercise(
    slim.normalise,
    by_hand=(
        # mean 3, spread 2
        Case("two steps of two simulations", (_FOUR, 0.1), np.array([[-1.0, 1.0], [-1.0, 1.0]])),
        Case("a reward that nothing earned", (np.full((2, 3), 0.5), 0.1), np.zeros((2, 3))),
        Case("a spread of 0.02, below the floor of 0.1", (0.01 * _FOUR, 0.1), np.zeros((2, 2))),
    ),
    draw=_one_advantage,
)


def _several_advantages(rng: np.random.Generator) -> tuple:
    k, t, n = (int(rng.integers(2, 5)) for _ in range(3))
    sizes = rng.permutation([0.05, 1.0, 10.0, 100.0])[:k]
    return sizes[:, None, None] * rng.normal(1, 1, (k, t, n + 2)), rng.uniform(0.2, 2, k), 0.2


combine = Exercise(
    slim.combine,
    by_hand=(
        # the second is a hundred times as large: its weight of a half is all that counts
        Case("two critics, one a hundred times as loud", (np.stack((_FOUR, -100 * _FOUR)), np.array([1.0, 0.5]), 0.1),
             np.array([[-0.5, 0.5], [-0.5, 0.5]])),
        Case("the second critic is silent", (np.stack((_FOUR, 0 * _FOUR)), np.array([2.0, 5.0]), 0.1),
             np.array([[-2.0, 2.0], [-2.0, 2.0]])),
    ),
    draw=_several_advantages,
)  # fmt: skip


# ---- planning -------------------------------------------------------------------------------------------------------


class _World:
    """state' = state + (option, option / 2) + a crooked drift."""

    def __init__(self, drift: np.ndarray):
        self.drift = drift

    def __call__(self, state: np.ndarray, options: np.ndarray) -> np.ndarray:
        moves = np.concatenate((options, options / 2), axis=1)[:, : state.shape[1]]
        return state + moves + 0.4 * np.tanh(state @ self.drift)

    def __repr__(self) -> str:
        return "a function (state, options) -> state"


def _searches(rng: np.random.Generator) -> tuple:
    n, d, options = int(rng.integers(4, 9)), int(rng.integers(2, 5)), int(rng.integers(3, 6))
    holds = tuple(int(h) for h in rng.integers(2, 4, int(rng.integers(2, 4))))
    world = _World(rng.normal(size=(d, d)))
    return world, rng.normal(size=(n, d)), 2 * rng.normal(size=(n, 2)), rng.normal(size=(options, 2)), holds


_PLAIN = _World(np.zeros((2, 2)))
_CROSS = _points((1, 0), (-1, 0), (0, 1), (0, -1), (0, 0))

search = Exercise(
    skill_planning.search,
    by_hand=(
        Case(
            "goals right and below; one option",
            (_PLAIN, _points((0, 0), (0, 0)), _points((3, 0), (0, -2)), _CROSS, (1,)),
            np.array([0, 3]),
        ),
        # 0.4 is nearer than 0.6; held for two steps it costs 0.4 + 1.4, and doing nothing 0.6 + 0.6
        Case("a goal at 0.6, one step", (_PLAIN, _points((0, 0)), _points((0.6, 0)), _CROSS, (1,)), np.array([0])),
        Case("a goal at 0.6, held for two", (_PLAIN, _points((0, 0)), _points((0.6, 0)), _CROSS, (2,)), np.array([4])),
        Case(
            "a puck that lies there already", (_PLAIN, _points((1, 1)), _points((1, 1)), _CROSS, (1, 3)), np.array([4])
        ),
    ),
    draw=_searches,
)
