"""The exercises of notebook 20: what a skill is worth, by information, by distance and by novelty."""

from __future__ import annotations

import numpy as np
import torch

from kit.check.core import Case, Exercise
from kit.skills import apt, diayn, metra, skill


def _counts(rng: np.random.Generator) -> tuple:
    counts = rng.integers(0, 6, (int(rng.integers(2, 7)), int(rng.integers(2, 5))))
    counts[0, 0] += 1
    return (counts.astype(float),)


mutual_information = Exercise(
    diayn.mutual_information,
    by_hand=(
        Case("two skills that never share a state: log 2", (np.array([[3.0, 0.0], [0.0, 3.0]]),), float(np.log(2))),
        Case("two skills that visit alike: nothing", (np.array([[3.0, 3.0], [1.0, 1.0]]),), 0.0),
        # p = 1/2, 1/4, 1/4; states 1/2, 1/2; skills 3/4, 1/4
        Case(
            "the second state is shared",
            (np.array([[2.0, 0.0], [1.0, 1.0]]),),
            float(0.5 * np.log(4 / 3) + 0.25 * np.log(2 / 3) + 0.25 * np.log(2)),
        ),
    ),
    draw=_counts,
)


def _logits(rng: np.random.Generator) -> tuple:
    n, k = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    return 3 * rng.normal(size=(n, k)), np.eye(k)[rng.integers(k, size=n)]


discriminator_reward = Exercise(
    diayn.discriminator_reward,
    by_hand=(
        Case("a discriminator that cannot tell: 0", (np.zeros((1, 4)), np.eye(4)[:1]), np.array([0.0])),
        # q = 3/4, 1/4: log(2 * 3/4), log(2 * 1/4)
        Case(
            "right with 3/4, wrong with 1/4",
            (np.log(np.array([[3.0, 1.0], [3.0, 1.0]])), np.eye(2)),
            np.log(np.array([1.5, 0.5])),
        ),
    ),
    draw=_logits,
)


def _embeddings(rng: np.random.Generator) -> tuple:
    n, dim = int(rng.integers(2, 6)), int(rng.integers(2, 5))
    return rng.normal(size=(n, dim)), rng.normal(size=(n, dim)), skill.sphere(n, dim, rng).astype(float)


directional_reward = Exercise(
    skill.directional_reward,
    by_hand=(
        Case(
            "a step of (2, 0) along (0.6, 0.8)",
            (np.array([[1.0, 1.0]]), np.array([[3.0, 1.0]]), np.array([[0.6, 0.8]])),
            np.array([1.2]),
        ),
        Case(
            "a step across the skill, and one against it",
            (np.zeros((2, 2)), np.array([[1.0, 0.0], [0.0, -1.0]]), np.array([[0.0, 1.0], [0.0, 1.0]])),
            np.array([0.0, -1.0]),
        ),
    ),
    draw=_embeddings,
)


def _steps(rng: np.random.Generator) -> tuple:
    n, dim = int(rng.integers(4, 9)), int(rng.integers(2, 5))
    phi = torch.from_numpy(rng.normal(size=(n, dim)))
    step = torch.from_numpy(rng.normal(size=(n, dim)) * rng.uniform(0.1, 1.2, (n, 1)))
    return phi, phi + step, float(rng.uniform(0.5, 3)), float(rng.uniform(0.01, 0.3))


room = Exercise(
    metra.room,
    by_hand=(
        # lengths squared 1, 2, 0.36
        Case(
            "a step that is just allowed, one too long, one short",
            (
                torch.zeros(3, 2, dtype=torch.float64),
                torch.tensor([[0.6, 0.8], [1.0, 1.0], [0.6, 0.0]], dtype=torch.float64),
                1.0,
                0.25,
            ),
            torch.tensor([0.0, -1.0, 0.25], dtype=torch.float64),
        ),
        Case(
            "a longer limit",
            (torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64), 2.5, 1.0),
            torch.tensor([0.5], dtype=torch.float64),
        ),
    ),
    draw=_steps,
    gradients=("phi", "phi2"),
)


def _points(rng: np.random.Generator) -> tuple:
    n = int(rng.integers(6, 20))
    points = rng.normal(size=(n, int(rng.integers(1, 4))))
    points[1] = points[0]  # two points in one place are each other's nearest
    return points, int(rng.integers(2, 5))


knn_distance = Exercise(
    apt.knn_distance,
    by_hand=(
        Case(
            "three points on a line, both others",
            (np.array([[0.0], [1.0], [3.0]]), 2),
            np.array([[1.0, 3.0], [1.0, 2.0], [2.0, 3.0]]),
        ),
        Case(
            "a triangle with sides 3, 4 and 5, the nearest only",
            (np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]), 1),
            np.array([[3.0], [3.0], [4.0]]),
        ),
    ),
    draw=_points,
)
