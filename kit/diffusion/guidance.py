"""Denoisers made from denoisers: towards a condition, up a gradient, or through what is known.

    classifier-free  D_l = D_0 + l (D_c - D_0)           l = 0 ignores the condition, 1 follows it, above 1 overdoes it
    by gradient      D_g = D + sigma^2 grad_x log p(x)   Tweedie's formula: x0 = x + sigma^2 score
    inpainting       D_k = known where it is known, D elsewhere

Ho & Salimans 2022; Dhariwal & Nichol 2021; Janner et al. 2022. Look first at `CFG`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from kit.diffusion.precond import Denoiser, expand


def both(first: Any, second: Any) -> Any:
    """Two conditions, tensors (B, ...) or dictionaries of them, as one of 2 B rows."""
    if isinstance(first, dict):
        return {name: both(first[name], second[name]) for name in first}
    return torch.cat([first, second])


@dataclass
class CFG:
    """Classifier-free guidance. `drop(cond)` is the condition with nothing asked for, rows and all.

    The network is called once a step: for `scale` 0 and 1 with one row a sample, else with two.
    """

    denoiser: Denoiser
    scale: float
    drop: Callable[[Any], Any]

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise ValueError(f"the scale of the guidance is {self.scale}; it must be finite: 0 none, 1 as trained")

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor | float, cond: Any = None) -> torch.Tensor:
        if self.scale == 1:
            return self.denoiser(x, sigma, cond)
        if self.scale == 0:
            return self.denoiser(x, sigma, self.drop(cond))
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        twice = torch.cat([sigma, sigma]) if sigma.ndim else sigma
        asked, free = self.denoiser(torch.cat([x, x]), twice, both(cond, self.drop(cond))).chunk(2)
        return free + self.scale * (asked - free)


@dataclass
class Gradient:
    """Guidance by `gradient(x, sigma) -> grad_x log p` (B, ...), `scale` times."""

    denoiser: Denoiser
    gradient: Callable[[torch.Tensor, torch.Tensor | float], torch.Tensor]
    scale: float = 1.0

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor | float, cond: Any = None) -> torch.Tensor:
        push = expand(sigma, x) ** 2 * self.gradient(x, sigma)
        return self.denoiser(x, sigma, cond) + self.scale * push


@dataclass
class Inpaint:
    """What is known stays: where `mask` (bool) is set, x0 is `known`; both are like x, or like one sample of it.

    The sampler takes x there along the straight line from its own noise to `known`.

    Raises:
        ValueError: mask or known do not fit x.
    """

    denoiser: Denoiser
    known: torch.Tensor
    mask: torch.Tensor

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor | float, cond: Any = None) -> torch.Tensor:
        if self.mask.shape[-(x.ndim - 1) :] != x.shape[1:] or self.known.shape[-(x.ndim - 1) :] != x.shape[1:]:
            raise ValueError(
                f"known has shape {tuple(self.known.shape)} and mask {tuple(self.mask.shape)}; x has {tuple(x.shape)}"
            )
        return torch.where(self.mask, self.known.to(x), self.denoiser(x, sigma, cond))
