"""Prioritized level replay (PLR): play again the levels on which the student's regret seems largest.

Jiang, Grefenstette and Rocktäschel 2021; robust PLR, which learns from replayed levels only: Jiang et al. 2021,
"Replay-guided adversarial environment design". With probability p a level is drawn from the buffer, else it is new:

    P(i)   = (1 - rho) P_S(i) + rho P_C(i)             which level of the buffer is replayed
    P_S(i) ~ (1 / rank(S_i)) ^ (1 / beta)              large scores first, whatever their scale
    P_C(i) ~ now - (last visit of i)                   stale scores are looked at again
    S      = mean_t max(A_t, 0)                        positive value loss (PVL), or
             mean_t (R_max - V(s_t))                   MaxMC: R_max is the best return that this level ever gave

A level enters the buffer while there is room, or if its score beats that of the level with the least weight. Look at
`level_weights` first, then `PLR.learn`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import rankdata

from kit.curricula.space import Space
from kit.curricula.teacher import Feedback, Points, Teacher

Generator = Callable[[Space, np.random.Generator, int], Points]  # (space, rng, n) -> points (n, d) of new levels
SCORES = {"pvl": "pvl", "max_mc": "mean_value", "abs_advantage": "abs_advantage", "regret": "regret"}  # -> feedback


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are those of the published mazes."""

    replay: float = 0.5  # p, chance that a call of `ask` replays, once the buffer is full enough
    capacity: int = 4000  # levels in the buffer
    fill: float = 0.5  # share of the capacity that must be filled before the first replay
    beta: float = 0.3  # temperature of the ranks: near 0 only the largest score counts, inf makes all equal
    rho: float = 0.3  # share of the staleness
    score: str = "pvl"  # pvl, max_mc, abs_advantage or regret (needs a stronger student)
    robust: bool = False  # the student learns from replayed levels only

    def __post_init__(self) -> None:
        for name in ("replay", "fill", "rho"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in 0..1")
        if self.capacity < 1 or not self.beta > 0:
            raise ValueError(f"capacity is {self.capacity} and beta {self.beta}; both must be above 0")
        if self.score not in SCORES:
            raise ValueError(f"score is {self.score!r}; it must be one of {', '.join(SCORES)}")


# ---- the pieces -------------------------------------------------------------------------------------------------


def rank_weights(scores: np.ndarray, beta: float) -> np.ndarray:
    """P_S (n,) of scores (n,), the largest at rank 1. Equal scores share the weights of their ranks equally."""
    weights = rankdata(-np.asarray(scores, float), method="ordinal") ** (-1.0 / beta)
    _, group = np.unique(scores, return_inverse=True)
    weights = (np.bincount(group, weights) / np.bincount(group))[group]
    return weights / weights.sum()


def staleness_weights(last_visit: np.ndarray, now: float) -> np.ndarray:
    """P_C (n,) of the times (n,) at which each level was last visited; uniform if all were visited now."""
    age = now - np.asarray(last_visit, float)
    return age / age.sum() if age.sum() > 0 else np.full(len(age), 1 / len(age))


def level_weights(scores: np.ndarray, last_visit: np.ndarray, now: float, beta: float, rho: float) -> np.ndarray:
    """P (n,), with which each level of the buffer is replayed."""
    return (1 - rho) * rank_weights(scores, beta) + rho * staleness_weights(last_visit, now)


def max_mc(best_return: float, mean_value: float) -> float:
    """mean_t (R_max - V(s_t)). It may be negative, so that only its rank means something, never its share of a sum."""
    return best_return - mean_value


def mass_density(space: Space, points: Points, weights: np.ndarray, grid: Points) -> np.ndarray:
    """Density (m,) at a grid (m, d) of point masses: weights (n,), which sum to 1, at different points (n, d).

    In a discrete space it is exact. In a continuous one a mass counts at the nearest point of the grid, so that over
    an even grid the mean is 1.
    """
    if space.discrete:
        mass = {point.tobytes(): weight for point, weight in zip(space.snap(points), weights, strict=True)}
        return np.array([mass.get(point.tobytes(), 0.0) for point in space.snap(grid)]) * space.count
    nearest = cKDTree(grid).query(points)[1]
    return np.bincount(nearest, weights, minlength=len(grid)) * len(grid)


# ---- state --------------------------------------------------------------------------------------------------------


class LevelBuffer:
    """At most `capacity` levels in rows: `points` (n, d), `scores`, `best_returns` and `last_visits` (n,), all views.

    No level is in it twice.
    """

    def __init__(self, size: int, cfg: Config):
        self.cfg = cfg
        self._points, self._numbers = np.empty((cfg.capacity, size)), np.empty((3, cfg.capacity))
        self._row: dict[bytes, int] = {}  # a level's bytes -> its row

    def __len__(self) -> int:
        return len(self._row)

    @property
    def points(self) -> np.ndarray:
        return self._points[: len(self)]

    @property
    def scores(self) -> np.ndarray:
        return self._numbers[0, : len(self)]

    @property
    def best_returns(self) -> np.ndarray:
        return self._numbers[1, : len(self)]

    @property
    def last_visits(self) -> np.ndarray:
        return self._numbers[2, : len(self)]

    @property
    def ready(self) -> bool:
        """Whether it is full enough to replay from."""
        return len(self) >= max(1, self.cfg.fill * self.cfg.capacity)

    def find(self, point: np.ndarray) -> int | None:
        """The row of a level, or None."""
        return self._row.get(_key(point))

    def weights(self, now: float) -> np.ndarray:
        return level_weights(self.scores, self.last_visits, now, self.cfg.beta, self.cfg.rho)

    def update(self, row: int, score: float, best_return: float, now: float) -> None:
        self._numbers[:, row] = score, best_return, now

    def insert(self, point: np.ndarray, score: float, best_return: float, now: float) -> bool:
        """Offer a level that is not in the buffer; whether it was taken."""
        row = len(self)
        if row == self.cfg.capacity:
            row = int(self.weights(now).argmin())
            if score <= self.scores[row]:
                return False
            del self._row[_key(self._points[row])]
        self._points[row] = point
        self._row[_key(self._points[row])] = row
        self.update(row, score, best_return, now)
        return True

    def memory(self) -> dict[str, np.ndarray]:
        numbers = {"scores": self.scores, "best_returns": self.best_returns, "last_visits": self.last_visits}
        return {name: values.copy() for name, values in ({"points": self.points} | numbers).items()}

    def restore(self, memory: dict[str, Any]) -> None:
        n = len(memory["scores"])
        if n > self.cfg.capacity:
            raise ValueError(f"the saved buffer has {n} levels and this one holds {self.cfg.capacity}; raise capacity")
        self._points[:n] = np.reshape(memory["points"], (n, -1)) if n else 0
        self._numbers[:, :n] = [memory["scores"], memory["best_returns"], memory["last_visits"]]
        self._row = {_key(point): row for row, point in enumerate(self._points[:n])}


def _key(point: np.ndarray) -> bytes:
    return (point + 0.0).tobytes()  # + 0.0 makes -0.0 and 0.0 one level


def uniform(space: Space, rng: np.random.Generator, n: int) -> Points:
    """New levels drawn from the whole space."""
    return space.sample(rng, n)


class PLR(Teacher):
    """Prioritized level replay. One call of `ask` replays or explores as a whole, so that a batch is one or the other.

    The note of a task is "new" or "replay". `generator` draws new levels; the default is uniform. A subclass may add
    notes of its own (they do not train) and give them to `learn`, which offers their levels to the buffer.
    """

    def __init__(
        self, space: Space | None = None, cfg: Config | None = None, *, seed: int = 0, generator: Generator = uniform
    ):
        self.cfg = Config() if cfg is None else cfg
        self.generator = generator
        self.needs = frozenset({"ret", SCORES[self.cfg.score]})
        super().__init__(space, seed=seed)

    def start(self) -> None:
        least = self.cfg.fill * self.cfg.capacity
        if self.space.discrete and least > self.space.count:
            raise ValueError(
                f"replay starts at {least:g} levels (fill x capacity) and the space has only {self.space.count}; "
                "lower capacity or fill"
            )
        self.buffer = LevelBuffer(self.space.size, self.cfg)
        self.clock = 0  # tasks asked so far: the time of `last_visits`

    def propose(self, n: int) -> tuple[Points, Sequence[str]]:
        self.clock += n
        if self.sample_replay_decision():
            return self.sample_replay_levels(n), ["replay"] * n
        return self.new_levels(n), ["new"] * n

    def sample_replay_decision(self) -> bool:
        """Whether to replay now: chance p, and never before the buffer is full enough."""
        return self.buffer.ready and self.rng.random() < self.cfg.replay

    def sample_replay_levels(self, n: int) -> Points:
        """n levels of the buffer (n, d), drawn by weight with replacement; they count as visited now."""
        rows = self.rng.choice(len(self.buffer), size=n, p=self.buffer.weights(self.clock))
        self.buffer.last_visits[rows] = self.clock
        return self.buffer.points[rows]

    def new_levels(self, n: int) -> Points:
        """n levels (n, d) from the generator."""
        return self.space.snap(self.generator(self.space, self.rng, n))

    def score(self, feedback: Feedback, best_return: float) -> float:
        """S of one episode; `best_return` is R_max, this episode included."""
        number = getattr(feedback, SCORES[self.cfg.score])
        return max_mc(best_return, number) if self.cfg.score == "max_mc" else number

    def learn(self, point: np.ndarray, feedback: Feedback, note: Any) -> None:
        row = self.buffer.find(point)
        before = -np.inf if row is None else self.buffer.best_returns[row]
        best_return = max(before, feedback.ret)
        score = self.score(feedback, best_return)
        if row is None:
            self.buffer.insert(point, score, best_return, self.clock)
        else:
            self.buffer.update(row, score, best_return, self.clock)

    def trains(self, note: Any) -> bool:
        return note == "replay" or (note == "new" and not self.cfg.robust)

    def density(self, grid: Points) -> np.ndarray:
        """As every teacher's; new levels are taken as uniform, and a replayed level is a point mass."""
        if not self.buffer.ready:
            return np.ones(len(grid))
        mass = mass_density(self.space, self.buffer.points, self.buffer.weights(self.clock), grid)
        return 1 - self.cfg.replay + self.cfg.replay * mass

    def memory(self) -> dict[str, Any]:
        return {"buffer": self.buffer.memory(), "clock": self.clock}

    def restore(self, memory: dict[str, Any]) -> None:
        self.buffer.restore(memory["buffer"])
        self.clock = memory["clock"]
