"""What the sim-to-real wing promises, end to end: known numbers, seen through packets, registers and units.

The parts have tests of their own; `COVERED` says where each promise is kept, and fails when one of them goes away.
"""

import ast
import logging
from pathlib import Path

import numpy as np
import pytest

from kit.envs import so101
from kit.sim2real import client as line
from kit.sim2real import kinematics
from kit.sim2real.bus import Lockstep, virtual_arm
from kit.sim2real.client import BusError, ServoClient
from kit.sim2real.motor import Gap
from kit.sim2real.protocol import BROADCAST, HEADER, Instruction, build, decode
from kit.sim2real.serve import VirtualPort
from kit.sim2real.so101 import SO101, Config
from kit.sim2real.units import to_radians, to_values

TESTS = Path(__file__).parents[1]
COVERED = {
    "forward kinematics, 8 golden poses, 1e-5 m": ["envs/test_so101.py::test_forward_kinematics"],
    "the same without a simulator": ["sim2real/test_kinematics.py::test_tool_is_where_the_published_model_has_it"],
    "gravity torque at zero, 1e-4 N m": ["envs/test_so101.py::test_mass_and_gravity_torques"],
    "sag 3.6 +- 0.2 degrees": [
        "envs/test_so101.py::test_sag_without_joint_friction",
        "sim2real/test_arm_physics.py::test_sag_at_7_4_volts_and_p_16_without_friction",
    ],
    "golden packets both ways": ["sim2real/test_protocol.py::test_golden_packets_both_ways"],
    "100,000 random and mutated packets": [
        "sim2real/test_bus.py::test_a_hundred_thousand_packets_neither_crash_nor_wedge_the_bus",
        "sim2real/test_bus.py::test_any_bytes_leave_the_bus_answering",
    ],
    "every instruction of the vendor's SDK on a pty": ["sim2real/test_serve.py::test_the_sdk_does_every_instruction"],
    "LeRobot's connect, loop and disconnect": ["sim2real/test_serve.py::test_lerobots_connect_loop_and_disconnect"],
    "calibration within a tick": [
        "sim2real/test_calibration.py::test_assembly_offsets_are_found_by_a_hand_and_poses_recovered_within_a_tick",
        "sim2real/test_calibration.py::test_assembly_offsets_of_many_units_are_found_within_a_tick",
    ],
    "a late reply corrupts the plain SDK": [
        "sim2real/test_serve.py::test_a_late_reply_silently_becomes_the_answer_to_the_next_question"
    ],
    "and is an error here": ["sim2real/test_so101_robot.py::test_a_late_reply_is_an_error_and_never_data"],
    "the watchdog drops the torque": [
        "sim2real/test_so101_robot.py::test_a_stalled_program_holds_then_rests_then_lets_go"
    ],
    "connect says what is wrong: port": [
        "sim2real/test_so101_robot.py::test_missing_port_closed_port_and_no_port",
        "sim2real/test_so101_robot.py::test_on_a_pseudo_terminal_with_its_watchdog_thread",
    ],
    "calibration of another arm": ["sim2real/test_so101_robot.py::test_calibration_of_another_arm"],
    "units, rate, joints": ["sim2real/test_so101_robot.py::test_wrong_joint_units_rate_and_numbers"],
    "each fault, live": [
        "sim2real/test_live_faults.py::test_all_nine_faults_are_here",
        "sim2real/test_live_faults.py::test_a_fault_ends_in_a_hold_a_message_and_a_whole_episode_and_one_call_goes_on",
    ],
}
GOLDEN = {  # joint angles [rad] and where the published model then has its tool [m]
    (0, 0, 0, 0, 0, 0): (0.39136, -0.00001, 0.22647),
    (0.5, 0, 0, 0, 0, 0): (0.34820, -0.16902, 0.22647),
    (0, 0.5, 0, 0, 0, 0): (0.40460, -0.00001, 0.05858),
    (0, 0, 0.5, 0, 0, 0): (0.35406, -0.00001, 0.08579),
    (0, 0, 0, 0.5, 0, 0): (0.36808, -0.00001, 0.15110),
    (0, 0, 0, 0, 0.5, 0): (0.39136, -0.00382, 0.22736),
    (0.3, -0.4, 0.6, -0.5, 0.7, 0.2): (0.32347, -0.09343, 0.25066),
    (0, -1.57, 1.57, 0.75, 0, 0): (0.20271, -0.00001, 0.03557),
}
GRAVITY = (0, -0.5386, -0.4527, -0.1171, 0, 0.0035)  # at zero, of the published model [N m]
QUICK = line.Config(timeout=0.004)


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("promise", COVERED)
def test_the_promise_has_its_test(promise):
    for name in COVERED[promise]:
        path, function = name.split("::")
        found = {node.name for node in ast.parse((TESTS / path).read_text()).body if isinstance(node, ast.FunctionDef)}
        assert function in found, name


def make(start, **options):
    """(robot, bus), connected, the arm alone and at `start` (6,) [rad]."""
    bus = virtual_arm(calibrated=True, clock=Lockstep(), scene="so101", **options)
    bus.arm.place(start)
    robot = SO101(bus, Config(line=QUICK), calibration=bus.arm.calibration)
    robot.connect()
    return robot, bus


# ---- known numbers, through the wire ------------------------------------------------------------------------------


@pytest.mark.parametrize("pose", GOLDEN)
def test_the_tool_is_found_from_encoder_ticks_within_a_millimetre(pose):
    """Assembly offset, homing offset, degrees, radians, kinematics: a sign or a zero that is wrong shows here."""
    robot, _ = make(np.array(pose, float), seed=5)
    point = kinematics.tool(to_radians(robot.get_observation())[None])[0]
    assert np.linalg.norm(point - GOLDEN[pose]) < 1e-3


def hold_zero(**options):
    """The arm, led to zero by the robot's own actions and held there, without joint friction."""
    robot, bus = make(np.zeros(6), gap=Gap(coulomb=0.0), **options)
    for _ in range(150):
        robot.get_observation()
        robot.send_action(to_values(np.zeros(6)))
    return robot, bus


def test_sag_of_3_6_degrees_in_lerobots_units():
    robot, _ = hold_zero()
    seen = robot.get_observation()
    assert seen["shoulder_lift.pos"] == pytest.approx(3.6, abs=0.2)
    assert seen["elbow_flex.pos"] == pytest.approx(2.9, abs=0.2)
    assert robot.status == "ready" and not robot.changed


def test_the_load_register_feels_gravity():
    """Present_Load is the duty: times the supply and Kt / R it is the torque that holds the arm, here a little below
    the zero pose, to which the published torques belong."""
    robot, bus = hold_zero()
    servo = so101.SERVOS["7.4V-P16"]
    duty = np.array([decode("Present_Load", data) for data in robot.client.block("Present_Load", 2).values()]) / 1000
    torque = duty * servo.volts * servo.torque_constant / servo.resistance
    bus.arm.data.qvel[:] = 0
    np.testing.assert_allclose(torque, bus.arm.data.qfrc_bias, atol=0.03)  # a tick's dead zone is 0.014 N m
    np.testing.assert_allclose(torque, GRAVITY, atol=0.05)


# ---- a client that hears anything -------------------------------------------------------------------------------


class Babble(VirtualPort):
    """A port on which arbitrary bytes come back."""

    heard = b""

    def write(self, data):
        self._input[:] = self.heard
        return len(data)

    @property
    def in_waiting(self):
        return len(self._input)


def mutations(rng, reply):
    """Bytes that are nearly a right reply, or nothing like one."""
    spoiled = bytearray(reply)
    spoiled[rng.integers(len(spoiled))] ^= int(rng.integers(1, 256))
    cut = reply[: rng.integers(len(reply))]
    other = build(int(rng.integers(1, 7)), 0, rng.bytes(int(rng.integers(0, 12))))
    return [
        bytes(spoiled),
        cut,
        other,
        rng.bytes(int(rng.integers(0, 60))),
        HEADER * int(rng.integers(1, 9)) + reply[:4],
    ]


def test_whatever_comes_back_a_read_is_right_or_a_bus_error():
    """Ten thousand replies, each wrong in a way of its own: none passes for data, none raises anything else."""
    bus = virtual_arm(clock=Lockstep())
    port = Babble(bus)
    client = ServoClient(port, line.Config(timeout=1e-4, retries=0))
    client.survey = lambda ids: (list(ids), [])
    rng, refused, believed = np.random.default_rng(0), 0, []
    for turn in range(2000):
        client.failures = turn % 8
        id, count = 1 + turn % 6, line.tagged(2, client.failures)
        good = build(id, 0, bytes([0x34, 0x02]) + rng.bytes(count - 2))
        for heard in mutations(rng, good):
            port.heard = heard
            try:
                value = client.read("Present_Position", id)
            except BusError:
                refused += 1
            else:
                believed.append((heard, good, value))
            client.failures = turn % 8
    assert refused > 9_900
    for heard, _, value in believed:  # whole packets with the right ID, length and checksum: nobody could tell
        assert heard == build(heard[2], 0, heard[5:-1]) and value == decode("Present_Position", heard[5:7])


def test_a_sync_read_that_hears_too_little_too_much_or_the_wrong_order_is_an_error():
    bus = virtual_arm(clock=Lockstep())
    port = Babble(bus)
    client = ServoClient(port, line.Config(timeout=1e-3, retries=0))
    client.survey = lambda ids: (list(ids), [])
    replies = [build(id, 0, bytes([id, 8])) for id in range(1, 7)]
    port.heard = b"".join(replies)
    assert client.sync_read("Present_Position") == {id: 2048 + id for id in range(1, 7)}
    wrong = [replies[:5], replies[1:], [*replies[1:], replies[0]], [replies[0], *replies[:5]], replies[::-1]]
    for heard in wrong:
        client.failures, port.heard = 0, b"".join(heard)
        with pytest.raises(BusError):
            client.sync_read("Present_Position")


def test_a_request_that_the_vendor_lists_is_the_one_that_goes_out():
    bus = virtual_arm(clock=Lockstep())
    client = ServoClient(bus)
    client.sync_read("Present_Position")
    client.sync_write("Goal_Position", dict.fromkeys(range(1, 7), 2048))
    sent = [event.data.hex(" ") for event in bus.trace if event.kind == "request"]
    assert sent[0] == "ff ff fe 0a 82 38 02 01 02 03 04 05 06 26"
    assert sent[1].startswith("ff ff fe 16 83 2a 02 01 00 08 02 00 08") and sent[1].endswith("06 00 08 f7")
    assert sent[1] == build(BROADCAST, Instruction.SYNC_WRITE, bytes.fromhex(sent[1].replace(" ", ""))[5:-1]).hex(" ")
