"""RIAC: cut the task space where learning progress differs most, and play in the boxes that have it.

Baranes and Oudeyer 2009, "R-IAC: Robust intrinsically motivated exploration and active learning", with the rules that
Portelas et al. 2019 added. Boxes form a binary tree; each remembers the last episodes inside it.

    ALP(box) = |mean r of the older half - mean r of the newer half|          absolute learning progress
    a full leaf is cut at the random (axis, threshold) with the greatest      n_1 n_2 |ALP_1 - ALP_2|,
        n_1 and n_2 being its episodes on either side; if no cut is valid it forgets its oldest quarter
    70 %: a box with P ~ ALP, uniform inside     20 %: uniform     10 %: a box with P ~ ALP, near its worst task

All boxes of the tree are drawn from, not its leaves alone. Look at `learning_progress` first, then `best_split`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.curricula import density
from kit.curricula.gmm import choose, shares
from kit.curricula.history import History
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback, Points, Teacher

REDRAWS = 20  # cuts drawn for each that is tried, at most: most cuts of a crowded box leave one side too empty


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are those of Portelas et al.'s class."""

    capacity: int = 200  # episodes that a leaf holds before it is cut, and that ALP looks back on
    tries: int = 50  # cuts compared at a time
    min_side: float = 1 / 15  # least length of a box's side [share of the axis]
    min_share: float = 1 / 20  # least episodes on either side of a cut [share of the capacity]
    forget: float = 1 / 4  # what a leaf without a valid cut forgets [share of the capacity]
    uniform_share: float = 0.2  # share of uniform tasks
    worst_share: float = 0.1  # share of tasks near a box's worst one
    sigma: float = 0.1  # standard deviation of those around it, on every axis of the unit cube
    return_range: tuple[float, float] = (0.0, 1.0)  # returns that count as 0 and 1; returns outside are not clipped

    def __post_init__(self) -> None:
        if self.capacity < 4 or self.tries < 1:
            raise ValueError(f"capacity is {self.capacity} and tries {self.tries}; at least 4 and 1 are needed")
        if not (0 < self.min_side <= 0.5 and 0 < self.min_share <= 0.5 and 1 / self.capacity <= self.forget <= 1):
            raise ValueError(
                f"min_side is {self.min_side}, min_share {self.min_share}, forget {self.forget}; the first two must be "
                f"above 0 and at most 1/2, the third between 1/capacity and 1"
            )
        if min(self.uniform_share, self.worst_share) < 0 or self.uniform_share + self.worst_share > 1:
            raise ValueError(f"uniform_share is {self.uniform_share}, worst_share {self.worst_share}; at most 1 in all")
        if not self.sigma > 0 or not self.return_range[0] < self.return_range[1]:
            raise ValueError(f"sigma is {self.sigma}, return_range {self.return_range}; above 0, and low below high")


# ---- the pieces -------------------------------------------------------------------------------------------------


def learning_progress(returns: np.ndarray, window: int) -> float:
    """ALP of returns (n,) in order of time: older half against newer half of the last `window`; 0 of fewer than 3."""
    n = min(len(returns), window)
    if n < 3:
        return 0.0
    half, last = n // 2, returns[len(returns) - n :]
    return abs(float(last[: n - half].mean() - last[n - half :].mean()))


def split_score(left: np.ndarray, right: np.ndarray, window: int) -> float:
    """n_1 n_2 |ALP_1 - ALP_2| of the returns (n_1,) and (n_2,) on the two sides of a cut."""
    difference = learning_progress(left, window) - learning_progress(right, window)
    return len(left) * len(right) * abs(difference)


def candidate_cuts(
    points: np.ndarray, low: np.ndarray, high: np.ndarray, cfg: Config, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Axes and thresholds, (m,) each with m <= tries, of random cuts that leave room and episodes on both sides.

    A box whose episodes all lie at one point has none.
    """
    axes = rng.integers(len(low), size=cfg.tries * REDRAWS)
    cuts = rng.uniform(low[axes], high[axes])
    left = (points[:, axes] < cuts).sum(axis=0)
    populated = np.minimum(left, len(points) - left) >= cfg.min_share * cfg.capacity
    axes, cuts = axes[populated][: cfg.tries], cuts[populated][: cfg.tries]
    wide = np.minimum(cuts - low[axes], high[axes] - cuts) >= cfg.min_side
    return axes[wide], cuts[wide]


def best_split(
    history: History, low: np.ndarray, high: np.ndarray, cfg: Config, rng: np.random.Generator
) -> tuple[int, float] | None:
    """The candidate cut (axis, threshold) of a box with the greatest score, or None if no cut is valid."""
    axes, cuts = candidate_cuts(history.points, low, high, cfg, rng)
    if not len(axes):
        return None
    left = history.points[:, axes] < cuts
    scores = [split_score(history.returns[side], history.returns[~side], cfg.capacity) for side in left.T]
    best = int(np.argmax(scores))
    return int(axes[best]), float(cuts[best])


# ---- state --------------------------------------------------------------------------------------------------------


@dataclass
class Box:
    """A node of the tree: [low, high) and the last episodes inside; once cut, its two children's numbers."""

    low: np.ndarray
    high: np.ndarray
    history: History
    cut: tuple[int, float] | None = None  # axis, threshold
    children: tuple[int, int] | None = None

    @property
    def worst(self) -> np.ndarray:
        """The task (d,) with the lowest return."""
        return self.history.points[self.history.returns.argmin()]

    def halves(self, axis: int, threshold: float) -> Iterator[Box]:
        """The two boxes of a cut, each with its own episodes."""
        left = self.history.points[:, axis] < threshold
        for inside, is_left in ((left, True), (~left, False)):
            low, high = self.low.copy(), self.high.copy()
            (high if is_left else low)[axis] = threshold
            kept = self.history.points[inside], self.history.returns[inside]
            yield Box(low, high, History.of(*kept, size=len(low), limit=self.history.limit))


class RIAC(Teacher):
    """The teacher. `boxes` is the tree, the root first, and `progress` (boxes,) their ALP."""

    def __init__(self, space: Space | None = None, cfg: Config = Config(), *, seed: int = 0):
        self.cfg = cfg
        super().__init__(space, seed=seed)

    def start(self) -> None:
        d = self.space.size
        self.boxes = [Box(np.zeros(d), np.ones(d), History(d, self.cfg.capacity + 1))]
        self.progress = np.zeros(1)

    def propose(self, n: int) -> Points:
        return np.array([self._draw() for _ in range(n)])

    def _draw(self) -> np.ndarray:
        mode, rng = self.rng.random(), self.rng
        if mode < self.cfg.uniform_share:
            return rng.random(self.space.size)
        box = self.boxes[choose(self.progress, rng, 1)[0]]
        if mode < self.cfg.uniform_share + self.cfg.worst_share and len(box.history):
            return np.clip(rng.normal(box.worst, self.cfg.sigma), box.low, np.nextafter(box.high, box.low))
        return box.low + rng.random(self.space.size) * (box.high - box.low)

    def learn(self, point: np.ndarray, feedback: Feedback, note: Any) -> None:
        low, high = self.cfg.return_range
        path = self.path(point)
        for i in path:
            self.boxes[i].history.add(point, (feedback.ret - low) / (high - low))
        if len(self.boxes[path[-1]].history) > self.cfg.capacity:
            path += self._cut(path[-1])
        for i in path:
            self.progress[i] = learning_progress(self.boxes[i].history.returns, self.cfg.capacity)

    def path(self, point: np.ndarray) -> list[int]:
        """Numbers of the boxes that a point (d,) lies in, from the root to the leaf."""
        path = [0]
        while (box := self.boxes[path[-1]]).cut is not None:
            axis, threshold = box.cut
            path.append(box.children[int(point[axis] >= threshold)])
        return path

    def _cut(self, i: int) -> list[int]:
        """Cut leaf i, or let it forget; the numbers of its children."""
        leaf = self.boxes[i]
        leaf.cut = best_split(leaf.history, leaf.low, leaf.high, self.cfg, self.rng)
        if leaf.cut is None:
            leaf.history.forget(int(self.cfg.capacity * self.cfg.forget))
            return []
        leaf.children = (len(self.boxes), len(self.boxes) + 1)
        self.boxes += leaf.halves(*leaf.cut)
        self.progress = np.append(self.progress, (0.0, 0.0))
        return list(leaf.children)

    # ---- what is shown and kept ------------------------------------------------------------------------------------

    def density(self, grid: Points) -> np.ndarray:
        """What clipping puts on a box's faces is shown spread over the box; see `kit.curricula.density`."""
        grid, cfg = np.atleast_2d(np.asarray(grid, float)), self.cfg
        total = np.full(len(grid), cfg.uniform_share)
        for box, weight in zip(self.boxes, shares(self.progress), strict=True):
            inside = density.uniform(self.space, grid, box.low, box.high)
            around = inside
            if len(box.history):
                around = density.near(self.space, grid, box.worst, cfg.sigma, box.low, box.high)
            total += weight * ((1 - cfg.uniform_share - cfg.worst_share) * inside + cfg.worst_share * around)
        return total

    def memory(self) -> dict[str, Any]:
        boxes = [vars(box) | {"history": box.history.memory()} for box in self.boxes]
        return {"boxes": boxes, "progress": self.progress.copy()}

    def restore(self, memory: dict[str, Any]) -> None:
        d, limit = self.space.size, self.cfg.capacity + 1
        self.boxes = [
            Box(
                np.asarray(box["low"], float),
                np.asarray(box["high"], float),
                History.of(**box["history"], size=d, limit=limit),
                box["cut"] and tuple(box["cut"]),
                box["children"] and tuple(box["children"]),
            )
            for box in memory["boxes"]
        ]
        self.progress = np.array(memory["progress"], float)
