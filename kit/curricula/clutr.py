"""CLUTR: first learn what tasks look like, then let the adversary choose among the learned ones.

Azad et al. 2023, "CLUTR: Curriculum Learning via Unsupervised Task Representation Learning". A random task is written
down as tokens x_1..x_L, sorted, so that it has one spelling instead of very many. A recurrent variational autoencoder
learns them before any reinforcement learning:

    q(z|x) = N(mu(x), sigma(x)^2),   p(x|z) = prod_j p(x_j | x_<j, z)
    loss   = c CE + w(i) KL,   CE = -mean_j log p(x_j | x_<j, z),   KL = sum 1/2 (mu^2 + sigma^2 - 1 - log sigma^2)
    w(i)   = (tanh((i - i_0) / s) + 1) / 2                             the KL comes in slowly, else z is ignored

Then the decoder stays as it is, and PAIRED's adversary makes one choice a level, a z in [-4, 4]^d: a bandit, with no
credit to assign over the choices of a long construction. Look at `sort_tokens` first, then `LatentAdversary`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from kit import runtime
from kit.curricula import paired
from kit.curricula.loop import World
from kit.curricula.paired import AdversaryConfig, standardised
from kit.curricula.teacher import Points
from kit.curricula.worlds.mazes import CELLS, Levels, MazeSpace, from_tokens, random_levels
from kit.curricula.worlds.wall_grid import descend
from kit.rl.ppo import clipped_loss, log_prob, network
from kit.types import Metrics

NONE = CELLS  # the token for "no wall"
LIMIT = 4.0  # of each coordinate of z that the adversary chooses


@dataclass(frozen=True)
class Config:
    """The autoencoder, small enough for a minute or two; c and the form of w are the published ones."""

    latent: int = 8  # d, numbers in z
    iterations: int = 1500  # gradient steps
    batch_size: int = 128  # random levels in one, drawn anew each time
    learning_rate: float = 1e-2  # of Adam
    embedding: int = 32  # numbers that stand for a token
    hidden: int = 64  # of both recurrent networks
    ce_weight: float = 79.0  # c
    kl_middle: float = 800.0  # i_0, where w is one half [iterations]
    kl_width: float = 200.0  # s [iterations]
    sort: bool = True  # False: every level is spelt in a random order

    def __post_init__(self) -> None:
        if self.latent < 1:
            raise ValueError(f"latent is {self.latent}; z needs at least 1 number")


# ---- the pieces -------------------------------------------------------------------------------------------------


def sort_tokens(tokens: np.ndarray) -> np.ndarray:
    """The one spelling (n, L) of levels that may be spelt in any order, with walls named twice: walls in rising order,
    each once, then `NONE`s; goal and start, the last two tokens, stay."""
    walls = np.sort(tokens[:, :-2], axis=1)
    again = np.c_[np.zeros(len(walls), bool), walls[:, 1:] == walls[:, :-1]]
    return np.c_[np.sort(np.where(again, NONE, walls), axis=1), tokens[:, -2:]]


def tokens_of(levels: Levels, max_walls: int) -> np.ndarray:
    """The spelling (n, max_walls + 2) of levels.

    Raises:
        ValueError: a level has more walls than that.
    """
    most = int(levels.walls.sum(axis=1).max(initial=0))
    if most > max_walls:
        raise ValueError(f"a level has {most} walls and max_walls is {max_walls}; raise it")
    cells = np.sort(np.where(levels.walls, np.arange(CELLS), NONE), axis=1)[:, :max_walls]
    return np.c_[cells, levels.goal, levels.start]


def shuffle_tokens(tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same levels (n, L) with their walls in a random order."""
    return np.c_[rng.permuted(tokens[:, :-2], axis=1), tokens[:, -2:]]


def kl(mu: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)), (B,), of means and log variances (B, d)."""
    return 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(dim=1)


def kl_weight(i: int, cfg: Config) -> float:
    """w(i)."""
    return float((np.tanh((i - cfg.kl_middle) / cfg.kl_width) + 1) / 2)


# ---- the autoencoder ----------------------------------------------------------------------------------------------


class TaskVAE(nn.Module):
    """GRU encoder and decoder of levels with at most `max_walls` walls."""

    def __init__(self, max_walls: int, cfg: Config, *, seed: int):
        super().__init__()
        runtime.one_thread()
        self.cfg, self.length = cfg, max_walls + 2
        self.generator = torch.Generator().manual_seed(seed)
        self.embed = nn.Embedding(CELLS + 2, cfg.embedding)  # cells, NONE, and the token before the first
        self.position = nn.Embedding(self.length, cfg.embedding)
        self.encoder = nn.GRU(cfg.embedding, cfg.hidden, batch_first=True)
        self.to_latent = nn.Linear(cfg.hidden, 2 * cfg.latent)
        self.decoder = nn.GRU(cfg.embedding + cfg.latent, cfg.hidden, batch_first=True)
        self.to_token = nn.Linear(cfg.hidden, CELLS + 1)
        for parameter in self.parameters():  # torch's own initialisation takes the process's generator
            nn.init.uniform_(parameter, -(cfg.hidden**-0.5), cfg.hidden**-0.5, generator=self.generator)
        for table in (self.embed, self.position):
            nn.init.normal_(table.weight, generator=self.generator)

    def encode(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance (B, d) of z for tokens (B, L)."""
        _, last = self.encoder(self.embed(tokens) + self.position.weight)
        return self.to_latent(last[0]).chunk(2, dim=1)

    def logits(self, tokens: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Logits (B, L, 50) of each token (B, L) after those before it."""
        before = torch.cat([torch.full_like(tokens[:, :1], NONE + 1), tokens[:, :-1]], dim=1)
        seen = self.embed(before) + self.position.weight
        inputs = torch.cat([seen, z[:, None].expand(-1, self.length, -1)], dim=2)
        return self.to_token(self.decoder(inputs)[0])

    def loss(self, tokens: torch.Tensor, i: int) -> tuple[torch.Tensor, dict[str, float]]:
        """The objective in iteration i on tokens (B, L), and its parts."""
        mu, log_var = self.encode(tokens)
        z = mu + (0.5 * log_var).exp() * torch.randn(mu.shape, generator=self.generator)
        ce = cross_entropy(self.logits(tokens, z).flatten(0, 1), tokens.flatten())
        divergence = kl(mu, log_var).mean()
        return self.cfg.ce_weight * ce + kl_weight(i, self.cfg) * divergence, {
            "ce": ce.item(), "kl": divergence.item(),
        }  # fmt: skip

    @torch.no_grad()
    def decode_tokens(self, z: np.ndarray) -> np.ndarray:
        """Tokens (n, L) for z (n, d): the most likely one after those before it, one after the other."""
        z = torch.as_tensor(z, dtype=torch.float32)
        token, state, tokens = torch.full((len(z),), NONE + 1), None, []
        for j in range(self.length):
            seen = self.embed(token) + self.position.weight[j]
            out, state = self.decoder(torch.cat([seen, z], dim=1)[:, None], state)
            logits = self.to_token(out[:, 0])
            if j >= self.length - 2:
                logits[:, NONE] = -torch.inf  # goal and start must be somewhere
            token = logits.argmax(dim=1)
            tokens.append(token.numpy())
        return np.stack(tokens, axis=1)

    def decode(self, z: np.ndarray) -> Levels:
        """The n levels of z (n, d); always valid ones."""
        return from_tokens(self.decode_tokens(z))


def pretrain(max_walls: int, cfg: Config, *, seed: int) -> Iterator[Metrics]:
    """Stage 1: learn random levels, without any reinforcement learning; yields each iteration. The agent is the VAE."""
    vae, rng = TaskVAE(max_walls, cfg, seed=seed), np.random.default_rng(seed)
    optimiser = torch.optim.Adam(vae.parameters(), lr=cfg.learning_rate)
    for i in range(1, cfg.iterations + 1):
        tokens = tokens_of(random_levels(rng, cfg.batch_size, max_walls), max_walls)
        loss, info = vae.loss(torch.from_numpy(tokens if cfg.sort else shuffle_tokens(tokens, rng)), i)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield Metrics({"iterations": float(i), "progress": i / cfg.iterations} | info, agent=vae)


# ---- the adversary ------------------------------------------------------------------------------------------------


class LatentAdversary:
    """Chooses z for each level: a Gaussian whose mean a network makes of noise; at first it is nearly N(0, 1)."""

    def __init__(self, space: MazeSpace, vae: TaskVAE, cfg: AdversaryConfig | None = None, *, seed: int = 0):
        self.space, self.vae, self.cfg = space, vae, AdversaryConfig() if cfg is None else cfg
        self.generator, latent = torch.Generator().manual_seed(seed), vae.cfg.latent
        self.mean = network((self.cfg.noise, *self.cfg.hidden, latent), 0.01, self.generator)
        self.log_std = nn.Parameter(torch.zeros(latent))
        parameters = [*self.mean.parameters(), self.log_std]
        self.optimiser = torch.optim.Adam(parameters, lr=self.cfg.learning_rate, eps=1e-5)

    @torch.no_grad()
    def propose(self, n: int) -> Points:
        noise = torch.randn((n, self.cfg.noise), generator=self.generator)
        mean = self.mean(noise)
        z = mean + self.log_std.exp() * torch.randn(mean.shape, generator=self.generator)
        self.last = noise, z, log_prob(z, mean, self.log_std)
        return self.space.points_of(self.vae.decode(z.clamp(-LIMIT, LIMIT).numpy()))

    def learn(self, rewards: np.ndarray) -> None:
        """PPO on a single step: rewards (n,) of the last proposal."""
        noise, z, old = self.last
        advantages = torch.from_numpy(standardised(rewards)).float()
        for _ in range(self.cfg.epochs):
            log_probs = log_prob(z, self.mean(noise), self.log_std)
            loss = clipped_loss(log_probs, old, advantages, self.cfg.clip)
            descend(loss - self.cfg.entropy_weight * self.log_std.sum(), self.optimiser, self.cfg.max_grad_norm)


def train(
    vae: TaskVAE, protagonist: World, antagonist: World, cfg: paired.Config | None = None, *, seed: int
) -> Iterator[Metrics]:
    """Stage 2: PAIRED over the latent tasks of a `vae` that stays as it is."""
    adversary = LatentAdversary(protagonist.space, vae, seed=seed)
    cfg = paired.Config(variant="flexible") if cfg is None else cfg
    yield from paired.train(adversary, protagonist, antagonist, cfg)
