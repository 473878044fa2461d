"""A planar arm with twelve joints, by forward kinematics: many genomes reach the same place, few random ones go far.

    phi_i = theta_1 + ... + theta_i,      tip = (1 / 12) sum_i (cos phi_i, sin phi_i)

A genome is the twelve joint angles [rad], its behaviour the tip of the arm, whose length is 1. Joints turn all the way
round, so the tip reaches every point of the unit disc and no other: `reachable` is exact. The objective is minus the
standard deviation of the angles (Cully et al. 2015; the arm of the pyribs tutorials): a smooth bend is better than a
crumpled arm. Nothing moves in time; a hundred thousand arms take a fraction of a second.
"""

from __future__ import annotations

import numpy as np

JOINTS = 12
LINK = 1 / JOINTS  # length of a link; the arm's length is 1


def joints(angles: np.ndarray) -> np.ndarray:
    """Positions (n, 13, 2) of the base, the joints and the tip of arms with angles (n, 12) [rad].

    Raises:
        ValueError: the angles have another shape or are not finite.
    """
    phi = np.cumsum(_checked(angles), axis=1)
    steps = LINK * np.stack((np.cos(phi), np.sin(phi)), axis=-1)
    return np.concatenate((np.zeros((len(phi), 1, 2)), np.cumsum(steps, axis=1)), axis=1)


def tip(angles: np.ndarray) -> np.ndarray:
    """Where arms of length 1 with joint angles (n, k) [rad], each relative to the link before, end: (n, 2)."""
    phi = np.cumsum(angles, axis=1)
    return np.stack((np.cos(phi).mean(axis=1), np.sin(phi).mean(axis=1)), axis=1)


def reachable(cells: tuple[int, int] = (100, 100)) -> np.ndarray:
    """Which cells of a grid over [-1, 1]^2 the tip can end in, bool (cells): those that meet the unit disc.

    A cell meets the disc if its point nearest to the origin lies in it.

    Raises:
        ValueError: a number of cells is below 1.
    """
    if min(cells) < 1:
        raise ValueError(f"cells is {tuple(cells)}; each number must be at least 1")
    nearest = []
    for n in cells:
        edges = np.linspace(-1, 1, n + 1)
        nearest.append(np.maximum(np.maximum(edges[:-1], -edges[1:]), 0))
    return nearest[0][:, None] ** 2 + nearest[1][None, :] ** 2 < 1


class Arm12:
    """The arm as a task for `kit.skills.repertoire`."""

    genome_dim = JOINTS
    low, high = np.full(JOINTS, -np.pi), np.full(JOINTS, np.pi)  # joint limits [rad]
    start = np.zeros(JOINTS)  # the straight arm
    ranges = ((-1.0, 1.0), (-1.0, 1.0))  # of the tip [arm lengths]
    worst = -np.pi  # no set of angles within the limits has a larger standard deviation [rad]

    def evaluate(self, genomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Objectives (n,) [rad] and tips (n, 2) [arm lengths] of genomes (n, 12) [rad].

        Raises:
            ValueError: the genomes have another shape or are not finite.
        """
        angles = _checked(genomes)
        return -angles.std(axis=1), tip(angles)


def _checked(angles: np.ndarray) -> np.ndarray:
    angles = np.asarray(angles, float)
    if angles.ndim != 2 or angles.shape[1] != JOINTS:
        raise ValueError(f"angles have shape {angles.shape}; expected (n, {JOINTS}), a row an arm")
    if not np.isfinite(angles).all():
        row = int(np.argmin(np.isfinite(angles).all(axis=1)))
        raise ValueError(f"arm {row} has an angle that is not finite: {angles[row]}")
    return angles
