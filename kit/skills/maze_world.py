"""Where skills are tried out: aimless walks through `kit/PointMaze-v0`, and far goals in it.

    a_k ~ U(-1, 1)^2 with probability 1 - p, else a_{k-1}              a decision, held for HOLD environment steps

A row of the data is a decision, so distances on a map learnt from it count decisions. Nobody walks towards anything:
what the data know about far goals has to be stitched together. Look at `random_walk`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from kit.data import Episodes
from kit.envs.env import BatchEnv
from kit.envs.grid import Grid
from kit.envs.point_maze import JITTER, PointMaze
from kit.rollout import Evaluation, evaluate
from kit.types import Metrics, Policy

HOLD = 5  # environment steps of a decision


def random_walk(
    maze: str = "medium", episodes: int = 400, decisions: int = 200, persistence: float = 0.75, *, seed: int
) -> Episodes:
    """Walks from random places; observations (x, y), which are also the goals, and actions (2,) in -1..1.

    Raises:
        ValueError: no episode, fewer than two decisions, or a persistence that is no probability.
    """
    if episodes < 1 or decisions < 2 or not 0 <= persistence <= 1:
        raise ValueError(
            f"{episodes} episodes of {decisions} decisions, persistence {persistence}; need >= 1 of >= 2, and 0..1"
        )
    rng, world = np.random.default_rng(seed), PointMaze(episodes, maze=maze)
    cells = world.free[rng.integers(len(world.free), size=episodes)]
    world.position = world.centre(cells) + rng.uniform(-JITTER, JITTER, (episodes, 2))
    observations = np.empty((episodes, decisions + 1, 2), np.float32)
    actions = rng.uniform(-1, 1, (episodes, decisions, 2)).astype(np.float32)
    keep = rng.random((episodes, decisions)) < persistence
    observations[:, 0] = world.position
    for k in range(decisions):
        if k:
            actions[:, k] = np.where(keep[:, k, None], actions[:, k - 1], actions[:, k])
        for _ in range(HOLD):
            world.step(actions[:, k])
        observations[:, k + 1] = world.position
    return Episodes.stack(observations, actions, goals=observations)


def cell_distances(maze: str) -> tuple[np.ndarray, np.ndarray]:
    """The free cells (S, 2) as row and column, and the fewest steps between them (S, S)."""
    grid = Grid.from_walls(PointMaze(maze=maze).walls)
    return grid.cells, grid.all_distances()


def far_tasks(maze: str, least: int, n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Starts and goals (n, 2) in cells at least `least` steps apart, uniform over such pairs of cells.

    Raises:
        ValueError: no two cells are so far apart.
    """
    cells, distance = cell_distances(maze)
    pairs = np.argwhere(distance >= least)
    if not len(pairs):
        raise ValueError(
            f"no two cells of the {maze} maze are {least} steps apart; the farthest are {distance.max():g}"
        )
    chosen = cells[pairs[rng.integers(len(pairs), size=n)]]  # (n, 2, 2)
    points = PointMaze(maze=maze).centre(chosen) + rng.uniform(-JITTER, JITTER, (n, 2, 2))
    return {"start": points[:, 0], "goal": points[:, 1]}


def judge(policy: Policy, maze: str, tasks: dict[str, np.ndarray], *, max_steps: int, seed: int) -> Evaluation:
    """Play each task once; observations are [position, goal]."""
    world = PointMaze(len(tasks["goal"]), maze=maze, max_steps=max_steps)
    return evaluate(policy, BatchEnv(world), seed=seed, tasks=tasks)


def make(name: str, *, seed: int, out: str | Path) -> Iterator[Metrics]:
    """Train HILP's defaults on aimless walks through the medium maze, and save the frozen policy in the folder `out` at
    the end; about a minute. The kit ships it as `maze_directions`.

    Raises:
        ValueError: another name.
    """
    from kit import checkpoints
    from kit.skills import hilp

    if name != "maze_directions":
        raise ValueError(f"no skills are called {name!r} here; there is maze_directions")
    metrics = None
    for metrics in hilp.train(random_walk("medium", seed=seed), seed=seed):
        yield metrics
    agent = metrics.agent
    facts = {"env": "kit/PointMaze-v0", "maze": "medium", "seed": seed, "config": asdict(agent.cfg)}
    checkpoints.save(agent.policy(), out, kind="hilbert", name=name, **facts)
