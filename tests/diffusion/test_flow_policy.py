"""The flow policy: times, loss and drawing against definitions; that it takes sides."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from kit import runtime
from kit.data import Episodes
from kit.diffusion import flow_policy, policy
from kit.diffusion.fit import FitConfig
from kit.diffusion.precond import Flow
from kit.diffusion.windows import MinMax

SMALL = flow_policy.Config(horizon=8, execute=4, width=16, layers=1, widths=(8, 16), fit=FitConfig(20, 16))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def two_ways(episodes=40, steps=12) -> Episodes:
    rng = np.random.default_rng(0)
    way = np.where(np.arange(episodes) % 2, 1.0, -1.0)[:, None, None]
    actions = way * rng.uniform(0.8, 1, (episodes, steps, 1))
    return Episodes.stack(rng.normal(0, 0.01, (episodes, steps + 1, 2)), actions)


def test_times_have_their_distribution():
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for beta in (1.0, 1.5, 3.0):
        b = 1 - flow_policy.training_times(u, beta).numpy() / 0.999
        assert stats.kstest(b, stats.beta(beta, 1).cdf).pvalue > 0.01
    t = flow_policy.training_times(u, 1.5)
    assert t.min() >= 0 and t.max() <= 0.999
    assert (t < 0.5).double().mean() == pytest.approx(1 - 0.4995**1.5, abs=0.02), "more often near the noise"


def test_the_loss_by_hand_and_as_the_general_one():
    a, noise, t = normal(3, 8, 2).clamp(-1, 1), normal(3, 8, 2, seed=1), torch.tensor([0.0, 0.25, 0.9]).double()
    cond = normal(3, 4, seed=2)

    def net(x, time, cond):
        return torch.tanh(x) + time[:, None, None] + cond[:, :1, None]

    found = flow_policy.loss(net, a, cond, noise, t)
    torch.testing.assert_close(found, Flow(net).loss(a, t, noise, cond).mean())
    seen = {}

    def right(x, time, cond):
        seen["x"] = x
        return a - noise

    assert flow_policy.loss(right, a, cond, noise, t) == 0
    torch.testing.assert_close(seen["x"][0], noise[0])
    torch.testing.assert_close(seen["x"][1], 0.25 * a[1] + 0.75 * noise[1])


@pytest.mark.parametrize(("sampler", "steps"), [("euler", 1), ("euler", 8), ("rk4", 2)])
def test_a_straight_flow_is_followed_to_its_end(sampler, steps):
    """With one chunk alone in the data v = (a - x) / (1 - t), whose lines are straight."""
    chunk = torch.linspace(-1, 1, 8)[:, None]
    scalers = MinMax(np.zeros(2, np.float32), np.ones(2, np.float32)), MinMax(np.zeros(1), np.full(1, 10.0))
    cfg = replace(SMALL, sampler=sampler, sample_steps=steps)

    def velocity(x, time, cond):
        return (chunk - x) / (1 - time[:, None, None] + 1e-6)

    agent = flow_policy.Agent(velocity, *scalers, cfg)
    assert agent.noise_shape == (1, 8, 1)
    plan = agent.plan(np.zeros((3, 2, 2), np.float32), np.random.default_rng(0).normal(size=(3, 1, 8, 1)))
    if sampler == "euler":
        np.testing.assert_allclose(plan, np.tile(5 + 5 * chunk.numpy(), (3, 1, 1)), atol=1e-3)
    assert plan.min() >= 0 and plan.max() <= 10
    assert agent.predict(np.zeros(2))[0].shape == (1,)


def test_it_takes_a_side():
    cfg = replace(SMALL, width=64, fit=FitConfig(400, 64, learning_rate=3e-3, ema=0.98))
    agent = runtime.run(flow_policy.train(two_ways(), cfg, seed=0))
    for sampler, steps in (("euler", 8), ("rk4", 3)):
        found = agent.sampling(sampler, steps).predict(np.zeros((300, 2), np.float32))[0][:, 0]
        assert (np.abs(found) > 0.6).mean() > 0.9
        assert 0.3 < (found > 0).mean() < 0.7


def test_training_repeats_and_resumes():
    runs = [policy.learner(two_ways(), SMALL, seed=0, kind=flow_policy.Agent) for _ in range(3)]
    for fit, _ in runs[:2]:
        for _ in range(3):
            fit.step()
    runs[2][0].load_state_dict(runs[0][0].state_dict())
    for fit, _ in runs:
        for _ in range(2):
            fit.step()
    history = np.zeros((2, 2, 2), np.float32)
    plans = [agent.plan(history, np.ones((2, 1, 8, 1), np.float32)) for _, agent in runs]
    np.testing.assert_array_equal(plans[0], plans[1])
    np.testing.assert_array_equal(plans[0], plans[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampler": "ddim"}, "'ddim' with 8 steps; give euler or rk4"),
        ({"sample_steps": 0}, "with 0 steps"),
        ({"beta": 0.0}, "beta is 0.0"),
        ({"network": "cnn"}, "'cnn'; there are mlp"),
    ],
)
def test_settings_that_cannot_be_met(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_unscaled_chunks_are_refused():
    zeros = torch.zeros(2, 8, 1)
    with pytest.raises(ValueError, match=r"actions reach 3.*MinMax"):
        flow_policy.loss(lambda x, t, c: x, zeros + 3, zeros[:, 0], zeros, torch.zeros(2))
