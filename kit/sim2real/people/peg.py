"""A peg and a tight hole in the plane; NumPy only, and many at once. The table fills z < 0 except for the hole.

    q = (x, z, theta)       the middle of the peg's bottom edge from the hole's [m], its tilt [rad]
    touching                a bottom corner inside the table, or an edge of the hole inside the peg
    step                    z, then x, then theta: each goes as far towards its target as nothing is touched
    slip = max(0, |dx| - mu |dz that was blocked|)                 Coulomb: pressing on the edge makes the peg stick

The controller is stiff but weak: what the table blocks of a step is what the force sensor feels, and nothing breaks.
Success is the peg 15 mm deep in a hole that is 0.5 mm wider; the only reward is 1 then. Look first at `penetration`,
then at `Peg.step`. `draw` gives outlines for a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from kit.envs.task import Fields, Task, TaskSpace

HALF = 5e-3  # of the peg's width [m]
LENGTH = 0.04  # of the peg [m]
CLEARANCE = 0.25e-3  # on each side [m]
HOLE = HALF + CLEARANCE  # half of the hole's width [m]
DEPTH = 0.02  # of the hole [m]
GOAL = 0.015  # depth that is success [m]
MAX_STEP = np.array([2e-3, 2e-3, 0.05])  # of one action of 1: x, z [m], theta [rad]
FRICTION = 0.5
SCALE = np.array([0.01, 0.01, 0.1])  # of positions in an observation: x, z [m], theta [rad]
START_LOW, START_HIGH = np.array([-0.02, 0.01, -0.2]), np.array([0.02, 0.02, 0.2])  # drawn evenly
ROOM_LOW, ROOM_HIGH = np.array([-0.03, -DEPTH, -0.4]), np.array([0.03, 0.03, 0.4])  # where the peg may be
SHARES = np.linspace(1, 0, 9)  # of a step that are tried, the longest first


def corners(q: np.ndarray) -> np.ndarray:
    """Bottom corners (..., 2, 2) [m], left and right, of pegs at q (..., 3); a tilt above 0 turns the top left."""
    along = HALF * np.stack([np.cos(q[..., 2]), np.sin(q[..., 2])], axis=-1)
    tip = q[..., :2]
    return np.stack([tip - along, tip + along], axis=-2)


def penetration(q: np.ndarray) -> np.ndarray:
    """How deep a peg at q (..., 3) is in the table (...,) [m]; 0 or less where it only touches, or is free.

    The table is two corners of ninety degrees, so two vertices decide: the peg's in the table, the table's in the peg.
    """
    x, z = np.moveaxis(corners(q), -1, 0)  # (..., 2)
    in_table = np.maximum(np.minimum(-z, np.abs(x) - HOLE), -DEPTH - z)
    cos, sin = np.cos(q[..., 2]), np.sin(q[..., 2])
    across, up = np.array([-HOLE, HOLE]) - q[..., :1], -q[..., 1:2]  # from the tip to the hole's edges
    u, v = across * cos[..., None] + up * sin[..., None], up * cos[..., None] - across * sin[..., None]
    in_peg = np.minimum(np.minimum(HALF - np.abs(u), v), LENGTH - v)
    return np.maximum(in_table, in_peg).max(axis=-1)


def advance(q: np.ndarray, axis: int, way: np.ndarray) -> np.ndarray:
    """Pegs (n, 3) moved along one axis by `way` (n,), or by the largest eighth of it that touches nothing."""
    tried = np.repeat(q[:, None], len(SHARES), axis=1)
    tried[:, :, axis] += way[:, None] * SHARES
    free = penetration(tried) <= 1e-9
    free[:, -1] = True  # staying
    return tried[np.arange(len(q)), free.argmax(axis=1)]


class Peg(Task):
    """Task field: `start`, the pose (x, z, theta) from the hole. Action (3,): shares of the largest step.

    Observation (6,): x, z [cm], theta [0.1 rad], and which share of the largest step the table blocked of each.
    """

    fps = 10.0

    def __init__(self, num_envs: int = 1, *, max_steps: int = 100):
        super().__init__(num_envs)
        self.max_steps = max_steps
        self.task_space = TaskSpace(start=spaces.Box(START_LOW, START_HIGH, dtype=np.float64))
        self.action_space = spaces.Box(-1, 1, (3,), np.float32)
        high = np.append(ROOM_HIGH / SCALE, np.ones(3)).astype(np.float32)
        self.observation_space = spaces.Box(-high, high)
        self.q, self.blocked = np.zeros((num_envs, 3)), np.zeros((num_envs, 3))

    def reset(self, ids: np.ndarray, given: Fields, rngs: Sequence[np.random.Generator]) -> Fields:
        drawn = np.array([rng.uniform(START_LOW, START_HIGH) for rng in rngs]).reshape(-1, 3)
        self.q[ids], self.blocked[ids] = given.get("start", drawn), 0.0
        return {"start": self.q[ids].copy()}

    def retask(self, ids: np.ndarray, fields: Fields) -> None:
        raise ValueError("a peg's start cannot change in a running episode; reset with it instead")

    def step(self, actions: np.ndarray) -> None:
        way = np.clip(self.q + actions * MAX_STEP, ROOM_LOW, ROOM_HIGH) - self.q
        before, pushed = self.q, self.q
        for axis in (1, 0, 2):
            wanted = way[:, axis]
            if axis == 0:
                stuck = FRICTION * np.abs(way[:, 1] - (pushed - before)[:, 1])
                wanted = np.sign(wanted) * np.maximum(np.abs(wanted) - stuck, 0)
            pushed = advance(pushed, axis, wanted)
        self.q, self.blocked = pushed, (way - (pushed - before)) / MAX_STEP

    def observe(self, ids: np.ndarray | slice = slice(None)) -> Any:
        return np.concatenate([self.q[ids] / SCALE, self.blocked[ids]], axis=1).astype(np.float32)

    def judge(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        done = inserted(self.q)
        return done.astype(float), done, done

    def render(self, sim: int) -> np.ndarray:
        """A picture from the side, 8 cm wide, uint8 (160, 160, 3): table grey, peg blue."""
        x, z = np.meshgrid(np.linspace(-0.04, 0.04, 160), np.linspace(0.055, -0.025, 160))
        cos, sin = np.cos(self.q[sim, 2]), np.sin(self.q[sim, 2])
        across, up = x - self.q[sim, 0], z - self.q[sim, 1]
        u, v = across * cos + up * sin, up * cos - across * sin
        image = np.full((160, 160, 3), (240, 240, 236), np.uint8)
        image[(z < 0) & ((np.abs(x) > HOLE) | (z < -DEPTH))] = (70, 70, 75)
        image[(np.abs(u) < HALF) & (v > 0) & (v < LENGTH)] = (0, 114, 178)
        return image


def inserted(q: np.ndarray) -> np.ndarray:
    """Whether pegs at q (..., 3) are in the hole, bool (...,)."""
    return q[..., 1] <= -GOAL


def draw(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outlines to plot [mm]: the peg's (5, 2) at q (3,), and the table's (6, 2)."""
    left, right = corners(np.asarray(q, float))
    up = LENGTH * np.array([-np.sin(q[2]), np.cos(q[2])])
    table = [(-0.04, 0), (-HOLE, 0), (-HOLE, -DEPTH), (HOLE, -DEPTH), (HOLE, 0), (0.04, 0)]
    return 1e3 * np.array([left, right, right + up, left + up, left]), 1e3 * np.array(table)
