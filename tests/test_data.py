"""Episodes in whole arrays, goals in hindsight, and Minari datasets written and read back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from kit import data
from kit.data import Episodes, GoalShares, join, read_minari, rows_ahead, sample_goals, sample_steps, write_minari


def small(episodes=3, steps=4, goals=True, seed=0):
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(episodes, steps + 1, 3))
    return Episodes.stack(
        observations, rng.normal(size=(episodes, steps, 2)), goals=observations[..., :2] if goals else None
    )


def fields(d):
    return {name: getattr(d, name) for name in data.FIELDS}


# ---- whole arrays -------------------------------------------------------------------------------------------------


def test_stacked_episodes_know_their_rows():
    d = small()
    assert (len(d), d.obs_dim, d.act_dim) == (15, 3, 2)
    assert d.ends.tolist() == [4, 9, 14]
    assert d.steps.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13]
    assert d.last.tolist() == [4] * 5 + [9] * 5 + [14] * 5
    assert np.flatnonzero(d.truncated).tolist() == [3, 8, 13] and not d.terminated.any()
    assert (d.actions[d.ends] == 0).all()


def test_termination_and_truncation_stay_apart():
    d = Episodes.stack(np.zeros((2, 4, 1)), np.zeros((2, 3, 1)), terminated=np.array([True, False]))
    assert np.flatnonzero(d.terminated).tolist() == [2] and np.flatnonzero(d.truncated).tolist() == [6]


def test_joining_shifts_the_ends_and_keeps_the_rows():
    a, b = small(2, 4), small(1, 6, seed=1)
    both = join([a, b])
    assert both.ends.tolist() == [4, 9, 16]
    np.testing.assert_array_equal(both.observations, np.concatenate([a.observations, b.observations]))
    np.testing.assert_array_equal(both.goals[10:], b.goals)
    with pytest.raises(ValueError, match="some have none"):
        join([a, small(1, 6, goals=False)])
    with pytest.raises(ValueError, match="empty"):
        join([])


# ---- goals in hindsight -------------------------------------------------------------------------------------------


def test_goal_shares_and_the_geometric_law():
    d = small(20, 400)
    rng = np.random.default_rng(0)
    rows = np.full(40_000, 401)  # the first row of the second episode: the end is 400 steps away
    goals = sample_goals(d, rows, GoalShares(0.2, 0.8, 0.0, gamma=0.9), rng)
    ahead = goals - rows
    assert np.mean(ahead == 0) == pytest.approx(0.2, abs=0.01)
    for k in (1, 2, 5):
        assert np.mean(ahead == k) == pytest.approx(0.8 * 0.1 * 0.9 ** (k - 1), abs=0.006)
    assert ahead[ahead > 0].mean() == pytest.approx(10, abs=0.2)  # 1 / (1 - gamma)


def test_goals_of_a_trajectory_never_leave_the_episode():
    d, rng = small(30, 7), np.random.default_rng(1)
    rows = sample_steps(d, 5000, rng)
    for geometric in (True, False):
        goals = sample_goals(d, rows, GoalShares(0, 1, 0, gamma=0.99, geometric=geometric), rng)
        assert (goals > rows).all() and (goals <= d.last[rows]).all()
    offset = sample_goals(d, np.zeros(7000, int), GoalShares(0, 1, 0, geometric=False), rng)
    assert np.bincount(offset, minlength=8)[1:] == pytest.approx(np.full(7, 1000), abs=120)  # uniform over what is left


def test_random_goals_are_uniform_over_all_rows_and_steps_are_never_last_rows():
    d, rng = small(4, 5), np.random.default_rng(2)
    rows = sample_steps(d, 24_000, rng)
    assert not np.isin(rows, d.ends).any()
    goals = sample_goals(d, rows, GoalShares(0, 0, 1), rng)
    assert np.bincount(goals, minlength=24) == pytest.approx(np.full(24, 1000), abs=150)


def test_rows_ahead_stop_at_the_end_and_at_the_goal():
    d = small(2, 10)  # rows 0..10 and 11..21
    rows = np.array([0, 8, 0, 0, 0, 5])
    goals = np.array([9, 9, 3, 15, 0, 2])  # ahead, ahead, near, elsewhere, here, behind
    assert rows_ahead(d, rows, 5, goals).tolist() == [5, 9, 3, 5, 0, 10]
    assert rows_ahead(d, rows, 5).tolist() == [5, 10, 5, 5, 5, 10]


def test_drawing_repeats_with_the_seed():
    d = small(5, 50)
    draws = [sample_goals(d, np.arange(50), GoalShares(), np.random.default_rng(s)) for s in (0, 0, 1)]
    assert (draws[0] == draws[1]).all() and (draws[0] != draws[2]).any()


# ---- Minari -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("goals", [True, False])
def test_a_minari_dataset_comes_back_bit_for_bit(tmp_path, goals):
    d = join([small(3, 4, goals), small(2, 9, goals, seed=1)])
    back = read_minari(write_minari(d, tmp_path, "toy-v0"))
    for name, array in fields(d).items():
        if array is None:
            assert getattr(back, name) is None
        else:
            np.testing.assert_array_equal(getattr(back, name), array)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["toy-v0"]  # nothing half-written beside it


SCRIPT = """
import os, socket, sys
def refuse(*a, **k): raise OSError("no network here")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import numpy as np
from kit.data import Episodes, read_minari, write_minari
d = Episodes.stack(np.random.default_rng(0).normal(size=(3, 5, 2)), np.zeros((3, 4, 1))).with_goals()
folder = write_minari(d, sys.argv[1], "toy-v0")
assert len(read_minari(folder)) == 15
import minari
theirs = minari.load_dataset("toy-v0")
assert theirs.total_steps == 12 and theirs[1].observations["achieved_goal"].shape == (5, 2)
"""


def test_writing_and_reading_use_no_network_and_leave_the_home_folder_alone(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    env = dict(os.environ, HOME=str(home), MINARI_DATASETS_PATH=str(tmp_path / "data"))
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "data")], env=env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert not list(home.iterdir())
    assert callable(socket.socket.connect)


def test_a_dataset_is_never_written_over(tmp_path):
    write_minari(small(), tmp_path, "toy-v0")
    with pytest.raises(FileExistsError, match="toy-v0"):
        write_minari(small(seed=1), tmp_path, "toy-v0")
    np.testing.assert_array_equal(read_minari(tmp_path / "toy-v0").actions, small().actions)
    with pytest.raises(FileNotFoundError, match="nothing-v0"):
        read_minari(tmp_path / "nothing-v0")


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_datasets_that_nothing_can_be_learnt_from_are_refused():
    good = small()
    with pytest.raises(ValueError, match="empty"):
        Episodes.stack(np.zeros((0, 5, 3)), np.zeros((0, 4, 2)))
    with pytest.raises(ValueError, match=r"episode 0 has 1 step"):
        Episodes.stack(np.zeros((3, 2, 3)), np.zeros((3, 1, 2)))
    for name in ("observations", "actions", "goals"):
        broken = fields(good) | {name: getattr(good, name).copy()}
        broken[name][7, 1] = np.nan
        with pytest.raises(ValueError, match=rf"{name} holds .* in row 7"):
            Episodes(**broken)
    with pytest.raises(ValueError, match="actions has 14 rows"):
        Episodes(**fields(good) | {"actions": good.actions[1:]})
    with pytest.raises(ValueError, match="ends at row 13"):
        Episodes(**fields(good) | {"ends": np.array([4, 9, 13])})
    with pytest.raises(ValueError, match=r"expected \(E, T \+ 1, obs_dim\)"):
        Episodes.stack(np.zeros((3, 5, 3)), np.zeros((3, 5, 2)))


def test_a_dataset_without_goals_or_of_another_size_is_named():
    none, rng = small(goals=False), np.random.default_rng(0)
    with pytest.raises(ValueError, match="no goals"):
        sample_goals(none, np.zeros(3, int), GoalShares(), rng)
    with pytest.raises(ValueError, match="obs_dim 3; 5 is needed"):
        small().require(obs_dim=5)
    with pytest.raises(ValueError, match="goals of size 2; 3 is needed"):
        small().require(goal_dim=3)
    none.with_goals().require(obs_dim=3, act_dim=2, goal_dim=3)


def test_shares_that_are_none_are_refused():
    for shares in ((0.5, 0.5, 0.5), (-0.1, 0.6, 0.5)):
        with pytest.raises(ValueError, match="sum to 1"):
            GoalShares(*shares)
    with pytest.raises(ValueError, match="gamma is 1"):
        GoalShares(gamma=1.0)
