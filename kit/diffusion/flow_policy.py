"""Flow-matching policy: a velocity field that carries noise to action chunks along straight lines.

    train    a_t = t a + (1 - t) z,   v* = a - z,   min  E |v_theta(a_t, t, O) - v*|^2
             t = 0.999 (1 - b),  b ~ Beta(1.5, 1):  more often near the noise (t = 0) than near the data
    draw     a <- a + v_theta(a, t, O) / n,   t = 0, 1/n, .., 1 - 1/n      Euler; or Runge-Kutta's fourth order

Lipman et al. 2023; the times are those of pi0 (Black et al. 2024). Everything else, the chunks, the networks, and
acting, is Diffusion Policy's. What is hard is at t = 0, where all of the choice between ways lies ahead, and the best
v is the mean of all ways; at t near 1 only noise is left to take away. Look first at `loss`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from kit.data import Episodes
from kit.diffusion import policy, samplers
from kit.diffusion.fit import FitConfig
from kit.diffusion.precond import Network
from kit.diffusion.windows import Window, check_scaled
from kit.types import Metrics

SAMPLERS = ("euler", "rk4")


@dataclass(frozen=True)
class Config:
    """Settings, like those of `kit.diffusion.policy.Config`."""

    obs_steps: int = 2  # To, observations that a plan sees
    horizon: int = 16  # Tp, actions in a chunk
    execute: int = 8  # Ta, actions carried out of a chunk
    network: str = "mlp"  # one of kit.diffusion.policy.NETWORKS
    width: int = 256  # of the MLP's or the transformer's layers
    layers: int = 3  # blocks of the MLP, or layers of the transformer
    heads: int = 4  # of the transformer
    widths: tuple[int, ...] = (32, 64, 128)  # channels of the U-Net, level by level
    beta: float = 1.5  # first parameter of the Beta distribution of training times; the second is 1
    sampler: str = "euler"  # one of SAMPLERS; rk4 calls the network four times a step
    sample_steps: int = 8  # of the sampler
    clip: float = 1.0  # largest action in a finished chunk [scaled actions]
    device: str = "cpu"  # of torch
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS or self.sample_steps < 1:
            raise ValueError(
                f"sampler is {self.sampler!r} with {self.sample_steps} steps; give {' or '.join(SAMPLERS)}, and at "
                "least 1 step"
            )
        if not self.beta > 0:
            raise ValueError(f"beta is {self.beta}; it must be positive, and 1 makes all times equally likely")
        policy.check_network(self)


# ---- the pieces -------------------------------------------------------------------------------------------------


def training_times(u: torch.Tensor, beta: float) -> torch.Tensor:
    """t (B,) = 0.999 (1 - b) with b ~ Beta(beta, 1), from uniform numbers u (B,): the inverse of b's distribution
    b^beta."""
    return 0.999 * (1 - u ** (1 / beta))


def loss(net: Network, a: torch.Tensor, cond: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Mean squared error () of the velocity from `noise` to chunks a, both (B, Tp, act_dim), at times (B,).

    Raises:
        ValueError: chunks that are not scaled to [-1, 1].
    """
    t = times[:, None, None]
    between = t * check_scaled(a, "actions") + (1 - t) * noise
    return ((net(between, times, cond) - (a - noise)) ** 2).mean()


# ---- state ------------------------------------------------------------------------------------------------------


class Agent(policy.Agent):
    """Like Diffusion Policy's agent, with a network that gives velocities."""

    method: ClassVar[str] = "flow"
    time_scale: ClassVar[float] = 100.0  # times are 0 to 1

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (1, self.horizon, self.act_dim)

    def draw(self, noise: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        cfg = self.cfg

        def velocity(a: torch.Tensor, t: float, cond: torch.Tensor) -> torch.Tensor:
            return self.net(a, a.new_full((len(a),), t), cond)

        a = samplers.flow(velocity, noise[:, 0], cfg.sample_steps, cond, method=cfg.sampler)
        return a.clamp(-cfg.clip, cfg.clip)

    def loss(self, net: nn.Module, window: Window, generator: torch.Generator) -> torch.Tensor:
        a, cond = window.actions.to(self.cfg.device), window.obs.flatten(1).to(self.cfg.device)
        noise = torch.randn(a.shape, generator=generator).to(a.device)
        times = training_times(torch.rand(len(a), generator=generator), self.cfg.beta).to(a.device)
        return loss(net, a, cond, noise, times)


def train(data: Episodes, cfg: Config, *, seed: int) -> Iterator[Metrics]:
    """Learn from the data; the agent is an `Agent`."""
    fit, agent = policy.learner(data, cfg, seed=seed, kind=Agent)
    yield from fit.run(agent)
