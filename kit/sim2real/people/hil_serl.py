"""HIL-SERL: off-policy learning beside a person who shows first, takes over when things go wrong, and is needed less.

Luo et al. 2024, "Precise and Dexterous Robotic Manipulation via Human-in-the-Loop Reinforcement Learning".

    D = demonstrations + interventions,   R = everything the robot did          an intervention goes to both
    batch = half of D, half of R                                                RLPD (Ball et al. 2023), on SAC
    r = 1 on success, else 0;   two critic updates to one of the actor;   gamma = 0.97
    take over   if V(s_t) < alpha V(where the person would be by now),   V(s) = gamma^(steps the person needs from s)

The person's corrections need not be copied: they only lead to where the reward is, and the value then finds a faster
way. `clone` imitates the same number of the person's transitions instead. The world is `peg`, the learner
`kit.rl.sac`, and `takeover` does the same on an arm. Look first at `Buffers.add`, then at `play`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from kit import rollout, runtime
from kit.envs.env import BatchEnv, SingleEnv
from kit.imitation.interventions import should_intervene
from kit.rl import sac
from kit.rl.replay import Replay, half_and_half
from kit.sim2real.people import peg
from kit.types import Metrics

OBS, ACT = 6, 3


@dataclass(frozen=True)
class Person:
    """A scripted operator with a joystick: slow, with a shaky hand, and with eyes worse than the hole's clearance."""

    speed: float = 0.5  # of the robot's largest, which is how operators move
    shake: float = 0.1  # of every action [of the largest]
    sight_m: float = 0.4e-3  # error of where the hole seems to be; drawn anew in each attempt [m]
    sight_rad: float = 0.02  # the same for the tilt [rad]
    patience: int = 10  # steps over which the robot's progress is judged
    alpha: float = 0.8  # a value below this share of the person's own is worth taking over for
    gamma: float = 0.97  # of that value
    hold: int = 10  # steps of the first takeover in an episode; each further one is twice as long


@dataclass(frozen=True)
class Config:
    """Settings of a run. The networks are smaller than the paper's, which see pictures."""

    steps: int = 6_000  # control steps of the robot, at 10 Hz: ten minutes
    demos: int = 20  # episodes that the person shows
    interventions: bool = True  # whether the person takes over
    starts: int = 100  # steps before the first update
    person: Person = field(default_factory=Person)
    window: int = 20  # episodes that a metric looks back on
    every: int = 25  # steps between yields
    sac: sac.Config = field(
        default_factory=lambda: sac.Config(
            batch_size=256, utd=2, actor_every=2, gamma=0.97, alpha=0.01, target_entropy=-ACT / 2,
            backup_entropy=False, activation="tanh", layer_norm=True,
        )
    )  # fmt: skip


# ---- the person -------------------------------------------------------------------------------------------------


def steps_left(q: np.ndarray, speed: float) -> float:
    """Steps that a person of this speed needs from pose q (3,): align above the hole, then go down."""
    aside = np.max(np.abs(q[[0, 2]]) / peg.MAX_STEP[[0, 2]])
    return float(aside + max(q[1] + peg.GOAL, 0) / peg.MAX_STEP[1]) / speed


def falls_behind(left: float, before: float, elapsed: int, person: Person) -> bool:
    """Whether the robot, which had `before` steps to go `elapsed` steps ago and has `left` now, is clearly worse off
    than the person would be."""
    value, own = person.gamma**left, person.gamma ** max(before - elapsed, 0)
    return should_intervene(value, own, person.alpha)


class Operator:
    """The person in an episode: `action` steers, `watch` decides who does. Observations are `Peg`'s."""

    def __init__(self, person: Person, rng: np.random.Generator):
        self.person, self.rng = person, rng
        self.reset()

    def reset(self) -> None:
        self._look()
        self._lift, self._left, self._hold = 0, 0, self.person.hold
        self._judged: deque[float] = deque(maxlen=self.person.patience + 1)

    def _look(self) -> None:
        self._seen = self.rng.normal(size=2) * (self.person.sight_m, self.person.sight_rad)

    def action(self, obs: np.ndarray) -> np.ndarray:
        """Align a little above where the hole seems to be, go down, and when it was the edge, look again: (3,)."""
        q, person = obs[:3] * peg.SCALE, self.person
        if obs[4] < -0.1 and q[1] > -1e-3:  # the edge
            self._look()
            self._lift = 2
        aside = (self._seen - q[[0, 2]]) / peg.MAX_STEP[[0, 2]]
        inside, aligned = q[1] < -1e-3, np.abs(aside).max() < 0.25
        down = -1.0 if inside or (aligned and not self._lift) else (2e-3 - q[1]) / peg.MAX_STEP[1]
        self._lift = max(self._lift - 1, 0)
        wanted = person.speed * np.clip([aside[0], down, aside[1]], -1, 1)
        return np.clip(wanted + person.shake * self.rng.normal(size=3), -1, 1)

    def watch(self, obs: np.ndarray) -> bool:
        """Whether the person steers in the step from here."""
        if self._left > 0:
            self._left -= 1
            return True
        self._judged.append(steps_left(obs[:3] * peg.SCALE, self.person.speed))
        full = len(self._judged) == self._judged.maxlen
        if full and falls_behind(self._judged[-1], self._judged[0], self.person.patience, self.person):
            self._judged.clear()
            self._look()
            self._left, self._hold = self._hold - 1, 2 * self._hold
            return True
        return False


# ---- the two buffers ----------------------------------------------------------------------------------------------


class Buffers:
    """What the robot did (`own`) and what the person showed (`human`)."""

    def __init__(self, obs_dim: int, act_dim: int, cfg: sac.Config):
        self.own, self.human = (sac.replay_for(obs_dim, act_dim, cfg, by_human=()) for _ in range(2))

    def add(self, row: dict[str, np.ndarray], *, human: bool, demo: bool = False) -> None:
        """Store a transition, fields (1, ...), marked `by_human` 0 or 1. What a person did in a takeover is in both."""
        row = row | {"by_human": np.array([float(human or demo)])}
        if not demo:
            self.own.add(**row)
        if human or demo:
            self.human.add(**row)

    def sample(self, n: int, rng: np.random.Generator) -> sac.Batch:
        """Half from each."""
        return half_and_half(self.own, self.human, n, rng)


def play(env: SingleEnv, obs: np.ndarray, action: np.ndarray) -> tuple[dict[str, np.ndarray], bool, bool]:
    """One step: the transition, whether the episode is over, and whether it succeeded."""
    after, reward, terminated, truncated, info = env.step(action)
    row = {"obs": obs, "actions": action, "next_obs": after, "terminated": terminated, "reward": reward}
    return {k: np.asarray(v, np.float32)[None] for k, v in row.items()}, terminated or truncated, info["success"]


def demonstrate(env: SingleEnv, operator: Operator, buffers: Buffers, *, episodes: int = 0, steps: int = 0) -> None:
    """Whole episodes of the person into `buffers.human`: so many, or until it holds so many transitions."""
    while episodes > 0 or len(buffers.human) < steps:
        obs, _ = env.reset()
        operator.reset()
        done, episodes = False, episodes - 1
        while not done and (episodes >= 0 or len(buffers.human) < steps):
            row, done, _ = play(env, obs, operator.action(obs))
            buffers.add(row, human=True, demo=True)
            obs = row["next_obs"][0]


# ---- training -----------------------------------------------------------------------------------------------------


class Session:
    """A robot at work, with a person beside: one step at a time, and a diary of the last episodes."""

    def __init__(self, cfg: Config, agent: sac.Agent, seed: int):
        self.cfg, self.agent, self.rng = cfg, agent, np.random.default_rng(seed)
        self.env, self.operator = SingleEnv(peg.Peg()), Operator(cfg.person, self.rng)
        self.env.reset(seed=seed)
        self.buffers = Buffers(OBS, ACT, cfg.sac)
        demonstrate(self.env, self.operator, self.buffers, episodes=cfg.demos)
        self.episodes: deque[tuple[bool, int, int]] = deque(maxlen=cfg.window)  # (success, steps, held steps)
        self._begin()

    def _begin(self) -> None:
        self.obs, _ = self.env.reset()
        self.operator.reset()
        self._steps = self._held = 0

    def step(self) -> bool:
        """One control step; whether the person made it."""
        held = self.cfg.interventions and self.operator.watch(self.obs)
        action = self.operator.action(self.obs) if held else self.agent.predict(self.obs)[0]
        row, done, success = play(self.env, self.obs, action)
        self.buffers.add(row, human=held)
        self.obs = row["next_obs"][0]
        self._steps, self._held = self._steps + 1, self._held + held
        if done:
            self.episodes.append((success, self._steps, self._held))
            self._begin()
        return held


def train(cfg: Config, *, seed: int) -> Iterator[Metrics]:
    """Alternate control steps and updates. The agent is a `kit.rl.sac.Agent`; its attribute `buffers` holds the data.

    Metrics: `held` (share of the last steps that the person made), and over the last episodes `success`, `alone`
    (succeeded without help) and `cycle_s`; `human_steps` counts what the person steered, demonstrations included.
    """
    runtime.one_thread()
    generator = torch.Generator().manual_seed(seed)
    agent = sac.Agent(OBS, -np.ones(ACT), np.ones(ACT), cfg.sac, generator)
    learner, session = sac.Learner(agent, cfg.sac), Session(cfg, agent, seed)
    agent.buffers = session.buffers
    held: deque[bool] = deque(maxlen=cfg.window * 50)
    info: dict[str, float] = {}
    for steps in range(1, cfg.steps + 1):
        held.append(session.step())
        if steps >= cfg.starts:
            for k in range(int(cfg.sac.utd)):
                batch = session.buffers.sample(cfg.sac.batch_size, session.rng)
                info |= learner.update(batch, actor=(steps * int(cfg.sac.utd) + k) % cfg.sac.actor_every == 0)
        if steps % cfg.every == 0 or steps == cfg.steps:
            values = {"steps": float(steps), "progress": steps / cfg.steps, "held": float(np.mean(held))}
            yield Metrics(values | _diary(session) | info, agent=agent)


def _diary(session: Session) -> dict[str, float]:
    values = {"human_steps": float(len(session.buffers.human))}
    if session.episodes:
        success, steps, held = np.array(session.episodes, float).T
        values |= {"success": success.mean(), "alone": (success * (held == 0)).mean()}
        values["cycle_s"] = float(steps.mean() / peg.Peg.fps)
    return values


# ---- beside it: imitation -----------------------------------------------------------------------------------------


def clone(data: Replay, cfg: sac.Config, *, seed: int, steps: int = 5000) -> sac.Agent:
    """Behaviour cloning: the same policy network, fitted to the person's actions by least squares, at a rate that falls
    to zero, which did best of what was tried.

    Raises:
        ValueError: there are no data.
    """
    runtime.one_thread()
    rng = np.random.default_rng(seed)
    agent = sac.Agent(OBS, -np.ones(ACT), np.ones(ACT), cfg, torch.Generator().manual_seed(seed))
    optimiser = torch.optim.Adam(agent.actor.parameters(), lr=1e-3, fused=True)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1e-3 * (1 - step / steps)
        batch = data.sample(cfg.batch_size, rng)
        loss = (torch.tanh(agent.policy(batch["obs"])[0]) - batch["actions"]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return agent


def shown(cfg: Config, steps: int, *, seed: int) -> Replay:
    """Demonstrations of the same person until there are `steps` transitions; the last episode may be cut."""
    env, buffers = SingleEnv(peg.Peg()), Buffers(OBS, ACT, cfg.sac)
    env.reset(seed=seed)
    demonstrate(env, Operator(cfg.person, np.random.default_rng(seed)), buffers, steps=steps)
    return buffers.human


def evaluate(agent: sac.Agent, *, seed: int, episodes: int = 200) -> dict[str, float]:
    """Without a person and without noise: `success`, `cycle_s` of successes (NaN without any), and `episode_s` of all
    episodes, in which a failure lasts until the time limit [s]."""
    found = rollout.evaluate(agent, BatchEnv(peg.Peg(episodes)), seed=seed)
    seconds = found.lengths / peg.Peg.fps
    cycle = float(seconds[found.success].mean()) if found.success.any() else float("nan")
    return {"success": float(found.success.mean()), "cycle_s": cycle, "episode_s": float(seconds.mean())}


def evaluate_person(person: Person, *, seed: int, episodes: int = 100) -> dict[str, float]:
    """The same of the person alone."""
    env, operator = SingleEnv(peg.Peg()), Operator(person, np.random.default_rng(seed))
    obs, _ = env.reset(seed=seed)
    successes, seconds = [], []
    for _ in range(episodes):
        operator.reset()
        steps, done = 0, False
        while not done:
            row, done, success = play(env, obs, operator.action(obs))
            obs, steps = row["next_obs"][0], steps + 1
        successes.append(success)
        seconds.append(steps / peg.Peg.fps)
        obs, _ = env.reset()
    well = np.array(successes)
    cycle = float(np.array(seconds)[well].mean()) if well.any() else float("nan")
    return {"success": float(well.mean()), "cycle_s": cycle, "episode_s": float(np.mean(seconds))}
