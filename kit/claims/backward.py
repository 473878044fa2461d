"""Claims of latent backward planning: subgoals named from the goal back, against forward, fixed, parallel and none.

A task is a word, the one-hot name of a cell of `kit/PointMaze-v0`: go there. A noisy oracle shows 300 of the 2070 pairs
of start and word. Every arm has the same demonstrations, batches, losses, widths and number of updates; "forward" has
the very networks of "backward", and names the same subgoals from the nearest to the end.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from kit.claims.core import Claim

MAZE = "large"  # 46 cells; the longest way has 19 steps from cell to cell
EPISODES = 300  # demonstrations, of 46 * 45 pairs of start and word
HELD_OUT = 300  # more of them, on which plans are judged
NOISE = 0.5  # standard deviation of the oracle's action noise [full steps]
LIMIT = 1000  # steps of a demonstration and of an attempt
FAR_STEPS = 100  # from here on a subgoal is far [steps ahead]
FAR = 0.5  # of the maze's longest way: from there on a task is long
TASKS = 200  # attempts


def demonstrations(episodes: int, seed: tuple[int, int], maze: str = MAZE):
    """Episodes from a random cell to another one's centre: observations [x, y, one-hot word], latents (x, y)."""
    from kit.data import Episodes
    from kit.envs.point_maze import GOAL_TOLERANCE, PointMaze
    from kit.offline.maze_data import Oracle

    rng, world = np.random.default_rng(seed), PointMaze(episodes, maze=maze)
    oracle = Oracle(world)
    cells = oracle.grid.size
    pairs = np.argwhere(oracle.distances > 0)
    start, word = pairs[rng.integers(len(pairs), size=episodes)].T
    world.position = oracle.centres[start] + rng.uniform(-1, 1, (episodes, 2))
    world.goal = oracle.centres[word]
    places, actions = [world.position.copy()], []
    lengths = np.zeros(episodes, int)
    while (running := lengths == 0).any() and len(actions) < LIMIT:
        noise = NOISE * rng.standard_normal((episodes, 2))
        actions.append(np.clip(oracle.direction(world.position, world.goal) + noise, -1, 1))
        world.step(actions[-1])
        places.append(world.position.copy())
        there = np.linalg.norm(world.goal - world.position, axis=1) < GOAL_TOLERANCE
        lengths[running & there] = len(actions)
    kept = [(i, n) for i, n in enumerate(lengths) if n > 1]
    places, actions = np.array(places), np.array(actions)
    seen = np.concatenate([places[: n + 1, i] for i, n in kept]).astype(np.float32)
    words = np.concatenate([np.tile(np.eye(cells)[word[i]], (n + 1, 1)) for i, n in kept])
    ends = np.cumsum([n + 1 for _, n in kept]) - 1
    last = np.zeros(len(seen), bool)
    last[ends - 1] = True
    moves = np.concatenate([np.append(actions[:n, i], np.zeros((1, 2)), axis=0) for i, n in kept])
    return Episodes(np.column_stack([seen, words]), moves, last, np.zeros_like(last), ends, seen)


class Worded:
    """A policy of words as one of the maze's own observations [position, goal]."""

    def __init__(self, agent, maze: str = MAZE):
        from kit.envs.point_maze import PointMaze
        from kit.offline.maze_data import Oracle

        self.agent, self.oracle = agent, Oracle(PointMaze(maze=maze))

    def read(self, places: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Observations (n, 2 + cells) for places and goals (n, 2)."""
        return np.column_stack([places, np.eye(self.oracle.grid.size)[self.oracle.state(goals)]])

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        places, goals = np.split(np.asarray(observation, float), 2, axis=1)
        return self.agent.predict(self.read(places, goals), deterministic=deterministic)[0], state


def settings(arm: str, budget: str):
    """The arm's `Config`: an order, or "n subgoals" of the backward order."""
    from kit.imitation.backward_planning import Config

    cfg = Config(subgoals=int(arm.split()[0])) if arm.endswith("subgoals") else Config(order=arm)
    return cfg if budget == "full" else replace(cfg, fit=replace(cfg.fit, steps=20), hidden=(16,))


@lru_cache(maxsize=64)  # several claims look at the same agents
def agent_of(arm: str, seed: int, budget: str):
    from kit.imitation import backward_planning

    data = demonstrations(EPISODES if budget == "full" else 8, (seed, 0))
    *_, last = backward_planning.train(data, settings(arm, budget), seed=seed)
    return last.agent.eval()


def places_ahead(agent, observations: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """Where the agent expects to be (n, m, 2) after `ahead` (n, m) steps, the times that its plan names. The fixed
    order goes on jumping as far as it must, and is read between its jumps."""
    if agent.cfg.order != "fixed":
        return agent.subgoals(observations)
    jump = agent.cfg.jump
    chain, now = [observations[:, :2]], observations.copy()
    for _ in range(int(np.ceil(ahead.max() / jump))):
        now[:, :2] = agent.subgoals(now)[:, 0]
        chain.append(now[:, :2].copy())
    chain = np.stack([*chain, chain[-1]], axis=1)
    whole, part = np.divmod(ahead, jump)
    row, part = np.arange(len(ahead))[:, None], part[..., None] / jump
    return (1 - part) * chain[row, whole] + part * chain[row, whole + 1]


@lru_cache(maxsize=64)
def plans(arm: str, seed: int, budget: str) -> dict[str, float]:
    """Errors of planned places [m] against where held-out demonstrations went, by distance.

    All orders are judged at the same times, lambda^i (H - t) steps ahead.
    """
    from kit.data import sample_steps
    from kit.imitation.backward_planning import offsets

    agent = agent_of(arm, seed, budget)
    data = demonstrations(HELD_OUT if budget == "full" else 8, (seed, 1))
    rows = sample_steps(data, 4000 if budget == "full" else 50, np.random.default_rng((seed, 2)))
    ahead = offsets(data.last[rows] - rows, agent.cfg.subgoals, agent.cfg.ratio)
    miss = places_ahead(agent, data.observations[rows], ahead) - data.goals[rows[:, None] + ahead]
    error = np.linalg.norm(miss, axis=2)
    return {
        "far_error": float(error[ahead >= FAR_STEPS].mean()) if (ahead >= FAR_STEPS).any() else float(error.mean()),
        "near_error": float(error[ahead < FAR_STEPS].mean()),
        "slope": float(np.polyfit(ahead.ravel() / 100, error.ravel(), 1)[0]),
        **{f"error_{i}": float(e) for i, e in enumerate(error.mean(axis=0))},
        "calls": float(
            np.ceil(ahead.max() / agent.cfg.jump) if arm == "fixed" else 1 if arm == "parallel" else error.shape[1]
        ),
    }


@lru_cache(maxsize=64)
def walks(arm: str, seed: int, budget: str) -> dict[str, float]:
    """Success on long tasks, and on any."""
    from kit.offline import maze_data

    policy = Worded(agent_of(arm, seed, budget))
    n, limit = (TASKS, LIMIT) if budget == "full" else (6, 30)
    rng = np.random.default_rng((seed, 3))
    found = []
    for least in (FAR, 0.0):
        starts, goals = maze_data.far_pairs(policy.oracle, n, least, rng)
        goals = policy.oracle.centres[policy.oracle.state(goals)]
        found.append(float(maze_data.reached(policy, MAZE, starts, goals, limit).mean()))
    return {"success_far": found[0], "success_all": found[1]}


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="backward.far_error",
        papers=(24,),
        statement="Subgoals 100 and more steps ahead are nearer to the truth when planned from the goal back.",
        arms=("backward", "forward", "fixed", "parallel"),
        metric="far_error",
        run=plans,
        margin=0.5,
        source="calibration: less than half of the difference on seed 1000, 0.91 against 2.10",
        more_is_better=False,
        paper_number="prediction errors of forward planning accumulate, those of backward planning do not (no number)",
        cost="long",
        unit="m",
    ),
    Claim(
        id="backward.slope",
        papers=(24,),
        statement="From the goal back, the error of a subgoal grows less with its distance than planned forward.",
        arms=("backward", "forward", "fixed", "parallel"),
        metric="slope",
        run=plans,
        margin=0.35,
        source="calibration: less than half of the difference on seed 1000, 0.26 against 1.02",
        more_is_better=False,
        paper_number="backward planning stays on the task along the whole horizon (no number)",
        cost="long",
        unit="m for 100 steps",
    ),
    Claim(
        id="backward.success",
        papers=(24,),
        statement="A policy led by subgoals from the goal back does more long tasks than one led by forward subgoals.",
        arms=("backward", "forward", "fixed", "parallel", "flat"),
        metric="success_far",
        run=walks,
        source="direction only: the paper's arm is better; seed 1000 showed 0.90 against 0.92 before any was recorded",
        paper_number="LIBERO-LONG: 88.6, above planners that predict forward",
        cost="long",
        unit="share of long tasks",
        tried="The direction is open. Seed 1000 was looked at before recording: 0.90 against 0.92 with these "
        "settings, 0.87 against 0.85 with layers of 256 and 5000 updates; nothing was changed after. The "
        "forward order's far subgoals miss by 2 m, but its nearest one by about 1 m in cells of 4 m, and a "
        "policy that sees it at every step gets on.",
    ),
    Claim(
        id="backward.flat",
        papers=(24,),
        statement="A policy led by subgoals does more long tasks than one that sees state and instruction alone.",
        arms=("backward", "flat"),
        metric="success_far",
        run=walks,
        margin=0.056,
        source="half of the paper's gain, 11.3 points",
        paper_number="LIBERO-LONG: 88.6 with two subgoals, 77.3 without any goal",
        cost="long",
        unit="share of long tasks",
        tried="The direction holds on every seed and the gain, 0.10, is about the paper's, but with five seeds its "
        "interval begins at 0.04, below the margin. Seed 1000 showed 0.90 against 0.74 before recording; "
        "nothing was changed after.",
    ),
    Claim(
        id="backward.subgoals",
        papers=(24,),
        statement="Two subgoals beside the end lead to more long tasks done than the end alone; one and three beside.",
        arms=("backward", "0 subgoals", "1 subgoals", "3 subgoals"),
        metric="success_far",
        run=walks,
        margin=0.026,
        source="half of the paper's gain, 5.3 points",
        paper_number="LIBERO-LONG: 83.3 with the end alone, 85.6, 88.6 and 83.0 with one, two and three subgoals",
        cost="long",
        unit="share of long tasks",
        tried="Two subgoals do more than the end alone by 0.035, but with five seeds the interval begins at 0.002, "
        "below the margin. Three did as well as two here, where the paper has a loss. No other settings were "
        "tried; the ablation was run once.",
    ),
)
