"""The pendulum against Gymnasium's, and the replay that ships."""

import gymnasium
import numpy as np
import pytest

from kit.offline import pendulum


class Constant:
    """A policy with one torque [N m]."""

    def __init__(self, torque: float):
        self.torque = torque

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.full((len(observation), 1), self.torque), state


def test_step_is_gymnasiums():
    env, rng = gymnasium.make("Pendulum-v1").unwrapped, np.random.default_rng(0)
    angle, speed = rng.uniform(-np.pi, np.pi, 200), rng.uniform(-8, 8, 200)
    actions = rng.uniform(-1, 1, (200, 1))
    after, reward = pendulum.step(pendulum.observe(angle, speed), actions)
    env.reset(seed=0)
    for i in range(200):
        env.state = np.array([angle[i], speed[i]])
        obs, r, *_ = env.step(2 * actions[i])
        np.testing.assert_allclose(after[i], obs, atol=1e-5)
        assert reward[i] == pytest.approx(r, abs=1e-5)


def test_a_state_off_the_circle_is_an_angle():
    s = pendulum.observe(np.array([0.7]), np.array([1.0]))
    far = s * [3, 3, 1]
    np.testing.assert_allclose(pendulum.step(far, np.zeros((1, 1)))[0], pendulum.step(s, np.zeros((1, 1)))[0])


def test_play_counts_gymnasiums_return():
    env = gymnasium.make("Pendulum-v1")
    returns, states = pendulum.play(Constant(0.5), 3, seed=4)
    assert states.shape == (201, 3, 3)
    env.reset(seed=0)
    first = states[0, 1]
    env.unwrapped.state = np.array([np.arctan2(first[1], first[0]), first[2]])
    total, over = 0.0, False
    while not over:
        _, r, _, over, _ = env.step(np.array([0.5]))
        total += r
    assert returns[1] == pytest.approx(total, rel=1e-4)
    assert np.array_equal(returns, pendulum.play(Constant(0.5), 3, seed=4)[0])


def test_the_shipped_replay_is_true_and_gets_better():
    rows = pendulum.shipped()
    assert len(rows) == 10_000 and not rows.terminated.any()
    after, reward = pendulum.step(rows.obs, rows.actions)
    np.testing.assert_allclose(rows.next_obs, after, atol=1e-5)
    np.testing.assert_allclose(rows.reward, reward, atol=1e-4)
    returns = rows.reward.reshape(50, 200).sum(axis=1)
    assert returns[:5].mean() < -900 and returns[-20:].mean() > -250


def test_replay_is_kept_and_read_again(tmp_path, monkeypatch):
    rows = pendulum.replay(3, steps=60, folder=tmp_path)
    monkeypatch.setattr(pendulum, "learn", None)
    again = pendulum.replay(3, steps=60, folder=tmp_path)
    assert len(rows) == 60 and all(np.array_equal(value, vars(again)[name]) for name, value in vars(rows).items())
    assert [p.name for p in tmp_path.iterdir()] == ["pendulum_60_3.npz"]
