"""Feetech's own SDK, unmodified, against the virtual arm: over a pseudo-terminal, and in this process."""

import os
import select
import sys
import threading
import time

import pytest
import scservo_sdk as scs
import serial

from kit.sim2real import serve
from kit.sim2real.bus import Lockstep, Realtime, virtual_arm
from kit.sim2real.protocol import TABLE, Error, Instruction, build
from kit.sim2real.serve import PtyServer, VirtualPort, port_handler

SIX = range(1, 7)
needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


class Client:
    """The SDK, with LeRobot's way of asking: names instead of addresses, and an exception for whatever goes wrong.

    The SDK gives up after twice its latency timer and 2 ms. A busy machine may take longer, and no test shall depend on
    that: the timer is long, but for what is meant to time out.
    """

    def __init__(self, handler):
        self.port, self.sdk = handler, scs.PacketHandler(0)
        assert self.port.openPort()

    def times_out(self, name, id):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scs.port_handler, "LATENCY_TIMER", 16)  # as it comes
            return self.sdk.readTxRx(self.port, id, *TABLE[name][:2])[1] == scs.COMM_RX_TIMEOUT

    def check(self, result, error):
        assert result == scs.COMM_SUCCESS, self.sdk.getTxRxResult(result)
        assert error == 0, self.sdk.getRxPacketError(error)

    def read(self, name, id):
        address, size = TABLE[name][:2]
        ask = self.sdk.read1ByteTxRx if size == 1 else self.sdk.read2ByteTxRx
        value, result, error = ask(self.port, id, address)
        self.check(result, error)
        return value

    def write(self, name, id, value):
        address, size = TABLE[name][:2]
        tell = self.sdk.write1ByteTxRx if size == 1 else self.sdk.write2ByteTxRx
        self.check(*tell(self.port, id, address, value))

    def ping(self, id):
        model, result, error = self.sdk.ping(self.port, id)
        self.check(result, error)
        return model

    def sync_read(self, name, ids=SIX):
        reader = scs.GroupSyncRead(self.port, self.sdk, *TABLE[name][:2])
        for id in ids:
            assert reader.addParam(id)
        self.check(reader.txRxPacket(), 0)
        return [reader.getData(id, *TABLE[name][:2]) for id in ids]

    def sync_write(self, name, values):
        writer = scs.GroupSyncWrite(self.port, self.sdk, *TABLE[name][:2])
        for id, value in zip(SIX, values, strict=True):
            assert writer.addParam(id, [scs.SCS_LOBYTE(value), scs.SCS_HIBYTE(value)][: TABLE[name].size])
        self.check(writer.txPacket(), 0)

    def close(self):
        self.port.closePort()


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    monkeypatch.setattr(scs.port_handler, "LATENCY_TIMER", 1000)


@pytest.fixture(params=[pytest.param("pty", marks=needs_pty), "in process"])
def arm(request):
    """(client, bus) on a realtime arm, over both kinds of port."""
    bus = virtual_arm(calibrated=True)
    if request.param == "pty":
        with PtyServer(bus, too_late=None) as server:
            client = Client(scs.PortHandler(server.port))
            yield client, bus
            client.close()
    else:
        client = Client(port_handler(bus))
        yield client, bus
        client.close()


# ---- Feetech's SDK ------------------------------------------------------------------------------------------------


def test_the_sdk_does_every_instruction(arm):
    client, _ = arm
    assert [client.ping(id) for id in SIX] == [777] * 6
    assert client.read("Present_Voltage", 1) == 74
    client.write("Goal_Velocity", 2, 500)
    assert client.read("Goal_Velocity", 2) == 500
    goal = client.read("Present_Position", 1) + 20
    sdk, port = client.sdk, client.port
    client.check(*sdk.regWriteTxRx(port, 1, 42, 2, [scs.SCS_LOBYTE(goal), scs.SCS_HIBYTE(goal)]))
    assert client.read("Goal_Position", 1) != goal
    assert sdk.action(port, scs.BROADCAST_ID) == scs.COMM_SUCCESS
    assert client.read("Goal_Position", 1) == goal
    assert sdk.action(port, 1) == scs.COMM_SUCCESS
    positions = client.sync_read("Present_Position")
    assert all(0 <= p <= 4095 for p in positions)
    client.sync_write("Goal_Position", positions)
    assert client.sync_read("Goal_Position") == positions
    assert client.sync_read("Torque_Enable") == [1] * 6


def test_a_missing_servo_is_a_timeout_and_an_error_bit_arrives(arm):
    client, bus = arm
    bus.faults.silence(3)
    assert client.times_out("Present_Position", 3)
    bus.faults.overload(2)
    assert client.sdk.read2ByteTxRx(client.port, 2, 56)[2] == Error.OVERLOAD
    assert client.read("Present_Voltage", 1) == 74


def test_broadcast_ping(arm):
    """LeRobot's own: write to all, then collect whatever comes."""
    client, _ = arm
    client.port.writePort(list(build(scs.BROADCAST_ID, Instruction.PING)))
    heard, end = b"", time.monotonic() + 5
    while len(heard) < 36 and time.monotonic() < end:
        heard += bytes(client.port.readPort(6 * 252))
    assert heard == b"".join(build(id, 0) for id in SIX)


def connect(client):
    """What LeRobot 0.6 sends when a follower connects: 117 packets. Returns the calibration that it reads."""
    assert [client.ping(id) for id in SIX] == [777] * 6
    versions = {(client.read("Firmware_Major_Version", id), client.read("Firmware_Minor_Version", id)) for id in SIX}
    assert len(versions) == 1
    names = ("Min_Position_Limit", "Max_Position_Limit", "Homing_Offset")
    calibration = [tuple(client.read(name, id) for name in names) for id in SIX]
    for id in SIX:
        client.write("Torque_Enable", id, 0)
        client.write("Lock", id, 0)
    for id in SIX:
        client.write("Return_Delay_Time", id, 0)
        client.write("Maximum_Acceleration", id, 254)
        client.write("Acceleration", id, 254)
        assert client.read("Phase", id) & 16 == 0
    for id in SIX:
        client.write("Operating_Mode", id, 0)
        client.write("P_Coefficient", id, 16)
        client.write("I_Coefficient", id, 0)
        client.write("D_Coefficient", id, 32)
    client.write("Max_Torque_Limit", 6, 500)
    client.write("Protection_Current", 6, 250)
    client.write("Overload_Torque", 6, 25)
    for id in SIX:
        client.write("Torque_Enable", id, 1)
        client.write("Lock", id, 1)
    return calibration


def test_lerobots_connect_loop_and_disconnect(arm):
    client, bus = arm
    calibration = connect(client)
    assert bus.requests == 117
    assert calibration[4][:2] == (0, 4095) and all(low < high for low, high, _ in calibration)
    start = client.sync_read("Present_Position")
    goals = list(start)
    goals[0] += 100
    for _ in range(12):
        client.sync_write("Goal_Position", goals)
        time.sleep(1 / 30)
        now = client.sync_read("Present_Position")
    assert 60 < now[0] - start[0] < 110
    settings = [client.sync_read(n) for n in ("P_Coefficient", "D_Coefficient", "Torque_Enable", "Return_Delay_Time")]
    assert settings == [[16] * 6, [32] * 6, [1] * 6, [0] * 6]
    for id in SIX:
        client.write("Torque_Enable", id, 0)
        client.write("Lock", id, 0)
    assert client.sync_read("Torque_Enable") == [0] * 6
    bus.faults.brown_out()
    assert [client.read("P_Coefficient", 1), client.read("Max_Torque_Limit", 6)] == [16, 500]  # Lock was 0


def test_a_late_reply_silently_becomes_the_answer_to_the_next_question(arm):
    """The SDK sends without emptying its input, so that from here on each answer is the one before."""
    client, bus = arm
    position, voltage = client.read("Present_Position", 1), client.read("Present_Voltage", 1)
    bus.faults.late(0.3, count=1, servo=1)
    assert client.times_out("Present_Position", 1)
    port = client.port.ser
    wait_for(lambda: port.in_waiting >= 8)  # the late reply, whole
    late = client.read("Present_Voltage", 1)  # no error anywhere
    wait_for(lambda: port.in_waiting >= 7)  # the answer about the voltage
    wrong = client.read("Present_Position", 1)
    assert (late, late != voltage) == (position & 0xFF, True)
    assert wrong == 45386 == voltage | (~(1 + 3 + voltage) & 0xFF) << 8  # voltage and its checksum
    wait_for(lambda: port.in_waiting >= 8)  # the answer about the position
    port.reset_input_buffer()
    assert client.read("Present_Voltage", 1) == voltage


# ---- the pseudo-terminal --------------------------------------------------------------------------------------------


@needs_pty
def test_two_arms_at_once(tmp_path):
    with (
        PtyServer(virtual_arm(seed=1), tmp_path / "ports" / "follower", too_late=None) as one,
        PtyServer(virtual_arm("leader", seed=2), too_late=None) as two,
    ):
        assert one.port != two.port
        assert os.path.realpath(tmp_path / "ports" / "follower") == one.port
        clients = [Client(scs.PortHandler(str(tmp_path / "ports" / "follower"))), Client(scs.PortHandler(two.port))]
        a, b = (client.sync_read("Present_Position") for client in clients)
        assert a != b  # their assembly offsets
        for client in clients:
            client.close()
    assert not (tmp_path / "ports" / "follower").exists()
    one.close()  # twice does no harm


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def hear(fd, ending, seconds=20):
    """All bytes until these come."""
    heard = b""
    while not heard.endswith(ending):
        assert select.select([fd], [], [], seconds)[0], heard
        heard += os.read(fd, 4096)
    return heard


@needs_pty
def test_garbage_a_broken_packet_and_a_client_that_does_not_read():
    bus = virtual_arm()
    with PtyServer(bus, too_late=None) as server, serial.Serial(server.port, 1_000_000) as port:
        port.write(b"\xff\xff\x01\xf6\x02" + build(1, Instruction.PING))  # announces 250 bytes
        wait_for(lambda: bus.parser.skipped == 11)  # until silence ends it
        port.write(build(1, Instruction.PING))
        assert hear(port.fd, build(1, 0)) == build(1, 0)
        for _ in range(40):
            port.write(build(1, Instruction.READ, bytes([0, 120])) * 20)  # 100 kB of answers that nobody takes
        wait_for(lambda: bus.requests == 801)
        port.write(build(2, Instruction.PING))
        assert len(hear(port.fd, build(2, 0))) < 100_000  # what did not fit is gone, and the bus lives


@needs_pty
def test_a_port_is_raw_before_anyone_opens_it():
    with PtyServer(virtual_arm(), too_late=None) as server:
        fd = os.open(server.port, os.O_RDWR | os.O_NOCTTY)
        os.write(fd, build(1, Instruction.PING) + build(2, Instruction.WRITE, b"\x29\x0a"))  # 10: a newline
        assert hear(fd, build(2, 0)) == build(1, 0) + build(2, 0)
        os.close(fd)


@needs_pty
def test_what_a_busy_computer_cannot_answer_in_time_is_lost_and_not_late():
    bus = virtual_arm()
    feed, bus.feed = bus.feed, lambda data: (time.sleep(0.05), feed(data))
    with PtyServer(bus) as server, serial.Serial(server.port, 1_000_000) as port:
        port.write(build(1, Instruction.PING))
        wait_for(lambda: server.dropped == 1)
        bus.feed, server.too_late = feed, None
        port.write(build(2, Instruction.PING))
        assert hear(port.fd, build(2, 0)) == build(2, 0)


@needs_pty
def test_a_file_in_the_links_place_stays(tmp_path):
    (tmp_path / "arm").write_text("mine")
    with pytest.raises(ValueError, match=r"arm is there already and is no symbolic link"):
        PtyServer(virtual_arm(), tmp_path / "arm")
    assert (tmp_path / "arm").read_text() == "mine"


def test_without_pseudo_terminals_the_message_names_the_other_way(monkeypatch):
    monkeypatch.setitem(sys.modules, "tty", None)
    with pytest.raises(RuntimeError, match="no pseudo-terminals; use VirtualPort or port_handler"):
        PtyServer(virtual_arm())


# ---- the port in this process ---------------------------------------------------------------------------------------


def test_virtual_port_is_like_pyserial():
    port = VirtualPort(virtual_arm(clock=Lockstep()))
    assert port.write(list(build(1, Instruction.PING))) == 6 and port.in_waiting == 6
    assert port.read(2) == b"\xff\xff" and port.read(100) == build(1, 0)[2:] and port.read(1) == b""
    port.write(bytearray(build(1, Instruction.PING)))
    port.reset_input_buffer()
    assert port.in_waiting == 0
    port.flush()
    port.reset_output_buffer()
    port.close()
    assert not port.is_open
    with pytest.raises(OSError, match="the virtual port is closed"):
        port.write(b"\x00")


def test_virtual_port_waits_for_what_is_due_but_not_in_lockstep():
    bus = virtual_arm()
    bus.faults.late(1.0)
    port = VirtualPort(bus, timeout=20.0)
    port.write(build(1, Instruction.PING))
    assert port.in_waiting == 0 and port.read(6) == build(1, 0)
    still = VirtualPort(virtual_arm(clock=Lockstep()), timeout=None)
    assert still.read(6) == b""  # with pyserial this would wait for ever


def test_virtual_port_gives_up_a_broken_packet_after_silence():
    for clock in (Realtime(), Lockstep()):
        port = VirtualPort(virtual_arm(clock=clock))
        port.write(b"\xff\xff\x01\xf6\x02")
        assert port.read(6) == b""
        time.sleep(0.02)
        port.write(build(1, Instruction.PING))
        assert port.read(6) == build(1, 0)


def test_the_arm_moves_in_lockstep_with_the_sdk():
    def run():
        bus = virtual_arm(calibrated=True, seed=3, clock=Lockstep())
        client = Client(port_handler(bus))
        connect(client)
        goals = client.sync_read("Present_Position")
        seen = []
        for k in range(20):
            client.sync_write("Goal_Position", [g + 5 * k for g in goals])
            seen += client.sync_read("Present_Position")
        return seen

    first = run()
    assert first == run() and first[-6] - first[0] > 40


# ---- the command ----------------------------------------------------------------------------------------------------


@needs_pty
def test_the_command_serves_a_leader_and_a_follower(tmp_path, capsys):
    stop, options = (
        threading.Event(),
        dict(wire=False, too_late=None, waving=True, faults=["silence=6"], links=tmp_path),
    )
    serving = threading.Thread(target=serve.robot, args=[("leader", "follower")], kwargs={"stop": stop, **options})
    serving.start()
    wait_for((tmp_path / "follower1").exists)
    leader, follower = (Client(scs.PortHandler(str(tmp_path / n))) for n in ("leader0", "follower1"))
    five = range(1, 6)
    before, resting = leader.sync_read("Present_Position", five), follower.sync_read("Present_Position", five)
    time.sleep(0.4)
    after = leader.sync_read("Present_Position", five)
    assert max(abs(a - b) for a, b in zip(after, before, strict=True)) > 50  # the hand moves it
    assert max(abs(a - b) for a, b in zip(follower.sync_read("Present_Position", five), resting, strict=True)) < 60
    assert follower.times_out("Present_Position", 6)
    leader.close()
    follower.close()
    stop.set()
    serving.join()
    printed = capsys.readouterr().out
    assert str(tmp_path / "leader0") in printed and "unit 1, not calibrated" in printed
    assert not list(tmp_path.iterdir())


def test_the_waving_hand_keeps_off_the_table():
    arm = virtual_arm().arm
    for second in range(0, 300, 3):
        arm.place(serve.wave(second))
        assert arm.data.ncon == 0, second


def test_bad_orders_of_the_command():
    with pytest.raises(ValueError, match=r"unknown fault 'fire'; there are drop, corrupt"):
        serve.robot(faults=["fire=1"])
    with pytest.raises(ValueError, match=r"fault 'late=soon' should look like"):
        serve.robot(faults=["late=soon"])
    with pytest.raises(ValueError, match=r"fault duplicate_id does not take the numbers \[3\]"):
        serve.robot(faults=["duplicate_id=3"])
    with pytest.raises(ValueError, match="kind is 'boss'"):
        serve.robot(["boss"])
