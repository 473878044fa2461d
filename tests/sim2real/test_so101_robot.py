"""The SO-101 client: on the wire, against each of the nine faults, and with a program that is stuck."""

import math
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.envs.so101 import JOINTS
from kit.sim2real import calibration as cal
from kit.sim2real import client as line
from kit.sim2real.arm_physics import ArmPhysics, write_calibration
from kit.sim2real.bus import Lockstep, Realtime, virtual_arm
from kit.sim2real.client import BadReply, BusError, PortBusy, PortMissing, ServoClient, check_reply, tagged
from kit.sim2real.protocol import Instruction, Packet, decode, parse
from kit.sim2real.safety import Limits
from kit.sim2real.serve import PtyServer, VirtualPort
from kit.sim2real.servo import Firmware
from kit.sim2real.so101 import SO101, Config
from kit.sim2real.units import (
    KEYS,
    CalibrationMismatch,
    FirmwareMismatch,
    Halted,
    NotCalibrated,
    NotConnected,
    RobotError,
    UnknownJoint,
    WrongRate,
    WrongUnits,
    looks_like_radians,
    to_radians,
    to_values,
)
from kit.types import Robot

QUICK = line.Config(timeout=0.004)  # on a lockstep clock an answer is there at once, or never
PATIENT = line.Config(timeout=5.0)  # in real time no test shall depend on how busy a computer is
RAISED = dict(zip(KEYS, (10.0, -60.0, 60.0, 40.0, 0.0, 20.0), strict=True))
needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


def make(cfg=None, **options):
    """(robot, bus), connected, on a lockstep clock."""
    bus = virtual_arm(calibrated=True, clock=Lockstep(), **options)
    robot = SO101(bus, cfg or Config(line=QUICK), calibration=bus.arm.calibration)
    robot.connect()
    return robot, bus


def drive(robot, steps, goal=RAISED):
    seen = {}
    for _ in range(steps):
        seen = robot.get_observation()
        robot.send_action(goal)
    return seen


def goals(bus, start=0):
    """Six goals [ticks] of each SYNC_WRITE on the wire, NaN for servos that were left out."""
    found = []
    for event in list(bus.trace)[start:]:
        packet = parse(event.data)[0][0] if event.kind in ("request", "lost") else None
        if packet and packet.code == Instruction.SYNC_WRITE and packet.params[0] == 42:
            row = np.full(6, np.nan)
            for at in range(2, len(packet.params), 3):
                row[packet.params[at] - 1] = decode("Goal_Position", packet.params[at + 1 : at + 3])
            found.append(row)
    return np.array(found).reshape(-1, 6)


# ---- the contract -----------------------------------------------------------------------------------------------


def test_it_is_lerobots_robot_and_its_features_are_known_before():
    robot = SO101("/dev/nothing")
    assert isinstance(robot, Robot)
    assert list(robot.observation_features) == list(robot.action_features) == [f"{name}.pos" for name in JOINTS]
    assert not robot.is_connected
    for use in (robot.get_observation, robot.disconnect, lambda: robot.send_action(RAISED), robot.rest):
        with pytest.raises(NotConnected, match=r"connect\(\) was not called"):
            use()


def test_connect_observe_act_disconnect():
    robot, bus = make()
    assert robot.status == "ready" and robot.is_connected and robot.is_calibrated
    servos = bus.arm.servos
    for name, value in dict(P_Coefficient=16, I_Coefficient=0, D_Coefficient=32, Return_Delay_Time=0, Lock=1).items():
        assert [servo.get(name) for servo in servos] == [value] * 6
    assert [servos[5].get(n) for n in ("Max_Torque_Limit", "Protection_Current", "Overload_Torque")] == [500, 250, 25]
    before = robot.get_observation()
    assert to_radians(before) == pytest.approx(bus.arm.angles, abs=0.002)
    assert np.abs(bus.arm.angles - [0, -1.745, 1.69, 0.8, 0, 0]).max() < 0.01  # the torque came on where it was
    sent = robot.send_action({"shoulder_pan.pos": 1.0})
    assert sent["shoulder_pan.pos"] == pytest.approx(1.0, abs=0.09) and list(sent) == list(KEYS)
    assert [sent[key] for key in KEYS[1:]] == pytest.approx([before[key] for key in KEYS[1:]], abs=0.1)
    assert bus.arm.servos[0].get("Goal_Position") == cal.to_ticks(
        "shoulder_pan", 1.0, robot.calibration["shoulder_pan"]
    )
    after = drive(robot, 60)
    assert max(abs(after[key] - RAISED[key]) for key in KEYS) < 5  # sags
    assert robot.client.failures == 0
    robot.disconnect()
    assert robot.status == "disconnected" and not any(servo.torque for servo in servos)


@pytest.mark.parametrize("enables", [True, False])
def test_the_torque_comes_on_where_the_arm_is_whatever_the_old_goal(enables):
    firmware = Firmware(on_enable="jump", goal_enables_torque=enables)
    bus = virtual_arm(calibrated=True, clock=Lockstep(), firmware=firmware)
    for servo in bus.arm.servos:
        servo.set("Goal_Position", 2047)
    before = bus.arm.angles.copy()
    SO101(bus, Config(line=QUICK), calibration=bus.arm.calibration).connect()
    bus.advance(0.5)
    assert all(servo.torque for servo in bus.arm.servos) and np.abs(bus.arm.angles - before).max() < 0.1


def test_units_there_and_back():
    angles = np.array([0.1, -1.0, 1.5, 0.3, -2.0, 0.7])
    assert to_radians(to_values(angles)) == pytest.approx(angles)
    assert to_values(np.array([np.pi / 2, 0, 0, 0, 0, -0.174533])) == pytest.approx(
        dict(zip(KEYS, (90, 0, 0, 0, 0, 0), strict=True))
    )


def test_lockstep_runs_are_equal():
    def run():
        robot, bus = make(seed=4)
        seen = [drive(robot, 1) for _ in range(20)]
        return seen, [event.data for event in bus.trace]

    assert run() == run()


@needs_pty
def test_on_a_pseudo_terminal_with_its_watchdog_thread():
    bus = virtual_arm(calibrated=True)
    with PtyServer(bus, too_late=None) as server:
        limits = Limits(hold_after=60.0, rest_after=120.0)  # a busy computer must not matter here
        robot = SO101(server.port, Config(line=PATIENT, limits=limits), calibration=bus.arm.calibration)
        robot.connect()
        for _ in range(5):
            robot.get_observation()
            robot.send_action(RAISED)
        assert robot.client.failures == 0 and robot.status == "ready"
        with pytest.raises(PortBusy, match=r"is in use by another program"):
            SO101(server.port, calibration=bus.arm.calibration).connect()
        robot.disconnect()
        assert not any(servo.torque for servo in bus.arm.servos) and not any(
            thread.name == "robot watchdog" for thread in threading.enumerate()
        )


# ---- the line ---------------------------------------------------------------------------------------------------


def test_the_length_of_a_request_counts_the_failures():
    assert [tagged(2, k) for k in range(9)] == [2, 3, 4, 5, 6, 7, 8, 9, 2]
    assert tagged(1, 0) == 2 and tagged(26, 0) == 26 and tagged(8, 0) == 10
    for size in range(1, 30):
        for failures in range(20):
            assert size <= tagged(size, failures) < size + 8
            assert (tagged(size, failures) - failures) % 8 == 2  # so that equal lengths are eight failures apart


def test_a_reply_of_another_servo_or_length_is_refused():
    assert check_reply(Packet(3, 0, b"\x00\x08"), 3, 2).params == b"\x00\x08"
    with pytest.raises(BadReply, match="servo 4 answered in place of 3"):
        check_reply(Packet(4, 0, b"\x00\x08"), 3, 2)
    with pytest.raises(BadReply, match="servo 3 sent 1 bytes where 2 were asked for"):
        check_reply(Packet(3, 0, b"\x4a"), 3, 2)


class Delayed(VirtualPort):
    """A port that keeps replies back: those of request number `keep` come out in front of the next ones, after the
    input was emptied, where no emptying helps."""

    keep, count, kept = -1, 0, b""

    def write(self, data):
        self.count += 1
        size = super().write(data)
        if self.count == self.keep:
            self.kept, self._input[:] = bytes(self._input) + self.bus.take(), b""
        elif self.kept:
            self._input[:0] = self.kept
            self.kept = b""
        return size


def test_a_late_reply_is_an_error_and_never_data():
    """What the SDK alone takes for the answer (see test_serve) is refused here by its ID or by its length."""
    for first, second in (
        (lambda c: c.read("Present_Position", 1), lambda c: c.read("Present_Voltage", 1)),
        (lambda c: c.read("Present_Voltage", 1), lambda c: c.read("Present_Position", 1)),
        (lambda c: c.read("Present_Position", 1), lambda c: c.read("Present_Position", 2)),
        (lambda c: c.sync_read("Present_Position"), lambda c: c.sync_read("Goal_Position")),
        (lambda c: c.sync_read("Goal_Position"), lambda c: c.read("Present_Position", 1)),
    ):
        bus = virtual_arm(calibrated=True, clock=Lockstep())
        right, port = second(ServoClient(bus)), Delayed(bus)
        client = ServoClient(port, line.Config(timeout=0.004, retries=0))
        client.survey = lambda ids: ([], [])  # so that `second` itself meets the late reply
        port.keep = 1
        with pytest.raises(BusError, match="did not come within 4 ms"):
            first(client)
        with pytest.raises(BusError, match=r"an old reply|answered in place of"):
            second(client)
        assert second(client) == right


def test_with_retries_a_late_reply_costs_a_repetition_and_nothing_else():
    robot, bus = make()
    port = bus.arm
    truth = robot.get_observation()
    bus.faults.late(0.02, count=1, servo=2)  # arrives during the second request after this one
    assert robot.get_observation() == pytest.approx(truth, abs=0.1) and robot.client.repeats == 1
    for _ in range(5):
        robot.send_action({"shoulder_pan.pos": 0.0})
        assert to_radians(robot.get_observation()) == pytest.approx(port.angles, abs=0.003)
    assert robot.status == "ready"


def test_after_a_failure_writes_are_read_back():
    bus = virtual_arm(clock=Lockstep())
    client = ServoClient(bus, QUICK)
    client.write("Goal_Velocity", 1, 100)
    requests = bus.requests
    client.failures = 1
    client.write("Goal_Velocity", 1, 200)
    assert bus.requests == requests + 2
    bus.arm.servos[0].write = lambda *_: type("Answer", (), {"data": b"", "error": 0})()
    with pytest.raises(BusError, match=r"servo 1 \(shoulder_pan\) does not keep Goal_Velocity = 300: it reads 200"):
        client.write("Goal_Velocity", 1, 300)


# ---- errors with names and fixes ----------------------------------------------------------------------------------


def test_missing_port_closed_port_and_no_port():
    with pytest.raises(PortMissing, match=r"there is no port /dev/tty_nothing; .*python -m kit robot"):
        ServoClient("/dev/tty_nothing")
    with pytest.raises(TypeError, match="5 is no port; give a path"):
        ServoClient(5)
    client = ServoClient(virtual_arm(clock=Lockstep()))
    client.close()
    with pytest.raises(BusError, match="port virtual is closed; connect again"):
        client.read("Present_Position", 1)
    with pytest.raises(ValueError, match="timeout is 0 s"):
        line.Config(timeout=0)


def test_a_port_that_disappears_and_comes_back():
    bus = virtual_arm(calibrated=True, clock=Lockstep())
    robot = SO101(bus, Config(line=QUICK), calibration=bus.arm.calibration)
    robot.connect()
    drive(robot, 3)
    robot.client.port.ser.close()
    with pytest.raises(Halted, match=r"port virtual is gone .*plug the cable in again"):
        robot.get_observation()
    robot.reconnect()
    drive(robot, 3)
    assert robot.status == "ready"


def test_calibration_of_another_arm():
    bus = virtual_arm(calibrated=True, seed=1, clock=Lockstep())
    other = write_calibration(ArmPhysics(seed=2))
    robot = SO101(bus, calibration=other)
    with pytest.raises(CalibrationMismatch, match=r"another arm.*shoulder_pan.homing_offset is -?\d+ in the servo and"):
        robot.connect()
    assert not robot.is_connected and not any(servo.torque for servo in bus.arm.servos)
    robot.connect(calibrate=False)
    assert robot.status == "uncalibrated" and not robot.is_calibrated
    with pytest.raises(NotCalibrated, match="another arm"):
        robot.get_observation()
    with pytest.raises(NotCalibrated):
        robot.send_action(RAISED)
    robot.disconnect()
    right = SO101(bus, calibration=bus.arm.calibration)
    right.connect()
    assert right.status == "ready"


def test_a_horn_that_was_put_back_elsewhere():
    bus = virtual_arm(calibrated=True, clock=Lockstep())
    bus.arm.assembly[2] += 300
    bus.arm.place(bus.arm.angles)
    with pytest.raises(
        CalibrationMismatch, match=r"servo 3 \(elbow_flex\) stands at \d+ ticks, outside its calibrated"
    ):
        SO101(bus, calibration=bus.arm.calibration).connect()


def test_from_no_calibration_to_a_moving_arm(tmp_path):
    bus = virtual_arm(clock=Lockstep(), scene="so101")
    robot = SO101(bus, calibration=tmp_path / "arm.json")
    with pytest.raises(NotCalibrated, match=r"no calibration of 'so101' at .*arm.json: connect\(calibrate=False\)"):
        robot.connect()
    robot.connect(calibrate=False)
    session = robot.calibrate()
    ranges = np.array([bus.arm.model.joint(name).range for name in JOINTS])
    bus.arm.place(ranges.mean(1))
    session.confirm()
    for share in (0.2, 0.0, 0.5, 0.8, 1.0, 0.5):
        bus.arm.place(ranges[:, 0] + share * (ranges[:, 1] - ranges[:, 0]))
        session.update()
    session.confirm()
    robot.disconnect()
    robot.connect()
    assert robot.is_calibrated
    bus.arm.servos[0].set("Homing_Offset", 5)  # somebody changes a servo; the file is right
    bus.arm.servos[0].keep()
    robot.disconnect()
    robot.connect(calibrate=False)
    robot.write_calibration()
    robot.disconnect()
    robot.connect()
    assert robot.status == "ready"


def test_wrong_joint_units_rate_and_numbers():
    robot, bus = make()
    drive(robot, 1, dict.fromkeys(KEYS[:1], 0.0))
    start = len(bus.trace)
    with pytest.raises(UnknownJoint, match=r"the action moves 'elbow.pos'; this arm has shoulder_pan.pos, "):
        robot.send_action({"elbow.pos": 3.0})
    with pytest.raises(ValueError, match="the action is empty"):
        robot.send_action({})
    with pytest.raises(ValueError, match="holds something that is no number"):
        robot.send_action({"elbow_flex.pos": "up"})
    assert len(goals(bus, start)) == 0 and robot.status == "ready"
    with pytest.raises(
        WrongRate, match=r"trained at 15 Hz and the arm runs at 30 Hz: its steps would be 2 times as fast"
    ):
        robot.require(rate=15)
    with pytest.raises(WrongUnits, match="the policy speaks radians, and this arm degrees"):
        robot.require(units="radians")
    with pytest.raises(UnknownJoint, match="in this order"):
        robot.require(joints=KEYS[::-1])
    robot.require(rate=30, units="degrees", joints=KEYS)


def test_a_first_action_in_radians_is_recognised():
    robot, bus = make()
    radians = dict(zip(KEYS, [*bus.arm.angles[:5], 10.0], strict=True))
    with pytest.raises(WrongUnits, match="the first action looks like radians"):
        robot.send_action(radians)
    assert len(goals(bus)) == 0 and robot.status == "ready"
    robot.send_action(robot.get_observation())
    zero = dict.fromkeys(KEYS, 0.0)
    assert not looks_like_radians(zero, zero) and not looks_like_radians({"gripper.pos": 1.0}, zero)
    assert not looks_like_radians({**zero, "elbow_flex.pos": math.nan}, robot.get_observation())


# ---- the nine faults, in a loop -----------------------------------------------------------------------------------


def holds(robot, bus, steps=10, blind=()):
    """Halted, and nobody moves: no further goal goes out, and the joints that have torque stay where they are, but for
    those that do not know where they are."""
    assert robot.status == "halted"
    start, before = len(bus.trace), bus.arm.angles.copy()
    with pytest.raises(Halted, match=r"takes no actions, it is halted"):
        robot.send_action(RAISED)
    for _ in range(steps):
        robot.watch()
        bus.advance(1 / 30)
    torque = np.array([servo.torque and k not in blind for k, servo in enumerate(bus.arm.servos)])
    return len(goals(bus, start)) == 0 and np.abs(bus.arm.angles - before)[torque].max(initial=0.0) < 0.25


def comes_back(robot, bus):
    bus.faults.heal()
    robot.reconnect()
    start = to_radians(robot.get_observation())
    assert np.abs(robot._state.command - start).max() < 0.05  # goes on from where it is
    seen = drive(robot, 80)
    return robot.status == "ready" and max(abs(seen[key] - RAISED[key]) for key in KEYS) < 6


@pytest.mark.parametrize(
    ("name", "numbers"), [("drop", (0.1,)), ("corrupt", (0.1,)), ("late", (0.05, 6)), ("late", (0.02, 3, 4))]
)
def test_faults_of_the_line_are_repeated_away(name, numbers):
    """A tenth of all packets each way: SYNC_READ has six replies, so that about half of the attempts fail."""
    robot, bus = make(Config(line=line.Config(timeout=0.002, retries=40)))
    drive(robot, 10)
    getattr(bus.faults, name)(*numbers)
    for _ in range(25):
        seen = robot.get_observation()
        assert to_radians(seen) == pytest.approx(bus.arm.angles, abs=0.003)  # right, always
        robot.send_action(RAISED)
    assert robot.status == "ready" and robot.client.repeats > 0


def test_a_dead_line_halts_and_comes_back():
    robot, bus = make()
    drive(robot, 10)
    bus.faults.drop(1.0)
    with pytest.raises(Halted, match=r"no servo answers on virtual: is the arm's supply on.*The arm holds still"):
        drive(robot, 2)
    assert holds(robot, bus)
    with pytest.raises(BusError, match="no servo answers"):
        robot.get_observation()
    with pytest.raises(RobotError):
        robot.reconnect()  # not mended yet
    assert robot.status == "halted" and comes_back(robot, bus)


def test_silence_names_the_servo():
    robot, bus = make()
    drive(robot, 10)
    bus.faults.silence(3)
    start = len(bus.trace)
    with pytest.raises(Halted, match=r"servo 3 \(elbow_flex\) does not answer: check its cable") as caught:
        drive(robot, 2)
    assert caught.value.__cause__.silent == (3,)
    last = goals(bus, start)[-1]
    assert np.isnan(last[2]) and np.isfinite(last[[0, 1, 3, 4, 5]]).all()  # it may have lost its torque
    assert holds(robot, bus) and comes_back(robot, bus)


def test_a_duplicate_id_is_recognised():
    robot, bus = make()
    drive(robot, 10)
    bus.faults.duplicate_id(3, 2)
    expected = r"the replies of ID 2 are garbled and servo 3 \(elbow_flex\) is gone: two servos have the same ID"
    with pytest.raises(Halted, match=expected):
        drive(robot, 2)
    assert holds(robot, bus) and comes_back(robot, bus)


@pytest.mark.parametrize("servos", [(), (4,)])
def test_a_brown_out_does_not_switch_the_torque_on_again(servos):
    robot, bus = make()
    drive(robot, 31)
    robot._health_at = -math.inf  # the next look sees it
    bus.faults.brown_out(*servos)
    with pytest.raises(Halted, match=r"servo .*started anew and lost its settings: the supply broke down"):
        drive(robot, 2)
    fallen = [bus.arm.servos[n - 1] for n in servos or range(1, 7)]
    assert not any(servo.torque for servo in fallen)
    assert holds(robot, bus) and not any(servo.torque for servo in fallen)
    assert comes_back(robot, bus) and fallen[0].get("P_Coefficient") == 16


def test_a_brown_out_is_seen_within_half_a_second():
    robot, bus = make()
    drive(robot, 10)
    bus.faults.brown_out()
    with pytest.raises(Halted, match="started anew"):
        drive(robot, 17)
    assert holds(robot, bus)


def test_an_overload_lets_go_and_says_who():
    robot, bus = make()
    drive(robot, 10)
    bus.faults.overload(2)
    with pytest.raises(Halted, match=r"servo 2 \(shoulder_lift\) reports overload"):
        drive(robot, 2)
    assert holds(robot, bus) and comes_back(robot, bus)


def test_a_stuck_encoder_is_noticed_by_a_goal_that_goes_away():
    robot, bus = make()
    drive(robot, 5)
    bus.faults.stuck_encoder(1)
    begun = bus.clock.time
    with pytest.raises(Halted, match=r"shoulder_pan does not move though its goal is more than 20 degrees away"):
        drive(robot, 40, {**RAISED, "shoulder_pan.pos": 60.0})
    assert bus.clock.time - begun <= 0.35 / 1.5 + 0.15 + 3 / 30  # the goal is far, the joint still, three steps
    assert holds(robot, bus, blind=[0]) and comes_back(robot, bus)


def test_firmware_mismatch_at_connect():
    bus = virtual_arm(calibrated=True, clock=Lockstep(), firmware=Firmware(version=(3, 10)))
    bus.faults.firmware(5, 3, 9)
    robot = SO101(bus, calibration=bus.arm.calibration)
    with pytest.raises(FirmwareMismatch, match=r"servo 5 \(wrist_roll\) has 3.9, .*Feetech's FD software"):
        robot.connect()
    assert not robot.is_connected and not any(servo.torque for servo in bus.arm.servos)
    bus.faults.heal()
    robot.connect()
    assert robot.status == "ready"


def test_heat_sag_and_torque_from_outside():
    for register, value, message, status in (
        ("Present_Temperature", 66, r"has 66 degrees Celsius: the arm goes to rest", "resting"),
        ("Present_Voltage", 50, r"the supply fell from 7.\d* to 5 V", "halted"),
        ("Torque_Enable", 0, r"servo 2 \(shoulder_lift\) has no torque", "halted"),
    ):
        robot, bus = make()
        drive(robot, 5)
        bus.arm.servos[1].set(register, value)
        robot._health_at = -math.inf
        with pytest.raises(Halted, match=message):
            robot.get_observation()
        assert robot.status == status
    robot, bus = make()
    drive(robot, 40)
    for servo in bus.arm.servos:
        servo.set("Present_Temperature", 61)
    robot._health_at = -math.inf
    robot.get_observation()
    assert robot.status == "ready"


def test_strain_backs_off_to_where_the_joint_is():
    robot, bus = make()
    drive(robot, 60)
    bus.arm.guide(np.array([bus.arm.angles[0], *[np.nan] * 5]))  # a hand holds the pan
    drive(robot, 60, {**RAISED, "shoulder_pan.pos": 33.0})
    assert robot.changed.get("load", 0) >= 1 and robot.status == "ready"


# ---- the safety layer on the wire ---------------------------------------------------------------------------------


wild = st.one_of(st.floats(-300, 300), st.sampled_from([math.nan, math.inf, -math.inf, 0.0]))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), wild, min_size=1), min_size=1, max_size=15))
def test_whatever_a_policy_sends_the_wire_carries_small_steps_within_limits(actions):
    robot, bus = make(Config(line=QUICK, limits=Limits(stuck=9.0)))
    robot._first = False
    begun = np.array([bus.arm.servos[k].get("Goal_Position") for k in range(6)])
    for action in actions * 3:
        robot.get_observation()
        robot.send_action(action)
    sent = goals(bus)
    assert len(sent) == 3 * len(actions) and np.isfinite(sent).all()
    assert np.abs(np.diff(np.vstack([begun, sent]), axis=0)).max() <= 0.05 / (2 * np.pi) * 4096 + 1.5
    for k, joint in enumerate(robot.calibration.values()):
        low, high = (
            (joint.middle + np.array([-1, 1]) * 163 / 360 * 4096) if k == 4 else (joint.range_min, joint.range_max)
        )
        margin = 20 if k < 4 else 0  # two degrees are 22 ticks
        assert (sent[:, k] >= min(low + margin, begun[k])).all() and (
            sent[:, k] <= max(high - margin, begun[k] + 1)
        ).all()


class Clock:
    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


def stalled():
    """(robot, bus, clock) in real time, on a clock of the test's own, after ten steps of a loop."""
    clock = Clock()
    bus = virtual_arm(calibrated=True, clock=Realtime(now=clock))
    robot = SO101(bus, Config(line=PATIENT, watchdog=False), calibration=bus.arm.calibration, now=clock)
    robot.connect()
    for _ in range(10):
        clock.time += 1 / 30
        robot.get_observation()
        robot.send_action(RAISED)
    return robot, bus, clock


def let(robot, clock, seconds):
    for _ in range(round(30 * seconds)):
        clock.time += 1 / 30
        robot.watch()


def test_a_stalled_program_holds_then_rests_then_lets_go():
    """Acceptance: the watchdog drops the torque, and no goal comes after that, which would switch it on again."""
    robot, bus, clock = stalled()
    let(robot, clock, 0.2)
    count = len(goals(bus))
    assert count == 10
    let(robot, clock, 0.3)
    assert len(goals(bus)) == count + 1 and robot.status == "ready"  # one hold
    robot.get_observation()
    robot.send_action(RAISED)  # a short stall is forgiven
    let(robot, clock, 2.1)
    assert robot.status == "resting" and all(servo.torque for servo in bus.arm.servos)
    with pytest.raises(Halted, match=r"it is resting: no action for 2 s"):
        robot.send_action(RAISED)
    let(robot, clock, 10)
    assert robot.status == "released" and not any(servo.torque for servo in bus.arm.servos)
    steps = np.abs(np.diff(goals(bus)[count + 2 :], axis=0))  # after the hold and the last action
    assert steps.max() <= 0.5 / 30 / (2 * np.pi) * 4096 + 1.5  # slowly
    count = len(goals(bus))
    for _ in range(5):
        with pytest.raises(Halted, match="it is released"):
            robot.send_action(RAISED)
        let(robot, clock, 0.1)
    assert len(goals(bus)) == count and not any(servo.torque for servo in bus.arm.servos)
    robot.reconnect()
    assert robot.status == "ready" and all(servo.torque for servo in bus.arm.servos)


def test_an_action_that_comes_too_late_is_refused_even_without_the_thread():
    robot, bus, clock = stalled()
    clock.time += 2.5
    count = len(goals(bus))
    with pytest.raises(Halted, match="no action for 2 s: the arm goes to rest and lets go"):
        robot.send_action(RAISED)
    assert len(goals(bus)) == count and robot.status == "resting"


def test_an_arm_that_was_never_commanded_just_holds():
    clock = Clock()
    bus = virtual_arm(calibrated=True, clock=Realtime(now=clock))
    robot = SO101(bus, Config(line=PATIENT, watchdog=False), calibration=bus.arm.calibration, now=clock)
    robot.connect()
    let(robot, clock, 5)
    assert robot.status == "ready" and all(servo.torque for servo in bus.arm.servos)


def test_the_thread_lets_go_while_another_one_keeps_sending():
    """No order of two threads may end with torque on."""
    bus = virtual_arm(calibrated=True)
    limits = Limits(hold_after=0.01, rest_after=0.05, rest_limit=0.2)
    robot = SO101(bus, Config(line=PATIENT, limits=limits), calibration=bus.arm.calibration)
    robot.connect()
    robot.send_action(RAISED)
    end = time.monotonic() + 60
    while robot.status != "released":
        assert time.monotonic() < end, robot.status
        if robot.status == "resting":
            with pytest.raises(Halted):
                robot.send_action(RAISED)
        else:
            time.sleep(0.01)
    with pytest.raises(Halted):
        robot.send_action(RAISED)
    assert not any(servo.torque for servo in bus.arm.servos)
    robot.disconnect()


def test_rest_and_with():
    bus = virtual_arm(calibrated=True, clock=Lockstep())
    with SO101(bus, Config(line=QUICK), calibration=bus.arm.calibration) as robot:
        drive(robot, 40)
    assert robot.status == "disconnected" and not any(servo.torque for servo in bus.arm.servos)
    assert np.abs(bus.arm.angles - [0, -1.745, 1.69, 0.8, 0, 0])[:5].max() < 0.12
    with pytest.raises(RobotError, match="connected already"):
        robot.connect()
        robot.connect()


def test_a_servo_that_keeps_its_torque_is_named():
    robot, bus = make()
    drive(robot, 3)
    bus.faults.silence(6)
    robot._release("the test ends")
    assert robot.status == "released" and not any(servo.torque for servo in bus.arm.servos[:5])
    assert "servo 6 (gripper) may still have torque: switch the supply off" in robot.reason
