"""CubeWorld: a student made of counters, on which a curriculum is learnt in a second (Portelas et al. 2019).

A task is a point of the unit cube, cut into `bins` cubes along each axis. A cube's competence c counts 0..100.

    visiting a cube:  c += 1   if it is the corner cube, or a neighbour one step lower (diagonals too) has c >= 75
    return            c / 100  after the visit
    mastered          c > 75   the score is the share of learnable cubes that are

`CHALLENGES` switches on, one at a time, what TeachMyAgent (Romac et al. 2021) tests teachers for: mostly unfeasible or
mostly feasible tasks, a student that forgets, a rugged order of difficulty, and coordinates that do nothing. The
counters have no noise and learn nothing else, so the order of teachers here need not be theirs on a robot. Look at
`lower_neighbours` first, then `CubeWorld.visit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from gymnasium.spaces import Box

from kit.curricula.space import Space, Task
from kit.curricula.teacher import Feedback

FULL, UNLOCK = 100, 75  # highest competence; what opens the next cube, and must be exceeded to be mastered


@dataclass(frozen=True)
class Config:
    """The cubes and the challenges."""

    dims: int = 2  # coordinates that matter
    bins: int = 10  # cubes along each of them
    learnable: float = 1.0  # share of cubes that can be learnt: a box at the corner; the others never change
    mastered: float = 0.0  # share of those that the student masters from the start: the low side of the first axis
    wipe_at: int | None = None  # episode before which the student falls back to its start; None: never
    rugged: bool = False  # the cubes of each axis lie in a random order
    useless: int = 0  # further coordinates that do nothing

    def __post_init__(self) -> None:
        if self.dims < 1 or self.bins < 1 or self.useless < 0:
            raise ValueError(f"dims is {self.dims}, bins {self.bins}, useless {self.useless}; at least 1, 1 and 0")
        if not (0 < self.learnable <= 1 and 0 <= self.mastered <= 1):
            raise ValueError(f"learnable is {self.learnable}, mastered {self.mastered}; in (0, 1] and 0..1")


CHALLENGES: dict[str, Config] = {
    "base": Config(),
    "unfeasible": Config(learnable=0.25),
    "feasible": Config(mastered=0.5),
    "forgetting": Config(wipe_at=10_000),
    "rugged": Config(rugged=True),
    "useless": Config(useless=4),
}


def lower_neighbours(cube: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The cubes one step lower along one axis or several, inside the grid."""
    steps = [(0, -1) if i > 0 else (0,) for i in cube]
    return [tuple(i + s for i, s in zip(cube, step, strict=True)) for step in product(*steps) if any(step)]


class CubeWorld:
    """The student and its tasks; a `World` of `kit.curricula.loop`. The seed draws the order of a rugged world.

    `competence` (bins,) * dims has the cubes in the order of difficulty, `in_task_order` as they lie in the task space.
    `learnable`, of the first shape, says which cubes can be learnt, in the place of the box of the settings.

    Raises:
        ValueError: `learnable` has another shape, is not of truth values, or is false everywhere.
    """

    def __init__(self, cfg: Config = Config(), *, learnable: np.ndarray | None = None, seed: int = 0):
        self.cfg = cfg
        sizes = {"cube": cfg.dims, "useless": cfg.useless}
        self.space = Space(**{name: Box(0.0, 1.0, (size,)) for name, size in sizes.items() if size})
        shape, rng = (cfg.bins,) * cfg.dims, np.random.default_rng(seed)
        self.order = [rng.permutation(cfg.bins) if cfg.rugged else np.arange(cfg.bins) for _ in shape]
        side = max(round(cfg.bins * cfg.learnable ** (1 / cfg.dims)), 1)
        self.learnable = np.indices(shape).max(axis=0) < side if learnable is None else _mask(learnable, shape)
        self._start = np.where(self.learnable & (np.indices(shape)[0] < round(side * cfg.mastered)), FULL, 0)
        # Plain lists by flat index: an episode touches single numbers, which arrays are slow at.
        self._order = [order.tolist() for order in self.order]
        self._can = self.learnable.ravel().tolist()
        flat = {cube: i for i, cube in enumerate(np.ndindex(shape))}
        self._lower = [[flat[lower] for lower in lower_neighbours(cube)] for cube in flat]
        self._learnable = sum(self._can)
        self.episodes = 0
        self._reset_student()

    def _reset_student(self) -> None:
        self._competence: list[int] = self._start.ravel().tolist()
        self._mastered = int((self._start > UNLOCK).sum())

    @property
    def competence(self) -> np.ndarray:
        return np.array(self._competence).reshape(self._start.shape)

    @property
    def in_task_order(self) -> np.ndarray:
        return self.competence[np.ix_(*self.order)]

    def cube(self, point: np.ndarray) -> int:
        """The flat index, in the order of difficulty, of the cube that a point (d,) lies in."""
        index, bins = 0, self.cfg.bins
        for order, x in zip(self._order, point.tolist(), strict=False):  # the useless coordinates come last
            index = index * bins + order[min(int(x * bins), bins - 1)]
        return index

    def visit(self, cube: int) -> None:
        """One episode of practice in the cube of that flat index."""
        c = self._competence
        if not self._can[cube] or c[cube] == FULL:
            return
        if cube == 0 or any(c[lower] >= UNLOCK for lower in self._lower[cube]):
            c[cube] += 1
            self._mastered += c[cube] == UNLOCK + 1

    def play(self, tasks: list[Task]) -> list[Feedback]:
        """Each task for one episode, in turn; success is a mastered cube."""
        return [self._episode(task) for task in tasks]

    def _episode(self, task: Task) -> Feedback:
        if self.episodes == self.cfg.wipe_at:
            self._reset_student()
        self.episodes += 1
        cube = self.cube(task.point)
        if task.trains:
            self.visit(cube)
        return Feedback(task.id, self._competence[cube] / FULL, success=self._competence[cube] > UNLOCK)

    def score(self) -> float:
        """Share of the learnable cubes that are mastered, 0..1."""
        return self._mastered / self._learnable


def _mask(learnable: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.array(learnable)
    if mask.shape != shape or mask.dtype != bool or not mask.any():
        raise ValueError(
            f"learnable has shape {mask.shape}, type {mask.dtype} and {np.count_nonzero(mask)} cubes that can be "
            f"learnt; it must be of shape {shape}, bool, with at least one"
        )
    return mask
