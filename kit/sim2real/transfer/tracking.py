"""Joint tracking by feed-forward: how well a model of the arm can be followed on an arm that differs, no learning.

    tau = M(r) r'' + c(r, r') + g(r) + viscous r' + coulomb tanh(r' / 0.05)       torque that the reference r needs
    u   = r + (tau + Kt Ke / R r') / kp                                           servo goal that gives this torque
    goals[k] = u(t_k + delay + firmware's lag)                                    sent early, so that it acts in time

The model is nominal (naive), identified (`kit.sim2real.transfer.sysid`) or the truth (oracle); nothing is fed back. An
episode succeeds if the root mean square error of each of the joints 1 to 5 is at most twice an encoder step plus the
play of Twin A (`kit.sim2real.transfer.twin`), 0.68 degrees. `Fleet` is `ArmPhysics` for many arms at once. Look
first at `goals_for`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from mujoco.batch import Batch

from kit.envs import so101
from kit.sim2real import arm_physics
from kit.sim2real.motor import TICKS, Gap
from kit.sim2real.transfer.sysid import Identified

TOLERANCE = 2 * 360 / 4096 + 0.5  # twice the encoder's step plus the play of Twin A [deg]
ARM = 5  # joints that count; the gripper stays where it is


@dataclass(frozen=True)
class Config:
    """The references, and what every controller knows of the servo. Tuples are in the order of so101.JOINTS."""

    seconds: float = 4.0  # of motion, after `hold` [s]
    hold: float = 1.0  # at the start, not counted [s]
    tones: tuple[float, ...] = (0.23, 0.41, 0.67)  # of the references [Hz]
    amplitude: tuple[float, ...] = (0.32, 0.22, 0.22, 0.3, 0.3, 0.0)  # about [rad]
    centre: tuple[float, ...] = (0.0, -0.9, 0.3, 0.3, 0.0, 0.5)  # [rad]
    spread: float = 0.15  # of the centre from episode to episode, either way [rad]
    servo: str = "7.4V-P16"
    acceleration: int = 254  # the servo's register [100 ticks/s^2]
    supply_resistance: float = 0.1  # of the arm, as in `arm_physics.Config`; no controller knows it [Ohm]
    lag: float = 0.028  # from a goal's arrival until the inner goal is there, at 0.4 rad/s, holding included [s]
    tolerance: float = TOLERANCE  # of a joint's RMS error [deg]


# ---- the references ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """Smooth joint motions of n episodes: centre + fade(t) sum of sines; each array has n rows."""

    centre: np.ndarray  # (n, 6) [rad]
    size: np.ndarray  # (n, 6, tones) [rad]
    phase: np.ndarray  # (n, 6, tones) [rad]
    cfg: Config

    @property
    def frames(self) -> int:
        return round((self.cfg.hold + self.cfg.seconds) * so101.CONTROL_HZ)

    def at(self, t: np.ndarray) -> np.ndarray:
        """Angles (n, len(t), 6) [rad]."""
        fade = np.clip(t - self.cfg.hold, 0, 1)
        fade = fade**3 * (10 - 15 * fade + 6 * fade**2)  # its speed and acceleration start and end with 0
        angle = 2 * np.pi * np.multiply.outer(t, np.array(self.cfg.tones))
        waves = self.size[:, None] * np.sin(angle[:, None] + self.phase[:, None])
        return self.centre[:, None] + fade[:, None] * waves.sum(-1)


def draw_references(n: int, cfg: Config, *, seed: int) -> Reference:
    rng = np.random.default_rng(seed)
    shape = (n, 6, len(cfg.tones))
    share = rng.dirichlet(np.ones(len(cfg.tones)), (n, 6))
    centre = np.array(cfg.centre) + rng.uniform(-cfg.spread, cfg.spread, (n, 6)) * (np.array(cfg.amplitude) > 0)
    return Reference(centre, share * np.array(cfg.amplitude)[:, None], rng.uniform(0, 2 * np.pi, shape), cfg)


# ---- the controller ---------------------------------------------------------------------------------------------


def believed_model(gap: Gap, cfg: Config) -> mujoco.MjModel:
    """The arm that a controller believes in, for inverse dynamics: no contacts, no play, friction added by hand."""
    spec = arm_physics.build_spec(
        arm_physics.Config(servo=cfg.servo, scene="so101", gap=replace(gap, coulomb=0.0, backlash=0.0))
    )
    spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_LIMIT)
    return spec.compile()


def needed_torque(model: mujoco.MjModel, q: np.ndarray, qd: np.ndarray, qdd: np.ndarray) -> np.ndarray:
    """M qdd + c + g + viscous qd (m, 6) [N m] for angles, speeds and accelerations (m, 6)."""
    data, out = mujoco.MjData(model), np.empty_like(q)
    for i in range(len(q)):
        data.qpos[:6], data.qvel[:6], data.qacc[:6] = q[i], qd[i], qdd[i]
        mujoco.mj_inverse(model, data)
        out[i] = data.qfrc_inverse[:6]
    return out


def servo_goal(q: np.ndarray, qd: np.ndarray, torque: np.ndarray, gap: Gap, servo: so101.Servo) -> np.ndarray:
    """The goal [rad] at which a servo with this gap gives `torque` [N m] at angle q and speed qd, any shape."""
    friction = gap.coulomb * np.tanh(qd / 0.05)
    return q + (torque + friction + servo.back_emf * qd) / (servo.stiffness * gap.stiffness)


def goals_for(reference: Reference, gap: Gap, cfg: Config) -> np.ndarray:
    """Goals (n, T, 6) [rad], whole ticks, by which an arm with this gap would follow the reference."""
    lead = gap.action_delay + cfg.lag
    t, h = np.arange(reference.frames) / so101.CONTROL_HZ + lead, 1e-3
    before, q, after = reference.at(t - h), reference.at(t), reference.at(t + h)
    qd, qdd = (after - before) / (2 * h), (after - 2 * q + before) / h**2
    rows = [x.reshape(-1, 6) for x in (q, qd, qdd)]
    torque = needed_torque(believed_model(gap, cfg), *rows).reshape(q.shape)
    return np.round(servo_goal(q, qd, torque, gap, so101.servo(cfg.servo)) * TICKS) / TICKS


# ---- the arms ---------------------------------------------------------------------------------------------------


def profile_rows(
    s: np.ndarray, v: np.ndarray, goal: np.ndarray, v_max: float, a_max: float, dt: float
) -> tuple[np.ndarray, np.ndarray]:
    """`kit.sim2real.motor.profile` for arrays of any shape [rad, rad/s, rad/s^2]."""
    way, lost = goal - s, a_max * dt / 2
    stoppable = np.sqrt(lost**2 + 2 * a_max * np.abs(way)) - lost
    wanted = np.sign(way) * np.minimum(np.minimum(np.abs(way) / dt, v_max), stoppable)
    v = np.clip(wanted, v - a_max * dt, v + a_max * dt)
    return s + v * dt, v


class Fleet:
    """n virtual arms with the same gap, each with its own goals: `ArmPhysics` without registers, stepped together.

    Raises:
        ValueError: a gap with jitter, load friction or whole ticks in the loop, which only a single virtual arm has.
    """

    def __init__(self, n: int, gap: Gap, cfg: Config, nthread: int = 1):
        for name in ("jitter", "load_friction", "whole_ticks"):
            if getattr(gap, name):
                raise ValueError(f"Gap.{name} is {getattr(gap, name)}; a fleet has none, a virtual arm does")
        self.gap, self.cfg, self.servo = gap, cfg, so101.servo(cfg.servo)
        self.model = arm_physics.build_spec(arm_physics.Config(servo=cfg.servo, gap=gap)).compile()
        self.batch = Batch(self.model, n, nthread, persistent=True)
        joints = [self.model.joint(name) for name in so101.JOINTS]
        self._q, self._v = np.array([j.qposadr[0] for j in joints]), np.array([j.dofadr[0] for j in joints])

    def angles(self) -> np.ndarray:
        """Joint angles on the output side (n, 6) [rad]."""
        q = self.batch.bind("qpos")
        return q[:, self._q] + (q[:, self._q + 1] if self.gap.backlash else 0.0)

    def follow(self, goals: np.ndarray, start: np.ndarray, lost: np.ndarray) -> np.ndarray:
        """Angles (n, T, 6) [rad] just before each of the goals (n, T, 6) is sent, 30 times a second.

        The arms rest at `start` (n, 6) with their first goal; goals with `lost` (n, T) never arrive.
        """
        self.batch.reset()
        self.batch.bind("qpos")[:, self._q] = start
        self.batch.forward()
        arrived = goals.copy()
        for k in range(1, goals.shape[1]):
            arrived[:, k] = np.where(lost[:, k, None], arrived[:, k - 1], goals[:, k])
        self._inner, self._speed = goals[:, 0].copy(), np.zeros_like(start)
        self._volts = np.full((len(start), 1), self.servo.volts)
        late = math.ceil(self.gap.action_delay / self.model.opt.timestep - 1e-6)  # physics steps
        seen = np.empty_like(goals)
        for k in range(goals.shape[1]):
            seen[:, k] = self.angles()
            for j in range(so101.SUBSTEPS * k - late, so101.SUBSTEPS * (k + 1) - late):
                self._step(arrived[:, max(j, 0) // so101.SUBSTEPS])
        return seen

    def _step(self, goal: np.ndarray) -> None:
        """One physics step: the firmware's inner goal, its duty cycle, the motors' voltages, the supply's sag."""
        gap, servo = self.gap, self.servo
        acceleration = self.cfg.acceleration * 100 / TICKS
        self._inner, self._speed = profile_rows(
            self._inner, self._speed, goal, servo.slew, acceleration, self.model.opt.timestep
        )
        gain, most = servo.duty_per_rad * servo.p_gain * gap.stiffness, servo.duty_max * gap.strength
        duty = np.clip(gain * (self._inner - self.angles()), -most, most)
        volts = duty * self._volts
        amperes = (volts - servo.torque_constant * self.batch.bind("qvel")[:, self._v]) / servo.resistance
        self.batch.bind("ctrl")[:] = volts
        self._volts = servo.volts - self.cfg.supply_resistance * np.abs(duty * amperes).sum(axis=1, keepdims=True)
        self.batch.step()


# ---- the task ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """What episodes came to."""

    success: float  # share of episodes
    error: np.ndarray  # RMS error of each joint (n, 5) [deg]


def rms_errors(seen: np.ndarray, wanted: np.ndarray, cfg: Config) -> np.ndarray:
    """RMS of each joint's error (n, 5) [deg], after the hold, for angles (n, T, 6) [rad]."""
    first = round(cfg.hold * so101.CONTROL_HZ)
    error = np.degrees(seen - wanted)[:, first:, :ARM]
    return np.sqrt((error**2).mean(axis=1))


def track(world: Gap, believed: Gap, cfg: Config | None = None, *, episodes: int = 100, seed: int = 0) -> Score:
    """Follow `episodes` references in a world with one gap, with the feed-forward of a controller that believes in
    another. `seed` draws the references and the lost packets, the same for every controller."""
    cfg = cfg or Config()
    reference = draw_references(episodes, cfg, seed=seed)
    goals = goals_for(reference, believed, cfg)
    lost = np.random.default_rng((seed, 1)).random(goals.shape[:2]) < world.packet_loss
    wanted = reference.at(np.arange(reference.frames) / so101.CONTROL_HZ)
    error = rms_errors(Fleet(episodes, world, cfg).follow(goals, wanted[:, 0], lost), wanted, cfg)
    return Score(float((error <= cfg.tolerance).all(axis=1).mean()), error)


def controllers(world: Gap, found: Identified) -> dict[str, Gap]:
    """What each controller believes in."""
    return {"naive": Gap(), "identified": found.gap, "oracle": world}
