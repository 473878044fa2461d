"""Stitching as data augmentation (Ghugare et al. 2024): goals borrowed from walks that pass through the same cell.

    plain      (s_t, a_t, g = s_k),   k ~ U{t+1..T} of the same walk                       goal-conditioned cloning
    augmented  with probability eps: w = s_k as above, jump to a random visit of w's cell by any walk,
               and g is a state of that walk from there on
    pi(a|s,g)  = n(s,a,g) / n(s,g)                                                          supervised learning

Cloning answers only for pairs (s, g) that some walk has joined; dynamic programming would stitch. A jump makes pairs
that no walk has joined, at no cost in Q-values. Look at `future_goals` first, then at `relabel`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kit.envs.grid import WALLS, Grid
from kit.offline.tabular import behaviour, draw, normalise


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are short walks in the four rooms."""

    walks: int = 600
    length: int = 8  # of a walk [steps]
    optimality: float = 0.8  # share of a walk's steps that head for the walk's own target
    eps: float = 0.5  # share of goals that are borrowed
    hops: int = 1  # jumps of a borrowed goal
    block: int = 1  # side of the square cells that count as the same place [cells]; 1 is exact
    relabels: int = 20  # goals drawn for each logged step
    horizon: int = 60  # when an attempt is given up [steps]

    def __post_init__(self) -> None:
        if not 0 <= self.eps <= 1:
            raise ValueError(f"eps is {self.eps}; it is a share of goals and must be in 0..1")
        if min(self.walks, self.length, self.hops, self.block, self.relabels, self.horizon) < 1:
            raise ValueError(f"walks, length, hops, block, relabels and horizon must be at least 1; given {self}")


# ---- the pieces ---------------------------------------------------------------------------------------------------


def future_goals(walks: np.ndarray, walk: np.ndarray, first: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """States (B,) of walks (M, T+1): of walk i (B,), uniformly at a time from `first` (B,) to T."""
    return walks[walk, rng.integers(first, walks.shape[1])]


def jump(walks: np.ndarray, cells: np.ndarray, at: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Random visits (walk, time), each (B,), by any walk (M, T+1) of the cells where states `at` (B,) lie.

    `cells` (S,) numbers each state's cell.
    """
    visits = cells[walks].ravel()
    order = np.argsort(visits, kind="stable")
    first, after = (np.searchsorted(visits[order], cells[at], side=side) for side in ("left", "right"))
    return np.divmod(order[rng.integers(first, after)], walks.shape[1])


def relabel(
    walks: np.ndarray,
    cells: np.ndarray,
    walk: np.ndarray,
    time: np.ndarray,
    eps: float,
    hops: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Goals (B,) for the steps at `time` (B,) < T of walks `walk` (B,); a share `eps` of them is borrowed."""
    goals = future_goals(walks, walk, time + 1, rng)
    borrow = rng.random(len(goals)) < eps
    for _ in range(hops):
        goals[borrow] = future_goals(walks, *jump(walks, cells, goals[borrow], rng), rng)
    return goals


def joined(walks: np.ndarray, size: int) -> np.ndarray:
    """Which pairs (s, g) some walk passes in this order, bool (S, S)."""
    pairs = np.zeros((size, size), bool)
    for t in range(walks.shape[1]):
        pairs[walks[:, t, None], walks[:, t:]] = True
    return pairs


def success(grid: Grid, policy: np.ndarray, horizon: int) -> np.ndarray:
    """Exact chance (S, G) of being at g within `horizon` steps from s under a policy (S, G, 4)."""
    at_goal = np.eye(grid.size, dtype=bool)
    chance = at_goal.astype(float)
    for _ in range(horizon):
        after = chance[grid.next_state].transpose(0, 2, 1)  # (S, G, 4)
        chance = np.where(at_goal, 1.0, (policy * after).sum(axis=-1))
    return chance


# ---- data and cloning ---------------------------------------------------------------------------------------------


def rooms() -> Grid:
    return Grid.parse(WALLS)


def blocks(grid: Grid, block: int) -> np.ndarray:
    """The number (S,) of the square of `block` x `block` cells that each state lies in."""
    return np.unique(grid.cells // block, axis=0, return_inverse=True)[1].ravel()


def record(grid: Grid, cfg: Config, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Short walks: states (M, T+1) and actions (M, T). Each heads for a target of its own within reach, noisily."""
    far = grid.all_distances()  # (S, G)
    heading = np.stack([behaviour(-far[grid.next_state, g], cfg.optimality) for g in range(grid.size)])  # (G, S, 4)
    states = [rng.integers(grid.size, size=cfg.walks)]
    target = draw(normalise((far <= cfg.length).astype(float)), states[0], rng)
    actions = []
    for _ in range(cfg.length):
        row = target * grid.size + states[-1]
        actions.append(draw(heading.reshape(-1, 4), row, rng))
        states.append(grid.next_state[states[-1], actions[-1]])
    return np.stack(states, axis=1), np.stack(actions, axis=1)


def clone_goals(
    states: np.ndarray, actions: np.ndarray, cells: np.ndarray, cfg: Config, rng: np.random.Generator
) -> np.ndarray:
    """Goal-conditioned cloning pi(a|s,g), (S, G, 4), of walks and their relabelled goals; uniform where untaught."""
    size = len(cells)
    walk, time = (index.ravel() for index in np.indices(actions.shape))
    counts = np.zeros(size * size * 4)
    for _ in range(cfg.relabels):
        goals = relabel(states, cells, walk, time, cfg.eps, cfg.hops, rng)
        counts += np.bincount((states[walk, time] * size + goals) * 4 + actions.ravel(), minlength=len(counts))
    return normalise(counts.reshape(size, size, 4))


def far_success(grid: Grid, policy: np.ndarray, walks: np.ndarray, cfg: Config) -> float:
    """Mean success over the pairs that no walk joins and that lie further apart than a walk is long."""
    far = grid.all_distances() > cfg.length
    return float(success(grid, policy, cfg.horizon)[far & ~joined(walks, grid.size)].mean())
