"""BESO: a transformer denoises the next action, given a goal or none, in three steps. Row 9 of the papers.

Reuss, Li, Jia and Lioutikov 2023, "Goal-Conditioned Imitation Learning using Score-based Diffusion Policies".

    tokens      [sigma, goal, s_1, a_1, .., s_k, a_k]        causal; a noisy a_i becomes the clean one
    loss        E w |D(a + sigma z, sigma, s, g) - a|^2      EDM, sd = 0.5; sigma log-logistic, cut to [0.05, 1]
    goal        a whole sample loses it with probability 0.1; guided, D = D_0 + l (D_g - D_0)
    acting      a_k ~ N(0, sigma_max^2), a_1 .. a_k-1 from before; DDIM through 3 levels from 1 to 0.1, then 0

The first levels decide which way to take, the last ones how exactly: with sigma_max = 1, twice the data's spread, three
are enough. Look first at `interleave`, then at `Learner.loss`; `kit.diffusion.goal_policy` acts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as Folder
from typing import Any

import numpy as np
import torch
from torch import nn

from kit import checkpoints
from kit.data import Episodes, sample_steps
from kit.diffusion.fit import Fit, FitConfig
from kit.diffusion.goal_policy import GoalPolicy, Sampling, levels
from kit.diffusion.goals import DISTRIBUTIONS, GoalEncoder, HindsightGoals, Kind, Path, State, Word, check_goal, whole
from kit.diffusion.nets import Transformer, seeded
from kit.diffusion.precond import EDM, log_logistic
from kit.diffusion.windows import MinMax, Windows
from kit.types import Metrics

GOALS = ("state", "word", "path")


@dataclass(frozen=True)
class Config:
    """Settings of a training; the paper's but for the network, which has 4 layers of width 240 there."""

    window: int = 5  # k, states and actions that the transformer sees
    goal: str = "state"  # kind of goal: state, word or path
    hindsight: str = "geometric"  # which later row is the goal: geometric, uniform or final
    gamma: float = 0.95  # of the geometric distribution [a step]
    path_points: int = 8  # points of a path goal
    width: int = 64  # of a token
    layers: int = 3
    heads: int = 4
    goal_dropout: float = 0.1  # share of samples that lose their goal
    sigma_data: float = 0.5  # standard deviation of scaled actions
    sigma_min: float = 0.05  # least training level
    sigma_max: float = 1.0  # largest training level
    device: str = "cpu"  # where the network is
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=3000, ema=0.999, ema_warm_up="ratio"))
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if self.goal not in GOALS or self.hindsight not in DISTRIBUTIONS:
            raise ValueError(
                f"goal is {self.goal!r} with hindsight {self.hindsight!r}; a goal is one of {', '.join(GOALS)}, "
                f"hindsight one of {', '.join(DISTRIBUTIONS)}"
            )
        if not 0 <= self.goal_dropout <= 1 or self.window < 1:
            raise ValueError(
                f"goal_dropout is {self.goal_dropout} and window {self.window}; need a share, and 1 or more"
            )
        if not (0 < self.sigma_min < self.sigma_max and self.sigma_data > 0):
            raise ValueError(
                f"sigma_min is {self.sigma_min}, sigma_max {self.sigma_max}, sigma_data {self.sigma_data}; need "
                "0 < sigma_min < sigma_max, and sigma_data above 0"
            )
        levels(self.sampling, self.sigma_min, self.sigma_max)


def kind_of(cfg: Config, size: int) -> Kind:
    """The kind of goal that a configuration asks for, where a row's goal has `size` numbers."""
    return {"state": State(size), "word": Word(size), "path": Path(size, cfg.path_points)}[cfg.goal]


# ---- the pieces ---------------------------------------------------------------------------------------------------


def interleave(sigma: torch.Tensor, goal: torch.Tensor, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Tokens [sigma, goal, s_1, a_1, .., s_k, a_k], (B, 1 + L + 2 k, width), from (B, width), (B, L, width) and
    twice (B, k, width)."""
    pairs = torch.stack([states, actions], dim=2).flatten(1, 2)
    return torch.cat([sigma[:, None], goal, pairs], dim=1)


def action_tokens(tokens: torch.Tensor, k: int) -> torch.Tensor:
    """Those of `interleave`'s tokens that stand for actions, (B, k, width)."""
    return tokens[:, -2 * k :][:, 1::2]


class Network(nn.Module):
    """`net(x (B, k, act_dim), time (B,), cond)`; cond has `obs` (B, k, obs_dim), `goal` (B, numbers) and `free` (B,),
    the rows without a goal."""

    def __init__(self, obs_dim: int, act_dim: int, kind: Kind, cfg: Config):
        super().__init__()
        self.sigma, self.goal = nn.Linear(1, cfg.width), GoalEncoder(kind, cfg.width)
        self.state, self.action = nn.Linear(obs_dim, cfg.width), nn.Linear(act_dim, cfg.width)
        length = 1 + kind.tokens + 2 * cfg.window
        self.trunk = Transformer(cfg.width, layers=cfg.layers, heads=cfg.heads, length=length)
        self.out = nn.Linear(cfg.width, act_dim)

    def forward(self, x: torch.Tensor, time: torch.Tensor, cond: dict[str, torch.Tensor]) -> torch.Tensor:
        goal, _ = self.goal(cond["goal"], cond["free"])
        tokens = interleave(self.sigma(time[:, None]), goal, self.state(cond["obs"]), self.action(x))
        return self.out(action_tokens(self.trunk(tokens), x.shape[1]))


# ---- state --------------------------------------------------------------------------------------------------------


class Agent(GoalPolicy):
    """The network in use, with Stable-Baselines3's `predict`, and what a checkpoint holds of it."""

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The network and the ranges of its inputs and outputs, for a checkpoint."""
        tensors = {f"net.{name}": value.cpu().numpy() for name, value in self.net.state_dict().items()}
        ranges = {f"{name}.{end}": getattr(s, end) for name, s in self.scalers.items() for end in ("low", "high")}
        return tensors | ranges

    @classmethod
    def restore(cls, tensors: dict[str, np.ndarray], card: dict[str, Any]) -> Agent:
        """The agent of a checkpoint."""
        cfg = config_from(card["config"])
        names = [name for name in ("obs", "action", "goal") if f"{name}.low" in tensors]
        scalers = {name: MinMax(tensors[f"{name}.low"], tensors[f"{name}.high"]) for name in names}
        net = Network(len(scalers["obs"].low), len(scalers["action"].low), kind_of(cfg, card["goal_size"]), cfg)
        net.load_state_dict({k[4:]: torch.from_numpy(v) for k, v in tensors.items() if k.startswith("net.")})
        return cls(net.requires_grad_(False).eval(), cfg, scalers)


def config_from(fields: dict[str, Any]) -> Config:
    """A `Config` from JSON; the network is wherever it is loaded, the CPU."""
    return Config(
        **fields | {"fit": FitConfig(**fields["fit"]), "sampling": Sampling(**fields["sampling"]), "device": "cpu"}
    )


def save(agent: Agent, folder: str | Folder, **facts: Any) -> Folder:
    """Save an agent as a checkpoint that `kit.load` reads, with facts about how it was made."""
    config = dataclasses.asdict(dataclasses.replace(agent.cfg, sampling=agent.sampling))
    return checkpoints.write(
        agent.weights, folder, kind="beso", obs_dim=agent.obs_dim, goal_size=agent.kind.size, config=config, **facts
    )


# ---- training -----------------------------------------------------------------------------------------------------


class Learner:
    """Windows, goals and the loss of a network; `fit` trains it, and its `state_dict` is all that resuming needs.

    Raises:
        ValueError: a dataset without goals, words that are not one-hot, or an episode shorter than the window.
    """

    def __init__(self, data: Episodes, cfg: Config, *, seed: int):
        self.cfg, self.data = cfg, data
        self.hindsight = HindsightGoals(data, cfg.hindsight, cfg.gamma)
        self.windows = Windows(data, cfg.window, cfg.window)
        scalers = {"obs": self.windows.obs_scaler, "action": self.windows.action_scaler}
        kind = kind_of(cfg, data.goals.shape[1])
        if cfg.goal == "word":
            check_goal(kind, torch.from_numpy(data.goals))
        else:
            scalers["goal"] = MinMax.of(data.goals)
        with seeded(seed):
            net = Network(data.obs_dim, data.act_dim, kind, cfg).to(cfg.device)
        self.denoiser = EDM(net, cfg.sigma_data)
        self.fit = Fit(net, self.loss, cfg.fit, seed=seed)
        self.agent = Agent(self.fit.ema.module, cfg, scalers, seed=seed)

    def loss(self, n: int, rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
        """EDM's loss on n windows, a scalar."""
        cfg, drawn = self.cfg, sample_steps(self.data, n, rng)
        rows = np.maximum(drawn, self.windows.first[drawn] + cfg.window - 1)  # windows lie inside their episode
        batch = self.windows.at(rows)
        goal = self.hindsight.paths(rows, cfg.path_points) if cfg.goal == "path" else self.hindsight.sample(rows, rng)
        cond = {
            "obs": batch.obs.to(cfg.device),
            "goal": self.agent.read(torch.from_numpy(goal)).to(cfg.device),
            "free": whole(n, cfg.goal_dropout, generator).to(cfg.device),
        }
        sigma = log_logistic(n, generator, sigma_data=cfg.sigma_data, sigma_min=cfg.sigma_min, sigma_max=cfg.sigma_max)
        noise = torch.randn(batch.actions.shape, generator=generator)
        clean, sigma, noise = (x.to(cfg.device) for x in (batch.actions, sigma, noise))
        return self.denoiser.loss(clean, sigma, noise, cond).mean()


def train(data: Episodes, cfg: Config, *, seed: int, every: int = 20) -> Iterator[Metrics]:
    """Learn from episodes with goals; yields after every `every` updates. The agent is an `Agent`."""
    learner = Learner(data, cfg, seed=seed)
    yield from learner.fit.run(learner.agent, every=every)
