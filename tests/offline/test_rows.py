"""Rows: what they refuse, and the way through Stable-Baselines3's replay buffer."""

from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from kit.offline.rows import Rows, add_to_sb3, from_sb3, to_sb3

OBS, ACT = spaces.Box(-9, 9, (3,)), spaces.Box(-2, 2, (2,))


def some(n: int = 7, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    return Rows(
        rng.normal(size=(n, 3)), rng.uniform(-1, 1, (n, 2)), rng.normal(size=n), rng.normal(size=(n, 3)),
        rng.random(n) < 0.3,
    )  # fmt: skip


def same(a: Rows, b: Rows) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def test_into_sb3_and_back_is_the_same():
    rows = some()
    assert rows.terminated.any() and not rows.terminated.all()
    assert same(from_sb3(to_sb3(rows, OBS, ACT)), rows)


def test_a_time_limit_does_not_terminate():
    buffer = ReplayBuffer(8, OBS, ACT, device="cpu", n_envs=2)
    s = np.zeros((2, 3), np.float32)
    infos = [{"TimeLimit.truncated": True}, {}]
    buffer.add(s, s + 1, np.zeros((2, 2)), np.array([1.0, 2.0]), np.array([True, True]), infos)
    rows = from_sb3(buffer)
    assert rows.reward.tolist() == [1, 2] and rows.terminated.tolist() == [0, 1]
    assert (rows.next_obs == 1).all() and len(rows) == 2, "only what was stored, both environments"


def test_a_full_buffer_forgets_the_oldest():
    rows, buffer = some(7), ReplayBuffer(5, OBS, ACT, device="cpu")
    add_to_sb3(buffer, rows)
    assert sorted(from_sb3(buffer).reward) == sorted(rows.reward[2:])


def test_fraction_and_join():
    rows = some(100)
    few = rows.fraction(0.05, np.random.default_rng(1))
    assert len(few) == 5 and set(few.reward) < set(rows.reward) and len(set(few.reward)) == 5
    assert same(few, rows.fraction(0.05, np.random.default_rng(1)))
    assert same(rows.fraction(1.0, np.random.default_rng(1)), rows)
    assert len(some(3).fraction(1e-9, np.random.default_rng(0))) == 1
    assert same(few.join(rows).take(np.arange(5)), few) and len(few.join(rows)) == 105


def test_bad_rows_are_refused():
    rows = some()
    for change, message in (
        ({"reward": rows.reward[:3]}, r"reward has shape \(3,\); expected \(7,\)"),
        ({"obs": np.where(np.arange(7)[:, None] == 4, np.nan, rows.obs)}, "obs holds nan"),
        ({"actions": 2 * np.ones((7, 2))}, r"actions reach 2; .* Divide by the action space's bounds"),
        ({"next_obs": np.zeros((7, 4))}, r"next_obs has shape \(7, 4\) and obs \(7, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(rows, **change)
    with pytest.raises(ValueError, match="there are 0 rows"):
        rows.take(np.zeros(7, bool))
    with pytest.raises(ValueError, match=r"share is 0; it must be above 0"):
        rows.fraction(0, np.random.default_rng(0))


def test_bad_buffers_are_refused():
    with pytest.raises(ValueError, match="replay buffer is empty"):
        from_sb3(ReplayBuffer(5, OBS, ACT, device="cpu"))
    thrifty = ReplayBuffer(5, OBS, ACT, device="cpu", optimize_memory_usage=True, handle_timeout_termination=False)
    add_to_sb3(thrifty, some(3))
    with pytest.raises(ValueError, match="optimize_memory_usage drops the state"):
        from_sb3(thrifty)
    with pytest.raises(ValueError, match=r"the observation space has shape \(2,\); these rows need \(3,\)"):
        to_sb3(some(), ACT, ACT)
    two = ReplayBuffer(8, OBS, ACT, device="cpu", n_envs=2)
    with pytest.raises(ValueError, match="of 2 environments"):
        add_to_sb3(two, some())
    assert two.pos == 0, "unchanged"
