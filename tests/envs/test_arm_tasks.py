"""What ArmReach and ArmPush promise: rates, limits, success, ends."""

import gymnasium as gym
import numpy as np
import pytest

import kit  # noqa: F401
from kit.envs import arm_push, make_task, so101
from kit.envs.arm_reach import ArmReach
from kit.envs.arm_task import arm_frame
from kit.envs.env import BatchEnv
from kit.envs.physics import Randomize

REACH = {"start": [0.0, -0.9, 1.0, 0.7, 0.0], "goal": [0.25, 0.05, 0.15]}


def test_thirty_hertz_and_the_delta_limit():
    env = gym.make("kit/ArmReach-v0").unwrapped
    assert env.fps == pytest.approx(30) and env.model.opt.timestep * so101.SUBSTEPS == pytest.approx(1 / 30)
    env.reset(seed=0, options={"task": REACH})
    before = env.ctrl[0].copy()
    env.step([1, -1, 0.5, 7, -7])  # beyond +-1 is clipped, as SB3's policies expect
    np.testing.assert_allclose(env.ctrl[0] - before, [0.05, -0.05, 0.025, 0.05, -0.05, 0])
    assert env.data.time == pytest.approx(1 / 30)


def test_targets_stop_at_the_joint_limits():
    env = gym.make("kit/ArmReach-v0").unwrapped
    env.reset(seed=0, options={"task": REACH})
    for _ in range(85):
        env.step(np.ones(5))
    np.testing.assert_allclose(env.ctrl[0, :5], env.model.jnt_range[:5, 1])


def test_reach_success_needs_the_whole_last_half_second():
    env = gym.make("kit/ArmReach-v0", max_steps=90).unwrapped
    env.reset(seed=0, options={"task": REACH})
    for t in range(90):
        if t == 70:
            env.set_task(goal=env.tool[0])  # the goal jumps to where the arm stands
        *_, truncated, info = env.step(np.zeros(5))
        # a jump at step 70 is held from step 70 on: the 15th held step is step 84
        assert info["success"] == (t >= 84) and truncated == (t == 89)


def test_reach_success_is_lost_by_leaving():
    env = gym.make("kit/ArmReach-v0").unwrapped
    env.reset(seed=0, options={"task": REACH})
    for _ in range(20):
        env.step(np.zeros(5))
    env.set_task(goal=env.tool[0])
    held = [env.step(np.zeros(5))[4]["success"] for _ in range(20)]
    away = [env.step([1, 0, 0, 0, 0])[4]["success"] for _ in range(20)]
    assert held[-1] and not away[-1]


def test_reach_goals_start_ten_centimetres_away_and_above_the_table():
    env = gym.make_vec("kit/ArmReach-v0", num_envs=200)
    env.reset(seed=0)
    tasks = env.current_tasks
    assert np.linalg.norm(tasks["goal"] - env.task.tool, axis=1).min() >= 0.1
    assert tasks["goal"][:, 2].min() >= 0.03
    assert env.task.tool[:, 2].min() > 0.03


def test_the_arm_frame_turns_with_the_pan_joint():
    task = make_task("kit/ArmReach-v0", 3)
    starts = np.array([[-1.0, -0.9, 1.0, 0.7, 0.0], [0.0, -0.9, 1.0, 0.7, 0.0], [1.5, -0.9, 1.0, 0.7, 0.0]])
    task.reset(np.arange(3), {"start": starts, "goal": np.tile(REACH["goal"], (3, 1))}, [np.random.default_rng(0)] * 3)
    points = arm_frame(task.tool, task.qpos[:, 0])
    np.testing.assert_allclose(points, np.tile(points[1], (3, 1)), atol=1e-6)
    assert abs(points[1, 1]) < 1e-4, "the tool stays in the arm's plane"


def test_push_places_are_in_the_area_and_apart():
    env = gym.make_vec("kit/ArmPush-v0", num_envs=300)
    env.reset(seed=0)
    cube, goal = env.current_tasks["cube"], env.current_tasks["goal"]
    assert np.linalg.norm(cube - goal, axis=1).min() >= arm_push.MIN_DISTANCE
    for places in (cube, goal):
        assert (places >= arm_push.AREA_LOW).all() and (places <= arm_push.AREA_HIGH).all()
        np.testing.assert_allclose(np.ptp(places, axis=0), 0.25, atol=0.01)
    np.testing.assert_allclose(env.task.cube[:, :2], cube)


def test_the_cube_rests_on_the_table():
    env = gym.make("kit/ArmPush-v0").unwrapped
    env.reset(seed=0, options={"task": {"cube": (0.2, 0.1), "goal": (0.35, -0.1)}})
    for _ in range(30):
        env.step(np.zeros(5))
    np.testing.assert_allclose(env.cube[0], (0.2, 0.1, arm_push.CUBE_HALF), atol=1e-3)
    assert env.model.body("cube").mass[0] == pytest.approx(0.03)


def push_env_with_cube_at(offset: float, speed: float = 0.0):
    env = gym.make("kit/ArmPush-v0").unwrapped
    env.reset(seed=0, options={"task": {"cube": (0.3, 0.1), "goal": (0.3 + offset, 0.1)}})
    env.qvel[0, 6] = speed
    return env


def test_push_success_is_near_and_at_rest():
    assert push_env_with_cube_at(0.028).step(np.zeros(5))[4]["success"]
    assert not push_env_with_cube_at(0.032).step(np.zeros(5))[4]["success"]
    moving = push_env_with_cube_at(0.02, speed=0.5)
    assert not moving.step(np.zeros(5))[4]["success"]


def test_a_lost_cube_terminates_with_a_penalty():
    env = push_env_with_cube_at(0.05, speed=0.0)
    env.qpos[0, 6:8] = (0.3, 0.35)
    _, reward, terminated, truncated, info = env.step(np.zeros(5))
    assert terminated and not truncated and not info["success"] and reward < -5


def test_yaw_is_fourfold_symmetric_in_the_observation():
    def observe(yaw: float) -> np.ndarray:
        env = push_env_with_cube_at(0.05)
        env.qpos[0, 9:13] = (np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        env.task.settle(np.array([0]))
        return env.task.observe()[0]

    np.testing.assert_allclose(observe(0.3), observe(0.3 + np.pi / 2), atol=1e-5)
    assert np.abs(observe(0.3) - observe(0.6)).max() > 0.1


def test_a_delayed_command_does_not_start_from_zero():
    """MuJoCo's buffer of delayed commands is zero after a reset; the arm must not make for that pose."""
    pose = np.array([0.5, -0.9, 1.0, 0.7, 0.3])
    ends = []
    for delay in (0.0, 0.03):
        task = ArmReach(1, randomize=Randomize(delay=(delay, delay)), nthread=1)
        env = BatchEnv(task)
        env.reset(seed=0, options={"task": {"start": pose}})
        env.step(np.zeros((1, 5), np.float32))
        ends.append(task.qpos[0].copy())
    np.testing.assert_allclose(ends[1], ends[0], atol=1e-12)
