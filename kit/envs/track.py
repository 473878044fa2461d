"""`kit/Track-v0`: a planar runner on two wheeled, telescoping legs crosses stumps and gaps.

30 Hz, at most 8 s. Driving is easy; a stump or a gap has to be jumped, by crouching and stretching the legs in time.
The course is the same for every task but for two numbers: stump, gap, stump, gap, each after 2 m of runway.

    progress p = furthest x so far / length of the course,   reward = p_t - p_{t-1},   success: p >= 0.9

so that the undiscounted return is the share of the course that was covered, in [0, 1]. The episode terminates at the
finish, and also where nothing more can come: the body fell into a gap, tipped over, left the course backwards, or made
no headway for 2 s. The setting, tasks of a stump track whose larger part may be impossible, follows Portelas et al.,
"Teacher algorithms for curriculum learning of Deep RL in continuously parameterized environments", CoRL 2019.

How the feasible box was found: specialists (PPO, 0.35 to 0.8 M steps each, every one started from the last that
succeeded, the task moved outwards a little at a time) were judged on 100 episodes of one task. With gaps of 0.1 m the
best passed stumps of 0.45, 0.50, 0.525, 0.55 and 0.60 m in 97, 94, 84, 63 and 0 % of episodes; with stumps of 5 cm,
gaps of 1.35, 1.5, 1.65 and 1.8 m in 94, 97, 6 and 32 %, and 2 m in none; 0.45 m with 1.3 m in 92 %, with 1.5 m in 60 %.
On a grid of the box, the best of seven policies passed every task up to 0.45 m and 1.5 m more often than not. At 0.5 m
with gaps over 0.3 m no policy has been trained. A scripted jump lifts both wheels by 0.45 m and carries 1.46 m; higher
stumps are climbed with the front wheels hooked on. A strip just beyond the box is hard, not impossible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces

from kit.envs.physics import MujocoTask
from kit.envs.pixels import Camera, Markers
from kit.envs.task import Fields, TaskSpace

FEASIBLE = {"stump": 0.5, "gap": 1.5}  # largest height and width of the feasible box [m]
RUNWAY = 2.0  # flat ground before each obstacle and after the last [m]
THICKNESS = 0.2  # of a stump, along the course [m]
DEPTH = 0.5  # how deep a gap looks to the height scan [m]; it has no floor
BEHIND = 3.0  # ground behind the start [m]
SUCCESS = 0.9  # share of the course
STROKE = 0.25  # of a leg [m]
RADIUS = 0.10  # of a wheel [m]
SUBSTEPS = 5  # physics steps of 1/150 s in a control step
TOP_SPEED = 3.0  # of the wheels' rims [m/s]
PATIENCE = 60  # control steps without headway until the episode ends
TIPPED = 1.2  # pitch beyond which the runner counts as tipped over [rad]
FALLEN = -0.05  # a torso lower than this is in a gap [m]
LEFT = -1.0  # a torso behind this has left the course [m]
CELL = 0.15  # width of a cell of the height scan [m]
CELLS = np.arange(-3, 14) * CELL  # edges of its 16 cells, ahead of the torso [m]
VIEW = ((4.0, -7.0, 2.5), (5.0, 0.0, 0.0), (0.0, 0.0, 1.0))  # a camera for `live.Scene` that shows most of the course
GAP = np.array([False, True, False, True])  # the obstacles in order: stump, gap, stump, gap

RUNNER = f"""
<mujoco model="track">
  <option timestep="{1 / 150}" integrator="implicitfast"/>
  <visual><headlight ambient=".4 .4 .4" diffuse=".4 .4 .4"/></visual>
  <asset><texture type="skybox" builtin="flat" rgb1=".93 .95 .97" rgb2=".93 .95 .97" width="64" height="64"/></asset>
  <default>
    <geom contype="0" conaffinity="0" rgba=".20 .22 .26 1" mass="0"/>
    <default class="leg">
      <joint type="slide" axis="0 0 -1" range="0 {STROKE}" damping="5" armature=".05"/>
      <geom type="capsule" size=".025" fromto="0 0 0 0 0 .30" rgba=".55 .57 .60 1" mass=".3"/>
      <position kp="3000" kv="60" ctrlrange="0 {STROKE}" forcerange="-120 120"/>
    </default>
    <default class="wheel">
      <joint type="hinge" axis="0 1 0" damping=".002" armature=".001"/>
      <velocity kv="1" ctrlrange="{-TOP_SPEED / RADIUS} {TOP_SPEED / RADIUS}" forcerange="-2 2"/>
    </default>
    <default class="touch"><geom type="sphere" contype="1" friction="1" group="3"/></default>
  </default>
  <worldbody>
    <light pos="0 -3 6" dir="0 .4 -1" directional="true"/>
    <body name="torso">
      <joint name="x" type="slide" axis="1 0 0"/>
      <joint name="z" type="slide" axis="0 0 1"/>
      <joint name="pitch" type="hinge" axis="0 1 0"/>
      <camera name="side" mode="track" pos=".9 -3.4 1.1" xyaxes="1 0 0 0 .27 1" fovy="36"/>
      <geom type="capsule" size=".08" fromto="-.26 0 0 .26 0 0" mass="5" rgba=".00 .45 .70 1"/>
      <geom type="sphere" size=".05" pos=".30 0 .03" rgba=".90 .62 0 1"/>
      <geom class="touch" size=".08" pos=".26 0 0"/>
      <geom class="touch" size=".08"/>
      <geom class="touch" size=".08" pos="-.26 0 0"/>
      {{legs}}
    </body>
  </worldbody>
  <actuator>
    <position class="leg" joint="front leg"/>
    <position class="leg" joint="rear leg"/>
    <velocity class="wheel" joint="front wheel"/>
    <velocity class="wheel" joint="rear wheel"/>
  </actuator>
</mujoco>
"""
LEG = """
<body name="{name} leg" pos="{x} 0 -.10" childclass="leg">
  <joint name="{name} leg"/>
  <geom/>
  <body name="{name} wheel" childclass="wheel">
    <joint name="{name} wheel"/>
    <geom class="touch" size="{radius}" mass=".5"/>
    <geom type="cylinder" size="{radius} .03" zaxis="0 1 0"/>
    <geom type="box" size=".07 .034 .015" rgba=".90 .62 0 1"/>
  </body>
</body>
"""


def course(gap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the obstacles lie: starts and ends (n, 4, 2), and the courses' lengths (n,) [m], for gap widths (n,)."""
    widths = np.where(GAP, gap[:, None], THICKNESS)
    ends = np.cumsum(RUNWAY + widths, axis=1)
    return np.stack((ends - widths, ends), axis=-1), ends[:, -1] + RUNWAY


def levels(stump: np.ndarray) -> np.ndarray:
    """Heights (n, 4) of the ground on the obstacles [m], for stump heights (n,)."""
    return np.where(GAP, -DEPTH, stump[:, None])


def height_scan(x: np.ndarray, edges: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Mean ground height (n, k-1) [m] of the cells between the positions x (n, k) [m], for obstacles (n, 4)."""
    reach = np.clip(x[:, :, None], edges[:, None, :, 0], edges[:, None, :, 1]) - edges[:, None, :, 0]
    area = (reach * level[:, None]).sum(axis=-1)  # under the ground's profile, from the start to x
    return np.diff(area, axis=1) / np.diff(x, axis=1)


def half_height(stump_max: float) -> float:
    """Of the boxes [m]: the highest stump still reaches down into the slab."""
    return stump_max / 2 + 0.3


def runner_spec(stump_max: float) -> mujoco.MjSpec:
    """The runner, and the mocap boxes whose tops are the ground: three slabs and two stumps."""
    legs = "".join(LEG.format(name=name, x=x, radius=RADIUS) for name, x in (("front", 0.22), ("rear", -0.22)))
    spec = mujoco.MjSpec.from_string(RUNNER.format(legs=legs))
    deep = half_height(stump_max)
    lengths = [BEHIND + 2 * RUNWAY + THICKNESS, 2 * RUNWAY + THICKNESS, 2 * RUNWAY]
    boxes = [(f"slab {k}", length, 0.5, (0.78, 0.77, 0.72, 1)) for k, length in enumerate(lengths)]
    boxes += [(f"stump {k}", THICKNESS, 0.4, (0.80, 0.40, 0.0, 1)) for k in range(2)]
    for name, length, half_width, rgba in boxes:
        body = spec.worldbody.add_body(name=name, mocap=True)
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[length / 2, half_width, deep], conaffinity=1, rgba=rgba)
    return spec


def box_centres(edges: np.ndarray, stump: np.ndarray, deep: float) -> np.ndarray:
    """Centres (n, 5, 3) [m] of the slabs and stumps, for boxes of half-height `deep` [m]."""
    centre = np.zeros((len(edges), 5, 3))
    before, between = (RUNWAY * 2 + THICKNESS - BEHIND) / 2, RUNWAY + THICKNESS / 2
    centre[:, 0, 0] = before
    centre[:, 1, 0] = edges[:, 1, 1] + between
    centre[:, 2, 0] = edges[:, 3, 1] + RUNWAY
    centre[:, 3:, 0] = edges[:, ::2].mean(axis=-1)
    centre[:, :, 2] = -deep
    centre[:, 3:, 2] += stump[:, None]
    return centre


class Track(MujocoTask):
    """Task fields: `stump`, the stumps' height [m]; `gap`, the gaps' width [m].

    With `impossible` = p the box of the fields is stretched, by the same factor in both, so that the share p of its
    volume lies outside the feasible box `FEASIBLE`.

    Actions (3,): drive (of both wheels), front leg, rear leg; -1..1 is full speed back to full speed ahead, and a leg
    drawn in to a leg stretched out. State (30,), scaled to order one and clipped to +-10: height, pitch and their
    velocities, forward speed, legs, wheels, the wheels' clearance, patience left, and 16 cells of the height scan.
    """

    return_range = (0.0, 1.0)  # of an undiscounted episode: the share of the course that was covered

    def __init__(
        self,
        num_envs: int = 1,
        *,
        impossible: float = 0.0,
        max_steps: int = 240,
        nthread: int | None = None,
    ):
        if not 0 <= impossible < 1:
            raise ValueError(f"impossible is {impossible}; give a share of the task box, at least 0 and below 1")
        stretch = (1 - impossible) ** (-1 / len(FEASIBLE))
        limits = {name: stretch * high for name, high in FEASIBLE.items()}
        super().__init__(runner_spec(limits["stump"]), num_envs, nthread=nthread, substeps=SUBSTEPS)
        self.impossible, self.max_steps = impossible, max_steps
        self.task_space = TaskSpace(**{k: spaces.Box(0.0, high, (1,), np.float64) for k, high in limits.items()})
        self.action_space = spaces.Box(-1, 1, (3,), np.float32)
        self.observation_space = spaces.Box(-10, 10, (14 + len(CELLS) - 1,), np.float32)
        self.mocap_pos = self.batch.bind("mocap_pos")
        self._deep = half_height(limits["stump"])
        self._wheels = [self.model.body(f"{name} wheel").id for name in ("front", "rear")]
        self.edges, self.length = np.zeros((num_envs, len(GAP), 2)), np.ones(num_envs)
        self.level = np.zeros((num_envs, len(GAP)))
        self.progress = np.zeros(num_envs)  # share of the course covered so far
        self._gain = np.zeros(num_envs)  # progress in the last step
        self._idle = np.zeros(num_envs, int)  # control steps in a row without headway

    def reset(self, ids: np.ndarray, given: Fields, rngs: Sequence[np.random.Generator]) -> Fields:
        fields = self.task_space.fields
        drawn = {k: np.array([rng.uniform(b.low, b.high) for rng in rngs]) for k, b in fields.items()}
        task = {k: given.get(k, drawn[k]).reshape(len(ids), 1) for k in fields}
        self.begin(ids, rngs)
        self._place(ids, task["stump"][:, 0], task["gap"][:, 0])
        noise = np.array([rng.uniform(-1, 1, 5) for rng in rngs]).reshape(len(ids), 5)
        legs = STROKE * (0.5 + 0.2 * noise[:, 3:])
        self.qpos[ids, 0] = 0.1 * noise[:, 0]
        self.qpos[ids, 1] = RADIUS + 0.1 + legs.max(axis=1) + 0.02
        self.qpos[ids, 2] = 0.05 * noise[:, 1]
        self.qpos[ids, 3], self.qpos[ids, 5] = legs.T
        self.qvel[ids, 0] = 0.2 * noise[:, 2]
        self.settle(ids)
        self.progress[ids] = self._gain[ids] = self._idle[ids] = 0
        return task

    def _place(self, ids: np.ndarray, stump: np.ndarray, gap: np.ndarray) -> None:
        self.edges[ids], self.length[ids] = course(gap)
        self.level[ids] = levels(stump)
        self.mocap_pos[ids] = box_centres(self.edges[ids], stump, self._deep)

    def retask(self, ids: np.ndarray, fields: Fields) -> None:
        """No field can change in a running episode."""

    def step(self, actions: np.ndarray) -> None:
        self.ctrl[:, :2] = STROKE * 0.5 * (1 + actions[:, 1:])
        self.ctrl[:, 2:] = TOP_SPEED / RADIUS * actions[:, :1]
        self.advance()
        reached = np.clip(np.nan_to_num(self.qpos[:, 0]) / self.length, 0, 1)
        reached[self.failed] = 0
        self._gain = np.maximum(reached - self.progress, 0)
        self._idle = np.where(self._gain > 0, 0, self._idle + 1)
        self.progress += self._gain

    def observe(self, ids: np.ndarray | slice = slice(None)) -> Any:
        q, v, wheel = self.qpos[ids], self.qvel[ids], self.xpos[ids][:, self._wheels]
        edges, level = self.edges[ids], self.level[ids]
        on = (wheel[:, :, :1] >= edges[:, None, :, 0]) & (wheel[:, :, :1] < edges[:, None, :, 1])
        clearance = wheel[:, :, 2] - RADIUS - (on * level[:, None]).sum(axis=-1)
        state = np.column_stack((
            4 * (q[:, 1] - 0.35), 2 * q[:, 2], 0.5 * v[:, 0] - 0.5, 0.5 * v[:, 1], 0.3 * v[:, 2],
            8 * q[:, 3:7:2] - 1, 0.5 * v[:, 3:7:2], 0.05 * v[:, 4:7:2],
            4 * clearance, 1 - self._idle[ids] / PATIENCE,
            4 * height_scan(q[:, :1] + CELLS, edges, level),
        ))  # fmt: skip
        return np.nan_to_num(state, posinf=10, neginf=-10).clip(-10, 10).astype(np.float32)

    def judge(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, z, pitch = self.qpos[:, :3].T
        lost = (z < FALLEN) | (np.abs(pitch) > TIPPED) | (x < LEFT) | (self._idle >= PATIENCE)
        return self._gain.copy(), lost | (self.progress >= 1), self.progress >= SUCCESS

    def render(self, sim: int) -> np.ndarray:
        if self._pictures is None:
            self._pictures = Camera(self.model, "side", width=640, height=320, pretty=True)
        self._pictures.data.mocap_pos[:] = self.mocap_pos[sim]
        return self._pictures.draw(self.qpos[sim], self.markers(sim))

    def markers(self, sim: int = 0) -> Markers:
        return {"finish": (np.array([self.length[sim], 0.0, 0.6]), 0.12, (0.0, 0.62, 0.45, 0.7))}
