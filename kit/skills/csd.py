"""CSD, controllability-aware skill discovery, Park et al. 2023: skills that move far where moving is hard.

    q(s'|s)   = N(s + mu(s), diag sigma(s)^2),   fitted to all steps by maximum likelihood
    d(s,s')^2 = sum_i ((s'_i - s_i - mu_i(s)) / sigma_i(s))^2 g(s)^2,    g(s) = (prod_i sigma_i)^(1/n)
    max E (phi(s') - phi(s)) . z     with   |phi(s) - phi(s')| <= d(s, s')

A change that the policy makes all the time is expected, so it is short; a rare one is long. g keeps the scale of d
from running away while sigma learns. METRA with another limit; look at `controllability`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kit.skills import metra
from kit.skills.skill import network


@dataclass(frozen=True)
class Config(metra.Config):
    """Settings of the representation and of the density of steps."""

    dual: float = 3000.0  # lambda at the start
    slack: float = 1e-6  # eps: the most that an unused constraint counts
    density_rate: float = 3e-3  # of Adam, for q; it has to lead phi

    def make(self, obs_dim: int, generator: torch.Generator) -> CSD:
        return CSD(obs_dim, self, generator)


def controllability(change: torch.Tensor, mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """d(s, s')^2, (n,), of changes s' - s (n, obs_dim) under the density's mean and log sigma (n, obs_dim)."""
    relative = log_std - log_std.mean(dim=-1, keepdim=True)
    return (((change - mean) / relative.exp()) ** 2).sum(-1)


class CSD(metra.METRA):
    """phi, lambda and the density of steps."""

    def __init__(self, obs_dim: int, cfg: Config, generator: torch.Generator):
        super().__init__(obs_dim, cfg, generator)
        self.density = network((obs_dim, *cfg.hidden, 2 * obs_dim), generator)
        self.density_optimiser = torch.optim.Adam(self.density.parameters(), lr=cfg.density_rate, fused=True)

    def limit(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            mean, log_std = self._density(batch["obs"])
            return controllability(batch["next_obs"] - batch["obs"], mean, log_std)

    def _density(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_std = self.density(obs).chunk(2, dim=-1)
        return mean, log_std.clamp(-6, 3)

    def update(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """One step of the density, then of phi and lambda."""
        mean, log_std = self._density(batch["obs"])
        change = batch["next_obs"] - batch["obs"]
        loss = (0.5 * ((change - mean) / log_std.exp()) ** 2 + log_std).sum(-1).mean()
        self.density_optimiser.zero_grad()
        loss.backward()
        self.density_optimiser.step()
        return super().update(batch) | {"density_loss": loss.item()}

    def parts(self) -> dict:
        return super().parts() | {"density": self.density, "density_optimiser": self.density_optimiser}
