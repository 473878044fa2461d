"""One virtual STS3215: what its firmware does with packets, registers and protections. There is no motor in here.

`ServoState.handle` answers a request and changes registers; `ServoState.drive` says what the registers ask of the
motor; `ServoState.sense` takes what the motor did, in steps of some milliseconds, and keeps the feedback registers and
the protections up to date. `kit.sim2real.motor` is the motor.

    Present_Position = encoder - Homing_Offset                (mod 4096, unless Phase has bit 4)
    overload:  |load| > Overload_Torque for Protection_Time  =>  duty <= Protective_Torque and ERR bit 5, until the goal
               lies the other way, the torque is switched on anew, or the power comes back

What the manuals leave open is in `Firmware`. Accepted, but without effect: D_Coefficient and Minimum_Startup_Force (the
identified motor already contains the usual 32 and 16), Goal_Time in position mode, the velocity loop's gains, Baud_Rate
(a virtual line hears every speed), and the registers from 80 on but for Maximum_Acceleration and
Moving_Velocity_Threshold. In step mode (3) the motor does not drive. Look first at `handle`.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from kit.sim2real.protocol import BROADCAST, EEPROM_END, TABLE, TABLE_SIZE, Error, Instruction, Packet, build
from kit.sim2real.protocol import decode as decode_register
from kit.sim2real.protocol import encode as encode_register

MIDDLE = 2048  # ticks, where the encoder stands at the middle of its turn
TURN = 4096  # ticks
MANY_TURNS = 16  # bit of Phase
TICK_SPEEDS = 4  # bit of Phase: speeds count ticks/s; without it 50 ticks/s
UNLIMITED = 1e9
FEEDBACK = Struct("<HHHBB")  # Present_Position to Present_Temperature
CURRENT = Struct("<H")
TORQUE_OFF = int(0xFF & ~Error.OVERLOAD)  # errors that switch the torque off; an overload only lowers it
AMPERE = 1 / 0.0065  # Present_Current counts 6.5 mA
ANSWERED_ALWAYS = (Instruction.PING, Instruction.READ, Instruction.SYNC_READ)
COAST, BRAKE, POSITION, VELOCITY, PWM = range(5)  # what a motor is asked to do


@dataclass(frozen=True)
class Firmware:
    """What the manuals leave open, or what differs between versions."""

    version: tuple[int, int] = (3, 10)  # major, minor
    on_enable: str = "hold"  # "hold": torque-on makes the present position the goal; "jump": it obeys the stale goal
    goal_enables_torque: bool = True  # users report that a new Goal_Position switches the torque on by itself
    out_of_range: str = "clamp"  # a goal beyond the limits: "clamp" goes to the limit; "error" refuses, with ERR bit 1

    def __post_init__(self) -> None:
        for name, allowed in (("on_enable", ("hold", "jump")), ("out_of_range", ("clamp", "error"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be {' or '.join(allowed)}")


class Drive(NamedTuple):
    """What the registers ask of the motor."""

    mode: int  # COAST, BRAKE, POSITION, VELOCITY or PWM
    goal: float  # Present_Position to reach [ticks], speed [ticks/s] or duty, by mode
    homing: int  # Homing_Offset [ticks]
    p: int  # P_Coefficient
    i: int  # I_Coefficient
    speed: float  # largest speed of the inner goal [ticks/s]
    acceleration: float  # of the inner goal [ticks/s^2]
    limit: float  # largest duty, as a share of what the motor can
    dead_below: int  # errors between -dead_below and dead_above do not drive [ticks]
    dead_above: int
    many_turns: bool  # the position counts on beyond a turn


class Reading(NamedTuple):
    """What the motor did."""

    ticks: float  # encoder, before Homing_Offset
    speed: float  # [ticks/s]
    duty: float  # -1..1
    amperes: float
    volts: float
    celsius: float
    arrived: bool  # the inner goal has reached Goal_Position


class Watch(NamedTuple):
    """The settings that feedback and protections look at, decoded."""

    speed_unit: int  # [ticks/s]
    moving: int  # speed above which a servo counts as moving [speed_unit]
    overload: int  # load [0.1 %]
    overload_s: float
    current: int  # [6.5 mA]
    current_s: float
    volts: tuple[int, int]  # [0.1 V]
    celsius: int
    unload: int  # Error bits that take the torque away


class Answer(NamedTuple):
    data: bytes = b""
    error: int = 0  # on top of Status


def _span(name: str) -> range:
    return range(TABLE[name].address, TABLE[name].address + TABLE[name].size)


FACTORY = bytearray(TABLE_SIZE)  # the control table of a new servo
for _name, _entry in TABLE.items():
    FACTORY[_entry.address : _entry.address + _entry.size] = encode_register(_name, _entry.factory)
GOAL, ECHO = (slice(TABLE[n].address, TABLE[n].address + 2) for n in ("Goal_Position", "Goal_Position_2"))
WRITABLE = frozenset(a for name, entry in TABLE.items() if entry.writable for a in _span(name))
KEPT_BY_RESET = (*_span("ID"), *_span("Baud_Rate"))  # or six servos would become one
GOAL_BYTES = frozenset(_span("Goal_Position"))
FRAME = frozenset((*_span("Homing_Offset"), *_span("Phase")))  # what Present_Position is counted in
GOALS = {mode: TABLE[name].address for mode, name in enumerate(("Goal_Position", "Goal_Velocity", "Goal_Time"))}


class ServoState:
    """A servo's registers, `ram` (128 bytes), and what survives a power cycle, `eeprom` (40 bytes)."""

    def __init__(self, id: int = 1, firmware: Firmware | None = None):
        self.firmware = firmware or Firmware()
        self.eeprom = FACTORY[:EEPROM_END]
        self.eeprom[TABLE["ID"].address] = id
        self.eeprom[:2] = bytes(self.firmware.version)
        self.reading = Reading(float(MIDDLE), 0.0, 0.0, 0.0, 7.4, 25.0, True)  # the last one
        self.power_on()

    def power_on(self) -> None:
        """What a power cycle does, or a supply that broke down: everything but the EEPROM is new."""
        self.ram = FACTORY[:]
        self.ram[:EEPROM_END] = self.eeprom
        self.set("Torque_Limit", self.get("Max_Torque_Limit"))
        self.waiting: bytes | None = None  # parameters of a REG_WRITE
        self.overload = 0  # direction of an overload, +1 or -1
        self.overload_s = self.overcurrent_s = 0.0  # for how long each has been too large [s]
        self.overcurrent = False
        self._drive: Drive | None = None
        self._watch: Watch | None = None
        self.sense(self.reading._replace(duty=0.0, amperes=0.0))

    # ---- registers ----------------------------------------------------------------------------------------------

    def get(self, name: str) -> int:
        address, size = TABLE[name][:2]
        return decode_register(name, self.ram[address : address + size])

    def set(self, name: str, value: int) -> None:
        """Change a register from inside, also one that is read-only on the wire."""
        address, size = TABLE[name][:2]
        self.ram[address : address + size] = encode_register(name, value)
        self._drive = self._watch = None

    def keep(self) -> None:
        """Copy all settings to the EEPROM, as writes with Lock 0 do, and start anew."""
        self.eeprom[:] = self.ram[:EEPROM_END]
        self.power_on()

    @property
    def id(self) -> int:
        return self.ram[TABLE["ID"].address]

    @property
    def torque(self) -> bool:
        return self.ram[TABLE["Torque_Enable"].address] == 1

    @property
    def return_delay(self) -> float:
        """Between the end of a request and the start of the answer [s]."""
        return 2e-6 * self.get("Return_Delay_Time")

    # ---- requests -----------------------------------------------------------------------------------------------

    def handle(self, packet: Packet) -> bytes:
        """The status packet that answers a request, or nothing: not meant for this servo, malformed, or no answer due.

        It does no input or output, and no time passes.
        """
        id, code = self.id, packet.code
        if packet.id not in (id, BROADCAST):
            return b""
        answer = self._obey(packet)
        everyone = packet.id == BROADCAST and code not in (Instruction.PING, Instruction.SYNC_READ)
        if answer is None or everyone:
            return b""
        if code not in ANSWERED_ALWAYS and self.get("Response_Status_Level") == 0:
            return b""
        return build(id, self.ram[TABLE["Status"].address] | answer.error, answer.data)

    def _obey(self, packet: Packet) -> Answer | None:
        params = packet.params
        match packet.code:
            case Instruction.PING:
                return Answer()
            case Instruction.READ if len(params) == 2 and packet.id != BROADCAST:
                return self._read(*params)
            case Instruction.SYNC_READ if self.id in params[2:] and packet.id == BROADCAST:
                return self._read(*params[:2])
            case Instruction.WRITE if len(params) >= 2:
                return self.write(params[0], params[1:])
            case Instruction.SYNC_WRITE if len(params) >= 2 and packet.id == BROADCAST:
                return self._sync_write(params[0], params[1], params[2:])
            case Instruction.REG_WRITE if len(params) >= 2:
                return self._hold(params)
            case Instruction.ACTION:
                return self._act()
            case Instruction.RESET:
                return self._reset()
        return None

    def _read(self, address: int, count: int) -> Answer | None:
        data = bytes(self.ram[address : address + count])
        return Answer(data) if len(data) == count > 0 else None

    def _sync_write(self, address: int, count: int, blocks: bytes) -> None:
        for start in range(0, len(blocks) - count, count + 1):
            if count and blocks[start] == self.id:
                self.write(address, blocks[start + 1 : start + 1 + count])

    def _hold(self, params: bytes) -> Answer:
        self.waiting = params
        self.set("Async_Write_Flag", 1)
        return Answer()

    def _act(self) -> Answer:
        waiting, self.waiting = self.waiting, None
        self.set("Async_Write_Flag", 0)
        return self.write(waiting[0], waiting[1:]) if waiting else Answer()

    def _reset(self) -> Answer:
        kept = {address: self.eeprom[address] for address in KEPT_BY_RESET}
        self.eeprom = FACTORY[:EEPROM_END]
        self.eeprom[:2] = bytes(self.firmware.version)
        for address, byte in kept.items():
            self.eeprom[address] = byte
        self.power_on()
        return Answer()

    def write(self, address: int, data: bytes) -> Answer:
        """Change registers as a WRITE does: read-only bytes stay, and the EEPROM follows while Lock is 0."""
        touched = WRITABLE.intersection(range(address, address + len(data)))
        before, unlocked = bytes(self.ram), self.get("Lock") == 0
        for place in touched:
            self.ram[place] = data[place - address]
        if self.id >= BROADCAST:  # nobody could ever reach it again
            self.ram[TABLE["ID"].address] = before[TABLE["ID"].address]
        if TABLE["Goal_Position"].address in touched and not self._goal_allowed():
            self.ram[:] = before
            return Answer(error=Error.ENCODER)
        if unlocked:
            for place in touched.intersection(range(EEPROM_END)):
                self.eeprom[place] = self.ram[place]
        if touched <= GOAL_BYTES and self._drive is not None and self._drive.mode == POSITION:  # thirty times a second
            self._drive = self._drive._replace(goal=self._reachable_goal())
        else:
            self._drive = self._watch = None
        self._after_write(touched, before[TABLE["Torque_Enable"].address])
        self.ram[ECHO] = self.ram[GOAL]
        return Answer()

    def _goal_allowed(self) -> bool:
        low, high = self.get("Min_Position_Limit"), self.get("Max_Position_Limit")
        refuses = self.firmware.out_of_range == "error" and self.get("Operating_Mode") == 0
        return not refuses or low <= self.get("Goal_Position") <= high

    def _after_write(self, touched: frozenset[int], torque: int) -> None:
        """What a write sets off; `torque` is Torque_Enable before it."""
        new_goal = GOALS.get(self.get("Operating_Mode")) in touched
        if TABLE["Torque_Enable"].address in touched:
            self._switch(torque, new_goal)
        if new_goal:
            self._take_goal()
        if touched & FRAME:
            self.set("Present_Position", self._position())

    def _take_goal(self) -> None:
        if self.firmware.goal_enables_torque and self.get("Torque_Enable") == 0:
            self._switch_on(new_goal=True)
        drive = self.drive()
        way = drive.goal - self.get("Present_Position") if drive.mode == POSITION else drive.goal
        if self.overload and self.overload * way <= 0:
            self.overload, self._drive = 0, None

    def _switch(self, before: int, new_goal: bool) -> None:
        wanted = self.get("Torque_Enable")
        if wanted == 128:
            self._make_middle()
        if wanted not in (0, 1, 2):
            self.set("Torque_Enable", before)
        elif wanted == 1 and before != 1:
            self._switch_on(new_goal)

    def _switch_on(self, new_goal: bool) -> None:
        self.set("Torque_Enable", 1)
        self.overload, self.overload_s, self.overcurrent, self.overcurrent_s = 0, 0.0, False, 0.0
        if self.firmware.on_enable == "hold" and not new_goal:
            self.set("Goal_Position", self.get("Present_Position"))

    def _make_middle(self) -> None:
        """Choose Homing_Offset so that the present position reads 2048, and keep it."""
        self.set("Homing_Offset", max(round(self.reading.ticks) % TURN - MIDDLE, -2047))
        for place in _span("Homing_Offset"):
            self.eeprom[place] = self.ram[place]
        self.set("Present_Position", self._position())

    # ---- the motor's side ---------------------------------------------------------------------------------------

    def drive(self) -> Drive:
        if self._drive is None:
            self._drive = self._make_drive()
        return self._drive

    def _make_drive(self) -> Drive:
        unit = self._speed_unit()
        modes = {0: POSITION, 1: VELOCITY, 2: PWM}
        mode = {1: modes.get(self.get("Operating_Mode"), COAST), 2: BRAKE}.get(self.get("Torque_Enable"), COAST)
        goals = {VELOCITY: unit * self.get("Goal_Velocity"), PWM: self.get("Goal_Time") / 1000}
        limit = min(self.get("Max_Torque_Limit"), self.get("Torque_Limit"), 1000) / 1000
        acceleration = min(self.get("Acceleration"), self.get("Maximum_Acceleration") or 255)
        return Drive(
            mode=mode,
            goal=goals.get(mode, self._reachable_goal()),
            homing=self.get("Homing_Offset"),
            p=self.get("P_Coefficient"),
            i=self.get("I_Coefficient"),
            speed=unit * abs(self.get("Goal_Velocity")) or UNLIMITED,
            acceleration=100 * acceleration or UNLIMITED,
            limit=min(limit, self.get("Protective_Torque") / 100) if self.overload else limit,
            dead_below=self.get("CCW_Dead_Zone"),
            dead_above=self.get("CW_Dead_Zone"),
            many_turns=bool(self.get("Phase") & MANY_TURNS),
        )

    def _reachable_goal(self) -> int:
        return min(max(self.get("Goal_Position"), self.get("Min_Position_Limit")), self.get("Max_Position_Limit"))

    def _position(self) -> int:
        position = round(self.reading.ticks) - self.drive().homing
        return _clip(position, 32767) if self.drive().many_turns else position % TURN

    def _speed_unit(self) -> int:
        """Ticks/s in a unit of the speed registers."""
        return 1 if self.get("Phase") & TICK_SPEEDS else 50

    def sense(self, reading: Reading, seconds: float = 0.0) -> None:
        """Put what the motor did into the feedback registers, and let the protections watch for `seconds`."""
        self.reading = reading
        watch = self._watch or self._make_watch()
        position = self._position()
        speed, load = _clip(reading.speed / watch.speed_unit, 32767), _clip(1000 * reading.duty, 1000)
        volts, celsius = _clip(10 * max(reading.volts, 0), 255), _clip(max(reading.celsius, 0), 255)
        current = _clip(abs(reading.amperes) * AMPERE, 65535)
        moving = self.torque and (abs(speed) > watch.moving or not reading.arrived)
        signed = abs(position) | (position < 0) << 15, abs(speed) | (speed < 0) << 15, abs(load) | (load < 0) << 10
        FEEDBACK.pack_into(self.ram, TABLE["Present_Position"].address, *signed, volts, celsius)
        self.ram[TABLE["Moving"].address] = moving
        CURRENT.pack_into(self.ram, TABLE["Present_Current"].address, current)
        self._protect(watch, load, current, volts, celsius, seconds)

    def _protect(self, watch: Watch, load: int, current: int, volts: int, celsius: int, seconds: float) -> None:
        overloaded = self.torque and abs(load) > watch.overload
        self.overload_s = self.overload_s + seconds if overloaded else 0.0
        if overloaded and seconds > 0 and self.overload_s > watch.overload_s - 1e-9:
            self.trip(1 if load > 0 else -1)
        self.overcurrent_s = self.overcurrent_s + seconds if current > watch.current else 0.0
        self.overcurrent |= self.overcurrent_s > watch.current_s
        errors = Error.OVERLOAD * bool(self.overload) | Error.OVERCURRENT * self.overcurrent
        errors |= Error.VOLTAGE * (not watch.volts[0] <= volts <= watch.volts[1])
        errors |= Error.OVERHEAT * (celsius > watch.celsius)
        self.ram[TABLE["Status"].address] = errors
        if errors & watch.unload & TORQUE_OFF and self.get("Torque_Enable"):
            self.set("Torque_Enable", 0)

    def _make_watch(self) -> Watch:
        self._watch = Watch(
            speed_unit=self._speed_unit(),
            moving=self.get("Moving_Velocity_Threshold"),
            overload=10 * self.get("Overload_Torque"),
            overload_s=0.01 * self.get("Protection_Time"),
            current=self.get("Protection_Current"),
            current_s=0.01 * self.get("Over_Current_Protection_Time"),
            volts=(self.get("Min_Voltage_Limit"), self.get("Max_Voltage_Limit")),
            celsius=self.get("Max_Temperature_Limit"),
            unload=self.get("Unloading_Condition"),
        )
        return self._watch

    def trip(self, direction: int = 1) -> None:
        """Enter the state after an overload in that direction, unless Unloading_Condition leaves it out."""
        if self.get("Unloading_Condition") & Error.OVERLOAD and not self.overload:
            self.overload = direction
            self.set("Status", self.get("Status") | Error.OVERLOAD)


def _clip(value: float, limit: int) -> int:
    return max(-limit, min(round(value), limit))
