"""`kit/ArmReach-v0`: bring the tool of an SO-101 to a point and hold it there.

30 Hz, 3 s, actions as in `kit.envs.arm_task`. Success is a tool within 2 cm of the goal during the whole last half
second.

    reward = -2 d + [d < 2 cm] + exp(-d^2 / 2 (5 cm)^2) / 2 - 0.02 |a|^2
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces

from kit.envs import so101, workspace
from kit.envs.arm_task import ARM, ArmTask, arm_frame, with_pixels
from kit.envs.pixels import Markers
from kit.envs.task import Fields, TaskSpace

GOAL_TOLERANCE = 0.02  # [m]
MIN_START_DISTANCE = 0.10  # from the starting tool point to the goal [m]
LOWEST_GOAL = 0.03  # above the table [m]
HOLD_S = 0.5  # the goal must be held for this last part of the episode [s]


def joint_limits() -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limits of all six joints [rad]."""
    low, high = so101.make_spec(scene="so101").compile().jnt_range.T
    return low.copy(), high.copy()


def reach_state(q: np.ndarray, qd: np.ndarray, ahead: np.ndarray, tool: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """What a reach policy sees, (n, 24) float32, whether the numbers come from a simulation or from an arm's encoders.

    q, qd, ahead (n, 5): joint angles [rad], speeds [rad/s], targets less angles [rad]; tool, goal (n, 3) [m].
    """
    tool, goal = arm_frame(np.stack((tool, goal)), q[:, 0])
    state = np.empty((len(q), 24), np.float32)
    state[:, 0:5] = q
    state[:, 5:10] = 0.2 * qd
    state[:, 10:15] = ahead
    state[:, 15:18] = 4 * tool
    state[:, 18:21] = 4 * goal
    state[:, 21:24] = 10 * (goal - tool)
    return state.clip(-10, 10, out=state)


class ArmReach(ArmTask):
    """Task fields: `start`, five joint angles [rad]; `goal`, a point in the workspace [m].

    State (24,), scaled to order one and clipped to +-10: q, 0.2 qd, target - q, 4 tool, 4 goal, 10 (goal - tool). The
    points are in the frame that turns with the pan joint: what the other joints have to do is the same at any bearing.
    """

    live_fields = ("goal",)

    def __init__(self, num_envs: int = 1, *, max_steps: int = 90, camera: str | None = None, **options: Any):
        super().__init__(num_envs, max_steps=max_steps, camera=camera, **options)
        box = [np.asarray(b) for b in workspace.bounds(LOWEST_GOAL)]
        self.task_space = TaskSpace(
            start=spaces.Box(self._low, self._high, dtype=np.float64), goal=spaces.Box(*box, dtype=np.float64)
        )
        self.observation_space = with_pixels(spaces.Box(-10, 10, (24,), np.float32), camera)
        self.goal = np.zeros((num_envs, 3))
        self._held = np.zeros(num_envs, int)  # control steps in a row within tolerance
        self._hold = round(HOLD_S * self.fps)

    def build(self, servo: str | so101.Servo | so101.StiffServo, max_delay: float) -> mujoco.MjSpec:
        return so101.make_spec(servo, max_delay=max_delay)

    def reset(self, ids: np.ndarray, given: Fields, rngs: Sequence[np.random.Generator]) -> Fields:
        self._check_goal(given)
        self.begin(ids, rngs)
        start = given.get("start")
        if start is None:
            start = np.stack([draw_start(rng) for rng in rngs]) if len(ids) else np.zeros((0, ARM))
        self.put(ids, np.column_stack([start, np.full(len(ids), so101.CLOSED)]))
        self.settle(ids)
        goal = given.get("goal")
        if goal is None:
            goal = self.goal[ids]
            for k, (i, rng) in enumerate(zip(ids, rngs, strict=True)):
                goal[k] = workspace.sample(rng, away_from=self.tool[i], distance=MIN_START_DISTANCE, lowest=LOWEST_GOAL)
        self.goal[ids] = goal
        self._held[ids] = 0
        return {"start": start, "goal": goal}

    def retask(self, ids: np.ndarray, fields: Fields) -> None:
        self._check_goal(fields)
        self.goal[ids] = fields.get("goal", self.goal[ids])
        self._held[ids] = 0

    def _check_goal(self, fields: Fields) -> None:
        if "goal" in fields and not (ok := workspace.reachable(fields["goal"])).all():
            bad = fields["goal"][np.argmin(ok)]
            reach = np.linalg.norm(bad[:2] - (so101.PAN_AXIS_X, 0))
            raise ValueError(
                f"goal {np.round(bad, 3)} is out of the arm's reach ({reach:.3f} m from the pan axis); "
                "kit.envs.workspace.reachable tells which points are not"
            )

    def observe(self, ids: np.ndarray | slice = slice(None)) -> Any:
        state = reach_state(*self.arm(ids), self.goal[ids])
        if self.failed.any():
            np.nan_to_num(state, copy=False)
        return state if self.camera is None else {"state": state, "pixels": self.pixels(ids)}

    def judge(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        away = self.goal - self.tool
        d2 = np.einsum("ij,ij->i", away, away)
        near = d2 < GOAL_TOLERANCE**2
        self._held = (self._held + 1) * near
        effort = np.einsum("ij,ij->i", actions, actions)
        reward = -2 * np.sqrt(d2) + near + 0.5 * np.exp(-d2 / (2 * 0.05**2)) - 0.02 * effort
        if self.failed.any():
            reward = np.where(self.failed, 0.0, np.nan_to_num(reward))
        return reward, np.zeros(self.num_envs, bool), self._held >= self._hold

    def markers(self, sim: int = 0) -> Markers:
        return {"goal": (self.goal[sim], GOAL_TOLERANCE, (0.0, 0.62, 0.45, 0.6))}


def draw_start(rng: np.random.Generator) -> np.ndarray:
    """A random collision-free pose of the five arm joints with the tool above the table [rad]."""
    poses = workspace.free_poses()
    return np.concatenate(([rng.uniform(-1.5, 1.5)], poses[rng.integers(len(poses))], [rng.uniform(-0.5, 0.5)]))
