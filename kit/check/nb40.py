"""The exercises of notebook 40: a packet's last byte, a servo's zero, a rule of the safety layer, a joint's speed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from kit.check.core import Case, Exercise
from kit.sim2real import calibration, deploy, protocol, safety


def _body(rng: np.random.Generator) -> tuple:
    return (rng.integers(0, 256, int(rng.integers(3, 16))).tolist(),)


checksum = Exercise(
    protocol.checksum,
    by_hand=(
        # 1 + 2 + 1 = 4 = 0000 0100; every bit turned over: 1111 1011 = 251
        Case("a PING of servo 1: ID 1, LEN 2, INST 1", ([1, 2, 1],), 251),
        # 1 + 4 + 0 + 0 + 251 = 256 = 1 0000 0000; only the low byte counts: 1111 1111
        Case("bytes that add up to 256", ([1, 4, 0, 0, 251],), 255),
    ),
    draw=_body,
)


def _encoders(rng: np.random.Generator) -> tuple:
    n = int(rng.integers(3, 9))
    return rng.integers(0, 4096, n).tolist(), rng.integers(-2047, 2048, n).tolist()


present = Exercise(
    calibration.present,
    by_hand=(
        Case("an encoder at 2148 behind an offset of 101", ([2148], [101]), (2047,)),
        # 10 - 20 = -10, which is 4096 - 10; 4000 + 200 = 4200, which is 4200 - 4096
        Case("two encoders that cross the end of the turn", ([10, 4000], [20, -200]), (4086, 104)),
    ),
    draw=_encoders,
)


def _goals(rng: np.random.Generator) -> tuple:
    n = int(rng.integers(2, 8))
    last = rng.normal(0, 0.5, n)
    limits = SimpleNamespace(max_delta=float(rng.uniform(0.03, 0.08)), max_speed=float(rng.uniform(0.8, 2.5)))
    return last + rng.normal(0, 0.06, n), last, float(rng.uniform(0.0, 0.066)), limits


_LIMITS = SimpleNamespace(max_delta=0.05, max_speed=1.5)

not_fast = Exercise(
    safety.not_fast,
    by_hand=(
        # 1.5 rad/s for 0.1 s would be 0.15 rad: the step counts; the last joint is near enough
        Case(
            "a full account: goals 0.2 away, -0.2 away and 0.01 away, of which 0.05 is the largest step",
            (np.array([0.2, 0.8, 0.51]), np.array([0.0, 1.0, 0.5]), 0.1, _LIMITS),
            np.array([0.05, 0.95, 0.51]),
        ),
        # 1.5 rad/s for 0.02 s is 0.03 rad
        Case(
            "0.02 s on the account: 0.03 rad",
            (np.array([0.2, -0.2]), np.array([0.0, 0.0]), 0.02, _LIMITS),
            np.array([0.03, -0.03]),
        ),
    ),
    draw=_goals,
)


def _angles(rng: np.random.Generator) -> tuple:
    n = int(rng.integers(2, 8))
    earlier = rng.normal(0, 1, n)
    before = earlier + rng.normal(0, 0.05, n)
    return before + rng.normal(0, 0.05, n), before, earlier, float(rng.choice([10.0, 30.0, 50.0]))


joint_speed = Exercise(
    deploy.joint_speed,
    by_hand=(
        Case(
            "angles 0, 1, 2 at ten a second: 10 rad/s",
            (np.array([2.0]), np.array([1.0]), np.array([0.0]), 10.0),
            np.array([10.0]),
        ),
        # q = t^2 at t = 0, 1, 2 has the slope 2 t = 4 at its end
        Case(
            "angles 0, 1, 4 at one a second, a parabola: 4 rad/s",
            (np.array([4.0]), np.array([1.0]), np.array([0.0]), 1.0),
            np.array([4.0]),
        ),
    ),
    draw=_angles,
)
