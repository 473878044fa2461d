"""The world of 24 ways and three exits that BESO learns: its demonstrations, its counting, and what the kit ships."""

import dataclasses

import numpy as np
import pytest

import kit
from kit.diffusion import avoid_world, beso
from kit.diffusion.goals import HindsightGoals
from kit.envs import avoid


def test_a_row_s_goal_is_the_exit_above_it_and_the_last_one_the_exit_taken():
    data = avoid_world.episodes(1, seed=0)
    assert len(data.ends) == 24 and np.bincount(data.goals[data.ends].argmax(axis=1)).tolist() == [6, 12, 6]
    rows = np.resize(data.steps, 500)
    goals = HindsightGoals(data, "final").sample(rows, np.random.default_rng(0))
    x = data.observations[data.last[rows], 2]
    assert (goals.argmax(axis=1) == (x > 0.4).astype(int) + (x > 0.6)).all()
    assert avoid_world.exit_words(np.array([0.3, 0.4, 0.5, 0.7])).argmax(axis=1).tolist() == [0, 1, 1, 2]
    assert data.terminated.sum() == 24 and not data.truncated.any()


class Expert:
    """Follows the middle of a way; its `predict` is called with [desired, actual, word]."""

    def __init__(self, modes):
        self.points = [avoid.path(m) for m in modes]

    def using(self, **kwargs):
        return self

    def predict(self, obs, state=None):
        state = (np.arange(len(obs)),) if state is None else state
        actions = [avoid.follow(self.points[i], row[:2]) for i, row in zip(state[0], obs, strict=True)]
        return np.array(actions), state


def test_playing_counts_ways_and_exits_although_rods_finish_at_different_times():
    modes = np.arange(24)
    played = avoid_world.play(Expert(modes), 24, seed=0)
    taken = np.array([avoid.gaps_of(m)[2] for m in modes])
    assert (played.ways == modes).all() and (played.left == np.array([0, 1, 1, 2])[taken]).all()
    assert (played.success == (played.left == np.arange(24) % 3)).all()
    assert len({len(path) for path in played.paths}) > 1
    assert all(path[-1, 1] > avoid.DONE_Y and path[-2, 1] <= avoid.DONE_Y for path in played.paths)
    assert np.isclose(played.whole_entropy, 1.0)


def test_a_touched_pillar_and_a_late_rod_have_not_left():
    class Straight(Expert):
        def predict(self, obs, state=None):
            state = (np.arange(len(obs)),) if state is None else state
            return np.array([[0.0, 1.0 if i == 0 else 0.0] for i in state[0]]), state

    played = avoid_world.play(Straight([0]), 2, seed=0)
    assert played.left.tolist() == played.ways.tolist() == [-1, -1] and not played.success.any()
    assert len(played.paths[0]) < 60 and len(played.paths[1]) == 251 and np.isnan(played.entropy)


def test_entropy_counts_ways_for_each_exit_asked_for():
    asked, ways = np.repeat([0, 1], 8), np.r_[np.zeros(8, int), np.repeat([3, 5], 4)]
    found = avoid_world.Outcome(asked, np.zeros(16, int), ways, [])
    one = (np.log(2) + 1 / 16) / np.log(24)  # two ways alike, with Miller's correction; the other exit has one way
    assert found.entropy == pytest.approx(one / 2) and found.success.mean() == 0.5


def test_making_what_is_shipped(tmp_path, monkeypatch):
    tiny = dataclasses.replace(
        avoid_world.CONFIG, width=16, layers=1, heads=2, fit=dataclasses.replace(avoid_world.CONFIG.fit, steps=3)
    )
    monkeypatch.setattr(avoid_world, "CONFIG", tiny)
    monkeypatch.setattr(avoid_world, "episodes", lambda seed, real=avoid_world.episodes: real(1, seed=seed))
    monkeypatch.setattr(avoid.Avoid.__init__, "__kwdefaults__", {"rows": 3, "max_steps": 5})
    agent = kit.run(avoid_world.make("beso_avoid", seed=3, out=tmp_path / "beso"))
    loaded = kit.load(tmp_path / "beso")
    assert (loaded.card["env"], loaded.card["seed"], loaded.cfg) == ("kit/Avoid-v0", 3, tiny)
    obs = np.zeros((2, 4), np.float32)
    asked = [policy.ask(np.eye(3)[1]).predict(obs, deterministic=True)[0] for policy in (agent, loaded)]
    np.testing.assert_array_equal(*asked)
    with pytest.raises(ValueError, match="no policy is called 'beso_push' here; there is beso_avoid"):
        next(avoid_world.make("beso_push", seed=0, out=tmp_path))


def test_the_shipped_policy_leaves_where_it_is_asked_to():
    policy = kit.load("beso_avoid")
    assert isinstance(policy, beso.Agent) and policy.card["success"]["rate"] >= 0.85
    played = avoid_world.play(policy, 18, seed=5)
    assert played.success.mean() >= 0.75
