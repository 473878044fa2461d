"""Calibration of an arm in LeRobot's way, as a state machine that a widget or a script drives; nothing asks for input.

    Present_Position = encoder - homing_offset  (mod 4096)
    stage "middle":   homing_offset = encoder - 2047      with every joint in the middle of its range
    stage "range":    range_min, range_max = the least and the largest Present_Position, each joint moved stop to stop
    degrees = (Present_Position - (range_min + range_max) / 2) 360 / 4095          percent, of the gripper: 0..100

So zero degrees is the middle of the range that the user has shown. The wrist roll has no stops worth showing: its range
is 0 to 4095, and its zero is where it stood in stage "middle". Look first at `step`; `Session` is the same with an arm.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kit.envs.so101 import JOINTS
from kit.sim2real.protocol import decode, register
from kit.sim2real.servo import TURN

if TYPE_CHECKING:
    from kit.sim2real.client import ServoClient

HALF = 2047  # what the middle of a range reads [ticks]
FULL_TURN = ("wrist_roll",)
GRIPPER = "gripper"
ENOUGH = 60.0  # a joint's range must be at least this wide [deg]; the narrowest, the gripper's, has 110
REGISTERS = {"homing_offset": "Homing_Offset", "range_min": "Min_Position_Limit", "range_max": "Max_Position_Limit"}


@dataclass(frozen=True)
class Joint:
    """One joint's entry in a calibration file."""

    id: int
    drive_mode: int  # LeRobot writes 0 and does not use it for this arm
    homing_offset: int  # [ticks]
    range_min: int  # [ticks], as range_max in Present_Position
    range_max: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise ValueError(f"{name} is {value!r}; it must be a whole number")
        if not abs(self.homing_offset) <= 2047:
            raise ValueError(f"homing_offset is {self.homing_offset}; a servo keeps -2047 to 2047")
        if not 0 <= self.range_min < self.range_max <= TURN - 1:
            raise ValueError(f"the range {self.range_min} to {self.range_max} must rise and lie in 0..{TURN - 1}")

    @property
    def middle(self) -> float:
        return (self.range_min + self.range_max) / 2


Calibration = dict[str, Joint]  # by joint name, in the order of so101.JOINTS


# ---- units ------------------------------------------------------------------------------------------------------


def to_units(name: str, ticks: int, joint: Joint) -> float:
    """Present_Position in LeRobot's units: degrees, or percent for the gripper."""
    if name != GRIPPER:
        return (ticks - joint.middle) * 360 / (TURN - 1)
    inside = min(max(ticks, joint.range_min), joint.range_max)
    return 100 * (inside - joint.range_min) / (joint.range_max - joint.range_min)


def to_ticks(name: str, value: float, joint: Joint) -> int:
    """The goal for a value in LeRobot's units, cut to a whole number as LeRobot does."""
    if name != GRIPPER:
        return int(value * (TURN - 1) / 360 + joint.middle)
    return int(min(max(value, 0.0), 100.0) / 100 * (joint.range_max - joint.range_min) + joint.range_min)


# ---- files ------------------------------------------------------------------------------------------------------


def default_path(arm_id: str, robot: str = "so_follower") -> Path:
    """Where LeRobot keeps the calibration of the arm that the user calls `arm_id`."""
    home = os.environ.get("HF_LEROBOT_CALIBRATION")
    if home is None:
        cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
        home = str(Path(os.environ.get("HF_LEROBOT_HOME", f"{cache}/lerobot")) / "calibration")
    return Path(home).expanduser() / "robots" / robot / f"{arm_id}.json"


def parse(found: Mapping[str, Any]) -> Calibration:
    """A calibration from plain dictionaries or `Joint`s, checked.

    Raises:
        ValueError: a joint is missing, unknown or makes no sense.
    """
    if set(found) != set(JOINTS):
        raise ValueError(f"a calibration has the joints {', '.join(JOINTS)}; this one has {', '.join(found) or 'none'}")
    calibration = {}
    for name in JOINTS:
        try:
            entry = found[name]
            calibration[name] = entry if isinstance(entry, Joint) else Joint(**entry)
        except (TypeError, ValueError) as error:
            raise ValueError(f"calibration of {name}: {error}") from error
    if len({joint.id for joint in calibration.values()}) < len(JOINTS):
        raise ValueError(f"two joints share an ID: { ({n: j.id for n, j in calibration.items()}) }")
    return calibration


def load(path: str | Path) -> Calibration:
    """
    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no calibration.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no calibration at {path}; calibrate the arm, or give the file's path")
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
        return parse(found)
    except ValueError as error:
        raise ValueError(f"{path} is no calibration: {error}") from error


def save(calibration: Mapping[str, Any], path: str | Path) -> Path:
    """Write LeRobot's JSON; a file that was there is replaced as a whole."""
    path, checked = Path(path), parse(calibration)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
        json.dump({name: asdict(joint) for name, joint in checked.items()}, file, indent=4)
    os.replace(file.name, path)
    return path


# ---- the procedure ----------------------------------------------------------------------------------------------


class State(NamedTuple):
    """Where the procedure is. The tuples have a value for each joint, in the order of so101.JOINTS."""

    stage: str = "middle"  # then "range", then "done"
    encoder: tuple[int, ...] = ()  # the last sample [ticks], with all homing offsets 0
    offsets: tuple[int, ...] = ()  # homing offsets, from "range" on
    low: tuple[int, ...] = ()  # the least Present_Position so far
    high: tuple[int, ...] = ()


def homing_offset(encoder: int) -> int:
    """The offset that makes this encoder value [ticks] read 2047. (For 4095 it would be 2048, which does not fit.)"""
    return min(encoder - HALF, 2047)


def present(encoder: Sequence[int], offsets: Sequence[int]) -> tuple[int, ...]:
    """Present_Position [ticks] of encoders behind homing offsets."""
    return tuple((e - o) % TURN for e, o in zip(encoder, offsets, strict=True))


def step(state: State, encoder: Sequence[int], *, confirm: bool = False) -> State:
    """The next state after a sample of the six encoders [ticks]; `confirm` is the user's "done" for this stage.

    Raises:
        ValueError: a value outside 0..4095; a joint went over the end of its turn, because it was far from its middle;
            or confirmed too early. The state that was given stays valid.
    """
    encoder = tuple(int(e) for e in encoder)
    if len(encoder) != len(JOINTS) or not all(0 <= e < TURN for e in encoder):
        raise ValueError(f"encoders {encoder} must be {len(JOINTS)} values in 0..{TURN - 1}")
    if state.stage == "done":
        return state
    if state.stage == "middle":
        state = state._replace(encoder=encoder)
        if not confirm:
            return state
        offsets = tuple(map(homing_offset, encoder))
        here = present(encoder, offsets)
        return State("range", encoder, offsets, here, here)
    state = _widen(state, encoder)
    if confirm and (lazy := missing(state)):
        raise ValueError(f"move {', '.join(lazy)} from stop to stop first: less than {ENOUGH:g} degrees were seen")
    return state._replace(stage="done") if confirm else state


def _widen(state: State, encoder: tuple[int, ...]) -> State:
    before, here = present(state.encoder, state.offsets), present(encoder, state.offsets)
    for name, a, b in zip(JOINTS, before, here, strict=True):
        if name not in FULL_TURN and abs(b - a) > TURN // 2:
            raise ValueError(
                f"{name} went over the end of its turn ({a} to {b} ticks): it was not near the middle of its range. "
                "Start anew with every joint in the middle"
            )
    return state._replace(encoder=encoder, low=tuple(map(min, state.low, here)), high=tuple(map(max, state.high, here)))


def missing(state: State) -> list[str]:
    """Joints that have not been moved far enough yet."""
    ranges = zip(JOINTS, state.low, state.high, strict=True) if state.low else [(name, 0, 0) for name in JOINTS]
    return [n for n, low, high in ranges if n not in FULL_TURN and (high - low) * 360 / TURN < ENOUGH]


def prompt(state: State) -> str:
    """What the user has to do now."""
    if state.stage == "middle":
        return "Move every joint to the middle of its range, then confirm."
    if state.stage == "done":
        return "Done."
    left = missing(state)
    rest = f" Not far enough yet: {', '.join(left)}." if left else " All have been far enough."
    return f"Move every joint but the wrist roll from stop to stop, one after the other, then confirm.{rest}"


def result(state: State, ids: Sequence[int] = tuple(range(1, 7))) -> Calibration:
    """
    Raises:
        ValueError: the procedure is not done.
    """
    if state.stage != "done":
        raise ValueError(f"the calibration is at stage {state.stage!r}: {prompt(state)}")
    found = {}
    for name, id, offset, low, high in zip(JOINTS, ids, state.offsets, state.low, state.high, strict=True):
        low, high = (0, TURN - 1) if name in FULL_TURN else (low, high)
        found[name] = Joint(id, 0, offset, low, high)
    return found


# ---- the arm's side ---------------------------------------------------------------------------------------------


def read_eeprom(client: ServoClient) -> dict[str, dict[str, int]]:
    """What the servos themselves hold. It need not make sense: a new servo has the offset 0 and the range 0 to 4095."""
    return {
        name: dict(id=id, drive_mode=0, **{key: client.read(reg, id) for key, reg in REGISTERS.items()})
        for name, id in zip(JOINTS, client.ids, strict=True)
    }


def write_eeprom(client: ServoClient, calibration: Mapping[str, Any]) -> None:
    """Store a calibration in the servos, with the torque off, and read it back. They are locked again afterwards."""
    for joint in parse(calibration).values():
        client.write("Torque_Enable", joint.id, 0)
        client.write("Lock", joint.id, 0)
        for key, name in REGISTERS.items():
            client.write(name, joint.id, getattr(joint, key))
            if (got := client.read(name, joint.id)) != getattr(joint, key):
                raise RuntimeError(f"servo {joint.id} keeps {name} = {got}, not {getattr(joint, key)}")
        client.write("Lock", joint.id, 1)


def differences(calibration: Calibration, eeprom: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Where the servos hold something else than the file."""
    return [
        f"{name}.{key} is {eeprom[name][key]} in the servo and {getattr(joint, key)} in the file"
        for name, joint in calibration.items()
        for key in REGISTERS
        if eeprom[name][key] != getattr(joint, key)
    ]


class Session:
    """The procedure with an arm: switch the torque off, `update` while the user moves it, `confirm` each stage.

    The old calibration stays in the servos until the new one is complete, so that a session may simply be dropped.
    After the last `confirm` the new one is in the servos, and in the file if `path` was given.
    """

    def __init__(self, client: ServoClient, path: str | Path | None = None):
        self.client, self.path = client, Path(path) if path else None
        self.calibration: Calibration | None = None
        self.state = State()
        for id in client.ids:
            client.write("Torque_Enable", id, 0)

    @property
    def prompt(self) -> str:
        return prompt(self.state)

    @property
    def ranges(self) -> dict[str, tuple[int, int, int]]:
        """Least, present and largest Present_Position of each joint [ticks], to show while the joints are moved."""
        if self.state.stage == "middle":
            return {}
        here = present(self.state.encoder, self.state.offsets)
        return dict(zip(JOINTS, zip(self.state.low, here, self.state.high, strict=True), strict=True))

    def _encoders(self) -> list[int]:
        first, last = register("Homing_Offset"), register("Present_Position")
        place = last.address - first.address
        blocks = self.client.block("Homing_Offset", place + last.size).values()
        pairs = [(decode("Present_Position", d[place:]), decode("Homing_Offset", d[: first.size])) for d in blocks]
        return [sum(pair) % TURN for pair in pairs]

    def update(self) -> State:
        """Take a sample: call it about thirty times a second while the arm is moved."""
        self.state = step(self.state, self._encoders())
        return self.state

    def confirm(self) -> State:
        """The user says that this stage is finished; the last one stores the calibration."""
        state = step(self.state, self._encoders(), confirm=True)
        if state.stage == "done" and self.calibration is None:
            found = result(state, self.client.ids)
            write_eeprom(self.client, found)
            if self.path is not None:
                save(found, self.path)
            self.calibration = found
        self.state = state
        return state
