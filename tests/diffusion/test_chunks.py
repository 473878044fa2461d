import numpy as np
import pytest

from kit.diffusion.chunks import ChunkPolicy, ensemble


class Clock(ChunkPolicy):
    """Plans to say, at each step, what time it is, when that was planned, and the noise; an observation is the time."""

    obs_steps, horizon, execute, obs_dim, noise_shape = 2, 12, 4, 1, (1,)

    def __init__(self, seed=0, **settings):
        self.rng, self.plans = np.random.default_rng(seed), []
        for name, value in settings.items():
            setattr(self, name, value)

    def plan(self, history, noise):
        assert history.shape == (len(history), self.obs_steps, 1)
        self.plans.append(len(history))
        now = history[:, -1:, 0]
        times = now - (self.obs_steps - 1) + np.arange(self.horizon)
        return np.stack([times, np.repeat(now, self.horizon, 1), np.repeat(noise, self.horizon, 1)], axis=-1)


def play(policy, steps, n=1, restarts=(), **options):
    """The actions (steps, n, 3); `restarts` are (step, row)."""
    clock, state, said = np.zeros(n, np.float32), None, []
    for t in range(steps):
        start = np.array([t == 0 or (t, i) in restarts for i in range(n)])
        clock[start] = 0
        action, state = policy.predict(clock[:, None], state, start, **options)
        said.append(action)
        clock += 1
    return np.array(said)


def test_each_action_is_the_one_planned_for_its_time():
    said = play(Clock(), 13)[:, 0]
    assert said[:, 0].tolist() == list(range(13))
    assert said[:, 1].tolist() == [t // 4 * 4 for t in range(13)]


@pytest.mark.parametrize("latency", [1, 3])
def test_with_latency_an_older_plan_goes_on_until_the_new_one_is_there(latency):
    policy = Clock(latency=latency)
    said = play(policy, 20)[:, 0]
    assert said[:, 0].tolist() == list(range(20))  # still each for its time
    age = said[:, 0] - said[:, 1]
    assert age[:4].tolist() == [0, 1, 2, 3] and age[4 : 4 + latency].tolist() == list(range(4, 4 + latency))
    assert set(age[4 + latency :]) == set(range(latency, latency + 4))


def test_rows_that_start_anew_forget_and_the_others_do_not_notice():
    alone, both = play(Clock(), 11), Clock()
    said = play(both, 11, n=2, restarts=[(3, 1)])
    assert np.array_equal(said[:, 0, :2], alone[:, 0, :2])
    assert said[3:, 1, 0].tolist() == list(range(8)) and said[3:, 1, 1].tolist() == [0] * 4 + [4] * 4
    assert both.plans == [2, 1, 1, 1, 1]  # together at the start, then each when it is due


def test_a_first_observation_stands_for_those_before_it():
    class Seen(Clock):
        def plan(self, history, noise):
            self.seen = history[:, :, 0].tolist()
            return super().plan(history, noise)

    policy = Seen()
    _, state = policy.predict(np.array([[5.0], [7.0]]), None)
    assert policy.seen == [[5, 5], [7, 7]]
    for t in (1, 2, 3):
        _, state = policy.predict(np.array([[5.0 + t], [7.0 + t]]), state, np.array([False, t == 2]))
    assert policy.seen == [[9, 9]]


def test_deterministic_plans_repeat_and_others_follow_the_seed():
    assert np.array_equal(play(Clock(), 9, 3, deterministic=True), play(Clock(seed=1), 9, 3, deterministic=True))
    assert np.array_equal(play(Clock(seed=4), 9, 3), play(Clock(seed=4), 9, 3))
    for options in ({}, {"deterministic": True}):
        assert len(np.unique(play(Clock(), 12, 3, **options)[:, :, 2])) == 9  # three rows, three plans


def test_one_observation_gives_one_action():
    action, state = Clock().predict(np.array([0.0]))
    assert action.shape == (3,)
    assert Clock().predict(np.array([1.0]), state)[0].tolist()[:2] == [1, 0]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"observation has shape \(2, 2\); this policy takes \(1,\) or \(n, 1\)"):
        Clock().predict(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="not finite"):
        Clock().predict(np.array([np.nan]))
    state = Clock().predict(np.zeros((3, 1)))[1]
    with pytest.raises(ValueError, match="the state is that of 3 rows, and there are 2"):
        Clock().predict(np.zeros((2, 1)), state)
    for bad in ({"execute": 12}, {"execute": 0}, {"latency": 8}, {"latency": -1}):
        with pytest.raises(ValueError, match="a chunk of 12 steps cannot give"):
            Clock(**bad).predict(np.zeros(1))


def test_an_ensemble_by_hand_and_online():
    plans = np.array([[1.0, 10.0], [3.0, 30.0]])
    assert ensemble(plans, 0.0).tolist() == [2, 20]
    w = np.array([1, np.exp(-0.5)]) / (1 + np.exp(-0.5))
    assert np.allclose(ensemble(plans, 0.5), w @ plans, rtol=1e-12)
    chunks = np.random.default_rng(0).normal(size=(6, 4, 2))  # chunk t is planned at t, for t .. t + 3
    for now in range(6):  # online: the plans that say something of now, the oldest first
        known = np.array([chunks[t, now - t] for t in range(max(0, now - 3), now + 1)])
        weights = [np.exp(-0.01 * i) for i in range(len(known))]
        assert np.allclose(ensemble(known), np.average(known, axis=0, weights=weights), atol=1e-6)
