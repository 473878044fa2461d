"""The drawer step by step by hand, the camera against the truth, demonstrations of both kinds, batches, bad input."""

import numpy as np
import pytest

from kit.envs.env import BatchEnv, SingleEnv
from kit.sim2real.people import drawers
from kit.sim2real.people.drawers import STANDOFF, THICK, Config, Drawers, move, shift

QUIET = Config(frame_m=0.0, mount_m=0.0, look_m=0.0, slip=0.0)


def one(u, v, d, du, dv, half=0.04, travel=0.15, ease=0.5):
    """`move` for one drawer, as three floats."""
    return tuple(float(x[0]) for x in move(*(np.array([x]) for x in (u, v, d, du, dv, half, travel, ease))))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((0.0, 0.20, 0.05, 0.01, -0.01), (0.01, 0.19, 0.05)),  # in free space
        ((0.01, 0.09, 0.05, 0.0, -0.01), (0.01, 0.08, 0.045)),  # from the front: the bar's face was at 0.085
        ((0.01, 0.04, 0.0, 0.0, -0.01), (0.01, 0.035, 0.0)),  # a shut drawer gives no way
        ((0.05, 0.03, 0.0, -0.02, 0.0), (0.04, 0.03, 0.0)),  # against the bar's end
        ((0.05, 0.02, 0.0, -0.02, 0.0), (0.03, 0.02, 0.0)),  # behind the bar there is room
        ((0.01, 0.02, 0.0, -0.015, 0.0), (0.005, 0.02, 0.0)),  # but a post in the middle
        ((-0.01, 0.02, 0.0, 0.015, 0.0), (-0.005, 0.02, 0.0)),  # from either side
        ((0.02, 0.02, 0.0, 0.0, 0.015), (0.02, 0.03, 0.005)),  # 5 mm to the bar, then 10 mm of pull: half of it
        ((0.02, 0.172, 0.147, 0.0, 0.015), (0.02, 0.175, 0.15)),  # to the end of its travel
        ((0.06, 0.05, 0.04, 0.0, -0.015), (0.06, 0.035, 0.035)),  # beside the bar a finger pushes the front itself
        ((0.06, 0.05, 0.04, 0.0, 0.015), (0.06, 0.065, 0.04)),  # and pulls nothing
    ],
)
def test_a_step_by_hand(before, after):
    assert one(*before) == pytest.approx(after, abs=1e-9)


def test_a_finger_is_never_inside_the_bar_or_the_drawer():
    rng, n = np.random.default_rng(0), 400
    u, v, d = rng.uniform(-0.06, 0.06, n), rng.uniform(0.1, 0.2, n), np.zeros(n)
    half, travel, ease = np.full(n, 0.03), np.full(n, 0.15), rng.uniform(0.5, 1, n)
    for _ in range(200):
        u, v, d = move(u, v, d, *rng.uniform(-0.015, 0.013, (2, n)), half, travel, ease)
        inside = (np.abs(u) < half - 1e-9) & (np.abs(v - d - STANDOFF) < THICK - 1e-9)
        assert not inside.any() and (v >= d - 1e-12).all() and (d >= 0).all() and (d <= travel).all()


def test_the_camera_without_noise_sees_the_truth():
    scene = {"place": (0.0, 0.4), "angle": [0.0], "half": [0.04], "look": (0, 0, 0, 0)}
    env = SingleEnv(Drawers(1, QUIET))
    obs, _ = env.reset(seed=0, options={"task": scene})
    seen = obs[:6].reshape(3, 2) + obs[10:]
    np.testing.assert_allclose(seen, [[-0.04, 0.37], [0.04, 0.37], [0, 0.4]], atol=1e-6)


def test_looks_shift_what_is_seen_by_hand():
    look = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    found = shift(look, np.zeros(4), 0.02)  # along is +x, outward is -y
    np.testing.assert_allclose(found[0], [[0.02, 0], [0.02, 0], [0, 0]], atol=1e-12)
    np.testing.assert_allclose(found[1], [[-0.02, 0], [0.02, 0], [0, 0]], atol=1e-12)
    np.testing.assert_allclose(found[2], [[0, -0.02], [0, -0.02], [0, 0]], atol=1e-12)
    np.testing.assert_allclose(found[3], [[0, 0], [0, 0], [0, -0.02]], atol=1e-12)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_steady_demonstrator_opens_every_drawer_from_either_side(side):
    rng = np.random.default_rng(0)
    scenes = drawers.draw(200, rng, QUIET)
    task = drawers.start(scenes, rng, QUIET)
    hooked = np.zeros(200)
    for _ in range(task.max_steps):
        u, v = task.local()
        hooked = np.where((v < task.opening + STANDOFF) & (np.abs(u) < scenes["half"][:, 0]), np.sign(u), hooked)
        task.step(drawers.shown(task, np.full(200, side)))
    assert task.opened().mean() > 0.97 and (hooked == side).all()


def test_demonstrations_have_two_modes_whose_mean_is_none():
    scene = drawers.draw(1, np.random.default_rng(1)) | {"place": np.array([[0.0, 0.35]]), "angle": np.zeros((1, 1))}
    scenes = drawers.repeat(scene, 100)
    observations, actions, opened = drawers.demonstrations(scenes, np.random.default_rng(2), Config())
    assert observations.shape == (60, 100, 12) and actions.shape == (60, 100, 2) and opened.mean() > 0.6
    sideways = actions[10, :, 0]
    left, right = sideways[sideways < 0], sideways[sideways > 0]
    assert min(len(left), len(right)) > 30
    assert abs(sideways.mean()) < 0.5 * min(-left.mean(), right.mean())


def test_who_goes_straight_shuts_the_drawer():
    task = drawers.start(drawers.draw(50, np.random.default_rng(0)), np.random.default_rng(0), Config())
    _, outward = drawers.axes(task.scene["angle"][:, 0])
    middle = task.scene["place"] + 0.15 * outward
    task.finger, task.opening = middle, np.full(50, 0.05)
    for _ in range(20):
        task.step(np.clip(-outward, -1, 1))
    assert np.allclose(task.opening, 0)


def test_again_shuts_the_drawer_and_goes_home_only_where_asked():
    task = drawers.start(drawers.draw(3, np.random.default_rng(0)), np.random.default_rng(0), Config())
    task.opening, task.finger = np.full(3, 0.12), np.full((3, 2), 0.2)
    before = task.observe()
    task.again(np.array([1]))
    assert task.opened().tolist() == [True, False, True]
    assert np.abs(task.finger[1]).max() <= 0.03 and (task.finger[[0, 2]] == 0.2).all()
    assert (task.observe()[[0, 2]] == before[[0, 2]]).all() and (task.observe()[1] != before[1]).any()


def test_a_batch_equals_single_ones():
    batch = BatchEnv(Drawers(3))
    seen, _ = batch.reset(seed=5)
    actions = np.random.default_rng(0).uniform(-1, 1, (8, 3, 2))
    rows = [seen] + [batch.step(a)[0] for a in actions]
    for i in range(3):
        env = SingleEnv(Drawers())
        single = [env.reset(seed=5 + i)[0]] + [env.step(a[i])[0] for a in actions]
        np.testing.assert_array_equal(single, [r[i] for r in rows])


def test_success_ends_nothing_and_time_does():
    env = SingleEnv(Drawers(1, Config(max_steps=4)))
    env.reset(seed=0)
    env.unwrapped.task.opening[:] = 0.12
    ends = [env.step(np.zeros(2, np.float32))[1:] for _ in range(4)]
    assert [e[1] for e in ends] == [False] * 4 and [e[2] for e in ends] == [False, False, False, True]
    assert ends[0][0] == 1 and ends[0][3]["success"]


def test_bad_input():
    with pytest.raises(ValueError, match=r"frame_m is -0.1; it must not be negative"):
        Config(frame_m=-0.1)
    env = SingleEnv(Drawers())
    with pytest.raises(ValueError, match=r"task field 'half' is \[0.2\]"):
        env.reset(options={"task": {"half": [0.2]}})
