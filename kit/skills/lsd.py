"""LSD, Lipschitz-constrained skill discovery, Park et al. 2022: skills that move far in the state space itself.

    max E (phi(s') - phi(s)) . z     with   |phi(x) - phi(y)| <= |x - y|   for all states
    phi: every layer's matrix divided by its largest singular value (spectral normalisation); ReLU stretches nothing
    r  = (phi(s') - phi(s)) . z

No multiplier is needed: the network cannot break the constraint. The distance is the Euclidean one, so the units of
the state decide what is learned. METRA with a limit that is built in; look at `Spectral`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from kit.skills import metra
from kit.skills.skill import directional_reward, network

POWER_ITERATIONS = 4  # in an update; with one the singular vector lags behind by several per cent


@dataclass(frozen=True)
class Config:
    """Settings of the representation."""

    dim: int = 2  # of phi and z
    hidden: tuple[int, ...] = (64, 64)  # widths of phi's layers
    learning_rate: float = 1e-3  # of Adam

    def make(self, obs_dim: int, generator: torch.Generator) -> LSD:
        return LSD(obs_dim, self, generator)


class Spectral(torch.nn.Module):
    """A linear layer whose matrix is divided by its largest singular value, W / |W^T u|: u, the left singular vector,
    follows by a few power iterations, u <- W W^T u / |.|, each time that the layer is trained."""

    def __init__(self, layer: torch.nn.Linear):
        super().__init__()
        self.layer = layer
        self.register_buffer("u", F.normalize(torch.ones(layer.out_features), dim=0))
        for _ in range(20):
            self(torch.zeros(1, layer.in_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.layer.weight
        if self.training:
            with torch.no_grad():
                for _ in range(POWER_ITERATIONS):
                    self.u = F.normalize(weight @ (weight.T @ self.u), dim=0)
        return F.linear(x, weight / (weight.T @ self.u).norm(), self.layer.bias)


class LSD(metra.METRA):
    """A phi whose Lipschitz constant is at most 1."""

    def __init__(self, obs_dim: int, cfg: Config, generator: torch.Generator):
        self.cfg, self.dim = cfg, cfg.dim
        self.net = network((obs_dim, *cfg.hidden, cfg.dim), generator, wrap=Spectral)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=cfg.learning_rate, fused=True)

    def phi(self, states: np.ndarray) -> np.ndarray:
        self.net.eval()  # reading must not move the power iteration
        found = super().phi(states)
        self.net.train()
        return found

    def update(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """One step of phi. `batch` holds `obs`, `next_obs` (n, obs_dim) and `skill` (n, dim)."""
        phi, phi2 = self.net(torch.cat([batch["obs"], batch["next_obs"]])).chunk(2)
        gain = directional_reward(phi, phi2, batch["skill"])
        self.optimiser.zero_grad()
        (-gain.mean()).backward()
        self.optimiser.step()
        return {"gain": gain.mean().item()}

    def parts(self) -> dict:
        return {"net": self.net, "optimiser": self.optimiser}
