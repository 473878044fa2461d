"""Noise levels to visit, from the largest down to none; and the discrete times of diffusion in the variance-preserving
form.

    Karras       sigma_i = (a + i / (n - 1) (b - a))^rho,   a = sigma_max^(1 / rho), b = sigma_min^(1 / rho)
    exponential  ln sigma_i falls linearly;   linear: sigma_i does;   each ends with sigma_n = 0
    cosine       alpha_bar(t) = f(t) / f(0),  f(t) = cos^2((t / T + 0.008) / 1.008 * pi / 2),  beta_t <= 0.999
    VE and VP    sigma = sqrt((1 - alpha_bar) / alpha_bar),   x_VE = x_VP / sqrt(alpha_bar)

Karras et al. 2022 (equation 5), Nichol & Dhariwal 2021 (equation 17). Look first at `make`.
"""

from __future__ import annotations

import math

import torch

NAMES = ("karras", "exponential", "linear")


def make(name: str, n: int, sigma_min: float, sigma_max: float, *, rho: float = 7.0) -> torch.Tensor:
    """Levels (n + 1,) in float64: `n` from `sigma_max` to `sigma_min`, then 0. `rho` is Karras's exponent.

    Raises:
        ValueError: an unknown schedule, no step, levels out of order, or an exponent that is not positive.
    """
    if name not in NAMES:
        raise ValueError(f"unknown schedule {name!r}; there are {', '.join(NAMES)}")
    if n < 1:
        raise ValueError(f"n is {n}; a schedule has at least 1 step")
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"sigma_min {sigma_min} and sigma_max {sigma_max} must rise from above 0, and be finite")
    if not 0 < rho < math.inf:
        raise ValueError(f"rho is {rho}; it must be positive and finite, 7 is usual")
    share = torch.linspace(0, 1, n, dtype=torch.float64)
    if name == "linear":
        levels = sigma_max + share * (sigma_min - sigma_max)
    elif name == "exponential":
        levels = torch.exp(math.log(sigma_max) + share * math.log(sigma_min / sigma_max))
    else:
        levels = karras(share, sigma_min, sigma_max, rho)
    return torch.cat([levels, levels.new_zeros(1)])


def karras(share: torch.Tensor, sigma_min: float, sigma_max: float, rho: float) -> torch.Tensor:
    """Levels (n,) at shares (n,) of the way from `sigma_max` to `sigma_min`, measured in sigma^(1 / rho)."""
    first, last = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (first + share * (last - first)) ** rho


def squared_cosine(steps: int = 100) -> torch.Tensor:
    """alpha_bar (steps,) in float64 of the squared-cosine schedule; it falls from near 1 to near 0."""
    if steps < 1:
        raise ValueError(f"steps is {steps}; at least 1 is needed")
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - beta, dim=0)


def to_sigma(alpha_bar: torch.Tensor) -> torch.Tensor:
    """The noise level of the variance-exploding form."""
    return ((1 - alpha_bar) / alpha_bar).sqrt()


def spaced(steps: int, n: int, spacing: str = "trailing") -> torch.Tensor:
    """`n` of the training times 0 to steps - 1 to visit, largest first, (n,).

    "trailing" begins with the last time, "leading" ends with time 0. A single leading step would be time 0 alone, whose
    sample is almost the noise that went in.

    Raises:
        ValueError: more steps than there are times, a single leading step, or an unknown spacing.
    """
    if spacing not in ("trailing", "leading"):
        raise ValueError(f"spacing is {spacing!r}; it must be trailing or leading")
    if not 1 <= n <= steps:
        raise ValueError(f"{n} steps were asked for; a schedule of {steps} times has 1 to {steps}")
    if spacing == "leading":
        if n == 1:
            raise ValueError('one "leading" step gives back the noise; use spacing="trailing", or more steps')
        return (torch.arange(n) * (steps // n)).flip(0)
    return torch.round(torch.arange(steps, 0, -steps / n, dtype=torch.float64)[:n]).long() - 1
