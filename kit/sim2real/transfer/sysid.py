"""System identification: what an arm is like, from the goals sent to it and the positions that it reported.

    theta = (coulomb, viscous, payload, stiffness, action delay)                                what is not known
    r(theta) = positions simulated with theta from the same goals  -  positions reported        the residual, (m,)
    theta <- theta - (J'J + mu I)^-1 J'r,   J = dr/dtheta by finite differences                 Gauss-Newton, damped
    Cov(theta) = s^2 (J'J)^-1,   s^2 = r'r / (m - p)                                            standard errors

Source: L. Ljung, System Identification (1999), prediction-error methods. The optimiser is `mujoco.minimize.
least_squares`, which `mujoco.sysid.optimize` calls as well. The servo's firmware turns a goal into an inner goal of
limited speed and acceleration (`kit.sim2real.motor.profile`); it depends on the goals alone, so it is computed once.
The trap is `Config.interpolation`: with a zero-order hold a small change of the delay changes nothing, its column of J
is zero, and all other numbers bend to make up for it.

    recording = record(robot, excitation(Config(), seed=0))
    found = identify(recording)
    found.gap                                              # a Gap: what to train in, or to plan with

Look first at `Identified`, then at `residual` and `identify`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from mujoco import minimize
from mujoco.batch import Batch

from kit.envs import so101
from kit.envs.physics import SERVO_KP
from kit.sim2real.bus import Lockstep, virtual_arm
from kit.sim2real.motor import TICKS, Gap, profile
from kit.sim2real.rate import Rate
from kit.sim2real.so101 import SO101
from kit.sim2real.units import to_radians, to_values

# MuJoCo's codes, and what it takes to read the goal that was stored last: a zero-order hold rounds the delay to steps
INTERPOLATION = {"zero-order": (0, 0.5), "linear": (1, 1.0)}  # code, physics steps
SOLVERS = ("minimize", "gauss_newton", "sysid", "scipy")
BALL = 0.015  # the payload's radius, around the tool's point [m]
NOTHING = 1e-9  # mass of no payload; a body must have one [kg]

# name -> (nominal, lowest, highest, scale); the names are those of `Gap`
RANGES: dict[str, tuple[float, float, float, float]] = {
    "coulomb": (0.0524, 0.0, 0.5, 0.05),  # [N m]
    "viscous": (0.0591, 0.0, 0.5, 0.05),  # [N m s/rad]
    "payload": (0.0, 0.0, 0.5, 0.1),  # [kg]
    "stiffness": (1.0, 0.3, 2.0, 0.3),  # [multiple]
    "action_delay": (0.0, 0.0, 0.1, 0.03),  # [s]
}
SUPPLY_RANGE = (0.0, 0.0, 1.0, 0.1)  # resistance of supply and cables [Ohm]
OFFSET_RANGE = (0.0, -0.14, 0.14, 0.05)  # of a joint's zero: what it reports minus what is true [rad]


@dataclass(frozen=True)
class Config:
    """The excitation, and what is fitted. Tuples are in the order of so101.JOINTS."""

    seconds: float = 12.0  # of excitation [s]
    tones: int = 5  # sines added up for each joint
    slowest: float = 0.15  # frequency of the first tone [Hz]
    fastest: float = 1.1  # and of the last [Hz]
    amplitude: tuple[float, ...] = (0.4, 0.3, 0.3, 0.4, 0.4, 0.25)  # of each joint's sum, about [rad]
    centre: tuple[float, ...] = (0.0, -0.9, 0.2, 0.2, 0.0, 0.5)  # [rad]; well above the table
    servo: str = "7.4V-P16"  # the nominal servo
    acceleration: int = 254  # the servo's register [100 ticks/s^2]
    interpolation: str = "linear"  # of delayed goals, or "zero-order", with which the delay cannot be found
    supply: bool = True  # fit the resistance of supply and cables too; else the stiffness comes out 0.4 to 1.2 % low
    offsets: tuple[str, ...] = ()  # joints whose error of zero is fitted as well
    step: float = 1e-3  # of finite differences, in units of the scales in `RANGES`
    max_iterations: int = 30  # of Gauss-Newton

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATION:
            raise ValueError(f"interpolation is {self.interpolation!r}; it must be {' or '.join(INTERPOLATION)}")
        if unknown := [name for name in self.offsets if name not in so101.JOINTS]:
            raise ValueError(f"there is no joint {unknown[0]!r}; the joints are {', '.join(so101.JOINTS)}")
        if not 0 < self.slowest <= self.fastest < so101.CONTROL_HZ / 2:
            raise ValueError(
                f"tones from {self.slowest} to {self.fastest} Hz; give 0 < slowest <= fastest < half the rate, 15 Hz"
            )

    @property
    def table(self) -> dict[str, tuple[float, float, float, float]]:
        """What is fitted: name -> (nominal, lowest, highest, scale)."""
        supply = {"supply": SUPPLY_RANGE} if self.supply else {}
        return RANGES | supply | dict.fromkeys(self.offsets, OFFSET_RANGE)


@dataclass(frozen=True)
class Recording:
    """What an arm was told and what it reported: `goals[k]` was sent right after `positions[k]` was read, (T, 6) [rad].

    Frames are 1/30 s apart. Before the first the arm has rested with the goal `goals[0]`.
    """

    goals: np.ndarray
    positions: np.ndarray

    def __post_init__(self) -> None:
        if self.goals.shape != self.positions.shape or self.goals.ndim != 2 or self.goals.shape[1] != 6:
            raise ValueError(f"goals {self.goals.shape} and positions {self.positions.shape} must both be (T, 6)")
        if not (np.isfinite(self.goals).all() and np.isfinite(self.positions).all()):
            raise ValueError("a goal or a position is not finite; cut those frames off")

    def save(self, path: str | Path) -> None:
        """Write an .npz file."""
        np.savez(path, goals=self.goals, positions=self.positions)

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        with np.load(path, allow_pickle=False) as file:
            return cls(file["goals"], file["positions"])


@dataclass(frozen=True)
class Identified:
    """What a recording says about the arm, in units of `Gap`, with standard errors (infinite: it cannot be seen)."""

    value: dict[str, float]  # the five of `RANGES`
    error: dict[str, float]  # standard errors, of `value` and `other`
    other: dict[str, float]  # supply [Ohm], and joints' errors of zero [rad]
    rmse: float  # of the residual at the solution [deg]
    before: float  # and with the nominal parameters [deg]
    rollouts: int  # simulations of the whole recording that it took

    @property
    def gap(self) -> Gap:
        """The identified arm: what to train in, or to plan with."""
        return Gap(**self.value)

    def relative_errors(self, truth: Gap) -> dict[str, float]:
        """|found - true| / true for each of the five; where the truth is 0, in units of the scale in `RANGES`."""
        true = {name: getattr(truth, name) for name in self.value}
        return {n: abs(v - true[n]) / (true[n] or RANGES[n][3]) for n, v in self.value.items()}


# ---- the recording ----------------------------------------------------------------------------------------------


def excitation(cfg: Config, *, seed: int) -> np.ndarray:
    """Goals (T, 6) [rad] at 30 Hz: for each joint a sum of sines of random phases around `cfg.centre`, faded in.

    A sine's size falls with its frequency, so that each contributes the same speed.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(round(cfg.seconds * so101.CONTROL_HZ)) / so101.CONTROL_HZ
    fade = np.clip(t, 0, 1) ** 2 * (3 - 2 * np.clip(t, 0, 1))
    goals = np.empty((len(t), 6))
    for j in range(6):
        frequency = np.geomspace(cfg.slowest, cfg.fastest, cfg.tones) * rng.uniform(0.9, 1.1, cfg.tones)
        size = cfg.slowest / frequency
        wave = np.sin(2 * np.pi * frequency * t[:, None] + rng.uniform(0, 2 * np.pi, cfg.tones)) @ size
        goals[:, j] = cfg.centre[j] + fade * cfg.amplitude[j] * wave / np.linalg.norm(size)
    return goals


def record(robot: Any, goals: np.ndarray, *, settle: float = 2.5, rate: Rate | None = None) -> Recording:
    """Drive a connected robot along goals (T, 6) [rad]: read, send, and wait in between if a `rate` is given.

    First it moves to `goals[0]`, in 70 % of `settle` seconds, and rests there. What is kept as goals is what was really
    sent, after the safety layer and the rounding to ticks.
    """
    here = to_radians(robot.get_observation())
    way = round(settle * so101.CONTROL_HZ)
    ramp = np.clip(np.arange(1, way + 1)[:, None] / (0.7 * way), 0, 1)
    sent, seen = [], []
    for goal in np.vstack([here + ramp * (goals[0] - here), goals]):
        if rate is not None:
            rate.wait()
        seen.append(to_radians(robot.get_observation()))
        sent.append(to_radians(robot.send_action(to_values(goal))))
    return Recording(np.array(sent[way:]), np.array(seen[way:]))


def record_twin(gap: Gap, goals: np.ndarray, *, seed: int = 0) -> Recording:
    """`record` on a virtual arm with a hidden gap, over its bus, on a clock that waits for the client.

    `seed` draws the unit's encoder offsets and lost packets.
    """
    bus = virtual_arm(calibrated=True, clock=Lockstep(), gap=gap, seed=seed)
    robot = SO101(bus, calibration=bus.arm.calibration)
    robot.connect()
    return record(robot, goals)


def inner_goals(goals: np.ndarray, acceleration: float, speed: float) -> np.ndarray:
    """What the firmware makes of goals (T, 6) [rad] at 30 Hz: inner goals (10 T, 6) at 300 Hz, at rest at first.

    acceleration [rad/s^2], speed [rad/s]. The arm itself has no influence on it.
    """
    dt = 1 / (so101.CONTROL_HZ * so101.SUBSTEPS)
    out = np.empty((len(goals) * so101.SUBSTEPS, 6))
    for j in range(6):
        s, v = goals[0, j], 0.0
        for k, goal in enumerate(np.repeat(goals[:, j], so101.SUBSTEPS).tolist()):
            s, v = profile(s, v, goal, speed, acceleration, dt)
            out[k, j] = s
    return out


def supply_loss(
    inner: np.ndarray, positions: np.ndarray, stiffness: float, delay: float, servo: so101.Servo
) -> np.ndarray:
    """How far a supply of 1 Ohm moves the inner goals (10 T, 6) [rad], since its voltage falls with what motors draw.

    Less voltage is less torque for the same error, (1 - drop / V) (goal - q): the same as a goal that is nearer to q.
    Error, duty and current come from the positions (T, 6) that were read, good enough for a small correction.
    """
    rate = so101.CONTROL_HZ
    at = np.arange(len(inner)) / (rate * so101.SUBSTEPS) + delay  # when an inner goal gets to the motor
    frames = np.arange(len(positions)) / rate
    speeds = np.gradient(positions, 1 / rate, axis=0)
    q, speed = (np.stack([np.interp(at, frames, x) for x in rows.T], axis=1) for rows in (positions, speeds))
    duty = np.clip(servo.duty_per_rad * servo.p_gain * stiffness * (inner - q), -servo.duty_max, servo.duty_max)
    amperes = (duty * servo.volts - servo.torque_constant * speed) / servo.resistance
    drop = np.abs(duty * amperes).sum(axis=1, keepdims=True)  # for each Ohm; all motors hang on one supply [V]
    return drop / servo.volts * (inner - q)


# ---- the model --------------------------------------------------------------------------------------------------


def model_spec(cfg: Config) -> mujoco.MjSpec:
    """The arm alone, with a ball at its tool for the payload, and with goals that may be delayed."""
    servo = so101.without_slew(cfg.servo)  # `inner_goals` has the limit already
    longest = RANGES["action_delay"][2] + 2 / (so101.CONTROL_HZ * so101.SUBSTEPS)
    spec = so101.make_spec(servo, scene="so101", max_delay=longest)
    for actuator in spec.actuators:
        actuator.interp = INTERPOLATION[cfg.interpolation][0]
    ball = spec.body("gripper").add_body(name="payload", pos=spec.site(so101.TOOL).pos)
    ball.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[BALL, 0, 0], mass=NOTHING, contype=0, conaffinity=0)
    return spec


class Simulator:
    """Replays a recording with other parameters, several at once; `rollouts` counts how often."""

    def __init__(self, recording: Recording, cfg: Config):
        self.recording, self.cfg, self.rollouts = recording, cfg, 0
        self.servo = so101.servo(cfg.servo)
        self.inner = inner_goals(recording.goals, cfg.acceleration * 100 / TICKS, self.servo.slew)
        self.model = model_spec(cfg).compile()
        self.batch = Batch(self.model, len(cfg.table) + 2, 1)
        fields = ("dof_frictionloss", "dof_damping", "body_mass", "body_inertia", "actuator_gainprm", "actuator_delay")
        self._fields = {name: self.batch.expand(name) for name in fields}
        self._joints = [so101.JOINTS.index(name) for name in cfg.offsets]

    def set(self, theta: np.ndarray) -> None:
        """Simulation i gets the parameters theta[i], (n, p) in units of `Gap`."""
        f, ids, ball = self._fields, np.arange(len(theta)), self.model.body("payload").id
        coulomb, viscous, payload, stiffness, delay = theta[:, :5].T
        f["dof_frictionloss"][ids] = coulomb[:, None]
        f["dof_damping"][ids] = viscous[:, None]
        f["body_mass"][ids, ball] = payload + NOTHING
        f["body_inertia"][ids, ball] = 0.4 * BALL**2 * (payload[:, None] + NOTHING)
        f["actuator_gainprm"][ids, :, SERVO_KP] = self.model.actuator_gainprm[:, SERVO_KP] * stiffness[:, None]
        least = INTERPOLATION[self.cfg.interpolation][1] * self.model.opt.timestep  # `replay` sends one step early
        f["actuator_delay"][ids] = delay[:, None] + least
        self.batch.set_const(ids)

    def replay(self, theta: np.ndarray) -> np.ndarray:
        """Positions (n, T, 6) [rad] that the arm would have reported, without rounding, for parameters (n, p)."""
        self.set(theta)
        goals, positions = self.recording.goals, self.recording.positions
        zero = np.zeros((len(theta), 6))
        zero[:, self._joints] = theta[:, len(self.cfg.table) - len(self._joints) :]
        inner = np.repeat(self.inner[None], len(theta), axis=0)
        if self.cfg.supply:
            inner -= [x[5] * supply_loss(self.inner, positions, x[3], self.held(x[4]), self.servo) for x in theta]
        early = np.concatenate([inner[:, 1:], inner[:, -1:]], axis=1)  # MuJoCo reads, then stores
        ids = np.arange(len(theta))
        self.batch.state[ids] = [self._start(positions[0] - z, goals[0] - z) for z in zero]
        moved = self.batch.rollout(early.shape[1], early - zero[:, None], ids=ids)["qpos"] + zero[:, None]
        self.rollouts += len(theta)
        before = np.broadcast_to(positions[0], (len(theta), 1, 6))
        return np.concatenate([before, moved[:, so101.SUBSTEPS - 1 : -1 : so101.SUBSTEPS]], axis=1)

    def held(self, delay: float) -> float:
        """The delay that a simulation has [s]: whole physics steps under a zero-order hold."""
        dt = self.model.opt.timestep
        return delay if self.cfg.interpolation == "linear" else round(delay / dt) * dt

    def _start(self, q: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """A state row: at rest at q with a goal that is old, both (6,) [rad]."""
        data, everything = mujoco.MjData(self.model), mujoco.mjtState.mjSTATE_INTEGRATION
        data.qpos[:6], data.ctrl[:] = q, goal
        for i, (samples, _) in enumerate(self.model.actuator_history):
            mujoco.mj_initCtrlHistory(self.model, data, i, None, np.full((samples, 1), goal[i]))
        row = np.empty(mujoco.mj_stateSize(self.model, everything))
        mujoco.mj_getState(self.model, data, row, everything)
        return row


def residual(theta: np.ndarray, sim: Simulator) -> np.ndarray:
    """Simulated minus reported positions (n, 6 (T - 1)) [rad] for parameters (n, p); the first frame is given."""
    return (sim.replay(theta) - sim.recording.positions)[:, 1:].reshape(len(theta), -1)


# ---- the fit ----------------------------------------------------------------------------------------------------


def rms_degrees(r: np.ndarray) -> float:
    """Root mean square of angles [rad], in degrees."""
    return float(np.degrees(np.sqrt(np.mean(r**2))))


def gauss_newton_step(r: np.ndarray, jacobian: np.ndarray, mu: float) -> np.ndarray:
    """The step (p,) to where r + J step is smallest, for a residual r (m,) and its jacobian J (m, p), damped by mu."""
    return -np.linalg.solve(jacobian.T @ jacobian + mu * np.eye(jacobian.shape[1]), jacobian.T @ r)


def standard_errors(r: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
    """Standard errors (p,) of a least-squares solution with residual r (m,) and jacobian (m, p) of full rank."""
    m, p = jacobian.shape
    variance = r @ r / (m - p)
    return np.sqrt(variance * np.diag(np.linalg.inv(jacobian.T @ jacobian)))


def gauss_newton(
    function: Callable[[np.ndarray], np.ndarray], start: np.ndarray, bounds: list[np.ndarray], cfg: Config
) -> np.ndarray:
    """The plainest damped Gauss-Newton, to read: clipped to the bounds; `mu` grows until a step helps."""
    z, mu = start, 1e-6
    r = function(z[:, None])[:, 0]
    for _ in range(cfg.max_iterations):
        jacobian = (function(z[:, None] + cfg.step * np.eye(len(z))) - r[:, None]) / cfg.step
        while True:
            new = np.clip(z + gauss_newton_step(r, jacobian, mu), *bounds)
            moved = function(new[:, None])[:, 0]
            if moved @ moved < r @ r:
                break
            mu *= 10
            if mu > 100:  # no step helps: this is the end
                return z
        small = np.linalg.norm(new - z) < 1e-3 * np.linalg.norm(z)
        z, r, mu = new, moved, max(mu / 100, 1e-6)
        if small:
            break
    return z


def solve(
    function: Callable[[np.ndarray], np.ndarray], start: np.ndarray, bounds: list[np.ndarray], cfg: Config, solver: str
) -> np.ndarray:
    """The point (p,) within bounds [low, high] where `function`, (p, n) -> (m, n), has the smallest square."""
    if solver == "gauss_newton":
        return gauss_newton(function, start, bounds, cfg)
    if solver == "scipy":
        from scipy.optimize import least_squares

        one = lambda z: function(z[:, None])[:, 0]  # noqa: E731
        return least_squares(one, start, bounds=bounds, diff_step=cfg.step, xtol=1e-3, max_nfev=cfg.max_iterations).x
    common = dict(eps=cfg.step, xtol=1e-3, mu_factor=10**0.5, mu_max=100.0)  # play makes the last steps noisy: give up
    if solver == "minimize":
        quiet = minimize.Verbosity.SILENT
        return minimize.least_squares(
            start, function, bounds=bounds, max_iter=cfg.max_iterations, verbose=quiet, **common
        )[0]
    from mujoco import sysid

    if not hasattr(sysid, "optimize"):
        raise ImportError('mujoco.sysid needs packages that come with the extra "robot"; or use another solver')
    theta = sysid.ParameterDict({"theta": sysid.Parameter("theta", start, *bounds)})
    rows = lambda z, _: ([function(z.reshape(len(start), -1))], [], [])  # noqa: E731
    return sysid.optimize(theta, rows, max_iters=cfg.max_iterations, verbose=False, **common)[0].as_vector()


def identify(recording: Recording, cfg: Config | None = None, *, solver: str = "minimize") -> Identified:
    """Fit the parameters, from nominal. `solver` is "minimize" (MuJoCo's), "gauss_newton" (ours, to read), "sysid"
    (the same behind `mujoco.sysid`, whose packages come with the extra "robot") or "scipy" (one rollout at a time).

    Raises:
        ValueError: no such solver.
        ImportError: "sysid" without its packages.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver is {solver!r}; it must be one of {', '.join(SOLVERS)}")
    cfg = cfg or Config()
    sim = Simulator(recording, cfg)
    nominal, low, high, scale = np.array(list(cfg.table.values())).T
    z = solve(lambda z: residual(z.T * scale, sim).T.copy(), nominal / scale, [low / scale, high / scale], cfg, solver)
    return summary(z * scale, sim)


def summary(theta: np.ndarray, sim: Simulator) -> Identified:
    """The solution theta (p,) with its standard errors and residuals, from one more jacobian."""
    nominal, _, _, scale = np.array(list(sim.cfg.table.values())).T
    step = np.diag(3 * sim.cfg.step * scale)
    r, at_nominal, *moved = residual(np.vstack([theta, nominal, theta + step]), sim)
    jacobian = (np.array(moved) - r).T / (3 * sim.cfg.step)
    size = np.linalg.norm(jacobian, axis=0)
    seen = size > 1e-6 * size.max()  # the others move nothing: their errors are infinite
    errors = np.full(len(theta), np.inf)
    errors[seen] = standard_errors(r, jacobian[:, seen]) * scale[seen]
    value, error = (dict(zip(sim.cfg.table, x.tolist(), strict=True)) for x in (theta, errors))
    other = {name: value.pop(name) for name in list(value) if name not in RANGES}
    return Identified(value, error, other, rms_degrees(r), rms_degrees(at_nominal), sim.rollouts)


def identify_twin(gap: Gap, cfg: Config | None = None, *, seed: int = 0) -> Identified:
    """Record the excitation on a virtual arm with a hidden gap and fit. `seed` draws the excitation and the unit."""
    cfg = cfg or Config()
    return identify(record_twin(gap, excitation(cfg, seed=seed), seed=seed), cfg)
