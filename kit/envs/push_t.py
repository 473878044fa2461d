"""`kit/PushT-v0`: push a T over a table until it covers its goal; MuJoCo, in many ways.

        y              ===========  bar 120 x 30 mm, stem 30 x 90 mm, pusher a disc of radius 15 mm
        |                  | |
        |    o             | |      goal: the T's origin (middle of the bar's long outer side) at (256, 256) mm,
        +---- x            |_|      turned by 45 degrees; the field is 512 x 512 mm; 100 Hz, control 10 Hz, 30 s

    pusher   x'' = 100 (target - x) - 20 x',         target = 256 mm (1 + a),   a in [-1, 1]^2
    table    m v' = f - m v / tau,   I w' = r x f - I w / tau,   tau = 10 ms: the T moves only while it is pushed
    reward = min(coverage / 0.95, 1),                coverage = area(T and goal) / area(goal)

f is along the touched side's normal: pusher and T slide on each other freely. Sizes, goal, gains and reward are those
of Diffusion Policy (Chi et al. 2023); the T starts so that the pusher can get around it. Success, a coverage of 0.95,
ends the episode. Look first at `overlap`, which is exact; `kit.envs.push_t_expert` solves the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces

from kit.envs.physics import MujocoTask
from kit.envs.task import Fields, TaskSpace

FIELD = 0.512  # side of the square table [m]
PUSHER = 0.015  # radius [m]
BAR, STEM = (-0.060, 0.060, 0.0, 0.030), (-0.015, 0.015, 0.030, 0.120)  # low x, high x, low y, high y [m]
OUTLINE = np.array([
    (-0.060, 0.0), (0.060, 0.0), (0.060, 0.030), (0.015, 0.030),
    (0.015, 0.120), (-0.015, 0.120), (-0.015, 0.030), (-0.060, 0.030),
])  # fmt: skip  # the T's corners, anticlockwise [m]
AREA = 0.0063  # of the T [m^2]
CENTRE = np.array([0.0, 0.285 / 7])  # its centroid [m]
GYRATION = 0.04395  # its radius of gyration [m]
GOAL = np.array([FIELD / 2, FIELD / 2, np.pi / 4])  # pose of the T's origin: x [m], y [m], angle [rad]
COVERED = 0.95  # coverage that is success
MASS, REST = 0.01, 0.01  # of the T [kg]; time constant in which it comes to rest [s]
STIFFNESS, DAMPING = 100.0, 20.0  # of the pusher [1/s^2], [1/s]
DT, SUBSTEPS = 0.01, 10
ROOM = 0.125  # the T's centroid starts at least this far from the table's edges [m]
AROUND = 0.106  # a pusher this far from the T's centroid is clear of the T [m]
FRAMES = ("table", "block")  # in which observations and actions may be
REACH = 0.2  # how far from the T's centroid an action in its frame may send the pusher [m]
PIXELS = 96


def turn(angle: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 2) turned anticlockwise by angles (...,) [rad]."""
    cos, sin, x, y = np.cos(angle), np.sin(angle), points[..., 0], points[..., 1]
    return np.stack((cos * x - sin * y, sin * x + cos * y), axis=-1)


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angles brought to -pi..pi [rad]."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def centroid(pose: np.ndarray) -> np.ndarray:
    """The T's centroid (..., 2) [m] for poses (..., 3) of its origin."""
    return pose[..., :2] + turn(pose[..., 2], CENTRE)


def pose_at(centre: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Poses (..., 3) of the T's origin from centroids (..., 2) and angles (...,): the inverse of `centroid`."""
    return np.concatenate((centre - turn(angle, CENTRE), np.asarray(angle)[..., None]), axis=-1)


def overlap(corners: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Exact area (n,) that polygons (n, corners, 2), anticlockwise, share with an upright box (x0, x1, y0, y1).

    Each side is cut where it crosses the box's four lines; then every point is moved to the nearest one of the box.
    That moves no piece of the outline through the box's inside, so the moved outline encloses what both share.
    """
    start, side = corners, np.roll(corners, -1, axis=-2) - corners
    lines = np.array(box).reshape(2, 2)  # of x, of y
    with np.errstate(divide="ignore", invalid="ignore"):
        cuts = (lines - start[..., None]) / side[..., None]  # (n, corners, 2, 2), in lengths of the side
    cuts = np.clip(np.nan_to_num(cuts), 0, 1).reshape(*side.shape[:-1], 4)
    cuts = np.sort(np.concatenate((np.zeros_like(cuts[..., :1]), cuts), axis=-1), axis=-1)
    points = start[..., None, :] + cuts[..., None] * side[..., None, :]
    points = np.clip(points, lines[:, 0], lines[:, 1]).reshape(len(corners), -1, 2)
    x, y = points[..., 0] - lines[0, 0], points[..., 1] - lines[1, 0]
    return 0.5 * (x * np.roll(y, -1, axis=-1) - y * np.roll(x, -1, axis=-1)).sum(axis=-1)


def coverage(pose: np.ndarray, goal: np.ndarray = GOAL) -> np.ndarray:
    """Share (n,) of the goal's area that Ts at poses (n, 3) cover."""
    pose = np.atleast_2d(pose)
    corners = pose[:, None, :2] + turn(pose[:, 2, None], OUTLINE) - goal[:2]
    corners = turn(-goal[2], corners)
    return (overlap(corners, BAR) + overlap(corners, STEM)) / AREA


def table_spec() -> mujoco.MjSpec:
    """The T on three joints that drag damps, the pusher on two that its controller drives, and the table's edges."""
    spec = mujoco.MjSpec()
    spec.option.timestep, spec.option.gravity = DT, [0, 0, 0]
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.default.geom.condim = 1
    spec.worldbody.add_light(pos=[0.256, 0.256, 1.0], dir=[0, 0, -1])
    spec.worldbody.add_camera(name="front", pos=[0.256, -0.15, 0.65], xyaxes=[1, 0, 0, 0, 0.85, 0.53])
    middle = FIELD / 2
    flat = {"contype": 0, "conaffinity": 0}
    spec.worldbody.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX, pos=[middle, middle, -0.02], size=[middle, middle, 0.005],
        rgba=[0.94, 0.94, 0.92, 1], **flat,
    )  # fmt: skip
    for name, (x0, x1, y0, y1), rgba in _slabs():
        spec.worldbody.add_geom(
            name=f"goal_{name}", type=mujoco.mjtGeom.mjGEOM_BOX, rgba=rgba,
            pos=[*(GOAL[:2] + turn(GOAL[2], np.array([(x0 + x1) / 2, (y0 + y1) / 2]))), -0.0148],
            quat=[np.cos(GOAL[2] / 2), 0, 0, np.sin(GOAL[2] / 2)], size=[(x1 - x0) / 2, (y1 - y0) / 2, 0.0005], **flat,
        )  # fmt: skip
    edges = (([0, 0, 0], [1, 0, 0]), ([FIELD, 0, 0], [-1, 0, 0]), ([0, 0, 0], [0, 1, 0]), ([0, FIELD, 0], [0, -1, 0]))
    for pos, axis in edges:
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_PLANE, pos=pos, zaxis=axis, size=[1, 1, 0.1], rgba=[0, 0, 0, 0], contype=2,
            conaffinity=0,
        )  # fmt: skip
    _add_block(spec)
    _add_pusher(spec)
    return spec


def _slabs() -> tuple[tuple[str, tuple[float, float, float, float], list[float]], ...]:
    green = [0.56, 0.85, 0.72, 1]
    return (("bar", BAR, green), ("stem", STEM, green))


def _add_block(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name="block")
    slide, hinge = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
    drag = MASS / REST
    body.add_joint(name="block_x", type=slide, axis=[1, 0, 0], damping=[drag, 0, 0])
    body.add_joint(name="block_y", type=slide, axis=[0, 1, 0], damping=[drag, 0, 0])
    body.add_joint(name="block_turn", type=hinge, axis=[0, 0, 1], pos=[*CENTRE, 0], damping=[drag * GYRATION**2, 0, 0])
    for name, (x0, x1, y0, y1), _ in _slabs():
        body.add_geom(
            name=name, type=mujoco.mjtGeom.mjGEOM_BOX, pos=[(x0 + x1) / 2, (y0 + y1) / 2, 0],
            size=[(x1 - x0) / 2, (y1 - y0) / 2, 0.0145], mass=MASS * (x1 - x0) * (y1 - y0) / AREA,
            rgba=[0.44, 0.5, 0.56, 1], contype=1, conaffinity=3,
        )  # fmt: skip


def _add_pusher(spec: mujoco.MjSpec) -> None:
    """A kilogram, a hundred Ts, so that pushing hardly slows it."""
    body = spec.worldbody.add_body(name="pusher")
    for name, axis in (("pusher_x", [1, 0, 0]), ("pusher_y", [0, 1, 0])):
        body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=STIFFNESS, kv=DAMPING)
    body.add_geom(
        name="pusher", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[PUSHER, 0, 0], mass=1.0, rgba=[0.25, 0.41, 0.88, 1],
        contype=1, conaffinity=1,
    )  # fmt: skip


class PushT(MujocoTask):
    """Task fields: `block`, the pose of the T's origin (x [m], y [m], angle [rad]), and `pusher` (x, y) [m].

    frame="table": an action is a place on the table. State (8,): the pusher (2) and the T's centroid (2), from the
    table's middle in units of 256 mm; cosine and sine of the T's angle; the pusher in the T's frame (2) [100 mm]. With
    `keypoints` the state is much like the paper's, (18,): the pusher and the T's eight corners.

    frame="block": an action is a place in the T's frame, up to 200 mm from its centroid, so that the task looks the
    same from everywhere. State (6,): the pusher in the T's frame (2) [100 mm]; the gap to the goal (x, y, radius of
    gyration times angle) in the T's frame as a direction (3) and a logarithm, ln(gap / 10 mm) / 2.

    With `pixels` observations are dictionaries with 96x96 pictures beside the state. `spread` shrinks the poses that
    the T starts from towards the goal: 1 is all of them, 0 the goal alone. After a step, `coverage` (n,) is the share
    of the goal that is covered and `best` (n,) its highest value in the episode.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        spread: float = 1.0,
        frame: str = "table",
        keypoints: bool = False,
        pixels: bool = False,
        max_steps: int = 300,
        nthread: int | None = None,
    ):
        if not 0 <= spread <= 1:
            raise ValueError(f"spread is {spread}; it must be between 0 (the goal) and 1 (anywhere)")
        if frame not in FRAMES or (keypoints and frame != "table"):
            raise ValueError(f"frame is {frame!r} with keypoints {keypoints}; it must be table, or block without them")
        super().__init__(table_spec(), num_envs, nthread=nthread, substeps=SUBSTEPS)
        self.spread, self.frame, self.max_steps = spread, frame, max_steps
        self.keypoints, self.with_pixels = keypoints, pixels
        self.task_space = TaskSpace(
            block=spaces.Box(np.array([0, 0, -np.pi]), np.array([FIELD, FIELD, np.pi]), dtype=np.float64),
            pusher=spaces.Box(PUSHER, FIELD - PUSHER, (2,), np.float64),
        )
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        state = spaces.Box(-np.inf, np.inf, (18 if keypoints else 6 if frame == "block" else 8,), np.float32)
        image = spaces.Box(0, 255, (PIXELS, PIXELS, 3), np.uint8)
        self.observation_space = spaces.Dict({"state": state, "pixels": image}) if pixels else state
        self.coverage, self.best = np.zeros(num_envs), np.zeros(num_envs)

    @property
    def pose(self) -> np.ndarray:
        """Poses of the T's origin, (num_envs, 3) [m, m, rad]."""
        return pose_at(self.qpos[:, :2] + CENTRE, self.qpos[:, 2])

    @property
    def pusher(self) -> np.ndarray:
        """The pusher's centre, (num_envs, 2) [m]."""
        return self.qpos[:, 3:5]

    def reset(self, ids: np.ndarray, given: Fields, rngs: Sequence[np.random.Generator]) -> Fields:
        drawn = [draw_start(rng, self.spread, {k: v[i] for k, v in given.items()}) for i, rng in enumerate(rngs)]
        pusher, block = (np.array([d[k] for d in drawn]).reshape(len(rngs), -1) for k in (0, 1))
        self._check_apart(pusher, block)
        self.begin(ids, rngs)
        self.qpos[ids] = np.concatenate((centroid(block) - CENTRE, block[:, 2:], pusher), axis=1)
        self.ctrl[ids] = pusher
        self.settle(ids)
        self.coverage[ids] = self.best[ids] = coverage(block)
        return {"block": block, "pusher": pusher}

    def _check_apart(self, pusher: np.ndarray, block: np.ndarray) -> None:
        """Only a pusher that the caller named can be in the T."""
        if (bad := inside(turn(-block[:, 2], pusher - block[:, :2]))).any():
            i = int(np.argmax(bad))
            raise ValueError(f"pusher {pusher[i]} lies in the T at {block[i]}; give another pusher, or none")

    def retask(self, ids: np.ndarray, fields: Fields) -> None:
        """No field may change in a running episode."""

    def step(self, actions: np.ndarray) -> None:
        centre, angle = self.qpos[:, :2] + CENTRE, self.qpos[:, 2]
        target = centre + turn(angle, REACH * actions) if self.frame == "block" else FIELD / 2 * (1 + actions)
        self.ctrl[:] = np.clip(target, PUSHER, FIELD - PUSHER)
        self.advance()

    def action_towards(self, target: np.ndarray) -> np.ndarray:
        """Actions (num_envs, 2) that send the pushers to points (num_envs, 2) [m]."""
        centre, angle = self.qpos[:, :2] + CENTRE, self.qpos[:, 2]
        action = turn(-angle, target - centre) / REACH if self.frame == "block" else scaled(target)
        return action.clip(-1, 1).astype(np.float32)

    def observe(self, ids: np.ndarray | slice = slice(None)) -> Any:
        state = self._corners(ids) if self.keypoints else self._state(ids)
        return {"state": state, "pixels": self.pixels(ids)} if self.with_pixels else state

    def _state(self, ids: np.ndarray | slice) -> np.ndarray:
        pusher, centre, angle = self.pusher[ids], self.qpos[ids, :2] + CENTRE, self.qpos[ids, 2]
        near = turn(-angle, pusher - centre) / 0.1
        if self.frame == "block":
            gap = np.column_stack((turn(-angle, centroid(GOAL) - centre), GYRATION * wrap(GOAL[2] - angle)))
            far = np.linalg.norm(gap, axis=1, keepdims=True)
            parts = near, gap / np.maximum(far, 1e-6), np.log(far / 0.01 + 1e-3) / 2
        else:
            parts = scaled(pusher), scaled(centre), np.cos(angle), np.sin(angle), near
        return np.column_stack(parts).astype(np.float32)

    def _corners(self, ids: np.ndarray | slice) -> np.ndarray:
        pose = self.pose[ids]
        corners = pose[:, None, :2] + turn(pose[:, 2, None], OUTLINE)
        return np.column_stack((scaled(self.pusher[ids]), scaled(corners).reshape(-1, 16))).astype(np.float32)

    def judge(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.coverage = np.nan_to_num(coverage(self.pose))
        self.best = np.maximum(self.best, self.coverage)
        success = self.coverage >= COVERED
        return np.minimum(self.coverage / COVERED, 1), success, success

    def pixels(self, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The table from above, y upwards, uint8 (n, 96, 96, 3)."""
        return np.stack([picture(p, a, PIXELS) for p, a in zip(self.pose[ids], self.pusher[ids], strict=True)])

    def render(self, sim: int) -> np.ndarray:
        return picture(self.pose[sim], self.pusher[sim], 384)


def scaled(points: np.ndarray) -> np.ndarray:
    """Points (..., 2) [m] from the table's middle, in units of half its side."""
    return points / (FIELD / 2) - 1


def inside(points: np.ndarray) -> np.ndarray:
    """Whether points (..., 2) of the T's frame lie in it."""
    x, y = points[..., 0], points[..., 1]
    return np.logical_or(*((x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1) for x0, x1, y0, y1 in (BAR, STEM)))


def picture(pose: np.ndarray, pusher: np.ndarray, size: int, goal: np.ndarray = GOAL) -> np.ndarray:
    """Table, goal (green), T (grey) and pusher (blue) from above, uint8 (size, size, 3); no graphics library needed."""
    ticks = (np.arange(size) + 0.5) * FIELD / size
    at = np.stack(np.meshgrid(ticks, ticks[::-1]), axis=-1)
    image = np.full((size, size, 3), (240, 240, 236), np.uint8)
    image[inside(turn(-goal[2], at - goal[:2]))] = (144, 216, 184)
    image[inside(turn(-pose[2], at - pose[:2]))] = (112, 128, 144)
    image[np.square(at - pusher).sum(axis=-1) < PUSHER**2] = (65, 105, 225)
    return image


def draw_start(rng: np.random.Generator, spread: float, given: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The pusher (2,), `AROUND` to `REACH` from the T's centroid, and the T's pose (3,); what is not given is drawn."""
    middle = centroid(GOAL)
    centre = middle + spread * (rng.uniform(ROOM, FIELD - ROOM, 2) - middle)
    angle = GOAL[2] + spread * rng.uniform(-np.pi, np.pi)
    block = given.get("block", pose_at(centre, wrap(angle)))
    while True:
        pusher = given.get("pusher", rng.uniform(2 * PUSHER, FIELD - 2 * PUSHER, 2))
        if "pusher" in given or AROUND <= np.linalg.norm(pusher - centroid(block)) <= REACH:
            return pusher, block
