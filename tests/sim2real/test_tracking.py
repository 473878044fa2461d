"""Tracking by feed-forward: the batch is the virtual arm, and a right model follows where a wrong one does not."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from kit.envs import so101
from kit.sim2real import arm_physics
from kit.sim2real.bus import Bus, Lockstep
from kit.sim2real.motor import TICKS, Gap, profile
from kit.sim2real.so101 import SO101
from kit.sim2real.transfer import tracking
from kit.sim2real.transfer.twin import TWIN_A
from kit.sim2real.units import to_values

SHORT = tracking.Config(seconds=1.5)


def test_rows_of_profiles_are_profiles():
    rng = np.random.default_rng(0)
    s, v, goal = rng.normal(size=(3, 200)) * [[0.05], [1.0], [0.05]]
    rows = tracking.profile_rows(s, v, goal, 5.0, 39.0, 1 / 300)
    single = np.array([profile(*x, 5.0, 39.0, 1 / 300) for x in zip(s, v, goal, strict=True)]).T
    assert np.allclose(rows, single, rtol=0, atol=1e-12)


def virtual_run(gap, goals, start):
    """True angles (T, 6) of one virtual arm behind its bus, just before each goal is sent."""
    arm = arm_physics.ArmPhysics(arm_physics.Config(gap=gap), assembly=np.zeros(6))
    arm_physics.write_calibration(arm)
    bus = Bus(arm, clock=Lockstep())
    robot = SO101(bus, calibration=arm.calibration)
    arm.place(start)
    robot.connect()
    seen, sent = [], []
    for goal in goals:
        robot.get_observation()
        seen.append(arm.angles.copy())
        sent.append(robot.send_action(to_values(goal)))
    assert not robot.changed
    return np.array(seen)


@pytest.mark.parametrize("gap", [Gap(), replace(TWIN_A, packet_loss=0.0)], ids=["nominal", "twin"])
def test_a_fleet_is_the_virtual_arm(gap):
    reference = tracking.draw_references(3, SHORT, seed=1)
    start = reference.at(np.zeros(1))[:, 0]
    wanted = reference.at(np.arange(reference.frames) / so101.CONTROL_HZ)
    goals = np.round(wanted * TICKS) / TICKS
    goals[:, 0] = start
    fleet = tracking.Fleet(3, gap, SHORT).follow(goals, start, np.zeros(goals.shape[:2], bool))
    arm = virtual_run(gap, goals[1], start[1])
    # the arm's goals are rounded once more, to its own ticks
    assert np.abs(np.degrees(fleet[1] - arm)).max() < 0.15
    assert np.abs(np.degrees(fleet[1] - fleet[0])).max() > 5


def test_a_fleet_is_deterministic_and_loses_goals():
    goals = np.zeros((2, 20, 6))
    goals[:, 10:, 0] = 0.2
    lost = np.zeros((2, 20), bool)
    lost[1, 10:15] = True
    fleet = tracking.Fleet(2, Gap(), SHORT)
    first, again = (fleet.follow(goals, np.zeros((2, 6)), lost) for _ in range(2))
    assert (first == again).all()
    assert first[0, 14, 0] > 0.05 and abs(first[1, 14, 0]) < 0.001 and first[1, -1, 0] > 0.02


def test_a_fleet_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match=r"Gap.jitter is 0.01; a fleet has none"):
        tracking.Fleet(1, Gap(jitter=0.01), SHORT)


def test_needed_torque_by_hand():
    """Standing still takes gravity alone: what holds the arm stretched out, and a payload times its lever."""
    model = tracking.believed_model(Gap(viscous=0.1), tracking.Config())
    zero = np.zeros((1, 6))
    gravity = tracking.needed_torque(model, zero, zero, zero)[0]
    assert gravity == pytest.approx([0, -0.5386, -0.4527, -0.1171, 0, 0.0035], abs=1e-4)
    speed = np.eye(6)[[0]]
    moving = tracking.needed_torque(model, zero, speed, zero)[0] - gravity
    assert moving[0] == pytest.approx(0.1, abs=1e-9)  # viscous friction at 1 rad/s
    heavier = tracking.believed_model(Gap(payload=0.1), tracking.Config())
    more = tracking.needed_torque(heavier, zero, zero, zero)[0] - gravity
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    lever = data.site(so101.TOOL).xpos[0] - data.joint("shoulder_lift").xanchor[0]
    assert more[1] == pytest.approx(-0.1 * 9.81 * lever, rel=1e-3)


def test_servo_goal_by_hand():
    servo = so101.Servo()
    goal = tracking.servo_goal(np.array(0.5), np.array(0.0), np.array(servo.stiffness * 0.1), Gap(), servo)
    assert goal == pytest.approx(0.6)
    softer = tracking.servo_goal(
        np.array(0.5), np.array(0.0), np.array(servo.stiffness * 0.1), Gap(stiffness=0.5), servo
    )
    assert softer == pytest.approx(0.7)
    fast = tracking.servo_goal(np.array(0.0), np.array(-2.0), np.array(0.0), Gap(coulomb=0.2), servo)
    assert fast == pytest.approx(-(0.2 + 2 * servo.back_emf) / servo.stiffness)


def test_references_start_at_rest_and_are_smooth():
    reference = tracking.draw_references(4, SHORT, seed=0)
    t = np.linspace(0, 2.5, 251)
    q = reference.at(t)
    assert np.ptp(q[:, t <= 1], axis=1).max() == 0
    assert np.abs(np.diff(q, axis=1) * 100).max() < 1.5  # [rad/s], the safety layer's limit
    again = tracking.draw_references(4, SHORT, seed=0)
    assert (again.at(t) == q).all() and (tracking.draw_references(4, SHORT, seed=1).at(t) != q).any()


def test_the_right_model_follows_and_the_wrong_one_does_not():
    right, wrong = (tracking.track(TWIN_A, gap, SHORT, episodes=6, seed=2) for gap in (TWIN_A, Gap()))
    assert right.success == 1 and wrong.success == 0
    assert right.error.max() < tracking.TOLERANCE < wrong.error.max(axis=1).min()
    assert tracking.track(Gap(), Gap(), SHORT, episodes=6, seed=2).success == 1
