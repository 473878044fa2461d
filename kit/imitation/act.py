"""ACT: action chunking with transformers. A variational autoencoder of chunks, of which only the decoder acts.

    q(z | s, a) = N(mu, diag exp(log_var)),   a = f(s, z),   L = |a - f(s, z)|_1 + beta KL(q || N(0, I)),   beta = 10
    KL = 1/2 sum_j (mu_j^2 + exp(log_var_j) - 1 - log_var_j);      when acting z = 0, the prior's mean

Zhao et al. 2023, "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware". z takes up how demonstrators
differ, so that f need not average them in training; with z = 0 it shows one of their ways. L1 counts only actions that
were taken. Temporal ensembling plans at every step and averages what the plans say of now, w_i = exp(-m i) with the
oldest plan first. One transformer over [z, observations, Tp queries] stands for the paper's encoder and decoder, whose
second to seventh layers its code does not use. Look first at `kl`, then at `blend`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from kit.data import Episodes
from kit.diffusion.chunks import State
from kit.diffusion.fit import Fit
from kit.diffusion.nets import Transformer, seeded
from kit.imitation.one_pass import ChunkConfig, OnePass, mlp
from kit.types import Metrics


@dataclass(frozen=True)
class Config(ChunkConfig):
    """Settings; both halves of the autoencoder have the same width and depth."""

    latent: int = 32  # numbers of z
    beta: float = 10.0  # weight of the divergence
    decay: float | None = None  # m of temporal ensembling [1 / plan], which then plans every step; None: chunks

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latent < 1 or self.beta < 0:
            raise ValueError(f"latent is {self.latent} and beta {self.beta}; at least 1 number, and no negative weight")


# ---- the pieces -------------------------------------------------------------------------------------------------


def kl(mean: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, diag exp(log_var)) || N(0, I)) (B,), both arguments (B, d) (Kingma and Welling 2014, appendix B)."""
    return 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(dim=1)


def masked_l1(predicted: torch.Tensor, actions: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of chunks (B, Tp, act_dim), over the actions that were taken, `real` (B, Tp)."""
    return (predicted - actions).abs()[real].mean()


def blend(plans: np.ndarray, counts: np.ndarray, new: np.ndarray, m: float) -> tuple[np.ndarray, np.ndarray]:
    """Running means (n, T, act_dim) of `counts` (n, T) plans each, with one plan more, and the new counts.

    The i-th plan of a time weighs exp(-m i), so that the sum of all weights is known from their number.
    """
    before = np.exp(-m * np.arange(counts.max() + 2)).cumsum() if counts.size else np.ones(1)
    old = np.where(counts > 0, before[np.maximum(counts - 1, 0)], 0.0)[..., None]
    weight = np.exp(-m * counts)[..., None]
    return (old * plans + weight * new) / (old + weight), counts + 1


# ---- state ------------------------------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """Observations (B, To, obs_dim) and chunks (B, Tp, act_dim), both scaled, to a code and back to chunks."""

    def __init__(self, obs_dim: int, act_dim: int, cfg: Config):
        super().__init__()
        self.act_dim, self.chunk, self.plain = act_dim, cfg.horizon, cfg.trunk == "mlp"
        if self.plain:
            seen, done = cfg.obs_steps * obs_dim, cfg.horizon * act_dim
            self.encoder = mlp(seen + done, cfg.width, cfg.layers, 2 * cfg.latent)
            self.decoder = mlp(seen + cfg.latent, cfg.width, cfg.layers, done)
            return
        size = {"layers": cfg.layers, "heads": cfg.heads, "length": 1 + cfg.obs_steps + cfg.horizon, "causal": False}
        self.encoder, self.decoder = Transformer(cfg.width, **size), Transformer(cfg.width, **size)
        self.obs_in, self.act_in = nn.Linear(obs_dim, cfg.width), nn.Linear(act_dim, cfg.width)
        self.z_in, self.z_out = nn.Linear(cfg.latent, cfg.width), nn.Linear(cfg.width, 2 * cfg.latent)
        self.first = nn.Parameter(0.02 * torch.randn(1, 1, cfg.width))
        self.queries = nn.Parameter(0.02 * torch.randn(1, cfg.horizon, cfg.width))
        self.act_out = nn.Linear(cfg.width, act_dim)

    def encode(self, obs: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of z, each (B, latent)."""
        if self.plain:
            return self.encoder(torch.cat([obs.flatten(1), actions.flatten(1)], dim=1)).chunk(2, dim=1)
        tokens = [self.first.expand(len(obs), -1, -1), self.obs_in(obs), self.act_in(actions)]
        return self.z_out(self.encoder(torch.cat(tokens, dim=1))[:, 0]).chunk(2, dim=1)

    def decode(self, obs: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        if self.plain:
            return self.decoder(torch.cat([obs.flatten(1), z], dim=1)).unflatten(1, (self.chunk, self.act_dim))
        tokens = [self.z_in(z)[:, None], self.obs_in(obs), self.queries.expand(len(obs), -1, -1)]
        return self.act_out(self.decoder(torch.cat(tokens, dim=1))[:, -self.chunk :])


class ACT(OnePass):
    """Deterministic: one observation, one plan."""

    def __init__(self, data: Episodes, cfg: Config, *, seed: int):
        super().__init__(data, cfg, (), seed=seed)
        if cfg.decay is not None:
            self.execute = 1
        with seeded(seed):
            net = Autoencoder(data.obs_dim, data.act_dim, cfg).to(cfg.device)
        self.fits = (Fit(net, partial(self.loss, net), cfg.fit, seed=seed),)

    def loss(self, net: Autoencoder, n: int, rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
        obs, actions, real, _ = self.batch(n, rng)
        mean, log_var = net.encode(obs, actions)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        rebuilt = net.decode(obs, mean + (log_var / 2).exp() * noise)
        return masked_l1(rebuilt, actions, real) + self.cfg.beta * kl(mean, log_var).mean()

    def chunk(self, obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return self.network.decode(obs, obs.new_zeros(len(obs), self.cfg.latent))

    # ---- temporal ensembling: the queue holds running means, and a last column counts the plans in them

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, State]:
        action, state = super().predict(observation, state, episode_start, deterministic)
        return action[..., : self.act_dim], state

    def _renew(self, queue: np.ndarray | None, left: np.ndarray, due: np.ndarray, chunks: np.ndarray) -> np.ndarray:
        if self.cfg.decay is None:
            return super()._renew(queue, left, due, chunks)
        fresh = chunks[:, self.obs_steps - 1 :]
        if queue is None:
            queue = np.zeros((len(left), fresh.shape[1], self.act_dim + 1), np.float32)
        queue = queue.copy()
        queue[:, -1] = 0  # what has just been carried out came round to the end
        queue[left < 0] = 0
        plans, counts = blend(queue[..., :-1], queue[..., -1].astype(int), fresh, self.cfg.decay)
        return np.concatenate((plans, counts[..., None]), axis=2).astype(np.float32)


def train(data: Episodes, cfg: Config | None = None, *, seed: int) -> Iterator[Metrics]:
    """Train the autoencoder; the agent is an `ACT` policy.

    Raises:
        ValueError: episodes shorter than the horizon, or chunks too short for what is carried out of them.
    """
    yield from ACT(data, cfg or Config(), seed=seed).learn()
