"""Gridworlds whose temporal distances are known exactly, and random walks through them to learn the distances from.

    d(s, g)   fewest steps from s to g, by breadth-first search                                (S, S)
    d_gamma   = (1 - gamma^d) / (1 - gamma)       minus the optimal value for -1 a step, so what learning can find
    M         = (I - gamma P_pi)^-1               expected discounted visits, the successor matrix
    B         = -1/2 J d^2 J,  J = I - 11'/S      d embeds in a Euclidean space just if B has no negative eigenvalue

Most grids do not embed. `embed` finds the points that come closest, so what they still miss is missed by every method
that calls a Euclidean distance temporal. Look at `GridMaze.make("four rooms")` first, then at `ceiling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from scipy.optimize import minimize

from kit.data import Episodes
from kit.envs.grid import Grid
from kit.envs.point_maze import MAPS

MAZES: Mapping[str, str] = MappingProxyType(
    {
        "corridor": "." * 20,
        "u": "......... ......... ########. ......... .........",
        "four rooms": "....#.... ......... ....#.... ....#.... #.#####.# ....#.... ....#.... ......... ....#....",
        "open": " ".join(["........"] * 8),
        **MAPS,  # OGBench's: medium, large, giant
    }
)


@dataclass(frozen=True)
class GridMaze:
    """A named gridworld with its exact tables."""

    name: str
    grid: Grid

    @classmethod
    def make(cls, name: str) -> GridMaze:
        """One of `MAZES`.

        Raises:
            ValueError: there is none of that name; the message lists them.
        """
        if name not in MAZES:
            raise ValueError(f"unknown grid maze {name!r}; there are {', '.join(MAZES)}")
        return cls(name, Grid.parse(MAZES[name]))

    @property
    def size(self) -> int:
        """Number of states."""
        return self.grid.size

    @cached_property
    def distances(self) -> np.ndarray:
        """Fewest steps from every state (row) to every goal (column), (S, S)."""
        return self.grid.all_distances()

    @property
    def diameter(self) -> int:
        return int(self.distances.max())

    def discounted(self, gamma: float) -> np.ndarray:
        """d_gamma (S, S): what steps to the goal are worth under a discount, at most 1 / (1 - gamma)."""
        return (1 - gamma**self.distances) / (1 - gamma)

    def successor(self, gamma: float, policy: np.ndarray | None = None) -> np.ndarray:
        """M (S, S): expected discounted visits to each state from each, the present one counted. The policy (S, 4) is
        uniform if none is given.

        Raises:
            ValueError: gamma is not in [0, 1).
        """
        if not 0 <= gamma < 1:
            raise ValueError(f"gamma is {gamma}; visits are finite for 0 <= gamma < 1")
        policy = np.full((self.size, 4), 0.25) if policy is None else policy
        return np.linalg.inv(np.eye(self.size) - gamma * self.grid.transition(policy))

    def walk(self, n: int, steps: int, rng: np.random.Generator) -> Episodes:
        """Random walks from random states; an observation, and goal, is the state's number, an action that of a move.

        Raises:
            ValueError: there is no walk, or a walk has fewer than two steps.
        """
        if n < 1 or steps < 2:
            raise ValueError(f"{n} walks of {steps} steps; at least 1 walk of at least 2 steps is needed")
        states, actions = np.empty((n, steps + 1), int), rng.integers(4, size=(n, steps))
        states[:, 0] = rng.integers(self.size, size=n)
        for t in range(steps):
            states[:, t + 1] = self.grid.next_state[states[:, t], actions[:, t]]
        return Episodes.stack(states[..., None], actions[..., None], goals=states[..., None])

    def greedy_success(self, distance: np.ndarray) -> np.ndarray:
        """Which pairs (start, goal) end at the goal by always moving to the neighbour that `distance` (S, S) calls
        nearest to it, bool (S, S). Of equally near ones the first in the order of the moves.

        Raises:
            ValueError: `distance` is not (S, S).
        """
        if distance.shape != (self.size, self.size):
            raise ValueError(f"distances have shape {distance.shape}; {self.name!r} has {self.size} states")
        after, goals = self.grid.next_state, np.arange(self.size)
        step = after[goals[:, None], distance[after].argmin(axis=1)]  # (S, goals): where a greedy step leads
        at = np.repeat(np.arange(self.size)[:, None], self.size, axis=1)
        for _ in range(self.size):
            at = np.where(at == goals, at, step[at, goals])
        return at == goals

    def coordinates(self) -> np.ndarray:
        """Each state's place as x to the right and y down, (S, 2)."""
        return self.grid.cells[:, ::-1].astype(float)


# ---- what a Euclidean space can hold ------------------------------------------------------------------------------


def negative_mass(distance: np.ndarray) -> float:
    """Share of the double-centred matrix's absolute eigenvalues that are negative: 0 if the distances (S, S) embed."""
    n = len(distance)
    centre = np.eye(n) - 1 / n
    values = np.linalg.eigvalsh(-0.5 * centre @ distance**2 @ centre)
    return float(-values[values < 0].sum() / np.abs(values).sum())


def classical_scaling(distance: np.ndarray, dim: int) -> np.ndarray:
    """Torgerson's embedding (S, dim): the leading eigenvectors of the double-centred matrix."""
    n = len(distance)
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centre @ distance**2 @ centre)
    top = np.argsort(values)[::-1][:dim]
    points = vectors[:, top] * np.sqrt(np.maximum(values[top], 0))
    return np.pad(points, ((0, 0), (0, dim - points.shape[1])))


def pairwise(points: np.ndarray) -> np.ndarray:
    """Euclidean distances (S, S) of points (S, D)."""
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def embed(distance: np.ndarray, dim: int) -> np.ndarray:
    """The points (S, dim) with the least squared error of their distances to `distance` (S, S), as far as descent from
    `classical_scaling` finds them."""

    def stress(flat: np.ndarray) -> tuple[float, np.ndarray]:
        points = flat.reshape(-1, dim)
        apart = points[:, None] - points[None]
        length = np.sqrt((apart**2).sum(axis=-1) + 1e-12)
        error = length - distance
        return float((error**2).sum()) / 2, 2 * ((error / length)[..., None] * apart).sum(axis=1).ravel()

    found = minimize(stress, classical_scaling(distance, dim).ravel(), jac=True, method="L-BFGS-B", tol=1e-9)
    return found.x.reshape(-1, dim)


def relative_error(estimate: np.ndarray, distance: np.ndarray) -> float:
    """Mean of |estimate - distance| / distance over all pairs of different states, both (S, S)."""
    pairs = ~np.eye(len(distance), dtype=bool)
    return float((np.abs(estimate - distance)[pairs] / distance[pairs]).mean())


def ceiling(distance: np.ndarray, dim: int) -> float:
    """Relative error of the best embedding: no learner of a Euclidean distance in `dim` dimensions does much better."""
    return relative_error(pairwise(embed(distance, dim)), distance)
