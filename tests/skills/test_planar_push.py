"""The planar pusher: contact and kinematics against hand-computed cases, then the task's promises."""

import gymnasium as gym
import numpy as np
import pytest

import kit  # noqa: F401  (registers the environments)
from kit.envs import make_task
from kit.envs import planar_push as pp
from kit.envs.planar_push import TOUCH, PlanarPush, forward_kinematics, inverse_kinematics, push


def at(x: float, y: float) -> np.ndarray:
    return np.array([[x, y]])


@pytest.mark.parametrize(
    ("puck", "tip", "after"),
    [
        ((0.10, 0.30), (0.05, 0.30), (0.11, 0.30)),  # 5 cm apart, 6 cm touch: 1 cm to the right
        ((0.00, 0.30), (0.00, 0.33), (0.00, 0.27)),  # from above: down
        ((0.03, 0.34), (0.00, 0.30), (0.036, 0.348)),  # 3-4-5: 5 cm apart, along (0.6, 0.8)
        ((0.10, 0.30), (0.04, 0.30), (0.10, 0.30)),  # they just touch
        ((0.10, 0.30), (0.00, 0.30), (0.10, 0.30)),  # far away
        ((0.10, 0.30), (0.10, 0.30), (0.16, 0.30)),  # right under the tip: to +x, and finite
    ],
)
def test_contact_by_hand(puck, tip, after):
    np.testing.assert_allclose(push(at(*puck), at(*tip)), at(*after), atol=1e-12)


def test_contact_is_a_projection():
    """A push never moves a puck nearer, leaves it exactly touching, and pushing twice is pushing once."""
    rng = np.random.default_rng(0)
    puck, tip = rng.uniform(-0.1, 0.1, (2, 500, 2))
    after = push(puck, tip)
    before_gap, gap = (np.linalg.norm(p - tip, axis=1) for p in (puck, after))
    np.testing.assert_allclose(gap, np.maximum(before_gap, TOUCH))
    np.testing.assert_allclose(push(after, tip), after, atol=1e-12)


@pytest.mark.parametrize(
    ("q", "tip"),
    [
        ((0, 0), (0.6, 0)),
        ((np.pi / 2, 0), (0, 0.6)),
        ((0, np.pi / 2), (0.3, 0.3)),
        ((np.pi, -np.pi / 2), (-0.3, 0.3)),
    ],
)
def test_kinematics_by_hand(q, tip):
    np.testing.assert_allclose(forward_kinematics(np.array(q, float)), tip, atol=1e-12)


def test_inverse_kinematics_inverts_on_both_sides():
    rng = np.random.default_rng(0)
    q = np.stack((rng.uniform(0, np.pi, 200), rng.uniform(0.1, 2.6, 200) * rng.choice([-1, 1], 200)), axis=1)
    np.testing.assert_allclose(inverse_kinematics(forward_kinematics(q), np.sign(q[:, 1])), q, atol=1e-9)


def test_a_straight_push_carries_the_puck_along():
    """A tip that moves by 2 cm a step in a line pushes the puck by as much, and leaves it where it stops."""
    puck = at(0.0, 0.3)
    for x in np.arange(-0.2, 0.1001, 0.02):
        puck = push(puck, at(x, 0.3))
    np.testing.assert_allclose(puck, at(0.16, 0.3), atol=1e-12)
    np.testing.assert_allclose(push(puck, at(0.0, 0.3)), puck)


def task_at(puck, goal, tip) -> PlanarPush:
    task = PlanarPush()
    given = {"puck": at(*puck), "goal": at(*goal), "tip": at(*tip)}
    task.reset(np.array([0]), given, [np.random.default_rng(0)])
    return task


def test_the_puck_moves_only_when_it_is_touched():
    task = task_at((0.2, 0.3), (0.0, 0.3), (-0.2, 0.3))
    for _ in range(3):
        task.step(np.array([[0.3, -0.3]]))
    np.testing.assert_array_equal(task.puck, at(0.2, 0.3))


def test_reward_by_hand():
    """The goal 10 cm to the right of the puck, the tip 6 cm to its left: right at the pushing point."""
    task = task_at((0.0, 0.3), (0.1, 0.3), (-0.06, 0.3))
    np.testing.assert_allclose(task.distances(), [[0.10], [0.0]], atol=1e-12)
    task.puck, task.tip = at(0.08, 0.3), at(0.02, 0.3)  # 8 cm on, still in touch
    reward, terminated, success = task.judge(None)
    np.testing.assert_allclose(reward, 10 * 0.08 + 0.5)
    assert success.all() and not terminated.any()
    task.puck = at(0.45, 0.3)  # off the work space; the pushing point is now at its right, 49 cm from the tip
    reward, terminated, success = task.judge(None)
    np.testing.assert_allclose(reward, 10 * (0.02 - 0.35) - 2 * 0.49 - 5)
    assert terminated.all() and not success.any()


def test_unsafe_by_hand():
    task = task_at((0.2, 0.3), (0.0, 0.3), (-0.2, 0.3))
    assert not task.unsafe.any()
    task.q = np.array([[0.5, 2.68]])
    assert task.unsafe.tolist() == [[True, False, False]]
    task.q, task.tip = np.array([[0.5, 1.0]]), at(0.0, 0.07)
    assert task.unsafe.tolist() == [[False, True, False]]
    task.tip, task.speed = at(0.0, 0.3), np.array([0.51])
    assert task.unsafe.tolist() == [[False, False, True]]


def test_speed_is_measured_over_the_step():
    task = task_at((0.2, 0.22), (0.0, 0.4), (-0.1, 0.4))
    before = task.tip.copy()
    task.step(np.array([[1.0, 0.0]]))
    np.testing.assert_allclose(task.speed, np.linalg.norm(task.tip - before) / 0.1)


def test_joints_stop_at_their_limits():
    task = task_at((0.2, 0.3), (0.0, 0.3), (-0.2, 0.3))
    for _ in range(60):
        task.step(np.array([[1.0, 1.0]]))
    np.testing.assert_array_equal(task.q, [pp.JOINT_HIGH])
    assert task.unsafe[0, 0]


def test_a_batch_equals_single_environments():
    batch = gym.make_vec("kit/PlanarPush-v0", num_envs=4, max_steps=8)
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 4, 2))
    history = [batch.reset(seed=5)[0], *(batch.step(a)[0] for a in actions)]
    for i in range(4):
        env = gym.make("kit/PlanarPush-v0", max_steps=8)
        obs, _ = env.reset(seed=5 + i)
        np.testing.assert_array_equal(history[0][i], obs)
        for t, a in enumerate(actions):
            obs, _, terminated, truncated, _ = env.step(a[i])
            obs = env.reset()[0] if terminated or truncated else obs
            np.testing.assert_array_equal(history[t + 1][i], obs)


def test_drawn_tasks_are_possible():
    task = PlanarPush(200)
    drawn = task.reset(np.arange(200), {}, [np.random.default_rng(i) for i in range(200)])
    assert (np.linalg.norm(drawn["puck"] - drawn["goal"], axis=1) >= pp.MIN_DISTANCE).all()
    assert (np.linalg.norm(drawn["puck"] - drawn["tip"], axis=1) > TOUCH).all()
    np.testing.assert_allclose(task.tip, forward_kinematics(task.q), atol=1e-9)
    assert pp.within(task.q).all() and not task.unsafe.any()
    assert len(np.unique(np.sign(task.q[:, 1]))) == 2, "both elbows"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tip": (0.42, 0.54)}, r"tip \[0\.42 0\.54\] is out of the arm's reach"),
        ({"puck": (0.1, 0.3), "tip": (0.1, 0.31)}, "within 0.06 m of the puck"),
        ({"goal": (0.6, 0.3)}, "'goal' is .*limits"),
        ({"puck": (np.nan, 0.3)}, "'puck' is .*nan"),
        ({"cube": (0.1, 0.3)}, "unknown task field 'cube'.*puck, goal, tip"),
    ],
)
def test_bad_tasks_are_named_and_change_nothing(given, message):
    env = gym.make("kit/PlanarPush-v0").unwrapped
    obs, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.reset(options={"task": given})
    np.testing.assert_array_equal(env.task.observe()[0], obs)


def test_a_picture_shows_puck_and_goal():
    task = make_task("kit/PlanarPush-v0")
    task.reset(np.array([0]), {}, [np.random.default_rng(0)])
    image = task.render(0)
    for colour in ((0, 114, 178), (0, 158, 115), (230, 159, 0)):
        assert (image == colour).all(axis=-1).any()
