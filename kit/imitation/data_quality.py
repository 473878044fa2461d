"""How good demonstrations are to imitate, how much generated rows copy, and how well a policy bears thinking rarely.

    action divergence      mean over s of Var[a | B_eps(s)]          the expert contradicts himself (proxy)
    transition diversity   mean over (s, a) of Var[s' - s | B_eps(s, a)]          the system's own noise
    state similarity       mean over s of the share of rows in B_eps(s)           small: wide coverage
    memorisation           P(d(x_new, X) < d(x_held_out, X)),   d the distance to the nearest training row X
    frequency-averaged     1 / (n_last - n_first)  integral of score(n) / best  dn,   n steps between two decisions

Belkhale, Cui and Sadigh 2023, "Data Quality in Imitation Learning", asks how far the learner's states stray from the
expert's: with equally many rows, states that the system's noise brought about are worth more than states that noisy
actions brought about, since the latter are labelled wrongly. Variances add over dimensions. Memorisation is the test
of Meehan et al. 2020; the frequency-averaged score is that of Patel and Siegelmann 2024. Look at `action_variance`
first; below it is the point mass on which the paper's statement is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats
from scipy.spatial import cKDTree

from kit.data import Episodes

# ---- demonstrations ---------------------------------------------------------------------------------------------


def rows(name: str, values: np.ndarray) -> np.ndarray:
    """Values as float64 (n, size).

    Raises:
        ValueError: another shape, no row, or a value that is not finite.
    """
    values = np.asarray(values, float)
    if values.ndim != 2 or not len(values):
        raise ValueError(f"{name} has shape {values.shape}; expected (n, size) with at least one row")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds {values[~np.isfinite(values)][0]}; every value must be finite")
    return values


def balls(points: np.ndarray, radius: float) -> sparse.csr_array:
    """Which of points (n, d) lie within `radius` of each other, itself included: a sparse 0/1 matrix (n, n)."""
    points = rows("points", points)
    if not radius > 0:
        raise ValueError(f"radius is {radius}; it must be positive, in the unit of the points")
    pairs, n = cKDTree(points).query_pairs(radius, output_type="ndarray"), len(points)
    i, j = np.concatenate((pairs, pairs[:, ::-1], np.arange(n).repeat(2).reshape(n, 2))).T
    return sparse.csr_array((np.ones(len(i)), (i, j)), shape=(n, n))


def ball_variance(points: np.ndarray, values: np.ndarray, radius: float) -> float:
    """Mean over points (n, d) of the unbiased variance of values (n, k) in their balls, summed over k.

    Raises:
        ValueError: no point has another one within the radius.
    """
    near, values = balls(points, radius), rows("values", values)
    values = values - values.mean(axis=0)
    count = near.sum(axis=1)
    if not (count > 1).any():
        raise ValueError(f"no two points lie within {radius} of each other; choose a larger radius")
    mean = near @ values / count[:, None]
    spread = (near @ values**2 / count[:, None] - mean**2).sum(axis=1)
    several = count > 1
    return float((spread[several] * count[several] / (count[several] - 1)).mean())


def action_variance(states: np.ndarray, actions: np.ndarray, radius: float) -> float:
    """How much actions (n, act_dim) differ where states (n, d) agree [action^2]; after Belkhale et al. 2023."""
    return ball_variance(states, actions, radius)


def transition_diversity(states: np.ndarray, actions: np.ndarray, after: np.ndarray, radius: float) -> float:
    """How much moves s' - s (n, d) differ where states and actions agree [state^2]."""
    states = rows("states", states)
    return ball_variance(np.concatenate((states, actions), axis=1), rows("after", after) - states, radius)


def state_similarity(states: np.ndarray, radius: float) -> float:
    """The mean share of the other rows within `radius` of a row: 1 if all states are one, small if they spread."""
    near = balls(states, radius)
    if near.shape[0] < 2:
        raise ValueError("1 state; two are needed to compare")
    return float((near.sum(axis=1) - 1).mean() / (near.shape[0] - 1))


def quality(data: Episodes, radius: float) -> dict[str, float]:
    """The three numbers of a dataset; states, and states with actions, are compared within `radius`."""
    s, a, after = (data.observations[data.steps], data.actions[data.steps], data.observations[data.steps + 1])
    return {
        "action_variance": action_variance(s, a, radius),
        "transition_diversity": transition_diversity(s, a, after, radius),
        "state_similarity": state_similarity(s, radius),
    }


# ---- generated rows, and rare decisions -------------------------------------------------------------------------


def nearest(points: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Distances (n,) from points (n, d) to their nearest rows of training data (m, d), in the rows' own units."""
    return cKDTree(rows("training", training)).query(rows("points", points))[0]


def memorisation(generated: np.ndarray, training: np.ndarray, held_out: np.ndarray) -> float:
    """The probability that a generated row is nearer to the training data than a held-out real row is.

    1/2 for a faithful generator, 1 for one that copies, below 1/2 for one that strays (Meehan et al. 2020). Scale the
    columns alike first. Ties count half.
    """
    own, real = nearest(generated, training), nearest(held_out, training)
    return float(stats.mannwhitneyu(real, own).statistic / (len(own) * len(real)))


def frequency_averaged_score(steps: Sequence[int], scores: Sequence[float], best: float = 1.0) -> float:
    """The mean score over decision intervals of `steps` (n,) control steps, ascending, by trapezoids; 1 if `best`
    is reached at all of them (Patel and Siegelmann 2024, who divide by the last interval instead of by the width).

    Raises:
        ValueError: fewer than two intervals, or not ascending from 1 or more, or lengths that differ.
    """
    n, y = np.asarray(steps, float), np.asarray(scores, float)
    if n.shape != y.shape or n.size < 2 or n[0] < 1 or (np.diff(n) <= 0).any():
        raise ValueError(f"steps {steps} and scores {scores} must be equally long, steps ascending from 1 or more")
    if not best > 0:
        raise ValueError(f"best is {best}; it is the score to divide by, and must be positive")
    return float(np.trapezoid(y, n) / (best * (n[-1] - n[0])))


# ---- the point mass ---------------------------------------------------------------------------------------------

GOAL, START = np.array([1.0, 0.0]), np.array([-1.0, 0.0])
PILLAR, KEEP = 0.3, 0.45  # radius of the pillar at the origin, and of the circle that the expert keeps outside
UPSIDE_DOWN = np.array([1.0, -1.0])
STEP = 0.1  # length of a step at full speed


@dataclass(frozen=True)
class World:
    """A point that goes from the left to the right, past a pillar: s' = s + 0.1 a + system noise, |a| <= 1."""

    transitions: int = 400  # rows of a dataset
    action_noise: float = 0.0  # standard deviation of what is added to the expert's actions, and recorded with them
    system_noise: float = 0.0  # standard deviation of what the world adds to each step [length]
    below: float = 0.0  # share of episodes in which the expert passes below the pillar, else above
    spread: float = 0.1  # half the range of the starts' y [length]
    reached: float = 0.15  # distance from the goal that ends an episode [length]
    max_steps: int = 60  # of an episode

    def __post_init__(self) -> None:
        if min(self.action_noise, self.system_noise) < 0:
            raise ValueError(f"noise is {self.action_noise} and {self.system_noise}; it must not be negative")
        if not 0 <= self.below <= 1:
            raise ValueError(f"below is {self.below}; it is a share, 0 to 1")
        if self.transitions < 2 * self.max_steps:
            raise ValueError(f"transitions is {self.transitions}; two episodes of {self.max_steps} must fit")


def limit(a: np.ndarray) -> np.ndarray:
    """Actions (n, 2), shortened to length 1."""
    return a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1)


def expert(s: np.ndarray, below: bool = False) -> np.ndarray:
    """Actions (n, 2) at states (n, 2): straight to the goal, or along the tangent that passes above the pillar; all
    upside down with `below`."""
    if below:
        return expert(s * UPSIDE_DOWN) * UPSIDE_DOWN
    ahead, r = GOAL - s, np.maximum(np.linalg.norm(s, axis=1), 1e-9)
    along = ((-s * ahead).sum(axis=1) / (ahead**2).sum(axis=1)).clip(0, 1)
    blocked = (np.linalg.norm(s + along[:, None] * ahead, axis=1) < KEEP) & (s[:, 0] < KEEP)
    turn = np.arcsin(np.minimum(KEEP / r, 1))
    inward = -s / r[:, None]
    above = np.stack([
        inward[:, 0] * np.cos(turn) - inward[:, 1] * np.sin(turn),
        inward[:, 0] * np.sin(turn) + inward[:, 1] * np.cos(turn),
    ], axis=1)  # fmt: skip
    outward = np.maximum(KEEP - r, 0)[:, None] / STEP * -inward
    return limit(np.where(blocked[:, None], above + outward, ahead / STEP))


def move(s: np.ndarray, a: np.ndarray, world: World, rng: np.random.Generator) -> np.ndarray:
    return s + STEP * limit(a) + world.system_noise * rng.normal(size=s.shape)


def starts(n: int, world: World, rng: np.random.Generator) -> np.ndarray:
    return START + np.stack([np.zeros(n), rng.uniform(-world.spread, world.spread, n)], axis=1)


def demonstrate(world: World, *, seed: int) -> Episodes:
    """Episodes of the expert, `world.transitions` rows in all; the last one is cut where they are full.

    An episode in which noise brings the expert into the pillar is kept up to there: its rows are what a person would
    have recorded.
    """
    rng, columns = np.random.default_rng(seed), ([], [], [], [])
    left, ends = world.transitions, []
    while left:
        s, states, actions = starts(1, world, rng), [], []
        below = rng.random() < world.below
        while len(actions) < min(world.max_steps, left) and not ended(s, world).any():
            a = limit(expert(s, below) + world.action_noise * rng.normal(size=s.shape))
            states.append(s[0])
            actions.append(a[0])
            s = move(s, a, world, rng)
        left -= len(actions)
        if len(actions) < 2:  # too short to be an episode; its row stays out
            continue
        done = np.arange(len(actions) + 1) == len(actions) - 1
        terminated = done & ended(s, world)[0]
        parts = ([*states, s[0]], [*actions, np.zeros(2)], terminated, done & ~terminated)
        for column, part in zip(columns, parts, strict=True):
            column.append(np.array(part))
        ends.append(len(actions) + 1)
    return Episodes(*(np.concatenate(c) for c in columns), np.cumsum(ends) - 1)


def ended(s: np.ndarray, world: World) -> np.ndarray:
    """Whether points (n, 2) are at the goal or in the pillar."""
    return (np.linalg.norm(s - GOAL, axis=1) < world.reached) | (np.linalg.norm(s, axis=1) < PILLAR)


def success(policy, world: World, n: int, *, seed: int) -> float:
    """Share of `n` episodes in which `policy(states (n, 2)) -> actions (n, 2)` reaches the goal past the pillar."""
    rng = np.random.default_rng(seed)
    s, won, running = starts(n, world, rng), np.zeros(n, bool), np.ones(n, bool)
    for _ in range(world.max_steps):
        s = np.where(running[:, None], move(s, policy(s), world, rng), s)
        won |= running & (np.linalg.norm(s - GOAL, axis=1) < world.reached)
        running &= ~ended(s, world)
    return float(won.mean())
