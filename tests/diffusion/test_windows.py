import numpy as np
import pytest
import torch

from kit.data import Episodes, join
from kit.diffusion.windows import MinMax, Windows, check_scaled


def episodes(*lengths):
    """Observation t of episode e is (e, t); so is the action taken there."""
    parts = []
    for e, length in enumerate(lengths):
        rows = np.stack([np.full(length + 1, e), np.arange(length + 1)], axis=1)[None]
        parts.append(Episodes.stack(rows, rows[:, :-1]))
    return join(parts)


def test_the_action_at_index_To_minus_1_is_the_one_taken_now():
    data = episodes(6, 9)
    windows = Windows(data, obs_steps=2, horizon=4)
    window = windows.at(data.steps)
    obs, actions = windows.obs_scaler.unscale(window.obs), windows.action_scaler.unscale(window.actions)
    assert np.allclose(obs[:, -1], data.observations[data.steps], atol=1e-5)
    assert np.allclose(actions[:, 1], data.actions[data.steps], atol=1e-5)
    assert torch.equal(window.obs[:, 0], window.obs[:, 1]) is False


def test_beyond_the_ends_the_first_observation_and_the_last_action_repeat():
    data = episodes(6, 9)
    windows = Windows(data, obs_steps=3, horizon=5)
    window = windows.at(np.array([7, 15 - 1]))  # the second episode's first row, and its last step
    obs, actions = windows.obs_scaler.unscale(window.obs), windows.action_scaler.unscale(window.actions)
    assert np.allclose(obs[0], [[1, 0]] * 3, atol=1e-5)
    assert np.allclose(actions[0, :, 1], [0, 0, 0, 1, 2], atol=1e-5)
    assert np.allclose(obs[1, :, 1], [5, 6, 7], atol=1e-5) and np.allclose(actions[1, :, 1], [5, 6, 7, 8, 8], atol=1e-5)
    assert window.real.tolist() == [[False, False, True, True, True], [True, True, True, True, False]]


def test_a_sample_is_of_steps_only_and_repeats_with_its_seed():
    data = episodes(6, 9)
    windows = Windows(data, 1, 6)
    one, two = (windows.sample(500, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one.rows, two.rows) and torch.equal(one.actions, two.actions)
    assert set(one.rows) == set(data.steps)
    assert one.obs.abs().max() <= 1 and one.actions.abs().max() <= 1


def test_scaling_there_and_back_and_a_column_that_never_changes():
    rows = np.array([[1.0, 5.0, -2.0], [3.0, 5.0, 2.0]], np.float32)
    scaler = MinMax.of(rows)
    assert scaler.scale(rows).tolist() == [[-1, 0, -1], [1, 0, 1]]
    for x in (rows, torch.from_numpy(rows), torch.from_numpy(rows).double()):
        back = scaler.unscale(scaler.scale(x))
        assert type(back) is type(x) and back.dtype == x.dtype and np.allclose(back, rows)


def test_bad_windows_and_numbers_are_refused():
    data = episodes(6, 9)
    with pytest.raises(ValueError, match="episode 0 has 6 steps, fewer than the window's 7"):
        Windows(data, 2, 7)
    with pytest.raises(ValueError, match="obs_steps is 5 and horizon 4"):
        Windows(data, 5, 4)
    with pytest.raises(ValueError, match="obs_steps is 0"):
        Windows(data, 0, 4)
    with pytest.raises(ValueError, match="row 1 is not finite"):
        MinMax.of(np.array([[1.0], [np.nan]]))
    assert check_scaled(torch.tensor([1.0, -1.0]), "actions") is not None
    with pytest.raises(ValueError, match=r"actions reach 30; .* MinMax"):
        check_scaled(torch.tensor([30.0]), "actions")
    with pytest.raises(ValueError, match="actions reach nan"):
        check_scaled(torch.tensor([0.0, np.nan]), "actions")
