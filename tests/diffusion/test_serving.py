"""Chunk policies as files: NumPy and ONNX against torch, checkpoints that go on, and damage."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import kit
from kit import checkpoints
from kit.data import Episodes
from kit.diffusion import flow_policy, policy, portable, serving
from kit.diffusion.fit import FitConfig

FIT = FitConfig(30, 32, learning_rate=3e-3)
SMALL = policy.Config(horizon=8, execute=4, width=32, layers=2, widths=(16, 32), fit=FIT)
FLOW = flow_policy.Config(horizon=8, execute=4, width=32, layers=2, widths=(16, 32), fit=FIT)
OBSERVATIONS = 1000


def data(seed=0) -> Episodes:
    """Circles that start anywhere, and observations whose scales differ by a thousand."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 6, (20, 1)) + 0.3 * np.arange(21)
    seen = np.stack((0.001 * np.cos(angle), 5 + np.sin(angle), rng.normal(size=angle.shape)), axis=2)
    return Episodes.stack(seen, np.stack((np.cos(angle), 3 * np.sin(angle)), axis=2)[:, :-1])


def trained(cfg, kind=policy.Agent) -> policy.Agent:
    fit, agent = policy.learner(data(), cfg, seed=0, kind=kind)
    for _ in range(cfg.fit.steps):
        fit.step()
    return agent


def histories(agent, n=OBSERVATIONS) -> tuple[np.ndarray, np.ndarray]:
    """Observations like those of the data, and noise."""
    rng = np.random.default_rng(1)
    rows = data(1).observations
    history = rows[rng.integers(len(rows), size=(n, agent.obs_steps))]
    return history, rng.standard_normal((n, *agent.noise_shape), dtype=np.float32)


AGENTS = {
    "mlp": lambda: trained(SMALL),
    "unet": lambda: trained(replace(SMALL, network="unet")),
    "unet of three levels": lambda: trained(
        replace(SMALL, network="unet", widths=(16, 24, 32), horizon=16)  # 4 numbers or more in each normalised group
    ),
    "mlp, ddpm": lambda: trained(replace(SMALL, sampler="ddpm", noise_steps=10)),
    "flow, mlp": lambda: trained(FLOW, flow_policy.Agent),
    "flow, unet": lambda: trained(replace(FLOW, network="unet"), flow_policy.Agent),
}


@pytest.fixture(scope="module", params=AGENTS)
def agent(request):
    return AGENTS[request.param]()


def test_numpy_and_onnx_equal_torch(agent, tmp_path):
    """1e-5 on a thousand observations, in units of the actions' ranges, from the same noise."""
    history, noise = histories(agent)
    wanted = agent.plan(history, noise) / agent.action_scaler.half
    assert wanted.std() > 0.1, "the chunks differ"
    folder = serving.export(agent, tmp_path)
    served = serving.NumpyChunks.load(folder), serving.OnnxChunks.load(folder)
    serving.save(agent, tmp_path / "checkpoint")
    for other in (*served, kit.load(tmp_path / "checkpoint")):
        found = other.plan(history, noise) / agent.action_scaler.half
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5, err_msg=type(other).__name__)
        assert found.dtype == np.float32 and other.noise_shape == agent.noise_shape


def test_a_network_that_predicts_noise_is_served_too(tmp_path):
    """Its first step divides by 5e-5, so that rounding shows; with steps that begin lower it does not."""
    agent = trained(replace(SMALL, target="noise", noise_steps=10, sample_steps=10))
    history, noise = histories(agent)
    wanted = agent.plan(history, noise) / agent.action_scaler.half
    found = serving.NumpyChunks.load(serving.export(agent, tmp_path)).plan(history, noise) / agent.action_scaler.half
    assert np.quantile(np.abs(found - wanted), 0.99) < 1e-3


def test_acting_is_the_same(tmp_path):
    agent = trained(SMALL)
    served, states = serving.NumpyChunks.load(serving.export(agent, tmp_path, onnx=False)), [None, None]
    rows = data(2).observations
    for t in range(9):
        start = np.array([t == 0, t in (0, 5)])
        both = []
        for i, one in enumerate((agent, served)):
            action, states[i] = one.predict(rows[[t, t + 40]], states[i], start, deterministic=True)
            both.append(action)
        np.testing.assert_allclose(*both, atol=1e-4)
    np.testing.assert_array_equal(
        *(serving.NumpyChunks(served.made, served.weights, seed=4).predict(rows[0])[0] for _ in range(2))
    )


def test_an_agent_comes_back_and_learns_on(tmp_path):
    agent = trained(replace(SMALL, network="unet"))
    agent.execute, agent.latency = 3, 1
    folder = serving.save(agent.sampling("ddim", 5), tmp_path, name="circles")
    back = serving.restore(folder)
    assert back.cfg == agent.cfg and (back.execute, back.latency, back.card["name"]) == (3, 1, "circles")
    history, noise = histories(agent, 50)
    np.testing.assert_array_equal(back.plan(history, noise), agent.plan(history, noise))
    before = back.plan(history, noise)
    fit, more = policy.learner(data(), back.cfg, seed=0)
    fit.network.load_state_dict(back.net.state_dict())
    fit.ema.module.load_state_dict(back.net.state_dict())
    fit.step()
    assert 0 < np.abs(more.plan(history, noise) - before).max() < 1


def test_a_flow_comes_back(tmp_path):
    agent = trained(FLOW, flow_policy.Agent)
    back = serving.restore(serving.save(agent, tmp_path))
    assert isinstance(back, flow_policy.Agent) and isinstance(back.cfg, flow_policy.Config)
    history, noise = histories(agent, 50)
    np.testing.assert_array_equal(back.plan(history, noise), agent.plan(history, noise))


# ---- the operations ---------------------------------------------------------------------------------------------


def test_convolutions_and_norms_equal_torch():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3, 16, 12, generator=g)
    weights = {
        "same.weight": torch.randn(24, 16, 5, generator=g), "same.bias": torch.randn(24, generator=g),
        "half.weight": torch.randn(16, 16, 3, generator=g), "half.bias": torch.randn(16, generator=g),
        "grow.weight": torch.randn(16, 16, 4, generator=g), "grow.bias": torch.randn(16, generator=g),
        "norm.weight": torch.randn(16, generator=g), "norm.bias": torch.randn(16, generator=g),
    }  # fmt: skip
    w = weights
    ops = portable.NumpyOps({k: v.numpy() for k, v in weights.items()}, 8)
    last = x.transpose(1, 2).numpy()
    pairs = [
        (ops.conv(last, "same"), F.conv1d(x, w["same.weight"], w["same.bias"], padding=2)),
        (ops.conv(last, "half", stride=2), F.conv1d(x, w["half.weight"], w["half.bias"], stride=2, padding=1)),
        (ops.grow(last, "grow"), F.conv_transpose1d(x, w["grow.weight"], w["grow.bias"], stride=2, padding=1)),
        (ops.group_norm(last, "norm"), F.group_norm(x, 8, w["norm.weight"], w["norm.bias"])),
        (ops.layer_norm(last, "norm"), F.layer_norm(x.transpose(1, 2), (16,), w["norm.weight"], w["norm.bias"])),
        (ops.silu(last), F.silu(x)),
    ]  # fmt: skip
    for i, (found, wanted) in enumerate(pairs):
        wanted = wanted.numpy() if i == 4 else wanted.transpose(1, 2).numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5, err_msg=str(i))


# ---- bad input --------------------------------------------------------------------------------------------------


def test_what_cannot_be_exported(tmp_path):
    odd = trained(replace(SMALL, network="transformer", heads=2, fit=FitConfig(1, 8)))
    with pytest.raises(ValueError, match="a transformer; mlp and unet run without torch"):
        serving.export(odd, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"a transformer.*restore"):
        kit.load(serving.save(odd, tmp_path / "odd"))
    assert serving.restore(tmp_path / "odd").cfg.network == "transformer"
    curved = trained(replace(FLOW, sampler="rk4", fit=FitConfig(1, 8)), flow_policy.Agent)
    with pytest.raises(ValueError, match=r"'rk4' is not exported; use agent.sampling\('euler'"):
        serving.export(curved, tmp_path / "curved")


def test_damage_is_noticed(tmp_path):
    folder = serving.export(trained(replace(SMALL, fit=FitConfig(1, 8))), tmp_path, onnx=False)
    blob = (folder / "policy.npz").read_bytes()
    (folder / "policy.npz").write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    with pytest.raises(checkpoints.DamagedCheckpoint, match=r"not the file that policy\.json describes"):
        serving.NumpyChunks.load(folder)
    with pytest.raises(checkpoints.DamagedCheckpoint, match=r"policy\.onnx cannot be read"):
        serving.OnnxChunks.load(folder)
    other = serving.save(trained(replace(SMALL, fit=FitConfig(1, 8))), tmp_path / "other")
    card = json.loads((other / "policy.json").read_text())
    (other / "policy.json").write_text(json.dumps(card | {"method": "beso"}))
    with pytest.raises(checkpoints.DamagedCheckpoint, match="no diffusion or flow policy"):
        serving.restore(other)
