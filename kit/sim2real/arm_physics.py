"""The SO-101 behind its servos' registers: six motors and the arm that they move, one unit with a gap of its own.

    encoder = 2048 + q 4096 / 2 pi + assembly offset          the offset is what calibration has to find
    V = supply - R_supply sum_j |duty_j i_j|                  what all motors draw pulls the supply down

The nominal unit moves like the arm of `kit.envs`; a `Gap` makes it differ, the way a metal arm would. `kit.sim2real.
motor` has the inner loop. Look first at `build_spec`, then at `ArmPhysics._step`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import mujoco
import numpy as np

from kit.envs import so101
from kit.sim2real.motor import TICKS, Gap, Heat, Motor, coasts
from kit.sim2real.servo import MIDDLE, TURN, Firmware, Reading, ServoState

FOLLOWER_GEARS = (345.0,) * 6  # gear ratios, in the order of so101.JOINTS
LEADER_GEARS = (191.0, 345.0, 191.0, 147.0, 147.0, 147.0)
REST = np.array([0.0, -1.745, 1.69, 0.8, 0.0, 0.0])  # folded, where the arm lies when nothing holds it [rad]
WATCH = 3  # physics steps between two looks of the protections: 10 ms
HAND = (20.0, 1.0, 4.0)  # the guiding hand: stiffness [N m/rad], damping [N m s/rad], strength [N m]


@dataclass(frozen=True)
class Config:
    """A unit as built. The gains come from the registers, so a servo preset's `p_gain` has no effect here."""

    servo: str | so101.Servo = "7.4V-P16"  # motor and supply voltage
    kind: str = "follower"  # or "leader", whose lighter gears a hand can turn
    scene: str = "table"  # or "so101": the arm alone
    gap: Gap = field(default_factory=Gap)
    heat: Heat = field(default_factory=Heat)
    spread: float = 512.0  # assembly offsets are drawn uniformly within +- this [ticks]
    encoder_side: str = "output"  # where the encoder sits if there is backlash: "output" or "motor"
    brake_when_off: bool = False  # Torque_Enable 0 shorts the motor, as 2 does, instead of letting it coast
    integral_unit: float = 1.0  # I_Coefficient in units of P_Coefficient and second [1/s]; not identified
    supply_resistance: float = 0.1  # of supply and cables [Ohm]

    def __post_init__(self) -> None:
        for name, allowed in (("kind", ("follower", "leader")), ("encoder_side", ("output", "motor"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be {' or '.join(allowed)}")
        if not isinstance(self.motor, so101.Servo):
            raise ValueError("the stiff position source has no motor to put behind registers; choose a voltage preset")

    @property
    def motor(self) -> so101.Servo:
        return so101.servo(self.servo)

    @property
    def gears(self) -> np.ndarray:
        """Gear ratios (6,) as multiples of 1:345, for which the motor's constants were identified."""
        return np.array(LEADER_GEARS if self.kind == "leader" else FOLLOWER_GEARS) / 345.0


# ---- the model --------------------------------------------------------------------------------------------------


def build_spec(cfg: Config) -> mujoco.MjSpec:
    """The arm of `kit.envs.so101` with raw motors (controls in volts) and this unit's friction, play and payload."""
    motor, gap = cfg.motor, cfg.gap
    spec = so101.make_spec(motor, scene=cfg.scene)
    for name, gear in zip(so101.JOINTS, cfg.gears, strict=True):
        joint, actuator = spec.joint(name), spec.actuator(name)
        joint.frictionloss = gap.coulomb * gear
        joint.damping[0] = gap.viscous * gear**2
        joint.armature *= gear**2
        actuator.set_to_dcmotor(
            motorconst=[motor.torque_constant * gear] * 2,
            resistance=motor.resistance,
            ctrlspec=int(mujoco.mjtCtrlInput.mjINPUT_VOLTAGE),
        )
        actuator.ctrllimited = mujoco.mjtLimited.mjLIMITED_FALSE
        if gap.backlash:
            add_play(joint, np.radians(gap.backlash))
    if gap.payload:
        body = spec.body("gripper").add_body(name="payload", pos=spec.site(so101.TOOL).pos)
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.015, 0, 0], mass=gap.payload, contype=0, conaffinity=0)
    return spec


def add_play(joint: mujoco.MjsJoint, width: float) -> None:
    """A second, free hinge behind a joint, which turns `width` [rad] from stop to stop: backlash.

    Its inertia and damping keep it calm at steps of 1/300 s; the stops are as stiff as those steps allow.
    """
    joint.parent.add_joint(
        name=f"{joint.name}_play",
        type=mujoco.mjtJoint.mjJNT_HINGE,
        pos=joint.pos,
        axis=joint.axis,
        range=[-width / 2, width / 2],
        limited=mujoco.mjtLimited.mjLIMITED_TRUE,
        armature=5e-4,
        damping=[5e-3, 0, 0],
        frictionloss=0.0,
        solref_limit=[0.007, 1.0],
        solimp_limit=[0.99, 0.999, 1e-4, 0.5, 2.0],
    )


# ---- state ------------------------------------------------------------------------------------------------------


class ArmPhysics:
    """One unit: `servos` (six `ServoState`), and the arm they move, as MuJoCo's `model` and `data`.

    `assembly` (6,) holds the encoder offsets of this unit [ticks]; they are drawn from `seed` unless given. `stuck`
    maps a servo's number in the arm (0 to 5) to the encoder value at which it froze.
    """

    def __init__(
        self,
        cfg: Config | None = None,
        *,
        seed: int = 0,
        firmware: Firmware | None = None,
        assembly: np.ndarray | None = None,
    ):
        self.cfg = cfg = cfg or Config()
        self.rng = np.random.default_rng(seed)
        drawn = self.rng.uniform(-cfg.spread, cfg.spread, 6)
        self.zero_error = self.rng.uniform(-1, 1, 6) * cfg.gap.encoder_offset / 360 * TURN  # [ticks]
        self.assembly = drawn if assembly is None else np.array(assembly, float)
        self.model = build_spec(cfg).compile()
        self.data = mujoco.MjData(self.model)
        self._find_joints()
        options = dict(integral_unit=cfg.integral_unit)
        self.motors = [Motor(cfg.motor, cfg.gap, cfg.heat, gear=gear, **options) for gear in cfg.gears]
        self.servos = [ServoState(i + 1, firmware) for i in range(6)]
        self._set_voltage_limits()
        self.stuck: dict[int, float] = {}
        self.calibration: dict[str, dict[str, int]] | None = None  # what `write_calibration` stored
        self.hand: np.ndarray | Callable[[float], np.ndarray] | None = None
        self.place(REST)

    def _find_joints(self) -> None:
        joints = [self.model.joint(name) for name in so101.JOINTS]
        self._qpos = np.array([j.qposadr[0] for j in joints])
        self._dof = np.array([j.dofadr[0] for j in joints])
        self._play = self._qpos + 1 if self.cfg.gap.backlash else None  # the play follows its joint

    def _set_voltage_limits(self) -> None:
        """A servo for 12 V comes with other limits than one for 7.4 V."""
        if self.cfg.motor.volts > 8:
            for servo in self.servos:
                servo.set("Max_Voltage_Limit", 140)
                servo.keep()

    def place(self, angles: np.ndarray) -> None:
        """Put the arm somewhere, at rest, cold, at time 0: joint angles (6,) [rad], in the order of so101.JOINTS."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._qpos] = angles
        mujoco.mj_forward(self.model, self.data)
        self.volts = self.cfg.motor.volts
        seen = self.encoders()
        for motor, ticks in zip(self.motors, seen, strict=True):
            motor.restart(ticks)
        self._seen = deque([seen], maxlen=1 + round(self.cfg.gap.observation_delay / self.model.opt.timestep))
        self._owed, self._steps = 0.0, 0
        self.asked = [servo.drive() for servo in self.servos]
        self._sent, self._on_the_way = self.asked, deque()
        self._publish()

    # ---- looking and touching -----------------------------------------------------------------------------------

    @property
    def time(self) -> float:
        return self.data.time

    @property
    def angles(self) -> np.ndarray:
        """Joint angles (6,) on the output side [rad]."""
        q = self.data.qpos[self._qpos]
        return q if self._play is None else q + self.data.qpos[self._play]

    def encoders(self) -> list[float]:
        """What the six encoders see [ticks]."""
        q = self.data.qpos[self._qpos] if self.cfg.encoder_side == "motor" else self.angles
        ticks = (MIDDLE + TICKS * q + self.assembly).tolist()
        for number, frozen in self.stuck.items():
            ticks[number] = frozen
        return ticks

    def freeze_encoder(self, number: int) -> None:
        """From now on the encoder of servo `number` (0 to 5) reads what it reads now."""
        self.stuck[number] = self.encoders()[number]

    def guide(self, angles: np.ndarray | Callable[[float], np.ndarray] | None) -> None:
        """A hand that leads the arm to angles (6,) [rad], fixed or a function of time; NaN leaves a joint alone.

        The hand is a spring of limited strength (`HAND`). None lets go.
        """
        self.hand = angles
        self.data.qfrc_applied[:] = 0

    # ---- time ---------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass, in whole physics steps; what is left over is kept for the next call."""
        self._send()
        self._owed += seconds
        steps = int(self._owed / self.model.opt.timestep + 1e-6)
        self._owed -= steps * self.model.opt.timestep
        for _ in range(steps):
            self._step()
        if steps:
            self._publish()

    def _send(self) -> None:
        """What the registers ask now goes to the motors, where it arrives late if the unit has a delay."""
        wanted = [servo.drive() for servo in self.servos]
        if wanted == self._sent:
            return
        gap, self._sent = self.cfg.gap, wanted
        due = self.time + gap.action_delay + (self.rng.uniform(0, gap.jitter) if gap.jitter else 0.0)
        self._on_the_way.append((max(due, self._on_the_way[-1][0]) if self._on_the_way else due, wanted))

    def _step(self) -> None:
        """One physics step: the servos' loops, the motors, the arm."""
        while self._on_the_way and self._on_the_way[0][0] <= self.time + 1e-9:
            self.asked = self._on_the_way.popleft()[1]
        self._drive()
        if self.hand is not None:
            self._feel_hand()
        mujoco.mj_step(self.model, self.data)
        self._seen.append(self.encoders())
        self._steps += 1
        if self._steps % WATCH == 0:
            self._watch(WATCH * self.model.opt.timestep)

    def _drive(self) -> None:
        """Set the motors' voltages, the supply's sag, and the friction that follows the load."""
        gap, drawn, volts = self.cfg.gap, 0.0, []
        speeds = self.data.qvel[self._dof].tolist()
        for motor, asked, ticks, speed in zip(self.motors, self.asked, self._seen[-1], speeds, strict=True):
            motor.loop(asked, round(ticks) if gap.whole_ticks else ticks, self.model.opt.timestep)
            volts.append(motor.terminal(speed, self.volts, free=coasts(asked, self.cfg.brake_when_off)))
            drawn += abs(motor.duty * motor.amperes)
        self.data.ctrl[:] = volts
        self.volts = self.cfg.motor.volts - self.cfg.supply_resistance * drawn
        if gap.load_friction:
            load = np.abs([motor.constant * motor.amperes for motor in self.motors])
            self.model.dof_frictionloss[self._dof] = gap.coulomb * self.cfg.gears + gap.load_friction * load

    def _feel_hand(self) -> None:
        stiffness, damping, strength = HAND
        where = self.hand(self.time) if callable(self.hand) else self.hand
        pull = stiffness * (np.asarray(where, float) - self.angles) - damping * self.data.qvel[self._dof]
        self.data.qfrc_applied[self._dof] = np.clip(np.nan_to_num(pull), -strength, strength)

    # ---- back into the registers --------------------------------------------------------------------------------

    def _watch(self, seconds: float) -> None:
        for motor in self.motors:
            motor.warm(seconds)
        self._publish(seconds)
        self._send()  # a protection may have taken the torque away

    def _publish(self, seconds: float = 0.0) -> None:
        speeds = (TICKS * self.data.qvel[self._dof]).tolist()
        for servo, motor, ticks, speed in zip(self.servos, self.motors, self._seen[0], speeds, strict=True):
            arrived = abs(motor.way) < 1
            reading = Reading(ticks, speed, motor.duty, motor.amperes, self.volts, motor.celsius, arrived)
            servo.sense(reading, seconds)


def write_calibration(arm: ArmPhysics) -> dict[str, dict[str, int]]:
    """Calibrate a unit perfectly, but for its `zero_error`, and return LeRobot's calibration of it.

    Homing_Offset makes the middle of each joint's range read 2047, the two limits are where the joint stops; the wrist
    roll keeps 0 to 4095, as LeRobot leaves it. All of it goes to the EEPROM, and the servos start anew.
    """
    found = {}
    for name, servo, offset in zip(so101.JOINTS, arm.servos, arm.assembly + arm.zero_error, strict=True):
        roll = name == "wrist_roll"
        low, high = arm.model.joint(name).range * TICKS
        middle = 0.0 if roll else (low + high) / 2
        homing = max((round(MIDDLE + middle + offset) - 2047 + MIDDLE) % TURN - MIDDLE, -2047)
        low, high = (0, 4095) if roll else (round(2047 + low - middle), round(2047 + high - middle))
        for register, value in (("Homing_Offset", homing), ("Min_Position_Limit", low), ("Max_Position_Limit", high)):
            servo.set(register, value)
        servo.keep()
        found[name] = dict(id=servo.id, drive_mode=0, homing_offset=homing, range_min=low, range_max=high)
    arm.calibration = found
    return found
