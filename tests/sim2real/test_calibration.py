"""Calibration: LeRobot's arithmetic and file, the procedure, and a unit whose assembly offsets have to be found."""

import json

import numpy as np
import pytest

from kit.envs.so101 import JOINTS
from kit.sim2real import calibration as cal
from kit.sim2real.arm_physics import ArmPhysics, Config, write_calibration
from kit.sim2real.bus import Bus, Lockstep, virtual_arm
from kit.sim2real.calibration import Joint, Session, State, homing_offset, present, step
from kit.sim2real.client import ServoClient
from kit.sim2real.motor import TICKS
from kit.sim2real.servo import MIDDLE, TURN

PAN = Joint(1, 0, -100, 1000, 3001)
GOOD = {
    name: dict(id=k, drive_mode=0, homing_offset=k, range_min=900, range_max=3100) for k, name in enumerate(JOINTS, 1)
}
STRETCHED = np.array([0.0, -0.9, 0.3, -0.6, 0.0, 0.3])  # from here each joint but the elbow reaches both stops [rad]
UPRIGHT = np.array([0.0, -1.9, 0.3, -0.6, 0.0, 0.3])  # a folded elbow hits the shoulder unless that leans back


# ---- numbers ----------------------------------------------------------------------------------------------------


def test_units_are_lerobots():
    assert cal.to_units("shoulder_pan", 2048, PAN) == pytest.approx(47.5 * 360 / 4095)
    assert cal.to_units("gripper", 1000, PAN) == 0 and cal.to_units("gripper", 3500, PAN) == 100
    assert cal.to_units("gripper", 1500, PAN) == pytest.approx(100 * 500 / 2001)
    assert cal.to_ticks("shoulder_pan", 10.0, PAN) == 2114  # 2000.5 + 113.75, cut
    assert cal.to_ticks("gripper", 130.0, PAN) == 3001 and cal.to_ticks("gripper", -3.0, PAN) == 1000


def test_ticks_survive_the_way_to_units_and_back():
    for name in ("elbow_flex", "gripper"):
        for ticks in range(1000, 3002, 7):
            assert abs(cal.to_ticks(name, cal.to_units(name, ticks, PAN), PAN) - ticks) <= 1


def test_homing_makes_every_encoder_read_2047_within_a_tick():
    offsets = [homing_offset(e) for e in range(4096)]
    assert {p for e, o in enumerate(offsets) for p in present([e], [o])} == {2047, 2048}
    assert max(map(abs, offsets)) == 2047 and present([4095], [offsets[4095]]) == (2048,)


# ---- files ------------------------------------------------------------------------------------------------------


def test_the_file_is_lerobots(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path))
    path = cal.default_path("blue")
    assert path == tmp_path / "robots" / "so_follower" / "blue.json"
    assert cal.save(GOOD, path) == path
    assert json.loads(path.read_text()) == GOOD and list(json.loads(path.read_text())) == list(JOINTS)
    assert cal.load(path) == cal.parse(GOOD)
    assert [p.name for p in path.parent.iterdir()] == ["blue.json"]
    monkeypatch.delenv("HF_LEROBOT_CALIBRATION")
    monkeypatch.delenv("HF_LEROBOT_HOME", raising=False)
    monkeypatch.delenv("HF_HOME", raising=False)
    end = (".cache", "huggingface", "lerobot", "calibration", "robots", "so_follower", "blue.json")
    assert cal.default_path("blue").parts[-7:] == end


def test_bad_files_name_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no calibration at .*none.json; calibrate the arm"):
        cal.load(tmp_path / "none.json")
    for text, says in (
        ("[1]", "it holds no object"),
        ("{", "is no calibration"),
        ("{}", "this one has none"),
        (json.dumps({**GOOD, "gripper": {"id": 6}}), "calibration of gripper: .*missing"),
        (json.dumps({**GOOD, "gripper": {**GOOD["gripper"], "range_min": 3100}}), "range 3100 to 3100 must rise"),
        (json.dumps({**GOOD, "gripper": {**GOOD["gripper"], "homing_offset": 2048}}), "homing_offset is 2048"),
        (json.dumps({**GOOD, "gripper": {**GOOD["gripper"], "range_min": 1.5}}), "range_min is 1.5"),
        (json.dumps({**GOOD, "gripper": {**GOOD["gripper"], "id": 1}}), "two joints share an ID"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=says):
            cal.load(tmp_path / "bad.json")


# ---- the procedure ----------------------------------------------------------------------------------------------


def run(samples, middle):
    state = step(State(), middle, confirm=True)
    for sample in samples:
        state = step(state, sample)
    return state


def test_the_procedure_by_hand():
    state = step(State(), [2000] * 6)
    assert state.stage == "middle" and "middle of its range" in cal.prompt(state)
    state = step(state, [100, 2047, 4000, 0, 4095, 2100], confirm=True)
    assert state.stage == "range" and state.offsets == (-1947, 0, 1953, -2047, 2047, 53)
    assert cal.missing(state) == [name for name in JOINTS if name != "wrist_roll"]
    for turn in (-800, 0, 800, 1000):  # modulo a turn where the encoder passes its end
        state = step(state, [(e + turn) % 4096 for e in (100, 2047, 4000, 0, 4095, 2100)])
    assert cal.missing(state) == [] and "All have been far enough" in cal.prompt(state)
    done = step(state, state.encoder, confirm=True)
    found = cal.result(done)
    assert found["shoulder_pan"] == Joint(1, 0, -1947, 1247, 3047)
    assert found["wrist_roll"] == Joint(5, 0, 2047, 0, 4095)
    assert done == step(done, [0] * 6) and cal.prompt(done) == "Done."


def test_too_early_too_far_and_nonsense():
    middle = [2000] * 6
    with pytest.raises(ValueError, match=r"at stage 'middle': Move every joint to the middle"):
        cal.result(step(State(), middle))
    lazy = run([[1500, 2000, 1500, 1500, 2000, 1500], [2500, 2000, 2500, 2500, 2000, 2500]], middle)
    with pytest.raises(ValueError, match=r"move shoulder_lift from stop to stop first: less than 60 degrees"):
        step(lazy, middle, confirm=True)
    assert lazy.stage == "range"
    with pytest.raises(ValueError, match=r"elbow_flex went over the end of its turn \(3947 to 51 ticks\)"):
        run([[2000, 2000, 3900, 2000, 2000, 2000], [2000, 2000, 4, 2000, 2000, 2000]], middle)
    for bad in ([2000] * 5, [2000] * 5 + [4096], [-1] + [2000] * 5):
        with pytest.raises(ValueError, match=r"must be 6 values in 0\.\.4095"):
            step(State(), bad)


# ---- with an arm ------------------------------------------------------------------------------------------------


def lead(bus, session, *targets):
    """A hand takes the arm from pose to pose, not too fast; the session watches."""
    for target in targets:
        here = bus.arm.angles.copy()
        for share in (*np.linspace(0, 1, 9)[1:], 1.0):
            bus.arm.guide(here + share * (target - here))
            bus.advance(0.12)
            session.update()


def show_ranges(bus, session):
    """Each joint from stop to stop: gently, since a stop gives way a little to a joint that runs into it, and then with
    all the hand's strength, or gravity would keep the joint away from it."""
    stops = np.array([bus.arm.model.joint(name).range for name in JOINTS])
    for number in (0, 1, 2, 3, 5):
        start = UPRIGHT if number == 2 else STRETCHED
        lead(bus, session, start)
        for stop, way in zip(stops[number], (-1, 1), strict=True):
            for beyond in (-0.15, 0.1, 0.4):
                target = start.copy()
                target[number] = stop + way * beyond
                lead(bus, session, target)
            lead(bus, session, start)


def zero_errors(bus, session, middle):
    """How far each joint's zero is from where it was shown (6,) [ticks], modulo a turn."""
    found = np.array([joint.homing_offset + joint.middle for joint in session.calibration.values()])
    return (found - (MIDDLE + TICKS * middle + bus.arm.assembly) + TURN / 2) % TURN - TURN / 2


def new_unit(seed):
    """As a kit is bought: each encoder anywhere in its turn. With joint ranges (6, 2) and their middles [rad]."""
    bus = Bus(ArmPhysics(Config(scene="so101", spread=2048.0), seed=seed), clock=Lockstep())
    ranges = np.array([bus.arm.model.joint(name).range for name in JOINTS])
    return bus, ranges, ranges.mean(1) * (np.arange(6) != 4)  # the wrist roll's middle is where it is shown


def test_assembly_offsets_are_found_by_a_hand_and_poses_recovered_within_a_tick(tmp_path):
    bus, ranges, middle = new_unit(0)
    client = ServoClient(bus)
    session = Session(client, tmp_path / "arm.json")
    bus.arm.place(middle + np.array([0.1, -0.1, 0.1, 0.1, 0.0, 0.1]))  # a hand is not exact
    assert session.update().stage == "middle" and session.ranges == {}
    assert session.confirm().stage == "range"
    bus.arm.place(STRETCHED)
    show_ranges(bus, session)
    low, here, high = session.ranges["elbow_flex"]
    assert low < here < high
    assert session.confirm().stage == "done"
    assert np.abs(zero_errors(bus, session, middle)).max() <= 1.0
    assert cal.load(tmp_path / "arm.json") == session.calibration
    assert not cal.differences(session.calibration, cal.read_eeprom(client))
    for servo in bus.arm.servos:
        servo.power_on()  # only the EEPROM is left
    rng = np.random.default_rng(0)
    for _ in range(5):
        angles = rng.uniform(*ranges.T)
        bus.arm.place(angles)
        read = client.sync_read("Present_Position")
        seen = np.array([read[joint.id] - joint.middle for joint in session.calibration.values()])
        assert np.abs(seen - TICKS * (angles - middle)).max() <= 1.0 + 0.5  # and half a tick of rounding


def test_assembly_offsets_of_many_units_are_found_within_a_tick():
    """The joints are put to their stops, so that only rounding is left."""
    for seed in range(15):
        bus, ranges, middle = new_unit(seed)
        session = Session(ServoClient(bus))
        bus.arm.place(middle)
        session.confirm()
        for share in (0.3, 0.1, 0.0, 0.3, 0.7, 0.9, 1.0):
            bus.arm.place(ranges[:, 0] + share * (ranges[:, 1] - ranges[:, 0]))
            session.update()
        assert session.confirm().stage == "done"
        assert np.abs(zero_errors(bus, session, middle)).max() <= 1.0, seed


def test_an_old_calibration_is_seen_through_and_stays_until_the_end():
    """Servos with offsets give the same encoders; a session that is dropped changes nothing but the torque."""
    bus = virtual_arm(seed=3, clock=Lockstep(), calibrated=True)
    client = ServoClient(bus)
    before = cal.read_eeprom(client)
    session = Session(client)
    session.update()
    assert session.state.encoder == tuple(round(e) % 4096 for e in bus.arm.encoders())
    session.confirm()
    with pytest.raises(ValueError, match="from stop to stop first"):
        session.confirm()
    assert session.state.stage == "range" and session.calibration is None
    assert cal.read_eeprom(client) == before == {n: dict(v) for n, v in bus.arm.calibration.items()}
    assert set(client.sync_read("Torque_Enable").values()) == {0}


def test_eeprom_round_trip_and_differences():
    bus = virtual_arm(clock=Lockstep())
    client = ServoClient(bus)
    wanted = cal.parse(write_calibration(ArmPhysics(seed=9)))
    found = cal.differences(wanted, cal.read_eeprom(client))
    assert len(found) == 16 and found[0].startswith("shoulder_pan.homing_offset is 0 in the servo and ")
    cal.write_eeprom(client, wanted)
    bus.faults.brown_out()
    assert cal.parse(cal.read_eeprom(client)) == wanted and set(client.sync_read("Lock").values()) == {1}
