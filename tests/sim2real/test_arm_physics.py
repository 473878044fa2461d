"""The arm behind the registers, against the arm of `kit.envs`, statics worked out by hand, and calibration."""

import mujoco
import numpy as np
import pytest

from kit.envs import so101
from kit.sim2real.arm_physics import HAND, REST, ArmPhysics, Config, write_calibration
from kit.sim2real.motor import TICKS, Gap
from kit.sim2real.protocol import TABLE, Error, Instruction, Packet, encode

ALONE = Config(scene="so101")
FRICTIONLESS = Gap(coulomb=0.0)


def write(servo, name, value):
    servo.handle(Packet(servo.id, Instruction.WRITE, bytes([TABLE[name].address]) + encode(name, value)))


def unit(cfg=ALONE, angles=None, *, seed=0, holds=True, **registers):
    """A unit without assembly offsets at some pose, which it holds with LeRobot's P = 16."""
    arm = ArmPhysics(cfg, seed=seed, assembly=np.zeros(6))
    arm.place(np.zeros(6) if angles is None else angles)
    for servo in arm.servos:
        for name, value in {"P_Coefficient": 16, **registers}.items():
            write(servo, name, value)
        write(servo, "Torque_Enable", int(holds))
    return arm


def aim(arm, ticks):
    for servo, goal in zip(arm.servos, ticks, strict=True):
        write(servo, "Goal_Position", int(goal))


# ---- against kit.envs ---------------------------------------------------------------------------------------------


def test_the_nominal_unit_moves_like_the_arm_of_kit_envs():
    """MuJoCo's own position loop and goal slew there, the firmware loop here."""
    model = so101.make_spec("7.4V-P16", scene="so101").compile()
    data = mujoco.MjData(model)
    cfg = Config(scene="so101", supply_resistance=0.0)
    arm = unit(cfg, CW_Dead_Zone=0, CCW_Dead_Zone=0)
    goal = np.array([300, -200, 250, -300, 400, 100])
    data.ctrl[:] = goal / TICKS
    aim(arm, 2048 + goal)
    for _ in range(20):
        arm.advance(0.05)
        mujoco.mj_step(model, data, nstep=15)
        assert np.abs(arm.angles - data.qpos).max() < 1e-9
    assert np.abs(data.qpos).max() > 0.4  # it did move


def test_sag_at_7_4_volts_and_p_16_without_friction():
    arm = unit(Config(scene="so101", gap=FRICTIONLESS))
    arm.advance(4.0)
    read = [(servo.get("Present_Position") - 2048) * 360 / 4096 for servo in arm.servos]
    assert read[1] == pytest.approx(3.6, abs=0.2)
    assert read[2] == pytest.approx(2.9, abs=0.2)


@pytest.mark.parametrize(("servo", "p", "lift"), [("5V-P16", 16, 5.45), ("7.4V-P16", 32, 1.77), ("12V-P16", 16, 2.2)])
def test_supply_and_p_coefficient_set_the_stiffness(servo, p, lift):
    arm = unit(Config(servo=servo, scene="so101", gap=FRICTIONLESS), P_Coefficient=p)
    arm.advance(4.0)
    assert np.degrees(arm.angles[1]) == pytest.approx(lift, abs=0.2)


def test_an_integral_coefficient_removes_the_sag():
    arm = unit(Config(scene="so101", gap=FRICTIONLESS), I_Coefficient=20)
    arm.advance(6.0)
    assert abs(np.degrees(arm.angles[1])) < 0.2


def test_friction_leaves_the_same_goal_at_two_places():
    ends = []
    for start in (-0.4, 0.4):
        arm = unit(angles=np.array([start, 0, 0, 0, 0, 0]))
        aim(arm, np.full(6, 2048))
        arm.advance(3.0)
        ends.append(arm.angles[0])
    stick = 0.0524 / so101.Servo().stiffness  # where the loop's torque is less than the friction
    assert -1.2 * stick < ends[0] < -0.3 * stick and 0.3 * stick < ends[1] < 1.2 * stick


# ---- registers that limit -----------------------------------------------------------------------------------------


def turned(**registers):
    """How far the pan joint is after 0.5 s on the way to 1.5 rad [rad]."""
    arm = unit(**registers)
    aim(arm, 2048 + np.array([1.5 * TICKS, 0, 0, 0, 0, 0]))
    arm.advance(0.5)
    return arm.angles[0]


def test_goal_velocity_and_acceleration_slow_the_motion_down():
    assert turned() > 1.2
    assert turned(Goal_Velocity=600) == pytest.approx(600 * 0.5 / TICKS, abs=0.1)
    assert turned(Acceleration=10) == pytest.approx(1000 * 0.5**2 / 2 / TICKS, abs=0.1)


def stalled(direction=1, **registers):
    """A gripper whose goal lies 0.6 rad beyond its stop: shut for direction -1, wide open for 1."""
    arm = unit(angles=np.array([0, 0, 0, 0, 0, 1.74533 if direction > 0 else -0.174533]), **registers)
    goal = arm.servos[5].get("Present_Position") + direction * round(0.6 * TICKS)
    write(arm.servos[5], "Goal_Position", goal)
    return arm


def test_torque_limit_bounds_duty_current_and_torque():
    for direction in (1, -1):
        arm = stalled(direction, Torque_Limit=500)
        arm.advance(1.0)
        gripper = arm.servos[5]
        assert gripper.get("Present_Load") == direction * 485
        assert gripper.get("Present_Current") == pytest.approx(0.485 * 7.4 / 2.676 / 0.0065, rel=0.03)
        torque = arm.data.actuator_force[5]
        assert torque == pytest.approx(direction * so101.Servo().stall_torque / 2, rel=0.03)


def test_overload_after_protection_time_lets_the_grip_go_down_to_protective_torque():
    arm = stalled()
    arm.advance(1.5)
    assert arm.servos[5].get("Present_Load") == 970 and arm.servos[5].get("Status") == 0
    arm.advance(0.7)  # Protection_Time is 2 s
    assert arm.servos[5].get("Present_Load") == pytest.approx(194, abs=7)
    assert arm.servos[5].get("Status") == Error.OVERLOAD
    aim(arm, [s.get("Present_Position") for s in arm.servos[:5]] + [2048])
    arm.advance(1.0)
    assert arm.servos[5].get("Status") == 0 and abs(arm.angles[5]) < 0.1


def test_the_supply_sags_by_what_all_motors_draw():
    arm = stalled(Torque_Limit=500)
    arm.advance(1.0)
    drawn = sum(abs(m.duty * m.amperes) for m in arm.motors)
    assert arm.volts == pytest.approx(7.4 - 0.1 * drawn) and arm.volts < 7.34
    assert arm.servos[0].get("Present_Voltage") == round(10 * arm.volts)


def test_a_stalled_motor_heats_up_and_rests():
    arm = stalled(Overload_Torque=100)
    for _ in range(8):
        arm.advance(1.0)
    gripper, watts = arm.motors[5], arm.motors[5].amperes ** 2 * 2.676
    assert watts > 17
    assert gripper.celsius == pytest.approx(25 + 6 * watts * 8 / 600, rel=0.03)
    assert arm.servos[5].get("Present_Temperature") == round(gripper.celsius)
    gripper.celsius = 75.0
    arm.advance(0.1)
    assert arm.servos[5].get("Status") == Error.OVERHEAT and not arm.servos[5].torque
    assert gripper.duty == 0


# ---- torque off, hands --------------------------------------------------------------------------------------------


def test_the_resting_pose_rests():
    arm = ArmPhysics()
    arm.advance(3.0)
    assert np.abs(arm.angles - REST).max() < 0.1


def test_without_torque_the_arm_falls_and_damping_slows_it():
    falls = {}
    for enable, brake in ((0, False), (2, False), (0, True)):
        arm = unit(Config(scene="so101", brake_when_off=brake), holds=False)
        for servo in arm.servos:
            write(servo, "Torque_Enable", enable)
        arm.advance(0.3)
        falls[enable, brake] = arm.angles[1]
        assert arm.servos[1].get("Present_Load") == 0
    assert falls[0, False] > 2 * falls[2, False] > 0.2
    assert falls[0, True] == pytest.approx(falls[2, False])


def test_a_hand_leads_the_arm_and_lets_go():
    arm = ArmPhysics(ALONE)
    target = np.array([0.5, -0.3, 0.4, 0.2, 1.0, 0.8])
    arm.guide(target)
    arm.advance(3.0)
    assert np.abs(arm.angles - target).max() < 0.06
    arm.guide(lambda t: np.array([0.5 - t, np.nan, np.nan, np.nan, np.nan, np.nan]))
    arm.advance(1.0)
    assert arm.angles[0] < -2 + 0.6 and np.abs(arm.data.qfrc_applied).max() <= HAND[2]
    arm.guide(None)
    assert not arm.data.qfrc_applied.any()


def test_a_leader_is_lighter_to_turn():
    turned = {}
    for kind in ("follower", "leader"):
        arm = ArmPhysics(Config(scene="so101", kind=kind))
        arm.data.qfrc_applied[4] = 0.1
        arm.advance(0.1)
        turned[kind] = arm.angles[4]
    assert turned["leader"] > 4 * turned["follower"] > 0
    model = ArmPhysics(Config(kind="leader")).model
    assert model.joint("gripper").armature[0] == pytest.approx(0.0284 * (147 / 345) ** 2)


# ---- the gap ------------------------------------------------------------------------------------------------------


def held(gap):
    arm = unit(Config(scene="so101", gap=gap))
    arm.advance(4.0)
    return np.degrees(arm.angles)


def test_a_payload_adds_its_torque_over_the_stiffness():
    kg = 0.2
    bare = held(FRICTIONLESS)
    loaded = held(Gap(coulomb=0.0, payload=kg))
    reach = 0.39136 - 0.0388353 - 0.0303992  # tool to lift axis, nearly horizontal, at q = 0 [m]
    expected = np.degrees(kg * 9.81 * reach / so101.Servo().stiffness)
    assert loaded[1] - bare[1] == pytest.approx(expected, rel=0.1)


def test_less_stiffness_is_more_sag():
    assert held(Gap(coulomb=0.0, stiffness=0.5))[1] == pytest.approx(2 * held(FRICTIONLESS)[1], rel=0.05)


def test_backlash_opens_by_half_of_it_each_way():
    arm = unit(Config(scene="so101", gap=Gap(coulomb=0.0, backlash=0.87)))
    arm.advance(4.0)
    play = np.degrees(arm.data.qpos[arm._play])
    assert np.abs(play[1:4] - 0.435).max() < 0.02  # hanging on one side
    assert np.abs(arm.data.qvel).max() < 0.01
    assert np.degrees(arm.angles[1]) == pytest.approx(held(FRICTIONLESS)[1], abs=0.1)  # the loop sees the output side


def test_the_encoder_may_sit_before_the_play():
    cfg = Config(scene="so101", gap=Gap(coulomb=0.0, backlash=0.87), encoder_side="motor")
    arm = unit(cfg)
    arm.advance(4.0)
    seen = (arm.servos[1].reading.ticks - 2048) / TICKS
    assert np.degrees(arm.angles[1] - seen) == pytest.approx(0.435, abs=0.02)


def test_load_friction_grows_with_the_torque():
    arm = unit(Config(scene="so101", gap=Gap(load_friction=0.15)))
    arm.advance(1.0)
    lift = arm.model.dof_frictionloss[1]
    assert lift == pytest.approx(0.0524 + 0.15 * abs(arm.motors[1].constant * arm.motors[1].amperes), abs=0.003)
    assert lift > 0.1 > arm.model.dof_frictionloss[4]


def test_delays_on_both_ways():
    plain, late = (unit(Config(scene="so101", gap=Gap(action_delay=d))) for d in (0.0, 0.03))
    for arm in (plain, late):
        arm.advance(0.1)  # the first commands have arrived
        aim(arm, 2048 + np.array([300, 0, 0, 0, 0, 0]))
    plain.advance(0.2)
    late.advance(0.2 + 0.03)
    assert late.angles[0] == pytest.approx(plain.angles[0], abs=1e-3) and plain.angles[0] > 0.3
    old = unit(Config(scene="so101", gap=Gap(observation_delay=0.05)), angles=np.array([0, 1.0, 0, 0, 0, 0]))
    for servo in old.servos:
        write(servo, "Torque_Enable", 0)
    old.advance(0.1)
    before = old.angles.copy()
    old.advance(0.05)
    seen = np.array([(servo.reading.ticks - 2048) / TICKS for servo in old.servos])
    np.testing.assert_allclose(seen, before)
    assert np.abs(old.angles - before).max() > 0.02


def test_jitter_keeps_commands_in_order_and_is_reproducible():
    def path():
        arm = unit(Config(scene="so101", gap=Gap(action_delay=0.02, jitter=0.02)), seed=3)
        for k in range(10):
            aim(arm, 2048 + np.array([40 * k, 0, 0, 0, 0, 0]))
            arm.advance(1 / 30)
        return arm.angles

    first = path()
    np.testing.assert_array_equal(first, path())
    plain = unit(seed=3)
    assert first[0] > 0.2 and not np.array_equal(plain.angles, first)


def test_whole_ticks_are_what_the_loop_sees():
    arm = unit(Config(scene="so101", gap=Gap(whole_ticks=True)), angles=np.full(6, 0.4 / TICKS), CW_Dead_Zone=0)
    aim(arm, np.full(6, 2048))
    arm.advance(0.01)
    assert arm.motors[0].duty == 0
    arm = unit(angles=np.full(6, 0.4 / TICKS), CW_Dead_Zone=0, CCW_Dead_Zone=0)
    aim(arm, np.full(6, 2048))
    arm.advance(0.01)
    assert arm.motors[0].duty < 0


# ---- assembly and calibration -------------------------------------------------------------------------------------


def test_units_differ_by_seed_and_not_by_gap():
    first, again, other = (ArmPhysics(seed=s).assembly for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first).max() <= 512 and not np.array_equal(first, other)
    np.testing.assert_array_equal(first, ArmPhysics(Config(gap=Gap(encoder_offset=3)), seed=0).assembly)


def lead(arm, angles, seconds=2.0):
    arm.guide(np.asarray(angles, float))
    arm.advance(seconds)


@pytest.mark.parametrize("seed", [0, 5])
def test_calibration_by_hand_recovers_the_pose_within_a_tick(seed):
    """LeRobot's steps: middle pose, half-turn homing, sweep the joints, store the range; then read a pose back."""
    arm = ArmPhysics(ALONE, seed=seed)
    middle = arm.model.jnt_range.mean(axis=1)
    middle[4] = 0
    lead(arm, middle, 6.0)
    for servo in arm.servos:
        write(servo, "Lock", 0)
        write(servo, "Homing_Offset", 0)
        actual = servo.get("Present_Position")
        write(servo, "Homing_Offset", (actual - 2047 + 2048) % 4096 - 2048)
    homed = arm.angles
    low, high = (np.full(6, v) for v in (4095, 0))
    for joint in range(6):
        for end in arm.model.jnt_range[joint]:
            target = middle.copy()
            target[1] = -1.6 if joint == 2 else 0.0  # the elbow folds against the base unless the arm leans back
            target[joint] = end + np.sign(end) * 0.1  # press against the stop
            lead(arm, target, 1.5)
            seen = np.array([servo.get("Present_Position") for servo in arm.servos])
            low, high = np.minimum(low, seen), np.maximum(high, seen)
    lead(arm, [0.4, -0.5, 0.6, -0.3, 0.8, 0.5])
    read = np.array([servo.get("Present_Position") for servo in arm.servos])
    assert np.abs((read - 2047) + homed * TICKS - arm.angles * TICKS).max() <= 1.0
    assert np.abs(homed - middle).max() < 0.06  # how well the hand held the middle pose
    span = np.diff(arm.model.jnt_range, axis=1)[:, 0] * TICKS
    assert np.abs((high - low) - span).max() < 12  # the stops give a little


def test_the_stored_calibration_is_what_calibrating_finds():
    arm = ArmPhysics(ALONE, seed=2)
    found = write_calibration(arm)
    arm.place(np.array([0.3, -0.4, 0.6, -0.5, 0.7, 0.2]))
    for k, (name, cal) in enumerate(found.items()):
        servo = arm.servos[k]
        assert (servo.get("Homing_Offset"), cal["id"]) == (cal["homing_offset"], k + 1)
        assert bytes(servo.eeprom) == bytes(servo.ram[:40])
        middle = 0.0 if name == "wrist_roll" else arm.model.joint(name).range.mean()
        degrees = (servo.get("Present_Position") - (cal["range_min"] + cal["range_max"]) / 2) * 360 / 4095
        expected = np.degrees(arm.angles[k] - middle)
        assert degrees == pytest.approx(expected, abs=0.2), name
    assert (found["wrist_roll"]["range_min"], found["wrist_roll"]["range_max"]) == (0, 4095)


def test_an_encoder_offset_spoils_the_stored_calibration():
    arm = ArmPhysics(Config(scene="so101", gap=Gap(encoder_offset=3.0)), seed=2)
    write_calibration(arm)
    arm.place(np.zeros(6))
    errors = np.array([servo.get("Present_Position") - 2047 for servo in arm.servos])[[0, 3, 4]]
    np.testing.assert_allclose(errors, -arm.zero_error[[0, 3, 4]], atol=2)
    assert 5 < np.abs(arm.zero_error).max() <= 3 / 360 * 4096


# ---- the rest -----------------------------------------------------------------------------------------------------


def test_time_in_pieces_is_the_same_time():
    whole, pieces = (unit(angles=so101.HOME) for _ in range(2))
    for arm in (whole, pieces):
        aim(arm, np.full(6, 2200))
    whole.advance(0.5)
    for _ in range(500):
        pieces.advance(0.001)
    np.testing.assert_allclose(whole.angles, pieces.angles, atol=1e-12)
    assert whole.time == pytest.approx(pieces.time)


def test_a_12_volt_servo_accepts_12_volts():
    arm = ArmPhysics(Config(servo="12V-P16"))
    arm.advance(0.1)
    assert arm.servos[0].get("Present_Voltage") == 120 and arm.servos[0].get("Status") == 0


def test_bad_settings():
    with pytest.raises(ValueError, match="stiff position source"):
        Config(servo="stiff")
    with pytest.raises(ValueError, match=r"unknown servo preset '9V'"):
        Config(servo="9V")
    with pytest.raises(ValueError, match=r"kind is 'boss'; it must be follower or leader"):
        Config(kind="boss")
