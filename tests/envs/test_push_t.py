"""Push-T: exact coverage, the table's physics, the expert and its demonstrations."""

import gymnasium as gym
import numpy as np
import pytest

from kit.data import read_minari, write_minari
from kit.envs import batched, push_t
from kit.envs import push_t_expert as expert
from kit.envs.push_t import AREA, GOAL, PushT, centroid, coverage, overlap, pose_at

UNIT = (0.0, 1.0, 0.0, 1.0)
RNGS = [np.random.default_rng(i) for i in range(3)]
SQUARE = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)


def fresh(n=1, block=None, pusher=None, **options):
    task = PushT(n, nthread=1, **options)
    given = {k: np.tile(v, (n, 1)) for k, v in (("block", block), ("pusher", pusher)) if v is not None}
    task.reset(np.arange(n), given, [np.random.default_rng(i) for i in range(n)])
    return task


def off_goal(x=0.0, y=0.0, turned=0.0):
    return GOAL + np.array([x, y, turned])


def towards(*points):
    """Actions that send pushers to points [m]."""
    return push_t.scaled(np.array(points))


# ---- coverage ---------------------------------------------------------------------------------------------------


def test_overlap_with_a_box_by_hand():
    moved = np.array([(0, 0), (0.25, 0.5), (2, 0), (1, -3), (0, 0)])
    squares = SQUARE + moved[:, None]
    squares[4] = 3 * SQUARE - 1  # holds the box
    assert overlap(squares, UNIT) == pytest.approx([1, 0.375, 0, 0, 1], abs=1e-12)
    diamond = np.array([[(0.5, -0.5), (1.5, 0.5), (0.5, 1.5), (-0.5, 0.5)]])
    assert overlap(diamond, UNIT) == pytest.approx([1.0])
    assert overlap(diamond + 0.5, UNIT) == pytest.approx([0.5])  # only half of the diamond's half is in
    assert overlap(np.array([[(0, 0), (2, 0), (0, 2)]]), UNIT) == pytest.approx([1.0])
    assert overlap(np.array([[(0, 0), (1.5, 0), (0, 1.5)]]), UNIT) == pytest.approx([1 - 0.125])


def test_coverage_of_the_goal_by_itself_shifted_and_turned():
    shift = np.array([*push_t.turn(GOAL[2], np.array([0.0, 0.03])), 0])  # by the bar's thickness, along the stem
    half_turn = pose_at(centroid(GOAL), np.array(GOAL[2] + np.pi))
    poses = np.stack([GOAL, GOAL + shift, off_goal(0.3), off_goal(turned=2 * np.pi), half_turn])
    stem_on_stem, bar_on_stem = 60 * 30, 30 * 30
    assert coverage(poses)[:4] == pytest.approx([1, (stem_on_stem + bar_on_stem) / 6300, 0, 1], abs=1e-12)
    assert 0.3 < coverage(poses)[4] < 0.9


def test_coverage_equals_a_fine_count_of_points():
    rng = np.random.default_rng(0)
    poses = GOAL + rng.uniform(-1, 1, (12, 3)) * [0.06, 0.06, np.pi]
    ticks = (np.arange(800) + 0.5) / 800 * 0.4 + 0.056
    at = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    goal = at[push_t.inside(push_t.turn(-GOAL[2], at - GOAL[:2]))]
    counted = [push_t.inside(push_t.turn(-p[2], goal - p[:2])).mean() for p in poses]
    assert coverage(poses) == pytest.approx(counted, abs=4e-3)
    back = coverage(np.stack([GOAL]), goal=poses[3])  # what the goal covers of a T is what the T covers of the goal
    assert back[0] == pytest.approx(coverage(poses[3:4])[0], abs=1e-12)


def test_the_geometry_is_that_of_a_uniform_t():
    x, y = push_t.OUTLINE.T
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    assert cross.sum() / 2 == pytest.approx(AREA)
    assert (cross * (y + np.roll(y, -1))).sum() / 6 / AREA == pytest.approx(push_t.CENTRE[1])
    body = PushT(1, nthread=1).model.body("block")
    assert body.ipos[:2] == pytest.approx(push_t.CENTRE, abs=1e-9)
    assert np.sqrt(body.inertia.max() / body.mass[0]) == pytest.approx(push_t.GYRATION, rel=0.05)  # geoms have height
    assert centroid(pose_at(np.array([0.1, 0.2]), np.array(1.3))) == pytest.approx([0.1, 0.2])


# ---- physics ----------------------------------------------------------------------------------------------------


def test_the_t_keeps_still_until_it_is_pushed_and_rests_again():
    task = fresh(block=(0.2, 0.3, 0.5), pusher=(0.45, 0.1))
    for _ in range(10):
        task.step(towards((0.06, 0.06)))
    assert task.pose[0] == pytest.approx([0.2, 0.3, 0.5], abs=1e-9)
    assert task.pusher[0] == pytest.approx([0.06, 0.06], abs=1e-3)  # critically damped: there after a second


def test_the_pusher_follows_its_law():
    task = fresh(block=(0.2, 0.3, 0.5), pusher=(0.40, 0.1))
    task.step(towards((0.45, 0.1)))
    t = push_t.DT * push_t.SUBSTEPS
    assert task.pusher[0, 0] == pytest.approx(0.45 - 0.05 * (1 + 10 * t) * np.exp(-10 * t), abs=1e-3)


def test_pushes_move_the_t_as_the_expert_reckons():
    starts = {
        "block": np.tile([0.256, 0.256, 0.0], (3, 1)),
        "pusher": np.array([(0.256, 0.2), (0.204, 0.2), (0.1, 0.3)]),
    }
    task = PushT(3, nthread=1)
    task.reset(np.arange(3), starts, RNGS)
    for _ in range(15):
        task.step(towards((0.256, 0.256), (0.204, 0.256), (0.1, 0.3)))
    assert task.pose[0] == pytest.approx([0.256, 0.271, 0.0], abs=1e-3)  # through the centroid: no turn
    assert expert.SEATS[0] + push_t.CENTRE == pytest.approx([-0.052, -0.015])
    centre, angle = expert.after(centroid(starts["block"][1]), 0.0, 0, 0.015)
    assert angle < -0.1 and task.pose[1, 2] == pytest.approx(angle, rel=0.1)
    assert centroid(task.pose[1]) == pytest.approx(centre, abs=1.5e-3)
    assert task.pose[2] == pytest.approx([0.256, 0.256, 0.0], abs=1e-9)


def test_the_edge_holds_the_t_back():
    task = fresh(block=(0.256, 0.42, 0.0), pusher=(0.256, 0.30))
    for y in np.linspace(0.3, 0.5, 20):
        task.step(towards((0.256, y)))
    corners = task.pose[0, :2] + push_t.turn(task.pose[0, 2], push_t.OUTLINE)
    assert corners.max() < push_t.FIELD + 0.004


# ---- the task ---------------------------------------------------------------------------------------------------


def test_reward_is_the_papers_and_success_ends():
    task = fresh(3)
    poses = np.stack([GOAL, off_goal(0.001), off_goal(0.03)])
    task.reset(np.arange(3), {"block": poses, "pusher": np.tile([0.05, 0.05], (3, 1))}, RNGS)
    task.step(towards(*[(0.05, 0.05)] * 3))
    reward, terminated, success = task.judge(np.zeros((3, 2)))
    assert reward == pytest.approx(np.minimum(coverage(poses) / 0.95, 1), abs=1e-6)
    assert terminated.tolist() == success.tolist() == [True, True, False]
    assert task.best == pytest.approx(coverage(poses), abs=1e-6)


def test_starts_leave_room_for_the_pusher_and_spread_shrinks_them():
    task = PushT(300, nthread=1)
    task.reset(np.arange(300), {}, [np.random.default_rng(i) for i in range(300)])
    centre = centroid(task.pose)
    assert (np.linalg.norm(task.pusher - centre, axis=1) >= push_t.AROUND).all()
    assert centre.min() > push_t.ROOM - 1e-9 and centre.max() < push_t.FIELD - push_t.ROOM + 1e-9
    assert np.ptp(centre, axis=0).min() > 0.25 and np.ptp(task.pose[:, 2]) > 6
    near = PushT(300, nthread=1, spread=0.2)
    near.reset(np.arange(300), {}, [np.random.default_rng(i) for i in range(300)])
    assert np.abs(near.pose[:, 2] - GOAL[2]).max() < 0.2 * np.pi + 1e-9
    assert centroid(near.pose) - centroid(GOAL) == pytest.approx(0.2 * (centre - centroid(GOAL)), abs=1e-9)


def test_observations():
    task = fresh(block=(0.2, 0.3, 0.5), pusher=(0.4, 0.1))
    centre = centroid(np.array([0.2, 0.3, 0.5]))
    obs = task.observe()[0]
    assert obs[:4] == pytest.approx([0.4 / 0.256 - 1, 0.1 / 0.256 - 1, *(centre / 0.256 - 1)], abs=1e-6)
    assert obs[4:6] == pytest.approx([np.cos(0.5), np.sin(0.5)], abs=1e-6)
    assert push_t.turn(0.5, 0.1 * obs[6:]) + centre == pytest.approx([0.4, 0.1], abs=1e-6)
    moved = fresh(block=(0.2, 0.3, 0.5), pusher=(0.3, 0.2), frame="block")
    obs_t, far = moved.observe()[0], expert.distance(centre, 0.5)
    assert push_t.turn(0.5, 0.1 * obs_t[:2]) + centre == pytest.approx([0.3, 0.2], abs=1e-6)
    gap = far * obs_t[2:5].astype(float)
    assert push_t.turn(0.5, gap[:2]) + centre == pytest.approx(centroid(GOAL), abs=1e-6)
    assert gap[2] == pytest.approx(push_t.GYRATION * (GOAL[2] - 0.5), abs=1e-6)
    assert obs_t[5] == pytest.approx(np.log(far / 0.01 + 1e-3) / 2, abs=1e-5)
    corners = fresh(block=(0.2, 0.3, 0.5), pusher=(0.4, 0.1), keypoints=True).observe()[0]
    assert corners.shape == (18,) and corners[:2] == pytest.approx(obs[:2])
    assert 0.256 * (corners[2:4] + 1) == pytest.approx(np.array([0.2, 0.3]) + push_t.turn(0.5, push_t.OUTLINE[0]))


def test_pixels_show_goal_t_and_pusher():
    env = gym.make("kit/PushT-v0", pixels=True, render_mode="rgb_array")
    task = {"block": off_goal(0.12, 0.1), "pusher": (0.05, 0.05)}
    obs, _ = env.reset(seed=0, options={"task": task})
    image = obs["pixels"]
    assert obs["state"].shape == (8,) and image.shape == (96, 96, 3) and env.observation_space.contains(obs)
    assert image[96 - 10, 9].tolist() == [65, 105, 225]  # the pusher: left, and below
    pixel = (push_t.FIELD / 96) ** 2
    grey, green = (image == c for c in ((112, 128, 144), (144, 216, 184)))
    assert grey.all(axis=2).sum() * pixel == pytest.approx(AREA, rel=0.05)
    assert green.all(axis=2).sum() * pixel == pytest.approx(AREA * (1 - coverage(task["block"])[0]), rel=0.1)
    assert env.render().shape == (384, 384, 3)


def test_an_action_in_the_ts_frame_is_the_same_place():
    for frame in push_t.FRAMES:
        task = fresh(2, block=(0.2, 0.3, 0.5), pusher=(0.4, 0.3), frame=frame)
        for _ in range(12):
            task.step(task.action_towards(np.array([(0.33, 0.3), (0.33, 0.36)])))
        assert task.pusher == pytest.approx(np.array([(0.33, 0.3), (0.33, 0.36)]), abs=2e-4)


def test_single_equals_batched_and_is_deterministic():
    env, one = batched("kit/PushT-v0", 3, nthread=2), gym.make("kit/PushT-v0")
    obs, _ = env.reset(seed=7)
    alone, _ = one.reset(seed=9)
    assert np.array_equal(obs[2], alone)
    rng = np.random.default_rng(0)
    for _ in range(15):
        actions = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        obs, *_ = env.step(actions)
        alone, *_ = one.step(actions[2])
        assert np.array_equal(obs[2], alone)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"spread is 1\.5; it must be between 0"):
        PushT(1, spread=1.5)
    with pytest.raises(ValueError, match="frame is 'world'"):
        PushT(1, frame="world")
    env = gym.make("kit/PushT-v0")
    with pytest.raises(ValueError, match="task field 'pusher'"):
        env.reset(options={"task": {"pusher": (0.6, 0.1)}})
    with pytest.raises(ValueError, match="lies in the T"):
        env.reset(options={"task": {"pusher": (0.256, 0.260), "block": GOAL}})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="finite"):
        env.step(np.array([np.nan, 0]))


# ---- the expert -------------------------------------------------------------------------------------------------


def test_pushes_move_the_t_on_circles():
    k = np.arange(len(expert.POINTS))
    start, angle = np.array([0.2, 0.3]), 0.7
    whole = expert.after(start, angle, k, 0.05)
    steps = np.tile(start, (len(k), 1)), np.full(len(k), angle)
    for _ in range(50):
        steps = expert.after(*steps, k, 0.001)
    assert whole[0] == pytest.approx(steps[0], abs=1e-12) and whole[1] == pytest.approx(steps[1], abs=1e-12)
    small = expert.after(start, angle, k, 1e-6)
    assert (small[0] - start) / 1e-6 == pytest.approx(
        push_t.turn(angle, expert.NORMALS) * expert.SHARE[:, None], abs=1e-5
    )


def test_the_places_to_push_from_touch_the_t_and_nothing_else():
    seats = expert.SEATS + push_t.CENTRE
    directions = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    rim = np.stack((np.cos(directions), np.sin(directions)), axis=1)
    assert not push_t.inside(seats[:, None] + 0.0149 * rim).any()
    assert push_t.inside(seats + 0.0151 * expert.NORMALS).all()
    assert set(expert.SIDES) == set(range(8))
    assert np.linalg.norm(expert.entry(np.arange(len(seats))), axis=1) == pytest.approx(push_t.AROUND)


def test_the_slope_leads_to_the_nearest_pose_of_a_push():
    rng = np.random.default_rng(0)
    centre, angle = centroid(GOAL) + rng.normal(0, 0.003, (20, 2)), GOAL[2] + rng.normal(0, 0.05, 20)
    push = rng.integers(len(expert.POINTS), size=20)
    way = expert.slope(centre, angle, push)
    at = [expert.distance(*expert.after(centre, angle, push, way + d)) for d in (-5e-4, 0.0, 5e-4)]
    assert (at[1] < at[0] + 1e-6).all() and (at[1] < at[2] + 1e-6).all()


def test_the_expert_solves_the_task_in_different_ways():
    task = fresh(40)
    ways = expert.Expert(40, seed=0)
    done = np.zeros(40, bool)
    for _ in range(task.max_steps):
        actions = ways.act(task)
        task.step(actions)
        done |= task.judge(actions)[2]
        if done.all():
            break
    assert done.mean() >= 0.9
    found = []
    for seed in range(8):  # the same state, forty times
        same = PushT(40, nthread=1)
        same.reset(np.arange(40), {}, [np.random.default_rng(seed) for _ in range(40)])
        many = expert.Expert(40, seed=0)
        many.act(same)
        found.append(len(set(zip(many.push.tolist(), many.way.tolist(), strict=True))))
    assert np.mean(found) >= 2.5


def test_demonstrations_are_episodes_and_deterministic(tmp_path):
    data = expert.demonstrations(12, seed=3, spread=0.2, most_steps=100, nthread=1)
    assert data.obs_dim == 8 and data.act_dim == 2 and np.abs(data.actions).max() <= 1
    assert len(data.ends) >= 6 and data.terminated.sum() == len(data.ends) and not data.truncated.any()
    assert np.diff(data.ends, prepend=-1).min() - 1 >= 16
    last = data.observations[data.ends].astype(float)
    poses = pose_at(0.256 * (last[:, 2:4] + 1), np.arctan2(last[:, 5], last[:, 4]))
    assert coverage(poses).min() >= 0.97 - 1e-4
    again = expert.demonstrations(12, seed=3, spread=0.2, most_steps=100, nthread=2)
    assert np.array_equal(data.observations, again.observations) and np.array_equal(data.actions, again.actions)
    back = read_minari(write_minari(data, tmp_path, "push_t-near-v0"))
    assert np.array_equal(back.observations, data.observations) and back.ends.tolist() == data.ends.tolist()
    with pytest.raises(ValueError, match=r"none of 2 episodes reached 0\.97"):
        expert.demonstrations(2, seed=0, most_steps=20)
    with pytest.raises(ValueError, match="demonstrations hold states"):
        expert.demonstrations(2, seed=0, pixels=True)
