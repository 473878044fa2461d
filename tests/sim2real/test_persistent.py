"""Persistent self-supervised learning: the lane, the learner, the handover rule, the override, a short life."""

import dataclasses

import numpy as np
import pytest

import kit
from kit.sim2real.people import persistent
from kit.sim2real.people import room as world
from kit.sim2real.people.persistent import Config, Neighbours, Robot, Turns

SHORT = Config(plugged=60.0, unplugged=20.0, window=5.0, late=1.0, bound=0.5)


def test_ahead_by_hand():
    angles = np.array([-np.pi / 4, 0.0, np.pi / 4])
    assert persistent.ahead(np.array([9.0, 1.5, 9.0]), angles, 0.25, 2.0) == 1.5
    assert persistent.ahead(np.array([0.3, 1.5, 9.0]), angles, 0.25, 2.0) == pytest.approx(0.3 * np.sqrt(0.5))
    assert persistent.ahead(np.array([0.4, 1.5, 9.0]), angles, 0.25, 2.0) == 1.5, "beside the lane"
    assert persistent.ahead(np.array([9.0, 9.0, 9.0]), angles, 0.25, 2.0) == 2.0


def test_the_learner_equals_brute_force_and_grows_past_its_first_memory():
    rng = np.random.default_rng(0)
    lines, distances = rng.random((2500, 6)), rng.random(2500)
    learner = Neighbours(3, 6)
    for line, d in zip(lines, distances, strict=True):
        learner.learn(line, d)
    for line in rng.random((20, 6)):
        nearest = np.argsort(np.linalg.norm(lines - line, axis=1))[:3]
        assert learner.guess(line) == pytest.approx(distances[nearest].mean())


def test_a_learner_that_knows_little_sees_an_obstacle():
    learner = Neighbours(2, 1)
    learner.learn(np.zeros(1), 1.0)
    assert learner.guess(np.zeros(1)) == 0.0
    learner.learn(np.zeros(1), 2.0)
    assert learner.guess(np.zeros(1)) == 1.5


def test_handover():
    assert persistent.who_drives("persistent", 0.2, 0.25) == "learner"
    assert persistent.who_drives("persistent", 0.3, 0.25) == "sensor"
    assert persistent.who_drives("persistent", np.inf, 0.25) == "sensor"
    assert persistent.who_drives("teacher_only", 0.0, 0.25) == "sensor"


def test_turns_last_until_it_is_clear_and_at_least_their_angle():
    turns = Turns(5, np.random.default_rng(0))
    assert turns.act(2.0, 0.8) == (True, 0.0)
    forward, side = turns.act(0.5, 0.8)
    assert not forward and abs(side) == 1
    assert all(turns.act(0.5, 0.8) == (False, side) for _ in range(20)), "it does not change sides"
    assert turns.act(2.0, 0.8) == (True, 0.0)
    turns.start(3)
    assert [turns.act(2.0, 0.8)[0] for _ in range(4)] == [False, False, True, True]


def test_the_override_turns_the_robot_away_from_what_the_learner_does_not_see():
    robot = Robot(SHORT, "persistent", seed=0)
    robot.room = dataclasses.replace(robot.room, pillars=np.zeros((0, 2)))
    robot.pose = np.array([5 - 0.3, 2.5, 0.0])  # 0.3 m before a wall
    robot.errors.extend([0.0] * robot.errors.maxlen)
    for _ in range(SHORT.neighbours):
        robot.learner.learn(np.zeros(16), 2.0)  # it believes that nothing is there
    robot.step(plugged=True)
    assert robot.log[-1]["who"] == "override" and robot.log[-1]["guess"] == 2.0
    np.testing.assert_array_equal(robot.pose[:2], [4.7, 2.5])
    assert robot.turns.turning != 0
    robot.learner = Neighbours(1, 16)
    robot.learner.learn(np.zeros(16), 2.0)
    robot.turns, robot.pose = Turns(5, robot.rng), np.array([5 - 0.16, 2.5, 0.0])
    robot.step(plugged=False)
    assert robot.log[-1]["who"] == "learner" and robot.log[-1]["bumped"], "unplugged, nothing holds it back"


def test_nothing_is_learnt_without_the_sensor():
    robot = Robot(dataclasses.replace(SHORT, late=0.2), "persistent", seed=0)
    for _ in range(10):
        robot.step(plugged=True)
    before = robot.error
    for _ in range(10):
        robot.step(plugged=False)
    assert robot.learner.n == 8 and robot.error == before and len(robot.log) == 20


def test_a_short_life():
    robot = kit.run(persistent.train(SHORT, seed=0))
    plugged, who = robot.column("plugged"), robot.column("who")
    assert len(robot.log) == 800 and plugged.sum() == 600
    assert set(who) <= set(persistent.WHO) and (who[:50] == "sensor").all() and (who[~plugged] == "learner").all()
    assert "learner" in who[plugged], "the wheel was handed over"
    assert robot.column("pose").shape == (800, 3)
    verdict = persistent.judge(robot)
    assert verdict["bumps_per_minute_plugged"] == 0
    assert verdict["bumps_per_minute"] == robot.column("bumped")[~plugged].sum() * 3
    assert all(world.clearance(robot.room, p[:2]) >= 0 for p in robot.column("pose"))


def test_the_same_seed_gives_the_same_life_and_both_arms_the_same_room():
    cfg = dataclasses.replace(SHORT, plugged=20.0, unplugged=5.0)
    a, b, other = (
        kit.run(persistent.train(cfg, seed=3, arm=arm)) for arm in ("persistent", "persistent", "teacher_only")
    )
    np.testing.assert_array_equal(a.column("pose"), b.column("pose"))
    np.testing.assert_array_equal(a.room.pillars, other.room.pillars)
    np.testing.assert_array_equal(a.log[0]["pose"], other.log[0]["pose"])
    assert set(other.column("who")[:200]) == {"sensor"}


def test_the_error_falls_with_experience():
    cfg = Config(plugged=240.0, unplugged=0.1, room=world.Config(pillars=0))
    robot = kit.run(persistent.train(cfg, seed=1000, arm="teacher_only"))
    error = np.abs(robot.column("guess") - robot.column("ahead"))
    assert error[-1000:].mean() < 0.7 * error[:600].mean()


def test_an_unknown_arm():
    with pytest.raises(ValueError, match=r"arm is 'luck'.*persistent, teacher_only"):
        next(persistent.train(SHORT, seed=0, arm="luck"))


def test_the_error_anywhere_is_the_learners_and_leaves_the_robot_alone():
    robot = Robot(SHORT, "persistent", seed=0)
    pose, drawn = robot.pose.copy(), robot.rng.bit_generator.state
    assert persistent.error_anywhere(robot, 40) == pytest.approx(
        np.mean([_sense_at(robot, p) for p in _poses(robot, 40)])
    ), "a learner that knows nothing says 0"
    np.testing.assert_array_equal(robot.pose, pose)
    assert robot.rng.bit_generator.state == drawn


def _poses(robot: Robot, n: int) -> list[np.ndarray]:
    rng, poses = np.random.default_rng(0), []
    for _ in range(n):
        poses.append(world.free_pose(robot.room, rng, least=0.0))
        world.camera(robot.room, poses[-1], rng)
    return poses


def _sense_at(robot: Robot, pose: np.ndarray) -> float:
    other = Robot(robot.cfg, robot.arm, seed=0)
    other.pose = pose
    return other.sense()
