"""An SO-101's units, checks of actions, and what can be wrong with it, by name.

    radians = degrees pi / 180            body joints: zero is the middle of the range, in the model as on the arm
    q = -0.1745 + 1.9199 percent / 100    gripper: 0 is shut

Look first at `to_radians`, then at `check_action`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kit.envs.so101 import JOINTS
from kit.sim2real.client import RobotError

KEYS = tuple(f"{name}.pos" for name in JOINTS)
GRIPPER = (-0.174533, 1.74533)  # at 0 and 100 percent [rad]


class NotConnected(RobotError):
    """Connect first."""


class NotCalibrated(RobotError):
    """There is no calibration of this arm."""


class CalibrationMismatch(RobotError):
    """The calibration file and the servos disagree: the file is of another arm, or the servos were changed."""


class FirmwareMismatch(RobotError):
    """The servos do not all run the same firmware, or are of another model."""


class WrongUnits(RobotError, ValueError):
    """An action, or a policy, in other units than degrees and percent."""


class WrongRate(RobotError, ValueError):
    """A policy that was trained for another rate."""


class UnknownJoint(RobotError, ValueError):
    """An action for a joint that there is not."""


class Halted(RobotError):
    """The arm holds still, or has let go, and takes no actions until `reconnect`."""


# ---- units ------------------------------------------------------------------------------------------------------


def to_radians(values: Mapping[str, float]) -> np.ndarray:
    """Joint angles (6,) [rad] of an observation or a whole action."""
    *body, gripper = (float(values[key]) for key in KEYS)
    return np.array([*map(math.radians, body), GRIPPER[0] + (GRIPPER[1] - GRIPPER[0]) * gripper / 100])


def to_values(angles: np.ndarray) -> dict[str, float]:
    """The inverse of `to_radians`: degrees and percent."""
    *body, gripper = np.asarray(angles, float).tolist()
    percent = 100 * (gripper - GRIPPER[0]) / (GRIPPER[1] - GRIPPER[0])
    return dict(zip(KEYS, [*map(math.degrees, body), percent], strict=True))


def check_action(action: Mapping[str, Any]) -> dict[str, float]:
    """
    Raises:
        UnknownJoint: a key that is none of this arm's.
        ValueError: nothing, or something that is no number.
    """
    if unknown := [key for key in action if key not in KEYS]:
        raise UnknownJoint(f"the action moves {', '.join(map(repr, unknown))}; this arm has {', '.join(KEYS)}")
    if not action:
        raise ValueError(f"the action is empty; give some of {', '.join(KEYS)}")
    try:
        return {key: float(value) for key, value in action.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"the action {dict(action)} holds something that is no number: {error}") from error


def looks_like_radians(action: Mapping[str, float], present: Mapping[str, float]) -> bool:
    """Whether the action makes sense from here only if its body joints are radians: policies start near the arm."""
    pairs = np.array([(action[key], present[key]) for key in KEYS[:5] if key in action]).reshape(-1, 2)
    if not len(pairs) or not np.isfinite(pairs).all():
        return False
    wanted, here = pairs.T
    return bool(np.abs(np.degrees(wanted) - here).max() < 10 and np.abs(wanted - here).max() > 25)
