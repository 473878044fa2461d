"""DIAYN, "Diversity is all you need", Eysenbach et al. 2019: skills that a discriminator can tell from their states.

    I(S; Z) = H(Z) - H(Z|S)  >=  H(Z) + E log q(z|s)         for any q, equal where q is the posterior p(z|s)
    r(s')   = log q(z|s') + log K                            K skills, equally likely
    L_q     = -E log q(z|s')

Mutual information is at most log K, and reached as soon as no two skills share a state, however close by they stay:
nothing here asks for distance. Look at `discriminator_reward` first, then at `mutual_information`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kit.skills.skill import Learned, network, one_hot


@dataclass(frozen=True)
class Config:
    """Settings of the discriminator."""

    skills: int = 16  # K
    hidden: tuple[int, ...] = (64, 64)  # widths of its layers
    learning_rate: float = 1e-3  # of Adam

    def __post_init__(self) -> None:
        if self.skills < 2:
            raise ValueError(f"skills is {self.skills}; there is nothing to tell apart below 2")

    def make(self, obs_dim: int, generator: torch.Generator) -> DIAYN:
        return DIAYN(obs_dim, self, generator)


# ---- the pieces ---------------------------------------------------------------------------------------------------


def mutual_information(counts: np.ndarray) -> float:
    """Plug-in I(S; Z) [nat] from how often each state was seen with each skill, `counts` (states, skills)."""
    p = counts / counts.sum()
    both = p.sum(axis=1, keepdims=True) * p.sum(axis=0, keepdims=True)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / both[seen])).sum())


def discriminator_reward(logits: np.ndarray, z: np.ndarray) -> np.ndarray:
    """log q(z|s') + log K, (n,), from the discriminator's logits (n, K) of s' and one-hot skills (n, K)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_q = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return (log_q * z).sum(axis=1) + np.log(z.shape[1])


# ---- state --------------------------------------------------------------------------------------------------------


class DIAYN(Learned):
    """The discriminator q(z|s'); `net` gives logits (n, K)."""

    def __init__(self, obs_dim: int, cfg: Config, generator: torch.Generator):
        self.cfg, self.dim = cfg, cfg.skills
        self.net = network((obs_dim, *cfg.hidden, cfg.skills), generator)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=cfg.learning_rate, fused=True)

    def sample_skill(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return one_hot(n, self.dim, rng)

    @torch.no_grad()
    def logits(self, states: np.ndarray) -> np.ndarray:
        """(n, K) of states (n, obs_dim)."""
        return self.net(torch.as_tensor(np.asarray(states), dtype=torch.float32)).numpy()

    def reward(self, s: np.ndarray, z: np.ndarray, s2: np.ndarray) -> np.ndarray:
        return discriminator_reward(self.logits(s2), np.asarray(z))

    def update(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """One step of maximum likelihood. `batch` holds `next_obs` (n, obs_dim) and `skill` (n, K)."""
        logits = self.net(batch["next_obs"])
        loss = torch.nn.functional.cross_entropy(logits, batch["skill"])
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        right = logits.detach().argmax(dim=1) == batch["skill"].argmax(dim=1)
        return {"discriminator_loss": loss.item(), "accuracy": right.float().mean().item()}

    def parts(self) -> dict:
        return {"net": self.net, "optimiser": self.optimiser}
