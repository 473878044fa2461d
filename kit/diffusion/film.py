"""A sampler at work, as a film: where every particle is at each level, and what the denoiser says of it.

    camera   x / sqrt(1 + sigma^2),   so that noise of any strength fills the same picture, and sigma = 0 shows x itself

    end = film(cloud, ring().denoise, x, levels, homes=ring().means)        # cloud: kit.live.particles.Particles

Look first at `record`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from kit.diffusion import samplers


def record(
    denoiser: Callable[..., torch.Tensor], x: torch.Tensor, levels: torch.Tensor, cond: Any = None, **options: Any
) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """Particles (T, n, d), what the denoiser says of them (T, n, d), and the T levels, from x (n, d) to the end.

    A level that is visited twice, as Heun does, counts once: the visit from which the sampler goes on. `options` are
    those of `samplers.sample`.
    """
    seen: dict[float, tuple[torch.Tensor, torch.Tensor]] = {}

    def watch(step: int, x: torch.Tensor, sigma: torch.Tensor, x0: torch.Tensor) -> None:
        seen[float(sigma)] = x, x0

    end = samplers.sample(denoiser, x, levels, cond, callback=watch, **options)
    seen[float(levels[-1])] = end, end
    return *(torch.stack(part).detach() for part in zip(*seen.values(), strict=True)), list(seen)


def film(
    cloud: Any,
    denoiser: Callable[..., torch.Tensor],
    x: torch.Tensor,
    levels: torch.Tensor,
    cond: Any = None,
    *,
    homes: torch.Tensor,
    guesses: bool = False,
    title: str | None = None,
    **options: Any,
) -> torch.Tensor:
    """Sample x0 (n, 2) from x (n, 2), show the way in `cloud`, and return x0.

    A particle's colour is that of the nearest of `homes` (K, 2) at its end; `guesses` shows what the denoiser says as
    well. `options` are those of `samplers.sample`.
    """
    frames, said, sigmas = record(denoiser, x, levels, cond, **options)
    camera = (1 + torch.tensor(sigmas, dtype=frames.dtype) ** 2).rsqrt()[:, None, None]
    cloud.show(
        (camera * frames).numpy(),
        labels=[f"sigma = {sigma:.3g}" for sigma in sigmas],
        groups=nearest(frames[-1], homes).numpy(),
        guesses=(camera * said).numpy() if guesses else None,
        title=title,
    )
    return frames[-1]


def nearest(x: torch.Tensor, homes: torch.Tensor) -> torch.Tensor:
    """The nearest of homes (K, d) to each of x (n, d): (n,)."""
    return torch.cdist(x, homes.to(x)).argmin(dim=1)
