"""SLIM: pushing skills from several rewards, one critic each: Emukpere, Wu, Perez, Renders 2024 (ICRA).

A policy pi(a|s, z) is told a skill z, a unit vector in the plane, and earns three rewards r_i that pull against each
other: discovery, reach and safety (`kit.skills.pushing`).

    A_i = GAE(r_i, V_i)                       a critic V_i each
    A   = sum_i w_i (A_i - mu_i) / sigma_i    over the whole batch; a silent term, sigma_i = 0, is left out

PPO ascends A. The usual way, here `critics="summed"`, has one critic for sum_i w_i r_i: then a reward's unit decides
how loud it is. Lengths count in radii of the puck. The paper's rewards and weights are not ours: it moves a gripper by
its pose, and learns what is diverse. Look at `combine` first, then at `Collector.collect`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kit import checkpoints, runtime
from kit.envs.env import BatchEnv
from kit.nets import MlpPolicy
from kit.rl import ppo
from kit.skills.pushing import NAMES, make_env
from kit.types import Metrics

CRITICS = ("multi", "summed")
SCALE_RATE = 0.1  # how fast a critic's unit follows the size of its returns [share a rollout]


@dataclass(frozen=True)
class Config(ppo.Config):
    """PPO's settings, and SLIM's own; the defaults are for `kit/PlanarPush-v0`."""

    total_steps: int = 400_000  # environment steps over all simulations
    num_envs: int = 64  # simulations
    max_steps: int = 60  # steps of a skill
    n_steps: int = 32  # steps of each simulation between updates
    n_epochs: int = 4  # passes over each rollout
    learning_rate: float = 1e-3  # of Adam, at the start
    gamma: float = 0.99  # discount of a control step
    hidden: tuple[int, ...] = (128, 128)  # widths of the tanh layers, for policy and each critic
    weights: tuple[float, ...] = (1.0, 1.0, 0.5)  # w_i of discovery, reach and safety
    critics: str = "multi"  # one each; "summed": one for all
    floor: float = 1e-6  # a spread of advantages up to this is silence [units of the reward]

    def __post_init__(self) -> None:
        if self.critics not in CRITICS:
            raise ValueError(f"critics is {self.critics!r}; choose one of {', '.join(CRITICS)}")
        if len(self.weights) != len(NAMES) or min(self.weights) < 0:
            raise ValueError(f"weights is {self.weights}; give {len(NAMES)} numbers from 0 on, for {', '.join(NAMES)}")


# ---- the pieces -----------------------------------------------------------------------------------------------------


def normalise(advantages: np.ndarray, floor: float) -> np.ndarray:
    """Zero mean and unit spread over all entries, whatever the shape; all zeros where the spread is at most `floor`."""
    spread = advantages.std()
    return (advantages - advantages.mean()) / spread if spread > floor else np.zeros_like(advantages)


def combine(advantages: np.ndarray, weights: Sequence[float], floor: float) -> np.ndarray:
    """One advantage (T, N) of several (K, T, N): each is normalised by itself, then weighted by its of weights (K,)."""
    return sum(w * normalise(a, floor) for w, a in zip(weights, advantages, strict=True))


def merge(terms: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """The control's single reward (..., 1) of terms (..., 3)."""
    return (terms * np.asarray(weights)).sum(axis=-1, keepdims=True).astype(terms.dtype)


def loss(agent: MultiCritic, batch: dict[str, torch.Tensor], cfg: Config) -> tuple[torch.Tensor, dict[str, float]]:
    """PPO's surrogate on the combined advantage, and each critic's regression in units of its own returns."""
    log_probs = ppo.log_prob(batch["actions"], agent.actor(batch["obs"]), agent.log_std)
    actor = ppo.clipped_loss(log_probs, batch["log_probs"], batch["advantages"], cfg.clip)
    errors = (agent.value(batch["obs"]) - batch["returns"]) / agent.scale.clamp_min(cfg.floor)
    critic = errors.square().mean(dim=0)
    entropy = (agent.log_std + 0.5 * np.log(2 * np.pi * np.e)).sum()
    total = actor + cfg.value_weight * critic.sum() - cfg.entropy_weight * entropy
    kl = ((log_probs - batch["log_probs"]).exp() - 1 - (log_probs - batch["log_probs"])).mean()
    parts = {f"value_loss_{name}": v for name, v in zip(agent.names, critic.tolist(), strict=True)}
    return total, {"policy_loss": actor.item(), "kl": kl.item()} | parts


# ---- state ----------------------------------------------------------------------------------------------------------


class MultiCritic(ppo.ActorCritic):
    """PPO's actor with a critic for each name.

    Critics predict in units of `scale` (K,), the size of their returns, so that none is louder than another in the
    gradient. They start at zero: until a reward is first heard of, its advantages are exactly zero.
    """

    def __init__(self, obs_dim: int, low: np.ndarray, high: np.ndarray, cfg: Config, generator: torch.Generator):
        super().__init__(obs_dim, low, high, cfg, generator)
        del self.critic
        self.names = NAMES if cfg.critics == "multi" else ("sum",)
        sizes = (obs_dim, *cfg.hidden, 1)
        self.critics = nn.ModuleDict({name: ppo.network(sizes, 0.0, generator) for name in self.names})
        self.register_buffer("scale", torch.zeros(len(self.names)))

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """V_i of observations (..., obs_dim): (..., K)."""
        return self.scale * torch.cat([critic(obs) for critic in self.critics.values()], dim=-1)

    @torch.no_grad()
    def rescale(self, returns: torch.Tensor, floor: float) -> None:
        """Let the units follow returns (B, K), and keep what the critics say (PopArt, van Hasselt et al. 2016)."""
        for k, critic in enumerate(self.critics.values()):
            old, size = self.scale[k].clone(), returns[:, k].square().mean().sqrt()
            if size > floor:
                self.scale[k] = size if old == 0 else (1 - SCALE_RATE) * old + SCALE_RATE * size
                critic[-1].weight *= old / self.scale[k]
                critic[-1].bias *= old / self.scale[k]

    def policy(self) -> MlpPolicy:
        """The actor alone, frozen, to act without torch; its observation is the state and the skill."""
        linear = [m for m in self.actor if isinstance(m, nn.Linear)]
        weights = {f"{i}.{k}": v.detach().numpy().copy() for i, m in enumerate(linear) for k, v in m.named_parameters()}
        return MlpPolicy(weights | {"log_std": self.log_std.detach().numpy().copy()}, low=self.low, high=self.high)


class Collector(ppo.Collector):
    """PPO's collector, which also hears the rewards by name."""

    def _step(self, agent: MultiCritic) -> dict[str, np.ndarray]:
        step = super()._step(agent)
        terms = np.stack([self.env.task.terms[name] for name in NAMES], axis=-1)
        return step | {"terms": terms.astype(np.float32)}

    @torch.no_grad()
    def collect(self, agent: MultiCritic, cfg: Config) -> dict[str, torch.Tensor]:
        """A rollout, flattened; `advantages` (B,) are combined, `returns` (B, K) each critic's own."""
        steps = [self._step(agent) for _ in range(cfg.n_steps)]
        rollout = {k: np.stack([s[k] for s in steps]) for k in steps[0]}
        rewards = rollout["terms"] if cfg.critics == "multi" else merge(rollout["terms"], cfg.weights)
        values, next_values = (agent.value(torch.as_tensor(rollout[k])).numpy() for k in ("obs", "next_obs"))
        ends = rollout.pop("terminated"), rollout.pop("truncated")
        advantages = np.stack([
            ppo.gae(rewards[..., k], values[..., k], next_values[..., k], *ends, cfg.gamma, cfg.gae_lambda)
            for k in range(len(agent.names))
        ])  # fmt: skip
        rollout["advantages"] = combine(advantages, cfg.weights if cfg.critics == "multi" else (1.0,), cfg.floor)
        rollout["returns"] = np.moveaxis(advantages, 0, -1) + values
        return {k: torch.as_tensor(v, dtype=torch.float32).flatten(0, 1) for k, v in rollout.items()}


# ---- training -----------------------------------------------------------------------------------------------------


def train(env: BatchEnv, cfg: Config, *, seed: int) -> Iterator[Metrics]:
    """Learn skills on a batch of `SkillTask`s; yields after each update. The metrics show every reward by name."""
    runtime.one_thread()
    generator = torch.Generator().manual_seed(seed)
    space = env.single_action_space
    agent = MultiCritic(env.single_observation_space.shape[0], space.low, space.high, cfg, generator)
    optimiser = torch.optim.Adam(agent.parameters(), lr=cfg.learning_rate, eps=1e-5)
    collector = Collector(env, seed)
    per_rollout = cfg.n_steps * env.num_envs
    for steps in range(per_rollout, cfg.total_steps + per_rollout, per_rollout):
        rollout = collector.collect(agent, cfg)
        agent.rescale(rollout["returns"], cfg.floor)
        progress = min(steps / cfg.total_steps, 1.0)
        optimiser.param_groups[0]["lr"] = cfg.learning_rate * (1 - (1 - cfg.final_rate) * progress)
        info = ppo.update(agent, optimiser, rollout, cfg, generator, loss)
        means = dict(zip(NAMES, rollout["terms"].mean(dim=0).tolist(), strict=True))
        yield Metrics(ppo._summary(steps, progress, collector) | means | info, agent=agent)


RECIPES = {
    "skills_planar": ("kit/PlanarPush-v0", Config()),
    "skills_arm": (
        "kit/ArmPush-v0",
        Config(total_steps=600_000, num_envs=128, n_epochs=8, hidden=(64, 64), log_std=0.0),
    ),
}


def make(name: str, *, seed: int, out: str | Path) -> Iterator[Metrics]:
    """Train the skills that the kit ships under `name`, and save their policy in the folder `out` at the end."""
    if name not in RECIPES:
        raise ValueError(f"no skills are called {name!r}; there are {', '.join(RECIPES)}")
    env_id, cfg = RECIPES[name]
    metrics = None
    for metrics in train(make_env(env_id, cfg.num_envs), cfg, seed=seed):
        yield metrics
    facts = {"name": name, "env": env_id, "method": "slim", "seed": seed, "steps": int(metrics["steps"])}
    checkpoints.save(metrics.agent.policy(), out, **facts, config=asdict(cfg))
