"""An SO-101 in LeRobot's contract: connect, observe, act, disconnect; with the safety layer in front of the servos.

    with SO101("/dev/ttyACM0") as robot:                     # or the path of a virtual arm, or the virtual bus itself
        rate = Rate(robot.rate)
        for _ in range(300):
            rate.wait()
            sent = robot.send_action(policy(robot.get_observation()))

Keys are `<joint>.pos`, degrees, and 0 (shut) to 100 for the gripper, as in LeRobot. What goes wrong in a loop ends in a
hold: the servos keep their last goal, or one nearer to where they are, `status` becomes "halted", and the exception
says what happened; `reconnect` looks at everything anew and goes on from where the arm is. Look first at `SO101.
send_action`, then at `SO101.watch`, which a thread calls all the time, so that an arm whose program is stuck holds
still after 0.3 s, and after 2 s goes to rest and lets go.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kit.envs.so101 import JOINTS
from kit.sim2real import bringup, safety
from kit.sim2real import calibration as calib
from kit.sim2real import client as line
from kit.sim2real.client import BusError, RobotError, ServoClient, error_names, name_of
from kit.sim2real.units import (
    KEYS,
    CalibrationMismatch,
    Halted,
    NotCalibrated,
    NotConnected,
    UnknownJoint,
    WrongRate,
    WrongUnits,
    check_action,
    looks_like_radians,
    to_radians,
    to_values,
)

log = logging.getLogger(__name__)
REST = np.array([0.0, -1.745, 1.69, 0.8, 0.0, 0.0])  # folded [rad]


@dataclass(frozen=True)
class Config:
    """Of the client. The gains are what LeRobot writes."""

    id: str = "so101"  # names the calibration file
    p_gain: int = 16
    i_gain: int = 0
    d_gain: int = 32
    acceleration: int = 254  # 100 ticks/s^2; not kept over a power cycle, which gives a restart away
    health_period: float = 0.5  # between looks at torque, load, voltage and temperature [s]
    watchdog: bool = True  # run the thread; without it, or on a lockstep clock, call `watch` yourself
    line: line.Config = field(default_factory=line.Config)
    limits: safety.Limits = field(default_factory=safety.Limits)


def calibrated_limits(limits: safety.Limits, calibration: calib.Calibration) -> safety.Limits:
    """The limits, narrowed to the calibrated range; zero degrees is its middle, and the gripper's ends are its own."""
    half = [np.pi * (j.range_max - j.range_min) / 4095 for j in calibration.values()]
    low = [max(a, -h) for a, h in zip(limits.low[:5], half, strict=False)]
    high = [min(a, h) for a, h in zip(limits.high[:5], half, strict=False)]
    return replace(limits, low=(*low, limits.low[5]), high=(*high, limits.high[5]))


# ---- the robot --------------------------------------------------------------------------------------------------


class SO101:
    """LeRobot's robot. `port` is a path, a `kit.sim2real.bus.Bus`, an open port like pyserial's, or a PortHandler.

    `calibration` is LeRobot's, as a dictionary or a file; by default the file where LeRobot keeps that of `cfg.id`.
    `now` is the clock [s]: by default the wall's, or a lockstep bus's own. `status` is "disconnected", "uncalibrated",
    "ready", "halted", "resting" or "released", and `reason` says why. `changed` counts, for each rule of the safety
    layer, how many actions it changed; `lockstep` is whether time only passes with actions.
    """

    name = "so_follower"

    def __init__(
        self,
        port: Any,
        cfg: Config | None = None,
        *,
        calibration: Mapping[str, Any] | str | Path | None = None,
        now: Callable[[], float] | None = None,
        sleep: Callable[[float], None] | None = None,
    ):
        self.port, self.cfg = port, cfg or Config()
        given = isinstance(calibration, Mapping)
        self.path = None if given else Path(calibration or calib.default_path(self.cfg.id))
        self.calibration = calib.parse(calibration) if given else None
        self.observation_features = dict.fromkeys(KEYS, float)
        self.action_features = dict.fromkeys(KEYS, float)
        self.status, self.reason = "disconnected", "connect() was not called"
        self.client: ServoClient | None = None
        self.limits = self.cfg.limits
        self.changed: dict[str, int] = {}
        self.lockstep = False
        self._clock = (now, sleep)
        self._lock = threading.RLock()
        self._stop, self._thread = threading.Event(), None

    # ---- life cycle ---------------------------------------------------------------------------------------------

    @property
    def rate(self) -> float:
        """Actions in a second that the limits are meant for [Hz]."""
        return self.cfg.limits.rate

    @property
    def is_connected(self) -> bool:
        return self.client is not None

    @property
    def is_calibrated(self) -> bool:
        """Whether the servos hold the calibration that this object has."""
        client = self._connected()
        return self.calibration is not None and not calib.differences(self.calibration, calib.read_eeprom(client))

    def require(self, *, rate: float | None = None, units: str | None = None, joints: Any = None) -> None:
        """Compare with what a policy was trained for, before it moves anything.

        Raises:
            WrongRate, WrongUnits, UnknownJoint: with what to change.
        """
        if rate is not None and abs(rate - self.rate) > 0.01 * self.rate:
            raise WrongRate(
                f"the policy was trained at {rate:g} Hz and the arm runs at {self.rate:g} Hz: its steps would be "
                f"{self.rate / rate:.2g} times as fast. Use Limits(rate={rate:g}) and Rate({rate:g}), or train again"
            )
        if units is not None and units not in ("degrees", "deg"):
            raise WrongUnits(
                f"the policy speaks {units}, and this arm degrees (gripper: 0 to 100); convert with "
                "kit.sim2real.units.to_values and to_radians"
            )
        if joints is not None and list(joints) != list(KEYS):
            raise UnknownJoint(f"the policy moves {', '.join(joints)}; this arm has {', '.join(KEYS)}, in this order")

    def connect(self, calibrate: bool = True) -> None:
        """Open the port, look whether all is as it should be, write LeRobot's settings, hold where the arm is.

        With `calibrate=False` an arm without a valid calibration is left alone, with its torque off, for `calibrate`.

        Raises:
            PortMissing, PortBusy, BusError, FirmwareMismatch: with the fix.
            NotCalibrated, CalibrationMismatch: only with `calibrate`.
        """
        if self.is_connected:
            raise RobotError("the arm is connected already; disconnect() first, or reconnect()")
        with self._lock:
            self.client = ServoClient(self.port, self.cfg.line)
            try:
                self._set_clock()
                self._come_up(calibrate, keep=False)
            except BaseException as error:
                self._close(str(error))
                raise
        self._start_watchdog()

    def reconnect(self) -> None:
        """After a halt: look at everything anew, and go on from where the arm is. Servos that are still set up and hold
        keep their torque.

        Raises:
            as `connect`; the arm then stays halted.
        """
        if not self.is_connected:
            self.connect()
            return
        with self._lock:
            self.status = "halted"
            try:
                self.client.sync_read("Present_Position")
            except BusError:
                self.client.close()
                self.client = ServoClient(self.port, self.cfg.line)
            self._come_up(calibrate=True, keep=True)

    def disconnect(self) -> None:
        """Switch the torque off, as LeRobot does, and close the port. `rest` first, or the arm drops."""
        self._connected()
        self._end_watchdog()
        with self._lock:
            if self.status != "uncalibrated":
                self._release("disconnect() was called")
            self._close("disconnect() was called")

    def __enter__(self) -> SO101:
        self.connect()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.is_connected:
            try:
                if self.status in ("ready", "resting"):
                    self.rest()
            except RobotError as error:
                log.warning("the arm did not come to rest: %s", error)
            self.disconnect()

    def _connected(self) -> ServoClient:
        if self.client is None:
            raise NotConnected(f"the arm is not connected ({self.reason}); call connect()")
        return self.client

    def _close(self, reason: str) -> None:
        if self.client is not None:
            self.client.close()
        self.client, self.status, self.reason = None, "disconnected", reason

    def _set_clock(self) -> None:
        """A lockstep bus has its own time, in which nothing waits."""
        clock = getattr(getattr(self.client.port.ser, "bus", None), "clock", None)
        self.lockstep = clock is not None and not clock.waits
        now, sleep = (clock.now, lambda _: None) if self.lockstep else (time.monotonic, time.sleep)
        self._now, self._sleep = self._clock[0] or now, self._clock[1] or sleep

    # ---- coming up ----------------------------------------------------------------------------------------------

    def _come_up(self, calibrate: bool, keep: bool) -> None:
        bringup.shake_hands(self.client)
        try:
            self._check_calibration()
        except (NotCalibrated, CalibrationMismatch) as error:
            if calibrate:
                raise
            self.status, self.reason = "uncalibrated", str(error)
            return
        self.limits = calibrated_limits(self.cfg.limits, self.calibration)
        bringup.check_pose(self.client, self.calibration)
        try:
            for id in self.client.ids:
                bringup.configure(self.client, id, self.cfg, keep)
            self._begin()
        except RobotError as error:
            if not keep:  # nothing shall hold an arm that nobody watches
                self._release(str(error))
            raise

    def _check_calibration(self) -> None:
        if self.calibration is None:
            if not self.path.exists():
                raise NotCalibrated(
                    f"no calibration of {self.cfg.id!r} at {self.path}: connect(calibrate=False), then follow "
                    "calibrate(), and connect again"
                )
            self.calibration = calib.load(self.path)
        bringup.check_calibration(self.client, self.calibration)

    def _begin(self) -> None:
        self._watch = safety.Watch(self.limits)
        self._strained, self._volts, self._warned = np.full(6, np.nan), 0.0, False
        self._checked_failures, self._health_at = self.client.failures, -np.inf
        self._first, self._held = True, False
        self.status, self.reason = "ready", ""
        self._state: safety.State | None = None
        self._read()
        self._state = safety.start(self._present, self._now(), self.limits)
        self._anchor = safety.Anchor(self._present, np.full(6, self._now()))
        self.client.while_waiting = self._rehearse

    # ---- observing ----------------------------------------------------------------------------------------------

    def get_observation(self) -> dict[str, float]:
        """The joints' positions: degrees, and percent for the gripper.

        Raises:
            Halted: something went wrong just now; the message says what. A halted arm can still be looked at.
            BusError: it was halted already and does not answer.
        """
        with self._lock:
            self._usable()
            self._read()
            return {key: self._values[key] for key in KEYS}

    def _usable(self) -> None:
        self._connected()
        if self.status == "uncalibrated":
            raise NotCalibrated(f"{self.reason}; calibrate() first, then disconnect() and connect()")

    def _read(self) -> None:
        """Positions, error bits, and twice a second everything else.

        Raises:
            Halted: what an arm in use must not go on with.
        """
        try:
            ticks = self.client.sync_read("Present_Position")
            now = self._now()
            self._values = self._in_units(ticks)
            self._present, self._seen_at = to_radians(self._values), now
            if self.status in ("ready", "resting"):
                self._look_after(now)
        except BusError as error:
            if self.status in ("ready", "resting"):
                raise self._halt(str(error)) from error
            raise

    def _in_units(self, ticks: Mapping[int, int]) -> dict[str, float]:
        joints = zip(KEYS, JOINTS, self.client.ids, strict=True)
        return {key: calib.to_units(name, ticks[id], self.calibration[name]) for key, name, id in joints}

    def _rehearse(self) -> None:
        """What will be computed with an answer, while it is on its way: after a sleep of 33 ms the code has left the
        processor's caches, and its first run takes several times as long as the next one."""
        if self.status != "ready" or self._state is None:
            return
        _, sent = self._in_ticks(self._state.command)
        self._in_units(dict.fromkeys(self.client.ids, 2048))
        now, goal = self._now(), to_radians(sent)
        safety.stuck(self._anchor, self._present, goal, now, self.limits)
        safety.command(goal, self._state, self._present, now, self.limits)

    def _look_after(self, now: float) -> None:
        if bad := {id: code for id, code in self.client.errors.items() if code}:
            listed = ", ".join(f"{name_of(id)} reports {error_names(code)}" for id, code in bad.items())
            raise self._halt(f"{listed}: let it cool and take the load away", sag=0.0)
        if self._state is not None:
            self._anchor, found = safety.stuck(self._anchor, self._present, self._state.command, now, self.limits)
            if found.any():
                names = ", ".join(name for name, is_stuck in zip(JOINTS, found, strict=True) if is_stuck)
                raise self._halt(
                    f"{names} does not move though its goal is more than {np.degrees(self.limits.stuck):.0f} degrees "
                    "away: it is blocked, or its encoder is stuck",
                    sag=0.0,
                )
        if now - self._health_at >= self.cfg.health_period or self.client.failures != self._checked_failures:
            self._check_health(now)

    def _check_health(self, now: float) -> None:
        self._checked_failures, self._health_at = self.client.failures, now
        health = bringup.health(self.client)
        torque, acceleration, load, volts, celsius = (health[name] for name in bringup.HEALTH)
        ids = np.array(self.client.ids)
        if (anew := acceleration != self.cfg.acceleration).any():
            raise self._halt(
                f"{', '.join(map(name_of, ids[anew].tolist()))} started anew and lost its settings: the supply broke "
                "down for a moment (brown-out). Check the supply and its plugs"
            )
        if (off := torque != 1).any():
            raise self._halt(
                f"{', '.join(map(name_of, ids[off].tolist()))} has no torque: another program, or a protection, "
                "switched it off"
            )
        self._volts = self._volts or float(volts.max())
        if volts.min() < self.limits.volts * self._volts:
            raise self._halt(
                f"the supply fell from {self._volts:g} to {volts.min():g} V: it is too weak, or nearly empty"
            )
        if celsius.max() > self.limits.hot and self.status == "ready":
            raise self._begin_rest(f"{name_of(int(ids[celsius.argmax()]))} has {celsius.max():g} degrees Celsius", now)
        if celsius.max() > self.limits.warm and not self._warned:
            self._warned = True
            log.warning("%s has %g degrees Celsius", name_of(int(ids[celsius.argmax()])), celsius.max())
        self._strained, strained = safety.strain(load, self._strained, now, self.limits)
        if strained.any() and self._state is not None:
            self._note("load", [name for name, yes in zip(JOINTS, strained, strict=True) if yes])
            self._send_hold(sag=0.0)
            self._strained[:] = np.nan

    # ---- acting -------------------------------------------------------------------------------------------------

    def send_action(self, action: Mapping[str, Any]) -> dict[str, float]:
        """Send goals, as far as the safety layer lets them pass; joints that are not named keep theirs.

        Returns:
            What was really sent, in the same units.

        Raises:
            UnknownJoint, WrongUnits, ValueError: nothing was sent.
            Halted: something went wrong, now or before; the arm holds still, or has let go.
        """
        values = check_action(action)
        with self._lock:
            self._usable()
            self._ready()
            if self._now() - self._seen_at > 1.5 * self.limits.period:
                self._read()
            self._check_units(values)
            now = self._now()
            if not self._watch.fed(now):
                raise self._begin_rest(f"no action for {self.limits.rest_after:g} s", now)
            goal = to_radians({**to_values(self._state.command), **values})
            sent, self._state, notes = safety.command(goal, self._state, self._present, now, self.limits)
            self._first, self._held = False, False
            for rule in notes:
                self._note(rule, list(values))
            return self._send(sent)

    def _ready(self) -> None:
        if self.status != "ready":
            raise Halted(
                f"the arm takes no actions, it is {self.status}: {self.reason}. When that is mended, reconnect()"
            )

    def _check_units(self, values: Mapping[str, float]) -> None:
        if self._first and looks_like_radians(values, self._values):
            raise WrongUnits(
                f"the first action looks like radians: {values}, while the arm is at {self._values}; this arm takes "
                "degrees (see kit.sim2real.units.to_values)"
            )

    def _note(self, rule: str, names: list[str]) -> None:
        if rule not in self.changed:
            log.warning("the safety layer's rule %r changes actions (%s)", rule, ", ".join(names))
        self.changed[rule] = self.changed.get(rule, 0) + 1

    def _send(self, angles: np.ndarray, only: np.ndarray | None = None) -> dict[str, float]:
        """Goals (6,) [rad] onto the wire; returns them as the servos get them."""
        ticks, sent = self._in_ticks(angles)
        if only is not None:
            ticks = {id: goal for (id, goal), wanted in zip(ticks.items(), only, strict=True) if wanted}
        try:
            if ticks:
                self.client.sync_write("Goal_Position", ticks)
        except BusError as error:
            raise self._halt(str(error)) from error
        return sent

    def _in_ticks(self, angles: np.ndarray) -> tuple[dict[int, int], dict[str, float]]:
        """Goals (6,) [rad] by the servos' IDs [ticks], and by key in LeRobot's units, as the ticks have them."""
        ticks, sent = {}, {}
        for name, id, (key, value) in zip(JOINTS, self.client.ids, to_values(angles).items(), strict=True):
            joint = self.calibration[name]
            goal = min(max(calib.to_ticks(name, value, joint), joint.range_min), joint.range_max)
            ticks[id], sent[key] = goal, calib.to_units(name, goal, joint)
        return ticks, sent

    # ---- stopping -----------------------------------------------------------------------------------------------

    def _send_hold(self, sag: float | None = None, only: np.ndarray | None = None) -> None:
        self._state = safety.hold(self._state, self._present, self._now(), self.limits, sag=sag)
        self._send(self._state.command, only)

    def _halt(self, reason: str, *, sag: float | None = None) -> Halted:
        """First nobody may send any more; then hold still, as far as the bus still works. Whoever has no torque is left
        alone, since a goal would switch it on."""
        if self.status == "halted":
            return Halted(self.reason)
        self.status, self.reason = "halted", reason
        log.error("halted: %s", reason)
        if self._state is not None:
            with contextlib.suppress(RobotError):  # then the servos keep their last goals
                self._send_hold(sag, only=self._torque())
        return Halted(f"{reason}. The arm holds still; when that is mended, reconnect()")

    def _torque(self) -> np.ndarray:
        """Which servos (6,) surely hold: one that does not answer may have lost its torque."""
        return np.array([self.client.peek("Torque_Enable", id) == 1 for id in self.client.ids])

    def _begin_rest(self, reason: str, now: float) -> Halted:
        if self.status == "ready":
            self.status, self.reason, self._rest_at = "resting", reason, now
            log.warning("going to rest: %s", reason)
        return Halted(f"{reason}: the arm goes to rest and lets go; then reconnect()")

    def begin_rest(self) -> None:
        """Start to fold the arm slowly; `watch`, which the thread calls, goes on with it until it is "released".

        Raises:
            Halted: the arm takes no actions.
        """
        with self._lock:
            self._usable()
            if self.status != "resting":
                self._ready()
                self._begin_rest("rest() was called", self._now())

    def rest(self) -> None:
        """Fold the arm slowly, then switch the torque off. It blocks for some seconds.

        Raises:
            Halted: something went wrong on the way.
        """
        self.begin_rest()
        while self.status == "resting":
            self.watch()
            self._sleep(self.limits.period)
        if self.status != "released":
            raise Halted(self.reason)

    def watch(self) -> str:
        """One look of the watchdog, which never raises; returns `status`. A thread calls it 30 times a second."""
        with self._lock:
            try:
                if self.status == "ready":
                    self._watch_commands(self._now())
                elif self.status == "resting":
                    self._rest_step()
            except RobotError as error:
                log.debug("watchdog: %s", error)  # whoever raised it has halted the arm
            except Exception as error:  # a watchdog that dies protects nobody
                log.exception("watchdog")
                self._halt(f"the watchdog failed: {error!r}")
        return self.status

    def _watch_commands(self, now: float) -> None:
        stage = self._watch.stage(now)
        if stage == "rest":
            self._begin_rest(f"no action for {self.limits.rest_after:g} s", now)
        elif stage == "hold" and not self._held:
            self._held = True
            self._read()
            if self.status == "ready":
                self._send_hold()

    def _rest_step(self) -> None:
        self._read()
        now, slow = self._now(), self.limits.rest_speed
        limits = replace(self.limits, max_speed=slow, max_delta=min(self.limits.max_delta, slow * self.limits.period))
        goal = np.clip(REST, *self.limits.range)
        sent, self._state, _ = safety.command(goal, self._state, self._present, now, limits)
        self._send(sent)
        if np.abs(sent - goal).max() < 1e-6 or now - self._rest_at > self.limits.rest_limit:
            self._release(self.reason)

    def _release(self, reason: str) -> None:
        """Torque off. The status changes first: a goal that came afterwards would switch the torque on again."""
        self.status, self.reason, lost = "released", reason, []
        for id in self.client.ids:
            try:
                self.client.write("Torque_Enable", id, 0)
                if self.client.read("Torque_Enable", id):
                    lost.append(id)
            except BusError:
                lost.append(id)
        if lost:
            self.reason = f"{reason}; {', '.join(map(name_of, lost))} may still have torque: switch the supply off"
            log.error("%s", self.reason)

    def _start_watchdog(self) -> None:
        if self.cfg.watchdog and not self.lockstep and self.status == "ready":
            self._stop.clear()
            self._thread = threading.Thread(target=self._run_watchdog, name="robot watchdog", daemon=True)
            self._thread.start()

    def _run_watchdog(self) -> None:
        while not self._stop.wait(self.limits.period):
            self.watch()

    def _end_watchdog(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None

    # ---- calibration --------------------------------------------------------------------------------------------

    def calibrate(self, path: str | Path | None = None) -> calib.Session:
        """Start the procedure (see `kit.sim2real.calibration`); the torque goes off, so hold the arm. When it is done,
        disconnect and connect again."""
        self._connected()
        with self._lock:
            self.status, self.reason, self.calibration = "uncalibrated", "calibration has begun", None
            self.path = Path(path) if path else self.path or calib.default_path(self.cfg.id)
            return calib.Session(self.client, self.path)

    def write_calibration(self) -> None:
        """Store the file's calibration in the servos, for an arm whose servos lost it. The torque goes off."""
        client = self._connected()
        with self._lock:
            self.status, self.reason = "uncalibrated", "the calibration was written; disconnect() and connect()"
            calib.write_eeprom(client, self.calibration if self.calibration is not None else calib.load(self.path))
