"""APT, active pre-training, Liu and Abbeel 2021: a reward for being far from where one has been.

    H(S)  ~=  psi(n) - psi(k) + log c_d + d/n sum_i log e_i      e_i: distance of s_i to its k-th neighbour
    r(s') = log(1 + mean over the k nearest neighbours of |s' - neighbour|)

The first line is Kozachenko and Leonenko's estimate of entropy [nat], c_d the volume of the unit ball: reward what
raises it, one distance at a time. A point is not its own neighbour. Neighbours are sought in the batch; distances are
in the state space, where the paper has learned features. There is no skill: z is empty. Look at `knn_distance`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, gammaln

from kit.skills.skill import Learned


@dataclass(frozen=True)
class Config:
    """Settings of the estimate."""

    neighbours: int = 12  # k

    def make(self, obs_dim: int, generator: object = None) -> APT:
        return APT(self)


def knn_distance(points: np.ndarray, k: int) -> np.ndarray:
    """Distances (n, k) of each of the points (n, d) to its k nearest others, in rising order.

    Raises:
        ValueError: there are no k others.
    """
    if not 1 <= k < len(points):
        raise ValueError(f"k is {k}; {len(points)} points have 1 to {len(points) - 1} others")
    squares = (points**2).sum(axis=1)
    distance = squares[:, None] + squares - 2 * points @ points.T
    np.fill_diagonal(distance, np.inf)
    nearest = np.sort(np.partition(distance, k - 1, axis=1)[:, :k], axis=1)
    return np.sqrt(np.maximum(nearest, 0))


def entropy(points: np.ndarray, k: int) -> float:
    """Kozachenko and Leonenko's estimate of the differential entropy [nat] of what the points (n, d) are drawn from."""
    n, d = points.shape
    log_ball = 0.5 * d * np.log(np.pi) - gammaln(0.5 * d + 1)
    return float(digamma(n) - digamma(k) + log_ball + d * np.log(knn_distance(points, k)[:, -1]).mean())


class APT(Learned):
    """Nothing is learned but by the policy."""

    norm, dim = 0.0, 0

    def __init__(self, cfg: Config):
        self.cfg = cfg

    def sample_skill(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return np.zeros((n, 0), np.float32)

    def reward(self, s: np.ndarray, z: np.ndarray, s2: np.ndarray) -> np.ndarray:
        """Of a whole batch of next states (n, obs_dim), n above k: the neighbours are in it."""
        return np.log1p(knn_distance(np.asarray(s2, float), self.cfg.neighbours).mean(axis=1))

    def update(self, batch: dict) -> dict[str, float]:
        return {}
