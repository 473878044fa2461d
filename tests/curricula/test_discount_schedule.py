"""Automatic discount scheduling: transport and subsequences against solvers, the schedule by hand, SB3's models."""

from itertools import combinations, pairwise

import gymnasium as gym
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment, linprog

from kit.curricula import discount_schedule as ads


def line(T: int) -> np.ndarray:
    """Costs (T, T) between the frames of an episode that follows a demonstration exactly."""
    return np.abs(np.subtract.outer(np.arange(T), np.arange(T))).astype(float)


# ---- the discount and the progress ------------------------------------------------------------------------------


def test_gamma_table():
    k = np.array([4, 10, 25, 50, 100])
    np.testing.assert_allclose(ads.gamma_of(k), [0.669, 0.851, 0.938, 0.968, 0.984], atol=5e-4)
    np.testing.assert_allclose(ads.gamma_of(k) ** k, 0.2)
    assert ads.gamma_of(1, 0.3) == 0.3


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.2, 2.0, np.nan])
def test_alpha_outside_is_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha is .*between 0 and 1"):
        ads.gamma_of(3, alpha)
    with pytest.raises(ValueError, match="alpha is"):
        ads.Config(alpha=alpha)


def brute_force_lis(x: np.ndarray) -> int:
    for length in range(len(x), 0, -1):
        for chosen in combinations(x, length):
            if all(a < b for a, b in pairwise(chosen)):
                return length
    return 0


def quadratic_lis(x: np.ndarray) -> int:
    best = np.ones(len(x), int)
    for i in range(len(x)):
        best[i] = 1 + max((best[j] for j in range(i) if x[j] < x[i]), default=0)
    return int(best.max(initial=0))


def test_longest_increasing_subsequence_equals_brute_force():
    rng = np.random.default_rng(0)
    short = rng.integers(0, 9, (60, 9))  # with ties, which do not count
    np.testing.assert_array_equal(ads.longest_increasing_subsequence(short), [brute_force_lis(x) for x in short])
    long = rng.integers(0, 60, (3, 4, 80))
    expected = [[quadratic_lis(x) for x in row] for row in long]
    np.testing.assert_array_equal(ads.longest_increasing_subsequence(long), expected)
    assert ads.longest_increasing_subsequence(np.arange(7)) == 7
    assert ads.longest_increasing_subsequence(np.zeros(7)) == 1
    assert ads.longest_increasing_subsequence(np.zeros(0)) == 0


def test_progress_score_by_hand():
    T = 6
    assert ads.progress_score(line(T)) == T
    assert ads.progress_score(line(T)[::-1]) == 1, "backwards"
    still = line(T)[[0, 1, 2, 2, 2, 2]]
    assert ads.progress_score(still) == 3, "frames that stand still do not count"
    assert ads.progress_score(still[:3, :3]) == 3
    np.testing.assert_array_equal(ads.progress_score(np.stack((line(T), still))), [6, 3])


def test_reference_score_by_hand():
    """Three demonstrations: two alike, one that stands still at place 1 for a step."""
    T, paths = 5, np.array([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1, 1, 2, 3]])
    costs = np.abs(paths[:, None, :, None] - paths[None, :, None, :]).astype(float)
    # ordered pairs at k = 5: 5, 5 alike; 4, 4 with the slow one as the agent; 4, 4 against it (place 4 is missing)
    np.testing.assert_array_equal(ads.reference_score(costs), [1, 2, 2, 3, 4])
    np.testing.assert_array_equal(ads.reference_score(costs[:1, :1]), np.arange(1, T + 1))
    with pytest.raises(ValueError, match=r"must be \(n, n, T, T\)"):
        ads.reference_score(costs[:2])


# ---- the reward -------------------------------------------------------------------------------------------------


def test_cosine_cost_by_hand():
    a, b = np.array([[1.0, 0.0], [3.0, 4.0]]), np.array([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0]])
    np.testing.assert_allclose(ads.cosine_cost(a, b), [[0, 1, 2], [0.4, 0.2, 1.6]], atol=1e-15)
    with pytest.raises(ValueError, match="all zeros"):
        ads.cosine_cost(a, np.zeros((1, 2)))


def test_sinkhorn_marginals():
    costs = np.random.default_rng(0).random((2, 3, 7, 5))
    plan = ads.sinkhorn(costs, 0.1, 500)
    np.testing.assert_allclose(plan.sum(axis=-1), 1 / 7, rtol=1e-12)
    np.testing.assert_allclose(plan.sum(axis=-2), 1 / 5, rtol=1e-6)
    np.testing.assert_allclose(plan[1, 2], ads.sinkhorn(costs[1, 2], 0.1, 500), err_msg="alone as in a batch")
    np.testing.assert_allclose(ads.sinkhorn(costs + 7, 0.1, 500), plan, err_msg="a constant changes nothing")


def test_sinkhorn_is_the_entropic_optimum():
    """Stationarity: log mu_ij + c_ij / eps is a row term plus a column term."""
    costs = np.random.default_rng(1).random((4, 6))
    potential = np.log(ads.sinkhorn(costs, 0.2, 2000)) + costs / 0.2
    centred = potential - potential.mean(axis=0) - potential.mean(axis=1, keepdims=True) + potential.mean()
    np.testing.assert_allclose(centred, 0, atol=1e-9)


def test_sinkhorn_at_small_epsilon_is_optimal_transport():
    rng = np.random.default_rng(2)
    for _ in range(3):
        costs = rng.random((6, 6))
        plan = ads.sinkhorn(costs, 0.002, 20_000)
        assignment = np.zeros((6, 6))
        assignment[linear_sum_assignment(costs)] = 1 / 6
        np.testing.assert_allclose(plan, assignment, atol=1e-3)
    costs = rng.random((4, 6))
    rows, columns = np.kron(np.eye(4), np.ones(6)), np.kron(np.ones(4), np.eye(6))
    limits = np.r_[np.full(4, 1 / 4), np.full(6, 1 / 6)]
    best = linprog(costs.ravel(), A_eq=np.vstack((rows, columns)), b_eq=limits).fun
    assert (ads.sinkhorn(costs, 0.002, 20_000) * costs).sum() == pytest.approx(best, abs=1e-3)


def test_ot_reward_is_zero_on_the_demonstration_and_sums_to_the_transport_cost():
    frames = np.eye(8)
    costs = ads.cosine_cost(frames, frames)
    np.testing.assert_allclose(ads.ot_reward(costs), 0, atol=1e-12)
    costs = np.random.default_rng(3).random((2, 8, 8))
    rewards = ads.ot_reward(costs, 0.05)
    np.testing.assert_allclose(rewards.sum(axis=-1), -8 * (ads.sinkhorn(costs, 0.05, 100) * costs).sum(axis=(-1, -2)))


def test_bad_costs_are_refused():
    costs = line(5)
    costs[2, 3] = np.nan
    with pytest.raises(ValueError, match=r"costs at \(2, 3\) is nan"):
        ads.ot_reward(costs)
    with pytest.raises(ValueError, match=r"costs that differ by 4 it must be at least 0\.00667"):
        ads.ot_reward(line(5), 0.001)
    with pytest.raises(ValueError, match="epsilon is 0"):
        ads.ot_reward(line(5), 0)


# ---- the schedule -----------------------------------------------------------------------------------------------


def test_schedule_by_hand():
    """Horizon 20, so k starts at 4; a perfect episode lifts it by `max_delta`, one that stops at place 6 up to 8."""
    schedule = ads.DiscountSchedule(np.arange(1, 21), ads.Config(max_delta=3))
    assert schedule.progress == 4
    assert schedule.gamma == pytest.approx(0.2 ** (1 / 4))
    stopped = line(20)[np.minimum(np.arange(20), 5)]  # six places, so score 6: floor(0.9 * 7) is 6, floor(0.9 * 8) 7
    assert schedule.observe(stopped) == pytest.approx(0.2 ** (1 / 7))
    assert schedule.observe(stopped) == pytest.approx(0.2 ** (1 / 8))
    assert schedule.observe(stopped) == pytest.approx(0.2 ** (1 / 8)), "stuck there"
    assert schedule.observe(line(20)[None]) == pytest.approx(0.2 ** (1 / 11))
    for _ in range(5):
        schedule.observe(line(20))
    assert schedule.progress == 20
    assert schedule.observe(stopped) == pytest.approx(0.2 ** (1 / 20)), "never falls"


def test_schedule_takes_the_percentile_over_demonstrations():
    still = np.repeat(line(10)[:1], 10, axis=0)
    costs = np.stack((line(10), still))
    reference = np.arange(1, 11)
    lenient = ads.DiscountSchedule(reference, ads.Config(start=0.5, percentile=100))
    strict = ads.DiscountSchedule(reference, ads.Config(start=0.5, percentile=0))
    lenient.observe(costs)
    strict.observe(costs)
    assert (lenient.progress, strict.progress) == (10, 5)


def test_schedule_is_monotone():
    rng = np.random.default_rng(0)
    schedule = ads.DiscountSchedule(np.arange(1, 31) * 0.3)
    seen = [schedule.progress]
    for _ in range(60):
        schedule.observe(rng.random((3, 30, 30)))
        seen.append(schedule.progress)
    steps = np.diff(seen)
    assert steps.min() >= 0
    assert 0 < steps.max() <= schedule.cfg.max_delta


def test_any_score_can_drive_the_schedule():
    schedule = ads.DiscountSchedule(np.arange(1, 101))
    assert schedule.observe_score(19) == pytest.approx(0.2 ** (1 / 23))
    assert schedule.observe_score(19) == pytest.approx(0.2 ** (1 / 23)), "floor(0.9 * 22) is 19, floor(0.9 * 23) is 20"
    asked = []
    schedule.observe_score(lambda k: asked.append(k) or k)
    assert asked == [23, 24, 25, 26, 27]


def test_restore_goes_on_identically():
    rng = np.random.default_rng(1)
    episodes = rng.random((20, 2, 12, 12))
    reference = np.arange(1, 13) * 0.4
    one = ads.DiscountSchedule(reference, ads.Config(max_delta=1))
    for costs in episodes[:10]:
        one.observe(costs)
    other = ads.DiscountSchedule(np.ones(12))
    other.load_state_dict(one.state_dict())
    assert [one.observe(c) for c in episodes[10:]] == [other.observe(c) for c in episodes[10:]]
    assert one.progress > 2


def test_bad_input_leaves_the_schedule_alone():
    schedule = ads.DiscountSchedule(np.arange(1, 11))
    bad = np.stack((line(10), line(10)))
    bad[1, 9, 9] = np.inf
    with pytest.raises(ValueError, match=r"costs at \(1, 9, 9\) is inf"):
        schedule.observe(bad)
    with pytest.raises(ValueError, match=r"\(1, 9, 10\); they must be \(n, 10, 10\): episodes of equal length"):
        schedule.observe(line(10)[:9])
    with pytest.raises(ValueError, match="must be"):
        schedule.observe(np.zeros((0, 10, 10)))
    with pytest.raises(ValueError, match="score at progress 3 is nan"):
        schedule.observe_score(lambda k: k if k < 3 else np.nan)
    with pytest.raises(ValueError, match="horizon of 4 steps, the schedule 10"):
        schedule.load_state_dict(ads.DiscountSchedule(np.arange(1, 5)).state_dict())
    with pytest.raises(ValueError, match=r"progress is 11; it must lie in 1\.\.10"):
        schedule.load_state_dict(schedule.state_dict() | {"progress": 11})
    assert schedule.progress == 2
    with pytest.raises(ValueError, match=r"must be \(T,\)"):
        ads.DiscountSchedule(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="max_delta is 0"):
        ads.Config(max_delta=0)


# ---- Stable-Baselines3 ------------------------------------------------------------------------------------------


class Clock(gym.Env):
    """Shows the time as a one-hot frame, pays 1 a step, lasts ten steps."""

    observation_space = gym.spaces.Box(-1, 1, (10,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(10, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.eye(10, dtype=np.float32)[self.t - 1], 1.0, False, self.t == 10, {}


def clock_costs(frames: np.ndarray) -> np.ndarray:
    return ads.cosine_cost(frames, np.eye(10))[None]


def ppo(**kwargs):
    from stable_baselines3 import PPO

    settings = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "gamma": 0.5, "seed": 0, "device": "cpu"}
    return PPO("MlpPolicy", kwargs.pop("env", None) or Clock(), **(settings | kwargs))


def test_push_gamma_reaches_every_place_on_policy():
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    model = ppo(env=VecNormalize(DummyVecEnv([Clock]), gamma=0.5))
    ads.push_gamma(model, 0.9)
    assert model.gamma == model.rollout_buffer.gamma == model.get_vec_normalize_env().gamma == 0.9


def test_push_gamma_keeps_the_values_right():
    """A reward of 1 for ever is worth 2 at gamma 0.5 and 10 at gamma 0.9."""
    import torch

    model = ppo()
    with torch.no_grad():
        model.policy.value_net.weight.zero_()
        model.policy.value_net.bias.fill_(2.0)
    obs = torch.zeros(1, 10)
    ads.push_gamma(model, 0.9)
    assert model.policy.predict_values(obs).item() == pytest.approx(10)
    ads.push_gamma(model, 0.5, rescale_values=False)
    assert model.policy.predict_values(obs).item() == pytest.approx(10)
    with pytest.raises(ValueError, match=r"gamma is 1; it must lie in \[0, 1\)"):
        ads.push_gamma(model, 1)
    assert model.gamma == 0.5


def test_push_gamma_reaches_old_transitions_off_policy():
    """Three-step returns of transitions stored before the push use the new discount."""
    from stable_baselines3 import DQN

    model = DQN("MlpPolicy", Clock(), n_steps=3, gamma=0.5, buffer_size=100, learning_starts=100, seed=0, device="cpu")
    model.learn(30)
    ads.push_gamma(model, 0.9)
    assert model.gamma == model.replay_buffer.gamma == 0.9
    batch = model.replay_buffer._get_samples(np.array([0, 11]))
    np.testing.assert_allclose(batch.rewards.numpy().ravel(), 1 + 0.9 + 0.81, rtol=1e-6)
    np.testing.assert_allclose(batch.discounts.numpy().ravel(), 0.9**3, rtol=1e-6)


def test_callback_raises_the_discount_while_a_model_learns():
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    schedule = ads.DiscountSchedule(np.arange(1, 11), ads.Config(max_delta=1))
    model = ppo(env=VecNormalize(DummyVecEnv([Clock, Clock])))
    model.learn(2 * 8 * 3, ads.sb3_callback(schedule, clock_costs))  # 24 steps of two: four episodes
    assert schedule.progress == 2 + 4
    assert model.gamma == pytest.approx(0.2 ** (1 / 4)), "two episodes had ended when the last rollout began"
    again = ads.sb3_callback(schedule, clock_costs)
    model.learn(2 * 8 * 2, again, reset_num_timesteps=False)  # steps 25 to 40; the episode to step 30 is not whole
    assert schedule.progress == 8
    assert model.gamma == model.rollout_buffer.gamma
