"""Avoid: its geometry, its ways, its expert."""

import gymnasium as gym
import numpy as np
import pytest

from kit.envs import avoid, batched
from kit.envs.avoid import Avoid, follow, gaps_of, mode_of, modes, path


def fresh(n=1, **options):
    task = Avoid(n, **options)
    task.reset(np.arange(n), {}, [np.random.default_rng(0)] * n)
    return task


def driven(points, task=None):
    """The task after its desired point went along a way, until the episode's end."""
    task = task or fresh()
    for _ in range(task.max_steps):
        action = follow(points, task.desired[0])[None]
        task.step(action)
        if task.judge(action)[1][0]:
            break
    return task


def test_the_numbers_of_the_ways():
    assert modes() == 24 and modes(2) == 6 and modes(1) == 2
    every = [(a, b, c) for a in range(2) for b in range(3) for c in range(4)]
    assert mode_of(np.array(every)).tolist() == list(range(24))
    assert [gaps_of(m) for m in range(24)] == every and gaps_of(1, rows=1) == (1,)
    assert mode_of(np.array([[1, -1, -1]])).tolist() == [-1]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_middle_of_every_way_is_free_and_is_counted_as_itself(rows):
    for mode in range(modes(rows)):
        task = driven(path(mode, rows=rows), fresh(rows=rows))
        assert task.mode[0] == mode and task.left_by[0] >= 0 and not task.touching()[0]


def test_one_step_by_hand():
    task = fresh()
    task.step(np.array([[1.0, -0.5]]))
    assert task.desired[0] == pytest.approx([0.535, -0.285]) and task.actual[0] == pytest.approx([0.53, -0.2825])
    task.step(np.array([[0.0, 0.0]]))
    assert task.actual[0] == pytest.approx([0.5325, -0.28375])
    assert task.observe()[0] == pytest.approx([0.535, -0.285, 0.5325, -0.28375])


def test_a_pillar_is_touched_at_the_sum_of_the_radii():
    task = fresh(2)
    task.actual = np.array([[0.5 + 0.0401, -0.10], [0.5 + 0.0399, -0.10]])
    assert task.touching().tolist() == [False, True]
    task.actual = np.array([[0.35, 0.26 - 0.0351], [0.35, 0.26 - 0.0349]])
    assert task.touching().tolist() == [False, True]
    reward, terminated, success = task.judge(np.zeros((2, 2)))
    assert terminated.tolist() == [False, True] and not reward.any() and not success.any()


def test_straight_up_runs_into_the_first_pillar():
    task = driven(np.stack([np.full(100, 0.525), np.linspace(-0.28, 0.4, 100)], axis=1))
    assert task.touching()[0] and task.mode[0] == -1


def test_exits_and_what_is_asked_for():
    task = fresh(5)
    task.actual = np.array([[0.39, 0.36], [0.41, 0.36], [0.59, 0.36], [0.61, 0.36], [0.5, 0.34]])
    assert task.left_by.tolist() == [0, 1, 1, 2, -1]
    assert task.judge(np.zeros((5, 2)))[2].tolist() == [True] * 4 + [False]  # any exit will do
    task.retask(np.arange(5), {"exit": np.array([[0.0], [0.0], [1.0], [2.0], [1.0]])})
    reward, terminated, success = task.judge(np.zeros((5, 2)))
    assert success.tolist() == [True, False, True, True, False] and reward.tolist() == [1, 0, 1, 1, 0]
    assert terminated.tolist() == [True] * 4 + [False]


def test_demonstrations_take_each_way_and_touch_nothing():
    demos = avoid.demonstrations(2, seed=3)
    assert np.concatenate(demos["modes"]).tolist() == [m for m in range(24) for _ in range(2)]
    pillars = Avoid(1)
    for seen, actions in zip(demos["observations"], demos["actions"], strict=True):
        assert len(seen) == len(actions) + 1 < 200 and seen.dtype == actions.dtype == np.float32
        apart = np.linalg.norm(seen[:, None, 2:] - pillars.pillars, axis=2) - pillars.radii - avoid.ROD
        assert apart.min() > 0.005 and seen[-1, 3] > avoid.DONE_Y
    again = avoid.demonstrations(2, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(demos["actions"], again["actions"], strict=True))
    assert not np.array_equal(demos["observations"][0], demos["observations"][1])


def test_an_episode_through_gymnasium():
    env = gym.make("kit/Avoid-v0")
    obs, _ = env.reset(seed=0, options={"task": {"exit": [2]}})
    points, steps, terminated = path(23), 0, False
    while not terminated:
        obs, reward, terminated, truncated, _ = env.step(follow(points, obs[:2].astype(float)).astype(np.float32))
        steps += 1
    assert reward == 1 and not truncated and steps < 120
    env.close()


@pytest.mark.parametrize(("value", "message"), [(0.5, "exit is 0.5; it must be 0, 1, 2, or -1"), (3, "limits")])
def test_bad_exits(value, message):
    env = batched("kit/Avoid-v0", 2)
    with pytest.raises(ValueError, match=message):
        env.reset(seed=0, options={"task": {"exit": [value]}})
    with pytest.raises(ValueError, match="rows is 4; it must be 1, 2 or 3"):
        Avoid(1, rows=4)


def test_the_picture_shows_pillars_and_the_rod():
    image = fresh().render(0)
    assert image.shape == (300, 240, 3) and (image == (70, 70, 75)).all(axis=2).sum() > 500
    assert (image == (0, 114, 178)).all(axis=2).any()
