"""`kit/PlanarPush-v0`: a two-link arm in the plane pushes a puck to a goal; kinematic, NumPy only.

Seen from above. The base is at the origin, the table in front of it (y > 0). An action is the velocity of both joints;
10 Hz, 10 s. Only the arm's tip touches the puck, the links pass above it. Friction wins at once: the puck moves while
it is pushed, out along the line of centres until tip and puck just touch, and stands still otherwise.

    tip  = l1 (cos q1, sin q1) + l2 (cos(q1 + q2), sin(q1 + q2))
    puck = tip + (r_tip + r_puck) n,   n = (puck - tip) / |puck - tip|,   where |puck - tip| < r_tip + r_puck

    reward = 10 (decrease of the puck's distance to its goal) + 2 (decrease of the tip's distance to the pushing point)
             + 1/2 near,   near: the puck lies within 3 cm of the goal,   -5 for a lost puck

Success is a puck that lies within 3 cm of the goal when the episode ends; a puck that leaves the work space ends it
early. The pushing point lies 6 cm behind the puck as seen from the goal. What the arm does that is unsafe ends nothing;
`unsafe` tells it. Look at `push` first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from kit.envs.task import Fields, Task, TaskSpace

LINKS = 0.3, 0.3  # l1, l2 [m]
JOINT_LOW, JOINT_HIGH = np.array([-0.4, -2.7]), np.array([np.pi + 0.4, 2.7])  # [rad]
MAX_SPEED = 1.5  # of a joint, at an action of 1 [rad/s]
DT, SUBSTEPS = 0.1, 5  # a control step [s], and in how many parts contact is resolved
TIP_RADIUS, PUCK_RADIUS = 0.02, 0.04  # [m]
TOUCH = TIP_RADIUS + PUCK_RADIUS
AREA_LOW, AREA_HIGH = np.array([-0.25, 0.22]), np.array([0.25, 0.42])  # where puck and goal are drawn [m]
MIN_DISTANCE = 0.10  # from the puck to its goal at the start [m]
GOAL_TOLERANCE = 0.03  # [m]
# What counts as unsafe:
JOINT_MARGIN = 0.05  # a joint nearer than this to its limit [rad]
WORK_LOW, WORK_HIGH = np.array([-0.42, 0.08]), np.array([0.42, 0.54])  # the work space: a tip outside [m]
SPEED_LIMIT = 0.5  # a tip that is faster over a control step [m/s]
STATE = 10  # numbers of an observation that do not depend on the goal: the first ones


def forward_kinematics(q: np.ndarray) -> np.ndarray:
    """Tips (..., 2) [m] of joint angles (..., 2) [rad]."""
    first, second = q[..., 0], q[..., 0] + q[..., 1]
    x = LINKS[0] * np.cos(first) + LINKS[1] * np.cos(second)
    y = LINKS[0] * np.sin(first) + LINKS[1] * np.sin(second)
    return np.stack((x, y), axis=-1)


def inverse_kinematics(tip: np.ndarray, elbow: np.ndarray) -> np.ndarray:
    """Joint angles (n, 2) [rad] that put the tip at (n, 2) [m], the elbow bent to the side of the sign `elbow` (n,).

    The shoulder is between -pi/2 and 3 pi/2, because the table lies in front. Points out of reach give the nearest.
    """
    cos = (np.square(tip).sum(axis=1) - LINKS[0] ** 2 - LINKS[1] ** 2) / (2 * LINKS[0] * LINKS[1])
    q2 = elbow * np.arccos(np.clip(cos, -1, 1))
    q1 = np.arctan2(tip[:, 1], tip[:, 0]) - np.arctan2(LINKS[1] * np.sin(q2), LINKS[0] + LINKS[1] * np.cos(q2))
    return np.stack(((q1 + np.pi / 2) % (2 * np.pi) - np.pi / 2, q2), axis=1)


def push(puck: np.ndarray, tip: np.ndarray) -> np.ndarray:
    """Pucks (n, 2) [m] after tips (n, 2) [m] came to where they are; a puck under the tip's very centre goes to +x."""
    way = puck - tip
    distance = np.sqrt(np.square(way).sum(axis=1, keepdims=True))
    normal = np.divide(way, distance, out=np.tile([1.0, 0.0], (len(way), 1)), where=distance > 0)
    return np.where(distance < TOUCH, tip + TOUCH * normal, puck)


class PlanarPush(Task):
    """Task fields: `puck` and `goal`, points (x, y) [m], and `tip`, where the arm starts [m].

    State (12,), of order one and clipped to +-10: cosines and sines of both joints, tip, puck, puck - tip, goal - puck.
    """

    live_fields = ("goal",)
    fps = 1 / DT

    def __init__(self, num_envs: int = 1, *, max_steps: int = 100):
        super().__init__(num_envs)
        self.max_steps = max_steps
        area = spaces.Box(AREA_LOW, AREA_HIGH, dtype=np.float64)
        self.task_space = TaskSpace(puck=area, goal=area, tip=spaces.Box(WORK_LOW, WORK_HIGH, dtype=np.float64))
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = spaces.Box(-10, 10, (STATE + 2,), np.float32)
        self.q, self.puck, self.goal = (np.zeros((num_envs, 2)) for _ in range(3))
        self.tip = forward_kinematics(self.q)
        self.speed = np.zeros(num_envs)  # of the tip, over the last control step [m/s]
        self._distance, self._behind = np.zeros(num_envs), np.zeros(num_envs)  # after the last step [m]

    def reset(self, ids: np.ndarray, given: Fields, rngs: Sequence[np.random.Generator]) -> Fields:
        drawn = [draw_task(rng, {k: v[i] for k, v in given.items()}) for i, rng in enumerate(rngs)]
        tasks = {k: np.array([d[k] for d in drawn]).reshape(-1, 2) for k in ("puck", "goal", "tip")}
        elbow = np.array([rng.choice([-1.0, 1.0]) for rng in rngs])
        q = inverse_kinematics(tasks["tip"], elbow)
        other = inverse_kinematics(tasks["tip"], -elbow)
        q = np.where(within(q)[:, None], q, other)
        self._check_tips(tasks, q)
        self.q[ids], self.puck[ids], self.goal[ids] = q, tasks["puck"], tasks["goal"]
        self.tip[ids], self.speed[ids] = tasks["tip"], 0.0
        self._remember(ids)
        return tasks

    def _check_tips(self, tasks: Fields, q: np.ndarray) -> None:
        """Only a tip that the caller named can fail."""
        gap = np.linalg.norm(tasks["puck"] - tasks["tip"], axis=1)
        missed = np.linalg.norm(forward_kinematics(q) - tasks["tip"], axis=1)
        for bad, why in (
            ((missed > 1e-6) | ~within(q), f"is out of the arm's reach ({sum(LINKS)} m, joints {JOINT_LOW} to "
             f"{JOINT_HIGH} rad)"),
            (gap < TOUCH - 1e-9, f"lies within {TOUCH} m of the puck"),
        ):  # fmt: skip
            if bad.any():
                raise ValueError(f"tip {tasks['tip'][np.argmax(bad)]} {why}; give another tip, or none")

    def retask(self, ids: np.ndarray, fields: Fields) -> None:
        self.goal[ids] = fields.get("goal", self.goal[ids])
        self._remember(ids)

    def _remember(self, ids: np.ndarray | slice) -> None:
        self._distance[ids], self._behind[ids] = self.distances(ids)

    def distances(self, ids: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """From the puck to its goal, and from the tip to the pushing point, each (n,) [m]."""
        way = self.goal[ids] - self.puck[ids]
        distance = np.linalg.norm(way, axis=1)
        behind = self.puck[ids] - TOUCH * way / np.maximum(distance, 1e-9)[:, None]
        return distance, np.linalg.norm(self.tip[ids] - behind, axis=1)

    def step(self, actions: np.ndarray) -> None:
        before = self.tip
        for _ in range(SUBSTEPS):
            self.q = np.clip(self.q + (MAX_SPEED * DT / SUBSTEPS) * actions, JOINT_LOW, JOINT_HIGH)
            self.tip = forward_kinematics(self.q)
            self.puck = push(self.puck, self.tip)
        self.speed = np.linalg.norm(self.tip - before, axis=1) / DT

    @property
    def unsafe(self) -> np.ndarray:
        """Bool (num_envs, 3): a joint at its limit, the tip outside the work space, the tip too fast."""
        joint = ((self.q < JOINT_LOW + JOINT_MARGIN) | (self.q > JOINT_HIGH - JOINT_MARGIN)).any(axis=1)
        outside = ((self.tip < WORK_LOW) | (self.tip > WORK_HIGH)).any(axis=1)
        return np.stack((joint, outside, self.speed > SPEED_LIMIT), axis=1)

    def observe(self, ids: np.ndarray | slice = slice(None)) -> Any:
        q, tip, puck, goal = self.q[ids], self.tip[ids], self.puck[ids], self.goal[ids]
        parts = np.cos(q), np.sin(q), tip / 0.3, puck / 0.3, (puck - tip) / 0.1, (goal - puck) / 0.1
        return np.clip(np.concatenate(parts, axis=1), -10, 10).astype(np.float32)

    def judge(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        distance, behind = self.distances()
        near = distance < GOAL_TOLERANCE
        lost = ((self.puck < WORK_LOW) | (self.puck > WORK_HIGH)).any(axis=1)
        reward = 10 * (self._distance - distance) + 2 * (self._behind - behind) + 0.5 * near - 5 * lost
        self._distance, self._behind = distance, behind
        return reward, lost, near

    def render(self, sim: int) -> np.ndarray:
        """The table from above, 3 mm a pixel: links grey, tip orange, puck blue, goal green."""
        y, x = np.mgrid[0.65:-0.15:-0.003, -0.65:0.65:0.003]
        at = np.stack((x, y), axis=-1)
        image = np.full((*x.shape, 3), (240, 240, 236), np.uint8)
        elbow = LINKS[0] * np.array([np.cos(self.q[sim, 0]), np.sin(self.q[sim, 0])])
        image[np.linalg.norm(at - self.goal[sim], axis=-1) < GOAL_TOLERANCE] = (0, 158, 115)
        image[np.linalg.norm(at - self.puck[sim], axis=-1) < PUCK_RADIUS] = (0, 114, 178)
        for a, b in ((np.zeros(2), elbow), (elbow, self.tip[sim])):
            along = np.clip(((at - a) @ (b - a)) / np.square(b - a).sum(), 0, 1)[..., None]
            image[np.linalg.norm(at - a - along * (b - a), axis=-1) < 0.01] = (120, 120, 125)
        image[np.linalg.norm(at - self.tip[sim], axis=-1) < TIP_RADIUS] = (230, 159, 0)
        return image


def within(q: np.ndarray) -> np.ndarray:
    """Whether joints (n, 2) [rad] are within their limits, with the margin that is safe: bool (n,)."""
    return ((q > JOINT_LOW + JOINT_MARGIN) & (q < JOINT_HIGH - JOINT_MARGIN)).all(axis=1)


def draw_task(rng: np.random.Generator, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Puck, goal and tip (2,) each; what is not given is drawn so that it is apart from the others and in reach."""
    while True:
        puck = given.get("puck", rng.uniform(AREA_LOW, AREA_HIGH))
        goal = given.get("goal", rng.uniform(AREA_LOW, AREA_HIGH))
        tip = given.get("tip", rng.uniform(WORK_LOW, WORK_HIGH))
        apart = {"puck", "goal"} <= set(given) or np.linalg.norm(goal - puck) >= MIN_DISTANCE
        free = {"puck", "tip"} <= set(given) or np.linalg.norm(tip - puck) > TOUCH
        if apart and free and ("tip" in given or reachable(tip)):
            return {"puck": puck, "goal": goal, "tip": tip}


def reachable(tip: np.ndarray) -> bool:
    """Whether the tip (2,) [m] can be there with both joints within their limits."""
    both = inverse_kinematics(np.tile(tip, (2, 1)), np.array([-1.0, 1.0]))
    return bool(np.linalg.norm(tip) < sum(LINKS) and within(both).any())
