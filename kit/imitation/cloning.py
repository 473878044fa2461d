"""Behaviour cloning with chunks: regress what the demonstrator did, or fit a mixture to it.

    MSE        L = E |f(s) - a|^2                                   f(s) = E[a | s]: the mean of all ways
    mixture    L = -E ln sum_k w_k(s) N(a; mu_k(s), diag sigma_k(s)^2)          a mixture density network, Bishop 1994

a is a whole chunk (Tp, act_dim), so a component is one way of going on for Tp steps. Where demonstrators pass a pillar
on the left and on the right, their mean goes through it. Pomerleau 1988 (MSE); Mandlekar et al. 2021 clone people with
mixtures. Look first at `mixture_nll`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from kit.data import Episodes
from kit.diffusion.fit import Fit
from kit.diffusion.nets import seeded
from kit.imitation.one_pass import ChunkConfig, OnePass, draw, mlp
from kit.types import Metrics


@dataclass(frozen=True)
class Config(ChunkConfig):
    """Settings of both kinds."""

    head: str = "mse"  # or "mixture"
    components: int = 8  # K, of the mixture
    least_std: float = 0.03  # of a component along a dimension [scaled action]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head not in ("mse", "mixture"):
            raise ValueError(f"head is {self.head!r}; it must be mse or mixture")
        if self.trunk != "mlp":
            raise ValueError(f"trunk is {self.trunk!r}; cloning has mlp only, vq_bet and act have both")
        if self.components < 1 or not self.least_std > 0:
            raise ValueError(f"components is {self.components} and least_std {self.least_std}; both must be positive")


# ---- the pieces -------------------------------------------------------------------------------------------------


def mse(predicted: torch.Tensor, actions: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean squared error of chunks (B, Tp, act_dim), over the actions that were taken, `real` (B, Tp)."""
    return ((predicted - actions) ** 2)[real].mean()


def split(out: torch.Tensor, components: int, least_std: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The network's numbers (B, K (1 + 2 D)) as ln w (B, K), means and standard deviations (B, K, D)."""
    logits, rest = out[:, :components], out[:, components:]
    means, raw = rest.unflatten(1, (2, components, -1)).unbind(1)
    return logits.log_softmax(dim=1), means, least_std + torch.nn.functional.softplus(raw - 2)


def mixture_nll(
    log_weights: torch.Tensor, means: torch.Tensor, stds: torch.Tensor, x: torch.Tensor, real: torch.Tensor
) -> torch.Tensor:
    """-ln p (B,) of points x (B, D) under diagonal mixtures (Bishop 1994); dimensions not `real` (B, D) are
    left out, as if they had been integrated over."""
    each = -0.5 * ((x[:, None] - means) / stds) ** 2 - stds.log() - 0.5 * math.log(2 * math.pi)
    return -(log_weights + (each * real[:, None]).sum(dim=2)).logsumexp(dim=1)


def mixture_sample(
    log_weights: torch.Tensor, means: torch.Tensor, stds: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """Points (n, D) from standard normal noise (n, 1 + D): its first number chooses the component."""
    k = draw(log_weights.exp(), noise[:, 0])
    each = torch.arange(len(k), device=k.device)
    return means[each, k] + stds[each, k] * noise[:, 1:]


# ---- state ------------------------------------------------------------------------------------------------------


class Cloning(OnePass):
    """A network from To observations to a chunk, or to a mixture over chunks."""

    def __init__(self, data: Episodes, cfg: Config, *, seed: int):
        size = cfg.horizon * data.act_dim
        mixture = cfg.head == "mixture"
        super().__init__(data, cfg, (1 + size,) if mixture else (), seed=seed)
        with seeded(seed):
            n_out = cfg.components * (1 + 2 * size) if mixture else size
            net = mlp(cfg.obs_steps * data.obs_dim, cfg.width, cfg.layers, n_out).to(cfg.device)
        self.fits = (Fit(net, partial(self.loss, net), cfg.fit, seed=seed),)

    def loss(self, net: torch.nn.Module, n: int, rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
        obs, actions, real, _ = self.batch(n, rng)
        out = net(obs.flatten(1))
        if self.cfg.head == "mse":
            return mse(out.view_as(actions), actions, real)
        spread = real[..., None].expand_as(actions).flatten(1)
        return mixture_nll(*split(out, self.cfg.components, self.cfg.least_std), actions.flatten(1), spread).mean()

    def chunk(self, obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        out = self.network(obs.flatten(1))
        if self.cfg.head == "mixture":
            out = mixture_sample(*split(out, self.cfg.components, self.cfg.least_std), noise)
        return out.unflatten(1, (self.horizon, self.act_dim))


def train(data: Episodes, cfg: Config | None = None, *, seed: int) -> Iterator[Metrics]:
    """Clone episodes; the agent is a `Cloning` policy.

    Raises:
        ValueError: episodes shorter than the horizon, or chunks too short for what is carried out of them.
    """
    yield from Cloning(data, cfg or Config(), seed=seed).learn()
