"""Proximal policy optimisation, to be read: Schulman et al. 2017, on a batch of simulations.

    delta_t = r_t + gamma (1 - terminated_t) V(s'_t) - V(s_t)                        temporal-difference error
    A_t     = delta_t + gamma lambda (1 - ended_t) A_{t+1}                           GAE, Schulman et al. 2016, eq. 16
    rho     = pi(a|s) / pi_old(a|s)
    L_pi    = -mean min(rho A, clip(rho, 1 - eps, 1 + eps) A)                        PPO, eq. 7
    L       = L_pi + c_v mean (V(s) - (A + V_old))^2 - c_h mean entropy

A time limit ends an episode (`truncated`) but not the world, so V(s') still counts there; a terminal state has none.
With the same weights and batch, loss and gradients equal Stable-Baselines3's PPO. Look at `gae` first, then `loss`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from kit import runtime
from kit.envs.env import BatchEnv
from kit.types import Metrics

Objective = Callable[..., tuple[torch.Tensor, dict[str, float]]]  # (agent, batch, config) -> loss, its parts
OnEnd = Callable[[np.ndarray, np.ndarray, np.ndarray], None]  # (task ids, returns, successes)


@dataclass(frozen=True)
class Config:
    """Settings of a run; the defaults learn `kit/ArmReach-v0`."""

    total_steps: int = 600_000  # environment steps over all simulations
    n_steps: int = 32  # steps of each simulation between updates
    batch_size: int = 512  # transitions in a gradient step
    n_epochs: int = 8  # passes over each rollout
    learning_rate: float = 1e-3  # of Adam, at the start
    final_rate: float = 0.1  # learning rate at the end [share of the first], reached linearly over the steps
    gamma: float = 0.95  # discount of a control step
    gae_lambda: float = 0.95  # trace decay of the advantage
    clip: float = 0.2  # eps, how far the ratio may move before its gradient is cut
    value_weight: float = 0.5  # c_v
    entropy_weight: float = 0.0  # c_h
    max_grad_norm: float = 0.5  # gradients are scaled down to this Euclidean norm
    hidden: tuple[int, ...] = (64, 64)  # widths of the tanh layers, for policy and value each
    log_std: float = -0.7  # of the Gaussian policy, at the start


# ---- the pieces -------------------------------------------------------------------------------------------------


def gae(
    rewards: np.ndarray,
    values: np.ndarray,
    next_values: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
    gamma: float,
    lam: float,
) -> np.ndarray:
    """Advantages, shape (T, N) like every array given; `next_values[t]` is V of the state that step t led to."""
    advantages = np.zeros_like(rewards)
    later = np.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + gamma * (1 - terminated[t]) * next_values[t] - values[t]
        later = delta + gamma * lam * (1 - terminated[t]) * (1 - truncated[t]) * later
        advantages[t] = later
    return advantages


def log_prob(actions: torch.Tensor, mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """Log density (B,) of a diagonal Gaussian at actions (B, act_dim)."""
    z = (actions - mean) / log_std.exp()
    return -(0.5 * z**2 + log_std + 0.5 * np.log(2 * np.pi)).sum(dim=-1)


def policy_gradient_loss(log_probs: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """REINFORCE with a baseline (Williams 1992): its gradient is the policy gradient. Both (B,)."""
    return -(log_probs * advantages).mean()


def clipped_loss(log_probs: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, clip: float) -> torch.Tensor:
    """PPO's surrogate (eq. 7, negated): all (B,)."""
    ratio = (log_probs - old).exp()
    return -torch.min(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()


def loss(agent: ActorCritic, batch: dict[str, torch.Tensor], cfg: Config) -> tuple[torch.Tensor, dict[str, float]]:
    """The whole objective on a minibatch; advantages are normalised over the minibatch, as in SB3."""
    advantages = batch["advantages"]
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    log_probs = log_prob(batch["actions"], agent.actor(batch["obs"]), agent.log_std)
    actor = clipped_loss(log_probs, batch["log_probs"], advantages, cfg.clip)
    critic = ((agent.value(batch["obs"]) - batch["returns"]) ** 2).mean()
    entropy = (agent.log_std + 0.5 * np.log(2 * np.pi * np.e)).sum()
    total = actor + cfg.value_weight * critic - cfg.entropy_weight * entropy
    log_ratio = log_probs.detach() - batch["log_probs"]
    kl = (log_ratio.exp() - 1 - log_ratio).mean()  # Schulman's low-variance estimate
    return total, {"policy_loss": actor.item(), "value_loss": critic.item(), "kl": kl.item()}


# ---- state --------------------------------------------------------------------------------------------------------


def network(sizes: tuple[int, ...], last_gain: float, generator: torch.Generator) -> nn.Sequential:
    """Linear layers with tanh between, orthogonally initialised; a small last layer starts the policy near zero."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        linear = nn.Linear(n_in, n_out)
        last = i == len(sizes) - 2
        nn.init.orthogonal_(linear.weight, last_gain if last else np.sqrt(2), generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.Tanh()]
    return nn.Sequential(*layers)


class ActorCritic(nn.Module):
    """A Gaussian policy and a value function, each a tanh network; acts through Stable-Baselines3's `predict`."""

    def __init__(self, obs_dim: int, low: np.ndarray, high: np.ndarray, cfg: Config, generator: torch.Generator):
        super().__init__()
        self.low, self.high, self.generator = low, high, generator
        self.actor = network((obs_dim, *cfg.hidden, len(low)), 0.01, generator)
        self.critic = network((obs_dim, *cfg.hidden, 1), 1.0, generator)
        self.log_std = nn.Parameter(torch.full((len(low),), cfg.log_std))

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """V of observations (..., obs_dim): (...,)."""
        return self.critic(obs).squeeze(-1)

    def sample(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Actions (n, act_dim), not yet clipped to the space, and their log densities (n,)."""
        mean = self.actor(obs)
        noise = torch.randn(mean.shape, generator=self.generator)
        actions = mean + self.log_std.exp() * noise
        return actions, log_prob(actions, mean, self.log_std)

    @torch.no_grad()
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        obs = torch.as_tensor(np.asarray(observation), dtype=torch.float32)
        actions = self.actor(obs) if deterministic else self.sample(obs)[0]
        return np.clip(actions.numpy(), self.low, self.high), state


# ---- training -----------------------------------------------------------------------------------------------------


class Collector:
    """Plays `n_steps` at a time on a batch of simulations and remembers where it stands."""

    def __init__(self, env: BatchEnv, seed: int, on_end: OnEnd | None = None):
        self.env, self.on_end = env.unwrapped, on_end
        self.obs, _ = self.env.reset(seed=seed)
        self.env.stagger()
        self.returns = np.zeros(self.env.num_envs)
        self.finished: deque[tuple[float, bool]] = deque(maxlen=100)  # (return, success) of the last episodes

    @torch.no_grad()
    def collect(self, agent: ActorCritic, cfg: Config) -> dict[str, torch.Tensor]:
        """A rollout with advantages and value targets, flattened to (n_steps * num_envs, ...)."""
        steps = [self._step(agent) for _ in range(cfg.n_steps)]
        rollout = {k: np.stack([s[k] for s in steps]) for k in steps[0]}
        values, next_values = (agent.value(torch.as_tensor(rollout[k])).numpy() for k in ("obs", "next_obs"))
        terminated, truncated = rollout.pop("terminated"), rollout.pop("truncated")
        advantages = gae(rollout.pop("rewards"), values, next_values, terminated, truncated, cfg.gamma, cfg.gae_lambda)
        rollout |= {"advantages": advantages, "returns": advantages + values, "ended": terminated | truncated}
        return {k: torch.as_tensor(v, dtype=torch.float32).flatten(0, 1) for k, v in rollout.items()}

    def _step(self, agent: ActorCritic) -> dict[str, np.ndarray]:
        obs = self.obs
        actions, log_probs = (x.numpy() for x in agent.sample(torch.as_tensor(obs)))
        self.obs, rewards, terminated, truncated, info = self.env.step(np.clip(actions, agent.low, agent.high))
        done = terminated | truncated
        self.returns += rewards
        next_obs = self.obs
        if done.any():
            next_obs = np.where(done[:, None], info["final_obs"], self.obs)
            success = info["final_info"]["success"][done]
            self.finished += zip(self.returns[done], success, strict=True)
            if self.on_end:
                self.on_end(info["final_info"]["task_id"][done], self.returns[done], success)
            self.returns[done] = 0
        return {
            "obs": obs, "actions": actions, "log_probs": log_probs, "rewards": rewards.astype(np.float32),
            "next_obs": next_obs, "terminated": terminated, "truncated": truncated,
        }  # fmt: skip


def train(
    env: BatchEnv,
    cfg: Config,
    *,
    seed: int,
    build: Callable[..., ActorCritic] = ActorCritic,
    objective: Objective | None = None,
    on_end: OnEnd | None = None,
) -> Iterator[Metrics]:
    """Alternate rollouts and updates until `total_steps`; yields after each of both.

    The agent is what `build(obs_dim, low, high, cfg, generator)` returns, an `ActorCritic`. `objective` stands in for
    `loss`; its batch also has `next_obs` and `ended`. `on_end` hears of finished episodes: their tasks' ids, returns
    and successes, each (n,).
    """
    runtime.one_thread()
    generator = torch.Generator().manual_seed(seed)
    space = env.unwrapped.single_action_space
    agent = build(env.unwrapped.single_observation_space.shape[0], space.low, space.high, cfg, generator)
    optimiser = torch.optim.Adam(agent.parameters(), lr=cfg.learning_rate, eps=1e-5)
    collector = Collector(env, seed, on_end)
    per_rollout = cfg.n_steps * env.unwrapped.num_envs
    info: dict[str, float] = {}
    for steps in range(per_rollout, cfg.total_steps + per_rollout, per_rollout):
        rollout = collector.collect(agent, cfg)
        progress = min(steps / cfg.total_steps, 1.0)
        yield Metrics(_summary(steps, progress, collector) | info, agent=agent)
        optimiser.param_groups[0]["lr"] = cfg.learning_rate * (1 - (1 - cfg.final_rate) * progress)
        info = update(agent, optimiser, rollout, cfg, generator, objective)
        yield Metrics(_summary(steps, progress, collector) | info, agent=agent)


def update(
    agent: ActorCritic,
    optimiser: torch.optim.Optimizer,
    rollout: dict[str, torch.Tensor],
    cfg: Config,
    generator: torch.Generator,
    objective: Objective | None = None,
) -> dict[str, float]:
    """Some epochs of gradient steps on one rollout; the last minibatch's numbers."""
    info: dict[str, float] = {}
    for _ in range(cfg.n_epochs):
        for rows in torch.randperm(len(rollout["obs"]), generator=generator).split(cfg.batch_size):
            total, info = (objective or loss)(agent, {k: v[rows] for k, v in rollout.items()}, cfg)
            optimiser.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), cfg.max_grad_norm)
            optimiser.step()
    return info


def _summary(steps: int, progress: float, collector: Collector) -> dict[str, float]:
    values = {"steps": float(steps), "progress": progress}
    if collector.finished:
        values["return"] = float(np.mean([r for r, _ in collector.finished]))
        values["success"] = float(np.mean([s for _, s in collector.finished]))
    return values
