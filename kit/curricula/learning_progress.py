"""Learning progress (LP) over a list of tasks: practise where the success rate moves, in either direction.

Kanitscheider et al. 2021; the form with q and the filter is that of OMNI, Zhang et al. 2024. For each task

    p_fast += alpha (s - p_fast)              s: success of an episode, 0 or 1, less what a random player reaches
    p_slow += alpha (p_fast - p_slow)         lags behind the fast one
    q(p)    = p (1 - theta) / (p + theta (1 - 2 p))          stretches small p: the first successes count most
    LP      = |q(p_fast) - q(p_slow)|
    P(i)    = u / n + (1 - u) sigmoid(z_i) / sum,     z: LP in standard deviations

the last over the tasks with LP > 0 or any success, so that impossible tasks are left out. A task that has never
succeeded would then never be tried: the uniform share u finds it. Look at `progress` and `shares` first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from kit.curricula.space import Space
from kit.curricula.teacher import Feedback, Points, Teacher


@dataclass(frozen=True)
class Config:
    """Settings; alpha and theta are the published ones."""

    alpha: float = 0.1  # step of both moving averages, an episode of the task
    theta: float = 0.1  # of q: 1/2 leaves p as it is, smaller values stretch small p
    uniform: float = 0.25  # u, share of tasks drawn uniformly
    baseline: float = 0.0  # success rate of a random player

    def __post_init__(self) -> None:
        if not (0 < self.alpha <= 1 and 0 < self.theta < 1):
            raise ValueError(f"alpha is {self.alpha} and theta {self.theta}; both must lie between 0 and 1")
        if not 0 <= self.uniform <= 1:
            raise ValueError(f"uniform is {self.uniform}; it must lie in 0..1")
        if not 0 <= self.baseline < 1:
            raise ValueError(f"baseline is {self.baseline}; it must lie in 0..1 and be below 1")


# ---- the pieces -------------------------------------------------------------------------------------------------


def above_baseline(success: float, baseline: float) -> float:
    """Success less what a random player reaches, scaled so that certain success stays 1."""
    return (success - baseline) / (1 - baseline)


def reweight(p: np.ndarray, theta: float) -> np.ndarray:
    """q(p): 0 and 1 stay, p = theta becomes 1/2."""
    return p * (1 - theta) / (p + theta * (1 - 2 * p))


def progress(p_fast: np.ndarray, p_slow: np.ndarray, theta: float) -> np.ndarray:
    """LP (n,) of the two averages (n,); below the baseline there is none."""
    fast, slow = np.clip(p_fast, 0, 1), np.clip(p_slow, 0, 1)
    return np.abs(reweight(fast, theta) - reweight(slow, theta))


def shares(lp: np.ndarray, succeeded: np.ndarray) -> np.ndarray:
    """P without the uniform share (n,): the sigmoid of the standardised LP over tasks with LP > 0 or any success.

    Uniform where no task qualifies.
    """
    live = (lp > 0) | succeeded
    if not live.any():
        return np.full(len(lp), 1 / len(lp))
    spread = lp[live].std()
    z = (lp - lp[live].mean()) / (spread if spread > 0 else 1.0)
    weights = np.where(live, expit(z), 0.0)
    return weights / weights.sum()


# ---- the teacher --------------------------------------------------------------------------------------------------


class LearningProgress(Teacher):
    """Learning progress over all tasks of a discrete space. `p_fast` and `p_slow` (n,) start at 0: nothing learned.

    `interest` (n,) multiplies the shares; it is 1 here, and a subclass may say which tasks are worth while. Nothing
    is cached: what it says holds in every call.
    """

    needs = frozenset({"ret", "success"})

    def __init__(self, space: Space | None = None, cfg: Config | None = None, *, seed: int = 0):
        self.cfg = Config() if cfg is None else cfg
        super().__init__(space, seed=seed)

    def start(self) -> None:
        self.p_fast, self.p_slow = np.zeros(self.space.count), np.zeros(self.space.count)
        self.succeeded = np.zeros(self.space.count, dtype=bool)
        self._points = self.space.points()

    def index(self, points: Points) -> np.ndarray:
        """The number (m,) of the task at each point (m, d), as `space.points()` counts them."""
        bins = np.floor(self.space.snap(points) * self.space.choices).astype(int)
        return np.ravel_multi_index(tuple(bins.T), tuple(self.space.choices))

    def interest(self) -> np.ndarray:
        return np.ones(len(self.p_fast))

    def probabilities(self) -> np.ndarray:
        """P (n,) of each task now."""
        chosen = shares(progress(self.p_fast, self.p_slow, self.cfg.theta), self.succeeded) * self.interest()
        if not chosen.sum() > 0:
            chosen = np.ones(len(chosen))
        return self.cfg.uniform / len(chosen) + (1 - self.cfg.uniform) * chosen / chosen.sum()

    def propose(self, n: int) -> Points:
        return self._points[self.rng.choice(len(self._points), size=n, p=self.probabilities())]

    def learn(self, point: np.ndarray, feedback: Feedback, note: Any) -> None:
        i = self.index(point)[0]
        self.p_fast[i] += self.cfg.alpha * (above_baseline(feedback.success, self.cfg.baseline) - self.p_fast[i])
        self.p_slow[i] += self.cfg.alpha * (self.p_fast[i] - self.p_slow[i])
        self.succeeded[i] |= bool(feedback.success)

    def density(self, grid: Points) -> np.ndarray:
        return self.probabilities()[self.index(grid)] * len(self.p_fast)

    def memory(self) -> dict[str, Any]:
        return {name: getattr(self, name).copy() for name in ("p_fast", "p_slow", "succeeded")}

    def restore(self, memory: dict[str, Any]) -> None:
        self.p_fast, self.p_slow = (np.array(memory[name], dtype=float) for name in ("p_fast", "p_slow"))
        self.succeeded = np.array(memory["succeeded"], dtype=bool)
