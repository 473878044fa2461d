"""The Feetech STS serial protocol: packets, a parser that finds its way back after garbage, and the control table.

Feetech, "SMS/STS communication protocol"; register names are LeRobot's.

    FF FF | ID | LEN | INST | parameters | CHK        a request;  LEN = number of parameters + 2
    FF FF | ID | LEN | ERR  | data       | CHK        the status packet that answers it
    CHK = ~(ID + LEN + INST + parameters) & 0xFF
    numbers are little-endian; negative ones are sign-magnitude: |value|, with one bit set that says "negative"

Servos have the IDs 0 to 253; a request to 254 is for all of them, and only PING and SYNC_READ are then answered. Look
at `build` and `parse` first, then at `TABLE`.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

HEADER = b"\xff\xff"
BROADCAST = 254
MAX_PACKET = 250  # bytes, with header and checksum
EEPROM_END = 40  # registers below this survive a power cycle, if Lock was 0 when they were written
TABLE_SIZE = 128  # bytes


class Instruction(IntEnum):
    PING = 0x01
    READ = 0x02  # parameters: address, number of bytes
    WRITE = 0x03  # address, bytes
    REG_WRITE = 0x04  # like WRITE, but it waits for ACTION
    ACTION = 0x05
    RESET = 0x06  # back to the factory's settings
    SYNC_READ = 0x82  # address, number of bytes, IDs
    SYNC_WRITE = 0x83  # address, bytes for each servo, then an ID and its bytes, again and again


class Error(IntFlag):
    """Bits of a status packet's ERR, and of the register Status."""

    VOLTAGE = 1
    ENCODER = 2
    OVERHEAT = 4
    OVERCURRENT = 8
    OVERLOAD = 32


class Packet(NamedTuple):
    """A request (`code` is an instruction) or a status packet (`code` holds the error bits)."""

    id: int
    code: int
    params: bytes = b""


class Register(NamedTuple):
    """A place in the control table."""

    address: int
    size: int = 1  # bytes
    factory: int = 0  # value of a new servo, or after a power cycle for those above the EEPROM
    sign_bit: int | None = None  # bit that marks a negative number
    writable: bool = True


TABLE: dict[str, Register] = {
    "Firmware_Major_Version": Register(0, factory=3, writable=False),
    "Firmware_Minor_Version": Register(1, factory=10, writable=False),
    "Model_Number": Register(3, 2, factory=777, writable=False),  # STS3215
    "ID": Register(5, factory=1),
    "Baud_Rate": Register(6),  # 0 is 1 Mbit/s
    "Return_Delay_Time": Register(7, factory=250),  # 2 us
    "Response_Status_Level": Register(8, factory=1),  # 0: only PING and reads are answered
    "Min_Position_Limit": Register(9, 2),  # ticks: 4096 are a turn
    "Max_Position_Limit": Register(11, 2, factory=4095),
    "Max_Temperature_Limit": Register(13, factory=70),  # degrees Celsius
    "Max_Voltage_Limit": Register(14, factory=80),  # 0.1 V
    "Min_Voltage_Limit": Register(15, factory=40),
    "Max_Torque_Limit": Register(16, 2, factory=1000),  # 0.1 % of full duty; copied to Torque_Limit at power on
    "Phase": Register(18, factory=12),  # bit 2: speeds in ticks/s; bit 3: speed 0 means full; bit 4: many turns
    "Unloading_Condition": Register(19, factory=44),  # which Error bits take the torque away
    "LED_Alarm_Condition": Register(20, factory=47),
    "P_Coefficient": Register(21, factory=32),
    "D_Coefficient": Register(22, factory=32),
    "I_Coefficient": Register(23),
    "Minimum_Startup_Force": Register(24, 2, factory=16),  # 0.1 %
    "CW_Dead_Zone": Register(26, factory=1),  # ticks
    "CCW_Dead_Zone": Register(27, factory=1),
    "Protection_Current": Register(28, 2, factory=500),  # 6.5 mA
    "Angular_Resolution": Register(30, factory=1),
    "Homing_Offset": Register(31, 2, sign_bit=11),  # Present_Position = encoder - Homing_Offset
    "Operating_Mode": Register(33),  # 0 position, 1 velocity, 2 PWM, 3 step
    "Protective_Torque": Register(34, factory=20),  # % of full duty after an overload
    "Protection_Time": Register(35, factory=200),  # 10 ms
    "Overload_Torque": Register(36, factory=80),  # % of full duty that counts as overload
    "Velocity_closed_loop_P_proportional_coefficient": Register(37, factory=10),
    "Over_Current_Protection_Time": Register(38, factory=200),  # 10 ms
    "Velocity_closed_loop_I_integral_coefficient": Register(39, factory=10),
    "Torque_Enable": Register(40),  # 0 off, 1 on, 2 damping; 128 makes the present position 2048
    "Acceleration": Register(41),  # 100 ticks/s^2 (8.8 degrees/s^2); 0 is unlimited
    "Goal_Position": Register(42, 2, sign_bit=15),
    "Goal_Time": Register(44, 2, sign_bit=10),  # in PWM mode the duty [0.1 %]
    "Goal_Velocity": Register(46, 2, sign_bit=15),  # in position mode the largest speed
    "Torque_Limit": Register(48, 2, factory=1000),  # 0.1 %
    "Lock": Register(55, factory=1),  # 0: writes below address 40 go to the EEPROM too
    "Present_Position": Register(56, 2, sign_bit=15, writable=False),
    "Present_Velocity": Register(58, 2, sign_bit=15, writable=False),
    "Present_Load": Register(60, 2, sign_bit=10, writable=False),  # duty [0.1 %]
    "Present_Voltage": Register(62, writable=False),  # 0.1 V
    "Present_Temperature": Register(63, writable=False),  # degrees Celsius
    "Async_Write_Flag": Register(64, writable=False),  # 1 while a REG_WRITE waits for its ACTION
    "Status": Register(65, writable=False),
    "Moving": Register(66, writable=False),
    "Present_Current": Register(69, 2, writable=False),  # 6.5 mA, without sign
    "Goal_Position_2": Register(71, 2, sign_bit=15, writable=False),  # an echo of Goal_Position
    "Moving_Velocity_Threshold": Register(80, factory=50),
    "DTs": Register(81, factory=10),
    "Velocity_Unit_factor": Register(82, factory=1),
    "Hts": Register(83),
    "Maximum_Velocity_Limit": Register(84, factory=254),
    "Maximum_Acceleration": Register(85, factory=254),  # 100 ticks/s^2; caps Acceleration
    "Acceleration_Multiplier": Register(86, factory=1),
}

BAUD_RATES = (1_000_000, 500_000, 250_000, 128_000, 115_200)  # by value of Baud_Rate; makers disagree about 5 to 7


# ---- packets ----------------------------------------------------------------------------------------------------


def checksum(body: bytes) -> int:
    """Of the bytes from the ID to the last parameter."""
    return ~sum(body) & 0xFF


def build(id: int, code: int, params: bytes = b"") -> bytes:
    """The bytes of a request or of a status packet.

    Raises:
        ValueError: an ID above 254, or a packet longer than 250 bytes.
    """
    if not 0 <= id <= BROADCAST:
        raise ValueError(f"ID {id} is outside 0..{BROADCAST}; 254 addresses all servos")
    if len(params) + 6 > MAX_PACKET:
        raise ValueError(f"{len(params)} parameters are too many; a packet has at most {MAX_PACKET - 6}")
    body = bytes([id, len(params) + 2, code]) + params
    return HEADER + body + bytes([checksum(body)])


def parse(stream: bytes) -> tuple[list[Packet], bytes, int]:
    """Packets in a stream, the bytes at its end that may begin another, and how many bytes belonged to none.

    After a wrong checksum or an impossible length the search goes on one byte later, so that a packet which follows
    garbage is found; a false header can hold back at most the 250 bytes after it.
    """
    packets, at, skipped = [], 0, 0
    while (start := stream.find(HEADER, at)) >= 0:
        skipped, at = skipped + start - at, start
        if len(stream) - at < 4:
            break
        id, length = stream[at + 2], stream[at + 3]
        end = at + 4 + length
        possible = id <= BROADCAST and 2 <= length <= MAX_PACKET - 4
        if possible and end > len(stream):
            break
        if possible and checksum(stream[at + 2 : end - 1]) == stream[end - 1]:
            packets.append(Packet(id, stream[at + 4], stream[at + 5 : end - 1]))
            at = end
        else:
            skipped, at = skipped + 1, at + 1
    else:
        end = max(at, len(stream) - stream.endswith(b"\xff"))
        skipped, at = skipped + end - at, end
    return packets, stream[at:], skipped


class Parser:
    """`parse` for bytes that come in pieces. `skipped` counts the bytes that belonged to no packet."""

    def __init__(self) -> None:
        self.rest, self.skipped = b"", 0

    def feed(self, data: bytes) -> list[Packet]:
        packets, self.rest, skipped = parse(self.rest + bytes(data))
        self.skipped += skipped
        return packets

    def reset(self) -> None:
        """Forget a packet that broke off: the line was silent in the middle of it."""
        self.skipped += len(self.rest)
        self.rest = b""


# ---- numbers ----------------------------------------------------------------------------------------------------


def to_sign_magnitude(value: int, bit: int) -> int:
    """
    Raises:
        ValueError: the magnitude does not fit below the sign bit.
    """
    if abs(value) >> bit:
        raise ValueError(f"{value} does not fit below sign bit {bit}; the limit is {(1 << bit) - 1}")
    return abs(value) | (value < 0) << bit


def from_sign_magnitude(raw: int, bit: int) -> int:
    magnitude = raw & ((1 << bit) - 1)
    return -magnitude if raw >> bit & 1 else magnitude


def register(name: str) -> Register:
    """
    Raises:
        ValueError: there is no such register; the message names those that sound alike.
    """
    if name not in TABLE:
        near = [n for n in TABLE if name.split("_")[-1].lower() in n.lower()] or list(TABLE)
        raise ValueError(f"unknown register {name!r}; there are {', '.join(near)}")
    return TABLE[name]


def encode(name: str, value: int) -> bytes:
    """A register's bytes.

    Raises:
        ValueError: an unknown register, or a value that does not fit.
    """
    entry = register(name)
    raw = value if entry.sign_bit is None else to_sign_magnitude(value, entry.sign_bit)
    if not 0 <= raw < 1 << 8 * entry.size:
        raise ValueError(f"{name} is {value}; it must lie in 0..{(1 << 8 * entry.size) - 1}")
    return raw.to_bytes(entry.size, "little")


def decode(name: str, data: bytes) -> int:
    """A register's value from its bytes.

    Raises:
        ValueError: an unknown register, or a wrong number of bytes: what a reply to another question looks like.
    """
    entry = register(name)
    if len(data) != entry.size:
        raise ValueError(f"{name} has {entry.size} bytes, but {len(data)} came")
    raw = int.from_bytes(data, "little")
    return raw if entry.sign_bit is None else from_sign_magnitude(raw, entry.sign_bit)
