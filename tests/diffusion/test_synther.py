"""SynthER: its pieces by hand, the loss and the samples against a case that is known exactly, then real rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sklearn.neighbors import NearestNeighbors
from stable_baselines3 import TD3

from kit.diffusion import synther
from kit.diffusion.precond import edm_coefficients
from kit.offline import pendulum
from kit.offline.rows import Rows, from_sb3, to_sb3

SMALL = synther.Config(steps=30, batch_size=32, width=16, blocks=1, levels=12)


def toy(n: int = 300, seed: int = 0) -> Rows:
    """s' = s + a; it ends where s' > 1; the second number of the state never changes."""
    rng = np.random.default_rng(seed)
    s = np.column_stack([rng.normal(size=n), np.full(n, 7.0)])
    a = rng.uniform(-1, 1, (n, 1))
    after = s + a * [1, 0]
    return Rows(s, a, 3 * after[:, 0], after, after[:, 0] > 1)


# ---- pieces -------------------------------------------------------------------------------------------------------


def test_table_and_finish_are_inverse():
    rows = toy()
    x = synther.table(rows)
    assert x.shape == (300, 7)
    np.testing.assert_array_equal(x[0], [*rows.obs[0], *rows.actions[0], rows.reward[0], *rows.next_obs[0], 0])
    again = synther.finish(x, 2, 1)
    assert all(np.array_equal(value, vars(again)[name]) for name, value in vars(rows).items())


def test_finish_clips_actions_and_decides_about_the_end():
    x = np.array([[0.0, 1.5, -2.0, 9.0, 0.2, 0.5], [5.0, -1.1, 0.3, 9.0, 0.2, 0.51]])
    rows = synther.finish(x, 1, 2)
    np.testing.assert_allclose(rows.actions, [[1, -1], [-1, 0.3]], atol=1e-6)
    assert rows.terminated.tolist() == [0, 1] and rows.reward.tolist() == [9, 9]
    assert rows.obs[1, 0] == 5, "states are not clipped"


def test_standards_leave_done_and_constants():
    x = np.array([[0.0, 5.0, 0.0], [2.0, 5.0, 1.0], [4.0, 5.0, 1.0]])
    kept = x.copy()
    mean, std = synther.standards(x)
    np.testing.assert_allclose(mean, [2, 5, 0])
    np.testing.assert_allclose(std, [np.sqrt(8 / 3), 1, 1])
    np.testing.assert_array_equal(x, kept)


def test_dynamics_error_by_hand():
    def simulator(s, a):
        return s + a, np.zeros(len(s))

    row = np.array([[0.0, 1.0]]), np.array([[0.5]]), np.array([[1.0, 1.0]])  # the simulator says 0.5 and 1.5
    np.testing.assert_allclose(synther.dynamics_error(*row, simulator), [(0.5**2 + 0.5**2) / 2])
    np.testing.assert_allclose(synther.dynamics_error(*row, simulator, np.array([0.5, 5])), [(1 + 0.1**2) / 2])


def test_distances_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    x, data = rng.normal(size=(40, 5)), rng.normal(size=(60, 5))
    square = ((x[:, None] - data[None]) ** 2).sum(-1)
    np.testing.assert_allclose(synther.nearest_distance(x, data), np.sqrt(square.min(axis=1)))
    twin = NearestNeighbors(n_neighbors=2).fit(data).kneighbors(data)[0]
    np.testing.assert_allclose(synther.own_distance(data), twin[:, 1])
    assert (synther.nearest_distance(data, data) == 0).all(), "copies"


# ---- the model ----------------------------------------------------------------------------------------------------


def test_the_loss_is_a_plain_square_on_the_network():
    rows = toy()
    model = synther.Generator(rows, SMALL, seed=0)
    g = torch.Generator().manual_seed(0)
    z, noise = model.standard(rows)[:50], torch.randn(50, 7, generator=g)
    sigma = torch.exp(-1.2 + 1.2 * torch.randn(50, generator=g))
    c_skip, c_out, c_in, c_noise = (c[:, None] for c in edm_coefficients(sigma, 1.0))
    noisy = z + sigma[:, None] * noise
    target = (z - c_skip * noisy) / c_out
    plain = ((model.net(c_in * noisy, c_noise[:, 0]) - target) ** 2).mean()
    torch.testing.assert_close(synther.loss(model, z, sigma, noise), plain, rtol=1e-4, atol=1e-5)


def test_with_an_exact_denoiser_the_samples_are_the_data(monkeypatch):
    """Rows on a line, s' = s + a with s, a normal: D is linear, so the drawn rows keep the line and the covariance."""
    rng = np.random.default_rng(0)
    s, a = rng.normal(size=(4000, 1)), 0.3 * rng.normal(size=(4000, 1)).clip(-3, 3)
    rows = Rows(s, a, s[:, 0] - a[:, 0], s + a, np.zeros(4000))
    model = synther.Generator(rows, synther.Config(sampler="heun"), seed=0)
    z = model.standard(rows)
    cov = torch.cov(z.T)

    def exact(x, sigma, cond=None):
        return x @ torch.linalg.solve(cov + sigma**2 * torch.eye(len(cov)), cov)

    monkeypatch.setattr(synther.Generator, "denoiser", lambda self: exact)
    new = model.sample(4000, seed=1, at_once=1500)
    assert np.abs(new.next_obs - new.obs - new.actions).mean() < 0.02, "the dynamics"
    assert np.abs(new.reward - (new.obs - new.actions)[:, 0]).mean() < 0.02
    np.testing.assert_allclose(np.cov(model.standard(new).numpy().T), cov.numpy(), atol=0.08)
    assert (new.terminated == 0).all()


def test_sampling_repeats_and_does_not_touch_the_process():
    model = synther.Generator(toy(), SMALL, seed=0)
    before = torch.random.get_rng_state()
    a, b, c = model.sample(20, seed=0), model.sample(20, seed=0), model.sample(20, seed=1)
    assert np.array_equal(a.obs, b.obs) and not np.array_equal(a.obs, c.obs)
    assert torch.equal(before, torch.random.get_rng_state())
    assert len(model.sample(7, seed=0, at_once=3)) == 7, "any number, not a multiple"
    with pytest.raises(ValueError, match="n is 0"):
        model.sample(0, seed=0)


def test_training_repeats_and_resumes():
    rows = toy()
    a, b = (list(synther.train(rows, SMALL, seed=0))[-1] for _ in range(2))
    assert dict(a) == dict(b) and a["progress"] == 1
    fit, _ = synther.learner(rows, SMALL, seed=0)
    for _ in range(5):
        fit.step()
    other, _ = synther.learner(rows, SMALL, seed=3)
    other.load_state_dict(fit.state_dict())
    assert [fit.step() for _ in range(4)] == [other.step() for _ in range(4)]


def test_it_learns_the_rows_and_td3_takes_them():
    """The end of an episode, the dynamics and a column that never changes; then Stable-Baselines3 trains on them."""
    rows = toy(2000)
    cfg = synther.Config(steps=500, batch_size=128, width=48, blocks=2, levels=16)
    *_, last = synther.train(rows, cfg, seed=0)
    new = last.agent.sample(1000, seed=0)
    error = np.abs(new.next_obs[:, 0] - new.obs[:, 0] - new.actions[:, 0])
    assert np.median(error) < 0.15, "independent columns would give about 1"
    assert (new.obs[:, 1] == 7).all() and (new.next_obs[:, 1] == 7).all()
    right = (new.next_obs[:, 0] > 1) == (new.terminated > 0.5)
    assert right.mean() > 0.8, "independent columns would give 0.64"
    z, data = (last.agent.standard(r).numpy() for r in (new, rows))
    near, own = np.median(synther.nearest_distance(z, data)), np.median(synther.own_distance(data))
    assert 0.3 * own < near, "not copies"
    pendulum_rows = synther.Generator(pendulum.shipped(), SMALL, seed=0).sample(300, seed=0)
    model = TD3("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, device="cpu")
    model.replay_buffer = to_sb3(pendulum_rows, model.observation_space, model.action_space)
    model._setup_learn(10)
    model.train(2, 32)
    assert np.array_equal(from_sb3(model.replay_buffer).obs, pendulum_rows.obs)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m"])
def test_samplers_are_interchangeable(sampler):
    model = synther.Generator(toy(), replace(SMALL, sampler=sampler, levels=40), seed=0)
    reference = synther.Generator(toy(), replace(SMALL, sampler="heun", levels=400), seed=0)
    gap = np.abs(model.sample(30, seed=0).next_obs - reference.sample(30, seed=0).next_obs).max()
    assert gap < (1.0 if sampler == "euler" else 0.1)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="sampler is 'euler_ancestral'; it must be one of euler, ddim, heun, dpmpp_2m"):
        synther.Config(sampler="euler_ancestral")
    with pytest.raises(ValueError, match=r"Heun from sigma 9.72 to 0.47"):
        synther.Config(levels=4)
    with pytest.raises(ValueError, match="sigma_min 3 and sigma_max 2"):
        synther.Config(sigma_min=3, sigma_max=2)
    with pytest.raises(ValueError, match="steps is 0"):
        synther.learner(toy(), replace(SMALL, steps=0), seed=0)
    with pytest.raises(ValueError, match=r"the action space has shape \(2,\); these rows need \(1,\)"):
        to_sb3(toy(), spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (2,)))
