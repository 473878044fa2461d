"""Terrain levels: whoever does well moves up a level, whoever does badly moves down.

Rudin et al. 2022, "Learning to walk in minutes", the game-inspired curriculum of legged-gym and Isaac Lab. Each lane
(a simulated robot, or one for the whole student) has a level l in 0..L-1. After an episode with return R

    l <- l + 1   if R > up             legged-gym: walked more than half of the tile
    l <- l - 1   if R < down           and less than half of the distance that was commanded
    l <- random  if l reached L        whoever solves the last level is sent to any, so that none is forgotten

Nothing is stored about tasks: the lanes' levels are the curriculum. Look at `next_level` first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.curricula.space import Space
from kit.curricula.teacher import Feedback, Points, Teacher


@dataclass(frozen=True)
class Config:
    """Settings; the thresholds are in units of the return."""

    field: str = ""  # the field of the space that is the difficulty, easy to hard; empty: the first
    levels: int = 10  # L, rungs of a continuous field; a choice has a rung for each value
    lanes: int = 1  # robots with a level of their own
    up: float = 0.5  # a larger return moves up
    down: float = 0.5  # a smaller one moves down
    first: int = 0  # lanes start at random levels 0..first
    wrap: bool = True  # from above the last level to a random one; else stay at the last

    def __post_init__(self) -> None:
        if self.levels < 2 or self.lanes < 1:
            raise ValueError(f"levels is {self.levels} and lanes {self.lanes}; at least 2 and 1 are needed")
        if self.down > self.up:
            raise ValueError(f"down is {self.down}, above up = {self.up}; one return would move both ways")


def next_level(level: int, ret: float, levels: int, cfg: Config, rng: np.random.Generator) -> int:
    """The level after an episode with return `ret`, in 0..levels-1."""
    level += int(ret > cfg.up) - int(ret < cfg.down)
    if level >= levels:
        return int(rng.integers(levels)) if cfg.wrap else levels - 1
    return max(level, 0)


class LevelLadder(Teacher):
    """A ladder for each lane. `lanes` (n,) are the levels; a task's note is its lane.

    `ask` serves the lanes with the fewest open tasks first, so that n tasks of n free lanes are one for each. The
    fields other than the difficulty are uniform.
    """

    def __init__(self, space: Space | None = None, cfg: Config | None = None, *, seed: int = 0):
        self.cfg = Config() if cfg is None else cfg
        super().__init__(space, seed=seed)

    def start(self) -> None:
        names, sizes = self.space.spec()["fields"], self.space.spec()["sizes"]
        name = self.cfg.field or names[0]
        if name not in names:
            raise ValueError(f"the space has no field {name!r}; it has {', '.join(names)}")
        if sizes[names.index(name)] != 1:
            raise ValueError(f"field {name!r} has {sizes[names.index(name)]} coordinates; a difficulty has one")
        self.axis = sum(sizes[: names.index(name)])
        self.levels = int(self.space.choices[self.axis]) or self.cfg.levels
        if not 0 <= self.cfg.first < self.levels:
            raise ValueError(f"first is {self.cfg.first}; the levels are 0..{self.levels - 1}")
        self.lanes = self.rng.integers(self.cfg.first + 1, size=self.cfg.lanes)

    def propose(self, n: int) -> tuple[Points, Sequence[int]]:
        load = np.bincount([lane for _, lane in self._open.values()], minlength=len(self.lanes)).astype(int)
        chosen = []
        for _ in range(n):
            chosen.append(int(load.argmin()))
            load[chosen[-1]] += 1
        points = self.rng.random((n, self.space.size))
        points[:, self.axis] = (self.lanes[chosen] + points[:, self.axis]) / self.levels
        return points, chosen

    def learn(self, point: np.ndarray, feedback: Feedback, note: Any) -> None:
        self.lanes[note] = next_level(int(self.lanes[note]), feedback.ret, self.levels, self.cfg, self.rng)

    def density(self, grid: Points) -> np.ndarray:
        share = np.bincount(self.lanes, minlength=self.levels) / len(self.lanes)
        rung = np.minimum((self.space.snap(grid)[:, self.axis] * self.levels).astype(int), self.levels - 1)
        return share[rung] * self.levels

    def memory(self) -> dict[str, Any]:
        return {"lanes": self.lanes.copy()}

    def restore(self, memory: dict[str, Any]) -> None:
        if len(memory["lanes"]) != self.cfg.lanes:
            raise ValueError(f"this state has {len(memory['lanes'])} lanes and lanes is {self.cfg.lanes}")
        self.lanes = np.array(memory["lanes"], dtype=int)
