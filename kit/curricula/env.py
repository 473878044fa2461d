"""A teacher between an environment and whoever resets it: `CurriculumEnv`, single or batched.

    env = CurriculumEnv(gym.make("kit/PointMaze-v0"), RandomTeacher())           # one simulation
    envs = CurriculumEnv(gym.make_vec("kit/Track-v0", num_envs=64), ALPGMM())    # a batch that restarts by itself

Every episode runs a task of the teacher's, whose number is `info["task_id"]`, and its return goes back to the teacher
when it ends. A seed is a seed and never a task; `reset(options={"task": ...})` overrides the teacher for that episode.
In a batch the next task is asked for in the very step that ends the last one, just before that one's return is told.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from kit.curricula.space import Space, Task
from kit.curricula.teacher import Feedback, Teacher


def CurriculumEnv(env: Any, teacher: Teacher, *, tell: bool = True) -> Any:
    """`env` with its tasks chosen by `teacher`, which gets the environment's task space if it has none.

    With `tell=False` somebody else gives the feedback, such as `kit.curricula.sb3.TeacherCallback`.

    Raises:
        ValueError: the teacher's space is not the environment's.
    """
    space = Space.of(env)
    if teacher._space is None:
        teacher.space = space
    if teacher.space.spec() != space.spec():
        raise ValueError(f"the teacher's space is {teacher.space}; this environment's is {space}")
    kind = _Batched if isinstance(env.unwrapped, VectorEnv) else _Single
    return kind(env, teacher, tell)


def named(task: Task) -> dict[str, Any]:
    """A task as `reset(options={"task": ...})` takes it."""
    return task.values | {"task_id": task.id}


class _Single(gym.Wrapper):
    def __init__(self, env: gym.Env, teacher: Teacher, tell: bool):
        super().__init__(env)
        self.teacher, self.tells = teacher, tell
        self.task: Task | None = None  # None: the running episode is nobody's, or over
        self._return, self._length = 0.0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        if self.task is not None:
            self.teacher.drop([self.task.id])
        self.task = None
        self._return, self._length = 0.0, 0
        if "task" not in (options or {}):
            self.task = self.teacher.ask()[0]
            options = {**(options or {}), "task": named(self.task)}
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._return += reward
        self._length += 1
        if (terminated or truncated) and self.task is not None:
            if self.tells:
                success = bool(info.get("success", False))
                self.teacher.tell(Feedback(self.task.id, self._return, success, length=self._length))
            self.task = None
        return obs, reward, terminated, truncated, info


class _Batched(VectorWrapper):
    def __init__(self, env: VectorEnv, teacher: Teacher, tell: bool):
        super().__init__(env)
        self.teacher, self.tells = teacher, tell
        self._returns, self._lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, int)
        self.unwrapped.task_source = self._next_tasks

    def _next_tasks(self, ids: np.ndarray) -> list[dict[str, Any]]:
        return [named(task) for task in self.teacher.ask(len(ids))]

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None):
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        before = self.unwrapped.episodes.ids.copy()
        obs, info = self.env.reset(seed=seed, options=options)
        self.teacher.drop(before[mask].tolist())
        self._returns[mask] = self._lengths[mask] = 0
        return obs, info

    def step(self, actions: Any):
        obs, reward, terminated, truncated, info = self.env.step(actions)
        self._returns += reward
        self._lengths += 1
        done = terminated | truncated
        if done.any() and self.tells:
            self.teacher.tell(self._feedback(np.flatnonzero(done), info["final_info"]))
        self._returns[done] = self._lengths[done] = 0
        return obs, reward, terminated, truncated, info

    def _feedback(self, ids: np.ndarray, last: dict[str, np.ndarray]) -> list[Feedback]:
        ours = [i for i in ids if last["task_id"][i] >= 0]
        return [
            Feedback(
                int(last["task_id"][i]),
                float(self._returns[i]),
                bool(last["success"][i]),
                length=int(self._lengths[i]),
            )
            for i in ours
        ]
