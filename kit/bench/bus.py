"""Milliseconds to observe and act on a virtual SO-101 in another process, thirty times a second, and the plain SDK's.

Ours is `SO101`: unit conversion, safety layer, checks of every reply and a look at the servos' health twice a second,
with its watchdog thread beside it. The peers send the same two requests, a SYNC_READ of six positions and a SYNC_WRITE
of six goals, and do nothing else: Feetech's SDK, the way LeRobot uses it, and pyserial with ready-made bytes, which is
what the pseudo-terminal and the server cost by themselves. All ask the same `python -m kit robot`, with six servos and
their physics behind it and without a wire's delays.

Two more rows say what a time is worth here. `echo` sends the same bytes to a process that does nothing but send as many
back. `SO101 again` is a second call right after the first: a program that slept for 33 ms finds the processor's caches
full of other things, and its first steps take several times as long.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kit.bench import fresh
from kit.envs.so101 import CONTROL_HZ

OURS, AGAIN, SDK, RAW, ECHO = "SO101", "SO101 again", "scservo_sdk", "pyserial", "echo"
ASKED = {"median": 0.5, "p99": 5.0}  # [ms]
GOALS = dict(zip(("shoulder_lift.pos", "elbow_flex.pos", "wrist_flex.pos"), (-60.0, 60.0, 40.0), strict=True))


def measure(rounds: int = 6, calls: int = 150, hz: float = CONTROL_HZ) -> dict[str, Any]:
    """Each contestant makes `calls` calls, `hz` a second, in each of `rounds` rounds, in turn first."""
    return fresh.call(run, rounds=rounds, calls=calls, hz=hz)


def run(rounds: int, calls: int, hz: float) -> dict[str, Any]:
    """Measure in this process."""
    contestants = {OURS: kit_robot, AGAIN: kit_robot, SDK: plain_sdk, RAW: plain_serial, ECHO: bare_echo}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    lost = dict.fromkeys(contestants, 0)
    with served_arm("--no-wire") as port:
        for name in contestants:
            with contestants[name](port) as call:
                paced(call, 3, hz)
        for turn in range(rounds):
            first = turn % len(contestants)
            for name in (*list(contestants)[first:], *list(contestants)[:first]):
                with contestants[name](port) as call:
                    taken, unanswered = paced(call, calls, hz, again=name == AGAIN)
                times[name] += taken
                lost[name] += unanswered
    return result({name: 1000 * np.array(t) for name, t in times.items()}, lost, hz)


@contextlib.contextmanager
def served_arm(*options: str) -> Iterator[str]:
    """The port of a calibrated follower, unit 0, that `python -m kit robot` serves in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "kit", "robot", "--calibrated", "--links", folder, *options]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            server.stdout.readline()  # it prints the port when it is there
            port = Path(folder) / "follower0"
            if not port.exists():
                raise RuntimeError(f"{' '.join(command)} serves no arm")
            yield str(port)
        finally:
            server.terminate()
            server.wait()
            server.stdout.close()


def paced(call: Callable[[], bool], calls: int, hz: float, again: bool = False) -> tuple[list[float], int]:
    """Seconds that each call takes, when they begin `hz` times a second, and how many got no answer; with `again`, the
    seconds of a second call right after each."""
    taken, lost, due = [], 0, time.perf_counter()
    for _ in range(calls):
        time.sleep(max(due - time.perf_counter(), 0.0))
        if again:
            call()
        start = time.perf_counter()
        lost += not call()
        taken.append(time.perf_counter() - start)
        due = max(due + 1 / hz, start)
    return taken, lost


# ---- the contestants: each a context that gives one call of observing and acting; it returns whether it was answered


def connect(port: str) -> Any:
    """The kit's robot on a served arm, connected; patient, so that a busy machine is slow and not broken."""
    from kit.sim2real import client
    from kit.sim2real.arm_physics import ArmPhysics, write_calibration
    from kit.sim2real.so101 import SO101, Config

    cfg = Config(line=client.Config(timeout=1.0))
    robot = SO101(port, cfg, calibration=write_calibration(ArmPhysics(seed=0)))
    robot.connect()
    return robot


@contextlib.contextmanager
def kit_robot(port: str) -> Iterator[Callable[[], bool]]:
    robot = connect(port)

    def call() -> bool:
        repeats = robot.client.repeats
        robot.get_observation()
        robot.send_action(GOALS)
        return robot.client.repeats == repeats

    yield call
    robot.disconnect()


@contextlib.contextmanager
def plain_sdk(port: str) -> Iterator[Callable[[], bool]]:
    import scservo_sdk as sdk

    handler, packets = sdk.PortHandler(port), sdk.PacketHandler(0)
    handler.setBaudRate(1_000_000)
    reader, writer = sdk.GroupSyncRead(handler, packets, 56, 2), sdk.GroupSyncWrite(handler, packets, 42, 2)
    for id in range(1, 7):
        reader.addParam(id)
        writer.addParam(id, [0, 0])

    def call() -> bool:
        if reader.txRxPacket() != sdk.COMM_SUCCESS:
            handler.ser.reset_input_buffer()
            return False
        for id in range(1, 7):
            ticks = reader.getData(id, 56, 2)
            writer.changeParam(id, [sdk.SCS_LOBYTE(ticks), sdk.SCS_HIBYTE(ticks)])
        return writer.txPacket() == sdk.COMM_SUCCESS

    yield call
    handler.closePort()


@contextlib.contextmanager
def plain_serial(port: str) -> Iterator[Callable[[], bool]]:
    import serial

    from kit.sim2real.protocol import BROADCAST, Instruction, build

    ids = bytes(range(1, 7))
    ask = build(BROADCAST, Instruction.SYNC_READ, bytes([56, 2]) + ids)
    with serial.Serial(port, 1_000_000, timeout=0.05) as line:

        def call() -> bool:
            line.write(ask)
            heard = line.read(48)
            if len(heard) < 48:
                line.reset_input_buffer()
                return False
            goals = b"".join(ids[k : k + 1] + heard[8 * k + 5 : 8 * k + 7] for k in range(6))
            line.write(build(BROADCAST, Instruction.SYNC_WRITE, bytes([42, 2]) + goals))
            return True

        yield call


ECHOING = """
import os, tty
master, slave = os.openpty()
tty.setraw(slave)
print(os.ttyname(slave), flush=True)
while asked := os.read(master, 64):
    if len(asked) < 20:  # the request; the goals stay unanswered
        os.write(master, bytes(48))
"""


@contextlib.contextmanager
def bare_echo(port: str) -> Iterator[Callable[[], bool]]:
    import serial

    with subprocess.Popen([sys.executable, "-c", ECHOING], stdout=subprocess.PIPE, text=True) as other:
        with serial.Serial(other.stdout.readline().strip(), 1_000_000, timeout=0.05) as line:

            def call() -> bool:
                line.write(bytes(14))
                heard = line.read(48)
                line.write(bytes(26))
                return len(heard) == 48

            yield call
        other.terminate()


def summary(times: Sequence[float]) -> dict[str, float]:
    return {"median": float(np.median(times)), "p99": float(np.quantile(times, 0.99)), "worst": float(np.max(times))}


def result(times: dict[str, np.ndarray], lost: dict[str, int], hz: float) -> dict[str, Any]:
    table = {name: summary(t) | {"unanswered": lost[name]} for name, t in times.items()}
    ours, peer = table[OURS]["median"], table[SDK]["median"]
    return {
        "name": "bus",
        "ours": ours,
        "peer": peer,
        "peer_name": SDK,
        "ratio": peer / ours,
        "unit": "ms",
        "compared": f"median time to read six positions and to send six goals, {hz:g} times a second, on a virtual arm "
        "in another process: with the safety layer and all checks against Feetech's SDK without any",
        "p99": table[OURS]["p99"],
        "asked": ASKED,
        "reached": all(table[OURS][key] <= limit for key, limit in ASKED.items()),
        "calls": len(times[OURS]),
        "contestants": table,
    }
