"""The panels, by their buttons: a fresh arm is calibrated, driven, broken and mended without a keyboard."""

import asyncio
import logging

import numpy as np
import pytest

from kit.envs.so101 import HOME, JOINTS
from kit.live.scene import Scene
from kit.live.style import Throttle
from kit.sim2real import calibration as cal
from kit.sim2real import client as line
from kit.sim2real import panel as module
from kit.sim2real.bus import Lockstep, Realtime, virtual_arm
from kit.sim2real.faults import NAMES
from kit.sim2real.panel import FAULTS, CalibrationPanel, DrivePanel, arm_scene, lead, posed, show_stops, table
from kit.sim2real.servo import Firmware
from kit.sim2real.so101 import SO101, Config
from kit.sim2real.units import KEYS, to_radians, to_values

QUICK = Config(line=line.Config(timeout=0.004))


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def fresh(tmp_path, seed=4):
    """(robot, bus) of a unit as it is bought, connected to be calibrated."""
    bus = virtual_arm(clock=Lockstep(), seed=seed, scene="so101")
    robot = SO101(bus, QUICK, calibration=tmp_path / "arm.json")
    robot.connect(calibrate=False)
    return robot, bus


def driven(start=HOME, **options):
    bus = virtual_arm(calibrated=True, clock=Lockstep())
    bus.arm.place(start)
    robot = SO101(bus, QUICK, calibration=bus.arm.calibration)
    robot.connect()
    panel = DrivePanel(robot, **options)
    panel._tables = Throttle(float("inf"))  # shows what every tick did, however quick the computer is
    return panel, robot, bus


def let_hand_finish(panel):
    for _ in range(2000):
        panel.tick()
        if not panel.busy:
            return
    pytest.fail("the hand goes on for ever")


# ---- the hand ---------------------------------------------------------------------------------------------------


def test_the_hand_goes_to_both_stops_of_one_joint_and_leads_in_small_steps():
    stops = np.tile([-1.0, 2.0], (6, 1))
    for number in range(6):
        poses = np.array(list(show_stops(number, stops)))
        others = np.delete(poses, number, axis=1)
        assert (others == others[0]).all() and poses[:, number].min() == -1.4 and poses[:, number].max() == 2.4
    assert next(show_stops(2, stops))[1] < -1.745  # for the elbow the shoulder leans fully back
    path = np.array(list(lead(np.zeros(6), np.ones(6))))
    assert path[-1].tolist() == [1.0] * 6 and np.abs(np.diff(path, axis=0)).max() <= 0.126


# ---- calibration ------------------------------------------------------------------------------------------------


def test_a_fresh_arm_is_calibrated_by_buttons(tmp_path):
    robot, bus = fresh(tmp_path)
    panel = CalibrationPanel(robot, tmp_path / "arm.json")
    assert "1 of 2" in panel.prompt.value and "middle of its range" in panel.prompt.value
    panel.to_middle()
    let_hand_finish(panel)
    panel.confirm()
    assert "2 of 2" in panel.prompt.value
    panel.confirm()
    assert "from stop to stop first" in panel.message.value and panel.calibration is None
    for number in (0, 1, 2, 3, 5):
        panel.joint.index = number
        panel.show(number)
        let_hand_finish(panel)
    panel.confirm()
    assert "finished" in panel.prompt.value and "Stored in the servos" in panel.message.value
    assert panel.ranges.value.count("✓") == 5 and "not needed" in panel.ranges.value
    assert cal.load(tmp_path / "arm.json") == panel.calibration
    robot.disconnect()
    robot.connect()
    bus.arm.guide(None)
    seen = to_radians(robot.get_observation())
    middle = np.delete(np.abs(seen - bus.arm.angles), 4)  # the wrist roll's zero is where it was shown
    assert middle.max() < 0.03  # the hand's middle, and stops that give way a little


def test_sliders_are_the_hand_and_a_confirm_in_the_wrong_place_is_said(tmp_path):
    robot, bus = fresh(tmp_path)
    panel = CalibrationPanel(robot)
    for _ in range(60):
        panel.tick()
    before = bus.arm.angles[0]
    panel.sliders[0].value = 0.5
    for _ in range(40):
        panel.tick()
    assert bus.arm.angles[0] == pytest.approx(0.5 * 1.91986, abs=0.1) and abs(before) < 0.1
    panel.confirm()
    panel.restart()
    assert "1 of 2" in panel.prompt.value and not any(servo.torque for servo in bus.arm.servos)
    bus.faults.silence(3)
    panel.tick()
    assert "servo 3 (elbow_flex) does not answer" in panel.message.value
    panel.confirm()
    assert panel.session.state.stage == "middle"


def test_a_metal_arm_has_no_hand(tmp_path):
    bus = virtual_arm(clock=Lockstep())

    class Port:
        """A port that does not show the bus behind it, like a cable."""

        def __init__(self):
            from kit.sim2real.serve import VirtualPort

            self._port = VirtualPort(bus)

        def __getattr__(self, name):
            if name in ("bus", "arm"):
                raise AttributeError(name)
            return getattr(self._port, name)

    robot = SO101(Port(), QUICK, calibration=tmp_path / "arm.json")
    robot.connect(calibrate=False)
    panel = CalibrationPanel(robot)
    assert not hasattr(panel, "sliders") and not panel.busy
    panel.tick()
    assert panel.session.state.encoder == tuple(round(e) % 4096 for e in bus.arm.encoders())
    robot.disconnect()


# ---- driving ----------------------------------------------------------------------------------------------------


def test_the_arm_follows_the_sliders_which_begin_where_it_is():
    panel, robot, bus = driven()
    assert panel.sliders["shoulder_lift.pos"].value == pytest.approx(np.degrees(HOME[1]), abs=0.2)
    start = bus.arm.angles.copy()
    for _ in range(20):
        panel.tick()
    assert np.abs(bus.arm.angles - start).max() < 0.06  # it sags a little and stays
    panel.sliders["shoulder_pan.pos"].value = 40.0
    panel.sliders["gripper.pos"].value = 70.0
    for _ in range(60):
        panel.tick()
    assert np.degrees(bus.arm.angles[0]) == pytest.approx(40, abs=1.5)
    assert to_values(bus.arm.angles)["gripper.pos"] == pytest.approx(70, abs=3)
    assert "● ready" in panel.status.value and "the safety layer changed actions: speed" in panel.status.value
    assert "shoulder_pan" in panel.positions.value and robot.status == "ready"


def test_limits_of_the_sliders_are_the_robots():
    panel, robot, _ = driven()
    low, high = robot.limits.range
    for k, key in enumerate(KEYS[:5]):
        assert panel.sliders[key].min == pytest.approx(np.degrees(low[k]))
        assert panel.sliders[key].max == pytest.approx(np.degrees(high[k]))


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_button_is_survived_and_mended(fault):
    panel, robot, bus = driven()
    panel.sliders["shoulder_pan.pos"].value = 60.0  # so that a stuck encoder shows
    for _ in range(5):
        panel.tick()
    panel.fault.value = fault
    panel.inject()
    for _ in range(45):
        panel.tick()
    mild = FAULTS[fault][0] in ("firmware", "late") or FAULTS[fault] == ("drop", (0.1,))
    assert robot.status == "halted" or mild
    if robot.status == "halted":
        assert "■ halted: " in panel.status.value
        panel.reconnect()  # not mended yet, or forgiven
        panel.tick()
    bus.faults.heal()
    panel.tick()
    panel.reconnect()
    for _ in range(45):
        panel.tick()
    assert robot.status == "ready" and "● ready" in panel.status.value
    assert max(abs(panel.sliders[key].value - value) for key, value in robot.get_observation().items()) < 8


def test_all_nine_faults_have_a_button():
    assert {name for name, _ in FAULTS.values()} == set(NAMES)


def test_a_brown_out_lets_the_arm_fall_while_the_panel_waits():
    bus = virtual_arm(calibrated=True, clock=Lockstep(), firmware=Firmware(goal_enables_torque=False))
    bus.arm.place(np.array([0, -0.3, 0.3, 0.3, 0, 0.0]))
    robot = SO101(bus, QUICK, calibration=bus.arm.calibration)
    robot.connect()
    panel = DrivePanel(robot)
    for _ in range(3):
        panel.tick()
    bus.faults.brown_out()
    for _ in range(60):
        panel.tick()
    assert robot.status == "halted" and bus.arm.angles[1] > -0.1  # it fell, though no command came


def test_rest_folds_and_lets_go():
    panel, robot, bus = driven()
    panel.tick()
    panel.rest()
    assert "resting" in panel.status.value
    for _ in range(200):
        panel.tick()
    assert robot.status == "released" and not any(servo.torque for servo in bus.arm.servos)
    panel.rest()  # does nothing
    panel.reconnect()
    assert robot.status == "ready"


def test_scenes_show_the_arm_and_a_ghost_where_the_encoders_say_something_else():
    panel, robot, bus = driven()
    panel = DrivePanel(robot, arm_scene(robot, height=200))
    panel.tick()
    ghost = ("what the encoders say", bus.arm.model.body("gripper").id)
    assert ghost not in panel.scene.posed
    body = bus.arm.model.body("gripper").id
    np.testing.assert_allclose(panel.scene.poses[panel.scene.row[None, body]][:3], bus.arm.data.xpos[body], atol=1e-6)
    bus.faults.stuck_encoder(1)
    panel.sliders["shoulder_pan.pos"].value = 60.0
    for _ in range(12):
        panel.tick()
    assert ghost in panel.scene.posed
    metal = SO101("/dev/nothing")
    assert isinstance(arm_scene(metal), Scene)
    pose = posed(bus.arm.model, HOME)
    assert [pose.joint(name).qpos[0] for name in JOINTS] == HOME.tolist()


def test_it_ticks_in_the_event_loop_until_stopped(monkeypatch):
    monkeypatch.setenv("KIT_FAST", "0")
    panel, _, bus = driven()

    async def play():
        panel.start()
        while bus.clock.time < 0.2:
            await asyncio.sleep(0.01)
        panel.stop()
        await asyncio.sleep(0)
        return bus.clock.time

    stopped = asyncio.run(asyncio.wait_for(play(), 30))
    assert bus.clock.time == stopped
    monkeypatch.setenv("KIT_FAST", "1")
    panel.start()
    assert bus.clock.time == pytest.approx(stopped + module.FAST_TICKS / 30)


def test_an_error_of_the_panel_itself_is_printed(monkeypatch, capsys):
    monkeypatch.setenv("KIT_FAST", "0")
    panel, _, _ = driven()
    monkeypatch.setattr(panel, "tick", lambda: 1 / 0)

    async def play():
        panel.start()
        await asyncio.sleep(0.05)

    asyncio.run(play())
    assert "the panel stopped: ZeroDivisionError" in capsys.readouterr().out


def test_in_real_time_nothing_is_pushed_on():
    now = [0.0]
    bus = virtual_arm(calibrated=True, clock=Realtime(now=lambda: now[0]))
    robot = SO101(bus, Config(watchdog=False), calibration=bus.arm.calibration, now=lambda: now[0])
    robot.connect()
    panel = DrivePanel(robot)
    time = bus.arm.time
    panel.pass_time(1.0)
    assert bus.arm.time == time
    now[0] += 1 / 30
    panel.tick()
    assert bus.arm.time == pytest.approx(time + 1 / 30, abs=0.004)


def test_tables_are_plain_html():
    text = table(["joint", "<now>"], [["a", "1"]])
    assert "&lt;now&gt;" in text and text.count("<tr>") == 2
