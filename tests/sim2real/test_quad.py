"""The planar quadrotor: closed forms of its physics, gates, the user's limit, recorded flights."""

import numpy as np
import pytest

from kit.envs.env import BatchEnv, SingleEnv
from kit.sim2real.people import quad
from kit.sim2real.people.quad import DRAG, FPS, GATES, GRAVITY, LAG, LIMITS, Quad

HOVER = 2 / LIMITS[1] - 1  # the action that asks for a thrust of one weight


class Constant:
    """A policy that always does the same."""

    def __init__(self, *action):
        self.action = np.array(action)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.broadcast_to(self.action, (*np.shape(observation)[:-1], 2)), state


def start(n: int = 1, limit: float = 3.0, seed: int = 0) -> Quad:
    task = Quad(n)
    rngs = [np.random.default_rng(seed + i) for i in range(n)]
    task.reset(np.arange(n), {"limit": np.full((n, 1), limit)}, rngs)
    return task


def fly_steps(x, v, theta, omega, f, rate, seconds, steps):
    state = np.array([x], float), np.array([v], float), np.array([theta], float), np.array([omega], float)
    for _ in range(steps):
        state = quad.fly_step(*state, np.array([f]), np.array([rate]), seconds / steps)
    return [s[0] for s in state]


@pytest.mark.parametrize("steps", [1, 50])
def test_hovering_stays(steps):
    x, v, theta, omega = fly_steps([1, 3], [0, 0], 0, 0, 1.0, 0.0, 2.0, steps)
    np.testing.assert_allclose([*x, *v, theta, omega], [1, 3, 0, 0, 0, 0], atol=1e-12)


@pytest.mark.parametrize("steps", [1, 50])
def test_free_fall_with_drag(steps):
    x, v, *_ = fly_steps([1, 3], [2, 0], 0.4, 0, 0.0, 0.0, 1.5, steps)
    decay = np.exp(-DRAG * 1.5)
    np.testing.assert_allclose(v, [2 * decay, -GRAVITY / DRAG * (1 - decay)], rtol=1e-10)
    fallen = GRAVITY / DRAG * (1.5 - (1 - decay) / DRAG)
    np.testing.assert_allclose(x, [1 + 2 * (1 - decay) / DRAG, 3 - fallen], rtol=1e-10)


def test_the_body_rate_follows_with_a_lag_and_the_pitch_is_its_integral():
    _, _, theta, omega = fly_steps([0, 0], [0, 0], 0, 1.0, 1.0, 4.0, LAG, 7)
    assert omega == pytest.approx(4 - 3 / np.e)
    assert theta == pytest.approx(4 * LAG - 3 * LAG * (1 - 1 / np.e))


def test_a_tilted_quadrotor_accelerates_by_its_thrust():
    """From rest: g f (sin theta, cos theta) - (0, g), to first order in a short time."""
    _, v, *_ = fly_steps([0, 0], [0, 0], 0.7, 0, 2.5, 0.0, 1e-5, 1)
    np.testing.assert_allclose(v / 1e-5, GRAVITY * np.array([2.5 * np.sin(0.7), 2.5 * np.cos(0.7) - 1]), rtol=1e-4)


def test_the_steps_converge_while_the_attitude_turns():
    coarse = fly_steps([0, 0], [1, 0], 0.2, 0, 2.0, 5.0, 0.4, 20)
    fine = fly_steps([0, 0], [1, 0], 0.2, 0, 2.0, 5.0, 0.4, 2000)
    np.testing.assert_allclose(coarse[0], fine[0], atol=2e-3)
    np.testing.assert_allclose(coarse[1], fine[1], atol=5e-3)


def test_miss_equals_brute_force():
    rng = np.random.default_rng(0)
    a, b, gate = rng.normal(size=(3, 40, 2))
    share = np.linspace(0, 1, 4001)[:, None, None]
    brute = np.linalg.norm(a + share * (b - a) - gate, axis=-1).min(axis=0)
    np.testing.assert_allclose(quad.miss(a, b, gate), brute, atol=1e-3)
    assert quad.miss(a[:1], a[:1], gate[:1]) == pytest.approx(np.linalg.norm(a[0] - gate[0])), "a way of length zero"


def test_thrust_is_cut_at_the_users_limit_and_asking_for_more_costs():
    task = start(2, limit=2.0)
    for theirs in (task.x, task.v, task.theta, task.omega):
        theirs[1] = theirs[0]
    task.next[1] = task.next[0]
    actions = np.array([[4 / LIMITS[1] - 1, 0.0], [1.0, 0.0]])  # 2 weights, and all that the motors have
    task.step(actions)
    np.testing.assert_allclose(task.thrust, 2.0)
    np.testing.assert_array_equal(task.x[0], task.x[1])
    reward, _, _ = task.judge(actions)
    assert reward[0] - reward[1] == pytest.approx(quad.OVER_LIMIT * (LIMITS[1] - 2.0))


def test_rewards_add_up_to_the_way_towards_the_gate():
    task = start(limit=1.5)
    before = np.linalg.norm(GATES[task.next] - task.x, axis=-1)
    total, gate = 0.0, task.next.copy()
    for _ in range(5):
        task.step(np.array([[HOVER, 0.0]]))
        total += task.judge(np.array([[HOVER, 0.0]]))[0]
    assert (task.next == gate).all()
    np.testing.assert_allclose(total, before - np.linalg.norm(GATES[gate] - task.x, axis=-1))


def test_gates_count_in_order_and_a_lap_is_a_success():
    task = start(limit=4.5)
    first = task.next[0]
    for k in range(4):
        task.x[0], task.v[0] = GATES[(first + k) % 4], 0.0
        task.step(np.array([[HOVER, 0.0]]))
        assert task.passed[0] == k + 1 and task.next[0] == (first + k + 1) % 4
        assert task.judge(np.zeros((1, 2)))[2][0] == (k == 3)


def test_leaving_the_arena_is_a_crash():
    task = start()
    task.x[0] = [0, 0.3]
    task.v[0] = [0, -5]
    action = np.array([[-1.0, 0.0]])
    task.step(action)
    reward, crashed, success = task.judge(action)
    assert crashed[0] and not success[0] and reward[0] < -quad.CRASH + 1


def test_batch_equals_single_and_observations_fit():
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 3, 2)).astype(np.float32)
    batch = BatchEnv(Quad(3, max_steps=12))
    seen = [batch.reset(seed=5)[0]] + [batch.step(a)[0] for a in actions]
    for i in range(3):
        env = SingleEnv(Quad(1, max_steps=12))
        obs, _ = env.reset(seed=5 + i)
        np.testing.assert_array_equal(seen[0][i], obs)
        for t in range(len(actions)):
            obs, _, terminated, truncated, _ = env.step(actions[t, i])
            if terminated or truncated:
                obs, _ = env.reset()
            np.testing.assert_array_equal(seen[t + 1][i], obs)
            assert env.observation_space.contains(obs)


def test_the_limit_is_the_last_number_of_an_observation_and_can_change_in_flight():
    env = BatchEnv(Quad(2))
    obs, _ = env.reset(seed=0, options={"task": {"limit": [[1.5], [3.0]]}})
    np.testing.assert_allclose(obs[:, -1], [-1, 0])
    env.set_task(limit=[4.5])
    np.testing.assert_allclose(env.task.observe()[:, -1], 1)
    with pytest.raises(ValueError, match=r"limit.*5\..*limits \[1.5\] to \[4.5\]"):
        env.set_task(limit=[5.0])
    np.testing.assert_allclose(env.task.limit, 4.5)


def test_a_recorded_flight():
    flight = quad.fly(Constant(HOVER, 0.0), 2.0, seconds=1.0, seed=3)
    assert flight.time[-1] == pytest.approx(1.0) and len(flight.position) == round(FPS) + 1 and not flight.crashed
    again = quad.fly(Constant(HOVER, 0.0), 2.0, seconds=1.0, seed=3)
    np.testing.assert_array_equal(flight.position, again.position)
    falling = quad.fly(Constant(-1.0, 0.0), 2.0, seed=3)
    assert falling.crashed and falling.time[-1] < 3


def test_the_limit_can_change_in_a_recorded_flight():
    flight = quad.fly(Constant(1.0, 0.0), lambda t: 1.5 if t < 0.2 else 3.0, seconds=0.4)
    np.testing.assert_allclose(flight.thrust[1:], np.where(flight.time[:-1] < 0.2, 1.5, 3.0))
    with pytest.raises(ValueError, match=r"limit.*9\."):
        quad.fly(Constant(1.0, 0.0), 9.0)


def test_lap_times_are_between_every_fourth_gate():
    time = np.arange(12) / FPS
    passed = np.array([0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9])
    none = np.zeros(12)
    flight = quad.Flight(time, none, none, none, none, none, passed, False)
    np.testing.assert_allclose(flight.lap_times, np.array([6, 4]) / FPS)


def test_gates_passed_are_counted_until_a_crash():
    """What falls from the last gate of a lap falls through the first, which lies below, and then crashes."""
    above = [int(np.random.default_rng(s).integers(len(GATES)) == 3) for s in range(3)]
    assert sorted(above) == [0, 1, 1]
    np.testing.assert_array_equal(quad.gates_passed(Constant(-1.0, 0.0), (1.5, 4.5), starts=3), [above, above])
    np.testing.assert_array_equal(
        quad.gates_passed(Constant(HOVER, 0.0), (2.0,), starts=4, seed=1),
        quad.gates_passed(Constant(HOVER, 0.0), (2.0,), starts=4, seed=1),
    )
