"""The shipped chunk policies: what they do, that NumPy and torch agree on them, and how they are made."""

from dataclasses import replace

import numpy as np
import pytest

import kit
from kit import runtime, stats
from kit.diffusion import policy, serving, shipped
from kit.diffusion.fit import FitConfig
from kit.envs import avoid


def test_a_policy_learns_to_pass_on_both_sides():
    """Each side 30 to 70 %, and hardly any collision; the mean of the demonstrations runs into the pillar."""
    data = avoid.episodes(20, seed=0, rows=1)
    cfg = policy.Config(width=128, fit=FitConfig(steps=400, batch_size=128, learning_rate=3e-3))
    agent = runtime.run(policy.train(data, cfg, seed=0))
    ways, success = shipped.ways(agent, 200, seed=1, rows=1)
    assert success.mean() > 0.95
    assert 0.3 < (ways[success] == 0).mean() < 0.7
    starts = np.r_[0, data.ends[:-1] + 1]
    ways = [data.observations[a : b + 1, 2:] for a, b in zip(starts, data.ends, strict=True)]
    at_pillar = np.mean([np.interp(avoid.ROW_Y[0], way[:, 1], way[:, 0]) for way in ways])
    assert abs(at_pillar - avoid.ROWS[0][0]) < avoid.PILLAR[0]


def test_avoid_diffusion_knows_the_24_ways():
    ways, success = shipped.ways(kit.load("avoid_diffusion"), 240, seed=2)
    assert success.mean() > 0.9
    assert stats.behaviour_entropy(ways, success, avoid.modes()) > 0.85


def stored(name: str, n: int) -> np.ndarray:
    """Observations of demonstrations that the policy has not seen."""
    few = {
        "avoid_diffusion": lambda: avoid.episodes(1, seed=9),
        "push_t": lambda: shipped.push_t_episodes(12, seed=9),
    }
    rows = few[name]().observations
    return rows[np.random.default_rng(0).integers(len(rows), size=n)]


@pytest.mark.parametrize("name", shipped.RECIPES)
def test_numpy_equals_torch_on_stored_observations(name):
    served, agent = kit.load(name), serving.restore(runtime.asset("checkpoints", name))
    history = np.repeat(stored(name, 1000)[:, None], served.obs_steps, axis=1)
    noise = np.random.default_rng(1).standard_normal((1000, *served.noise_shape), dtype=np.float32)
    off = (np.abs(served.plan(history, noise) - agent.plan(history, noise)) / agent.action_scaler.half).max(axis=(1, 2))
    # A few draws begin where two ways part, and blow rounding up: there torch is as far from its own double precision.
    assert (off > 1e-5).sum() <= 5 and off.max() < 1e-3
    assert served.card["success"]["rate"] > shipped.RECIPES[name].target - 0.05


@pytest.mark.parametrize("name", shipped.RECIPES)
def test_they_are_made_by_their_recipes(name, tmp_path, monkeypatch):
    recipe = shipped.RECIPES[name]
    small = replace(recipe.config, width=16, layers=1, widths=(8, 16), fit=FitConfig(2, 8))
    few = {
        "avoid_diffusion": lambda seed: avoid.episodes(1, seed=seed, rows=1),
        "push_t": lambda seed: shipped.push_t_episodes(4, seed=seed),
    }
    monkeypatch.setitem(shipped.RECIPES, name, replace(recipe, config=small, episodes=few[name]))
    monkeypatch.setattr(shipped, "judge", lambda agent, name: stats.success_rate(np.ones(3)))
    steps = [m["progress"] for m in shipped.make(name, seed=3, out=tmp_path)]
    assert steps[-1] == 1
    card = kit.load(tmp_path).card
    assert (card["name"], card["seed"], card["env"], card["options"]) == (name, 3, recipe.env_id, recipe.options)
    with pytest.raises(ValueError, match=r"'push_it' here; there are avoid_diffusion, push_t"):
        next(shipped.make("push_it", seed=0, out=tmp_path))
