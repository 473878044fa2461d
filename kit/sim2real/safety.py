"""The safety layer: between any policy and any servo bus, a pure function on goals, and the rules of a watchdog.

    0. credit   c <- min(c + elapsed, 2 periods)          what has not been used of the speed limit [s]
    1. finite   a goal with NaN or infinity is replaced by the last command
    2. limits   low <= goal <= high                       2 degrees inside the calibrated range
    3. speed    |goal - last| <= min(0.05 rad, 1.5 rad/s * c)
    4. jerk     |step - last step| <= 90 rad/s^2 period^2, but braking is always allowed
    5. lead     |goal - present| <= 0.4 rad               more gives no more torque: the servo's duty is full there
    6. box      the tool stays inside a box and moves at most 5 cm, wrist and jaw stay above the table

Rules 2 to 6 only shorten the way from the last command, and the last command was allowed, so that a later rule never
undoes an earlier one. An arm that starts outside the limits or the box may come in, and never goes further out.
Goals are joint angles [rad] in the order of `kit.envs.so101.JOINTS`. A trained policy of `kit.envs` moves its targets
by at most 0.05 rad in a step of 1/30 s, and passes unchanged. Look first at `command`, then at `Watch`.
"""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import dataclass
from typing import NamedTuple

import mujoco
import numpy as np

from kit.envs import so101

STILL = 0.004  # two and a half encoder ticks [rad]
ARM = 5  # joints before the gripper, whose stops are where it works
# What must stay above the table besides the tool, and by how much [m]: the body's half width.
ABOVE = {"lower_arm": 0.02, "wrist": 0.02, "gripper": 0.0, "moving_jaw": 0.0}


@dataclass(frozen=True)
class Limits:
    """What the layer allows. Angles are in so101.JOINTS' order; `low` and `high` come from the calibration."""

    low: tuple[float, ...] = (-1.91986, -1.74533, -1.69, -1.65806, -2.74385, -0.174533)  # [rad]
    high: tuple[float, ...] = (1.91986, 1.74533, 1.69, 1.65806, 2.84121, 1.74533)  # [rad]
    margin: float = 0.0349  # kept from `low` and `high`, but not by the gripper [rad]
    rate: float = 30.0  # commands in a second [Hz]
    max_delta: float = so101.MAX_DELTA  # of one command [rad]
    max_speed: float = 1.5  # of commands, over any time: at most this times (time + 2 periods) [rad/s]
    max_acceleration: float = 90.0  # full speed forth, then back, in one command; less is gentler [rad/s^2]
    lead: float = 0.4  # of a command before the joint [rad]
    box_low: tuple[float, float, float] = (-0.5, -0.5, 0.0)  # of the tool, x, y, z [m]; the table is at z = 0
    box_high: tuple[float, float, float] = (0.5, 0.5, 0.6)
    max_tool_step: float = 0.05  # [m]
    load: float = 0.6  # share of full duty that counts as strain
    load_s: float = 0.5  # strain for so long means: go back to where the joint is [s]
    stuck: float = 0.35  # a goal so far from a joint that does not move at all for `stuck_s`: stop [rad]
    stuck_s: float = 0.15  # [s]
    sag: float = 0.1  # of a hold: how far before the joint a goal may stay, against gravity [rad]
    warm: float = 60.0  # warn [deg C]
    hot: float = 65.0  # rest [deg C]
    volts: float = 0.8  # of the supply's voltage at connect: below, hold
    hold_after: float = 0.3  # without a command [s]
    rest_after: float = 2.0  # without a command: go to rest, slowly, then switch the torque off [s]
    rest_speed: float = 0.5  # [rad/s]
    rest_limit: float = 10.0  # the torque goes off after so long, wherever the arm is by then [s]

    def __post_init__(self) -> None:
        ranges = zip(so101.JOINTS, self.low, self.high, strict=True)
        if narrow := [name for name, low, high in ranges if not high - low > 2 * self.margin]:
            raise ValueError(f"the limits of {', '.join(narrow)} leave no room; low must lie below high by 2 margins")
        for name in ("rate", "max_delta", "max_speed", "max_acceleration", "lead", "max_tool_step", "rest_speed"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        if not 0 < self.hold_after < self.rest_after:
            raise ValueError(
                f"hold_after {self.hold_after} s must be positive and below rest_after {self.rest_after} s"
            )

    @property
    def period(self) -> float:
        return 1 / self.rate

    @functools.cached_property
    def range(self) -> np.ndarray:
        """Least and largest command (2, 6) [rad]."""
        inner = np.where(np.arange(6) < ARM, self.margin, 0.0)
        return np.array([np.array(self.low) + inner, np.array(self.high) - inner])

    @functools.cached_property
    def bounds(self) -> np.ndarray:
        """Least and largest coordinates of the points of `places` (2, 5, 3) [m]."""
        bounds = np.full((2, 1 + len(ABOVE), 3), np.inf) * np.array([-1, 1])[:, None, None]
        bounds[:, 0] = self.box_low, self.box_high
        bounds[0, 1:, 2] = self.box_low[2] + np.array(list(ABOVE.values()))
        return bounds


class State(NamedTuple):
    """What the layer remembers."""

    command: np.ndarray  # the last one (6,) [rad]
    step: np.ndarray  # the way to it from the one before (6,) [rad]
    at: float  # when it was sent [s]
    credit: float  # [s]


def start(present: np.ndarray, now: float, limits: Limits) -> State:
    """The arm stands at `present` (6,) [rad], which is its goal as well.

    Raises:
        ValueError: `present` is not finite.
    """
    present = np.array(present, float)
    if present.shape != (6,) or not np.isfinite(present).all():
        raise ValueError(f"present is {present}; it must be six finite angles")
    return State(present, np.zeros(6), now, 2 * limits.period)


# ---- the rules: each takes a goal (6,) and returns one ----------------------------------------------------------


def finite(goal: np.ndarray, last: np.ndarray) -> np.ndarray:
    goal = np.asarray(goal, float)
    return goal if goal.shape == last.shape and np.isfinite(goal).all() else last


def clip(values: np.ndarray, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    """`np.clip`, which takes several times as long for six numbers."""
    return np.minimum(np.maximum(values, low), high)


def within(goal: np.ndarray, last: np.ndarray, limits: Limits) -> np.ndarray:
    low, high = limits.range
    return clip(goal, np.minimum(low, last), np.maximum(high, last))


def not_ahead(goal: np.ndarray, last: np.ndarray, present: np.ndarray, limits: Limits) -> np.ndarray:
    nearer = clip(goal, present - limits.lead, present + limits.lead)
    return clip(nearer, np.minimum(goal, last), np.maximum(goal, last))


def not_fast(goal: np.ndarray, last: np.ndarray, credit: float, limits: Limits) -> np.ndarray:
    most = min(limits.max_delta, limits.max_speed * credit)
    return last + np.clip(goal - last, -most, most)


def not_jerky(goal: np.ndarray, last: np.ndarray, before: np.ndarray, limits: Limits) -> np.ndarray:
    """`before` is the last step (6,)."""
    most = limits.max_acceleration * limits.period**2
    return last + clip(goal - last, np.minimum(before, 0) - most, np.maximum(before, 0) + most)


def in_box(goal: np.ndarray, last: np.ndarray, limits: Limits) -> np.ndarray:
    """The goal, or the furthest of sixteen points on the way to it up to which every point is allowed."""
    here, allowed = places(last), last
    if _fits(places(goal), here, limits):
        return goal
    for share in np.arange(1, 16) / 16:
        candidate = last + share * (goal - last)
        if not _fits(places(candidate), here, limits):
            break
        allowed = candidate
    return allowed


def _fits(there: np.ndarray, here: np.ndarray, limits: Limits) -> bool:
    """Whether points (5, 3) may go from `here`: in the box, or no further out; the tool is the first."""
    low, high = limits.bounds
    inside = (there >= np.minimum(low, here) - 1e-9).all() and (there <= np.maximum(high, here) + 1e-9).all()
    return bool(inside) and math.dist(there[0], here[0]) <= limits.max_tool_step


class _Kinematics(threading.local):
    """The arm's model, one for each thread, since a computation of places changes it."""

    def __init__(self) -> None:
        self.model = so101.make_spec(scene="so101").compile()
        self.data = mujoco.MjData(self.model)
        self.bodies = np.array([self.model.body(name).id for name in ABOVE])
        self.tool = self.data.site(so101.TOOL).xpos
        self.angles, self.points = np.full(6, np.nan), np.empty((1 + len(ABOVE), 3))  # as last asked for


@functools.cache
def _kinematics() -> _Kinematics:
    return _Kinematics()


def places(angles: np.ndarray) -> np.ndarray:
    """Points (5, 3) [m] at joint angles (6,) [rad]: the tool, then the origins of the bodies in `ABOVE`."""
    arm = _kinematics()
    if not np.array_equal(angles, arm.angles):  # each command begins where the one before it ended
        arm.data.qpos[:6] = angles
        mujoco.mj_kinematics(arm.model, arm.data)
        arm.angles, arm.points = np.array(angles, float), np.vstack([arm.tool, arm.data.xpos[arm.bodies]])
    return arm.points


# ---- the layer --------------------------------------------------------------------------------------------------


def command(
    goal: np.ndarray, state: State, present: np.ndarray, now: float, limits: Limits
) -> tuple[np.ndarray, State, tuple[str, ...]]:
    """The goal (6,) [rad] that may be sent at time `now` [s] to an arm at `present` (6,), the state after it, and the
    rules that changed it."""
    last, elapsed = state.command, max(now - state.at, 0.0)
    credit = min(state.credit + elapsed, 2 * limits.period)
    before = state.step if elapsed < 2 * limits.period else np.zeros(6)
    rules = {
        "finite": lambda g: finite(g, last),
        "limits": lambda g: within(g, last, limits),
        "speed": lambda g: not_fast(g, last, credit, limits),
        "jerk": lambda g: not_jerky(g, last, before, limits),
        "lead": lambda g: not_ahead(g, last, present, limits),
        "box": lambda g: in_box(g, last, limits),
    }
    notes, sent = [], np.asarray(goal, float)
    for name, rule in rules.items():
        changed = rule(sent)
        if changed.tobytes() != sent.tobytes() and differ(changed, sent):
            notes.append(name)
        sent = changed
    used = np.abs(sent - last).max() / limits.max_speed
    return sent, State(sent, sent - last, now, max(credit - used, 0.0)), tuple(notes)


def differ(a: np.ndarray, b: np.ndarray) -> bool:
    """By more than rounding; NaN differs."""
    return a.shape != b.shape or not (np.abs(a - b) <= 1e-9).all()


def hold(state: State, present: np.ndarray, now: float, limits: Limits, *, sag: float | None = None) -> State:
    """Stop here: the last command, but at most `sag` [rad] away from the joint, so that it neither moves on nor drops.

    With `sag=0` the goal is where the joint is: it lets go of what it pushes against. A joint outside its limits keeps
    the command between.
    """
    slack = limits.sag if sag is None else sag
    goal = clip(state.command, present - slack, present + slack)
    goal = within(goal, state.command, limits)
    return State(goal, np.zeros(6), now, state.credit)


def strain(load: np.ndarray, since: np.ndarray, now: float, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    """Since when each joint has been under strain (6,) [s] (NaN: it is not), and which have been for too long (6,).

    `load` (6,) is the share of full duty, with sign.
    """
    high = np.abs(load) > limits.load
    since = np.where(high, np.where(np.isnan(since), now, since), np.nan)
    return since, high & (now - since >= limits.load_s)


class Anchor(NamedTuple):
    """Where each joint stands still: arrays (6,)."""

    present: np.ndarray  # [rad]
    since: np.ndarray  # when it last moved, or its goal was near [s]


def stuck(
    anchor: Anchor, present: np.ndarray, command: np.ndarray, now: float, limits: Limits
) -> tuple[Anchor, np.ndarray]:
    """Which joints (6,) do not move at all though their goal is far: blocked, or with a stuck encoder. A gripper may
    hold something, and is left out."""
    moved = np.abs(present - anchor.present) > STILL
    fine = moved | (np.abs(command - present) <= limits.stuck)
    anchor = Anchor(np.where(moved, present, anchor.present), np.where(fine, now, anchor.since))
    return anchor, (now - anchor.since >= limits.stuck_s) & (np.arange(6) < ARM)


class Watch:
    """The watchdog's clock: `stage(now)` says what an arm without commands has to do; it starts with the first one.

    "idle" (no command yet), "ok", "hold" and "rest"; after "rest" nothing but `reset` leads back.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.reset()

    def reset(self) -> None:
        self._last: float | None = None

    def fed(self, now: float) -> bool:
        """A command is about to be sent; False if the arm is going to rest already, and it must not be."""
        if self.stage(now) == "rest":
            return False
        self._last = now
        return True

    def stage(self, now: float) -> str:
        if self._last is None:
            return "idle"
        silent = now - self._last
        if silent >= self.limits.rest_after:  # for good: `fed` takes nothing any more
            return "rest"
        return "hold" if silent >= self.limits.hold_after else "ok"
