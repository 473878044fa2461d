"""The servo bus: bytes in, bytes out, with the arm behind it; a clock, a wire that takes time, and faults on demand.

    reply time = 10 / baud * bytes of request and replies + Return_Delay_Time of each servo + USB adapter

Two clocks. `Realtime`: the arm moves on to now, before a request or while none comes. `Lockstep`: time stands still,
but for a control period after each SYNC_WRITE of Goal_Position; the same requests then give the same bytes, always.
Look first at `Bus.feed`.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kit.envs.so101 import CONTROL_HZ, Servo
from kit.sim2real.arm_physics import ArmPhysics, Config, write_calibration
from kit.sim2real.faults import Faults, collide
from kit.sim2real.motor import Gap
from kit.sim2real.protocol import TABLE, Instruction, Packet, Parser, build
from kit.sim2real.servo import Firmware

TRACED = 2000  # packets that `Bus.trace` remembers


class Realtime:
    """The arm lives in wall time. A pause of more than `limit` seconds without a call is cut to that.

    A request is answered with the arm as it was at most `age` seconds ago, and need not wait for the physics.
    """

    waits = True  # time passes by itself
    age = 0.005  # [s]

    def __init__(self, now: Callable[[], float] = time.monotonic, limit: float = 1.0):
        self.now, self.limit = now, limit
        self._last = now()

    def elapsed(self, age: float = 0.0) -> float:
        """Seconds since the last call; none while that is less than `age` ago."""
        now = self.now()
        if now - self._last < age:
            return 0.0
        passed, self._last = now - self._last, now
        return min(passed, self.limit)

    def after(self, packet: Packet) -> float:
        return 0.0


class Lockstep:
    """Time is counted in control periods [s]: one after each SYNC_WRITE of Goal_Position.

    A leader is never written to; with `on="read"` a period follows each SYNC_READ of Present_Position.
    """

    waits = False
    age = 0.0

    def __init__(self, period: float = 1 / CONTROL_HZ, on: str = "write"):
        if on not in ("write", "read"):
            raise ValueError(f"on is {on!r}; it must be write or read")
        self.period, self.time = period, 0.0
        self._code = Instruction.SYNC_WRITE if on == "write" else Instruction.SYNC_READ
        self._address = TABLE["Goal_Position" if on == "write" else "Present_Position"].address

    def now(self) -> float:
        return self.time

    def elapsed(self, age: float = 0.0) -> float:
        return 0.0

    def after(self, packet: Packet) -> float:
        """What passes once the packet has been answered [s]."""
        covers = len(packet.params) > 1 and 0 <= self._address - packet.params[0] < packet.params[1]
        passed = self.period if packet.code == self._code and covers else 0.0
        self.time += passed
        return passed


@dataclass(frozen=True)
class Wire:
    """How long bytes travel. Six positions come back after 1.6 to 5.6 ms (without return delays), rarely 21 ms.

    Hiccups of 40 ms have been seen as well, but Feetech's own SDK gives up after 34 ms, so those are a fault, `late`.
    """

    baud: int = 1_000_000  # 10 bits make a byte
    usb: tuple[float, float] = (0.001, 0.005)  # of the adapter, uniform [s]
    hiccup: float = 0.01  # chance that the adapter takes longer
    hiccup_s: float = 0.015  # by so much [s]

    def byte_s(self) -> float:
        return 10 / self.baud

    def adapter_s(self, rng: np.random.Generator) -> float:
        return rng.uniform(*self.usb) + self.hiccup_s * (rng.random() < self.hiccup)


class Event(NamedTuple):
    """A packet on the wire; `kind` is request, reply, lost, corrupt or late."""

    at: float  # on the bus's clock [s]
    kind: str
    data: bytes


class Bus:
    """Requests in by `feed`, replies out by `take`. `faults` holds the faults, `trace` the last packets.

    It may be called from several threads. `lock` keeps the arm still for whoever looks at it meanwhile.

    Raises:
        ValueError: a `wire` together with a `Lockstep` clock, on which a reply would never be due.
    """

    def __init__(
        self, arm: ArmPhysics, *, clock: Realtime | Lockstep | None = None, wire: Wire | None = None, seed: int = 0
    ):
        if wire is not None and isinstance(clock, Lockstep):
            raise ValueError("a wire takes wall time, which a Lockstep clock does not have; choose wire=None")
        self.arm, self.clock, self.wire = arm, clock or Realtime(), wire
        self.rng = np.random.default_rng(seed)
        self.faults = Faults(arm, self.rng)
        self.parser = Parser()
        self.trace: deque[Event] = deque(maxlen=TRACED)
        self.requests = 0
        self.lock = threading.RLock()
        self._out: list[tuple[float, int, bytes]] = []  # heap of (due, order, bytes)
        self._sent = 0

    def feed(self, data: bytes) -> None:
        """Bytes from the client, in pieces of any size."""
        with self.lock:
            for packet in self.parser.feed(data):
                if passed := self.clock.elapsed(self.clock.age):
                    self.advance(passed)
                self._transact(packet)
                self.advance(self.clock.after(packet))

    def take(self) -> bytes:
        """The reply bytes that are due by now."""
        with self.lock:
            due = []
            while self._out and self._out[0][0] <= self.clock.now():
                due.append(heapq.heappop(self._out)[2])
            return b"".join(due)

    def next_due(self) -> float | None:
        """When the next reply is due, on the bus's clock, or None."""
        with self.lock:
            return self._out[0][0] if self._out else None

    def exchange(self, data: bytes) -> bytes:
        """Feed and take at once, which without a wire is the whole answer."""
        self.feed(data)
        return self.take()

    def catch_up(self) -> None:
        """Let the arm move on to now, so that the next request need not."""
        with self.lock:
            self.arm.advance(self.clock.elapsed())

    def idle(self) -> None:
        """Nothing came for long: let the arm move on, and give up a packet that broke off."""
        with self.lock:
            self.catch_up()
            self.parser.reset()

    def advance(self, seconds: float) -> None:
        """Let the arm move on, whatever the clock says."""
        with self.lock:
            self.arm.advance(seconds)

    # ---- a request ----------------------------------------------------------------------------------------------

    def _transact(self, packet: Packet) -> None:
        self.requests += 1
        now = self.clock.now()
        lost = self.faults.loses()
        self._note(now, "lost" if lost else "request", build(*packet))
        if lost:
            return
        answers = self._answers(packet)
        at = now + self._travel(packet, answers)
        for number, reply in answers:
            self._reply(number, reply, at)

    def _travel(self, packet: Packet, answers: list[tuple[int, bytes]]) -> float:
        """From the first byte of a request to the last of its replies, which the adapter hands over together [s]."""
        if self.wire is None:
            return 0.0
        count = len(packet.params) + 6 + sum(len(reply) for _, reply in answers)
        pauses = sum(self.arm.servos[number - 1].return_delay for number, _ in answers)
        return self.wire.byte_s() * count + pauses + self.wire.adapter_s(self.rng)

    def _answers(self, packet: Packet) -> list[tuple[int, bytes]]:
        """(servo's number, reply) in the order in which they go on the wire; equal IDs talk at once."""
        asked = packet.params[2:] if packet.code == Instruction.SYNC_READ else b""
        by_id: dict[int, list[tuple[int, bytes]]] = {}
        for number, servo in enumerate(self.arm.servos, 1):
            if number not in self.faults.silent and (reply := servo.handle(packet)):
                by_id.setdefault(reply[2], []).append((number, reply))
        order = sorted(by_id, key=lambda id: asked.index(id) if id in asked else id)
        return [(by_id[id][0][0], collide([r for _, r in by_id[id]])) for id in order]

    def _reply(self, number: int, reply: bytes, at: float) -> None:
        if self.faults.loses():
            self._note(at, "lost", reply)
            return
        spoiled, late = self.faults.spoil(reply), self.faults.delay(number)
        self._note(at + late, "late" if late else "corrupt" if spoiled != reply else "reply", spoiled)
        heapq.heappush(self._out, (at + late, self._sent, spoiled))
        self._sent += 1

    def _note(self, at: float, kind: str, data: bytes) -> None:
        self.trace.append(Event(at, kind, data))


def virtual_arm(
    kind: str = "follower",
    *,
    seed: int = 0,
    servo: str | Servo = "7.4V-P16",
    gap: Gap | None = None,
    firmware: Firmware | None = None,
    calibrated: bool = False,
    clock: Realtime | Lockstep | None = None,
    wire: Wire | None = None,
    scene: str = "table",
) -> Bus:
    """A bus with one arm, `kind` "follower" or "leader", powered and at rest.

    It comes as a kit does: every assembly offset is its own (drawn from `seed`) and Homing_Offset is 0; `calibrated`
    stores what a perfect calibration would (see `write_calibration`) and leaves it in `bus.arm.calibration`.
    """
    arm = ArmPhysics(Config(servo=servo, kind=kind, scene=scene, gap=gap or Gap()), seed=seed, firmware=firmware)
    if calibrated:
        write_calibration(arm)
    return Bus(arm, clock=clock, wire=wire, seed=seed)
