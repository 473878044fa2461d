"""The exercises of notebook 32: noise into a chunk and out of it, one step of DDIM, and an average of plans."""

from __future__ import annotations

import math

import numpy as np
import torch

from kit.check.core import Case, Exercise
from kit.diffusion import chunks, policy

FLOAT32 = 1e-4  # relative tolerance in single precision


def _chunks(*rows: list[float]) -> torch.Tensor:
    """Chunks of one action: rows of numbers as (B, Tp, 1)."""
    return torch.tensor(rows, dtype=torch.float32)[..., None]


def _draw(rng: np.random.Generator, n: int = 2) -> list[torch.Tensor]:
    shape = int(rng.integers(1, 6)), int(rng.integers(2, 9)), int(rng.integers(1, 4))
    return [torch.as_tensor(rng.normal(size=shape), dtype=torch.float32) for _ in range(n)]


def _noisy(rng: np.random.Generator) -> tuple:
    x0, noise = _draw(rng)
    return x0, noise, torch.as_tensor(rng.uniform(0.02, 0.98, len(x0)), dtype=torch.float32)


add_noise = Exercise(
    policy.add_noise,
    by_hand=(
        # 0.8 of the chunk and 0.6 of the noise; the second row the other way round
        Case(
            "two chunks of two actions, of which 0.64 and 0.36 of the variance are left",
            (_chunks([1, -1], [1, -1]), _chunks([1, 1], [-1, 0]), torch.tensor([0.64, 0.36])),
            _chunks([1.4, -0.2], [-0.2, -0.6]),
        ),
        Case(
            "nothing but the chunk is left of the first, nothing of the second",
            (_chunks([0.5], [0.5]), _chunks([3], [3]), torch.tensor([1.0, 0.0])),
            _chunks([0.5], [3]),
        ),
    ),
    draw=_noisy,
    rtol=FLOAT32,
)


def _guess(rng: np.random.Generator) -> tuple:
    return *_draw(rng), float(rng.uniform(0.1, 0.98)), float(rng.uniform(0.5, 1.5))


clean = Exercise(
    policy.clean,
    by_hand=(
        # (1.4 - 0.6) / 0.8 and (-0.2 - 0.6) / 0.8, a little inside the clip
        Case("0.64 is left, the noise was 1", (_chunks([1.4, -0.2]), _chunks([1, 1]), 0.64, 2.0), _chunks([1, -1])),
        Case("the same, clipped to 0.5", (_chunks([1.4, -0.2]), _chunks([1, 1]), 0.64, 0.5), _chunks([0.5, -0.5])),
    ),
    draw=_guess,
    rtol=FLOAT32,
)


def _step(rng: np.random.Generator) -> tuple:
    kept = float(rng.uniform(0.05, 0.6))
    next_kept = float(rng.uniform(kept, 0.95))
    return *_draw(rng), kept, next_kept, float(rng.uniform(0, 0.9) * math.sqrt(1 - next_kept))


renoise = Exercise(
    policy.renoise,
    by_hand=(
        # x = 0.8 * 1 + 0.6 * 2 = 2, so the noise in it is 2; then 0.6 * 1 + 0.8 * 2, and back
        Case(
            "x holds a noise of 2; from 0.64 up to more noise",
            (_chunks([2]), _chunks([1]), 0.64, 0.36, 0.0),
            _chunks([2.2]),
        ),
        Case("and from there down again", (_chunks([2.2]), _chunks([1]), 0.36, 0.64, 0.0), _chunks([2.0])),
        Case("down to none: the clean chunk is left", (_chunks([2.2]), _chunks([1]), 0.36, 1.0, 0.0), _chunks([1.0])),
        # s^2 = 0.2304 of the 0.64 is left for new noise: sqrt(0.4096) = 0.64 of the old one
        Case("0.48 of new noise will be added", (_chunks([2.0]), _chunks([1]), 0.64, 0.36, 0.48), _chunks([1.88])),
    ),
    draw=_step,
    rtol=FLOAT32,
)


def _plans(rng: np.random.Generator) -> tuple:
    return rng.normal(size=(int(rng.integers(1, 6)), int(rng.integers(1, 4)), 2)), float(rng.uniform(0, 1))


ensemble = Exercise(
    chunks.ensemble,
    by_hand=(
        # weights 1 and 1/2: two thirds of the older plan, one third of the newer one
        Case("two plans, m = ln 2", (np.array([[3.0], [0.0]]), math.log(2)), np.array([2.0])),
        Case("three plans that count the same", (np.array([[3.0], [0.0], [0.0]]), 0.0), np.array([1.0])),
    ),
    draw=_plans,
)
