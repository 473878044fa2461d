"""ACCEL: complex levels by small edits of levels on which the student still has regret.

Parker-Holder et al. 2022, "Evolving Curricula with Regret-Based Environment Design". Robust PLR, and after every batch
of replayed levels:

    parents   = the easiest of the batch: largest return - S, solved with little regret left
    child     = parent with n edits; an edit moves one coordinate to another value
    S(child)  is measured in an episode from which the student does not learn; PLR's rule admits it to the buffer

New levels come from a generator of simple ones, such as empty rooms. Edits alone wander; the buffer keeps what the
student cannot do yet, and so complexity compounds. Look at `mutate` first, then `ACCEL.propose`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.curricula import plr
from kit.curricula.plr import PLR
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback, Points


@dataclass(frozen=True)
class Config(plr.Config):
    """Settings on top of PLR's; replay, robust, score and easiest are those of the published mazes."""

    replay: float = 0.8  # p, chance that a call of `ask` replays, once the buffer is full enough
    robust: bool = True  # the student learns from replayed levels only
    edits: int = 3  # coordinates that a child has different
    easiest: float = 0.125  # share of a replayed batch, the easiest, that are parents; 1 edits all of it
    step: float = 0.1  # standard deviation of an edit of a continuous coordinate [share of its range]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.edits < 1:
            raise ValueError(f"edits is {self.edits}; a child needs at least 1")
        if not 0 < self.easiest <= 1:
            raise ValueError(f"easiest is {self.easiest}; it must be above 0 and at most 1")


# ---- the pieces -------------------------------------------------------------------------------------------------


def easiest(returns: np.ndarray, scores: np.ndarray, n: int) -> np.ndarray:
    """Rows (n,) of the levels with the largest return minus score, the easiest first; both (levels,)."""
    return np.argsort(-(np.asarray(returns) - np.asarray(scores)), kind="stable")[:n]


def mutate(points: Points, space: Space, edits: int, step: float, rng: np.random.Generator) -> Points:
    """Every level (n, d) with `edits` different coordinates changed: a choice to any other of its values, a number by
    a normal step, clipped to the cube."""
    n, d = points.shape
    which = rng.permuted(np.tile(np.arange(d), (n, 1)), axis=1)[:, :edits]
    rows, k = np.arange(n)[:, None], np.maximum(space.choices, 1)[which]
    old = points[rows, which]
    jump = 1 + np.floor(rng.random(which.shape) * (k - 1))  # 1..k-1 values on, around the end
    chosen = ((np.floor(old * k) + jump) % k + 0.5) / k
    moved = np.clip(old + step * rng.normal(size=which.shape), 0, 1)
    children = points.copy()
    children[rows, which] = np.where(space.choices[which] > 0, chosen, moved)
    return space.snap(children)


# ---- the teacher --------------------------------------------------------------------------------------------------


class ACCEL(PLR):
    """PLR that edits. The note of a task is "new", "replay" or "mutation"; only replayed levels train the student.

    The call of `ask` after feedback on replayed levels returns their children.
    """

    def __init__(
        self,
        space: Space | None = None,
        cfg: Config | None = None,
        *,
        seed: int = 0,
        generator: plr.Generator = plr.uniform,
    ):
        super().__init__(space, Config() if cfg is None else cfg, seed=seed, generator=generator)

    def start(self) -> None:
        super().start()
        self.replayed: list[tuple[np.ndarray, float, float]] = []  # (point, return, score), told since the last edits

    def propose(self, n: int) -> tuple[Points, Sequence[str]]:
        if not self.replayed:
            return super().propose(n)
        self.clock += n
        return self.mutated_levels(n), ["mutation"] * n

    def mutated_levels(self, n: int) -> Points:
        """n children (n, d) of the easiest replayed levels, which take turns."""
        points, returns, scores = (np.array(column) for column in zip(*self.replayed, strict=True))
        count = max(1, round(self.cfg.easiest * len(points)))
        parents = points[easiest(returns, scores, count)]
        self.replayed = []
        return mutate(parents[np.arange(n) % count], self.space, self.cfg.edits, self.cfg.step, self.rng)

    def learn(self, point: np.ndarray, feedback: Feedback, note: Any) -> None:
        super().learn(point, feedback, note)
        if note == "replay":
            row = self.buffer.find(point)  # None if the level has lost its place since it was asked
            best = feedback.ret if row is None else self.buffer.best_returns[row]
            self.replayed.append((point, feedback.ret, self.score(feedback, best)))

    def memory(self) -> dict[str, Any]:
        return super().memory() | {"replayed": [(p.tolist(), ret, score) for p, ret, score in self.replayed]}

    def restore(self, memory: dict[str, Any]) -> None:
        super().restore(memory)
        self.replayed = [(np.asarray(p, float), ret, score) for p, ret, score in memory["replayed"]]
