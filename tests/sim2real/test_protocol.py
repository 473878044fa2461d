"""Packets against golden bytes of the vendor's protocol; the parser against garbage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.sim2real import protocol
from kit.sim2real.protocol import BROADCAST, Instruction, Packet, Parser, build, decode, encode, parse

SIX = bytes(range(1, 7))
GOALS = b"".join(bytes([i, 0x00, 0x08]) for i in SIX)
GOLDEN = [
    (Packet(1, Instruction.PING), "ff ff 01 02 01 fb"),
    (Packet(1, Instruction.READ, bytes([56, 2])), "ff ff 01 04 02 38 02 be"),
    (Packet(1, 0, encode("Present_Position", 2048)), "ff ff 01 04 00 00 08 f2"),
    (Packet(1, Instruction.WRITE, bytes([42]) + encode("Goal_Position", 2048)), "ff ff 01 05 03 2a 00 08 c4"),
    (Packet(BROADCAST, Instruction.SYNC_READ, bytes([56, 2]) + SIX), "ff ff fe 0a 82 38 02 01 02 03 04 05 06 26"),
    (
        Packet(BROADCAST, Instruction.SYNC_WRITE, bytes([42, 2]) + GOALS),
        "ff ff fe 16 83 2a 02 01 00 08 02 00 08 03 00 08 04 00 08 05 00 08 06 00 08 f7",
    ),
]
CALM = settings(max_examples=80, deadline=None, derandomize=True)  # no timing, and the same examples every time
packets = st.builds(Packet, st.integers(0, 254), st.integers(0, 255), st.binary(max_size=244))


@pytest.mark.parametrize(("packet", "text"), GOLDEN)
def test_golden_packets_both_ways(packet, text):
    assert build(*packet) == bytes.fromhex(text)
    assert parse(bytes.fromhex(text)) == ([packet], b"", 0)


def test_addresses_of_the_control_table():
    published = {
        "Model_Number": (3, 2),
        "ID": (5, 1),
        "Max_Torque_Limit": (16, 2),
        "P_Coefficient": (21, 1),
        "D_Coefficient": (22, 1),
        "I_Coefficient": (23, 1),
        "Homing_Offset": (31, 2),
        "Torque_Enable": (40, 1),
        "Goal_Position": (42, 2),
        "Torque_Limit": (48, 2),
        "Lock": (55, 1),
        "Present_Position": (56, 2),
        "Present_Load": (60, 2),
        "Present_Voltage": (62, 1),
        "Present_Current": (69, 2),
        "Maximum_Acceleration": (85, 1),
    }
    assert {name: protocol.TABLE[name][:2] for name in published} == published
    places = [a for r in protocol.TABLE.values() for a in range(r.address, r.address + r.size)]
    assert len(places) == len(set(places)) and max(places) < protocol.TABLE_SIZE


@pytest.mark.parametrize(
    ("name", "value", "raw"),
    [
        ("Homing_Offset", -100, 0x0864),
        ("Homing_Offset", 2047, 0x07FF),
        ("Homing_Offset", -2047, 0x0FFF),
        ("Present_Load", -1000, 0x07E8),
        ("Present_Velocity", -1, 0x8001),
        ("Goal_Position", 4095, 0x0FFF),
        ("Present_Voltage", 74, 74),
    ],
)
def test_numbers_are_sign_magnitude(name, value, raw):
    assert int.from_bytes(encode(name, value), "little") == raw
    assert decode(name, encode(name, value)) == value


def test_bad_numbers_name_the_limit():
    with pytest.raises(ValueError, match=r"2048 does not fit below sign bit 11; the limit is 2047"):
        encode("Homing_Offset", 2048)
    with pytest.raises(ValueError, match=r"Torque_Enable is 256; it must lie in 0\.\.255"):
        encode("Torque_Enable", 256)
    with pytest.raises(ValueError, match=r"unknown register 'Actual_Position'.*Present_Position"):
        encode("Actual_Position", 1)
    with pytest.raises(ValueError, match="Present_Position has 2 bytes, but 1 came"):
        decode("Present_Position", b"\x00")
    with pytest.raises(ValueError, match="ID 255 is outside"):
        build(255, Instruction.PING)
    with pytest.raises(ValueError, match="245 parameters are too many"):
        build(1, Instruction.WRITE, bytes(245))


# ---- the parser -------------------------------------------------------------------------------------------------


def test_a_packet_in_single_bytes_after_garbage():
    parser, found = Parser(), []
    for byte in b"\x00\xff\x12\xff\xff" + build(3, Instruction.READ, b"\x38\x02"):
        found += parser.feed(bytes([byte]))
    assert found == [Packet(3, Instruction.READ, b"\x38\x02")]
    assert parser.skipped == 5 and parser.rest == b""


def test_a_wrong_checksum_costs_only_its_own_packet():
    good = build(2, Instruction.PING)
    bad = good[:-1] + bytes([good[-1] ^ 1])
    assert parse(bad + good + bad + good) == ([Packet(2, Instruction.PING)] * 2, b"", 12)


def test_a_false_header_holds_back_at_most_a_packet_and_silence_ends_it():
    good = build(2, Instruction.PING)
    parser = Parser()
    parser.feed(b"\xff\xff\x01\xf6")  # announces 250 bytes that never come
    assert parser.feed(good * 3) == []
    found = parser.feed(good * 40)
    assert len(found) == 43 and parser.rest == b""
    parser.feed(b"\xff\xff\x01\xf6")
    parser.reset()
    assert parser.feed(good) == [Packet(2, Instruction.PING)]


def test_impossible_lengths_and_ids_are_no_packets():
    short = b"\xff\xff\x01\x01\xfd"  # its checksum is right
    for header in (short, b"\xff\xff\x01\x00", b"\xff\xff\x01\xf7", b"\xff\xff\xff\x02"):
        found, _, _ = parse(header + build(2, Instruction.PING))
        assert found == [Packet(2, Instruction.PING)], header


@CALM
@given(packets)
def test_build_and_parse_are_inverse(packet):
    assert parse(build(*packet)) == ([packet], b"", 0)


@CALM
@given(st.binary(max_size=600))
def test_no_stream_breaks_the_parser_and_every_byte_is_accounted_for(stream):
    found, rest, skipped = parse(stream)
    assert sum(len(build(*p)) for p in found) + len(rest) + skipped == len(stream)
    assert len(rest) < protocol.MAX_PACKET and stream.endswith(rest)


@CALM
@given(st.binary(max_size=300), packets)
def test_a_packet_after_garbage_and_a_pause_is_found(garbage, packet):
    pause = bytes(protocol.MAX_PACKET)
    assert parse(garbage + pause + build(*packet))[0][-1] == packet


@CALM
@given(st.lists(st.one_of(packets.map(lambda p: build(*p)), st.binary(max_size=40)), max_size=6), st.randoms())
def test_pieces_do_not_matter(parts, random):
    stream = b"".join(parts)
    cuts = sorted(random.sample(range(len(stream) + 1), min(5, len(stream))))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    parser = Parser()
    found = [p for piece in pieces for p in parser.feed(piece)]
    assert (found, parser.rest, parser.skipped) == parse(stream)


def test_seeded_streams_are_read_whatever_the_noise_between_packets():
    rng = np.random.default_rng(0)
    stream, sent = b"", 0
    for _ in range(500):
        noise = rng.integers(0, 255, rng.integers(0, 30), dtype=np.uint8).tobytes()  # without 255: no false header
        stream += noise + build(int(rng.integers(0, 254)), Instruction.READ, rng.bytes(2))
        sent += 1
    assert len(parse(stream)[0]) == sent
