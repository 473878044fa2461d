"""Policies: the NumPy network against Stable-Baselines3's, saving and loading, and damage."""

import json

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC

import kit
from kit import checkpoints
from kit.envs import batched
from kit.nets import MlpPolicy
from kit.rl import sb3
from kit.types import Policy


@pytest.fixture
def model() -> PPO:
    return sb3.make(batched("kit/ArmReach-v0", 2), sb3.Config(num_envs=2, n_steps=8, batch_size=16), seed=0)


def test_numpy_policy_equals_sb3(model):
    policy = MlpPolicy.from_sb3(model)
    obs = np.random.default_rng(0).normal(size=(1000, 24)).astype(np.float32)
    np.testing.assert_allclose(
        policy.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0], atol=1e-5
    )
    one, state = policy.predict(obs[0], state=None, deterministic=True)
    assert one.shape == (5,) and state is None and isinstance(policy, Policy)


def test_stochastic_actions_have_the_policy_s_spread(model):
    policy = MlpPolicy.from_sb3(model)
    policy.low, policy.high = np.full(5, -np.inf), np.full(5, np.inf)
    obs = np.zeros((20_000, 24), np.float32)
    actions, mean = policy.predict(obs)[0], policy.predict(obs[:1], deterministic=True)[0]
    np.testing.assert_allclose(actions.std(axis=0), np.exp(policy.log_std), rtol=0.03)
    np.testing.assert_allclose(actions.mean(axis=0), mean[0], atol=0.02)


def test_save_and_load_give_the_same_policy(model, tmp_path):
    folder = checkpoints.save(model, tmp_path / "mine", env="kit/ArmReach-v0", seed=0)
    loaded = kit.load(folder)
    obs = np.random.default_rng(1).normal(size=(50, 24)).astype(np.float32)
    np.testing.assert_array_equal(
        loaded.predict(obs, deterministic=True)[0], MlpPolicy.from_sb3(model).predict(obs, deterministic=True)[0]
    )
    assert loaded.card["env"] == "kit/ArmReach-v0" and sorted(p.name for p in folder.iterdir()) == [
        "policy.json",
        "policy.safetensors",
    ]


def test_missing_checkpoint_lists_the_shipped_ones():
    with pytest.raises(FileNotFoundError, match=r"'arm_dance'.*arm_reach.*kit train"):
        kit.load("arm_dance")


def damage_tensors(folder):
    path = folder / "policy.safetensors"
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.write_bytes(blob)


def cut_tensors(folder):
    path = folder / "policy.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def cut_json(folder):
    path = folder / "policy.json"
    path.write_text(path.read_text()[:50])


def other_format(folder):
    path = folder / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))


def lose_tensors(folder):
    (folder / "policy.safetensors").unlink()


@pytest.mark.parametrize("damage", [damage_tensors, cut_tensors, cut_json, other_format, lose_tensors])
def test_damaged_checkpoints_are_refused(model, tmp_path, damage):
    folder = checkpoints.save(model, tmp_path / "mine")
    damage(folder)
    with pytest.raises(checkpoints.DamagedCheckpoint, match=r"mine|format 99"):
        kit.load(folder)


def test_wrong_observation_size_is_named(model):
    with pytest.raises(ValueError, match=r"\(32,\).*takes \(24,\)"):
        MlpPolicy.from_sb3(model).predict(np.zeros(32))


def test_only_tanh_networks_are_exported():
    env = sb3.BatchVecEnv(batched("kit/PointMaze-v0", 2))
    relu = PPO("MlpPolicy", env, n_steps=8, batch_size=16, policy_kwargs={"activation_fn": torch.nn.ReLU})
    with pytest.raises(ValueError, match="ReLU"):
        MlpPolicy.from_sb3(relu)
    with pytest.raises(ValueError, match="SAC"):
        MlpPolicy.from_sb3(SAC("MlpPolicy", env))


@pytest.mark.parametrize(("name", "target"), [("arm_reach", 0.95), ("arm_push", 0.80), ("track", 0.70)])
def test_shipped_checkpoints_do_what_their_card_says(name, target):
    from kit.train import judge

    policy = kit.load(name)
    assert policy.card["success"]["rate"] >= target
    result = judge(policy, policy.card["env"])
    assert result.rate.value >= target - 0.03 and not result.physics_errors.any()
