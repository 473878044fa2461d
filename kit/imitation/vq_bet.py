"""VQ-BeT: name chunks of actions by two short words, learn which words come next, and correct what they stand for.

    codes      z = E(a),  c_1 = argmin_c |z - e1_c|,  c_2 = argmin_c |z - e1_c1 - e2_c|,   a ~ D(e1_c1 + e2_c2)
    L_VQ       |a - D(z_q)|_1 + sum_i |sg(r_i) - e_i|^2 + beta |r_i - sg(e_i)|^2,   r_1 = z,  r_2 = z - e_1
    L_code     focal(p(c_1 | s)) + w focal(p(c_2 | s, c_1)),   focal(p) = -(1 - p)^gamma ln p
    L_offset   |a - D(z_q) - o_c1(s) - o_c2(s)|_1

Lee et al. 2024, "Behavior Generation with Latent Actions"; gradients pass the choice of a code straight through (van
den Oord et al. 2017). The code's draw keeps the ways of the demonstrators apart, and the offset makes an action out of
a word. First the codes are learnt, then the words. Here offsets are learnt at the demonstrated codes, as in Shafiullah
et al. 2022, and the second code is predicted given the first. Look first at `quantise`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import nn

from kit.data import Episodes
from kit.diffusion.fit import Fit, FitConfig
from kit.diffusion.nets import Transformer, seeded
from kit.imitation.one_pass import ChunkConfig, OnePass, draw, mlp
from kit.types import Metrics


@dataclass(frozen=True)
class Config(ChunkConfig):
    """Settings; the networks of the two phases have one width."""

    codes: int = 16  # C, in each of the two levels
    latent: int = 16  # numbers of z
    commitment: float = 0.25  # beta, how much the encoder is drawn to its codes
    second_weight: float = 0.1  # w, of the second code in the loss
    gamma: float = 2.0  # focal loss: how much less what is known already counts
    calibrated: bool = True  # draw codes by `posterior`; the paper draws from the focal loss's own softmax
    offset_weight: float = 10.0  # of the offsets in the loss of the second phase
    vq_fit: FitConfig = field(default_factory=lambda: FitConfig(steps=1500))  # the first phase

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.codes < 2 or self.latent < 1:
            raise ValueError(f"codes is {self.codes} and latent {self.latent}; 2 codes and 1 number are the least")


# ---- the pieces -------------------------------------------------------------------------------------------------


def quantise(z: torch.Tensor, books: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The nearest codes of z (B, d), level by level: codes (B, L), their vectors e_i and residuals r_i (L, B, d).

    `books` is (L, C, d); each level names what the levels before it left.
    """
    left, codes, vectors, residuals = z, [], [], []
    for book in books:
        code = torch.cdist(left, book).argmin(dim=1)
        codes.append(code)
        vectors.append(book[code])
        residuals.append(left)
        left = left - book[code]
    return torch.stack(codes, dim=1), torch.stack(vectors), torch.stack(residuals)


def straight_through(z: torch.Tensor, quantised: torch.Tensor) -> torch.Tensor:
    """`quantised`, with the gradient of z."""
    return z + (quantised - z).detach()


def code_loss(vectors: torch.Tensor, residuals: torch.Tensor, commitment: float) -> torch.Tensor:
    """The codes move to what they name, and, `commitment` times as much, the encoder to its codes; (L, B, d) each."""
    books = ((residuals.detach() - vectors) ** 2).mean(dim=(1, 2)).sum()
    return books + commitment * ((residuals - vectors.detach()) ** 2).mean(dim=(1, 2)).sum()


def focal(logits: torch.Tensor, target: torch.Tensor, gamma: float) -> torch.Tensor:
    """-(1 - p)^gamma ln p (B,) of the target (B,) under logits (B, C); cross entropy at gamma = 0 (Lin et al. 2017)."""
    log_p = logits.log_softmax(dim=1).gather(1, target[:, None])[:, 0]
    return -((1 - log_p.exp()) ** gamma) * log_p


def posterior(q: torch.Tensor, gamma: float) -> torch.Tensor:
    """The probabilities (B, C) that focal loss means by its flatter optimum q (B, C), p ~ 1 / -d focal(q) / dq.

    With p the truth, p_i d focal(q_i) / dq_i is the same for all i at the least expected loss (Charoenphakdee et al.
    2021). Without this, codes that nobody would use next are drawn too often.
    """
    rest = (1 - q).clamp(min=1e-12)
    slope = rest**gamma - gamma * q * rest ** (gamma - 1) * q.clamp(min=1e-12).log()
    return (p := q / slope.clamp(min=1e-12)) / p.sum(dim=-1, keepdim=True)


def first_books(z: np.ndarray, levels: int, codes: int, rng: np.random.Generator) -> np.ndarray:
    """Codebooks (levels, codes, d) by k-means on z (n, d), level by level, so that every code names something."""
    books, left = [], np.asarray(z, np.float64)
    for _ in range(levels):
        book, label = kmeans2(left, codes, minit="++", rng=rng, missing="warn")
        books.append(book)
        left = left - book[label]
    return np.array(books, np.float32)


# ---- state ------------------------------------------------------------------------------------------------------


class ResidualVQ(nn.Module):
    """Chunks (B, Tp, act_dim) to two codes (B, 2) and back."""

    def __init__(self, shape: tuple[int, int], cfg: Config):
        super().__init__()
        self.shape, size = shape, shape[0] * shape[1]
        self.encoder, self.decoder = (mlp(a, cfg.width, 2, b) for a, b in ((size, cfg.latent), (cfg.latent, size)))
        self.books = nn.Parameter(torch.randn(2, cfg.codes, cfg.latent))

    def codes(self, actions: torch.Tensor) -> torch.Tensor:
        return quantise(self.encoder(actions.flatten(1)), self.books)[0]

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        both = self.books[0][codes[:, 0]] + self.books[1][codes[:, 1]]
        return self.decoder(both).unflatten(1, self.shape)

    def loss(self, actions: torch.Tensor, commitment: float) -> torch.Tensor:
        z = self.encoder(actions.flatten(1))
        _, vectors, residuals = quantise(z, self.books)
        rebuilt = self.decoder(straight_through(z, vectors.sum(dim=0))).unflatten(1, self.shape)
        return (rebuilt - actions).abs().mean() + code_loss(vectors, residuals, commitment)


class Words(nn.Module):
    """What scaled observations (B, To, obs_dim) say of the codes and of the offsets."""

    def __init__(self, obs_dim: int, shape: tuple[int, int], cfg: Config):
        super().__init__()
        self.shape, self.count = shape, cfg.codes
        if cfg.trunk == "mlp":
            self.trunk = nn.Sequential(
                nn.Flatten(), *mlp(cfg.obs_steps * obs_dim, cfg.width, cfg.layers - 1, cfg.width)
            )
        else:
            seen = Transformer(cfg.width, layers=cfg.layers, heads=cfg.heads, length=cfg.obs_steps)
            self.trunk = nn.Sequential(nn.Linear(obs_dim, cfg.width), seen, nn.Flatten())
        n_in = cfg.width * (1 if cfg.trunk == "mlp" else cfg.obs_steps)
        self.first, self.second = nn.Linear(n_in, cfg.codes), nn.Linear(n_in, cfg.codes**2)
        self.offset = nn.Linear(n_in, 2 * cfg.codes * shape[0] * shape[1])

    def forward(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (B, C) of the first code, (B, C, C) of the second given the first, offsets (B, 2, C, Tp, act_dim)."""
        h = nn.functional.silu(self.trunk(obs))
        offsets = self.offset(h).unflatten(1, (2, self.count, *self.shape))
        return self.first(h), self.second(h).unflatten(1, (self.count, self.count)), offsets


def chosen(offsets: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """The sum of both codes' offsets, (B, Tp, act_dim), of offsets (B, 2, C, Tp, act_dim) and codes (B, 2)."""
    each = torch.arange(len(codes), device=codes.device)
    return offsets[each, 0, codes[:, 0]] + offsets[each, 1, codes[:, 1]]


class VQBeT(OnePass):
    """Two phases: the codes of chunks, then which code an observation is followed by."""

    def __init__(self, data: Episodes, cfg: Config, *, seed: int):
        super().__init__(data, cfg, (2,), seed=seed)
        shape = (cfg.horizon, data.act_dim)
        with seeded(seed):
            vq, words = ResidualVQ(shape, cfg).to(cfg.device), Words(data.obs_dim, shape, cfg).to(cfg.device)
        self._begin(vq, np.random.default_rng((seed, 2)))
        self.fits = (
            Fit(vq, partial(self.vq_loss, vq), cfg.vq_fit, seed=seed),
            Fit(words, partial(self.word_loss, words), cfg.fit, seed=seed),
        )

    @torch.no_grad()
    def _begin(self, vq: ResidualVQ, rng: np.random.Generator) -> None:
        z = vq.encoder(self.batch(2048, rng).actions.flatten(1)).cpu().numpy()
        vq.books.copy_(torch.from_numpy(first_books(z, 2, self.cfg.codes, rng)))

    @property
    def vq(self) -> ResidualVQ:
        return self.fits[0].ema.module

    def vq_loss(self, vq: ResidualVQ, n: int, rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
        return vq.loss(self.batch(n, rng).actions, self.cfg.commitment)

    def word_loss(self, words: Words, n: int, rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
        obs, actions, real, _ = self.batch(n, rng)
        with torch.no_grad():
            codes = self.vq.codes(actions)
            decoded = self.vq.decode(codes)
        first, second, offsets = words(obs)
        given = second[torch.arange(n, device=codes.device), codes[:, 0]]
        named = focal(first, codes[:, 0], self.cfg.gamma) + self.cfg.second_weight * focal(
            given, codes[:, 1], self.cfg.gamma
        )
        missed = (actions - decoded - chosen(offsets, codes)).abs()[real].mean()
        return named.mean() + self.cfg.offset_weight * missed

    def shares(self, logits: torch.Tensor) -> torch.Tensor:
        """What codes are drawn by, (B, C), of logits (B, C)."""
        q = logits.softmax(dim=1)
        return posterior(q, self.cfg.gamma) if self.cfg.calibrated else q

    def chunk(self, obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        first, second, offsets = self.network(obs)
        one = draw(self.shares(first), noise[:, 0])
        two = draw(self.shares(second[torch.arange(len(one), device=one.device), one]), noise[:, 1])
        codes = torch.stack([one, two], dim=1)
        return self.vq.decode(codes) + chosen(offsets, codes)


def train(data: Episodes, cfg: Config | None = None, *, seed: int) -> Iterator[Metrics]:
    """Learn the codes (phase 0), then the words (phase 1); the agent is a `VQBeT` policy.

    Raises:
        ValueError: episodes shorter than the horizon, or chunks too short for what is carried out of them.
    """
    yield from VQBeT(data, cfg or Config(), seed=seed).learn()
