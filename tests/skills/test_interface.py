"""What every method of the wing answers to: `kit.types.SkillMethod`, `ZeroShot` and `Policy`."""

import numpy as np
import pytest
import torch

import kit
from kit.skills import apt, csd, diayn, lsd, metra, rnd
from kit.types import Policy, SkillMethod, ZeroShot


@pytest.mark.parametrize("module", [diayn, lsd, csd, metra, rnd, apt])
def test_discovery_draws_skills_rewards_steps_and_learns(module):
    method = module.Config().make(3, torch.Generator().manual_seed(0))
    assert isinstance(method, SkillMethod)
    rng = np.random.default_rng(0)
    s, s2, z = rng.normal(size=(20, 3)), rng.normal(size=(20, 3)), method.sample_skill(20, rng)
    assert z.shape == (20, method.dim)
    reward = method.reward(s.astype(np.float32), z, s2.astype(np.float32))
    assert np.shape(reward) == (20,) and np.isfinite(reward).all()


def test_the_shipped_directions_take_every_prompt():
    policy = kit.load("maze_directions")
    assert isinstance(policy, ZeroShot) and isinstance(policy, Policy)
    states = np.random.default_rng(0).uniform(0, 10, (20, 2))
    goals, reward = policy.z_from_goal(states, states[::-1]), policy.z_from_reward(states, states[:, 0])
    assert np.allclose(np.linalg.norm(goals, axis=1), 1) and np.linalg.norm(reward) == pytest.approx(1)
    assert policy.z_from_states(states).shape == reward.shape
    action, _ = policy.predict(np.concatenate([states, goals], axis=1), deterministic=True)
    assert action.shape == (20, 2) and np.abs(action).max() <= 1


@pytest.mark.parametrize("name", ["metra_disc", "skills_planar", "skills_arm"])
def test_shipped_skills_act_on_observation_and_skill(name):
    policy = kit.load(name)
    state = np.zeros((2, policy.obs_dim - 2))
    actions, _ = policy.predict(np.concatenate([state, np.eye(2)], axis=1), deterministic=True)
    assert isinstance(policy, Policy) and len(actions) == 2 and not np.allclose(actions[0], actions[1])
