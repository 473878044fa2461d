"""PointMaze episodes from a scripted oracle, made on the spot: what OGBench (Park et al. 2025) ships as downloads.

    next cell   c' = the neighbour of the point's cell that is nearest to the goal's cell (breadth-first search)
    direction   u  = (centre(c') - x) / ||centre(c') - x||      inside of the goal's cell: towards the goal itself
    action      a  = clip(u + 0.5 eps, -1, 1),  eps ~ N(0, I)

`navigate`: long episodes, a new goal whenever one is reached; goals lie where a corridor bends, forks or ends.
`stitch`: short episodes to a goal four cells away, so that long ways exist only in pieces of several episodes.
Look at `next_cells` first, then at `generate`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kit.data import Episodes
from kit.envs.env import BatchEnv
from kit.envs.grid import Grid
from kit.envs.point_maze import GOAL_TOLERANCE, MAPS, PointMaze
from kit.rollout import evaluate
from kit.types import Policy

STITCH_CELLS = 4  # cells from the start to the goal of a stitch episode


@dataclass(frozen=True)
class Config:
    """What to generate. OGBench's own sizes are 1000 x 1000 for navigate and 5000 x 200 for stitch."""

    maze: str = "medium"  # a key of kit.envs.point_maze.MAPS
    kind: str = "navigate"  # or "stitch"
    episodes: int = 200
    steps: int = 500  # of an episode
    noise: float = 0.5  # standard deviation of the action noise [full steps]

    def __post_init__(self) -> None:
        if self.maze not in MAPS:
            raise ValueError(f"unknown maze {self.maze!r}; the mazes are {', '.join(MAPS)}")
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; it must be one of {', '.join(KINDS)}")
        if self.episodes < 1 or self.steps < 2:
            raise ValueError(f"{self.episodes} episodes of {self.steps} steps; at least 1 of at least 2 are needed")
        if not self.noise >= 0:
            raise ValueError(f"noise is {self.noise}; it must not be negative")


# ---- the oracle ---------------------------------------------------------------------------------------------------


def next_cells(grid: Grid, distances: np.ndarray) -> np.ndarray:
    """The state to enter next, (S, S): row the present cell's state, column the goal's; the goal's own at the goal."""
    around = distances[grid.next_state]  # (S, 4, S): from each neighbour to each goal
    best = around.argmin(axis=1)
    step = np.take_along_axis(grid.next_state, best, axis=1)
    return np.where(distances == 0, np.arange(grid.size)[:, None], step)


def corridor_ends(grid: Grid) -> np.ndarray:
    """States where a corridor bends, forks or ends: all but those open on two opposite sides only."""
    up, right, down, left = (grid.next_state != np.arange(grid.size)[:, None]).T
    straight = (up & down & ~left & ~right) | (left & right & ~up & ~down)
    return np.flatnonzero(~straight)


class Oracle:
    """Directions through one maze. `direction` is all that a scripted walker needs."""

    def __init__(self, world: PointMaze):
        self.world, self.grid = world, Grid.from_walls(world.walls)
        self.distances = self.grid.all_distances()
        self.next = next_cells(self.grid, self.distances)
        self.centres = world.centre(self.grid.cells)  # (S, 2)

    def state(self, points: np.ndarray) -> np.ndarray:
        """The states (n,) of the cells that points (n, 2) lie in.

        Raises:
            ValueError: a point lies in a wall or outside of the maze.
        """
        cells = self.world.cell(points)
        inside = ((cells >= 0) & (cells < self.grid.walls.shape)).all(axis=1)
        states = self.grid.index[tuple(np.where(inside[:, None], cells, 0).T)]
        if (states < 0).any():
            i = int(np.argmin(states))
            raise ValueError(f"point {points[i]} lies in a wall of the {self.world.maze} maze, cell {cells[i]}")
        return states

    def direction(self, points: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Unit vectors (n, 2) from points (n, 2) along shortest ways to goals (n, 2)."""
        here, there = self.state(points), self.state(goals)
        target = np.where((here == there)[:, None], goals, self.centres[self.next[here, there]])
        gap = target - points
        return gap / np.maximum(np.linalg.norm(gap, axis=1, keepdims=True), 1e-6)

    def path_length(self, points: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Cells (n,) on shortest ways between points (n, 2)."""
        return self.distances[self.state(points), self.state(goals)]


# ---- generating ---------------------------------------------------------------------------------------------------


def navigate_goals(oracle: Oracle, states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Goal states (n,): any end or bend of a corridor."""
    return rng.choice(corridor_ends(oracle.grid), len(states))


def stitch_goals(oracle: Oracle, states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Goal states (n,) exactly four cells from the states (n,), or as far as there are any below that."""
    far = np.minimum(oracle.distances[states], STITCH_CELLS + 0.0)
    far = np.where(oracle.distances[states] > STITCH_CELLS, -1.0, far)
    ties = rng.random(far.shape)
    return np.where(far == far.max(axis=1, keepdims=True), ties, -1.0).argmax(axis=1)


KINDS = {"navigate": navigate_goals, "stitch": stitch_goals}


def _near_centres(oracle: Oracle, states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return oracle.centres[states] + rng.uniform(-1, 1, (len(states), 2))


def generate(cfg: Config, *, seed: int) -> Episodes:
    """Episodes of the noisy oracle; observations (x, y), which are also the goals, and actions (2,) in -1..1.

    All episodes walk at once. They never terminate: a reached goal gives way to a new one (in stitch data the point
    stays about its goal), and the time limit truncates.
    """
    rng = np.random.default_rng(seed)
    world = PointMaze(cfg.episodes, maze=cfg.maze)
    oracle, draw = Oracle(world), KINDS[cfg.kind]
    start = rng.integers(oracle.grid.size, size=cfg.episodes)
    world.position = _near_centres(oracle, start, rng)
    world.goal = _near_centres(oracle, draw(oracle, start, rng), rng)
    observations = np.zeros((cfg.episodes, cfg.steps + 1, 2), np.float32)
    actions = np.zeros((cfg.episodes, cfg.steps, 2), np.float32)
    observations[:, 0] = world.position
    for t in range(cfg.steps):
        noise = cfg.noise * rng.standard_normal((cfg.episodes, 2))
        actions[:, t] = np.clip(oracle.direction(world.position, world.goal) + noise, -1, 1)
        world.step(actions[:, t])
        observations[:, t + 1] = world.position
        there = np.linalg.norm(world.goal - world.position, axis=1) < GOAL_TOLERANCE
        if cfg.kind == "navigate" and there.any():
            states = oracle.state(world.position[there])
            world.goal[there] = _near_centres(oracle, draw(oracle, states, rng), rng)
    return Episodes.stack(observations, actions, goals=observations)


# ---- judging ------------------------------------------------------------------------------------------------------


def far_pairs(oracle: Oracle, n: int, least: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Starts and goals, (n, 2) each, in cells whose shortest way is at least `least` of the maze's longest."""
    pairs = np.argwhere(oracle.distances >= max(least * oracle.distances.max(), 1))
    start, goal = pairs[rng.integers(len(pairs), size=n)].T
    return _near_centres(oracle, start, rng), _near_centres(oracle, goal, rng)


def reached(policy: Policy, maze: str, starts: np.ndarray, goals: np.ndarray, max_steps: int) -> np.ndarray:
    """Which of the goals (n, 2) a policy on (x, y, goal x, goal y) reaches from the starts (n, 2), bool (n,).

    Raises:
        ValueError: a start or goal touches a wall, or lies outside of the maze.
    """
    env = BatchEnv(PointMaze(len(starts), maze=maze, max_steps=max_steps))
    return evaluate(policy, env, seed=0, tasks={"start": starts, "goal": goals}).success


def order_consistency(value: Callable[[np.ndarray, np.ndarray], np.ndarray], oracle: Oracle, least: float) -> float:
    """How often `value` calls the cell that is one nearer to the goal the better one.

    All neighbours s, s' and goals g with d(s', g) < d(s, g) count whose d(s, g) is at least `least` of the longest.
    `value` takes states (n, 2) and goals (n, 2), cells' centres, and returns (n,).
    """
    size, d = oracle.grid.size, oracle.distances
    s, g = (i.ravel() for i in np.indices((size, size)))
    v = value(oracle.centres[s], oracle.centres[g]).reshape(size, size)
    after = oracle.grid.next_state
    nearer = (d[after] < d[:, None]) & (d >= least * d.max())[:, None]  # (S, 4, S)
    return float((v[after] > v[:, None])[nearer].mean())
