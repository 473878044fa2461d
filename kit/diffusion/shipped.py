"""The diffusion policies that the kit ships, and how each is made: `python -m kit train avoid_diffusion --out DIR`.

    avoid_diffusion   residual MLP, DDIM 8, `kit/Avoid-v0`: 24 ways through three rows of pillars
    push_t            1-D U-Net, DDIM 8, `kit/PushT-v0` with the T within 30 % of its range and seen from the T

Both are made on one core in less than ten minutes, and run in NumPy: `kit.load("push_t")`. Their demonstrations have
seeds from 1000 on, apart from those of the recorded claims. Look first at `RECIPES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kit import stats
from kit.data import Episodes
from kit.diffusion import policy, serving
from kit.diffusion.fit import FitConfig
from kit.envs import avoid, batched
from kit.envs.env import BatchEnv
from kit.rollout import evaluate
from kit.types import Metrics

HELD_OUT = 10_000_000  # seed of the tasks that judge
DEMONSTRATIONS = 1000  # added to the seed of a run


@dataclass(frozen=True)
class Recipe:
    """What a policy learns from, and how."""

    env_id: str
    options: dict[str, Any]  # of the environment
    episodes: Callable[..., Episodes]  # (seed) -> demonstrations
    config: policy.Config
    target: float  # success that the settings are meant to reach on 200 held-out tasks


def push_t_episodes(episodes: int = 1200, *, seed: int) -> Episodes:
    """Solved episodes of `kit.envs.push_t_expert`."""
    from kit.envs.push_t_expert import demonstrations

    return demonstrations(episodes, seed=seed, **RECIPES["push_t"].options)


RECIPES = {
    "avoid_diffusion": Recipe(
        "kit/Avoid-v0",
        {},
        avoid.episodes,
        policy.Config(execute=4, width=128, fit=FitConfig(steps=6000, batch_size=256, learning_rate=2e-3)),
        target=0.95,
    ),
    "push_t": Recipe(
        "kit/PushT-v0",
        {"spread": 0.3, "frame": "block"},
        push_t_episodes,
        policy.Config(obs_steps=1, network="unet", widths=(24, 48, 96), fit=FitConfig(steps=4000, batch_size=128)),
        target=0.9,
    ),
}


def judge(agent: Any, name: str, *, episodes: int = 200) -> stats.Estimate:
    """Success of a policy on held-out tasks of its environment, one episode each, every plan with new noise: with the
    same noise again and again a policy that is stuck stays stuck."""
    recipe = RECIPES[name]
    env = batched(recipe.env_id, episodes, **recipe.options)
    try:
        return evaluate(agent, env, seed=HELD_OUT, deterministic=False).rate
    finally:
        env.close()


def ways(agent: Any, n: int, *, seed: int, rows: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """The ways (n,) that rods take past the pillars, -1 where not all rows were crossed; and who left, bool (n,)."""
    task, found = avoid.Avoid(n, rows=rows), np.full(n, -1)

    def note(env: BatchEnv) -> None:
        found[:] = np.where((task.mode >= 0) & (found < 0), task.mode, found)

    success = evaluate(agent, BatchEnv(task), seed=seed, deterministic=False, on_step=note).success
    return np.where(success, found, -1), success


def make(name: str, *, seed: int, out: str | Path) -> Iterator[Metrics]:
    """Train one of `RECIPES`, judge it, and save it in the folder `out` at the end.

    Raises:
        ValueError: another name.
    """
    if name not in RECIPES:
        raise ValueError(f"no policy is called {name!r} here; there are {', '.join(RECIPES)}")
    recipe, metrics = RECIPES[name], None
    for metrics in policy.train(recipe.episodes(seed=DEMONSTRATIONS + seed), recipe.config, seed=seed):
        yield metrics
    rate = judge(metrics.agent, name)
    facts = {"rate": rate.value, "low": rate.low, "high": rate.high, "episodes": rate.n, "target": recipe.target}
    serving.save(metrics.agent, out, name=name, env=recipe.env_id, options=recipe.options, seed=seed, success=facts)
