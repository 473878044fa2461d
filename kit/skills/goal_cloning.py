"""Goal-conditioned behaviour cloning: do what was once done here, on a way that came to the goal later.

    L = E ||pi(s_t, g) - a_t||^2,   g = s_t+k,  k ~ Geometric(1 - gamma)

Ghosh et al. 2021, "Learning to Reach Goals via Iterated Supervised Learning", without the iteration. It is the
plainest way to reach goals from a log: no value, no distance, no stitching of two ways into one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from kit import runtime
from kit.data import Episodes, GoalShares, sample_goals, sample_steps
from kit.skills.hilp import check_data, descend
from kit.skills.hilp import network as hilp_network
from kit.types import Metrics


@dataclass(frozen=True)
class Config:
    """The network and optimiser are those of `kit.skills.hilp`, so that only the method differs."""

    gamma: float = 0.98  # of the geometric distribution of goals [a step]
    learning_rate: float = 2e-3  # of Adam
    batch: int = 256  # transitions of an update
    steps: int = 6_000  # updates
    hidden: tuple[int, ...] = (64, 64)  # widths of the tanh layers
    sharpness: float = 4.0  # factor of the first layer at the start


class GoalPolicy:
    """A Gaussian of one width; `predict` takes observations [s, g], (2 obs_dim,) or (n, 2 obs_dim)."""

    def __init__(self, data: Episodes, cfg: Config, generator: torch.Generator):
        self.shift = np.tile(data.observations.mean(axis=0), 2)
        self.scale = np.tile(np.maximum(data.observations.std(axis=0), 1e-6), 2)
        self.net = hilp_network(1, 2 * data.obs_dim, 0, data.act_dim, cfg, generator)
        self.variance, self.generator = 1.0, generator  # of an action about its mean, in training

    @torch.no_grad()
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        obs = (np.atleast_2d(observation) - self.shift) / self.scale
        mean = self.net(torch.as_tensor(obs, dtype=torch.float32))[0]
        if not deterministic:
            mean = mean + self.variance**0.5 * torch.randn(mean.shape, generator=self.generator)
        actions = mean.clamp(-1, 1).numpy()
        return actions.reshape(np.shape(observation)[:-1] + actions.shape[-1:]), state


def train(data: Episodes, cfg: Config | None = None, *, seed: int) -> Iterator[Metrics]:
    """Regress logged actions on states and hindsight goals; yields every quarter of a second.

    Raises:
        ValueError: the data have no goals, or goals of another size than observations.
    """
    cfg = cfg or Config()
    check_data(data)
    runtime.one_thread()
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    agent, shares = GoalPolicy(data, cfg, generator), GoalShares(0.0, 1.0, 0.0, gamma=cfg.gamma)
    optimiser = torch.optim.Adam(agent.net.parameters(), lr=cfg.learning_rate)
    half = data.obs_dim
    obs = torch.as_tensor((data.observations - agent.shift[:half]) / agent.scale[:half], dtype=torch.float32)
    actions, spoken = torch.as_tensor(data.actions), time.perf_counter()
    for i in range(cfg.steps):
        rows = sample_steps(data, cfg.batch, rng)
        goals = sample_goals(data, rows, shares, rng)
        loss = ((agent.net(torch.cat((obs[rows], obs[goals]), dim=1))[0] - actions[rows]) ** 2).mean()
        descend(optimiser, loss)
        agent.variance += 0.01 * (loss.item() - agent.variance)
        if time.perf_counter() - spoken > 0.25 or i == cfg.steps - 1:
            spoken = time.perf_counter()
            yield Metrics({"steps": i + 1.0, "progress": (i + 1) / cfg.steps, "loss": loss.item()}, agent=agent)
