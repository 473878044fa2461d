"""Diffusion Policy: its steps against definitions, diffusers and an exact expert; its chunks; that it takes sides."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from kit import runtime
from kit.data import Episodes
from kit.diffusion import policy, samplers, schedules
from kit.diffusion.fit import FitConfig
from kit.diffusion.samplers import Counter
from kit.diffusion.windows import MinMax
from kit.types import Policy

AB = schedules.squared_cosine(100)
SMALL = policy.Config(horizon=8, execute=4, width=16, layers=1, heads=2, widths=(8, 16), fit=FitConfig(20, 16))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def two_ways(episodes=40, steps=12, seed=0) -> Episodes:
    """Standing still, half of the episodes go left for good, and half go right."""
    rng = np.random.default_rng(seed)
    way = np.where(np.arange(episodes) % 2, 1.0, -1.0)[:, None, None]
    actions = way * rng.uniform(0.8, 1, (episodes, steps, 1))
    return Episodes.stack(rng.normal(0, 0.01, (episodes, steps + 1, 2)), actions)


# ---- the pieces -------------------------------------------------------------------------------------------------


def test_noise_keeps_what_alpha_bar_says():
    x0, noise = normal(3, 4, 2), normal(3, 4, 2, seed=1)
    mixed = policy.add_noise(x0, noise, torch.tensor([1.0, 0.0, 0.64]))
    torch.testing.assert_close(mixed[0], x0[0])
    torch.testing.assert_close(mixed[1], noise[1])
    torch.testing.assert_close(mixed[2], 0.8 * x0[2] + 0.6 * noise[2], rtol=1e-6, atol=1e-6)


def test_clean_undoes_the_noise_and_clips():
    x0, noise, kept = normal(5, 4, 2), normal(5, 4, 2, seed=1), 0.3
    x = policy.add_noise(x0, noise, torch.full((5,), kept, dtype=torch.float64))
    torch.testing.assert_close(policy.clean(x, noise, kept, 100.0), x0)
    torch.testing.assert_close(policy.clean(x, noise, kept, 0.5), x0.clamp(-0.5, 0.5))


def test_a_step_is_less_of_the_same_noise():
    x0, noise = normal(5, 4, 2), normal(5, 4, 2, seed=1)

    def level(kept):
        return policy.add_noise(x0, noise, torch.full((5,), kept, dtype=torch.float64))

    torch.testing.assert_close(policy.renoise(level(0.2), x0, 0.2, 0.7), level(0.7))
    torch.testing.assert_close(policy.renoise(level(0.2), x0, 0.2, 1.0), x0)
    assert policy.spread(0.2, 0.7, 0.0) == 0 == policy.spread(0.2, 1.0, 1.0)


def test_the_spread_is_that_of_ddpm():
    """beta-tilde (Ho et al. 2020, eq. 7)."""
    for t in (1, 40, 99):
        beta = 1 - AB[t] / AB[t - 1]
        wanted = (1 - AB[t - 1]) / (1 - AB[t]) * beta
        assert policy.spread(AB[t].item(), AB[t - 1].item(), 1.0) ** 2 == pytest.approx(wanted.item(), rel=1e-9)


def toy(x, time, cond):
    return torch.tanh(x + 0.01 * time[:, None, None]) + cond[:, :1, None]


@pytest.mark.parametrize(("n", "eta", "clip"), [(8, 0.0, 1.0), (3, 0.0, 0.4), (100, 1.0, 1.0)])
def test_denoise_equals_the_general_sampler(n, eta, clip):
    times, kept = policy.visited(100, n)
    noise, cond = normal(4, n if eta else 1, 8, 2), normal(4, 3, seed=2)
    later = iter(noise[:, 1:].unbind(1))
    wanted = samplers.vp_ddim(toy, noise[:, 0], AB, times, cond, eta=eta, noise=lambda x: next(later), clip=clip)
    found = policy.denoise(toy, noise, cond, times, kept, eta=eta, clip=clip)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


def test_denoise_equals_diffusers():
    x, cond = normal(4, 1, 8, 2), normal(4, 3, seed=2)
    peer = DDIMScheduler(100, beta_schedule="squaredcos_cap_v2", clip_sample=True, timestep_spacing="trailing")
    peer.set_timesteps(10)  # it steps down by 100 // n, which for 8 are not the times that it visits
    wanted = x[:, 0]
    for t in peer.timesteps:
        eps = toy(wanted, torch.full((4,), float(t)), cond)
        wanted = peer.step(eps, t, wanted, use_clipped_model_output=True).prev_sample
    times, kept = policy.visited(100, 10)
    assert times.tolist() == peer.timesteps.tolist()
    torch.testing.assert_close(policy.denoise(toy, x, cond, times, kept), wanted, rtol=0, atol=1e-5)


def test_all_steps_with_new_noise_equal_diffusers_ddpm(monkeypatch):
    noise, cond = normal(2, 100, 8, 2), normal(2, 3, seed=2)
    peer = DDPMScheduler(100, beta_schedule="squaredcos_cap_v2", clip_sample=True, variance_type="fixed_small")
    later = iter(noise[:, 1:].unbind(1))
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, **k: next(later))
    wanted = noise[:, 0]
    for t in peer.timesteps:
        wanted = peer.step(toy(wanted, torch.full((2,), float(t)), cond), t, wanted).prev_sample
    found = policy.denoise(toy, noise, cond, *policy.visited(100, None), eta=1.0)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_a_linear_expert_is_found_exactly():
    """a = -K s: the best prediction of the noise is (x - sqrt(ab) a) / sqrt(1 - ab) (Chi et al. 2023, section 4.5)."""
    s = normal(6, 2).clamp(-1, 1)
    expert = -(s @ torch.tensor([[0.4], [-0.3]], dtype=torch.float64))[:, None].expand(6, 8, 1)

    def best(x, time, cond):
        kept = AB[time.long()][:, None, None]
        return (x - kept.sqrt() * expert) / (1 - kept).sqrt()

    for n, eta in ((1, 0.0), (8, 0.0), (None, 1.0)):
        times, kept = policy.visited(100, n)
        counted = Counter(best)
        found = policy.denoise(counted, normal(6, 100, 8, 1, seed=3), s, times, kept, eta=eta)
        torch.testing.assert_close(found, expert.contiguous(), rtol=0, atol=1e-9)
        assert counted.calls == (n or 100)


def test_the_loss_by_hand():
    x0, noise, times = torch.full((2, 4, 1), 0.5), torch.ones(2, 4, 1), torch.tensor([3, 60])
    cond, ab = torch.zeros(2, 2), AB.float()
    assert policy.loss(lambda x, t, c: torch.zeros_like(x), x0, cond, ab, noise, times) == 1
    seen = {}

    def right(x, t, c):
        seen["x"], seen["t"] = x, t
        return noise

    assert policy.loss(right, x0, cond, ab, noise, times) == 0
    torch.testing.assert_close(seen["x"], policy.add_noise(x0, noise, ab[times]))
    assert seen["t"].tolist() == [3.0, 60.0]
    assert policy.loss(right, x0, cond, ab, noise, times, "clean") == 0.25, "1 where 0.5 was wanted"


def test_a_network_that_knows_the_noise_and_one_that_knows_the_chunk_draw_the_same():
    x0 = normal(3, 8, 2, seed=4).clamp(-1, 1)

    def noise_in(x, time, cond):
        kept = AB[time.long()][:, None, None]
        return (x - kept.sqrt() * x0) / (1 - kept).sqrt()

    draws = [
        policy.denoise(net, normal(3, 1, 8, 2), x0[:, 0], *policy.visited(100, 8), target=target)
        for net, target in ((noise_in, "noise"), (lambda x, time, cond: x0, "clean"))
    ]
    torch.testing.assert_close(*draws, rtol=0, atol=1e-9)


# ---- acting -----------------------------------------------------------------------------------------------------


def agent_for(chunk: torch.Tensor, cfg: policy.Config) -> policy.Agent:
    """An agent that always plans one chunk (Tp, 1), scaled; its actions are in [0, 10], its observations in [0, 1]."""
    ab = schedules.squared_cosine(cfg.noise_steps).float()

    def net(x, time, cond):
        kept = ab[time.long()][:, None, None]
        return (x - kept.sqrt() * chunk) / (1 - kept).sqrt()

    scalers = MinMax(np.zeros(2, np.float32), np.ones(2, np.float32)), MinMax(np.zeros(1), np.full(1, 10.0))
    return policy.Agent(net, *scalers, cfg)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_actions_are_those_of_now_and_after(sampler):
    cfg = replace(SMALL, obs_steps=3, sampler=sampler, target="noise")
    chunk = torch.linspace(-1, 1, 8)[:, None]
    agent, state = agent_for(chunk, cfg), None
    assert isinstance(agent, Policy)
    found = []
    for t in range(9):
        action, state = agent.predict(np.full(2, t / 9, np.float32), state, np.array([t == 0]))
        found.append(float(action[0]))
    wanted = (5 + 5 * chunk[2:6, 0]).tolist()  # chunk[To - 1] is for now
    np.testing.assert_allclose(found, wanted + wanted + wanted[:1], atol=1e-4)


def test_actions_stay_inside_the_range_of_the_data():
    agent = agent_for(torch.full((8, 1), 3.0), replace(SMALL, target="noise"))
    assert agent.predict(np.zeros(2))[0] == pytest.approx(10.0)


def test_deterministic_acting_repeats_and_the_other_does_not():
    _, agent = policy.learner(two_ways(), SMALL, seed=0)
    obs = np.zeros((4, 2), np.float32)
    first, again = (agent.predict(obs, deterministic=True)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(agent.predict(obs)[0], agent.predict(obs)[0])


# ---- training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", policy.NETWORKS)
def test_training_is_deterministic_and_resumes_identically(network):
    cfg = replace(SMALL, network=network, fit=FitConfig(6, 8))
    runs = [policy.learner(two_ways(), cfg, seed=s) for s in (0, 0, 1)]
    for fit, _ in runs:
        for _ in range(3):
            fit.step()
    state = copy.deepcopy(runs[0][0].state_dict())
    for fit, _ in runs:
        for _ in range(3):
            fit.step()
    resumed, agent = policy.learner(two_ways(), cfg, seed=5)
    resumed.load_state_dict(state)
    for _ in range(3):
        resumed.step()
    obs = np.full((3, 2), 0.01, np.float32)
    found = [[p.numpy() for p in a.net.parameters()] for a in (runs[0][1], runs[1][1], agent, runs[2][1])]
    for first, same, again, _ in zip(*found, strict=True):
        np.testing.assert_array_equal(first, same)
        np.testing.assert_array_equal(first, again)
    assert not np.array_equal(found[0][0], found[3][0]), "another seed, other weights"
    plans = [a.predict(obs, deterministic=True)[0] for a in (runs[0][1], agent)]
    np.testing.assert_array_equal(*plans)


def test_the_transformer_sees_only_what_stands_before():
    net = policy.network(2, 1, replace(SMALL, network="transformer"), seed=0)
    x, time, cond = torch.randn(1, 8, 1), torch.tensor([4.0]), torch.randn(1, 4)
    other = x.clone()
    other[:, 5:] += 1
    before, after = net(x, time, cond), net(other, time, cond)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])
    assert not torch.allclose(before, net(x, time, cond + 1))


def test_it_takes_a_side_where_the_mean_takes_none():
    cfg = replace(SMALL, width=64, fit=FitConfig(400, 64, learning_rate=3e-3, ema=0.98))
    agent = runtime.run(policy.train(two_ways(), cfg, seed=0))
    found = agent.predict(np.zeros((300, 2), np.float32))[0][:, 0]
    assert (np.abs(found) > 0.6).mean() > 0.95, "hardly any action lies between the ways"
    assert 0.3 < (found > 0).mean() < 0.7


# ---- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "cnn"}, "'cnn'; there are mlp, unet, transformer"),
        ({"sampler": "dpm"}, "'dpm'; there are ddim, ddpm"),
        ({"target": "velocity"}, "'velocity'; there are clean, noise"),
        ({"sample_steps": 101}, "101 steps were asked for; a schedule of 100"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"network": "unet", "horizon": 15, "execute": 4}, "horizon is 15; a U-Net of 2 levels takes multiples of 2"),
    ],
)
def test_settings_that_cannot_be_met(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_data_that_cannot_be_learnt():
    with pytest.raises(ValueError, match=r"episode 0 has 4 steps, fewer than the window's 8"):
        policy.learner(two_ways(steps=4), SMALL, seed=0)
    with pytest.raises(ValueError, match="chunk of 8 steps cannot give 8 actions after 2"):
        policy.learner(two_ways(), replace(SMALL, execute=8), seed=0)
    zeros = torch.zeros(2, 8, 1)
    with pytest.raises(ValueError, match=r"actions reach 3.*MinMax"):
        policy.loss(toy, zeros + 3, torch.zeros(2, 2), AB, zeros, torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"noise for 1 steps; with eta 1\.0 100 steps"):
        policy.denoise(toy, zeros[:, None], torch.zeros(2, 2), *policy.visited(100, None), eta=1.0)
