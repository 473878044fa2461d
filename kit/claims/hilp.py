"""Claims of Hilbert representations: a map of temporal distances, and what it is good for."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from kit.claims.core import Claim

MAZES = ("four rooms", "large")  # small graphs whose distances are known exactly
EXPECTILE = {"hilp": 0.95, "mean": 0.5}
MAZE = "medium"  # of kit/PointMaze-v0
STORED_EVERY = 40  # rows of the data to one point that the planner keeps


@lru_cache(maxsize=32)  # two claims look at the same maps
def map_of(arm: str, name: str, seed: int, budget: str) -> np.ndarray:
    """Points (S, D) for the states of a grid maze, learnt from random walks that the seed draws."""
    from kit.envs.grid_maze import GridMaze, embed
    from kit.skills import hilp

    maze = GridMaze.make(name)
    cfg = replace(hilp.GRID, steps=hilp.GRID.steps if budget == "full" else 500)
    if arm == "best_embedding":
        return embed(maze.discounted(cfg.gamma), cfg.dim)
    data = maze.walk(400, 100, np.random.default_rng((seed, 0)))
    *_, last = hilp.train(data, replace(cfg, expectile=EXPECTILE[arm]), seed=seed, states=maze.size)
    return last.agent.points().copy()


def maps(arm: str, seed: int, budget: str) -> dict[str, float]:
    """The seed draws the walks, the initial map and the batches; a metric is the mean over the mazes."""
    from kit.envs.grid_maze import GridMaze, pairwise, relative_error
    from kit.skills.hilp import GRID

    rows = []
    for name in MAZES:
        maze, found = GridMaze.make(name), pairwise(map_of(arm, name, seed, budget))
        exact, pairs = maze.discounted(GRID.gamma), ~np.eye(maze.size, dtype=bool)
        rows.append({
            "correlation": np.corrcoef(found[pairs], exact[pairs])[0, 1],
            "relative_error": relative_error(found, exact),
            "scale": np.median(found[pairs] / exact[pairs]),
            "greedy_success": maze.greedy_success(found)[pairs].mean(),
        })  # fmt: skip
    return {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}


@lru_cache(maxsize=8)  # two claims, and several arms, look at the same policy
def policy_of(seed: int, budget: str):
    """The frozen policy, and points of the map to plan with, learnt from aimless walks that the seed draws."""
    from kit.skills import hilp, maze_world

    cfg = hilp.Config() if budget == "full" else hilp.Config(steps=60, skill_steps=40)
    data = maze_world.random_walk(MAZE, seed=seed)
    *_, last = hilp.train(data, cfg, seed=seed)
    return last.agent.policy(), last.agent.points()[::STORED_EVERY]


class Drawn:
    """A policy whose actions are drawn, where it would be judged by its mean."""

    def __init__(self, policy):
        self.policy = policy

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return self.policy.predict(observation, state, episode_start, deterministic=False)


def controller(arm: str, seed: int, budget: str):
    """A policy for observations [position, goal]."""
    from kit.skills import goal_cloning, maze_world, prompts
    from kit.skills.planner import MidpointPlanner

    if arm.startswith("goal_cloning"):
        cfg = goal_cloning.Config() if budget == "full" else goal_cloning.Config(steps=60)
        *_, last = goal_cloning.train(maze_world.random_walk(MAZE, seed=seed), cfg, seed=seed)
        return last.agent if arm == "goal_cloning_mean" else Drawn(last.agent)
    policy, stored = policy_of(seed, budget)
    if arm == "random_direction":
        return prompts.Wander(policy, seed=seed)
    return prompts.Toward(policy, MidpointPlanner(stored) if arm == "planning" else None)


def reach(arm: str, seed: int, budget: str, least: int) -> dict[str, float]:
    """The seed draws walks, networks, batches, starts and goals; `least` [cells] from start to goal."""
    from kit.skills import maze_world

    n = 200 if budget == "full" else 4
    tasks = maze_world.far_tasks(MAZE, least, n, np.random.default_rng((seed, 1)))
    played = maze_world.judge(controller(arm, seed, budget), MAZE, tasks, max_steps=500, seed=seed)
    return {"success": float(played.success.mean()), "steps": float(played.lengths.mean())}


def far(arm: str, seed: int, budget: str) -> dict[str, float]:
    """Goals at least eight cells away; the maze's longest way has eleven."""
    return reach(arm, seed, budget, least=8)


def anywhere(arm: str, seed: int, budget: str) -> dict[str, float]:
    """Goals in any other cell."""
    return reach(arm, seed, budget, least=1)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="hilp.correlation",
        papers=(3,),
        statement="On a map learnt with expectile 0.95 distances agree better with the exact ones than with 0.5.",
        arms=("hilp", "mean", "best_embedding"),
        metric="correlation",
        run=maps,
        margin=0.05,
        source="calibration: about half of the smallest difference, 0.09, on seeds 1000 and 1001",
        paper_number="none: the paper learns the map with expectile 0.95 and gives no comparison of distances",
        unit="correlation",
    ),
    Claim(
        id="hilp.greedy",
        papers=(3,),
        statement="Always moving to the neighbour nearest on the map reaches more goals with expectile 0.95 than 0.5.",
        arms=("hilp", "mean", "best_embedding"),
        metric="greedy_success",
        run=maps,
        margin=0.10,
        source="a tenth of all pairs of states, set before any run; seeds 1000 and 1001 showed 0.26",
        paper_number="none: the paper learns the map with expectile 0.95 and gives no comparison of distances",
        unit="share of pairs",
    ),
    Claim(
        id="hilp.planning",
        papers=(3,),
        statement="Far goals are reached more often by way of midpoints of the map than straight along it.",
        arms=("planning", "direct"),
        metric="success",
        run=far,
        margin=0.09,
        source="half of the paper's smaller gain, 18.5 points; recursions and neighbours were chosen on seed 1000",
        paper_number="success 46.0 to 64.5 % on AntMaze-large-diverse, 21.2 to 59.2 % on ultra-diverse",
        cost="long",
        unit="share of goals",
    ),
    Claim(
        id="hilp.zero_shot",
        papers=(3,),
        statement="Prompted with a goal, the policy of directions reaches more goals than goal-conditioned cloning.",
        arms=("direct", "goal_cloning", "goal_cloning_mean", "random_direction", "planning"),
        metric="success",
        run=anywhere,
        source="direction only; HILP's settings, and cloning by drawn actions for the mean, were chosen on seed 1000",
        paper_number="HILP above goal-conditioned behaviour cloning on offline goal tasks (direction only)",
        cost="long",
        unit="share of goals",
    ),
)
