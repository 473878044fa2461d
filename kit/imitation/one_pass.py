"""What the cloning policies share: windows in, one pass through a network, a chunk of actions out.

    history (n, To, obs_dim) -> scale -> network -> chunk in [-1, 1] -> unscale -> (n, Tp, act_dim)

They differ from a diffusion policy in that nothing is repeated: one pass gives the plan. Look first at `OnePass.plan`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from kit.data import Episodes
from kit.diffusion.chunks import ChunkPolicy
from kit.diffusion.fit import Fit, FitConfig
from kit.diffusion.windows import Window, Windows
from kit.types import Metrics

UNIFORM_EDGE = 1e-6  # a uniform number keeps this far from 0 and 1


@dataclass(frozen=True)
class ChunkConfig:
    """What all chunk policies have; methods add their own."""

    obs_steps: int = 2  # To, observations that a plan sees
    horizon: int = 16  # Tp, actions of a plan
    execute: int = 8  # Ta, actions carried out before the next plan
    width: int = 128  # of the network
    trunk: str = "mlp"  # or "transformer"
    layers: int = 2  # hidden layers, or blocks of the transformer
    heads: int = 4  # of the transformer's attention
    device: str = "cpu"  # where the network is
    fit: FitConfig = field(default_factory=FitConfig)  # updates, batch, learning rate

    def __post_init__(self) -> None:
        if self.trunk not in ("mlp", "transformer"):
            raise ValueError(f"trunk is {self.trunk!r}; it must be mlp or transformer")


def mlp(n_in: int, width: int, layers: int, n_out: int) -> nn.Sequential:
    """`layers` hidden layers of one width."""
    sizes = [n_in, *[width] * layers]
    hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], n_out))


def uniform(noise: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers as uniform ones in (0, 1), of the same shape."""
    return torch.special.ndtr(noise).clamp(UNIFORM_EDGE, 1 - UNIFORM_EDGE)


def draw(probabilities: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Which of K each row takes (n,), by `probabilities` (n, K) and standard normal `noise` (n,)."""
    below = probabilities.cumsum(dim=1) < uniform(noise)[:, None] * probabilities.sum(dim=1, keepdim=True)
    return below.sum(dim=1).clamp(max=probabilities.shape[1] - 1)


class OnePass(ChunkPolicy):
    """A policy in training and in use. A method sets `fits`, what is trained one after the other, and gives `chunk`."""

    fits: Sequence[Fit]

    def __init__(self, data: Episodes, cfg: ChunkConfig, noise_shape: tuple[int, ...], *, seed: int):
        self.cfg, self.windows = cfg, Windows(data, cfg.obs_steps, cfg.horizon)
        self.obs_steps, self.horizon, self.execute = cfg.obs_steps, cfg.horizon, cfg.execute
        self.act_dim, self.noise_shape = data.act_dim, noise_shape
        self.obs_scaler, self.action_scaler = self.windows.obs_scaler, self.windows.action_scaler
        self.rng = np.random.default_rng((seed, 1))
        self.check()

    @property
    def obs_dim(self) -> int:
        return len(self.obs_scaler.low)

    @property
    def network(self) -> nn.Module:
        """What acts: the average of the weights of what is trained last."""
        return self.fits[-1].ema.module

    def batch(self, n: int, rng: np.random.Generator) -> Window:
        """Windows of the data, on the network's device."""
        window = self.windows.sample(n, rng)
        return Window(*(part.to(self.cfg.device) for part in window[:3]), window.rows)

    def chunk(self, obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Scaled chunks (n, Tp, act_dim) for scaled observations (n, To, obs_dim) and noise (n, *noise_shape)."""
        raise NotImplementedError

    @torch.no_grad()
    def plan(self, history: np.ndarray, noise: np.ndarray) -> np.ndarray:
        obs = torch.as_tensor(self.obs_scaler.scale(history), device=self.cfg.device)
        chunk = self.chunk(obs, torch.as_tensor(noise, device=self.cfg.device))
        return self.action_scaler.unscale(chunk.clamp(-1, 1)).cpu().numpy()

    def learn(self) -> Iterator[Metrics]:
        """Train to the end, from wherever this is."""
        before, total = 0, sum(fit.cfg.steps for fit in self.fits)
        for phase, fit in enumerate(self.fits):
            for m in fit.run(self):
                step = before + m["step"]
                yield Metrics({**m, "step": step, "phase": phase, "progress": step / total}, agent=self)
            before += fit.cfg.steps

    def state_dict(self) -> dict[str, Any]:
        """All that training and acting go on from."""
        return {"fits": [fit.state_dict() for fit in self.fits], "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for fit, saved in zip(self.fits, state["fits"], strict=True):
            fit.load_state_dict(saved)
        self.rng.bit_generator.state = state["rng"]
