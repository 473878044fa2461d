"""The bus: who answers in which order and when, lockstep determinism, and bytes that no client should send."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.sim2real.arm_physics import ArmPhysics
from kit.sim2real.bus import Bus, Lockstep, Realtime, Wire, virtual_arm
from kit.sim2real.motor import Gap
from kit.sim2real.protocol import BROADCAST, Instruction, Packet, build, decode, encode, parse

SIX = bytes(range(1, 7))
PING_ALL = build(BROADCAST, Instruction.PING)
POSITIONS = build(BROADCAST, Instruction.SYNC_READ, bytes([56, 2]) + SIX)


class Watch:
    """A wall clock that a test sets."""

    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time


def goals(ticks):
    params = b"".join(bytes([i]) + encode("Goal_Position", int(t)) for i, t in zip(SIX, ticks, strict=True))
    return build(BROADCAST, Instruction.SYNC_WRITE, bytes([42, 2]) + params)


def positions(bus):
    found, rest, skipped = parse(bus.exchange(POSITIONS))
    assert (rest, skipped) == (b"", 0)
    return {p.id: decode("Present_Position", p.params) for p in found}


def write(bus, id, address, *data):
    return bus.exchange(build(id, Instruction.WRITE, bytes([address, *data])))


# ---- answers ------------------------------------------------------------------------------------------------------


def test_everyone_answers_a_broadcast_ping_in_order_of_ids():
    bus = virtual_arm(clock=Lockstep())
    write(bus, 6, 5, 10)
    write(bus, 1, 5, 20)
    assert bus.exchange(PING_ALL) == b"".join(build(i, 0) for i in (2, 3, 4, 5, 10, 20))


def test_sync_read_answers_in_the_order_of_its_list():
    bus = virtual_arm(clock=Lockstep())
    reply = bus.exchange(build(BROADCAST, Instruction.SYNC_READ, bytes([5, 1, 4, 2, 9, 6])))
    assert reply == b"".join(build(i, 0, bytes([i])) for i in (4, 2, 6))  # nobody is 9


def test_requests_in_pieces_and_several_at_once():
    bus = virtual_arm(clock=Lockstep())
    stream = build(1, Instruction.PING) + b"\x00\xff" + build(3, Instruction.PING) + build(9, Instruction.PING)
    replies = b"".join(bus.exchange(stream[k : k + 1]) for k in range(len(stream)))
    assert replies == build(1, 0) + build(3, 0) and bus.requests == 3


def test_trace_shows_what_was_on_the_wire():
    bus = virtual_arm(clock=Lockstep())
    bus.exchange(build(2, Instruction.PING))
    assert [(e.kind, e.data) for e in bus.trace] == [
        ("request", build(2, Instruction.PING)),
        ("reply", build(2, 0)),
    ]


# ---- clocks -------------------------------------------------------------------------------------------------------


def test_lockstep_moves_one_period_for_each_sync_write_of_goals():
    bus = virtual_arm(clock=Lockstep())
    start = bus.arm.time
    positions(bus)
    write(bus, 1, 42, 0, 8)
    bus.feed(build(BROADCAST, Instruction.SYNC_WRITE, bytes([41, 1, 1, 254])))
    assert bus.arm.time == start
    bus.feed(goals([2048] * 6))
    assert bus.arm.time - start == pytest.approx(1 / 30)
    bus.feed(build(BROADCAST, Instruction.SYNC_WRITE, bytes([41, 7, 1, 254, 0, 8, 0, 0, 0, 0])))  # a longer block
    assert bus.arm.time - start == pytest.approx(2 / 30)
    leader = virtual_arm("leader", clock=Lockstep(on="read"))
    positions(leader)
    assert leader.arm.time == pytest.approx(1 / 30)


def conversation(gap=None, **faults):
    """Every byte that comes back while a seeded client moves the arm about."""
    bus = virtual_arm(seed=4, gap=gap, clock=Lockstep())
    for name, chance in faults.items():
        getattr(bus.faults, name)(chance)
    rng, heard = np.random.default_rng(1), b""
    for _ in range(30):
        heard += bus.exchange(POSITIONS) + bus.exchange(build(3, Instruction.READ, bytes([56, 15])))
        heard += bus.exchange(goals(rng.integers(1500, 2500, 6)))
    return heard


def test_lockstep_is_deterministic():
    assert conversation() == conversation()
    gap = Gap(action_delay=0.03, jitter=0.01, observation_delay=0.005, packet_loss=0.05, backlash=0.5)
    first = conversation(gap, corrupt=0.1)
    assert first == conversation(gap, corrupt=0.1) != conversation()


def test_realtime_follows_the_wall_clock():
    now = Watch()
    bus = virtual_arm(clock=Realtime(now))
    start = bus.arm.time
    now.time += 0.1
    positions(bus)
    assert bus.arm.time - start == pytest.approx(0.1, abs=1 / 300)
    now.time += 0.05
    bus.idle()
    assert bus.arm.time - start == pytest.approx(0.15, abs=1 / 300)
    now.time += 60
    positions(bus)
    assert bus.arm.time - start == pytest.approx(1.15, abs=1 / 300)  # a long pause is cut


def test_power_cycle_keeps_the_eeprom_only():
    bus = virtual_arm(clock=Lockstep())
    write(bus, 2, 55, 0)
    write(bus, 2, 21, 16)
    write(bus, 2, 41, 99)
    bus.faults.brown_out()
    found = parse(bus.exchange(build(2, Instruction.READ, bytes([21, 21]))))[0][0].params
    assert (found[0], found[41 - 21]) == (16, 0)


# ---- the wire -----------------------------------------------------------------------------------------------------


def test_six_positions_take_14_and_48_bytes():
    now = Watch()
    bus = virtual_arm(clock=Realtime(now), wire=Wire(usb=(0.0, 0.0), hiccup=0.0))
    for id in SIX:
        write(bus, id, 7, 0)  # Return_Delay_Time, as LeRobot does
    now.time += 1
    bus.take()
    bus.feed(POSITIONS)
    assert bus.next_due() - now.time == pytest.approx(0.62e-3)
    now.time += 0.6e-3
    assert bus.take() == b""
    now.time += 0.1e-3
    assert len(bus.take()) == 48 and bus.next_due() is None


def test_return_delay_counts():
    now = Watch()
    bus = virtual_arm(clock=Realtime(now), wire=Wire(usb=(0.0, 0.0), hiccup=0.0))
    bus.feed(build(1, Instruction.PING))
    assert bus.next_due() - now.time == pytest.approx(12e-5 + 500e-6)


def test_the_usual_wire_never_outlasts_the_vendors_timeout():
    now = Watch()
    bus = virtual_arm(clock=Realtime(now, limit=0.0), wire=Wire())
    taken = []
    for _ in range(2000):
        bus.feed(POSITIONS)
        taken.append(max(due for due, _, _ in bus._out) - now.time)
        now.time += 0.1
        bus.take()
    assert 0.002 < np.median(taken) < 0.009 and max(taken) < 0.026  # scservo_sdk gives up after 34 ms
    assert np.mean(np.array(taken) > 0.015) == pytest.approx(0.01, abs=0.007)


def test_a_wire_needs_wall_time():
    with pytest.raises(ValueError, match=r"Lockstep clock does not have; choose wire=None"):
        virtual_arm(clock=Lockstep(), wire=Wire())
    with pytest.raises(ValueError, match="on is 'ping'; it must be write or read"):
        Lockstep(on="ping")


# ---- bytes that no client should send -----------------------------------------------------------------------------


def alive(bus):
    """After silence, servos that got their IDs back answer as they should."""
    bus.idle()
    for id, servo in enumerate(bus.arm.servos, 1):
        servo.set("ID", id)
    return [p.id for p in parse(bus.exchange(PING_ALL))[0]] == [*SIX]


def make_packet(rng):
    """A request that may mean something: any instruction, ID, address and data."""
    code = int(rng.choice([*Instruction, 0x77]))
    id = int(rng.choice([1, 2, 3, 4, 5, 6, BROADCAST]))
    return build(
        id, code, bytes([int(rng.integers(0, 128)), int(rng.integers(0, 16))]) + rng.bytes(rng.integers(0, 20))
    )


def mutate(rng, data):
    """Flip, cut or double some of it."""
    data, kind = bytearray(data), rng.integers(0, 4)
    at = int(rng.integers(0, len(data)))
    if kind == 0:
        data[at] ^= int(rng.integers(1, 256))
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at:at] = data[:at]
    return bytes(data)


def test_a_hundred_thousand_packets_neither_crash_nor_wedge_the_bus():
    rng, now = np.random.default_rng(0), Watch()
    bus = Bus(ArmPhysics(), clock=Realtime(now))
    pool = [make_packet(rng) for _ in range(2000)]
    pool += [mutate(rng, p) for p in pool] + [rng.bytes(int(n)) for n in rng.integers(1, 60, 1000)]
    for batch in range(1000):
        chosen = rng.integers(0, len(pool), 100)
        bus.feed(b"".join(pool[k] for k in chosen))
        bus.take()
        now.time += 0.01
        assert alive(bus), batch
    assert bus.requests > 50_000
    bus.faults.brown_out()
    bus.advance(0.5)
    assert np.isfinite(bus.arm.data.qpos).all() and np.isfinite(bus.arm.data.qvel).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=80), max_size=5))
def test_any_bytes_leave_the_bus_answering(pieces):
    bus = Bus(ARM, clock=Realtime(Watch()))
    for piece in pieces:
        bus.feed(piece)
        bus.take()
    assert alive(bus)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(
        st.builds(
            Packet, st.sampled_from([*SIX, BROADCAST]), st.sampled_from(list(Instruction)), st.binary(max_size=24)
        )
    )
)
def test_any_valid_packets_leave_the_bus_answering(requests):
    bus = Bus(ARM, clock=Realtime(Watch()))
    for request in requests:
        bus.feed(build(*request))
        bus.take()
    bus.advance(1 / 300)
    assert alive(bus)


ARM = ArmPhysics()  # for the two above, which leave it as they please
