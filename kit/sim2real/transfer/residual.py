"""Residual learning: inverse kinematics says where the joints should be, a learned correction makes the tool get there.

Johannink et al. 2019 and Silver et al. 2018.

    q*  <- q* + J'(J J' + lambda^2 I)^-1 (goal - p(q*))      inverse kinematics, at most 0.05 rad a step
    u    = q* + alpha pi(s, q*)                              the joints' targets; pi's last layer starts near zero

The first line looks at no encoder and knows neither sag nor payload: alone it ends short of the goal by what the servos
give way. Look first at `advance_base`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from kit.envs import so101
from kit.envs.arm_task import ARM
from kit.envs.task import Fields
from kit.sim2real import kinematics
from kit.sim2real.transfer.twin import TwinReach

ALPHA = 0.15  # largest correction [rad]: twice the sag of the stretched arm


def advance_base(base: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """One control step of a pose (n, 5) [rad] towards tool points (n, 3) [m], each joint by at most 0.05 rad.

    Where a joint would have to go faster all of them go slower, so that the direction is kept.
    """
    move = kinematics.step(base, goal)
    largest = np.abs(move).max(axis=1, keepdims=True)
    return base + move * np.minimum(so101.MAX_DELTA / np.maximum(largest, 1e-9), 1.0)


class ResidualReach(TwinReach):
    """`TwinReach` whose action is a correction of inverse kinematics, whose pose the policy sees too (five numbers)."""

    def __init__(self, num_envs: int = 1, **options: Any):
        super().__init__(num_envs, **options)
        self.base = np.zeros((num_envs, ARM))  # q* [rad]
        size = self.observation_space.shape[0] + ARM
        self.observation_space = spaces.Box(-10, 10, (size,), np.float32)

    def reset(self, ids: np.ndarray, given: Fields, rngs: Sequence[np.random.Generator]) -> Fields:
        fields = super().reset(ids, given, rngs)
        self.base[ids] = self.target[ids]
        return fields

    def observe(self, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        ahead = 5 * (self.base[ids] - self._seen[ids])
        return np.concatenate((super().observe(ids), ahead.clip(-10, 10).astype(np.float32)), axis=1)

    def step(self, actions: np.ndarray) -> None:
        self.base = advance_base(self.base, self.goal).clip(self._low, self._high)
        wanted = self.base + ALPHA * actions
        super().step(np.clip((wanted - self.target) / so101.MAX_DELTA, -1, 1))
