"""Each of the nine faults, as it shows on the wire."""

import numpy as np
import pytest

from kit.sim2real.bus import Lockstep, Realtime, virtual_arm
from kit.sim2real.faults import NAMES, Faults, collide
from kit.sim2real.motor import Gap
from kit.sim2real.protocol import BROADCAST, Error, Instruction, build, decode, encode, parse

SIX = bytes(range(1, 7))
PING_ALL = build(BROADCAST, Instruction.PING)


def bus_of(**options):
    return virtual_arm(calibrated=True, clock=Lockstep(), **options)


def read(bus, id, address, count=2):
    """The packets that answer a READ."""
    return parse(bus.exchange(build(id, Instruction.READ, bytes([address, count]))))[0]


def write(bus, id, address, *data):
    return bus.exchange(build(id, Instruction.WRITE, bytes([address, *data])))


def control(bus, ticks):
    """A SYNC_WRITE of goals, which lets a control period pass."""
    params = b"".join(bytes([i]) + encode("Goal_Position", int(t)) for i, t in zip(SIX, ticks, strict=True))
    bus.feed(build(BROADCAST, Instruction.SYNC_WRITE, bytes([42, 2]) + params))


def here(bus):
    return [servo.get("Present_Position") for servo in bus.arm.servos]


def test_drop_loses_requests_and_replies():
    bus = bus_of()
    bus.faults.drop(0.1)
    for _ in range(500):
        write(bus, 1, 41, 7)
    answered = sum(bool(write(bus, 1, 41, 7)) for _ in range(1000))
    assert answered == pytest.approx(1000 * 0.9**2, abs=40)
    kinds = [e.kind for e in bus.trace]
    assert 100 < kinds.count("lost") < 500
    bus.faults.drop(1.0)
    write(bus, 1, 41, 9)
    bus.faults.heal()
    assert read(bus, 1, 41, 1)[0].params == b"\x07"  # the lost write was not obeyed


def test_packet_loss_of_the_gap_is_there_from_the_start():
    bus = bus_of(gap=Gap(packet_loss=0.5))
    answered = sum(bool(bus.exchange(build(1, Instruction.PING))) for _ in range(400))
    assert answered == pytest.approx(100, abs=30)


def test_corrupt_spoils_the_checksum():
    bus = bus_of()
    bus.faults.corrupt(1.0)
    for _ in range(50):
        reply = bus.exchange(build(1, Instruction.READ, bytes([56, 2])))
        assert len(reply) == 8 and reply[:4] == bytes([255, 255, 1, 4])
        assert parse(reply)[0] == []
    assert bus.trace[-1].kind == "corrupt"


def test_silence_is_a_missing_answer_in_a_sync_read():
    bus = bus_of()
    bus.faults.silence(3)
    assert bus.exchange(build(3, Instruction.PING)) == b""
    found = parse(bus.exchange(build(BROADCAST, Instruction.SYNC_READ, bytes([56, 2]) + SIX)))[0]
    assert [p.id for p in found] == [1, 2, 4, 5, 6]
    write(bus, 3, 41, 9)
    bus.faults.heal()
    assert read(bus, 3, 41, 1)[0].params == b"\x00"  # it did not hear either


def test_a_duplicate_id_looks_healthy_to_a_ping_and_garbles_reads():
    bus = bus_of()
    control(bus, here(bus))
    bus.faults.duplicate_id(3, 2)
    assert bus.exchange(build(2, Instruction.PING)) == build(2, 0)
    assert bus.exchange(build(3, Instruction.PING)) == b""
    reply = bus.exchange(build(2, Instruction.READ, bytes([56, 15])))
    assert len(reply) == 21 and parse(reply)[0] == []
    write(bus, 2, 41, 8)  # both obey
    bus.faults.heal()
    assert [read(bus, i, 41, 1)[0].params for i in (2, 3)] == [b"\x08"] * 2


def test_collide():
    assert collide([b"\xf0\x0f", b"\x3c\x3c\x01"]) == b"\x30\x0c\x01"


def test_brown_out_forgets_the_ram_and_drops_the_arm():
    bus = bus_of()
    bus.arm.place(np.zeros(6))
    for id in SIX:
        write(bus, id, 21, 16)
        write(bus, id, 40, 1)
    control(bus, here(bus))
    bus.faults.brown_out(2, 3)
    state = [(read(bus, i, 21, 1)[0].params[0], read(bus, i, 40, 1)[0].params[0]) for i in SIX]
    assert state == [(16, 1), (32, 0), (32, 0), (16, 1), (16, 1), (16, 1)]
    before = here(bus)
    bus.advance(0.5)
    assert here(bus)[1] - before[1] > 200  # shoulder lift: down
    bus.faults.brown_out()
    assert [read(bus, i, 40, 1)[0].params[0] for i in SIX] == [0] * 6


def test_overload_shows_in_err_and_weakens_the_servo():
    bus = bus_of()
    bus.arm.place(np.zeros(6))
    for id in SIX:
        write(bus, id, 40, 1)
    control(bus, here(bus))
    bus.faults.overload(4)
    assert bus.exchange(build(4, Instruction.PING)) == build(4, Error.OVERLOAD)
    assert read(bus, 4, 65, 1)[0].params == bytes([Error.OVERLOAD])
    assert bus.exchange(build(5, Instruction.PING)) == build(5, 0)
    goals = here(bus)
    goals[3] += 900
    control(bus, goals)
    for _ in range(3):
        control(bus, goals)
    assert decode("Present_Load", read(bus, 4, 60)[0].params) == 194  # 20 % of 0.97
    bus.faults.heal()
    control(bus, goals)
    assert bus.exchange(build(4, Instruction.PING)) == build(4, 0)
    assert decode("Present_Load", read(bus, 4, 60)[0].params) > 500


def test_a_stuck_encoder_stands_still_while_the_arm_moves():
    bus = bus_of()
    bus.arm.place(np.zeros(6))
    for id in SIX:
        write(bus, id, 40, 1)
    start = here(bus)
    bus.faults.stuck_encoder(1)
    goals = list(start)
    goals[0] += 60
    for _ in range(30):
        control(bus, goals)
    assert here(bus)[0] == start[0] and bus.arm.angles[0] > 0.3  # it runs away: the error never shrinks
    assert decode("Present_Load", read(bus, 1, 60)[0].params) > 100
    bus.faults.heal()
    control(bus, goals)
    assert here(bus)[0] - start[0] > 150


def test_a_firmware_mismatch_is_seen_at_connect():
    bus = bus_of()
    bus.faults.firmware(5, 3, 9)
    versions = [tuple(read(bus, i, 0, 2)[0].params) for i in SIX]
    assert versions == [(3, 10)] * 4 + [(3, 9), (3, 10)]
    bus.faults.heal()
    assert tuple(read(bus, 5, 0, 2)[0].params) == (3, 10)


def test_a_late_reply_comes_before_the_next_answer():
    """With wall time that a test sets; tests/sim2real/test_serve.py does it to Feetech's SDK."""
    now = [0.0]
    bus = virtual_arm(clock=Realtime(lambda: now[0]))
    bus.faults.late(0.05, count=1, servo=1)
    assert bus.exchange(build(2, Instruction.PING)) == build(2, 0)  # not that servo
    assert bus.exchange(build(1, Instruction.READ, bytes([56, 2]))) == b""
    now[0] += 0.049
    assert bus.take() == b""
    now[0] += 0.002
    stale = parse(bus.exchange(build(1, Instruction.READ, bytes([62, 1]))))[0]
    assert [len(p.params) for p in stale] == [2, 1]  # the position, and only then the voltage
    assert bus.exchange(build(1, Instruction.PING)) == build(1, 0)


def test_late_in_lockstep_is_counted_in_control_periods():
    bus = bus_of()
    bus.faults.late(0.05)
    assert bus.exchange(build(1, Instruction.PING)) == b""
    control(bus, here(bus))
    assert bus.take() == b""
    control(bus, here(bus))
    assert bus.take() == build(1, 0)


def test_all_nine_are_there_and_bad_orders_are_refused():
    assert len(NAMES) == 9 and all(callable(getattr(Faults, name)) for name in NAMES)
    faults = bus_of().faults
    with pytest.raises(ValueError, match=r"the chance of drop is 1\.5; it must lie in 0\.\.1"):
        faults.drop(1.5)
    with pytest.raises(ValueError, match="there is no servo 7; they are 1 to 6"):
        faults.silence(7)
    with pytest.raises(ValueError, match="neither may be negative"):
        faults.late(-1.0)
    assert not faults.silent and faults.drop_chance == 0 and faults.late_left == 0
