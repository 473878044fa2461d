"""Pushing skills as tasks: a world with an arm and something to push, a skill for its goal, three rewards by name.

    discovery   r_1 = (x' - x) . z            x: where the puck is. LSD (Park et al. 2022) with its map kept at identity
    reach       r_2 = |e - x| - |e' - x'|     e: where the tool is
    safety      r_3 = -1[joint limit or out of the work space or too fast]

`VIEWS` says what of `kit/PlanarPush-v0` and `kit/ArmPush-v0` is puck, tool and unsafe; another world needs one more.
Look at `SkillTask.step` first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from kit.envs import make_task, so101
from kit.envs.env import BatchEnv
from kit.envs.task import Fields, Task, TaskSpace
from kit.skills.skill import check_skill, directional_reward

NAMES = ("discovery", "reach", "safety")
SKILL_DIM = 2


@dataclass(frozen=True)
class View:
    """What SLIM needs to know of a task with an arm and something to push."""

    columns: np.ndarray  # of the task's state that do not depend on its goal
    puck: Callable[[Any], np.ndarray]  # (n, 2) [m]
    tool: Callable[[Any], np.ndarray]  # (n, 2 or 3) [m]
    gap: Callable[[Any], np.ndarray]  # from tool to puck (n,) [m]
    unsafe: Callable[[Any, np.ndarray], np.ndarray]  # (task, speeds of the tool (n,) [m/s]) -> bool (n,)
    read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # state (n, d) -> puck and tool (n, 4), goal (n, 2) [m]
    length: float  # radius of the puck [m]
    max_steps: int  # of a skill
    base: tuple[float, float]  # where the arm stands [m]
    reach: float  # how far from there a puck can be pushed [m]


# What is unsafe for the SO-101's tool and joints.
TOOL_SPEED = 0.5  # faster [m/s]
TOOL_LOW, TOOL_HIGH = np.array([0.05, -0.30, 0.004]), np.array([0.48, 0.30, np.inf])  # outside: z is over the table [m]
JOINT_MARGIN = 0.05  # nearer to a joint's limit [rad]


def _arm_unsafe(task: Any, speed: np.ndarray) -> np.ndarray:
    q, tool = task.arm(slice(None))[0], task.tool
    joint = ((q < task._low + JOINT_MARGIN) | (q > task._high - JOINT_MARGIN)).any(axis=1)
    outside = ((tool < TOOL_LOW) | (tool > TOOL_HIGH)).any(axis=1)
    return joint | outside | (speed > TOOL_SPEED)


def _read_planar(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tool, puck, ahead = 0.3 * state[:, 4:6], 0.3 * state[:, 6:8], 0.1 * state[:, 10:12]
    return np.concatenate((puck, tool), axis=1), puck + ahead


def _read_arm(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The state's points turn with the pan joint, in whose plane the tool lies."""
    pan = state[:, 0]
    back = np.array([[np.cos(pan), np.sin(pan)], [-np.sin(pan), np.cos(pan)]])  # (2, 2, n)
    tool = np.stack((state[:, 15] / 4, np.zeros(len(pan))), axis=1)
    cube = tool + state[:, 17:19] / 10
    goal = cube + state[:, 20:22] / 5
    origin = np.array([so101.PAN_AXIS_X, 0.0])
    tool, cube, goal = (np.einsum("ijn,nj->ni", back, p) + origin for p in (tool, cube, goal))
    return np.concatenate((cube, tool), axis=1), goal


VIEWS = {
    "PlanarPush": View(
        columns=np.arange(10),
        puck=lambda task: task.puck,
        tool=lambda task: task.tip,
        gap=lambda task: np.linalg.norm(task.tip - task.puck, axis=1),
        unsafe=lambda task, speed: task.unsafe.any(axis=1),
        read=_read_planar,
        length=0.04,
        max_steps=60,
        base=(0.0, 0.0),
        reach=0.66,
    ),
    "ArmPush": View(
        columns=np.r_[0:20, 28:32],
        puck=lambda task: task.cube[:, :2],
        tool=lambda task: task.tool,
        gap=lambda task: np.linalg.norm(task.tool - task.cube, axis=1),
        unsafe=_arm_unsafe,
        read=_read_arm,
        length=0.02,
        max_steps=90,
        base=(so101.PAN_AXIS_X, 0.0),
        reach=0.45,
    ),
}


def view_of(task: Task) -> View:
    if type(task).__name__ not in VIEWS:
        raise ValueError(f"no skills for {type(task).__name__}; there are for {', '.join(VIEWS)}")
    return VIEWS[type(task).__name__]


class SkillTask(Task):
    """Another task's world, with a skill for its goal: one more task field, `skill`, a unit vector (2,).

    State: the task's own without its goal, then the skill. `terms` has the last step's rewards by name, each
    (num_envs,), `travel` where each puck was then, less where its episode began (num_envs, 2) [m]; both outlive the
    restart of an episode. Success is a puck that has gone four radii along its skill.
    """

    live_fields = ("skill",)

    def __init__(self, task: Task, *, max_steps: int | None = None, unit: float | None = None):
        """`unit` is the length that counts as 1 in the rewards [m], by default the puck's radius."""
        super().__init__(task.num_envs)
        self.task, self.view = task, view_of(task)
        self.unit = unit or self.view.length
        self.max_steps, self.fps = max_steps or self.view.max_steps, task.fps
        skill = spaces.Box(-1, 1, (SKILL_DIM,), np.float64)
        self.task_space, self.action_space = TaskSpace(**task.task_space.fields, skill=skill), task.action_space
        self.observation_space = spaces.Box(-10, 10, (len(self.view.columns) + SKILL_DIM,), np.float32)
        self.z, self.start, self.travel = (np.zeros((task.num_envs, SKILL_DIM)) for _ in range(3))
        self.terms = {name: np.zeros(task.num_envs) for name in NAMES}

    def reset(self, ids: np.ndarray, given: Fields, rngs: Sequence[np.random.Generator]) -> Fields:
        angles = 2 * np.pi * np.array([rng.random() for rng in rngs])
        skills = given.get("skill", np.stack((np.cos(angles), np.sin(angles)), axis=1))
        check_skill(skills, SKILL_DIM)
        tasks = self.task.reset(ids, {k: v for k, v in given.items() if k != "skill"}, rngs)
        self.z[ids], self.start[ids] = skills, self.view.puck(self.task)[ids]
        return tasks | {"skill": skills}

    def retask(self, ids: np.ndarray, fields: Fields) -> None:
        self.z[ids] = check_skill(fields.get("skill", self.z[ids]), SKILL_DIM)

    def step(self, actions: np.ndarray) -> None:
        view, task = self.view, self.task
        puck, tool, gap = view.puck(task).copy(), view.tool(task).copy(), view.gap(task)
        task.step(actions)
        self.failed = task.failed
        speed = np.linalg.norm(view.tool(task) - tool, axis=1) * self.fps
        self.travel = view.puck(task) - self.start
        terms = {
            "discovery": directional_reward(puck, view.puck(task), self.z) / self.unit,
            "reach": (gap - view.gap(task)) / self.unit,
            "safety": -view.unsafe(task, speed).astype(float),
        }
        self.terms = {k: np.where(self.failed, 0.0, np.nan_to_num(v)) for k, v in terms.items()}

    def observe(self, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        state = self.task.observe(ids)[:, self.view.columns]
        return np.concatenate((state, self.z[ids]), axis=1, dtype=np.float32)

    def judge(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        _, terminated, _ = self.task.judge(actions)
        along = (self.travel * self.z).sum(axis=1)
        return sum(self.terms.values()), terminated, along > 4 * self.view.length

    def render(self, sim: int) -> np.ndarray:
        return self.task.render(sim)

    def close(self) -> None:
        self.task.close()

    @property
    def model(self) -> Any:
        return self.task.model

    @property
    def data(self) -> Any:
        return self.task.data

    def markers(self, sim: int = 0) -> dict:
        """Where a puck would be after a long push along its skill, for live scenes."""
        puck = self.view.puck(self.task)[sim] + 5 * self.view.length * self.z[sim]
        return {"skill": (np.append(puck, 0.0), 0.4 * self.view.length, (0.9, 0.62, 0.0, 0.8))}


def make_env(
    env_id: str, num_envs: int, *, max_steps: int | None = None, unit: float | None = None, **options: Any
) -> BatchEnv:
    """A batch of `kit/PlanarPush-v0` or `kit/ArmPush-v0` with skills for goals; `options` are the task's own."""
    return BatchEnv(SkillTask(make_task(env_id, num_envs, **options), max_steps=max_steps, unit=unit))


# ---- judging ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rollouts:
    """One skill a simulation, from start to end."""

    skills: np.ndarray  # (n, 2)
    travel: np.ndarray  # of the puck since the start, (T, n, 2) [m]; as it was at the end, once an episode is over
    unsafe: np.ndarray  # bool (T, n); False once an episode is over
    running: np.ndarray  # bool (T, n)

    @property
    def violations(self) -> float:
        """Share of steps that were unsafe."""
        return float(self.unsafe.sum() / self.running.sum())

    def cells(self, size: float = 0.04) -> int:
        """How many squares of side `size` [m] pucks came to, counted from where each began (which is not counted)."""
        where = np.unique(np.floor(self.travel.reshape(-1, 2) / size + 0.5).astype(int), axis=0)
        return int((where != 0).any(axis=1).sum())


def play(policy: Any, env: BatchEnv, skills: np.ndarray, *, seed: int) -> Rollouts:
    """Play skills (n, 2), one in each simulation of the batch, without noise; starts are drawn from `seed`."""
    task = env.task
    check_skill(skills, SKILL_DIM)
    obs, _ = env.reset(seed=seed, options={"task": {"skill": skills}})
    running, travel = np.ones(env.num_envs, bool), np.zeros((env.num_envs, 2))
    frames = []
    for _ in range(task.max_steps):
        obs, _, terminated, truncated, _ = env.step(policy.predict(obs, deterministic=True)[0])
        travel = np.where(running[:, None], task.travel, travel)
        frames.append((travel, (task.terms["safety"] < 0) & running, running))
        running = running & ~(terminated | truncated)
    return Rollouts(np.asarray(skills), *map(np.array, zip(*frames, strict=True)))
