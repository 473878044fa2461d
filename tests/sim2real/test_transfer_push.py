import numpy as np
import pytest
import torch

import kit
from kit.rl import ppo
from kit.sim2real.transfer import push

TINY = push.Config(ppo=ppo.Config(total_steps=256, n_steps=16, n_epochs=1, batch_size=128), num_envs=16, warm=1.0)


def test_it_starts_as_the_shipped_policy_and_a_warm_start_leaves_it_alone():
    shipped = kit.load("arm_push")
    obs = np.random.default_rng(0).normal(size=(20, shipped.obs_dim)).astype(np.float32)
    wanted = shipped.predict(obs, deterministic=True)[0]
    *_, last = push.train("oracle", TINY, seed=0)
    np.testing.assert_allclose(last.agent.predict(obs, deterministic=True)[0], wanted, atol=1e-5)


def test_after_the_warm_start_the_policy_learns():
    from dataclasses import replace

    first = push.from_shipped(kit.load("arm_push"), -1.2)(32, -np.ones(5), np.ones(5), TINY.ppo, torch.Generator())
    *_, last = push.train("naive", replace(TINY, warm=0.0), seed=0)
    assert not torch.allclose(last.agent.actor[0].weight, first.actor[0].weight)


def test_judge_is_the_same_on_the_same_seed(monkeypatch):
    monkeypatch.setattr(push, "EPISODES", 10)
    found = push.run("shipped", TINY, seed=3)
    assert found == push.run("shipped", TINY, seed=3)
    assert found["gap"] == found["nominal"] - found["twin"]


def test_an_unknown_world():
    with pytest.raises(ValueError, match="no world is called 'moon'; there are naive, oracle, latency"):
        next(push.train("moon", TINY, seed=0))
