"""ACT: the divergence against PyTorch's, masks, ensembling online and offline, resuming, then that it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import distributions as td

from kit.data import Episodes
from kit.diffusion.chunks import ensemble
from kit.diffusion.fit import FitConfig
from kit.imitation import act
from kit.imitation.act import ACT, Config, blend, kl, masked_l1, train

SMALL = Config(obs_steps=2, horizon=5, execute=3, width=32, heads=2, latent=4, fit=FitConfig(steps=8, batch_size=32))


def spring(episodes=30, steps=12, seed=0):
    """A point that is drawn to 0: a = -s / 2, s' = s + a."""
    rng = np.random.default_rng(seed)
    s = np.zeros((episodes, steps + 1, 1))
    s[:, 0] = rng.uniform(-1, 1, (episodes, 1))
    for t in range(steps):
        s[:, t + 1] = s[:, t] / 2
    return Episodes.stack(s, -s[:, :-1] / 2)


# ---- the pieces -------------------------------------------------------------------------------------------------


def test_kl_equals_torchs():
    g = torch.Generator().manual_seed(0)
    mean, log_var = torch.randn(7, 5, generator=g), torch.randn(7, 5, generator=g)
    q, prior = td.Normal(mean, (log_var / 2).exp()), td.Normal(torch.zeros(7, 5), torch.ones(7, 5))
    torch.testing.assert_close(kl(mean, log_var), td.kl_divergence(q, prior).sum(dim=1))
    assert kl(torch.zeros(1, 5), torch.zeros(1, 5)).item() == 0


def test_masked_l1_counts_only_actions_that_were_taken():
    predicted, actions = torch.zeros(1, 3, 2), torch.tensor([[[1.0, -1.0], [2.0, 0.0], [9.0, 9.0]]])
    real = torch.tensor([[True, True, False]])
    assert masked_l1(predicted, actions, real).item() == pytest.approx(1.0)


@pytest.mark.parametrize("m", [0.0, 0.01, 1.0])
def test_blending_one_by_one_equals_the_weighted_mean_of_all(m):
    plans = np.random.default_rng(0).normal(size=(6, 4, 3, 2))
    mean, counts = np.zeros((4, 3, 2)), np.zeros((4, 3), int)
    for k in range(6):
        mean, counts = blend(mean, counts, plans[k], m)
        np.testing.assert_allclose(mean, ensemble(plans[: k + 1], m), atol=1e-12)
    assert (counts == 6).all()


class Counter(ACT):
    """Its plan at the k-th call of an episode is known: 100 k + the step that it is for, from the observation k."""

    def chunk(self, obs, noise):
        now = torch.from_numpy(self.obs_scaler.unscale(obs.numpy()))[:, -1, :1]
        step = now + torch.arange(self.horizon) - (self.obs_steps - 1)
        return self.scaled((100 * now + step)[..., None])

    def scaled(self, x):
        return (x - 500) / 1000

    def plan(self, history, noise):
        return self.chunk(torch.from_numpy(self.obs_scaler.scale(history)), None).numpy()


def test_ensembling_online_equals_ensembling_offline():
    """Also where the rows of a batch start their episodes at different times."""
    data, m = spring(), 0.3
    agent = Counter(data, replace(SMALL, decay=m), seed=0)
    assert agent.execute == 1
    state, clock = None, np.zeros(3, int)
    plans: list[list[tuple[int, np.ndarray]]] = [[], [], []]
    for t in range(14):
        start = np.array([t == 0, t in (0, 4), t in (0, 9)])
        clock = np.where(start, 0, clock)
        obs = clock[:, None].astype(np.float32)
        action, state = agent.predict(obs, state, start)
        assert action.shape == (3, 1)
        for i in range(3):
            plans[i] = [] if start[i] else plans[i]
            made = (100 * clock[i] + np.arange(clock[i], clock[i] + 4) - 500) / 1000
            plans[i].append((clock[i], made))
            said = [p[clock[i] - when] for when, p in plans[i] if clock[i] - when < len(p)]
            expected = ensemble(np.array(said)[:, None], m)
            np.testing.assert_allclose(action[i], expected, atol=1e-6)
        clock = clock + 1


# ---- the policy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trunk", ["mlp", "transformer"])
def test_same_seed_same_policy_and_training_resumes_identically(trunk):
    cfg, data = replace(SMALL, trunk=trunk), spring()
    whole, part, other = ACT(data, cfg, seed=0), ACT(data, cfg, seed=0), ACT(data, cfg, seed=5)
    for _ in range(3):
        part.fits[0].step()
    other.load_state_dict(part.state_dict())
    list(whole.learn())
    list(other.learn())
    obs = np.linspace(-1, 1, 7, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(whole.predict(obs)[0], other.predict(obs)[0])
    np.testing.assert_array_equal(whole.predict(obs)[0], whole.predict(obs, deterministic=True)[0])


@pytest.mark.parametrize(("trunk", "steps"), [("mlp", 300), ("transformer", 150)])
def test_it_clones_a_spring(trunk, steps):
    cfg = replace(SMALL, trunk=trunk, fit=FitConfig(steps=steps, batch_size=64, learning_rate=3e-3))
    *_, last = train(spring(), cfg, seed=0)
    obs = np.linspace(-0.9, 0.9, 9, dtype=np.float32)[:, None]
    action, state = last.agent.predict(obs)
    assert np.abs(action + obs / 2).mean() < 0.08
    again, _ = last.agent.predict(obs + action, state)
    assert np.abs(again + obs / 4).mean() < 0.08


def test_bad_settings():
    with pytest.raises(ValueError, match="latent is 0"):
        replace(SMALL, latent=0)
    with pytest.raises(ValueError, match="does not divide into 5 heads"):
        ACT(spring(), replace(SMALL, trunk="transformer", heads=5), seed=0)
    assert act.Config().beta == 10
