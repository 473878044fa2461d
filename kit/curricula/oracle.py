"""Oracle: a window of tasks that follows a path laid by hand, as in Portelas et al. 2019.

    g ~ U([w, w + 1/6])
    after m tasks of a window, with mean return r:   r > threshold:  w <- clip(w + step)

It is the baseline of somebody who knows the order of difficulty. Whatever lies off the path is never played. Look at
`next_window` first.
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
    """Settings; those of the authors' BipedalWalker, whose threshold is 230 on returns from -150 to 350."""

    step: float | tuple[float, ...] = 1 / 30  # how the window moves, one number or one an axis [share of the axis]
    width: float = 1 / 6  # of the window [share of the axis]
    start: tuple[float, ...] | None = None  # low corner of the first window; None: where the steps lead away from
    threshold: float = 0.76  # mean normalised return above which the window moves
    episodes: int = 50  # m, tasks before a window is judged
    return_range: tuple[float, float] = (0.0, 1.0)  # returns that count as 0 and 1; returns outside are not clipped

    def __post_init__(self) -> None:
        if not 0 < self.width <= 1 or self.episodes < 1:
            raise ValueError(f"width is {self.width}, episodes {self.episodes}; they must lie in (0, 1], and from 1 on")
        if not np.isfinite(self.step).all():
            raise ValueError(f"step is {self.step}; it must be finite")
        if not self.return_range[0] < self.return_range[1]:
            raise ValueError(f"return_range is {self.return_range}; its low end must be below its high end")


def next_window(low: np.ndarray, step: np.ndarray, width: float, mean_return: float, threshold: float) -> np.ndarray:
    """The low corner (d,) of the window after one at `low` (d,) gave that mean return; it stays in the unit cube."""
    return np.clip(low + step, 0, 1 - width) if mean_return > threshold else low


class OracleTeacher(Teacher):
    """The teacher. `low` (d,) is the window's low corner; a task's note says which window it is of."""

    def __init__(self, space: Space | None = None, cfg: Config = Config(), *, seed: int = 0):
        self.cfg = cfg
        super().__init__(space, seed=seed)

    def start(self) -> None:
        cfg, d = self.cfg, self.space.size
        for name in ("step", "start"):
            value = getattr(cfg, name)
            if isinstance(value, tuple) and len(value) != d:
                raise ValueError(f"{name} is {value}, of {len(value)} coordinates; the space has {d}")
        self.step = np.broadcast_to(cfg.step, d)
        far = np.where(self.step < 0, 1.0, 0.0) if cfg.start is None else np.array(cfg.start, float)
        self.low = far.clip(0, 1 - cfg.width)
        self.returns: list[float] = []
        self.moves = 0

    def propose(self, n: int) -> tuple[Points, list[int]]:
        return self.low + self.rng.random((n, self.space.size)) * self.cfg.width, [self.moves] * n

    def learn(self, point: np.ndarray, feedback: Feedback, note: Any) -> None:
        if note != self.moves:
            return
        low, high = self.cfg.return_range
        self.returns.append((feedback.ret - low) / (high - low))
        if len(self.returns) == self.cfg.episodes:
            before = self.low
            mean = float(np.mean(self.returns))
            self.low = next_window(before, self.step, self.cfg.width, mean, self.cfg.threshold)
            self.moves += bool((self.low != before).any())
            self.returns = []

    def density(self, grid: Points) -> np.ndarray:
        return density.uniform(self.space, np.atleast_2d(np.asarray(grid, float)), self.low, self.low + self.cfg.width)

    def memory(self) -> dict[str, Any]:
        return {"low": self.low.copy(), "returns": self.returns.copy(), "moves": self.moves}

    def restore(self, memory: dict[str, Any]) -> None:
        self.low, self.returns = np.array(memory["low"], float), list(memory["returns"])
        self.moves = int(memory["moves"])
