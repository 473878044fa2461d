"""RND, random network distillation, Burda et al. 2019: a reward for states that a network has not been trained on.

    f  a fixed random network,   f^ trained to predict it on the states visited,   L = E |f^(s') - f(s')|^2
    r(s') = |f^(s') - f(s')|^2 / sigma,     sigma the running standard deviation of the numerator

States are standardised by their running moments and clipped to -5..5. There is no skill: z is empty. Without sigma the
reward fades as f^ learns; with it the rare stays worth visiting. Look at `RND.error`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kit.skills.skill import Learned, network


@dataclass(frozen=True)
class Config:
    """Settings of the two networks."""

    features: int = 32  # outputs of both
    hidden: tuple[int, ...] = (64, 64)  # widths of the layers of both
    learning_rate: float = 1e-3  # of Adam
    clip: float = 5.0  # largest standardised coordinate of a state
    memory: float = 0.99  # of the running moments, in an update

    def make(self, obs_dim: int, generator: torch.Generator) -> RND:
        return RND(obs_dim, self, generator)


class Moments:
    """Running mean and variance of rows (n, dim): an exponential average, corrected for its start at nothing."""

    def __init__(self, dim: int, memory: float):
        self.memory, self.weight = memory, 0.0
        self.first, self.second = torch.zeros(dim), torch.zeros(dim)

    def add(self, rows: torch.Tensor) -> None:
        keep = self.memory
        self.weight = keep * self.weight + (1 - keep)
        self.first = keep * self.first + (1 - keep) * rows.mean(dim=0)
        self.second = keep * self.second + (1 - keep) * (rows**2).mean(dim=0)

    @property
    def mean(self) -> torch.Tensor:
        return self.first / max(self.weight, 1e-12)

    @property
    def std(self) -> torch.Tensor:
        if not self.weight:
            return torch.ones_like(self.second)
        return (self.second / self.weight - self.mean**2).clamp(min=1e-8).sqrt()

    def state_dict(self) -> dict:
        return {"weight": torch.tensor(self.weight, dtype=torch.float64), "first": self.first, "second": self.second}

    def load_state_dict(self, state: dict) -> None:
        self.weight = float(state["weight"])
        self.first, self.second = state["first"].clone(), state["second"].clone()


class RND(Learned):
    """The fixed network, its student, and the moments that both need."""

    norm, dim = 0.0, 0

    def __init__(self, obs_dim: int, cfg: Config, generator: torch.Generator):
        self.cfg = cfg
        sizes = (obs_dim, *cfg.hidden, cfg.features)
        self.fixed, self.student = network(sizes, generator).requires_grad_(False), network(sizes, generator)
        self.states, self.errors = Moments(obs_dim, cfg.memory), Moments(1, cfg.memory)
        self.optimiser = torch.optim.Adam(self.student.parameters(), lr=cfg.learning_rate, fused=True)

    def sample_skill(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return np.zeros((n, 0), np.float32)

    def error(self, states: torch.Tensor) -> torch.Tensor:
        """|f^(s) - f(s)|^2, (n,), of states (n, obs_dim)."""
        x = ((states - self.states.mean) / self.states.std).clamp(-self.cfg.clip, self.cfg.clip)
        return ((self.student(x) - self.fixed(x)) ** 2).sum(-1)

    @torch.no_grad()
    def reward(self, s: np.ndarray, z: np.ndarray, s2: np.ndarray) -> np.ndarray:
        raw = self.error(torch.as_tensor(np.asarray(s2), dtype=torch.float32))
        return (raw / self.errors.std).numpy()

    def update(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """One step of the student. `batch` holds `next_obs` (n, obs_dim)."""
        self.states.add(batch["next_obs"])
        error = self.error(batch["next_obs"])
        self.errors.add(error.detach()[:, None])
        loss = error.mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"error": loss.item()}

    def parts(self) -> dict:
        return {k: getattr(self, k) for k in ("fixed", "student", "states", "errors", "optimiser")}
