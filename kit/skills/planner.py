"""Planning by midpoints on a map of distances: go to the middle of the way, and to the middle of the way there.

Park, Kreiman and Levine 2024, "Foundation Policies with Hilbert Representations", section 5.3.

    w*    = argmin_{w in the data} max(||phi(w) - phi(s)||, ||phi(w) - phi(g)||)          the middle of the way
    phi_g <- mean of phi(w) over the k best w                                             K times

A Euclidean straight line may leave the states that exist; a middle that is itself a stored state does not. Each
recursion halves what the policy has to manage at once. Look at `midpoint`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Config:
    """The paper takes K = 3 and 50 neighbours of 50,000 states. On a small map the third middle is nearer than the
    map's own errors."""

    recursions: int = 2  # K, halvings of the way
    neighbours: int = 10  # k, stored states whose mean is the middle; about 2,000 states are enough for the small maze

    def __post_init__(self) -> None:
        if self.recursions < 0 or self.neighbours < 1:
            raise ValueError(f"recursions {self.recursions} and neighbours {self.neighbours} must be >= 0 and >= 1")


def midpoint(stored: np.ndarray, phi_s: np.ndarray, phi_g: np.ndarray, neighbours: int) -> np.ndarray:
    """Middles (n, D) of the ways from phi_s to phi_g (n, D): the mean of the `neighbours` stored points (N, D) whose
    larger distance to the two is least."""
    worst = np.maximum(squared_distances(phi_s, stored), squared_distances(phi_g, stored))
    best = np.argpartition(worst, neighbours - 1, axis=1)[:, :neighbours]
    return stored[best].mean(axis=1)


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """||x_i - y_j||^2, (n, N) for points (n, D) and (N, D)."""
    return (x**2).sum(axis=1)[:, None] - 2 * x @ y.T + (y**2).sum(axis=1)


class MidpointPlanner:
    """Keeps points of the map and puts a nearer one in the place of a goal; made for `kit.skills.prompts.Toward`."""

    def __init__(self, stored: np.ndarray, cfg: Config | None = None):
        """`stored` (N, D) are the map's points of states that exist, for instance of a dataset.

        Raises:
            ValueError: fewer points than neighbours, or a value that is not finite.
        """
        self.cfg, self.stored = cfg or Config(), np.asarray(stored)
        if self.stored.ndim != 2 or len(self.stored) < self.cfg.neighbours:
            raise ValueError(f"stored points have shape {self.stored.shape}; at least {self.cfg.neighbours} are needed")
        if not np.isfinite(self.stored).all():
            raise ValueError("a stored point of the map is not finite; was the map trained on finite data?")

    def __call__(self, phi_s: np.ndarray, phi_g: np.ndarray) -> np.ndarray:
        """What to head for from phi_s on the way to phi_g, all (n, D)."""
        for _ in range(self.cfg.recursions):
            phi_g = midpoint(self.stored, phi_s, phi_g, self.cfg.neighbours)
        return phi_g
