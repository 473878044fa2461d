"""The same question for pushing: what a hidden twin costs, and what training in it, or in random arms, brings back.

Learning to push takes minutes, so all arms of this study start from the policy that ships, `kit.load("arm_push")`, and
train on for as many steps, each in its own world: the nominal arm (naive), the hidden twin (oracle), or arms drawn from
`kit.sim2real.transfer.study.PRIOR` (latency). A shipped policy has no critic; during the first updates only the new
one learns, since wrong values would spoil a good policy. Look first at `warm_objective`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from kit import checkpoints
from kit.envs.env import BatchEnv
from kit.nets import MlpPolicy
from kit.rl import ppo
from kit.rollout import evaluate
from kit.sim2real.transfer.study import DRAW_SEED, EPISODES, PRIOR
from kit.sim2real.transfer.twin import NOMINAL, TWIN_A, GapRange, TwinPush
from kit.types import Metrics, Policy

WORLDS: dict[str, GapRange] = {"naive": NOMINAL, "oracle": TWIN_A, "latency": PRIOR}


@dataclass(frozen=True)
class Config:
    """One run."""

    ppo: ppo.Config = field(
        default_factory=lambda: ppo.Config(
            total_steps=300_000, batch_size=1024, n_epochs=5, learning_rate=3e-4, final_rate=0.1, gamma=0.98
        )
    )
    num_envs: int = 128  # simulations stepped together
    warm: float = 0.15  # share of all updates in which only the critic learns
    log_std: float = -1.2  # of the policy when it starts to learn on


def from_shipped(policy: MlpPolicy, log_std: float):
    """For `ppo.train(build=...)`: an `ActorCritic` whose policy is the shipped one."""

    def build(obs_dim: int, low: np.ndarray, high: np.ndarray, cfg: ppo.Config, generator: torch.Generator):
        agent = ppo.ActorCritic(obs_dim, low, high, dataclasses.replace(cfg, log_std=log_std), generator)
        layers = [layer for layer in agent.actor if isinstance(layer, torch.nn.Linear)]
        with torch.no_grad():
            for layer, (weight, bias) in zip(layers, policy.layers, strict=True):
                layer.weight.copy_(torch.as_tensor(weight))
                layer.bias.copy_(torch.as_tensor(bias))
        return agent

    return build


def warm_objective(first: int) -> ppo.Objective:
    """PPO's loss, but in the `first` minibatches only the critic's part of it."""
    seen = 0

    def objective(agent: ppo.ActorCritic, batch: dict[str, torch.Tensor], cfg: ppo.Config):
        nonlocal seen
        seen += 1
        if seen > first:
            return ppo.loss(agent, batch, cfg)
        critic = ((agent.value(batch["obs"]) - batch["returns"]) ** 2).mean()
        return cfg.value_weight * critic, {"value_loss": critic.item()}

    return objective


def train(world: str, cfg: Config, *, seed: int) -> Iterator[Metrics]:
    """Train the shipped policy on in a world; the agent is an `ActorCritic`.

    Raises:
        ValueError: no such world.
    """
    if world not in WORLDS:
        raise ValueError(f"no world is called {world!r}; there are {', '.join(WORLDS)}")
    env = BatchEnv(TwinPush(cfg.num_envs, gap=WORLDS[world], nthread=1))
    per_rollout = cfg.ppo.n_steps * cfg.num_envs
    updates = -(-cfg.ppo.total_steps // per_rollout) * cfg.ppo.n_epochs * -(-per_rollout // cfg.ppo.batch_size)
    build = from_shipped(checkpoints.load("arm_push"), cfg.log_std)
    try:
        yield from ppo.train(env, cfg.ppo, seed=seed, build=build, objective=warm_objective(round(cfg.warm * updates)))
    finally:
        env.close()


def judge(policy: Policy, *, seed: int) -> dict[str, float]:
    """Success in nominal and in the twin on the same 100 held-out tasks."""
    found = {}
    for where, gap in (("nominal", NOMINAL), ("twin", TWIN_A)):
        env = BatchEnv(TwinPush(EPISODES, gap=gap, nthread=1))
        try:
            found[where] = evaluate(policy, env, seed=DRAW_SEED + EPISODES * seed).rate.value
        finally:
            env.close()
    return found | {"gap": found["nominal"] - found["twin"]}


def run(world: str, cfg: Config, *, seed: int) -> dict[str, float]:
    """Train and judge on one seed; the world "shipped" judges the shipped policy as it is."""
    if world == "shipped":
        return judge(checkpoints.load("arm_push"), seed=seed)
    *_, last = train(world, cfg, seed=seed)
    return judge(last.agent, seed=seed)
