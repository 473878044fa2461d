"""`kit/PointDisc-v0`: a point that takes steps of any direction, at most 0.2 long; kinematic, NumPy only.

    (x, y)' = (x, y) + 0.2 u / max(1, |u|),      u in the square -1..1

The step lies in a disc, not in a square: at full speed every direction is worth the same, and who runs straight for T
steps is 0.2 T away, whichever way. There is no goal: the reward is always 0. Two variants: `rooms=True` puts walls
around and between (four rooms of unit cells; a move into a wall is cancelled, one axis after the other), and
`nuisance=c` adds a third number, c n, where the third action moves n by up to 0.2 within -1..1 and nothing else.

Look at `PointDisc.step`. `count_cells` counts how many unit cells some points lie in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from kit.envs.grid import WALLS
from kit.envs.task import Fields, Task, TaskSpace

STEP = 0.2  # longest move in a step
FURTHEST_START = 5.0  # of a given start, along each axis


def count_cells(points: np.ndarray) -> int:
    """How many unit cells, centred on whole numbers, the points (..., 2) lie in."""
    return len(np.unique(np.floor(np.asarray(points).reshape(-1, 2) + 0.5), axis=0))


class PointDisc(Task):
    """Task field: `start` (x, y), by default the origin. State (2,): position; with a nuisance (3,).

    Raises:
        ValueError: a nuisance that is not positive, or a start inside a wall.
    """

    fps = 10.0

    def __init__(
        self, num_envs: int = 1, *, max_steps: int = 50, rooms: bool = False, nuisance: float | None = None
    ) -> None:
        super().__init__(num_envs)
        if nuisance is not None and not nuisance > 0:
            raise ValueError(f"nuisance is {nuisance}; give a positive scale, or None for none")
        self.max_steps, self.nuisance = max_steps, nuisance
        self.walls = np.array([[c == "#" for c in line] for line in WALLS.split()]) if rooms else None
        self.task_space = TaskSpace(start=spaces.Box(-FURTHEST_START, FURTHEST_START, (2,), np.float64))
        far = [FURTHEST_START + STEP * max_steps] * 2 + ([nuisance] if nuisance else [])
        if rooms:
            far[:2] = self.walls.shape[::-1]
        size = len(far)
        self.action_space = spaces.Box(-1, 1, (size,), np.float32)
        self.observation_space = spaces.Box(-np.float32(far), np.float32(far))
        self.position, self.n = np.zeros((num_envs, 2)), np.zeros((num_envs, 1))

    def blocked(self, points: np.ndarray) -> np.ndarray:
        """Whether points (n, 2) lie in a wall: bool (n,). The origin is the centre of the first free cell."""
        if self.walls is None:
            return np.zeros(len(points), bool)
        column, row = np.clip(np.floor(points + 1.5).astype(int), 0, np.array(self.walls.shape[::-1]) - 1).T
        return self.walls[row, column]

    def reset(self, ids: np.ndarray, given: Fields, rngs: Sequence[np.random.Generator]) -> Fields:
        start = given.get("start", np.zeros((len(rngs), 2)))
        if (bad := self.blocked(start)).any():
            raise ValueError(f"start {start[np.argmax(bad)]} lies in a wall")
        self.position[ids], self.n[ids] = start, 0.0
        return {"start": start}

    def retask(self, ids: np.ndarray, fields: Fields) -> None:
        """Nothing of a running episode can change."""

    def step(self, actions: np.ndarray) -> None:
        move = actions[:, :2] / np.maximum(np.linalg.norm(actions[:, :2], axis=1, keepdims=True), 1.0)
        for axis in (0, 1):
            moved = self.position.copy()
            moved[:, axis] += STEP * move[:, axis]
            self.position = np.where(self.blocked(moved)[:, None], self.position, moved)
        if self.nuisance:
            self.n = np.clip(self.n + STEP * actions[:, 2:], -1, 1)

    def observe(self, ids: np.ndarray | slice = slice(None)) -> Any:
        parts = (self.position[ids], self.nuisance * self.n[ids]) if self.nuisance else (self.position[ids],)
        return np.concatenate(parts, axis=1).astype(np.float32)

    def judge(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        never = np.zeros(self.num_envs, bool)
        return np.zeros(self.num_envs), never, never
