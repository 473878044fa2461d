"""Sampling for learnability (SFL): practise on levels that are solved sometimes, neither always nor never.

Rutherford et al. 2024, "No regrets". In turns,

    probe   N random levels are played m times each, without learning
    rank    p = (successes + a) / (m + 2 a),   l = p (1 - p)             a > 0 shrinks p as a Beta(a, a) prior does
    train   for T episodes: with chance 1/2 a level of the K with the largest l, else a random one

l is the variance of the outcome: a level that always gives one result teaches nothing. The probes are episodes too,
and count as such. Look at `learnability` first, then `Learnability.propose`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.curricula.plr import mass_density
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback, Points, Teacher


@dataclass(frozen=True)
class Config:
    """Settings of a round of levels * tries probes and then `period` training episodes."""

    levels: int = 100  # N, random levels that are probed
    tries: int = 8  # m, episodes of each
    keep: int = 8  # K, levels that are kept
    period: int = 1600  # T, training episodes between probes
    kept_share: float = 0.5  # of the training episodes; the others are on random levels
    prior: float = 0.0  # a; 1 is the uniform prior. With equal tries it changes no order

    def __post_init__(self) -> None:
        for name in ("levels", "tries", "keep", "period"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        if self.keep > self.levels:
            raise ValueError(f"keep is {self.keep}, of {self.levels} levels; keep at most all of them")
        if not 0 <= self.kept_share <= 1 or self.prior < 0:
            raise ValueError(f"kept_share is {self.kept_share}, prior {self.prior}; they need 0..1 and at least 0")


# ---- the pieces -------------------------------------------------------------------------------------------------


def learnability(successes: np.ndarray, tries: np.ndarray, prior: float = 0.0) -> np.ndarray:
    """l = p (1 - p) of successes (n,) in tries (n,); 0 where nothing was tried."""
    successes, tries = np.asarray(successes, float), np.asarray(tries, float)
    product = (successes + prior) * (tries - successes + prior)  # to the bit the same for s successes and s failures
    return np.where(tries > 0, product / np.maximum(tries + 2 * prior, 1) ** 2, 0.0)


def most_learnable(scores: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k largest scores (n,) that are above 0, best first; fewer if there are fewer."""
    order = np.argsort(-scores, kind="stable")[:k]
    return order[scores[order] > 0]


# ---- the teacher --------------------------------------------------------------------------------------------------


class Learnability(Teacher):
    """Sampling for learnability. The note of a probe is [round, row]; of a training episode, None.

    Probes that finish late still count within their round. `points` (N, d), `successes` and `tries` (N,) are the
    round's.
    """

    needs = frozenset({"ret", "success"})

    def __init__(self, space: Space | None = None, cfg: Config | None = None, *, seed: int = 0):
        self.cfg = Config() if cfg is None else cfg
        super().__init__(space, seed=seed)

    def start(self) -> None:
        self.round, self.cursor = 0, 0  # the cursor counts the episodes of the round that have been asked
        self.points = np.empty((0, self.space.size))
        self.successes, self.tries = np.zeros(0), np.zeros(0)

    def kept(self) -> Points:
        """The K most learnable levels, as far as the probes have shown."""
        scores = learnability(self.successes, self.tries, self.cfg.prior)
        return self.points[most_learnable(scores, self.cfg.keep)]

    def propose(self, n: int) -> tuple[Points, Sequence[Any]]:
        points, notes = zip(*(self._next() for _ in range(n)), strict=True)
        return np.array(points), notes

    def _next(self) -> tuple[np.ndarray, list[int] | None]:
        probes = self.cfg.levels * self.cfg.tries
        if self.cursor == 0:
            self._new_round()
        at, self.cursor = self.cursor, (self.cursor + 1) % (probes + self.cfg.period)
        if at < probes:
            row = at % self.cfg.levels
            return self.points[row], [self.round, row]
        kept = self.kept()
        if len(kept) and self.rng.random() < self.cfg.kept_share:
            return kept[self.rng.integers(len(kept))], None
        return self.space.sample(self.rng, 1)[0], None

    def _new_round(self) -> None:
        self.round += 1
        self.points = self.space.sample(self.rng, self.cfg.levels)
        self.successes, self.tries = np.zeros(self.cfg.levels), np.zeros(self.cfg.levels)

    def learn(self, point: np.ndarray, feedback: Feedback, note: Any) -> None:
        if note is not None and note[0] == self.round:
            self.successes[note[1]] += bool(feedback.success)
            self.tries[note[1]] += 1

    def trains(self, note: Any) -> bool:
        return note is None

    def density(self, grid: Points) -> np.ndarray:
        """Of the training episodes."""
        kept = np.unique(self.kept(), axis=0)
        if not len(kept):
            return np.ones(len(grid))
        mass = mass_density(self.space, kept, np.full(len(kept), 1 / len(kept)), grid)
        return 1 - self.cfg.kept_share + self.cfg.kept_share * mass

    def memory(self) -> dict[str, Any]:
        arrays = {name: getattr(self, name).copy() for name in ("points", "successes", "tries")}
        return arrays | {"round": self.round, "cursor": self.cursor}

    def restore(self, memory: dict[str, Any]) -> None:
        if len(memory["tries"]) not in (0, self.cfg.levels):
            raise ValueError(f"this state probes {len(memory['tries'])} levels and levels is {self.cfg.levels}")
        self.round, self.cursor = memory["round"], memory["cursor"]
        self.points = np.reshape(np.array(memory["points"], dtype=float), (-1, self.space.size))
        self.successes, self.tries = (np.array(memory[name], dtype=float) for name in ("successes", "tries"))
