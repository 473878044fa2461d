"""Stable-Baselines3 under a teacher: one callback that scores every finished episode.

    envs = CurriculumEnv(gym.make_vec("kit/Track-v0", num_envs=64), ALPGMM(), tell=False)
    model = PPO("MlpPolicy", BatchVecEnv(envs))
    model.learn(1_000_000, callback=TeacherCallback(envs.teacher))

Beside the return, environment design asks how well the student knows a task. Over an episode of T steps, with the
advantages A_t of generalised advantage estimation (Schulman et al. 2016) under the values that the student had as it
played,

    pvl = 1/T sum max(A_t, 0)      abs_advantage = 1/T sum |A_t|      value = V(s_0)      mean_value = 1/T sum V(s_t)

The traces are the callback's own, because an episode may span several rollouts. An episode that was cut short before
its time limit (`BatchVecEnv(stagger=True)` does that to the first ones) says little about its task and is dropped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor

from kit.curricula.teacher import Feedback, Teacher
from kit.rl.ppo import gae


def scores(rewards: np.ndarray, values: np.ndarray, last_value: float, gamma: float, lam: float) -> dict[str, float]:
    """The scores above for one episode: rewards (T,), values (T,), and the value of the state after the last step.

    `last_value` is 0 where the episode terminated.
    """
    column = np.asarray(values, dtype=np.float64)[:, None]
    following = np.append(column[1:], [[last_value]], axis=0)
    never = np.zeros_like(column)
    advantages = gae(np.asarray(rewards, np.float64)[:, None], column, following, never, never, gamma, lam)
    return {
        "value": float(column[0, 0]),
        "mean_value": float(column.mean()),
        "pvl": float(np.maximum(advantages, 0).mean()),
        "abs_advantage": float(np.abs(advantages).mean()),
    }


class TeacherCallback(BaseCallback):
    """Tells `teacher` about every finished episode that carries a `task_id` of its.

    On-policy models give value and advantage scores too; off-policy ones only return, success and length.
    """

    def __init__(self, teacher: Teacher):
        super().__init__()
        self.teacher = teacher

    def _on_training_start(self) -> None:
        n = self.training_env.num_envs
        self._rewards: list[list[float]] = [[] for _ in range(n)]
        self._values: list[list[float]] = [[] for _ in range(n)]

    def _on_step(self) -> bool:
        infos, dones, rewards = (self.locals[k] for k in ("infos", "dones", "rewards"))
        values = self.locals["values"].flatten().tolist() if "values" in self.locals else None
        for i, reward in enumerate(rewards.tolist()):
            self._rewards[i].append(reward)
            if values is not None:
                self._values[i].append(values[i])
        feedback = [self._finish(i, infos[i], values is not None) for i in np.flatnonzero(dones)]
        self.teacher.tell(fb for fb in feedback if fb is not None)
        return True

    def _finish(self, i: int, info: dict[str, Any], scored: bool) -> Feedback | None:
        rewards, values = self._rewards[i], self._values[i]
        self._rewards[i], self._values[i] = [], []
        task_id, truncated = info.get("task_id", -1), info.get("TimeLimit.truncated", False)
        if task_id < 0:
            return None
        if truncated and len(rewards) < self._time_limit():
            self.teacher.drop([task_id])
            return None
        success = info.get("is_success", info.get("success"))
        last = self._value_of(info["terminal_observation"]) if truncated and scored else 0.0
        extra = scores(rewards, values, last, self.model.gamma, self.model.gae_lambda) if scored else {}
        return Feedback(task_id, float(np.sum(rewards)), success, length=len(rewards), **extra)

    def _time_limit(self) -> int:
        """Steps of a whole episode in the kit's batches; other environments never cut one short."""
        task = getattr(getattr(self.training_env, "env", None), "task", None)
        return getattr(task, "max_steps", 0)

    @torch.no_grad()
    def _value_of(self, obs: np.ndarray) -> float:
        return float(self.model.policy.predict_values(obs_as_tensor(obs[None], self.model.device)))
