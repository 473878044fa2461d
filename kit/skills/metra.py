"""METRA, Park et al. 2024: skills that move far in a latent space where a step of the world is at most 1 long.

    max   E (phi(s') - phi(s)) . z       with   |phi(s) - phi(s')|^2 <= 1   for all neighbours (s, s')
    L_phi = -E [(phi(s') - phi(s)) . z + lambda min(eps, 1 - |phi(s') - phi(s)|^2)]
    L_lam =  lambda E min(eps, 1 - |phi(s') - phi(s)|^2)                  lambda grows where the constraint is broken
    r     = (phi(s') - phi(s)) . z

Summed over a path, the constraint says |phi(x) - phi(y)| <= d(x, y), the least number of steps: a distance that no
rescaling of the state changes. |.|^2 is the sum over the latent dimensions, as in the paper; with their mean instead,
phi may be sqrt(dim) times as long. Look at `room` first, then at `encoder_loss`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kit.skills.skill import Learned, directional_reward, network, sphere


@dataclass(frozen=True)
class Config:
    """Settings of the representation. Networks and rates fit worlds of a few numbers."""

    dim: int = 2  # of phi and z
    hidden: tuple[int, ...] = (64, 64)  # widths of phi's layers
    learning_rate: float = 1e-3  # of Adam, for phi
    dual_rate: float = 1e-3  # of Adam, for log lambda
    dual: float = 30.0  # lambda at the start
    slack: float = 1e-3  # eps: the most that an unused constraint counts

    def make(self, obs_dim: int, generator: torch.Generator) -> METRA:
        return METRA(obs_dim, self, generator)


# ---- the pieces ---------------------------------------------------------------------------------------------------


def room(phi: torch.Tensor, phi2: torch.Tensor, limit: float | torch.Tensor, slack: float) -> torch.Tensor:
    """min(slack, limit - |phi2 - phi|^2), (n,): negative where a step is longer than allowed. Embeddings (n, dim);
    `limit` is the square of the longest step allowed, a number or (n,)."""
    return (limit - ((phi2 - phi) ** 2).sum(-1)).clamp(max=slack)


def encoder_loss(gain: torch.Tensor, room: torch.Tensor, dual: float | torch.Tensor) -> torch.Tensor:
    """L_phi from the progress along the skill, `gain` (n,), and what the constraint leaves, `room` (n,)."""
    return -(gain + dual * room).mean()


def dual_loss(log_dual: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    """Its gradient raises log lambda while `room` (n,) is negative in the mean."""
    return log_dual * room.mean().detach()


# ---- state --------------------------------------------------------------------------------------------------------


class METRA(Learned):
    """phi and lambda. CSD is a subclass with another `limit`, LSD one without a dual."""

    def __init__(self, obs_dim: int, cfg: Config, generator: torch.Generator):
        self.cfg, self.dim = cfg, cfg.dim
        self.net = network((obs_dim, *cfg.hidden, cfg.dim), generator)
        self.log_dual = torch.nn.Parameter(torch.tensor(float(np.log(cfg.dual))))
        groups = [{"params": self.net.parameters()}, {"params": [self.log_dual], "lr": cfg.dual_rate}]
        self.optimiser = torch.optim.Adam(groups, lr=cfg.learning_rate, fused=True)

    def limit(self, batch: dict[str, torch.Tensor]) -> float | torch.Tensor:
        """The square of the longest step that phi may make."""
        return 1.0

    def sample_skill(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return sphere(n, self.dim, rng)

    @torch.no_grad()
    def phi(self, states: np.ndarray) -> np.ndarray:
        """Embeddings (n, dim) of states (n, obs_dim)."""
        return self.net(torch.as_tensor(np.asarray(states), dtype=torch.float32)).numpy()

    def reward(self, s: np.ndarray, z: np.ndarray, s2: np.ndarray) -> np.ndarray:
        phi, phi2 = np.split(self.phi(np.concatenate([s, s2])), 2)
        return directional_reward(phi, phi2, np.asarray(z))

    def update(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """One step of phi and lambda. `batch` holds `obs`, `next_obs` (n, obs_dim) and `skill` (n, dim)."""
        phi, phi2 = self.net(torch.cat([batch["obs"], batch["next_obs"]])).chunk(2)
        left = room(phi, phi2, self.limit(batch), self.cfg.slack)
        gain = directional_reward(phi, phi2, batch["skill"])
        dual = self.log_dual.detach().exp()
        loss = encoder_loss(gain, left, dual) + dual_loss(self.log_dual, left)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"gain": gain.mean().item(), "room": left.mean().item(), "dual": dual.item()}

    def parts(self) -> dict:
        return {"net": self.net, "dual": torch.nn.ParameterList([self.log_dual]), "optimiser": self.optimiser}
