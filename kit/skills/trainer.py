"""One loop for every reward-free method: play with skills, relabel what was played, learn.

    z ~ p(z) at each episode's start,   a ~ pi(.|s, z)                             collect whole episodes
    (s, a, s', z) from the replay buffer,   r = the method's reward of now         relabel when sampled
    method.update(batch);   SAC on concat([s, z])                                  update

A reward that is being learned changes under the data, so none is ever stored. The end of a skill's episode is a time
limit, not a termination: values bootstrap through it. The methods are `diayn`, `lsd`, `csd`, `metra` and, without
skills, `rnd` and `apt`; SAC is `kit.rl.sac`. Look at `relabel` first, then at `Trainer.epoch`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kit import checkpoints, runtime
from kit.envs.env import BatchEnv
from kit.envs.point_disc import PointDisc
from kit.nets import MlpPolicy, name_layers
from kit.rl import sac
from kit.rl.replay import Replay
from kit.skills import metra
from kit.skills.skill import check_skill
from kit.types import Metrics, SkillMethod


def small_sac(**changes: Any) -> sac.Config:
    """SAC as METRA uses it, at the size of a small world: the wanted entropy is that of two actions, -|A| / 2."""
    settings = {"hidden": (64, 64), "learning_rate": 1e-3, "alpha": 0.1, "target_entropy": -1.0, "activation": "tanh"}
    return sac.Config(**(settings | changes))


@dataclass(frozen=True)
class Config:
    """Settings of a run. The environment's simulations give as many episodes an epoch."""

    method: Any = field(default_factory=metra.Config)  # a method's Config: its `make(obs_dim, generator)`
    epochs: int = 75  # of one episode in every simulation
    updates: int = 40  # of method and SAC, after each epoch
    random_epochs: int = 2  # with random actions, before the first update
    sac: sac.Config = field(default_factory=small_sac)

    def __post_init__(self) -> None:
        if self.random_epochs < 1 or self.epochs <= self.random_epochs:
            raise ValueError(f"epochs is {self.epochs}; it must exceed random_epochs, {self.random_epochs}, at least 1")


# ---- the pieces ---------------------------------------------------------------------------------------------------


def relabel(batch: Mapping[str, torch.Tensor], method: SkillMethod) -> sac.Batch:
    """A batch for SAC from stored `obs`, `actions`, `next_obs`, `terminated`, `skill`: skills behind the observations,
    and the reward that the method gives now."""
    s, z, s2 = (batch[k].numpy() for k in ("obs", "skill", "next_obs"))
    reward = np.asarray(method.reward(s, z, s2), np.float32)
    return {
        "obs": torch.cat([batch["obs"], batch["skill"]], dim=1),
        "next_obs": torch.cat([batch["next_obs"], batch["skill"]], dim=1),
        "actions": batch["actions"],
        "terminated": batch["terminated"],
        "reward": torch.from_numpy(reward),
    }


def redraw(z: np.ndarray, done: np.ndarray, method: SkillMethod, rng: np.random.Generator) -> np.ndarray:
    """Skills (n, dim) with new ones where an episode has ended."""
    if not done.any():
        return z
    return np.where(done[:, None], method.sample_skill(len(z), rng), z)


# ---- state --------------------------------------------------------------------------------------------------------


class SkillAgent:
    """A policy over concat([s, z]) and the method that it learned from, with Stable-Baselines3's `predict`."""

    def __init__(self, policy: sac.Agent, method: SkillMethod, obs_dim: int):
        self.policy, self.method, self.obs_dim = policy, method, obs_dim

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """Actions for observations (obs_dim + dim,) or (n, obs_dim + dim).

        Raises:
            ValueError: the skill has a wrong size or norm.
        """
        rows = np.asarray(observation, np.float32)
        check_skill(rows[..., self.obs_dim :], self.method.dim, self.method.norm)
        return self.policy.predict(rows, state, episode_start, deterministic)

    def export(self) -> MlpPolicy:
        """The policy in NumPy, a tanh network that takes the mean action; `kit.checkpoints.save` writes it.

        Raises:
            ValueError: the policy has other layers than tanh ones.
        """
        actor, n = self.policy.actor, len(self.policy.low)
        if actor.activation is not sac.ACTIVATIONS["tanh"]:
            raise ValueError("only tanh policies can be exported; train with activation='tanh'")
        layers = [
            (w.detach()[0].T.numpy(), b.detach()[0, 0].numpy())
            for w, b in zip(actor.weights, actor.biases, strict=True)
        ]
        layers[-1] = tuple(part[:n] for part in layers[-1])  # the mean, without the log standard deviation
        half, middle = (self.policy.high - self.policy.low) / 2, (self.policy.high + self.policy.low) / 2
        layers.append((np.diag(half), middle))  # behind tanh(mean), so the squashing is a hidden layer's
        layers = [(w.astype(np.float32), b.astype(np.float32)) for w, b in layers]
        weights = name_layers(layers) | {"log_std": np.full(n, -np.inf, np.float32)}
        return MlpPolicy(weights, low=self.policy.low, high=self.policy.high)


class Trainer:
    """All that training depends on. Each epoch starts from freshly reset simulations, so `state_dict` is complete."""

    def __init__(self, env: BatchEnv, cfg: Config, seed: int):
        self.env, self.cfg, self.rng = env.unwrapped, cfg, np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(seed)
        space, obs_dim = self.env.single_action_space, self.env.single_observation_space.shape[0]
        self.method = cfg.method.make(obs_dim, generator)
        dim = self.method.dim
        policy = sac.Agent(obs_dim + dim, space.low, space.high, cfg.sac, generator)
        self.learner, self.agent = sac.Learner(policy, cfg.sac), SkillAgent(policy, self.method, obs_dim)
        shapes = {"obs": (obs_dim,), "actions": space.shape, "next_obs": (obs_dim,), "terminated": (), "skill": (dim,)}
        self.replay, self.epochs = Replay(cfg.sac.capacity, shapes), 0

    def epoch(self) -> dict[str, float]:
        """Collect an episode in every simulation, then update."""
        info = self.collect(random=self.epochs < self.cfg.random_epochs)
        if self.epochs >= self.cfg.random_epochs:
            for _ in range(self.cfg.updates):
                info |= self.update()
        self.epochs += 1
        return info

    def collect(self, random: bool) -> dict[str, float]:
        """`max_steps` steps of every simulation; a new skill wherever an episode starts."""
        env, policy = self.env, self.learner.agent
        obs, _ = env.reset(seed=int(self.rng.integers(2**31)))
        start, z = obs, self.method.sample_skill(env.num_envs, self.rng)
        for _ in range(env.task.max_steps):
            rows = torch.from_numpy(np.concatenate([obs, z], axis=1))
            with torch.no_grad():
                actions = policy.sample(rows)[0].numpy()
            if random:
                actions = self.rng.uniform(-1, 1, actions.shape)
            after, _, terminated, truncated, info = env.step(policy.to_space(actions))
            done, last = terminated | truncated, after
            if done.any():
                last = np.where(done[:, None], info["final_obs"], after)
            self.replay.add(obs=obs, actions=actions, next_obs=last, terminated=terminated, skill=z)
            obs, z = after, redraw(z, done, self.method, self.rng)
        return {"displacement": float(np.linalg.norm(last - start, axis=1).mean())}

    def update(self) -> dict[str, float]:
        """One update of the method, then one of SAC on the same transitions, their rewards computed now."""
        batch = self.replay.sample(self.cfg.sac.batch_size, self.rng)
        info = self.method.update(batch)
        labelled = relabel(batch, self.method)
        return info | self.learner.update(labelled) | {"reward": labelled["reward"].mean().item()}

    def state_dict(self) -> dict[str, Any]:
        parts = {"learner": self.learner, "method": self.method, "replay": self.replay}
        state = {name: part.state_dict() for name, part in parts.items()}
        return copy.deepcopy(state | {"epochs": self.epochs, "rng": self.rng.bit_generator.state})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        state = copy.deepcopy(dict(state))
        for name in ("learner", "method", "replay"):
            getattr(self, name).load_state_dict(state[name])
        self.epochs, self.rng.bit_generator.state = state["epochs"], state["rng"]


# ---- training -----------------------------------------------------------------------------------------------------


def train(env: BatchEnv, cfg: Config, *, seed: int) -> Iterator[Metrics]:
    """Yields after every epoch. The agent is a `SkillAgent`.

    Metrics: `displacement`, how far the epoch's episodes ended from their starts; the losses of method and SAC.
    """
    runtime.one_thread()
    trainer = Trainer(env, cfg, seed)
    steps = trainer.env.num_envs * trainer.env.task.max_steps
    while trainer.epochs < cfg.epochs:
        info = trainer.epoch()
        values = {"steps": float(steps * trainer.epochs), "progress": trainer.epochs / cfg.epochs}
        yield Metrics(values | info, agent=trainer.agent)


def trails(agent: Any, env: BatchEnv, skills: np.ndarray, *, seed: int = 0, deterministic: bool = True) -> np.ndarray:
    """One episode of each skill (n, dim), in an environment of n simulations: observations (max_steps + 1, n, obs_dim).

    Raises:
        ValueError: the environment has another number of simulations.
    """
    env = env.unwrapped
    if len(skills) != env.num_envs:
        raise ValueError(f"{len(skills)} skills for {env.num_envs} simulations; give one each")
    obs, _ = env.reset(seed=seed)
    path = [obs]
    for _ in range(env.task.max_steps):
        action, _ = agent.predict(np.concatenate([obs, skills], axis=1), deterministic=deterministic)
        obs, _, terminated, truncated, info = env.step(action)
        done = terminated | truncated
        path.append(np.where(done[:, None], info["final_obs"], obs) if done.any() else obs)
    return np.stack(path)


def save(agent: SkillAgent, folder: str | Path, **facts: Any) -> Path:
    """Save the policy over concat([s, z]) as a checkpoint whose JSON names the skill's size and norm; `kit.load` reads
    it."""
    skill = {"skill_dim": agent.method.dim, "skill_norm": agent.method.norm}
    return checkpoints.save(agent.export(), folder, **skill, **facts)


def make(name: str, *, seed: int, out: str | Path) -> Iterator[Metrics]:
    """Train the skills that the kit ships as `metra_disc` on `PointDisc`, and save their policy in the folder `out` at
    the end; half a minute.

    Raises:
        ValueError: another name.
    """
    if name != "metra_disc":
        raise ValueError(f"no skills are called {name!r} here; there is metra_disc")
    cfg = Config()
    metrics = None
    for metrics in train(BatchEnv(PointDisc(8)), cfg, seed=seed):
        yield metrics
    facts = {"name": name, "env": "kit/PointDisc-v0", "method": "metra", "seed": seed, "epochs": cfg.epochs}
    save(metrics.agent, out, **facts)
