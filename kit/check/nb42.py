"""The exercises of notebook 42: pieces of what brings a policy across the gap between a simulation and an arm."""

from __future__ import annotations

import numpy as np
import torch

from kit.check.core import Case, Exercise
from kit.sim2real import kinematics
from kit.sim2real.transfer import caps, residual

FLOAT32 = 1e-4  # relative tolerance of sums in single precision


def _tensor(x: list | np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.asarray(x), dtype=torch.float32)


# ---- smoothness ---------------------------------------------------------------------------------------------------


def _actions(rng: np.random.Generator) -> tuple:
    shape = int(rng.integers(8, 40)), int(rng.integers(2, 6)), int(rng.integers(2, 6))
    return rng.uniform(-1, 1, shape), float(rng.choice([10.0, 30.0, 50.0]))


_WAVE = np.array([1.0, 0.0, -1.0, 0.0])  # one period in four steps

smoothness = Exercise(
    caps.smoothness,
    by_hand=(
        # four steps at 4 Hz are a second: amplitude 1 at 1 Hz, so 2 / (4 * 4) * 1 * 1
        Case("one period of a cosine in a second", (_WAVE[:, None, None], 4.0), np.array([0.125])),
        # the same and a joint that stands still at 0.7: their mean
        Case(
            "a joint that moves and one that is held",
            (np.stack([_WAVE, np.full(4, 0.7)], axis=1)[:, None], 4.0),
            np.array([0.0625]),
        ),
        # the rate doubles the frequency, 2 / (4 * 8) * 1 * 2; the second arm moves half as far
        Case(
            "two arms at 8 Hz, the second with half the amplitude",
            (np.stack([_WAVE, 0.5 * _WAVE], axis=1)[:, :, None], 8.0),
            np.array([0.125, 0.0625]),
        ),
    ),
    draw=_actions,
)


# ---- damped least squares -----------------------------------------------------------------------------------------


def _poses(rng: np.random.Generator) -> tuple:
    n = int(rng.integers(2, 12))
    q = rng.uniform(-1.2, 1.2, (n, 5))
    size = np.where(np.arange(n) % 2, 0.02, 0.3)[:, None]  # every other goal is near, the others make it clip
    return q, kinematics.tool(q) + size * rng.normal(size=(n, 3))


def _by_singular_values(q: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The same step another way: J = U S V', and each singular value s counts s / (s^2 + lambda^2)."""
    u, s, vt = np.linalg.svd(kinematics.jacobian(q[None])[1][0], full_matrices=False)
    return vt.T @ (s / (s**2 + 0.03**2) * (u.T @ error))


_STRAIGHT, _BENT = np.zeros(5), np.array([0.3, -0.9, 0.9, 0.5, 0.1])
_BOTH = np.stack([_BENT, _STRAIGHT])
_LEFT, _DOWN = np.array([0.0, 0.01, 0.0]), np.array([0.0, 0.0, -0.02])

step = Exercise(
    kinematics.step,
    by_hand=(
        Case(
            "one centimetre to the left of an arm that points forwards: the pan joint turns by -0.0281",
            (_STRAIGHT[None], kinematics.tool(_STRAIGHT[None]) + _LEFT),
            _by_singular_values(_STRAIGHT, _LEFT)[None],
        ),
        Case(
            "two arms; the second is at its goal",
            (
                np.stack([_BENT, _STRAIGHT]),
                kinematics.tool(np.stack([_BENT, _STRAIGHT])) + np.stack([_DOWN, 0 * _DOWN]),
            ),
            np.stack([_by_singular_values(_BENT, _DOWN), np.zeros(5)]),
        ),
        # half a metre to the left and to the right: the pan joint, whose arm is 35 cm, would turn by more than 1 rad
        Case(
            "goals half a metre away, on both sides",
            (np.zeros((2, 5)), kinematics.tool(np.zeros((2, 5))) + np.array([[0, 0.5, 0], [0, -0.5, 0]])),
            np.stack([_by_singular_values(_STRAIGHT, s * 50 * _LEFT).clip(-0.3, 0.3) for s in (1, -1)]),
        ),
    ),
    draw=_poses,
)


# ---- inverse kinematics as a policy -------------------------------------------------------------------------------

_NEAR = _by_singular_values(_BENT, 0.1 * _DOWN)
_FAR = _by_singular_values(_STRAIGHT, -50 * _LEFT).clip(-0.3, 0.3)

advance_base = Exercise(
    residual.advance_base,
    by_hand=(
        # the largest move is 0.007 rad, less than the 0.05 rad of a control step
        Case(
            "two millimetres above the goal: the whole move",
            (_BENT[None], kinematics.tool(_BENT[None]) + 0.1 * _DOWN),
            (_BENT + _NEAR)[None],
        ),
        # the pan joint is clipped to 0.3 rad: the whole move shrinks by 6
        Case(
            "half a metre to the right: as fast as the largest joint may",
            (_STRAIGHT[None], kinematics.tool(_STRAIGHT[None]) - 50 * _LEFT),
            (_STRAIGHT + _FAR / 6)[None],
        ),
        Case("at the goal", (_BENT[None], kinematics.tool(_BENT[None])), _BENT[None]),
    ),
    draw=_poses,
)


# ---- CAPS ---------------------------------------------------------------------------------------------------------


def _batch(rng: np.random.Generator) -> tuple:
    batch, act_dim = int(rng.integers(4, 17)), int(rng.integers(2, 6))
    mean, later, nearby = rng.normal(size=(3, batch, act_dim))
    ended = (rng.random(batch) < 0.3).astype(float)
    ended[0] = 1.0
    cfg = caps.Config(temporal=float(rng.uniform(0.1, 1)), spatial=float(rng.uniform(1.5, 5)))
    return *map(_tensor, (mean, later, nearby, ended)), cfg


_ROWS = _tensor([[0, 0], [1, 0]]), _tensor([[3, 4], [5, 5]]), _tensor([[0, 1], [1, 3]])  # 5 apart; 1 and 3 apart

penalty = Exercise(
    caps.penalty,
    by_hand=(
        # in time (5 + 0) / 2, in state (1 + 3) / 2
        Case(
            "two states; the second one's episode ended",
            (*_ROWS, _tensor([0, 1]), caps.Config(temporal=2.0, spatial=10.0)),
            torch.tensor(25.0),
        ),
        # in time (5 + sqrt(41)) / 2
        Case(
            "no episode ended, and only smoothness in time counts",
            (*_ROWS, _tensor([0, 0]), caps.Config(temporal=1.0, spatial=0.0)),
            torch.tensor((5 + 41**0.5) / 2),
        ),
    ),
    draw=_batch,
    gradients=("mean", "later", "nearby"),
    rtol=FLOAT32,
)
