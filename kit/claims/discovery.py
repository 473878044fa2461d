"""Claims about reward-free skill discovery: DIAYN, LSD and METRA on the open plane, RND and APT in four rooms."""

from __future__ import annotations

from typing import Any

import numpy as np

from kit.claims.core import Claim
from kit.envs.env import BatchEnv
from kit.envs.point_disc import STEP, PointDisc, count_cells

EPISODES = 8  # simulations at once: episodes an epoch
FAN = 48  # skills that judge a continuous method
DRAWS = 10  # episodes of each discrete skill, with the policy's own noise
RECENT = 10_000  # steps that DIAYN's discriminator learns from, a third of the run
NUISANCE = 10.0  # scale of the third number, which needs 5 steps from its middle to either end


def straight(n: int, max_steps: int = 50) -> np.ndarray:
    """The paths (max_steps + 1, n, 2) of the best policy: n rays from the origin at full speed."""
    angle = 2 * np.pi * np.arange(n) / n
    rays = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    env = BatchEnv(PointDisc(n, max_steps=max_steps))
    path = [env.reset(seed=0)[0]]
    for _ in range(max_steps):
        obs, _, _, truncated, info = env.step(rays)
        path.append(info["final_obs"] if truncated.all() else obs)
    return np.stack(path)


def train(method: str, seed: int, budget: str, nuisance: float | None = None) -> Any:
    """A method's agent after 75 epochs on the open plane: 30,000 steps, 2,920 updates."""
    from kit.skills import diayn, lsd, metra, trainer

    config = {"diayn": diayn, "lsd": lsd, "metra": metra}[method].Config()
    sac = trainer.small_sac(capacity=RECENT) if method == "diayn" else trainer.small_sac()
    cfg = trainer.Config(method=config, epochs=75 if budget == "full" else 4, sac=sac)
    env = BatchEnv(PointDisc(EPISODES, nuisance=nuisance))
    for metrics in trainer.train(env, cfg, seed=seed):  # noqa: B007  (the last is wanted)
        pass
    return metrics.agent


def paths(agent: Any, skills: np.ndarray, *, nuisance: float | None = None, noisy: bool = False) -> np.ndarray:
    """Positions (max_steps + 1, n, 2) of an episode of each skill."""
    from kit.skills import trainer

    env = BatchEnv(PointDisc(len(skills), nuisance=nuisance))
    return trainer.trails(agent, env, skills, seed=0, deterministic=not noisy)[..., :2]


def spread(path: np.ndarray) -> dict[str, float]:
    """How far episodes end from their start, as a share of the furthest there is, and what they visit together."""
    reached = np.linalg.norm(path[-1] - path[0], axis=1) / (STEP * (len(path) - 1))
    share = float(reached.mean())
    return {"share": share, "log2_share": float(np.log2(share)), "cells": float(count_cells(path))}


def accuracy(agent: Any) -> dict[str, float]:
    """How often the discriminator names the skill: from the state that an episode ends in, and from all of them."""
    k = agent.method.dim
    path = paths(agent, np.repeat(np.eye(k, dtype=np.float32), DRAWS, axis=0), noisy=True)
    right = agent.method.logits(path[1:].reshape(-1, 2)).argmax(1).reshape(len(path) - 1, -1)
    right = right == np.repeat(np.arange(k), DRAWS)
    return {"accuracy": float(right[-1].mean()), "accuracy_all_steps": float(right.mean())}


def plane(arm: str, seed: int, budget: str) -> dict[str, float]:
    """The seed draws weights, skills, exploration and batches."""
    from kit.skills.skill import circle

    if arm == "straight":
        return spread(straight(FAN)) | {"return_share": 1.0}
    if arm == "guess":
        return {"accuracy": 1 / 16}
    agent = train(arm, seed, budget)
    if arm == "diayn":
        return spread(paths(agent, np.eye(agent.method.dim, dtype=np.float32))) | accuracy(agent)
    z = circle(FAN)
    path = paths(agent, z)
    steps = range(len(path) - 1)
    rewards = [agent.method.reward(path[t], z, path[t + 1]).mean() for t in steps]
    return spread(path) | {"return_share": float(np.mean(rewards))}


def nuisance(arm: str, seed: int, budget: str) -> dict[str, float]:
    """The same plane with a third number, ten times as large."""
    from kit.skills.skill import circle

    return spread(paths(train(arm, seed, budget, NUISANCE), circle(FAN), nuisance=NUISANCE))


def rooms(arm: str, seed: int, budget: str) -> dict[str, float]:
    """Cells of 84 that are visited in 64,000 steps: 320 episodes, each from the same corner."""
    from kit.skills import apt, rnd, trainer

    epochs = 40 if budget == "full" else 4
    env = BatchEnv(PointDisc(EPISODES, rooms=True, max_steps=200))
    if arm == "random":
        rng, seen = np.random.default_rng(seed), []
        env.reset(seed=seed)
        for _ in range(epochs * env.task.max_steps):
            seen.append(env.step(rng.uniform(-1, 1, (EPISODES, 2)))[0])
        points = np.stack(seen)
    else:
        cfg = trainer.Config(method={"apt": apt, "rnd": rnd}[arm].Config(), epochs=epochs)
        learner = trainer.Trainer(env, cfg, seed)
        for _ in range(epochs):
            learner.epoch()
        points = learner.replay.rows()["next_obs"]
    cells = count_cells(points)
    return {"cells": float(cells), "log2_cells": float(np.log2(cells))}


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="metra.optimum",
        papers=(),
        statement="METRA's 48 skills run nearly as far as a step of 0.2 allows: no policy can do better than 1.",
        arms=("metra", "straight"),
        metric="share",
        run=plane,
        margin=-0.1,
        source="theory: phi = s / 0.2 and straight rays are optimal; asked are nine tenths of the way",
        paper_number="METRA (Park et al. 2024): optimal skills maximise the distance travelled (theory)",
        unit="share of the furthest",
    ),
    Claim(
        id="metra.displacement",
        papers=(),
        statement="METRA's skills go more than twice as far as DIAYN's.",
        arms=("metra", "diayn", "lsd", "straight"),
        metric="log2_share",
        run=plane,
        margin=1.0,
        source="twice as far is one doubling; the factor was asked before the first run",
        paper_number="METRA (Park et al. 2024): DIAYN's skills hardly move the robots (figures)",
        unit="doublings",
        tried="first with all 30,000 steps in DIAYN's buffer instead of the last 10,000: on seeds 0-4 its "
        "discriminator was right in only 0.78 to 1 of the ends, and the difference unclear, 1.44 (0.90 to 1.98) "
        "doublings. The buffer was then chosen by the discriminator's accuracy on seeds 1001-1003 (0.95 or more)",
    ),
    Claim(
        id="diayn.accuracy",
        papers=(),
        statement="DIAYN's 16 skills can be told from the states that they end in, although they stay near.",
        arms=("diayn", "guess"),
        metric="accuracy",
        run=plane,
        margin=0.9 - 1 / 16,
        source="nine in ten right, which is 0.9 - 1/16 above a guess; asked before the first run",
        paper_number="DIAYN (Eysenbach et al. 2019): skills are told apart by their states (figures)",
        unit="probability",
        tried="see metra.displacement: the same runs, and the same change of the buffer",
    ),
    Claim(
        id="metra.nuisance",
        papers=(),
        statement="With a number in the state that is easily moved and ten times as large, METRA covers more than LSD.",
        arms=("metra", "lsd"),
        metric="cells",
        run=nuisance,
        source="direction only: temporal distance does not change with units, Euclidean distance does",
        paper_number="METRA (Park et al. 2024): a metric invariant to the state's representation (theory)",
        unit="unit cells visited by 48 skills",
    ),
    Claim(
        id="apt.rooms",
        papers=(),
        statement="The k-nearest-neighbour reward visits at least twice as many cells of four rooms as a random walk.",
        arms=("apt", "random"),
        metric="log2_cells",
        run=rooms,
        margin=1.0,
        source="twice as many is one doubling; asked before the first run",
        paper_number="APT (Liu and Abbeel 2021): explores without a task",
        unit="doublings",
    ),
    Claim(
        id="rnd.rooms",
        papers=(),
        statement="RND's error reward visits at least twice as many cells of four rooms as a random walk.",
        arms=("rnd", "random"),
        metric="log2_cells",
        run=rooms,
        margin=1.0,
        source="twice as many is one doubling; asked before the first run",
        paper_number="RND (Burda et al. 2019): explores games without their reward (figures)",
        unit="doublings",
    ),
)
