"""The exercises of notebook 41: fitting an arm's numbers, its friction, and using what was found."""

from __future__ import annotations

import numpy as np

from kit.check.core import Case, Exercise
from kit.envs.so101 import Servo
from kit.sim2real.motor import Gap
from kit.sim2real.transfer import friction, sysid, tracking

# ---- Gauss-Newton and standard errors -----------------------------------------------------------------------------


def _linear(rng: np.random.Generator) -> tuple:
    p = int(rng.integers(1, 5))
    m = int(rng.integers(p + 2, 30))
    return rng.normal(size=m), rng.normal(size=(m, p)) * rng.uniform(0.3, 3, p)


gauss_newton_step = Exercise(
    sysid.gauss_newton_step,
    by_hand=(
        # J'J = 4, J'r = 6
        Case(
            "one parameter, two residuals, no damping",
            (np.array([1.0, 3.0]), np.array([[0.0], [2.0]]), 0.0),
            np.array([-1.5]),
        ),
        # J'J + mu = 4 + 2
        Case("the same, damped by 2", (np.array([1.0, 3.0]), np.array([[0.0], [2.0]]), 2.0), np.array([-1.0])),
    ),
    draw=lambda rng: (*_linear(rng), float(rng.uniform(0.1, 2))),
)

standard_errors = Exercise(
    sysid.standard_errors,
    by_hand=(
        # s^2 = 3 / (4 - 1) = 1; J'J = 4
        Case(
            "the mean of four numbers", (np.sqrt(0.75) * np.array([1.0, -1, 1, -1]), np.ones((4, 1))), np.array([0.5])
        ),
        # s^2 = 2 / (4 - 2) = 1; J'J = diag(4, 16)
        Case(
            "two parameters, the second moves the residual twice as much",
            (np.sqrt(0.5) * np.array([1.0, -1, 1, -1]), np.array([[1.0, 2], [1, 2], [1, -2], [1, -2]])),
            np.array([0.5, 0.25]),
        ),
    ),
    draw=_linear,
)


# ---- friction -----------------------------------------------------------------------------------------------------

_OFF = {name: np.array(value) for name, value in friction.whole({}).items()}


def _torques(rng: np.random.Generator) -> tuple:
    shape = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    k = {name: rng.uniform(0.05, 0.4, (shape[0], 1)) for name in friction.PARAMETERS}
    return rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=shape), k


friction_budget = Exercise(
    friction.friction_budget,
    by_hand=(
        # 0.05 + 0.1 * 2
        Case(
            "Coulomb and viscous (M1), backwards at 2 rad/s",
            (
                np.array(0.3),
                np.array(-0.2),
                np.array(-2.0),
                _OFF | {"coulomb": np.array(0.05), "viscous": np.array(0.1)},
            ),
            np.float64(0.25),
        ),
        # 0.05 + 0.2 * |0.3 + 0.2|
        Case(
            "load-dependent (M3), at rest: the motor holds a load, 0.5 N m go through the gears",
            (np.array(0.3), np.array(-0.2), np.array(0.0), _OFF | {"coulomb": np.array(0.05), "load": np.array(0.2)}),
            np.float64(0.15),
        ),
        # at the Stribeck speed the extra friction has fallen to 1 / e
        Case(
            "Stribeck (M2), at the Stribeck speed",
            (np.array(0.0), np.array(0.0), np.array(0.2), _OFF | {"stribeck": np.array(0.1), "speed": np.array(0.2)}),
            np.float64(0.1 / np.e),
        ),
    ),
    draw=_torques,
)


# ---- feed-forward -------------------------------------------------------------------------------------------------


def _motions(rng: np.random.Generator) -> tuple:
    q, qd, torque = rng.normal(size=(3, int(rng.integers(2, 6)), 6)) * np.array([1.0, 0.5, 0.3])[:, None, None]
    gap = Gap(stiffness=float(rng.uniform(0.5, 1.5)), coulomb=float(rng.uniform(0.05, 0.2)))
    return q, qd, torque, gap, Servo(volts=float(rng.uniform(5, 12)))


_UNIT = Servo(volts=1.0, p_gain=1.0, torque_constant=2.0, resistance=1.0, duty_per_rad=5.0)  # kp 10, Kt Ke / R = 4

servo_goal = Exercise(
    tracking.servo_goal,
    by_hand=(
        Case(
            "at rest, 1 N m, stiffness 10 N m/rad",
            (np.array([0.5]), np.array([0.0]), np.array([1.0]), Gap(), _UNIT),
            np.array([0.6]),
        ),
        Case(
            "the same on an arm with half the stiffness",
            (np.array([0.5]), np.array([0.0]), np.array([1.0]), Gap(stiffness=0.5), _UNIT),
            np.array([0.7]),
        ),
        # friction 0.2 tanh(-40) and back-EMF 4 * -2
        Case(
            "backwards at 2 rad/s without load, friction 0.2 N m, back-EMF 4 N m s/rad",
            (np.array([0.0]), np.array([-2.0]), np.array([0.0]), Gap(coulomb=0.2), _UNIT),
            np.array([-0.82]),
        ),
    ),
    draw=_motions,
)
