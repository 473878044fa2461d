"""What makes a network a denoiser: three ways to scale its input and output, and the losses that train them.

    EDM    D = c_skip x + c_out F(c_in x, c_noise),   c_skip = sd^2 / (s^2 + sd^2),  c_out = s sd / sqrt(s^2 + sd^2)
           c_in = 1 / sqrt(s^2 + sd^2),  c_noise = ln(s) / 4;    loss  E w |D - x0|^2,  w = (s^2 + sd^2) / (s sd)^2
    VP     D = x - s eps(x / sqrt(1 + s^2), t(s)),    loss  E |eps - noise|^2
    flow   a_t = t a + (1 - t) z,  v* = a - z;   s = (1 - t) / t on x = a_t / t,   D = a_t + (1 - t) v(a_t, t)

s is sigma, sd the standard deviation of the data. EDM: Karras et al. 2022, table 1; its weighted loss is plain mean
squared error on F. All three give the same kind of object, D(x, sigma, cond) -> x0. Look first at `EDM`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from kit.diffusion import schedules

Network = Callable[..., torch.Tensor]  # (x, time, cond) -> like x
Denoiser = Callable[..., torch.Tensor]  # (x, sigma, cond) -> x0


def expand(sigma: torch.Tensor | float, x: torch.Tensor) -> torch.Tensor:
    """Sigma, a number, (B,) or (B, T), so that it multiplies x (B, ...) or (B, T, ...).

    Raises:
        ValueError: a shape that does not lead that of x.
    """
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    if sigma.shape != x.shape[: sigma.ndim]:
        raise ValueError(f"sigma has shape {tuple(sigma.shape)}; it must be (), or lead x's shape {tuple(x.shape)}")
    return sigma.reshape(*sigma.shape, *[1] * (x.ndim - sigma.ndim))


def per_sample(sigma: torch.Tensor | float, x: torch.Tensor) -> torch.Tensor:
    """Sigma as networks get it: (B,), or (B, T) if tokens have their own."""
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    return sigma.expand(len(x)) if sigma.ndim == 0 else sigma


# ---- EDM --------------------------------------------------------------------------------------------------------


def edm_coefficients(
    sigma: torch.Tensor, sigma_data: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """c_skip, c_out, c_in and c_noise, each of sigma's shape (Karras et al. 2022, table 1)."""
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data / total.sqrt(), total.rsqrt(), sigma.log() / 4


@dataclass
class EDM:
    """`net(c_in x, c_noise (B,) or (B, T), cond)` as a denoiser. `sigma_data` is the data's standard deviation."""

    net: Network
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.sigma_data < math.inf:
            raise ValueError(f"sigma_data is {self.sigma_data}; a standard deviation is finite and positive")

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor | float, cond: Any = None) -> torch.Tensor:
        each = check_positive(per_sample(sigma, x))
        c_skip, c_out, c_in, c_noise = edm_coefficients(each, self.sigma_data)
        return expand(c_skip, x) * x + expand(c_out, x) * self.net(expand(c_in, x) * x, c_noise, cond)

    def loss(self, x0: torch.Tensor, sigma: torch.Tensor, noise: torch.Tensor, cond: Any = None) -> torch.Tensor:
        """E w |D(x0 + sigma noise) - x0|^2 for each element, like x0."""
        wide = expand(sigma, x0)
        weight = (wide**2 + self.sigma_data**2) / (wide * self.sigma_data) ** 2
        return weight * (self(x0 + wide * noise, sigma, cond) - x0) ** 2


def log_normal(n: int, generator: torch.Generator, *, mean: float = -1.2, std: float = 1.2) -> torch.Tensor:
    """Training levels (n,): ln sigma ~ N(mean, std^2), EDM's own."""
    return torch.exp(mean + std * torch.randn(n, generator=generator))


def log_logistic(
    n: int, generator: torch.Generator, *, sigma_data: float, sigma_min: float, sigma_max: float, scale: float = 0.5
) -> torch.Tensor:
    """Training levels (n,): log-logistic around `sigma_data`, cut to [sigma_min, sigma_max] (BESO).

    Raises:
        ValueError: one of the three is not positive, or the bounds do not rise.
    """
    if not (0 < sigma_min < sigma_max and sigma_data > 0):
        raise ValueError(
            f"sigma_min is {sigma_min}, sigma_max {sigma_max} and sigma_data {sigma_data}; need "
            "0 < sigma_min < sigma_max, and sigma_data above 0"
        )
    ends = torch.tensor([sigma_min, sigma_max], dtype=torch.float64)
    low, high = torch.sigmoid((ends / sigma_data).log() / scale)
    u = low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)
    return (sigma_data * torch.exp(scale * torch.logit(u))).float()


# ---- VP and flow ------------------------------------------------------------------------------------------------


@dataclass
class VP:
    """`net(x_VP, time (B,), cond)`, which predicts the noise, as a denoiser; `time` counts 0 to T - 1, in between at
    levels that lie between two training times.

    Raises:
        ValueError: on a call, a sigma outside the levels of `alpha_bar` (T,).
    """

    net: Network
    alpha_bar: torch.Tensor

    def time(self, sigma: torch.Tensor) -> torch.Tensor:
        """The (fractional) training time of a level, by interpolation in ln sigma."""
        known = schedules.to_sigma(self.alpha_bar.double()).log().to(sigma.device)
        wanted = check_positive(sigma).double().log()
        if (wanted < known[0] - 1e-6).any() or (wanted > known[-1] + 1e-6).any():
            raise ValueError(
                f"sigma {sigma.min().item():.4g} to {sigma.max().item():.4g} leaves what the network was trained for, "
                f"{known[0].exp().item():.4g} to {known[-1].exp().item():.4g}; choose the schedule inside"
            )
        after = torch.searchsorted(known, wanted.contiguous()).clamp(1, len(known) - 1)
        before = known[after - 1]
        return (after - 1 + (wanted - before) / (known[after] - before)).clamp(0, len(known) - 1).to(sigma.dtype)

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor | float, cond: Any = None) -> torch.Tensor:
        each = per_sample(sigma, x)
        wide = expand(each, x)
        return x - wide * self.net(x / (1 + wide**2).sqrt(), self.time(each), cond)

    def loss(self, x0: torch.Tensor, time: torch.Tensor, noise: torch.Tensor, cond: Any = None) -> torch.Tensor:
        """|eps - noise|^2 for each element, at whole training times (B,)."""
        kept = expand(self.alpha_bar.to(x0)[time], x0)
        return (self.net(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, time.to(x0.dtype), cond) - noise) ** 2


@dataclass
class Flow:
    """`net(a_t, t (B,) or (B, T), cond)`, which predicts a velocity, as a denoiser; t is 0 at noise and 1 at data."""

    net: Network

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor | float, cond: Any = None) -> torch.Tensor:
        t = 1 / (1 + check_positive(per_sample(sigma, x), least=0.0))
        wide = expand(t, x)
        return wide * x + (1 - wide) * self.net(wide * x, t, cond)

    def velocity(self, a: torch.Tensor, t: torch.Tensor | float, cond: Any = None) -> torch.Tensor:
        """v(a, t), for `kit.diffusion.samplers.flow`."""
        return self.net(a, per_sample(t, a), cond)

    def loss(self, a: torch.Tensor, t: torch.Tensor, noise: torch.Tensor, cond: Any = None) -> torch.Tensor:
        """|v - (a - noise)|^2 for each element."""
        wide = expand(t, a)
        return (self.net(wide * a + (1 - wide) * noise, t, cond) - (a - noise)) ** 2


def check_positive(sigma: torch.Tensor, least: float | None = None) -> torch.Tensor:
    """
    Raises:
        ValueError: a level that is not finite and positive (or below `least`).
    """
    bad = ~torch.isfinite(sigma) | (sigma <= 0 if least is None else sigma < least)
    if bad.any():
        raise ValueError(f"sigma is {sigma[bad].flatten()[0].item()}; it must be finite and positive")
    return sigma
