"""Where an SO-101's tool is, and how to bring it to a point: forward and inverse kinematics for many poses at once.

    T(q) = prod_i  T_i Rz(q_i)  T_tool            T_i: the fixed frames of the model file
    J_i  = z_i x (p - o_i)                        column of the Jacobian for joint i, its axis z_i through o_i
    dq   = J' (J J' + lambda^2 I)^-1 (goal - p)   damped least squares, repeated

A robot's program knows joint angles only; this is what turns them into a tool point without a simulator. NumPy alone.
Look first at `chain`, then at `solve`.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from kit.envs import so101

ARM = 5  # joints that move the tool; the gripper does not
DAMPING = 0.03  # lambda [m]: keeps steps small where the arm is stretched
LARGEST_STEP = 0.3  # of a joint in one iteration [rad]


@cache
def frames() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the joints in their parents: positions (5, 3) [m], rotations (5, 3, 3); and the tool's point (3,) [m]."""
    import mujoco

    model = so101.make_spec(scene="so101").compile()
    bodies = [model.joint(name).bodyid[0] for name in so101.JOINTS[:ARM]]
    rotations = np.zeros((ARM, 9))
    for rotation, body in zip(rotations, bodies, strict=True):
        mujoco.mju_quat2Mat(rotation, model.body_quat[body])
    return model.body_pos[bodies].copy(), rotations.reshape(ARM, 3, 3), model.site(so101.TOOL).pos.copy()


def chain(q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tool points (n, 3) [m], the joints' origins (n, 5, 3) [m] and axes (n, 5, 3), for angles (n, 5 or 6) [rad]."""
    positions, rotations, tip = frames()
    q = np.asarray(q, float)
    cos, sin = np.cos(q), np.sin(q)
    point, turn = np.zeros((len(q), 3)), np.broadcast_to(np.eye(3), (len(q), 3, 3))
    origins, axes = np.empty((len(q), ARM, 3)), np.empty((len(q), ARM, 3))
    for i in range(ARM):
        point = point + turn @ positions[i]
        turn = turn @ rotations[i]
        origins[:, i], axes[:, i] = point, turn[:, :, 2]
        c, s = cos[:, i, None], sin[:, i, None]
        x, y = turn[:, :, 0], turn[:, :, 1]
        turn = np.stack((c * x + s * y, c * y - s * x, turn[:, :, 2]), axis=2)
    return point + turn @ tip, origins, axes


def tool(q: np.ndarray) -> np.ndarray:
    """Tool points (n, 3) [m] for joint angles (n, 5 or 6) [rad]."""
    return chain(q)[0]


def jacobian(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tool points (n, 3) [m] and their derivatives by the joint angles (n, 3, 5) [m/rad]."""
    point, origins, axes = chain(q)
    return point, np.cross(axes, point[:, None] - origins).transpose(0, 2, 1)


def step(q: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """One damped least-squares step (n, 5) [rad] from angles (n, 5) towards tool points (n, 3) [m]."""
    point, j = jacobian(q)
    square = j @ j.transpose(0, 2, 1) + DAMPING**2 * np.eye(3)
    move = (j.transpose(0, 2, 1) @ np.linalg.solve(square, (goal - point)[..., None]))[..., 0]
    return np.clip(move, -LARGEST_STEP, LARGEST_STEP)


def solve(q: np.ndarray, goal: np.ndarray, *, low: np.ndarray, high: np.ndarray, steps: int = 30) -> np.ndarray:
    """Angles (n, 5) [rad] near `q` (n, 5) that bring the tool to `goal` (n, 3) [m], inside limits (5,) [rad].

    Only the position is solved for. Where a goal is out of reach the result is only near it, so compare
    `tool` of the result with the goal.
    """
    q = np.array(q, float)
    for _ in range(steps):
        q = np.clip(q + step(q, goal), low, high)
    return q
