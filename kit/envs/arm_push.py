"""`kit/ArmPush-v0`: push a 4 cm cube over the table to a goal with the shut gripper of an SO-101.

30 Hz, 5 s, actions as in `kit.envs.arm_task`. Cube and goal are uniform over a 25 x 25 cm area in front of
the arm, at least 10 cm apart. Success is a cube that rests within 3 cm of the goal when the episode ends; a cube that
leaves the part of the table that the arm can reach ends it early.

    reward = -3 dist - 2 (1 - near)(behind + 0.7 |z - z*|) + near (1/2 + rests) + exp(-dist^2 / 2 (5 cm)^2) / 2
             + 10 progress - 0.01 |a|^2,   -5 for a lost cube

dist is the cube's distance to its goal, `near` dist < 3 cm, `rests` a cube slower than 2 cm/s, `behind` the tool's
horizontal distance to the point 4.5 cm behind the cube on the line from the goal, z* a height that falls from 7 to 2 cm
as the tool comes to that point, and progress the decrease of dist in the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces

from kit.envs import so101
from kit.envs.arm_task import ArmTask, arm_frame, with_pixels
from kit.envs.pixels import Markers
from kit.envs.task import Fields, TaskSpace

AREA_LOW, AREA_HIGH = np.array([0.16, -0.125]), np.array([0.41, 0.125])  # where cube and goal are drawn [m]
MIN_DISTANCE = 0.10  # from the cube to its goal at the start [m]
GOAL_TOLERANCE = 0.03  # [m]
AT_REST = 0.02  # a cube slower than this rests [m/s]
CUBE_HALF, CUBE_MASS = 0.02, 0.03  # [m], [kg]
BEHIND = 0.045  # where to push from: this far behind the cube's centre [m]
LOST = np.array([[0.05, -0.30], [0.55, 0.30]])  # a cube outside this box is out of the arm's reach [m]


def push_spec(servo: str | so101.Servo | so101.StiffServo, max_delay: float) -> mujoco.MjSpec:
    """The arm at its table with a free cube."""
    spec = so101.make_spec(servo, max_delay=max_delay)
    cube = spec.worldbody.add_body(name="cube", pos=[0.25, 0, CUBE_HALF])
    cube.add_freejoint(name="cube")
    cube.add_geom(
        name="cube",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[CUBE_HALF] * 3,
        mass=CUBE_MASS,
        friction=[0.6, 0.005, 0.0001],
        rgba=[0.0, 0.45, 0.70, 1],
    )
    return spec


def push_state(
    q: np.ndarray,
    qd: np.ndarray,
    ahead: np.ndarray,
    tool: np.ndarray,
    cube: np.ndarray,
    turn: np.ndarray,
    velocity: np.ndarray,
    goal: np.ndarray,
) -> np.ndarray:
    """What a push policy sees, (n, 32) float32.

    q, qd, ahead, tool as in `kit.envs.arm_task.ArmTask.arm`; the cube's centre (n, 3) [m], quaternion (n, 4) and
    velocity (n, 3) [m/s]; goal (n, 2) [m].
    """
    pan = q[:, 0]
    along, behind = push_frame(cube[:, :2], goal)
    tool_a, cube_a = arm_frame(tool, pan), arm_frame(cube, pan)
    goal_a = arm_frame(np.column_stack((goal, cube[:, 2])), pan)
    behind_a = arm_frame(np.column_stack((behind, cube[:, 2])), pan)
    offset = tool[:, :2] - cube[:, :2]
    yaw = 2 * np.arctan2(turn[:, 3], turn[:, 0]) + pan
    cos, sin = np.cos(pan), np.sin(pan)
    state = np.column_stack((
        q, 0.2 * qd, ahead, 4 * tool_a[:, ::2], 10 * (cube_a - tool_a), 5 * (goal_a - cube_a)[:, :2],
        10 * (behind_a - tool_a), 10 * (offset * along).sum(1),
        10 * (offset[:, 1] * along[:, 0] - offset[:, 0] * along[:, 1]),
        5 * np.linalg.norm(goal_a - cube_a, axis=1), np.cos(4 * yaw), np.sin(4 * yaw),
        5 * (cos * velocity[:, 0] - sin * velocity[:, 1]), 5 * (sin * velocity[:, 0] + cos * velocity[:, 1]),
    ))  # fmt: skip
    return np.clip(np.nan_to_num(state), -10, 10).astype(np.float32)


class ArmPush(ArmTask):
    """Task fields: `cube` and `goal`, points (x, y) on the table [m].

    State (32,), scaled to order one and clipped to +-10: the arm's 15 joint numbers as in `ArmReach`; tool, cube, goal
    and pushing point relative to each other in the frame that turns with the pan joint; the tool along and beside
    the line from cube to goal; the cube's yaw (fourfold symmetric) and velocity.
    """

    live_fields = ("goal",)

    def __init__(self, num_envs: int = 1, *, max_steps: int = 150, camera: str | None = None, **options: Any):
        super().__init__(num_envs, max_steps=max_steps, camera=camera, **options)
        at, speed = self.model.joint("cube").qposadr[0], self.model.joint("cube").dofadr[0]
        self._cube, self._cube_turn = slice(at, at + 3), slice(at + 3, at + 7)
        self._cube_speed = slice(speed, speed + 3)
        area = spaces.Box(AREA_LOW, AREA_HIGH, dtype=np.float64)
        self.task_space = TaskSpace(cube=area, goal=area)
        self.observation_space = with_pixels(spaces.Box(-10, 10, (32,), np.float32), camera)
        self.goal = np.zeros((num_envs, 2))
        self._distance = np.zeros(num_envs)  # cube to goal after the last step [m]

    def build(self, servo: str | so101.Servo | so101.StiffServo, max_delay: float) -> mujoco.MjSpec:
        return push_spec(servo, max_delay)

    @property
    def cube(self) -> np.ndarray:
        """Cube centres, (num_envs, 3) [m]."""
        return self.qpos[:, self._cube]

    def reset(self, ids: np.ndarray, given: Fields, rngs: Sequence[np.random.Generator]) -> Fields:
        cube, goal = self._place(given, rngs)
        self.begin(ids, rngs)
        pose = so101.HOME.copy()
        pose[5] = so101.CLOSED
        self.put(ids, pose)
        self.cube[ids, :2] = cube
        self.cube[ids, 2] = CUBE_HALF
        self.settle(ids)
        self.goal[ids] = goal
        self._distance[ids] = np.linalg.norm(goal - cube, axis=1)
        return {"cube": cube, "goal": goal}

    def _place(self, given: Fields, rngs: Sequence[np.random.Generator]) -> tuple[np.ndarray, np.ndarray]:
        """Cubes and goals (n, 2), those that were not given drawn at least `MIN_DISTANCE` apart."""
        places = [draw_places(rng, {k: v[i] for k, v in given.items()}) for i, rng in enumerate(rngs)]
        return np.array([p[0] for p in places]).reshape(-1, 2), np.array([p[1] for p in places]).reshape(-1, 2)

    def retask(self, ids: np.ndarray, fields: Fields) -> None:
        self.goal[ids] = fields.get("goal", self.goal[ids])
        self._distance[ids] = np.linalg.norm(self.goal[ids] - self.cube[ids, :2], axis=1)

    def observe(self, ids: np.ndarray | slice = slice(None)) -> Any:
        turn, velocity = self.qpos[ids, self._cube_turn], self.qvel[ids, self._cube_speed]
        state = push_state(*self.arm(ids), self.cube[ids], turn, velocity, self.goal[ids])
        return state if self.camera is None else {"state": state, "pixels": self.pixels(ids)}

    def judge(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cube, tool = self.cube[:, :2], self.tool
        distance = np.linalg.norm(self.goal - cube, axis=1)
        near = distance < GOAL_TOLERANCE
        behind = np.linalg.norm(tool[:, :2] - push_frame(cube, self.goal)[1], axis=1)
        height = np.abs(tool[:, 2] - (0.02 + 0.05 * np.clip((behind - 0.02) / 0.05, 0, 1)))
        lost = ((cube < LOST[0]) | (cube > LOST[1])).any(axis=1)
        rests = np.linalg.norm(self.qvel[:, self._cube_speed], axis=1) < AT_REST
        reward = (
            -3 * distance - 2 * ~near * (behind + 0.7 * height) + near * (0.5 + rests)
            + 0.5 * np.exp(-(distance**2) / (2 * 0.05**2)) + 10 * (self._distance - distance)
            - 0.01 * np.square(actions).sum(axis=1) - 5 * lost
        )  # fmt: skip
        self._distance = distance
        if self.failed.any():
            reward = np.where(self.failed, -5.0, np.nan_to_num(reward))
        return reward, lost, near & rests

    def markers(self, sim: int = 0) -> Markers:
        return {"goal": (np.append(self.goal[sim], 0.0), GOAL_TOLERANCE, (0.0, 0.62, 0.45, 0.6))}


def draw_places(rng: np.random.Generator, given: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A cube and a goal (2,) each, at least `MIN_DISTANCE` apart unless both are given."""
    while True:
        cube = given.get("cube", rng.uniform(AREA_LOW, AREA_HIGH))
        goal = given.get("goal", rng.uniform(AREA_LOW, AREA_HIGH))
        if len(given) == 2 or np.linalg.norm(goal - cube) >= MIN_DISTANCE:
            return cube, goal


def push_frame(cube: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The unit vector from cube to goal and the point to push from, each (n, 2)."""
    way = goal - cube
    along = way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)
    return along, cube - BEHIND * along
