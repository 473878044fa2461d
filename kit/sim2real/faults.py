"""Nine faults of a servo bus, switched on and off while it runs.

    drop            a packet is lost with a chance, each way
    corrupt         a byte of a reply is wrong with a chance
    silence         a servo neither hears nor answers: its cable is out
    duplicate_id    a servo takes the ID of another; both answer at once, and a wire on which two talk reads low where
                    either is low, so that only equal answers come through
    brown_out       servos start anew from their EEPROM, with the torque off
    overload        a servo is in the state after an overload
    stuck_encoder   an encoder freezes; the servo's own loop believes it
    firmware        a servo reports another firmware version
    late            replies come too late; a client that does not empty its input takes them for the next answer

Servos are numbered 1 to 6 here, by their place in the arm, whatever their ID is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kit.sim2real.arm_physics import ArmPhysics

NAMES = (
    "drop",
    "corrupt",
    "silence",
    "duplicate_id",
    "brown_out",
    "overload",
    "stuck_encoder",
    "firmware",
    "late",
)


class Faults:
    """What is wrong with a bus. The first methods switch a fault on, `heal` switches all of them off."""

    def __init__(self, arm: ArmPhysics, rng: np.random.Generator):
        self.arm, self.rng = arm, rng
        self._start()

    def _start(self) -> None:
        self.drop_chance, self.corrupt_chance = self.arm.cfg.gap.packet_loss, 0.0
        self.silent: set[int] = set()
        self.late_seconds, self.late_left, self.late_servo = 0.0, 0, None
        self._ids: dict[int, int] = {}

    def drop(self, chance: float) -> None:
        self.drop_chance = _chance("drop", chance)

    def corrupt(self, chance: float) -> None:
        self.corrupt_chance = _chance("corrupt", chance)

    def silence(self, servo: int) -> None:
        self._servo(servo)
        self.silent.add(servo)

    def duplicate_id(self, servo: int, id: int) -> None:
        state = self._servo(servo)
        self._ids.setdefault(servo, state.id)
        state.set("ID", id)

    def brown_out(self, *servos: int) -> None:
        """Of these servos, or of all."""
        for state in [self._servo(n) for n in servos] or self.arm.servos:
            state.power_on()

    def overload(self, servo: int, direction: int = 1) -> None:
        self._servo(servo).trip(direction)

    def stuck_encoder(self, servo: int) -> None:
        self._servo(servo)
        self.arm.freeze_encoder(servo - 1)

    def firmware(self, servo: int, major: int, minor: int) -> None:
        self._servo(servo).ram[:2] = bytes([major, minor])

    def late(self, seconds: float = 0.05, count: int = 1, servo: int | None = None) -> None:
        """The next `count` replies, of that servo or of any, come `seconds` later."""
        if servo is not None:
            self._servo(servo)
        if seconds < 0 or count < 0:
            raise ValueError(f"late by {seconds} s, {count} times; neither may be negative")
        self.late_seconds, self.late_left, self.late_servo = seconds, count, servo

    def heal(self) -> None:
        """End all faults; what a brown-out cleared stays cleared."""
        for servo, id in self._ids.items():
            self._servo(servo).set("ID", id)
        for state in self.arm.servos:
            state.ram[:2] = state.eeprom[:2]
            state.overload = 0
            state.set("Status", 0)
        self.arm.stuck.clear()
        self._start()

    # ---- what the bus asks --------------------------------------------------------------------------------------

    def loses(self) -> bool:
        """Whether the next packet is lost."""
        return self.drop_chance > 0 and self.rng.random() < self.drop_chance

    def spoil(self, reply: bytes) -> bytes:
        """The reply, perhaps with a wrong byte: any after the length."""
        if not (self.corrupt_chance > 0 and self.rng.random() < self.corrupt_chance):
            return reply
        place, change = self.rng.integers(4, len(reply)), self.rng.integers(1, 256)
        return reply[:place] + bytes([reply[place] ^ int(change)]) + reply[place + 1 :]

    def delay(self, servo: int) -> float:
        """By how much the next reply of that servo is late [s]."""
        if not self.late_left or self.late_servo not in (None, servo):
            return 0.0
        self.late_left -= 1
        return self.late_seconds

    def _servo(self, number: int):
        if number not in range(1, len(self.arm.servos) + 1):
            raise ValueError(f"there is no servo {number}; they are 1 to {len(self.arm.servos)}")
        return self.arm.servos[number - 1]


def _chance(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"the chance of {name} is {value}; it must lie in 0..1")
    return value


def collide(replies: list[bytes]) -> bytes:
    """What is on the wire when several talk at once: low where any is low; a silent one leaves it high."""
    if len(replies) == 1:
        return replies[0]
    length = max(map(len, replies))
    bits = np.stack([np.frombuffer(r.ljust(length, b"\xff"), np.uint8) for r in replies])
    return np.bitwise_and.reduce(bits).tobytes()
