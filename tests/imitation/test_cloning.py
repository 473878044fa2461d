"""Cloning with chunks: the mixture against PyTorch's, drawing, masks, resuming, bad input, then two ways round."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import distributions as td

from kit.data import Episodes
from kit.diffusion.fit import FitConfig
from kit.imitation import cloning
from kit.imitation.cloning import Cloning, Config, mixture_nll, mixture_sample, mse, split, train
from kit.imitation.one_pass import draw, uniform
from kit.types import Policy

SMALL = Config(obs_steps=1, horizon=4, execute=2, width=32, fit=FitConfig(steps=10, batch_size=32))


def fork(episodes=40, steps=8, seed=0):
    """From 0, half of the demonstrators go up by 0.5 at each step, half go down."""
    rng = np.random.default_rng(seed)
    way = np.where(np.arange(episodes) % 2, 0.5, -0.5)[:, None, None]
    actions = way + 0.02 * rng.normal(size=(episodes, steps, 1))
    return Episodes.stack(np.pad(actions.cumsum(axis=1), ((0, 0), (1, 0), (0, 0))), actions)


def mixture(n=6, components=3, size=4):
    g = torch.Generator().manual_seed(0)
    weights = torch.randn(n, components, generator=g).log_softmax(dim=1)
    return weights, torch.randn(n, components, size, generator=g), torch.rand(n, components, size, generator=g) + 0.1


# ---- the pieces -------------------------------------------------------------------------------------------------


def test_mixture_nll_equals_torchs():
    weights, means, stds = mixture()
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    parts = td.Independent(td.Normal(means, stds), 1)
    expected = -td.MixtureSameFamily(td.Categorical(logits=weights), parts).log_prob(x)
    torch.testing.assert_close(mixture_nll(weights, means, stds, x, torch.ones(6, 4, dtype=bool)), expected)


def test_dimensions_that_are_not_real_are_integrated_over():
    weights, means, stds = mixture()
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    real = torch.tensor([True, True, False, True]).expand(6, 4)
    parts = td.Independent(td.Normal(means[..., [0, 1, 3]], stds[..., [0, 1, 3]]), 1)
    marginal = -td.MixtureSameFamily(td.Categorical(logits=weights), parts).log_prob(x[:, [0, 1, 3]])
    torch.testing.assert_close(mixture_nll(weights, means, stds, x, real), marginal)


def test_mixture_samples_have_the_mixtures_moments():
    weights, means, stds = (part[:1].expand(40_000, *part.shape[1:]) for part in mixture())
    noise = torch.randn(40_000, 5, generator=torch.Generator().manual_seed(2))
    x = mixture_sample(weights, means, stds, noise)
    parts = td.Independent(td.Normal(means[0], stds[0]), 1)
    exact = td.MixtureSameFamily(td.Categorical(logits=weights[0]), parts)
    torch.testing.assert_close(x.mean(dim=0), exact.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(x.var(dim=0), exact.variance, atol=0.05, rtol=0.03)


def test_split_has_weights_that_sum_to_one_and_widths_above_the_least():
    out = 5 * torch.randn(7, 3 * (1 + 2 * 4), generator=torch.Generator().manual_seed(0))
    log_weights, means, stds = split(out, 3, 0.2)
    assert log_weights.shape == (7, 3) and means.shape == stds.shape == (7, 3, 4)
    torch.testing.assert_close(log_weights.exp().sum(dim=1), torch.ones(7))
    assert stds.min() > 0.2


def test_draw_by_hand():
    """A uniform number below the first share takes the first; ends of the line stay inside."""
    p = torch.tensor([[0.2, 0.5, 0.3]]).expand(5, 3)
    u = torch.tensor([0.1, 0.25, 0.69, 0.71, 0.999])
    noise = torch.special.ndtri(u)
    torch.testing.assert_close(uniform(noise), u)
    assert draw(p, noise).tolist() == [0, 1, 1, 2, 2]
    assert draw(p[:2], torch.tensor([-40.0, 40.0])).tolist() == [0, 2]


def test_mse_counts_only_actions_that_were_taken():
    predicted, actions = torch.zeros(1, 3, 2), torch.tensor([[[1.0, 1.0], [2.0, 0.0], [9.0, 9.0]]])
    assert mse(predicted, actions, torch.tensor([[True, True, False]])).item() == pytest.approx((1 + 1 + 4 + 0) / 4)


# ---- policies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["mse", "mixture"])
def test_same_seed_same_policy_and_training_resumes_identically(head):
    cfg, data = replace(SMALL, head=head), fork()
    whole, twin, part = (Cloning(data, cfg, seed=0) for _ in range(3))
    for _ in range(6):
        part.fits[0].step()
    saved = copy.deepcopy(part.state_dict())
    other = Cloning(data, cfg, seed=5)
    other.load_state_dict(saved)
    for agent in (whole, twin, other):
        for _ in agent.learn():
            pass
    obs = np.linspace(-1, 1, 7, dtype=np.float32)[:, None]
    expected = whole.predict(obs)[0]
    np.testing.assert_array_equal(expected, twin.predict(obs)[0])
    np.testing.assert_array_equal(expected, other.predict(obs)[0])
    assert isinstance(whole, Policy) and not np.array_equal(expected, Cloning(data, cfg, seed=1).predict(obs)[0])


def test_the_mean_goes_between_two_ways_and_the_mixture_takes_both():
    cfg = replace(SMALL, fit=FitConfig(steps=400, batch_size=64))
    *_, m = train(fork(), cfg, seed=0)
    *_, last = train(fork(), replace(cfg, head="mixture", components=2), seed=0)
    start = np.zeros((200, 1), np.float32)
    assert np.abs(m.agent.predict(start)[0]).max() < 0.15 and m["progress"] == 1
    actions, _ = last.agent.predict(start)
    assert (np.abs(np.abs(actions) - 0.5) < 0.12).mean() > 0.97
    assert 0.35 < (actions > 0).mean() < 0.65


def test_actions_stay_in_the_range_of_the_data():
    agent = Cloning(fork(), SMALL, seed=0)
    actions, _ = agent.predict(np.full((3, 1), 1e3, np.float32))
    low, high = agent.action_scaler.low, agent.action_scaler.high
    assert (actions >= low - 1e-6).all() and (actions <= high + 1e-6).all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"head": "median"}, "head is 'median'"),
        ({"components": 0}, "components is 0"),
        ({"trunk": "transformer"}, "cloning has mlp only"),
        ({"trunk": "rnn"}, "trunk is 'rnn'"),
    ],
)
def test_settings_that_make_no_sense(change, match):
    with pytest.raises(ValueError, match=match):
        replace(SMALL, **change)


def test_data_and_chunks_that_do_not_fit():
    with pytest.raises(ValueError, match="episode 0 has 3 steps, fewer than the window's 4"):
        Cloning(fork(steps=3), SMALL, seed=0)
    with pytest.raises(ValueError, match="cannot give 5 actions"):
        Cloning(fork(), replace(SMALL, execute=5), seed=0)
    with pytest.raises(ValueError, match=r"this policy takes \(1,\)"):
        Cloning(fork(), SMALL, seed=0).predict(np.zeros(2))
    assert cloning.Config().head == "mse"
