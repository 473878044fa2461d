"""A distribution whose denoiser is known: a mixture of equally wide Gaussians. What samplers do with it is their own.

    D(x, sigma) = sum_k r_k (s^2 x + sigma^2 mu_k) / (s^2 + sigma^2),   r_k ~ w_k N(x; mu_k, s^2 + sigma^2)

With it, a sampler's error is the only error. Look first at `posterior_mean`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


def posterior_mean(
    x: torch.Tensor, variance: torch.Tensor, weights: torch.Tensor, means: torch.Tensor, std: float
) -> torch.Tensor:
    """E[x0 | x] (n, d) of x = x0 + noise of a `variance` (n, 1) or (1, 1), where x0 is of the mixture."""
    apart = ((x[:, None] - means) ** 2).sum(dim=2)
    share = (weights.log() - apart / (2 * (std**2 + variance))).softmax(dim=1)
    return (std**2 * x + variance * (share @ means)) / (std**2 + variance)


@dataclass
class Mixture:
    """Weights (K,), means (K, d) and the standard deviation of each component."""

    weights: torch.Tensor
    means: torch.Tensor
    std: float

    def responsibilities(self, x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        """Which component each of x (n, d) comes from, at noise level `sigma`: (n, K)."""
        return self._log_joint(x, sigma).softmax(dim=1)

    def _log_joint(self, x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        variance = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1) ** 2 + self.std**2
        apart = ((x[:, None] - self.means.to(x)) ** 2).sum(dim=2)
        scale = x.shape[1] / 2 * torch.log(2 * math.pi * variance)
        return self.weights.to(x).log() - apart / (2 * variance) - scale

    def log_prob(self, x: torch.Tensor, sigma: torch.Tensor | float = 0.0) -> torch.Tensor:
        """ln p (n,) of x (n, d) at noise level `sigma`."""
        return self._log_joint(x, sigma).logsumexp(dim=1)

    def denoise(self, x: torch.Tensor, sigma: torch.Tensor | float, cond: Any = None) -> torch.Tensor:
        """E[x0 | x] (n, d): the best denoiser that there is."""
        variance = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1) ** 2
        return posterior_mean(x, variance, self.weights.to(x), self.means.to(x), self.std)

    def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """n points (n, d)."""
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return self.means[which] + self.std * torch.randn(n, self.means.shape[1], generator=generator)


def ring(modes: int = 8, std: float = 0.08) -> Mixture:
    """Components on the unit circle, by turns light and heavy (one to three)."""
    angle = 2 * math.pi * torch.arange(modes) / modes
    weights = torch.tensor([1.0, 3.0]).repeat(modes // 2)
    return Mixture(weights / weights.sum(), torch.stack([angle.cos(), angle.sin()], dim=1), std)


def sliced_w1(a: np.ndarray, b: np.ndarray, *, seed: int, projections: int = 64) -> float:
    """Distance of two sets of points (n, d): the mean over directions of the 1-Wasserstein distance on a line.

    Raises:
        ValueError: the sets differ in size.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape:
        raise ValueError(f"the sets have shapes {a.shape} and {b.shape}; they must be equal")
    directions = np.random.default_rng(seed).normal(size=(a.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    return float(np.abs(np.sort(a @ directions, axis=0) - np.sort(b @ directions, axis=0)).mean())


def off_support(mixture: Mixture, x: torch.Tensor, widths: float = 3.0) -> float:
    """Share of x (n, d) further than `widths` standard deviations from every mean."""
    nearest = torch.cdist(x, mixture.means.to(x)).min(dim=1).values
    return float((nearest > widths * mixture.std).double().mean())
