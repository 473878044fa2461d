"""Residual learning: inverse kinematics brings the tool near the goal, a learned correction does the rest.

Johannink et al. 2019 and Silver et al. 2018.

    u = clip(u_IK + alpha pi(s, u_IK), -1, 1)        pi's last layer starts near zero: at first u = u_IK

u_IK moves the targets along the damped least-squares step of `kit.sim2real.kinematics` from the *targets'* own pose: it
looks at no encoder and knows neither sag nor payload, so the tool ends short of the goal by what the servos give way.
Look first at `ik_action`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from kit.envs import so101
from kit.envs.arm_task import ARM
from kit.sim2real import kinematics
from kit.sim2real.transfer.twin import TwinReach

ALPHA = 0.3  # largest correction, as a share of the action range


def ik_action(target: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Actions (n, 5) in -1..1 that move joint targets (n, 5) [rad] towards tool points (n, 3) [m]."""
    move = kinematics.step(target, goal)
    largest = np.abs(move).max(axis=1, keepdims=True)
    return move / np.maximum(largest, so101.MAX_DELTA)


class ResidualReach(TwinReach):
    """`TwinReach` whose action is a correction of `ik_action`, which the policy also sees (five numbers more)."""

    def __init__(self, num_envs: int = 1, **options: Any):
        super().__init__(num_envs, **options)
        size = self.observation_space.shape[0] + ARM
        self.observation_space = spaces.Box(-10, 10, (size,), np.float32)

    def observe(self, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        base = ik_action(self.target[ids], self.goal[ids])
        return np.concatenate((super().observe(ids), base.astype(np.float32)), axis=1)

    def step(self, actions: np.ndarray) -> None:
        super().step(np.clip(ik_action(self.target, self.goal) + ALPHA * actions, -1, 1))
