"""SynthER (Lu et al. 2023): a diffusion model of an agent's experience, from which any number of new rows are drawn.

    row      x = [s, a, r, s', d],   z = (x - mean) / std of the data, but d, 0 or 1, stays as it is
    train    min_F  E w |D(z + sigma n, sigma) - z|^2,   ln sigma ~ N(-1.2, 1.2^2),   n ~ N(0, I)
             D = c_skip z + c_out F(c_in z, c_noise),    F a residual MLP, no condition
    draw     z ~ N(0, sigma_max^2 I),  down Karras levels to 0,   x = mean + std z,  a clipped, d = [d > 1/2]
    judge    |s' - f(s, a)| against the simulator f;  distance to the nearest row of the data, or is it a copy?

No policy, no episode and no model of the world: what a row says fits together only because rows of the data do. The
drawn rows take the data's place in the replay buffer of whatever learns from it. Look at `finish` first, then at
`Generator.sample`. Defaults are the paper's, with a smaller network and fewer steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import nn

from kit.diffusion import samplers, schedules
from kit.diffusion.fit import Fit, FitConfig
from kit.diffusion.nets import ResidualMLP, seeded
from kit.diffusion.precond import EDM, log_normal
from kit.offline.rows import Rows
from kit.types import Metrics

Simulator = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]  # (s, a) -> (s', r)


@dataclass(frozen=True)
class Config:
    """Settings of a run."""

    steps: int = 5000  # updates of the network; the paper's 100,000
    batch_size: int = 128  # rows in an update; the paper's 256
    learning_rate: float = 1e-3  # of AdamW, at its highest; the paper's 3e-4
    width: int = 128  # of the residual MLP; the paper's 2048
    blocks: int = 3  # of the residual MLP; the paper's 6
    ema: float = 0.999  # decay of the average that rows are drawn from [an update]; the paper's 0.995 every 10
    sigma_mean: float = -1.2  # mean of ln sigma in training
    sigma_std: float = 1.2  # deviation of ln sigma in training
    sampler: str = "heun"  # one of kit.diffusion.samplers.METHODS that needs no noise
    levels: int = 32  # steps of the sampler; the paper's 128, with churn
    sigma_min: float = 0.002  # lowest level but 0 [standard deviations of the data]
    sigma_max: float = 80.0  # highest level [standard deviations of the data]
    device: str = "cpu"  # of PyTorch

    def __post_init__(self) -> None:
        if self.sampler in samplers.STOCHASTIC or self.sampler not in samplers.METHODS:
            able = ", ".join(name for name in samplers.METHODS if name not in samplers.STOCHASTIC)
            raise ValueError(f"sampler is {self.sampler!r}; it must be one of {able}")
        levels = schedules.make("karras", self.levels, self.sigma_min, self.sigma_max)
        if self.sampler == "heun":
            samplers.check_heun(levels)


SIGMA_DATA = 1.0  # rows are standardised


# ---- the pieces -------------------------------------------------------------------------------------------------


def table(rows: Rows) -> np.ndarray:
    """Rows as [s, a, r, s', d], (n, 2 obs_dim + act_dim + 2)."""
    return np.concatenate(
        [rows.obs, rows.actions, rows.reward[:, None], rows.next_obs, rows.terminated[:, None]], axis=1
    )


def standards(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (d,) of a table (n, d), by which it is standardised.

    The last column, done, gets 0 and 1; so does the deviation of a column that never changes become 1.
    """
    mean, std = x.mean(axis=0), x.std(axis=0)
    mean[-1], std[-1] = 0, 1
    return mean, np.where(std > 1e-6, std, 1)


def finish(x: np.ndarray, obs_dim: int, act_dim: int) -> Rows:
    """Rows from a drawn table (n, 2 obs_dim + act_dim + 2) in the data's units: nothing in a diffusion model keeps an
    action inside -1..1, or done at 0 or 1."""
    ends = np.cumsum([obs_dim, act_dim, 1, obs_dim])
    s, a, r, after, done = np.split(x, ends, axis=1)
    return Rows(s, np.clip(a, -1, 1), r[:, 0], after, done[:, 0] > 0.5)


def dynamics_error(
    obs: np.ndarray, actions: np.ndarray, next_obs: np.ndarray, simulator: Simulator, scale: np.ndarray | float = 1.0
) -> np.ndarray:
    """How far s' (n, obs_dim) is from what the simulator makes of s (n, obs_dim) and a (n, act_dim), for each row (n,).

    The mean square over the numbers of a state, each in units of `scale` (obs_dim,).
    """
    after, _ = simulator(obs, actions)
    return (((next_obs - after) / scale) ** 2).mean(axis=1)


def nearest_distance(x: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Distance of each row of x (n, d) to the nearest row of `data` (m, d), (n,). Near 0: a copy."""
    return KDTree(data).query(x)[0]


def own_distance(data: np.ndarray) -> np.ndarray:
    """Distance of each row of `data` (m, d) to the nearest other one, (m,): what new rows of the same source show."""
    return KDTree(data).query(data, k=2)[0][:, 1]


# ---- state --------------------------------------------------------------------------------------------------------


class Generator(nn.Module):
    """The network, and the mean and deviation that standardise rows."""

    def __init__(self, rows: Rows, cfg: Config, *, seed: int):
        super().__init__()
        self.cfg, self.obs_dim, self.act_dim = cfg, rows.obs_dim, rows.act_dim
        x = table(rows).astype(np.float64)
        mean, std = standards(x)
        for name, numbers in (("mean", mean), ("std", std), ("varies", np.ptp(x, axis=0) > 0)):
            self.register_buffer(name, torch.from_numpy(numbers).float())
        with seeded(seed):
            self.net = ResidualMLP(len(mean), width=cfg.width, blocks=cfg.blocks, time_scale=20.0)

    def standard(self, rows: Rows) -> torch.Tensor:
        """Rows as the network sees them, (n, d)."""
        return (torch.from_numpy(table(rows)).to(self.mean) - self.mean) / self.std

    def denoiser(self, network: nn.Module | None = None) -> EDM:
        """D(z, sigma) -> z0, of the network or another one like it."""
        return EDM(network or self.net, SIGMA_DATA)

    @torch.no_grad()
    def sample(self, n: int, *, seed: int, at_once: int = 10_000) -> Rows:
        """n new rows; `at_once` of them go through the network together. A column that never changed does not now.

        Raises:
            ValueError: no row was asked for.
        """
        if n < 1:
            raise ValueError(f"n is {n}; at least 1 row must be drawn")
        cfg, generator = self.cfg, torch.Generator().manual_seed(seed)
        levels = schedules.make("karras", cfg.levels, cfg.sigma_min, cfg.sigma_max)
        drawn = []
        for first in range(0, n, at_once):
            z = samplers.start((min(at_once, n - first), len(self.mean)), cfg.sigma_max, generator).to(self.mean)
            drawn.append(samplers.sample(self.denoiser(), z, levels, method=cfg.sampler))
        x = self.mean + self.varies * self.std * torch.cat(drawn)
        return finish(x.cpu().numpy(), self.obs_dim, self.act_dim)


def loss(generator: Generator, z: torch.Tensor, sigma: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The denoiser's weighted error, a number, on standardised rows z (B, d) at levels (B,) with noise (B, d)."""
    return generator.denoiser().loss(z, sigma, noise).mean()


# ---- training -----------------------------------------------------------------------------------------------------


def learner(rows: Rows, cfg: Config, *, seed: int) -> tuple[Fit, Generator]:
    """A generator that has not learnt yet, with what trains it; and the averaged one that rows are drawn from."""
    model = Generator(rows, cfg, seed=seed).to(cfg.device)
    data = model.standard(rows)

    def batch_loss(n: int, rng: np.random.Generator, noise: torch.Generator) -> torch.Tensor:
        z = data[torch.from_numpy(rng.integers(len(data), size=n)).to(data.device)]
        sigma = log_normal(n, noise, mean=cfg.sigma_mean, std=cfg.sigma_std).to(z)
        return loss(model, z, sigma, torch.randn(z.shape, generator=noise).to(z))

    fit_cfg = FitConfig(cfg.steps, cfg.batch_size, cfg.learning_rate, ema=cfg.ema)
    fit = Fit(model, batch_loss, fit_cfg, seed=seed)
    return fit, fit.ema.module


def train(rows: Rows, cfg: Config, *, seed: int) -> Iterator[Metrics]:
    """Learn the distribution of rows; yields every 20 updates. The agent is the averaged `Generator`."""
    fit, agent = learner(rows, cfg, seed=seed)
    yield from fit.run(agent)
