"""TD3+BC (Fujimoto & Gu 2021): TD3 on logged rows, and one term that keeps the policy near the logged actions.

    a~    = clip(pi'(s') + clip(eps, -c, c), -1, 1),   eps ~ N(0, sigma^2)        smoothed target action
    y     = r + gamma (1 - terminated) min_i Q'_i(s', a~)
    L_Q   = sum_i mean (Q_i(s, a) - y)^2
    L_pi  = mean (-lambda Q_1(s, pi(s)) + (pi(s) - a)^2),   lambda = alpha / mean |Q_1(s, pi(s))|

lambda makes alpha independent of the scale of the rewards; alpha = 0 is behaviour cloning, a large one plain TD3, which
trusts the values of actions that nobody tried. States are standardised with the data's mean and deviation. Look at
`actor_loss` first, then at `Learner.update`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from kit import runtime
from kit.offline.rows import Rows
from kit.rl.sac import Ensemble
from kit.types import Metrics

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Config:
    """Settings of a run; the defaults are the paper's, but for updates, learning rate and networks."""

    updates: int = 6000  # of the critics; the paper's 1,000,000
    batch_size: int = 256  # rows in an update
    learning_rate: float = 1e-3  # of Adam, for actor and critics; the paper's 3e-4
    gamma: float = 0.99  # discount of a step
    tau: float = 0.005  # share by which targets follow, when the actor is updated
    alpha: float = 2.5  # weight of the values against cloning; 0 is behaviour cloning
    policy_noise: float = 0.2  # sigma, of the target action [action, -1..1]
    noise_clip: float = 0.5  # c, largest such noise [action, -1..1]
    policy_every: int = 2  # critic updates per actor update
    hidden: tuple[int, ...] = (64, 64)  # widths of the layers, for actor and each critic; the paper's (256, 256)
    device: str = "cpu"  # of PyTorch

    def __post_init__(self) -> None:
        for name in ("updates", "batch_size", "policy_every", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        for name in ("alpha", "policy_noise", "noise_clip"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma is {self.gamma}; it must be at least 0 and below 1")


# ---- the pieces -------------------------------------------------------------------------------------------------


def smooth(actions: torch.Tensor, noise: torch.Tensor, clip: float) -> torch.Tensor:
    """a~ (B, act_dim): actions with clipped noise, inside -1..1."""
    return (actions + noise.clamp(-clip, clip)).clamp(-1, 1)


def critic_target(reward: torch.Tensor, terminated: torch.Tensor, next_q: torch.Tensor, gamma: float) -> torch.Tensor:
    """y (B,) from the target critics' values `next_q` (2, B) of smoothed target actions."""
    return reward + gamma * (1 - terminated) * next_q.min(dim=0).values


def critic_loss(q: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L_Q of values (2, B) and targets (B,)."""
    return ((q - target) ** 2).mean(dim=1).sum()


def actor_loss(q: torch.Tensor, actions: torch.Tensor, logged: torch.Tensor, alpha: float) -> torch.Tensor:
    """L_pi of the policy's actions (B, act_dim), their values q (B,), and the logged actions (B, act_dim).

    No gradient goes through lambda, nor through the critic's own weights.
    """
    weight = alpha / q.abs().mean().detach()
    return -weight * q.mean() + ((actions - logged) ** 2).mean()


def gaussian(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Standard normal noise."""
    return torch.randn(shape, generator=generator)


# ---- state --------------------------------------------------------------------------------------------------------


class Agent(nn.Module):
    """A policy tanh(f(s)), two critics, and a slow copy of each.

    `predict` is Stable-Baselines3's, with actions in the units of the space, `low` to `high` (act_dim,).
    """

    def __init__(self, rows: Rows, low: np.ndarray, high: np.ndarray, cfg: Config, generator: torch.Generator):
        super().__init__()
        self.low, self.high = (np.asarray(x, np.float32).reshape(-1) for x in (low, high))
        if self.low.shape != (rows.act_dim,):
            raise ValueError(f"low has {len(self.low)} numbers; these rows have {rows.act_dim} actions")
        self.obs_dim = rows.obs_dim
        self.register_buffer("mean", torch.from_numpy(rows.obs.mean(axis=0)))
        self.register_buffer("std", torch.from_numpy(rows.obs.std(axis=0) + 1e-3))
        self.actor = Ensemble(1, (rows.obs_dim, *cfg.hidden, rows.act_dim), "relu", False, generator)
        self.critic = Ensemble(2, (rows.obs_dim + rows.act_dim, *cfg.hidden, 1), "relu", False, generator)
        self.slow_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)

    def standard(self, obs: torch.Tensor) -> torch.Tensor:
        """States (B, obs_dim) as the networks read them."""
        return (obs - self.mean) / self.std

    def act(self, s: torch.Tensor, slow: bool = False) -> torch.Tensor:
        """Actions (B, act_dim) in -1..1 for states as read."""
        return torch.tanh((self.slow_actor if slow else self.actor)(s)[0])

    def q(self, s: torch.Tensor, actions: torch.Tensor, slow: bool = False) -> torch.Tensor:
        """Values (2, B) for states as read."""
        return (self.slow_critic if slow else self.critic)(torch.cat([s, actions], dim=1)).squeeze(-1)

    @torch.no_grad()
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        obs = torch.as_tensor(np.asarray(observation), dtype=torch.float32, device=self.mean.device)
        if obs.shape[-1:] != (self.obs_dim,) or obs.ndim > 2:
            raise ValueError(
                f"observation has shape {tuple(obs.shape)}; this policy takes ({self.obs_dim},) or (n, {self.obs_dim})"
            )
        actions = self.act(self.standard(obs.reshape(-1, self.obs_dim))).reshape(*obs.shape[:-1], -1).cpu().numpy()
        return self.low + 0.5 * (actions + 1) * (self.high - self.low), state


class Learner:
    """An agent with its optimisers, its rows and their random numbers. `state_dict` holds all an update depends on."""

    def __init__(self, rows: Rows, low: np.ndarray, high: np.ndarray, cfg: Config, *, seed: int):
        self.cfg, self.rng, self.updates = cfg, np.random.default_rng(seed), 0
        self.generator = torch.Generator().manual_seed(seed)
        self.agent = Agent(rows, low, high, cfg, self.generator).to(cfg.device)
        self.rows = {name: torch.from_numpy(value).to(cfg.device) for name, value in vars(rows).items()}
        self.rows |= {name: self.agent.standard(self.rows[name]) for name in ("obs", "next_obs")}
        parts = {"critic": self.agent.critic, "actor": self.agent.actor}
        self.parameters = {name: list(part.parameters()) for name, part in parts.items()}
        self.optimisers = {
            name: torch.optim.Adam(p, lr=cfg.learning_rate, fused=True) for name, p in self.parameters.items()
        }

    def sample(self) -> Batch:
        """Rows drawn with replacement; states as the networks read them."""
        index = torch.from_numpy(self.rng.integers(len(self.rows["reward"]), size=self.cfg.batch_size))
        index = index.to(self.cfg.device)
        return {name: values[index] for name, values in self.rows.items()}

    def update(self, batch: Batch) -> dict[str, float]:
        """One update of the critics, and every `policy_every`th time of the actor and the slow copies."""
        info = self._update_critics(batch)
        self.updates += 1
        if self.updates % self.cfg.policy_every == 0:
            info |= self._update_actor(batch)
            with torch.no_grad():
                slow = [*self.agent.slow_actor.parameters(), *self.agent.slow_critic.parameters()]
                torch._foreach_lerp_(slow, [*self.parameters["actor"], *self.parameters["critic"]], self.cfg.tau)
        return info

    def _update_critics(self, batch: Batch) -> dict[str, float]:
        agent, cfg = self.agent, self.cfg
        with torch.no_grad():
            noise = cfg.policy_noise * gaussian(batch["actions"].shape, self.generator).to(cfg.device)
            actions = smooth(agent.act(batch["next_obs"], slow=True), noise, cfg.noise_clip)
            next_q = agent.q(batch["next_obs"], actions, slow=True)
            target = critic_target(batch["reward"], batch["terminated"], next_q, cfg.gamma)
        loss = critic_loss(agent.q(batch["obs"], batch["actions"]), target)
        self._step("critic", loss)
        return {"critic_loss": loss.item(), "value": target.mean().item()}

    def _update_actor(self, batch: Batch) -> dict[str, float]:
        actions = self.agent.act(batch["obs"])
        q = self.agent.q(batch["obs"], actions)[0]
        loss = actor_loss(q, actions, batch["actions"], self.cfg.alpha)
        self._step("actor", loss)
        return {"actor_loss": loss.item()}

    def _step(self, part: str, loss: torch.Tensor) -> None:
        for parameter in self.parameters[part]:
            parameter.grad = None
        loss.backward(inputs=self.parameters[part])  # no gradients of critics for an update of the actor
        self.optimisers[part].step()

    def state_dict(self) -> dict[str, Any]:
        return copy.deepcopy({
            "agent": self.agent.state_dict(), "optimisers": {k: o.state_dict() for k, o in self.optimisers.items()},
            "updates": self.updates, "rng": self.rng.bit_generator.state, "noise": self.generator.get_state(),
        })  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        state = copy.deepcopy(dict(state))  # an optimiser would keep the very tensors that it is given
        self.agent.load_state_dict(state["agent"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.updates, self.rng.bit_generator.state = state["updates"], state["rng"]
        self.generator.set_state(state["noise"])


# ---- training -----------------------------------------------------------------------------------------------------


def train(
    rows: Rows, cfg: Config, *, seed: int, low: np.ndarray | float = -1.0, high: np.ndarray | float = 1.0
) -> Iterator[Metrics]:
    """Learn from rows; yields after every 50 updates. The agent is an `Agent` with actions from `low` to `high`.

    Raises:
        ValueError: bounds of another size than the rows' actions.
    """
    runtime.one_thread()
    bounds = (np.broadcast_to(np.asarray(x, np.float32), (rows.act_dim,)) for x in (low, high))
    learner, info = Learner(rows, *bounds, cfg, seed=seed), {}
    for update in range(1, cfg.updates + 1):
        info |= learner.update(learner.sample())
        if update % 50 == 0 or update == cfg.updates:
            yield Metrics({"updates": float(update), "progress": update / cfg.updates} | info, agent=learner.agent)
