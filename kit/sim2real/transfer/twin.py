"""The arm's tasks behind a `Gap`, in batches: what a policy trained in simulation meets on an arm that differs.

    kit.envs.ArmReach      ideal sensors, no delay                              where a beginner trains
    TwinReach(gap=...)     the numbers of a `Gap`, and what the arm's program can know: encoder ticks, 30 times a second

Between two commands a twin does what the virtual arm does behind its servo bus: a goal arrives after `action_delay`, or
never (`packet_loss`); positions are whole ticks and `observation_delay` old; speeds are their differences; the tool
point follows from the angles. `TWIN_A` is the hidden unit that everything is judged on. A policy "knows" a twin only if
it was trained there (the oracle).

The gap of one episode is a task like any other: each number is a task field, drawn uniformly from `gap=` if that is a
pair of Gaps, so that randomisation and curricula work on it as on goals. Look at `Twin.arm` first, then at `Twin.step`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces

from kit.envs import so101
from kit.envs.arm_push import ArmPush
from kit.envs.arm_reach import ArmReach
from kit.envs.arm_task import ARM
from kit.envs.physics import SERVO_KP
from kit.envs.task import Fields
from kit.sim2real import kinematics
from kit.sim2real.arm_physics import add_play
from kit.sim2real.motor import TICKS, Gap

NOMINAL = Gap()
TWIN_A = Gap(
    stiffness=13 / 16,
    coulomb=0.12,
    viscous=0.09,
    backlash=0.5,
    action_delay=0.030,
    observation_delay=0.005,
    payload=0.1,
    packet_loss=0.001,
)
# What a twin can vary, with the largest value that a task may ask for.
LARGEST = {
    "stiffness": 2.0, "strength": 2.0, "coulomb": 0.5, "viscous": 0.5, "backlash": 3.0, "action_delay": 0.1,
    "observation_delay": 0.03, "encoder_offset": 10.0, "payload": 0.5, "packet_loss": 1.0,
}  # fmt: skip
FIELDS = tuple(LARGEST)
SERVO_VOLTS = 7  # where MuJoCo's dcmotor keeps its largest voltage in gainprm
GapRange = Gap | tuple[Gap, Gap]  # one, or the lowest and the highest


def numbers(gap: Gap) -> np.ndarray:
    """The numbers (10,) of a gap, in the order of `FIELDS`.

    Raises:
        ValueError: it differs from nominal in something that a batch does not have.
    """
    for field in dataclasses.fields(Gap):
        if field.name not in FIELDS and getattr(gap, field.name) != field.default:
            raise ValueError(
                f"Gap.{field.name} is {getattr(gap, field.name)}; a batched twin has none, a virtual arm does "
                "(kit.sim2real.bus.virtual_arm)"
            )
    return np.array([getattr(gap, name) for name in FIELDS])


def stretch(gap: Gap, low: Gap, high: Gap) -> tuple[Gap, Gap]:
    """The smallest range that holds `gap` and both ends of another."""
    values = np.stack([numbers(gap), numbers(low), numbers(high)])
    return tuple(Gap(**dict(zip(FIELDS, row.tolist(), strict=True))) for row in (values.min(0), values.max(0)))


# ---- the model --------------------------------------------------------------------------------------------------


def prepare(spec: mujoco.MjSpec, high: np.ndarray) -> mujoco.MjSpec:
    """Give a model what its gap needs: play behind the joints, delayed encoders, a body for the payload."""
    most = dict(zip(FIELDS, high, strict=True))
    for name in so101.JOINTS:
        if most["backlash"] > 0:
            add_play(spec.joint(name), np.radians(most["backlash"]))
    for name in so101.JOINTS:
        for joint in (name, f"{name}_play")[: 1 + (most["backlash"] > 0)]:
            sensor = spec.add_sensor(
                name=f"{joint}_encoder",
                type=mujoco.mjtSensor.mjSENS_JOINTPOS,
                objtype=mujoco.mjtObj.mjOBJ_JOINT,
                objname=joint,
            )
            if most["observation_delay"] > 0:
                sensor.nsample = int(np.ceil(most["observation_delay"] / spec.option.timestep)) + 1
                sensor.interp = 1
                sensor.delay = 1e-9
    if most["payload"] > 0:
        body = spec.body("gripper").add_body(name="payload", pos=spec.site(so101.TOOL).pos)
        geom = dict(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.015, 0, 0], contype=0, conaffinity=0)
        body.add_geom(**geom, mass=most["payload"])
    return spec


# ---- the tasks --------------------------------------------------------------------------------------------------


class Twin:
    """What a twin adds to a task of the arm. `gap` is one Gap, or two between which each episode's is drawn.

    `history` adds the last so many angles (relative to now) and actions to what the policy sees. `drawn`
    (num_envs, 10) holds the running episodes' gaps, in the order of `FIELDS`.
    """

    def __init__(self, num_envs: int = 1, *, gap: GapRange = NOMINAL, history: int = 0, **options: Any):
        low, high = gap if isinstance(gap, tuple) else (gap, gap)
        self._gap_low, self._gap_high = numbers(low), numbers(high)
        if (self._gap_low > self._gap_high).any():
            worst = FIELDS[int(np.argmax(self._gap_low - self._gap_high))]
            raise ValueError(f"the range of {worst} is empty: {getattr(low, worst)} to {getattr(high, worst)}")
        if self._gap_high[FIELDS.index("backlash")] > 0 and self._gap_low[FIELDS.index("backlash")] == 0:
            self._gap_low[FIELDS.index("backlash")] = 1e-3  # [deg]; MuJoCo's limits need some width
        self.history = history
        super().__init__(num_envs, **options)
        for name, top in LARGEST.items():
            self.task_space.fields[name] = spaces.Box(0.0, top, (1,), np.float64)
        self._nominal |= {name: getattr(self.model, name).copy() for name in self._varied()}
        for name in self._varied():
            self.batch.expand(name)
        self.drawn = np.tile(self._gap_low, (num_envs, 1))
        self.target = np.zeros((num_envs, ARM))  # what the arm's program last asked for [rad]
        self._offset = np.zeros((num_envs, ARM))  # error of the zeros [rad]
        self._before = np.zeros((num_envs, ARM))  # angles a control step ago [rad]
        self._seen = np.zeros((num_envs, ARM))
        self._past = np.zeros((num_envs, history, 2 * ARM))  # the latest first: angles [rad] and actions
        self._rngs = [np.random.default_rng(i) for i in range(num_envs)]  # of lost packets
        self._readings = self.batch.bind("sensordata")
        self._first = self.model.sensor(f"{so101.JOINTS[0]}_encoder").adr[0]
        state = self.observation_space
        if history:
            self.observation_space = spaces.Box(-10, 10, (state.shape[0] + 2 * ARM * history,), np.float32)

    def build(self, servo: str | so101.Servo, max_delay: float) -> mujoco.MjSpec:
        delay = self._gap_high[FIELDS.index("action_delay")]
        return prepare(super().build(servo, max(max_delay, delay)), self._gap_high)

    def _varied(self) -> list[str]:
        """Fields of the model that differ between simulations."""
        high = dict(zip(FIELDS, self._gap_high, strict=True))
        needs = {
            "action_delay": ["actuator_delay"],
            "observation_delay": ["sensor_delay"],
            "backlash": ["jnt_range"],
            "payload": ["body_mass", "body_inertia"],
        }
        names = [field for name, group in needs.items() if high[name] > 0 for field in group]
        return ["dof_frictionloss", "dof_damping", "actuator_gainprm", *names]

    # ---- an episode's gap -------------------------------------------------------------------------------------------

    def reset(self, ids: np.ndarray, given: Fields, rngs: Sequence[np.random.Generator]) -> Fields:
        for i, rng in zip(ids, rngs, strict=True):
            self._rngs[i] = rng
        drawn = np.stack([rng.uniform(self._gap_low, self._gap_high) for rng in rngs]) if len(ids) else self.drawn[ids]
        for column, name in enumerate(FIELDS):
            if name in given:
                self._check_given(name, given[name])
                drawn[:, column] = given[name][:, 0]
        self.drawn[ids] = drawn
        signs = np.stack([rng.uniform(-1, 1, ARM) for rng in rngs]) if len(ids) else self._offset[ids]
        self._offset[ids] = signs * np.radians(self._of(ids, "encoder_offset"))[:, None]
        fields = super().reset(ids, given, rngs)
        self.target[ids] = self.ctrl[ids, :ARM] + self._offset[ids]
        self._seen[ids] = self._before[ids] = self._encoders(ids)
        self._past[ids] = np.concatenate((self._seen[ids], np.zeros((len(ids), ARM))), axis=1)[:, None]
        return fields | {name: drawn[:, [column]] for column, name in enumerate(FIELDS)}

    def _check_given(self, name: str, values: np.ndarray) -> None:
        """A model without play, delay or payload cannot be given one later."""
        top = self._gap_high[FIELDS.index(name)]
        if name in ("backlash", "action_delay", "observation_delay", "payload") and (values > top).any():
            raise ValueError(
                f"{name} {values.max():g} is above {top:g}, for which this twin was built; build it with a wider gap="
            )

    def _of(self, ids: np.ndarray, name: str) -> np.ndarray:
        return self.drawn[ids, FIELDS.index(name)]

    def begin(self, ids: np.ndarray, rngs: Sequence[np.random.Generator]) -> None:
        super().begin(ids, rngs)
        self._write_gap(ids)

    def settle(self, ids: np.ndarray) -> None:
        """Delayed encoders have seen the arm as it stands for long."""
        model = self.model
        for i in np.flatnonzero(model.sensor_history[:, 0]):
            angle = self.qpos[ids, model.jnt_qposadr[model.sensor_objid[i]]]
            self._remember(ids, model.sensor_historyadr[i], model.sensor_history[i, 0], angle)
        super().settle(ids)

    def _write_gap(self, ids: np.ndarray) -> None:
        """The drawn numbers into the simulations' own copies of the model."""
        field, nominal = self._field("dof_frictionloss")
        field[ids, self._v] = self._of(ids, "coulomb")[:, None]
        field, nominal = self._field("dof_damping")
        field[ids, self._v] = self._of(ids, "viscous")[:, None]
        field, nominal = self._field("actuator_gainprm")
        field[ids, :, SERVO_KP] = nominal[:, SERVO_KP] * self._of(ids, "stiffness")[:, None]
        field[ids, :, SERVO_VOLTS] = nominal[:, SERVO_VOLTS] * self._of(ids, "strength")[:, None]
        if "actuator_delay" in self._nominal:
            self._field("actuator_delay")[0][ids] = self._of(ids, "action_delay")[:, None]
        if "sensor_delay" in self._nominal:
            self._field("sensor_delay")[0][ids] = self._of(ids, "observation_delay")[:, None]
        if "jnt_range" in self._nominal:
            half = np.radians(self._of(ids, "backlash"))[:, None] / 2
            play = [self.model.joint(f"{name}_play").id for name in so101.JOINTS]
            self._field("jnt_range")[0][np.ix_(ids, play)] = np.stack((-half, half), -1)
        if "body_mass" in self._nominal:
            self._write_payload(ids)

    def _write_payload(self, ids: np.ndarray) -> None:
        body = self.model.body("payload").id
        mass = self._of(ids, "payload")
        share = mass / self._nominal["body_mass"][body]
        self._field("body_mass")[0][ids, body] = mass
        self._field("body_inertia")[0][ids, body] = share[:, None] * self._nominal["body_inertia"][body]
        self.batch.set_const(ids)

    # ---- what the arm's program knows -------------------------------------------------------------------------------

    def _encoders(self, ids: np.ndarray | slice) -> np.ndarray:
        """Angles (n, 5) as read: late, in whole ticks, and off by the error of the zeros [rad]."""
        angles = self._readings[ids, self._first :]
        if "jnt_range" in self._nominal:  # a joint and its play, in turn
            angles = angles[:, ::2] + angles[:, 1::2]
        return np.round((angles[:, :ARM] + self._offset[ids]) * TICKS) / TICKS

    def arm(self, ids: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        q = self._seen[ids]
        return q, (q - self._before[ids]) * self.fps, self.target[ids] - q, kinematics.tool(q)

    def observe(self, ids: np.ndarray | slice = slice(None)) -> Any:
        state = super().observe(ids)
        if not self.history:
            return state
        past = self._past[ids].copy()
        past[:, :, :ARM] = 10 * (past[:, :, :ARM] - self._seen[ids][:, None])
        return np.concatenate((state, past.reshape(len(state), -1).clip(-10, 10).astype(np.float32)), axis=1)

    def step(self, actions: np.ndarray) -> None:
        self.target = (self.target + so101.MAX_DELTA * actions).clip(self._low, self._high)
        sent, read = self._packets()
        self.ctrl[:, :ARM] = np.where(sent[:, None], self.target - self._offset, self.ctrl[:, :ARM])
        if self.history:
            self._past = np.roll(self._past, 1, axis=1)
            self._past[:, 0] = np.concatenate((self._seen, actions), axis=1)
        self.advance()
        self._before = self._seen
        self._seen = np.where(read[:, None], self._encoders(slice(None)), self._seen)

    def _packets(self) -> np.ndarray:
        """Which goals and which positions come through, two bool (num_envs,)."""
        chance = self.drawn[:, FIELDS.index("packet_loss")]
        if not chance.any():
            return np.ones((2, self.num_envs), bool)
        return np.stack([rng.random(2) for rng in self._rngs], axis=1) >= chance


class TwinReach(Twin, ArmReach):
    """`ArmReach` on an arm with a gap."""


class TwinPush(Twin, ArmPush):
    """`ArmPush` on an arm with a gap; the cube is seen as it is."""
