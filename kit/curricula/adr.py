"""Automatic domain randomisation (ADR): a box of tasks that grows on each side where the student does well.

Akkaya et al. 2019, "Solving Rubik's Cube with a robot hand", algorithm 1. The box starts as one easy task.

    g ~ U([lo, hi]);  with probability p_b one coordinate is set to one of its bounds: the task probes that bound
    after m probes of a bound, with mean return r:   r >= t_high: it moves outward by Delta
                                                     r <= t_low:  it moves inward by Delta

It knows no learning progress and no map, only its box: it needs an easy start and a difficulty that rises outward. Look
at `next_bound` first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.curricula import density
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback, Points, Teacher


@dataclass(frozen=True)
class Config:
    """Settings; the thresholds and the step are those of the TeachMyAgent benchmark, on its returns -150..350."""

    start: tuple[float, ...] | None = None  # the first task, in the unit cube; None: drawn by the seed
    step: float = 0.1  # Delta, how far a bound moves [share of the axis]
    t_high: float = 0.66  # mean normalised return from which a bound moves outward
    t_low: float = 0.3  # mean normalised return up to which it moves inward; -inf: it never does
    probe_share: float = 0.5  # p_b, share of tasks that probe a bound
    probes: int = 10  # m, probes of a bound before it is judged
    return_range: tuple[float, float] = (0.0, 1.0)  # returns that count as 0 and 1; returns outside are not clipped

    def __post_init__(self) -> None:
        if self.start is not None and not all(0 <= x <= 1 for x in self.start):
            raise ValueError(f"start is {self.start}; each coordinate must lie in 0..1")
        if not (0 < self.step <= 1 and 0 <= self.probe_share <= 1 and self.probes >= 1):
            raise ValueError(
                f"step is {self.step}, probe_share {self.probe_share}, probes {self.probes}; they must lie in (0, 1], "
                "in 0..1, and from 1 on"
            )
        if not self.t_low < self.t_high or not self.return_range[0] < self.return_range[1]:
            raise ValueError(
                f"t_low is {self.t_low}, t_high {self.t_high}, return_range {self.return_range}; low must be below high"
            )


def next_bound(bounds: np.ndarray, side: int, mean_return: float, cfg: Config) -> float:
    """Where one of an axis' `bounds` (low, high) goes after its probes; `side` 0 is the low one.

    It stays within the unit cube and does not pass the other.
    """
    outward = (-1, 1)[side]
    direction = int(mean_return >= cfg.t_high) - int(mean_return <= cfg.t_low)
    limits = (0.0, bounds[1]) if side == 0 else (bounds[0], 1.0)
    return float(np.clip(bounds[side] + direction * outward * cfg.step, *limits))


class ADR(Teacher):
    """The teacher. `box` (2, d) holds the low and the high bounds.

    A probe's note names the bound (side, axis) and how often it had moved, so that it counts for this bound only, and
    only if the bound has not moved since. Nothing is read off the coordinates: while low and high are the same number
    a task still probes one of them.
    """

    def __init__(self, space: Space | None = None, cfg: Config = Config(), *, seed: int = 0):
        self.cfg = cfg
        super().__init__(space, seed=seed)

    def start(self) -> None:
        d, start = self.space.size, self.cfg.start
        if start is not None and len(start) != d:
            raise ValueError(f"start is {start}, of {len(start)} coordinates; the space has {d}")
        self.box = np.tile(self.rng.random(d) if start is None else np.array(start, float), (2, 1))
        self.moves = np.zeros((2, d), int)
        self.queues: list[list[list[float]]] = [[[] for _ in range(d)] for _ in range(2)]

    def propose(self, n: int) -> tuple[Points, list[list[int] | None]]:
        low, high = self.box
        points = low + self.rng.random((n, len(low))) * (high - low)
        notes: list[list[int] | None] = [None] * n
        axes = self._probed_axes()
        for i in np.flatnonzero(self.rng.random(n) < self.cfg.probe_share * bool(len(axes))):
            side, axis = int(self.rng.integers(2)), int(axes[self.rng.integers(len(axes))])
            points[i, axis] = self.box[side, axis]
            notes[i] = [side, axis, int(self.moves[side, axis])]
        return points, notes

    def _probed_axes(self) -> np.ndarray:
        """All, but for those that are open from end to end and never to be shrunk: there is nothing left to ask."""
        low, high = self.box
        return np.flatnonzero((low > 0) | (high < 1) | (self.cfg.t_low > -np.inf))

    def learn(self, point: np.ndarray, feedback: Feedback, note: Any) -> None:
        if note is None:
            return
        side, axis, moves = note
        if moves != self.moves[side, axis]:
            return
        low, high = self.cfg.return_range
        queue = self.queues[side][axis]
        queue.append((feedback.ret - low) / (high - low))
        if len(queue) == self.cfg.probes:
            bound = next_bound(self.box[:, axis], side, float(np.mean(queue)), self.cfg)
            self.moves[side, axis] += bound != self.box[side, axis]
            self.box[side, axis] = bound
            queue.clear()

    def density(self, grid: Points) -> np.ndarray:
        """Along a number probes are shown spread over the box, and a side shorter than `step` one step wide."""
        grid = np.atleast_2d(np.asarray(grid, float))
        number = self.space.choices == 0
        width = np.where(number, np.maximum(self.box[1] - self.box[0], self.cfg.step), self.box[1] - self.box[0])
        low = np.where(number, np.clip(self.box.mean(axis=0) - width / 2, 0, 1 - width), self.box[0])
        inside = density.uniform(self.space, grid, low, low + width)
        faces = [self._face(grid, low, width, side, axis) for axis in self._probed_axes() for side in (0, 1)]
        share = self.cfg.probe_share if faces else 0.0
        return (1 - share) * inside + share * np.mean(faces or [inside], axis=0)

    def _face(self, grid: Points, low: np.ndarray, width: np.ndarray, side: int, axis: int) -> np.ndarray:
        """Density of the tasks that probe a bound."""
        low, high = low.copy(), low + width
        if self.space.choices[axis] > 0:
            low[axis] = high[axis] = self.box[side, axis]
        return density.uniform(self.space, grid, low, high)

    def memory(self) -> dict[str, Any]:
        return {
            "box": self.box.copy(),
            "moves": self.moves.copy(),
            "queues": [[q.copy() for q in s] for s in self.queues],
        }

    def restore(self, memory: dict[str, Any]) -> None:
        self.box, self.moves = np.array(memory["box"], float), np.array(memory["moves"], int)
        self.queues = [[list(q) for q in side] for side in memory["queues"]]
