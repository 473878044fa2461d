"""The exercises of notebook 43: four pieces of what a person, a better sensor and a verifier do for a robot."""

from __future__ import annotations

import numpy as np
import torch

from kit.check.core import Case, Exercise
from kit.sim2real.people import film, persistent, takeover, verifier

FLOAT32 = 1e-4  # relative tolerance of sums in single precision


def _tensor(x: list | np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.asarray(x), dtype=torch.float32)


# ---- FiLM -----------------------------------------------------------------------------------------------------------


def _features(rng: np.random.Generator) -> tuple:
    return tuple(map(_tensor, rng.normal(size=(3, int(rng.integers(2, 9)), int(rng.integers(2, 7))))))


modulate = Exercise(
    film.modulate,
    by_hand=(
        # (1 + 0.5) 2 + 1 and (1 - 1) 3 - 2
        Case("two features", (_tensor([[2, 3]]), _tensor([[0.5, -1]]), _tensor([[1, -2]])), _tensor([[4, -2]])),
        # where training begins: nothing is changed
        Case("gamma and beta zero", (_tensor([[2, 3]]), _tensor([[0, 0]]), _tensor([[0, 0]])), _tensor([[2, 3]])),
    ),
    draw=_features,
    gradients=("h", "gamma", "beta"),
    rtol=FLOAT32,
)


# ---- the trusted sensor ---------------------------------------------------------------------------------------------


def _rays(rng: np.random.Generator) -> tuple:
    rays = int(rng.integers(5, 20))
    angles = np.linspace(-0.8, 0.8, rays) * rng.uniform(0.5, 1.5)
    return rng.uniform(0.2, 3, rays), angles, float(rng.uniform(0.1, 0.5)), float(rng.uniform(1, 2.5))


_THREE = np.array([-np.pi / 6, 0.0, np.pi / 6])  # sin 1/2, cos 0.866

ahead = Exercise(
    persistent.ahead,
    by_hand=(
        # the outer rays end 0.5 m aside: out of a lane of 0.3 m
        Case("a wall ahead, two that are passed", (np.array([1.0, 1.5, 1.0]), _THREE, 0.3, 2.0), 1.5),
        # 0.4 m away but 0.2 m aside: in the lane, 0.4 cos(30 degrees) ahead
        Case("a pillar to the right", (np.array([0.4, 1.5, 3.0]), _THREE, 0.3, 2.0), 0.4 * float(np.cos(np.pi / 6))),
        # 1.8 m to the left, of which 0.9 m aside; what is straight ahead is farther than 2 m
        Case("nothing within 2 m", (np.array([3.0, 2.6, 1.8]), _THREE, 0.3, 2.0), 2.0),
        Case("no ray ends in the lane", (np.array([3.0, 1.8]), _THREE[[0, 2]], 0.3, 2.0), 2.0),
    ),
    draw=_rays,
)


# ---- what a takeover teaches ----------------------------------------------------------------------------------------


def _goals(rng: np.random.Generator) -> tuple:
    n = int(rng.integers(3, 9))
    return rng.normal(0, 0.05, n), rng.normal(0, 0.05, n)


step_of = Exercise(
    takeover.step_of,
    by_hand=(
        # 0.02 / 0.05, -0.05 / 0.05, and 0.1 / 0.05 is more than an action can say
        Case(
            "three joints, the last one moved by two largest steps",
            (np.array([0.12, 0.25, 0.1]), np.array([0.1, 0.3, 0.0])),
            np.array([0.4, -1.0, 1.0]),
        ),
        Case("an arm that was told to stay", (np.array([0.3, -0.2]), np.array([0.3, -0.2])), np.zeros(2)),
    ),
    draw=_goals,
)


# ---- the verifier ---------------------------------------------------------------------------------------------------


def _chances(rng: np.random.Generator) -> tuple:
    p = rng.uniform(0.1, 0.9, int(rng.integers(2, 9)))
    return p, float(rng.uniform(0, 0.5)), float(rng.uniform(0.05, 0.5)), int(rng.integers(1, 6))


expected_success = Exercise(
    verifier.expected_success,
    by_hand=(
        Case("one try, whatever the verifier says", (np.array([0.6]), 0.3, 0.2, 1), np.array([0.6])),
        # 1 - 0.5^3 and 1 - 0.9^3
        Case("three tries and a perfect verifier", (np.array([0.5, 0.1]), 0.0, 0.0, 3), np.array([0.875, 0.271])),
        # accepted at once 0.5 * 0.8; again 0.5 * 0.2 + 0.5 * 0.6 = 0.4, and then 0.5
        Case("two tries, false accepts 0.4, false rejects 0.2", (np.array([0.5]), 0.4, 0.2, 2), np.array([0.6])),
    ),
    draw=_chances,
)
