"""ALP-GMM: play where returns change most, up or down, and find those places with a Gaussian mixture.

Portelas et al. 2019, "Teacher algorithms for curriculum learning of deep RL in continuously parameterized
environments".

    ALP(g) = |r(g) - r(g')|,  g' = argmin_h |g - h| over earlier tasks h                absolute learning progress
    [g, ALP] ~ sum_i pi_i N(mu_i, Sigma_i)      fitted to the last N tasks, every N tasks; the size has the least AIC
    with probability p_rnd:  g ~ U
    else:  i with P(i) ~ mu_i^ALP,  then g ~ N(mu_i, Sigma_i) without its ALP, clipped

A student that forgets counts as much as one that learns: hence the absolute value. Look at the three pieces first:
`absolute_learning_progress`, `fit`, `sample`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.curricula import density, gmm
from kit.curricula.gmm import Mixture
from kit.curricula.history import History
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback, Points, Teacher

EARLIEST = 5  # with no more than so many earlier tasks, the nearest one is too far to mean anything


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are those of the authors' class."""

    fit_rate: int = 250  # N, tasks between two fits; the first N are uniform
    random_share: float = 0.2  # p_rnd, share of uniform tasks
    k_min: int = 2  # fewest components
    k_max: int = 10  # most components, itself included
    history: int | None = None  # earlier tasks among which the nearest is sought; None: all of them
    return_range: tuple[float, float] = (0.0, 1.0)  # returns that count as 0 and 1; returns outside are not clipped

    def __post_init__(self) -> None:
        if not 1 <= self.k_min <= self.k_max <= self.fit_rate:
            raise ValueError(
                f"k_min is {self.k_min}, k_max {self.k_max}, fit_rate {self.fit_rate}; they must not fall, from 1 on"
            )
        if not 0 <= self.random_share <= 1:
            raise ValueError(f"random_share is {self.random_share}; it must lie in 0..1")
        if self.history is not None and self.history <= EARLIEST:
            raise ValueError(f"history is {self.history}; it must be above {EARLIEST}, or None")
        if not self.return_range[0] < self.return_range[1]:
            raise ValueError(f"return_range is {self.return_range}; its low end must be below its high end")


# ---- the pieces -------------------------------------------------------------------------------------------------


def absolute_learning_progress(point: np.ndarray, ret: float, points: np.ndarray, returns: np.ndarray) -> float:
    """|r - r'| of a task at `point` (d,), r' being the return of the nearest of the earlier `points` (n, d).

    Of several that are equally near it is the latest. 0 while there are no more than five.
    """
    if len(returns) <= EARLIEST:
        return 0.0
    distances = ((points - point) ** 2).sum(axis=1)
    nearest = len(distances) - 1 - distances[::-1].argmin()
    return abs(float(ret - returns[nearest]))


def fit(rows: np.ndarray, ks: Sequence[int], rng: np.random.Generator) -> Mixture:
    """The mixture on rows (n, d + 1) of task and ALP; of the numbers of components in `ks`, the one with least AIC."""
    return gmm.fit(rows, ks, rng)


def component_weights(mixture: Mixture) -> np.ndarray:
    """What the components (K,) are chosen in proportion to: their mean ALP."""
    return np.maximum(mixture.means[:, -1], 0)


def sample(mixture: Mixture, n: int, rng: np.random.Generator) -> Points:
    """Tasks (n, d), not yet clipped: a component by its weight, then a point of it without the ALP."""
    components = gmm.choose(component_weights(mixture), rng, n)
    return mixture.draw(components, rng)[:, :-1]


# ---- state --------------------------------------------------------------------------------------------------------


class ALPGMM(Teacher):
    """The teacher. `mixture` is None until the first fit, and tasks are uniform."""

    def __init__(self, space: Space | None = None, cfg: Config = Config(), *, seed: int = 0):
        self.cfg = cfg
        super().__init__(space, seed=seed)

    def start(self) -> None:
        self.history = History(self.space.size, self.cfg.history)
        self.rows: list[np.ndarray] = []  # since the last fit
        self.mixture: Mixture | None = None

    def propose(self, n: int) -> Points:
        points = self.rng.random((n, self.space.size))
        if self.mixture is not None:
            taught = np.flatnonzero(self.rng.random(n) >= self.cfg.random_share)
            if len(taught):
                points[taught] = self.sample(len(taught))
        return points

    def learn(self, point: np.ndarray, feedback: Feedback, note: Any) -> None:
        low, high = self.cfg.return_range
        self.rows.append(self.row(point, (feedback.ret - low) / (high - low)))
        if len(self.rows) >= self.cfg.fit_rate:
            ks = range(self.cfg.k_min, self.cfg.k_max + 1)
            self.mixture, self.rows = fit(np.array(self.rows), ks, self.rng), []

    # What Covar-GMM does otherwise:

    def row(self, point: np.ndarray, ret: float) -> np.ndarray:
        """What the mixture is fitted to, for one episode of normalised return `ret`."""
        alp = absolute_learning_progress(point, ret, self.history.points, self.history.returns)
        self.history.add(point, ret)
        return np.append(point, alp)

    def sample(self, n: int) -> Points:
        return sample(self.mixture, n, self.rng)

    def weights(self) -> np.ndarray:
        return component_weights(self.mixture)

    # ---- what is shown and kept ------------------------------------------------------------------------------------

    def density(self, grid: Points) -> np.ndarray:
        """What clipping puts on the cube's faces is shown spread over its component; see `kit.curricula.density`."""
        grid = np.atleast_2d(np.asarray(grid, float))
        if self.mixture is None:
            return np.ones(len(grid))
        means, covs, d = self.mixture.means, self.mixture.covs, self.space.size
        parts = [density.gaussian(self.space, grid, m[:d], c[:d, :d]) for m, c in zip(means, covs, strict=True)]
        taught = gmm.shares(self.weights()) @ np.array(parts)
        return self.cfg.random_share + (1 - self.cfg.random_share) * taught

    def memory(self) -> dict[str, Any]:
        mixture = None if self.mixture is None else self.mixture.memory()
        return {"history": self.history.memory(), "rows": np.array(self.rows), "mixture": mixture}

    def restore(self, memory: dict[str, Any]) -> None:
        self.history = History.of(**memory["history"], size=self.space.size, limit=self.cfg.history)
        self.rows = list(np.asarray(memory["rows"], float))
        self.mixture = None if memory["mixture"] is None else Mixture.of(memory["mixture"])
