"""Exported policies: the same numbers from torch, NumPy and ONNX; what the card says; and damage."""

import json

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

import kit
from kit import runtime
from kit.checkpoints import DamagedCheckpoint
from kit.envs import batched
from kit.rl import ppo, sb3
from kit.sim2real import export as ex
from kit.sim2real.bus import Lockstep, virtual_arm
from kit.sim2real.export import ARM_REACH, Card, NumpyPolicy, OnnxPolicy, export, requirements
from kit.sim2real.so101 import SO101
from kit.sim2real.units import KEYS, UnknownJoint, WrongRate, WrongUnits
from kit.types import Policy

LOW, HIGH = np.array([-1.0, -0.5]), np.array([1.0, 2.0])
SMALL = Card(observation=("a", "b", "c"), action=("x", "y"), rate=20.0)
OBS = np.random.default_rng(0).normal(0, 2, (1000, 24)).astype(np.float32)


def sb3_model(**options):
    return sb3.make(batched("kit/ArmReach-v0", 2), sb3.Config(num_envs=2, n_steps=8, batch_size=16, **options), seed=0)


def strengthen(model):
    """Weights large enough for some actions to be clipped; an untrained policy's are all near zero."""
    with torch.no_grad():
        model.policy.action_net.weight *= 300
    return model


def sequential(*modules, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 16), *modules, nn.Linear(16, 2))


def both(folder):
    return NumpyPolicy.load(folder), OnnxPolicy.load(folder)


def assert_same(folder, expected, obs):
    for policy in both(folder):
        actions, state = policy.predict(obs, state=None, deterministic=True)
        assert actions.dtype == np.float32 and actions.shape == expected.shape and state is None
        assert np.abs(actions - expected).max() < 1e-5


# ---- parity -----------------------------------------------------------------------------------------------------


def test_ppo_of_stable_baselines3(tmp_path):
    model = strengthen(sb3_model())
    expected = model.predict(OBS, deterministic=True)[0]
    assert (np.abs(expected) == 1).any() and (np.abs(expected) < 1).any()  # some are clipped
    assert_same(export(model, tmp_path, ARM_REACH), expected, OBS)


def test_our_own_actor_critic(tmp_path):
    agent = ppo.ActorCritic(24, -np.ones(5), np.ones(5), ppo.Config(), torch.Generator().manual_seed(0))
    with torch.no_grad():
        agent.actor[-1].weight *= 300
    assert_same(export(agent, tmp_path, ARM_REACH), agent.predict(OBS, deterministic=True)[0].astype(np.float32), OBS)


@pytest.mark.parametrize(
    "modules",
    [
        [nn.ReLU()],
        [nn.ELU()],
        [nn.SiLU()],
        [nn.Sigmoid()],
        [nn.LayerNorm(16), nn.Tanh(), nn.Dropout()],
        [nn.Tanh(), nn.Linear(16, 16, bias=False), nn.Sequential(nn.Identity(), nn.ReLU())],
    ],
    ids=lambda modules: "-".join(type(m).__name__ for m in modules),
)
@pytest.mark.parametrize("squash", [False, True])
def test_plain_networks_with_normalisation_and_bounds(tmp_path, modules, squash):
    net = sequential(*modules).eval()
    mean, std = np.array([5.0, -2.0, 0.0]), np.array([0.1, 3.0, 1.0])
    obs = (mean + 4 * std * np.random.default_rng(1).normal(size=(1000, 3))).astype(np.float32)
    with torch.no_grad():
        net[-1].weight *= 3  # so that some actions reach their bounds
        inner = torch.as_tensor(((obs - mean.astype(np.float32)) / std.astype(np.float32)).clip(-5, 5))
        out = net(inner).double().numpy()
    expected = LOW + (HIGH - LOW) * (np.tanh(out) + 1) / 2 if squash else out.clip(LOW, HIGH)
    folder = export(net, tmp_path, SMALL, low=LOW, high=HIGH, squash=squash, normalisation=(mean, std, 5.0))
    assert_same(folder, expected, obs)


def test_a_model_behind_vec_normalize_takes_raw_observations(tmp_path):
    env = VecNormalize(sb3.BatchVecEnv(batched("kit/ArmReach-v0", 2)), clip_obs=2.0)
    model = strengthen(PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, seed=0, device="cpu"))
    model.learn(128)
    assert np.abs(env.obs_rms.mean).max() > 0.05
    expected = model.predict(env.normalize_obs(OBS), deterministic=True)[0]
    folder = export(model, tmp_path, ARM_REACH)
    assert_same(folder, expected, OBS)
    assert NumpyPolicy.load(folder).card["layers"][:2] == ["scale", "clip"]


def test_a_model_that_squashes_by_itself(tmp_path):
    env = sb3.BatchVecEnv(batched("kit/ArmReach-v0", 2))
    options = dict(policy_kwargs={"squash_output": True}, use_sde=True, device="cpu", seed=0)
    model = strengthen(PPO("MlpPolicy", env, n_steps=8, batch_size=16, **options))
    expected = model.predict(OBS, deterministic=True)[0]
    assert 0.9 < np.abs(expected).max() < 1 + 1e-6
    assert_same(export(model, tmp_path, ARM_REACH), expected, OBS)


def test_the_shipped_checkpoint_needs_no_card_and_stays_a_checkpoint(tmp_path):
    policy = kit.load("arm_reach")
    folder = export(policy, tmp_path)
    expected = policy.predict(OBS, deterministic=True)[0]
    assert_same(folder, expected, OBS)
    again = kit.load(folder)
    np.testing.assert_array_equal(again.predict(OBS, deterministic=True)[0], expected)
    assert again.card["env"] == "kit/ArmReach-v0" and again.card["trained"]["success"] == policy.card["success"]
    assert {p.name for p in folder.iterdir()} == {
        "policy.json", "policy.npz", "policy.onnx", "policy.safetensors"
    }  # fmt: skip
    assert_same(export(again, tmp_path / "b"), expected, OBS)


def test_one_observation_gives_one_action_as_stable_baselines3_does(tmp_path):
    model = sb3_model()
    for policy in both(export(model, tmp_path, ARM_REACH)):
        assert isinstance(policy, Policy)
        one, state = policy.predict(OBS[0], state=(np.ones(2),))
        assert one.shape == model.predict(OBS[0])[0].shape == (5,) and state is not None
        np.testing.assert_array_equal(one, policy.predict(OBS[:1], deterministic=False)[0][0])
        with pytest.raises(ValueError, match=r"\(32,\); this policy takes \(24,\)"):
            policy.predict(np.zeros(32))


def test_the_graph_is_old_enough_and_has_no_fixed_batch(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(export(sb3_model(), tmp_path, ARM_REACH) / "policy.onnx")
    assert model.ir_version == ex.IR and model.opset_import[0].version == ex.OPSET == 17
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    assert dimensions[0].dim_param == "n" and dimensions[1].dim_value == 24
    assert [o.name for o in model.graph.output] == ["action"]


# ---- the card ---------------------------------------------------------------------------------------------------


def test_the_card_says_what_an_arm_must_know(tmp_path):
    folder = export(kit.load("arm_reach"), tmp_path)
    card = json.loads((folder / "policy.json").read_text())
    assert len(card["observation"]) == card["obs_dim"] == 24 and len(card["action"]) == card["act_dim"] == 5
    assert (card["rate"], card["units"], card["history"]) == (30.0, "degrees", 1)
    assert card["action_low"] == [-1.0] * 5 and card["action_high"] == [1.0] * 5
    assert card["limits"] == {"max_delta": 0.05} and card["joints"] == list(KEYS)
    assert card["layers"] == ["linear", "tanh", "linear", "tanh", "linear", "clip"]
    assert set(card["files"]) == {"policy.npz", "policy.onnx"}


def test_requirements_are_what_the_arm_compares(tmp_path):
    needs = requirements(NumpyPolicy.load(export(kit.load("arm_reach"), tmp_path)).card)
    assert needs == requirements(ARM_REACH) == {"rate": 30.0, "units": "degrees", "joints": list(KEYS)}
    bus = virtual_arm(calibrated=True, clock=Lockstep())
    robot = SO101(bus, calibration=bus.arm.calibration)
    robot.require(**needs)
    for change, error in (
        (dict(rate=15.0), WrongRate), (dict(units="radians"), WrongUnits), (dict(joints=KEYS[:5]), UnknownJoint)
    ):  # fmt: skip
        with pytest.raises(error):
            robot.require(**needs | change)


def test_history_multiplies_the_observation(tmp_path):
    net = nn.Sequential(nn.Linear(6, 2))
    card = Card(observation=("a", "b", "c"), action=("x", "y"), rate=20.0, history=2)
    assert NumpyPolicy.load(export(net, tmp_path, card, low=LOW, high=HIGH)).card["history"] == 2


# ---- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agent", "options", "message"),
    [
        (lambda: sequential(nn.Tanh()), dict(low=LOW, high=HIGH), "give a Card: the names of 3 observations and 2"),
        (lambda: sequential(nn.Tanh()), dict(card=SMALL), "give low and high"),
        (lambda: sequential(nn.Tanh()), dict(card=ARM_REACH, low=LOW, high=HIGH), "names 24 observations, 1 times"),
        (lambda: sequential(nn.GELU()), dict(card=SMALL, low=LOW, high=HIGH), r"cannot export a GELU.*known ones are"),
        (lambda: sequential(nn.ELU(0.5)), dict(card=SMALL, low=LOW, high=HIGH), r"cannot export a ELU\(alpha=0\.5\)"),
        (lambda: nn.Sequential(nn.Tanh()), dict(card=SMALL, low=LOW, high=HIGH), "no linear layer"),
        (lambda: object(), dict(card=SMALL), "cannot export a object; give an MlpPolicy"),
        (lambda: SAC("MlpPolicy", sb3.BatchVecEnv(batched("kit/PointMaze-v0", 2))), {}, "cannot export a SAC"),
        (lambda: sequential(nn.Tanh()), dict(card=SMALL, low=LOW, high=[np.inf, 1], squash=True), "finite bounds"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(tmp_path, agent, options, message):
    with pytest.raises(ValueError, match=message):
        export(agent(), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_card_without_a_rate_is_refused():
    with pytest.raises(ValueError, match="rate is 0 Hz and history 1; both must be positive"):
        Card(("a",), ("x",), rate=0)


def change_a_byte(path):
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)


@pytest.mark.parametrize(("load", "name"), [(NumpyPolicy.load, "policy.npz"), (OnnxPolicy.load, "policy.onnx")])
def test_damage_is_noticed_and_named(tmp_path, load, name):
    folder = export(sb3_model(), tmp_path, ARM_REACH)
    change_a_byte(folder / name)
    with pytest.raises(
        DamagedCheckpoint, match=rf"{name} is not the file that policy\.json describes; export the policy"
    ):
        load(folder)
    (folder / name).unlink()
    with pytest.raises(DamagedCheckpoint, match=rf"{name} cannot be read.*copy the whole folder"):
        load(folder)
    card = json.loads((folder / "policy.json").read_text())
    (folder / "policy.json").write_text(json.dumps(card | {"format": 99}))
    with pytest.raises(DamagedCheckpoint, match="format 99; this kit reads 1"):
        load(folder)
    (folder / "policy.json").write_text("{")
    with pytest.raises(DamagedCheckpoint, match="cannot be read"):
        load(folder)
    with pytest.raises(FileNotFoundError, match=r"no policy at .*no policy\.json"):
        load(tmp_path / "nowhere")


def test_a_checkpoint_that_was_not_exported_is_told_from_one_that_was():
    folder = runtime.asset("checkpoints", "arm_reach")
    with pytest.raises(DamagedCheckpoint, match=r"was not exported; export\(kit\.load\(folder\), out\)"):
        NumpyPolicy.load(folder)


def test_without_onnx_the_extra_is_named_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(runtime.MissingExtra, match=r"robot-learning-kit\[robot\]"):
        export(sb3_model(), tmp_path / "out", ARM_REACH)
    assert not (tmp_path / "out").exists()
