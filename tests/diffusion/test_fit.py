import math

import pytest
import torch

from kit.diffusion.fit import Fit, FitConfig, rate
from kit.diffusion.nets import seeded


def fit(seed=0, **settings):
    with seeded(seed):
        network = torch.nn.Linear(3, 1)

    def loss(n, rng, generator):
        x = torch.randn(n, 3, generator=generator) + torch.from_numpy(rng.normal(size=(n, 3))).float()
        return ((network(x)[:, 0] - x.sum(dim=1)) ** 2).mean()

    return Fit(
        network, loss, FitConfig(**({"steps": 60, "batch_size": 16, "learning_rate": 0.05} | settings)), seed=seed
    )


def test_the_learning_rate_warms_up_and_falls_along_a_cosine():
    cfg = FitConfig(steps=100, warm_up=10)
    assert rate(0, cfg) == pytest.approx(0.1) and rate(50, cfg) == pytest.approx(0.5)
    assert rate(9, cfg) == pytest.approx((1 + math.cos(0.09 * math.pi)) / 2)
    assert rate(99, cfg) < 0.001
    assert rate(99, FitConfig(steps=100, cosine=False)) == 1 == rate(0, FitConfig(warm_up=0))


def test_it_learns_and_the_average_follows():
    run = fit(steps=300)
    losses = [m["loss"] for m in run.run("the agent")]
    assert losses[-1] < 0.01 * losses[0]
    assert torch.allclose(run.ema.module.weight, torch.ones(1, 3), atol=0.1)


def test_a_run_says_who_learns_and_how_far_it_is():
    steps = [(m["step"], m.agent) for m in fit().run("agent", every=25)]
    assert steps == [(25, "agent"), (50, "agent"), (60, "agent")]


def test_an_interrupted_run_goes_on_identically():
    whole = fit()
    for _ in whole.run(None):
        pass
    first, second = fit(), fit(seed=1)
    for m in first.run(None):
        if m["step"] == 20:
            state = first.state_dict()
    second.load_state_dict(state)
    assert [m["step"] for m in second.run(None)] == [40, 60]
    for a, b in ((whole.network, second.network), (whole.ema.module, second.ema.module)):
        assert torch.equal(a.weight, b.weight)


def test_a_loss_that_is_not_finite_changes_nothing():
    run = fit()
    run.step()
    before = run.network.weight.clone()
    run.loss = lambda n, rng, generator: run.network.weight.sum() * math.nan
    with pytest.raises(FloatingPointError, match="the loss of update 1 is nan"):
        run.step()
    assert torch.equal(before, run.network.weight) and run.updates == 1


@pytest.mark.parametrize("bad", [{"steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}])
def test_impossible_settings_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        FitConfig(**bad)
