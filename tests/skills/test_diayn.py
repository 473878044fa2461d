"""DIAYN: information from a table, its bound on the same samples, its discriminator."""

import numpy as np
import pytest
import torch

from kit.skills import diayn
from kit.types import SkillMethod


def made(skills: int = 4, obs_dim: int = 2, seed: int = 0) -> diayn.DIAYN:
    return diayn.Config(skills=skills, hidden=(32, 32), learning_rate=5e-3).make(
        obs_dim, torch.Generator().manual_seed(seed)
    )


def test_information_by_hand():
    assert diayn.mutual_information(np.array([[2.0, 0.0], [0.0, 2.0]])) == pytest.approx(np.log(2))
    assert diayn.mutual_information(np.array([[3.0, 1.0], [6.0, 2.0]])) == pytest.approx(0.0, abs=1e-12)
    # p = 1/2, 1/4, 1/4: I = 1/2 log(.5 / (.5 .75)) + 1/4 log(.25 / (.5 .75)) + 1/4 log(.25 / (.5 .25))
    expected = 0.5 * np.log(4 / 3) + 0.25 * np.log(2 / 3) + 0.25 * np.log(2)
    assert diayn.mutual_information(np.array([[2.0, 0.0], [1.0, 1.0]])) == pytest.approx(expected)


def test_the_reward_is_the_log_ratio_to_a_guess():
    z = np.eye(3)
    np.testing.assert_allclose(diayn.discriminator_reward(np.zeros((3, 3)), z), 0, atol=1e-12)
    p = np.array([[0.7, 0.2, 0.1]])
    np.testing.assert_allclose(diayn.discriminator_reward(np.log(p) + 1000, z[:1]), np.log(0.7) + np.log(3))
    sure = diayn.discriminator_reward(np.array([[1e4, 0, 0]]), z[:1])
    assert sure[0] == pytest.approx(np.log(3)), "never more than log K"


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_reward_is_at_most_the_information_and_that_at_most_log_k(seed):
    """On tabular states, with the same samples on both sides and every skill sampled equally often."""
    rng, k, n, each = np.random.default_rng(seed), 16, 40, 200
    liking = rng.dirichlet(np.full(n, 0.1), k)  # where a skill likes to be
    states = np.concatenate([rng.choice(n, each, p=p) for p in liking])
    z = np.eye(k)[np.repeat(np.arange(k), each)]
    counts = np.zeros((n, k))
    np.add.at(counts, (states, z.argmax(1)), 1)
    information = diayn.mutual_information(counts)
    assert 0 < information < np.log(k) == pytest.approx(2.773, abs=1e-3)
    posterior = np.log(np.maximum(counts, 1e-300))
    exact = diayn.discriminator_reward(posterior[states], z).mean()
    assert exact == pytest.approx(information), "equal for the posterior of the same samples"
    for noise in (0.1, 1.0, 5.0):
        worse = posterior.clip(-3) + noise * rng.normal(size=(n, k))
        assert diayn.discriminator_reward(worse[states], z).mean() < information
    right = (counts[states].argmax(1) == z.argmax(1)).mean()
    assert right >= np.exp(exact - np.log(k)), "a calibrated guess is right at least exp(mean log q) of the time"


def test_with_skills_drawn_unevenly_the_empirical_prior_is_what_bounds():
    counts = np.diag([3.0, 1.0])
    reward = diayn.discriminator_reward(np.array([[99.0, 0], [0, 99.0]]), np.eye(2))
    assert reward.mean() > diayn.mutual_information(counts), "log K in the reward, H(Z) < log K in the information"


def test_the_discriminator_learns_what_can_be_told_apart():
    method, rng = made(), np.random.default_rng(0)
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    z = torch.eye(4)[torch.from_numpy(rng.integers(4, size=400))]
    batch = {"next_obs": corners[z.argmax(1)] + 0.1 * torch.from_numpy(rng.normal(size=(400, 2))).float(), "skill": z}
    before = method.reward(batch["next_obs"], z, batch["next_obs"]).mean()
    for _ in range(100):
        info = method.update(batch)
    reward = method.reward(batch["next_obs"], z, batch["next_obs"])
    assert info["accuracy"] == 1.0 and reward.shape == (400,)
    assert before < 0.2 and np.log(4) - 0.2 < reward.mean() <= np.log(4)


def test_skills_are_one_hot_and_uniform():
    method = made(skills=16)
    z = method.sample_skill(8000, np.random.default_rng(0))
    assert isinstance(method, SkillMethod) and z.shape == (8000, 16)
    assert set(np.unique(z)) == {0.0, 1.0} and (z.sum(1) == 1).all()
    np.testing.assert_allclose(z.mean(0), 1 / 16, atol=0.012)


def test_a_restored_discriminator_goes_on_identically():
    one, other = made(seed=0), made(seed=1)
    batch = {
        "next_obs": torch.randn(32, 2, generator=torch.Generator().manual_seed(0)),
        "skill": torch.eye(4)[[0] * 32],
    }
    one.update(batch)
    other.load_state_dict(one.state_dict())
    assert [one.update(batch) for _ in range(3)] == [other.update(batch) for _ in range(3)]


def test_one_skill_is_refused():
    with pytest.raises(ValueError, match="skills is 1"):
        diayn.Config(skills=1)
