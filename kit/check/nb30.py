"""The exercises of notebook 30: an exact denoiser, two samplers, a schedule, and what makes a network a denoiser."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from kit.check.core import Case, Exercise
from kit.diffusion import mixture, precond, samplers, schedules


def _tensor(x: list | np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.asarray(x), dtype=torch.float64)


def _mixture(rng: np.random.Generator) -> tuple:
    n, spots, d = int(rng.integers(2, 8)), int(rng.integers(2, 6)), int(rng.integers(1, 4))
    weights = rng.uniform(0.2, 1, spots)
    variance = rng.uniform(0.2, 2, (n, 1))
    points = rng.normal(size=(n, d)), variance, weights / weights.sum(), rng.normal(size=(spots, d))
    return *map(_tensor, points), float(rng.uniform(0.3, 1))


posterior_mean = Exercise(
    mixture.posterior_mean,
    by_hand=(
        # one spot: the mean of two normal distributions, one of them as wide as the other
        Case(
            "one spot at 2, as wide as the noise: half-way",
            (_tensor([[0.0]]), _tensor([[1.0]]), _tensor([1.0]), _tensor([[2.0]]), 1.0),
            _tensor([[1.0]]),
        ),
        # narrow spots at -1 and 1: r = sigmoid(2 x / sigma^2), D = tanh(x / sigma^2)
        Case(
            "two narrow spots at -1 and 1, x in the middle and at 0.5, variance of the noise 0.25",
            (_tensor([[0.0], [0.5]]), _tensor([[0.25]]), _tensor([0.5, 0.5]), _tensor([[-1.0], [1.0]]), 0.0),
            _tensor([[0.0], [math.tanh(2.0)]]),
        ),
        # in the middle only the weights speak: -1/4 + 3/4
        Case(
            "the same from the middle, one spot three times as heavy",
            (_tensor([[0.0]]), _tensor([[0.25]]), _tensor([0.25, 0.75]), _tensor([[-1.0], [1.0]]), 0.0),
            _tensor([[0.5]]),
        ),
    ),
    draw=_mixture,
)


@dataclass(frozen=True)
class Toy:
    """A denoiser for trying samplers: tanh(slope x) / (1 + sigma) + shift."""

    slope: float
    shift: float = 0.0

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.slope * x) / (1 + sigma) + self.shift


@dataclass(frozen=True)
class Always:
    """A denoiser that says the same, whatever it sees."""

    guess: float

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, self.guess)


@dataclass(frozen=True)
class Shrink:
    """The denoiser of one spot at 0 with standard deviation 1: x / (1 + sigma^2)."""

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return x / (1 + sigma**2)


def _start(rng: np.random.Generator) -> tuple[Toy, torch.Tensor]:
    shape = int(rng.integers(2, 7)), int(rng.integers(1, 4))
    return Toy(float(rng.uniform(0.3, 1.5)), float(rng.normal())), _tensor(rng.normal(size=shape))


def _descent(rng: np.random.Generator) -> tuple:
    denoise, x = _start(rng)
    levels = np.sort(rng.uniform(0.05, 3, int(rng.integers(1, 6))))[::-1]
    return denoise, x, _tensor([*levels, 0.0])


euler = Exercise(
    samplers.euler,
    by_hand=(
        # 1 + (1/2) (3 - 1) = 2, then the rest of the noise goes
        Case(
            "a denoiser that always says 1, from x = 3 over the levels 2, 1, 0.5",
            (Always(1.0), _tensor([[3.0]]), _tensor([2.0, 1.0, 0.5])),
            _tensor([[1.5]]),
        ),
        # D = 4 / (1 + 1) = 2 and no noise is left
        Case(
            "one spot at 0, a single step from level 1 to 0",
            (Shrink(), _tensor([[4.0]]), _tensor([1.0, 0.0])),
            _tensor([[2.0]]),
        ),
    ),
    draw=_descent,
)


def _one_step(rng: np.random.Generator) -> tuple:
    denoise, x = _start(rng)
    here = float(rng.uniform(0.5, 3))
    there = 0.0 if rng.random() < 0.4 else here * float(rng.uniform(0.2, 0.9))
    return denoise, x, _tensor(here), _tensor(there)


heun_step = Exercise(
    samplers.heun_step,
    by_hand=(
        # the slope is (3 - 1) / 2 = 1 at both ends: a straight line, as Euler
        Case(
            "a denoiser that always says 1, from x = 3 at level 2 to level 1",
            (Always(1.0), _tensor([[3.0]]), _tensor(2.0), _tensor(1.0)),
            _tensor([[2.0]]),
        ),
        # slope (10 - 2) / 2 = 4, ahead = 6; there D = 3, slope 3; 10 - (4 + 3) / 2
        Case(
            "one spot at 0, from x = 10 at level 2 to level 1",
            (Shrink(), _tensor([[10.0]]), _tensor(2.0), _tensor(1.0)),
            _tensor([[6.5]]),
        ),
        # slope (4 - 2) / 1 = 2: 4 - 2; at level 0 there is no slope
        Case(
            "one spot at 0, from x = 4 at level 1 to level 0",
            (Shrink(), _tensor([[4.0]]), _tensor(1.0), _tensor(0.0)),
            _tensor([[2.0]]),
        ),
    ),
    draw=_one_step,
)


def _levels(rng: np.random.Generator) -> tuple:
    share = np.linspace(0, 1, int(rng.integers(3, 12)))
    sigma_min = float(rng.uniform(0.01, 0.3))
    return _tensor(share), sigma_min, sigma_min * float(rng.uniform(3, 30)), float(rng.uniform(2, 5))


karras = Exercise(
    schedules.karras,
    by_hand=(
        # rho = 2: the roots are 4 and 1; half-way 2.5, squared
        Case(
            "from 16 to 1 with rho = 2, three levels",
            (_tensor([0.0, 0.5, 1.0]), 1.0, 16.0, 2.0),
            _tensor([16.0, 6.25, 1.0]),
        ),
        Case("rho = 1 is a straight line", (_tensor([0.0, 0.25, 1.0]), 1.0, 9.0, 1.0), _tensor([9.0, 7.0, 1.0])),
    ),
    draw=_levels,
)


def _noise_levels(rng: np.random.Generator) -> tuple:
    return _tensor(np.exp(rng.normal(-0.5, 1, int(rng.integers(2, 9))))), float(rng.uniform(0.3, 0.8))


edm_coefficients = Exercise(
    precond.edm_coefficients,
    by_hand=(
        # 9 + 16 = 25: 16/25, 12/5, 1/5, ln(3) / 4
        Case(
            "noise 3, data 4: a right-angled triangle with hypotenuse 5",
            (_tensor([3.0]), 4.0),
            (_tensor([0.64]), _tensor([2.4]), _tensor([0.2]), _tensor([math.log(3) / 4])),
        ),
    ),
    draw=_noise_levels,
)
