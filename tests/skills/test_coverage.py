"""APT's distances and entropies against what is known exactly; RND's error, and what makes it fade."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from kit.skills import apt, rnd
from kit.types import SkillMethod


def torch_rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- apt ------------------------------------------------------------------------------------------------------------


def test_distances_by_hand_without_oneself():
    line = np.array([[0.0], [1.0], [3.0]])
    np.testing.assert_allclose(apt.knn_distance(line, 2), [[1, 3], [1, 2], [2, 3]])
    np.testing.assert_allclose(apt.knn_distance(np.array([[2.0, 2.0], [2.0, 2.0]]), 1), [[0], [0]])


def test_distances_are_a_trees():
    points = np.random.default_rng(0).normal(size=(200, 3)) * (1, 5, 0.1) + 20
    expected = cKDTree(points).query(points, 6)[0][:, 1:]  # the first is the point itself
    np.testing.assert_allclose(apt.knn_distance(points, 5), expected, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_estimate_is_the_entropy_of_gaussians_and_boxes(d, k):
    rng = np.random.default_rng(10 * d + k)
    scale = np.array([0.5, 2.0, 1.5])[:d]
    gaussian = 0.5 * d * np.log(2 * np.pi * np.e) + np.log(scale).sum()
    assert apt.entropy(rng.normal(size=(3000, d)) * scale, k) == pytest.approx(gaussian, abs=0.15)
    assert apt.entropy(rng.uniform(size=(3000, d)) * scale, k) == pytest.approx(np.log(scale).sum(), abs=0.15)


def test_counting_oneself_would_be_off():
    points = np.random.default_rng(0).normal(size=(3000, 2))
    k, exact = 3, np.log(2 * np.pi * np.e)
    shifted = apt.entropy(points, k - 1) + 1 / (k - 1)  # psi(k) - psi(k - 1): the same formula, one neighbour nearer
    with_self = shifted - 2 / (k - 1)
    assert abs(apt.entropy(points, k) - exact) < 0.05 < abs(with_self - exact)


def test_the_reward_is_the_log_of_the_mean_distance_and_larger_for_the_lonely():
    method = apt.Config(neighbours=2).make(2)
    s2 = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 9.0]], np.float32)
    reward = method.reward(None, None, s2)
    np.testing.assert_allclose(reward, np.log1p([1.5, 1.0, 1.5, 7.5]))
    assert isinstance(method, SkillMethod) and method.sample_skill(4, np.random.default_rng(0)).shape == (4, 0)


@pytest.mark.parametrize("k", [0, 5])
def test_too_few_neighbours_are_named(k):
    with pytest.raises(ValueError, match=f"k is {k}; 5 points have 1 to 4 others"):
        apt.knn_distance(np.zeros((5, 2)), k)


# ---- rnd ------------------------------------------------------------------------------------------------------------


def trained(batches: list[torch.Tensor], steps: int) -> rnd.RND:
    method = rnd.Config().make(2, torch_rng())
    for i in range(steps):
        method.update({"next_obs": batches[i % len(batches)]})
    return method


def test_the_known_is_dull_and_the_new_is_not():
    known = torch.randn(256, 2, generator=torch_rng())
    method = trained([known], 300)
    reward = method.reward(None, None, known.numpy())
    far = method.reward(None, None, np.array([[6.0, 6.0], [-6.0, 6.0]], np.float32))
    assert isinstance(method, SkillMethod) and reward.shape == (256,)
    assert far.min() > 10 * reward.mean()


def test_the_raw_error_fades_and_the_reward_does_not():
    known = torch.randn(256, 2, generator=torch_rng())
    early, late = trained([known], 30), trained([known], 500)
    with torch.no_grad():
        raw = [m.error(known).mean().item() for m in (early, late)]
    reward = [m.reward(None, None, known.numpy()).mean() for m in (early, late)]
    assert raw[1] < 0.2 * raw[0] and reward[1] > 0.2 * reward[0]


def test_moments_follow_the_data_from_the_first_batch_on():
    moments, rows = rnd.Moments(2, 0.9), torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    for _ in range(2):
        moments.add(rows)
        torch.testing.assert_close(moments.mean, torch.tensor([2.0, 2.0]))
        torch.testing.assert_close(moments.std, torch.tensor([1.0, 2.0]))


def test_a_restored_rnd_goes_on_identically():
    batch = torch.randn(64, 2, generator=torch_rng(3))
    one, other = trained([batch], 5), rnd.Config().make(2, torch_rng(1))
    other.load_state_dict(one.state_dict())
    assert one.update({"next_obs": batch}) == other.update({"next_obs": batch})
    np.testing.assert_array_equal(one.reward(None, None, batch), other.reward(None, None, batch))
