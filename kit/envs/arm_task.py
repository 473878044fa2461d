"""What the SO-101's tasks share: joint-target actions, what a policy sees of the arm, and where the joints are stored.

An action of -1..1 moves each of five joint targets by at most 0.05 rad; the gripper stays shut. A command adds to the
last *target*, not to the measured angle, so that a policy can lean against gravity: the servos sag by degrees under the
arm's own weight. Look first at `ArmTask.arm`: `kit.sim2real.transfer.twin` overrides it with what encoders would say.
"""

from __future__ import annotations

from abc import abstractmethod

import mujoco
import numpy as np
from gymnasium import spaces

from kit.envs import so101
from kit.envs.physics import MujocoTask, Randomize

ARM = 5  # joints that the policy moves; the gripper is the sixth


def with_pixels(state: spaces.Box, camera: str | None) -> spaces.Space:
    """The observation space: the state alone, or with 64x64 pictures of a camera."""
    if camera is None:
        return state
    return spaces.Dict({"state": state, "pixels": spaces.Box(0, 255, (64, 64, 3), np.uint8)})


def arm_frame(points: np.ndarray, pan: np.ndarray) -> np.ndarray:
    """Points (..., n, 3) [m] in the frame of the pan axis that turns with it: forwards, left, up.

    `pan` (n,) [rad] is positive clockwise.
    """
    x, y = points[..., 0] - so101.PAN_AXIS_X, points[..., 1]
    cos, sin = np.cos(pan), np.sin(pan)
    turned = np.empty_like(points)
    turned[..., 0] = cos * x - sin * y
    turned[..., 1] = sin * x + cos * y
    turned[..., 2] = points[..., 2]
    return turned


def addresses(found: list[int]) -> slice:
    """Evenly spaced addresses as a slice, which indexes without a copy."""
    return slice(found[0], found[-1] + 1, found[1] - found[0])


class ArmTask(MujocoTask):
    """A task of the arm. Subclasses give the model by `build` and the rest of `Task`."""

    def __init__(
        self,
        num_envs: int,
        *,
        servo: str | so101.Servo | so101.StiffServo = "7.4V-P16",
        randomize: Randomize | None = None,
        camera: str | None = None,
        max_steps: int,
        nthread: int | None = None,
    ):
        spec = self.build(servo, randomize.delay[1] if randomize else 0.0)
        super().__init__(spec, num_envs, nthread=nthread, randomize=randomize, camera=camera)
        self.max_steps, self.camera = max_steps, camera
        joints = [self.model.joint(name) for name in so101.JOINTS]
        self._q, self._v = addresses([j.qposadr[0] for j in joints]), addresses([j.dofadr[0] for j in joints])
        self._low, self._high = np.array([j.range for j in joints[:ARM]]).T
        self.action_space = spaces.Box(-1, 1, (ARM,), np.float32)

    @abstractmethod
    def build(self, servo: str | so101.Servo | so101.StiffServo, max_delay: float) -> mujoco.MjSpec:
        """The model; `max_delay` [s] is what `kit.envs.so101.make_spec` takes."""

    @property
    def tool(self) -> np.ndarray:
        """Tool points, (num_envs, 3) [m]."""
        return self.site_xpos[:, 0]

    def put(self, ids: np.ndarray, pose: np.ndarray) -> None:
        """Joints and their targets at a pose (6,) or (n, 6) [rad]; write what else there is, then call `settle`."""
        self.qpos[ids, self._q] = self.ctrl[ids] = pose
        self.act[ids] = np.broadcast_to(pose, (len(ids), 6))[:, : self.model.na]

    def arm(self, ids: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What a policy sees: angles, speeds, targets less angles (n, 5) [rad, rad/s], and tool points (n, 3) [m]."""
        q = self.qpos[ids, self._q][:, :ARM]
        return q, self.qvel[ids, self._v][:, :ARM], self.ctrl[ids, :ARM] - q, self.tool[ids]

    def step(self, actions: np.ndarray) -> None:
        target = self.ctrl[:, :ARM]  # a view of the simulations' state
        (target + so101.MAX_DELTA * actions).clip(self._low, self._high, out=target)
        self.advance()
