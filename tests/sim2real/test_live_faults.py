"""The nine faults, each during a rollout of the reach policy that is being recorded.

Every one ends in a hold with a message that says what happened, or is repeated away; what was recorded is what was on
the wire and what the arm really did; and after mending, reconnecting and going on takes one call.
"""

import logging

import numpy as np
import pytest

import kit
from kit.sim2real import client as line
from kit.sim2real.bus import Lockstep, virtual_arm
from kit.sim2real.calibration import to_ticks
from kit.sim2real.deploy import Reach, rollout
from kit.sim2real.episodes import Recorder, load
from kit.sim2real.faults import NAMES
from kit.sim2real.protocol import Instruction, decode, parse
from kit.sim2real.so101 import SO101, Config
from kit.sim2real.units import KEYS, FirmwareMismatch, Halted, RobotError, to_radians

POLICY = kit.load("arm_reach")
GOAL, NEXT_GOAL = (0.12, -0.25, 0.15), (0.25, 0.05, 0.12)  # the first is far round, so that the pan moves for long
QUICK, STUBBORN = line.Config(timeout=0.004), line.Config(timeout=0.002, retries=40)
AT = 8  # the step after which the fault is there

HALTING = {
    "drop": ((1.0,), r"no servo answers on virtual: is the arm's supply on"),
    "corrupt": ((1.0,), r"the replies of ID 1, 2, 3, 4, 5, 6 are garbled"),
    "silence": ((3,), r"servo 3 \(elbow_flex\) does not answer: check its cable"),
    "duplicate_id": (
        (3, 2),
        r"ID 2 are garbled and servo 3 \(elbow_flex\) is gone: two servos have the same ID",
    ),
    "brown_out": ((), r"started anew and lost its settings: the supply broke down"),
    "overload": ((2,), r"servo 2 \(shoulder_lift\) reports overload: let it cool"),
    "stuck_encoder": ((1,), r"shoulder_pan does not move though its goal is more than 20 degrees away"),
    "late": ((9.0, 10**6), r"no servo answers on virtual"),
}
PASSING = {"drop": (0.05,), "corrupt": (0.05,), "late": (0.05, 6)}


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Watched(Reach):
    """The controller, and where the arm really was each time it looked."""

    def __init__(self, bus):
        super().__init__(POLICY, GOAL)
        self.bus, self.truth = bus, []

    def __call__(self, observation):
        self.truth.append(self.bus.arm.angles.copy())
        return super().__call__(observation)


def start(settings=QUICK):
    bus = virtual_arm(calibrated=True, clock=Lockstep())
    robot = SO101(bus, Config(line=settings), calibration=bus.arm.calibration)
    robot.connect()
    return robot, bus


def run(robot, bus, folder, name, numbers, seconds=2.0):
    """A recorded rollout with the fault from step AT on: (report, controller, the goals on the wire)."""
    controller = Watched(bus)

    def spoil(step):
        if step.number == AT:
            getattr(bus.faults, name)(*numbers)

    begun = len(bus.trace)
    report = rollout(robot, controller, seconds=seconds, recorder=Recorder(folder), on_step=spoil)
    return report, controller, goals(bus, begun)


def goals(bus, begun):
    """Goals [ticks] (n, 6) of each SYNC_WRITE to all six servos, lost or not."""
    rows = []
    for event in list(bus.trace)[begun:]:
        packet = parse(event.data)[0][0] if event.kind in ("request", "lost") else None
        if packet and packet.code == Instruction.SYNC_WRITE and packet.params[0] == 42 and len(packet.params) == 20:
            rows.append([decode("Goal_Position", packet.params[at + 1 : at + 3]) for at in range(2, 20, 3)])
    return np.array(rows, float).reshape(-1, 6)


def check_recording(episode, report, controller, sent, robot, blind=()):
    """Frame by frame: the action is the goal that was on the wire, the observation is where the arm was."""
    assert len(episode) == report.frames and episode.finished and episode.torn == 0
    assert episode.reason == report.halted and episode.task == "reach"
    assert len(sent) - len(episode) in (0, 1)  # besides the frames at most a hold
    joints = list(robot.calibration.items())
    for row, (name, joint) in enumerate(joints):
        ticks = [to_ticks(name, value + 1e-9, joint) for value in episode.actions[:, row]]  # a whole tick is cut, too
        np.testing.assert_allclose(sent[: len(episode), row], ticks, atol=1.0)
    for values, truth in zip(episode.observations, controller.truth, strict=False):
        away = np.abs(to_radians(dict(zip(KEYS, values, strict=True))) - truth)
        assert np.delete(away, list(blind)).max() < 0.003


def hold_is_safe(robot, bus, blind=()):
    """No goal goes out any more, and joints with torque stay where they are."""
    begun, before = len(bus.trace), bus.arm.angles.copy()
    with pytest.raises(Halted, match="takes no actions, it is halted"):
        robot.send_action(dict.fromkeys(KEYS, 0.0))
    for _ in range(15):
        robot.watch()
        bus.advance(1 / 30)
    moved = np.abs(bus.arm.angles - before)
    holding = [k for k, servo in enumerate(bus.arm.servos) if servo.torque and k not in blind]
    assert len(goals(bus, begun)) == 0 and moved[holding].max(initial=0.0) < 0.25


def test_all_nine_faults_are_here():
    assert {*HALTING, "firmware"} == set(NAMES)


@pytest.mark.parametrize("name", HALTING)
def test_a_fault_ends_in_a_hold_a_message_and_a_whole_episode_and_one_call_goes_on(name, tmp_path):
    numbers, message = HALTING[name]
    robot, bus = start()
    blind = (0,) if name == "stuck_encoder" else ()
    report, controller, sent = run(robot, bus, tmp_path, name, numbers)
    assert robot.status == "halted" and AT < report.frames < AT + 25
    with pytest.raises(Halted, match=message):
        raise Halted(report.halted)
    (episode,) = load(tmp_path)
    check_recording(episode, report, controller, sent, robot, blind)
    assert episode.success is None
    hold_is_safe(robot, bus, blind)
    if name not in ("brown_out", "overload", "stuck_encoder"):  # those can be forgiven at once
        with pytest.raises(RobotError):
            robot.reconnect()
        assert robot.status == "halted"
    bus.faults.heal()
    robot.reconnect()
    controller.goal = NEXT_GOAL
    again = rollout(robot, controller, seconds=3, recorder=Recorder(tmp_path))
    assert (again.frames, again.halted) == (90, "") and controller.success
    assert [(len(e), e.success) for e in load(tmp_path)] == [(report.frames, None), (90, True)]


@pytest.mark.parametrize("name", PASSING)
def test_what_can_be_repeated_away_costs_no_frame_and_no_number_is_wrong(name, tmp_path):
    robot, bus = start(STUBBORN)
    report, controller, sent = run(robot, bus, tmp_path, name, PASSING[name], seconds=3.0)
    assert (report.frames, report.halted, robot.status) == (90, "", "ready")
    assert robot.client.repeats > 0
    (episode,) = load(tmp_path)
    check_recording(episode, report, controller, sent, robot)
    assert episode.success is True


def test_another_firmware_is_refused_at_connect_and_at_reconnect_and_records_nothing(tmp_path):
    bus = virtual_arm(calibrated=True, clock=Lockstep())
    bus.faults.firmware(5, 3, 9)
    robot = SO101(bus, Config(line=QUICK), calibration=bus.arm.calibration)
    with pytest.raises(FirmwareMismatch, match=r"servo 5 \(wrist_roll\) has 3.9"):
        robot.connect()
    assert not any(servo.torque for servo in bus.arm.servos)
    bus.faults.heal()
    robot.connect()
    report, controller, sent = run(robot, bus, tmp_path, "firmware", (5, 3, 9))  # changes nothing while it runs
    assert (report.frames, report.halted) == (60, "")
    check_recording(load(tmp_path)[0], report, controller, sent, robot)
    with pytest.raises(FirmwareMismatch):
        robot.reconnect()
    assert robot.status == "halted"
    stopped = rollout(robot, Reach(POLICY, GOAL), seconds=1, recorder=Recorder(tmp_path))
    assert stopped.frames == 0 and stopped.halted and len(load(tmp_path)) == 1
    bus.faults.heal()
    robot.reconnect()
    assert robot.status == "ready"


def test_a_cable_that_comes_out_and_back_in(tmp_path):
    robot, _ = start()
    recorder, controller = Recorder(tmp_path), Reach(POLICY, GOAL)

    def unplug(step):
        if step.number == AT:
            robot.client.port.ser.close()

    report = rollout(robot, controller, seconds=1, recorder=recorder, on_step=unplug)
    assert report.frames == AT + 1 and "port virtual is gone" in report.halted
    robot.reconnect()
    assert rollout(robot, controller, seconds=1, recorder=recorder).frames == 30
    assert [(len(e), e.finished) for e in load(tmp_path)] == [(AT + 1, True), (30, True)]
