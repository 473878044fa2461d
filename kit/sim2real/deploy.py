"""A reach policy on an SO-101: from encoder readings to goals in degrees, thirty times a second.

    q_t: the measured angles,   p = T(q_t)                      nothing else is known of the arm
    qd = (3 q_t - 4 q_{t-1} + q_{t-2}) rate / 2                 the plain difference would be half a period old
    s = reach_state(q_t, qd, target - q_t, p, goal)             what the policy has seen in simulation
    target <- clip(target + 0.05 pi(s), limits)                 goes to the servos

The policy adds to its last *target* and not to q, so that it can lean against gravity. Where the arm was sent something
else, by the safety layer or by a human who took over, the target goes on from there. The same lines drive the virtual
arm and the metal one; only the robot's port differs. Look first at `Reach.__call__`, then at `steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kit.envs import so101, workspace
from kit.envs.arm_reach import ARM, GOAL_TOLERANCE, HOLD_S, joint_limits, reach_state
from kit.sim2real import kinematics, rate
from kit.sim2real.client import BusError
from kit.sim2real.rate import Rate
from kit.sim2real.units import KEYS, Halted, WrongRate, to_radians, to_values
from kit.types import Policy

SENT_ELSE = 0.005  # a goal that differs by more from what was asked for is another one; three encoder ticks [rad]


def joint_speed(q: np.ndarray, before: np.ndarray, earlier: np.ndarray, rate: float) -> np.ndarray:
    """Joint speeds now (n,) [rad/s] from the last three angles (n,) [rad], `q` the newest, measured `rate` times a
    second [Hz]: the slope, at the end, of the parabola through them."""
    return (3 * q - 4 * before + earlier) * rate / 2


# ---- the controller ---------------------------------------------------------------------------------------------


class Reach:
    """A policy of `kit/ArmReach-v0` as a controller: `reset(observation)`, then an action for each observation.

    `goal` (3,) [m] may be set while it runs. `distance` is how far the tool is from it [m], by the measured angles, and
    `success` whether it was within 2 cm during the last half second, as in the environment.

    Raises:
        ValueError: a goal out of the arm's reach.
    """

    rate, units, joints = so101.CONTROL_HZ, "degrees", KEYS  # what it was trained for and what it speaks

    def __init__(self, policy: Policy, goal: Sequence[float]):
        self.policy = policy
        self.limits = np.array(joint_limits())[:, :ARM]
        self.goal = goal

    @property
    def goal(self) -> np.ndarray:
        return self._goal.copy()

    @goal.setter
    def goal(self, point: Sequence[float]) -> None:
        point = np.array(point, float)
        if point.shape != (3,) or not np.isfinite(point).all() or not workspace.reachable(point[None])[0]:
            raise ValueError(
                f"goal {point} is out of the arm's reach; give x, y, z [m] for which kit.envs.workspace.reachable is "
                "true, for instance (0.25, 0.0, 0.15)"
            )
        self._goal, self._held, self.distance = point, 0, float("nan")

    @property
    def success(self) -> bool:
        return self._held >= round(HOLD_S * self.rate)

    def reset(self, observation: Mapping[str, float]) -> None:
        """An episode begins: the target is where the arm is."""
        self._before = self._earlier = to_radians(observation)[:ARM]
        self._target = np.clip(self._before, *self.limits)
        self._held, self._state, self._first = 0, None, True

    def __call__(self, observation: Mapping[str, float]) -> dict[str, float]:
        """Goals for all six joints: degrees, and the gripper shut."""
        q = to_radians(observation)[:ARM]
        state = self._look(q)
        first = np.array([self._first])
        step, self._state = self.policy.predict(state, self._state, episode_start=first, deterministic=True)
        self._target = np.clip(self._target + so101.MAX_DELTA * np.asarray(step, float), *self.limits)
        self._before, self._earlier, self._first = q, self._before, False
        return to_values(np.append(self._target, so101.CLOSED))

    def _look(self, q: np.ndarray) -> np.ndarray:
        """The policy's state (24,) at angles (5,) [rad]; counts for how long the goal has been held."""
        tool, qd = kinematics.tool(q[None]), joint_speed(q, self._before, self._earlier, self.rate)
        self.distance = float(np.linalg.norm(tool[0] - self._goal))
        self._held = self._held + 1 if self.distance < GOAL_TOLERANCE else 0
        return reach_state(q[None], qd[None], (self._target - q)[None], tool, self._goal[None])[0]

    def told(self, sent: Mapping[str, float]) -> None:
        """What the arm was really sent; where that is something else, the target goes on from it."""
        sent = to_radians(sent)[:ARM]
        self._target = np.where(np.abs(sent - self._target) > SENT_ELSE, sent, self._target)


# ---- the loop ---------------------------------------------------------------------------------------------------

STOPPED = (Halted, BusError)  # what ends a rollout without being a mistake of the program


class Step(NamedTuple):
    """One turn of the loop."""

    number: int
    observation: dict[str, float]
    sent: dict[str, float]  # what the safety layer let pass
    late: float  # after the step was due [s]


class Report(NamedTuple):
    """Of a rollout."""

    frames: int  # goals that went to the arm, each of them recorded
    halted: str  # why the arm halted, or ""
    rate: rate.Report
    changed: dict[str, int]  # how many actions each rule of the safety layer changed

    def __str__(self) -> str:
        changed = ", ".join(f"{rule} {count}" for rule, count in self.changed.items()) or "none"
        return f"{self.frames} frames; {self.rate}; changed by the safety layer: {changed}" + (
            f"; halted: {self.halted}" if self.halted else ""
        )


def steps(
    robot: Any,
    controller: Any,
    count: int,
    *,
    recorder: Any = None,
    task: str = "reach",
    wait: Callable[[], float] = lambda: 0.0,
) -> Iterator[Step]:
    """Observe, act, record, `count` times; `wait()` comes before each turn and returns how late it is [s].

    `recorder` gets an episode that begins with the first goal that is sent, and is closed with the reason however this
    ends. A controller may have `told(sent)`, `success`, and `extra()`, numbers that are recorded with each frame.

    Raises:
        Halted: the arm stands still, or has let go; the message says why.
        BusError: it had halted before, and does not answer.
    """
    success, reason, begun = None, "broken off", False
    try:
        controller.reset(robot.get_observation())
        for number in range(count):
            late = wait()
            observation = robot.get_observation()
            sent = robot.send_action(controller(observation))
            getattr(controller, "told", _ignore)(sent)
            if recorder is not None:
                if not begun:
                    recorder.start(task=task)
                    begun = True
                recorder.add(observation, sent, **getattr(controller, "extra", dict)())
            yield Step(number, observation, sent, late)
        success, reason = getattr(controller, "success", None), ""
    except Exception as error:
        reason = str(error) if isinstance(error, STOPPED) else f"{type(error).__name__}: {error}"
        raise
    finally:
        if begun:
            recorder.end(success=success, reason=reason)


def _ignore(sent: Mapping[str, float]) -> None:
    """What a controller that does not want to be told does."""


def rollout(
    robot: Any,
    controller: Any,
    *,
    seconds: float,
    rate: Rate | None = None,
    recorder: Any = None,
    task: str = "reach",
    on_step: Callable[[Step], Any] | None = None,
) -> Report:
    """Drive a connected robot for `seconds`, or until it halts, and report. An arm that has halted is left as it is;
    `robot.reconnect()` goes on. On a lockstep bus nothing waits.

    Raises:
        WrongRate, WrongUnits, UnknownJoint: the controller was made for another arm; nothing has moved.
    """
    rate = rate or make_rate(robot)
    if abs(rate.hz - controller.rate) > 0.01 * controller.rate:
        raise WrongRate(
            f"the loop runs at {rate.hz:g} Hz and the controller at {controller.rate:g} Hz; make it Rate(robot.rate)"
        )
    robot.require(rate=controller.rate, units=controller.units, joints=controller.joints)
    rate.restart()
    before, frames, halted = dict(robot.changed), 0, ""
    try:
        for step in steps(robot, controller, round(seconds * rate.hz), recorder=recorder, task=task, wait=rate.wait):
            frames += 1
            if on_step is not None:
                on_step(step)
    except STOPPED as error:
        halted = str(error)
    changed = {rule: count - before.get(rule, 0) for rule, count in robot.changed.items()}
    return Report(frames, halted, rate.report(), {rule: count for rule, count in changed.items() if count})


def make_rate(robot: Any) -> Rate:
    """The robot's rate in wall time; for a lockstep bus a clock that is set on instead of waited for."""
    if not getattr(robot, "lockstep", False):
        return Rate(robot.rate)
    time = [0.0]
    return Rate(robot.rate, now=lambda: time[0], sleep=lambda left: time.__setitem__(0, time[0] + left))
