"""Friction of a servo: Coulomb-viscous (M1), Stribeck (M2) and load-dependent (M3), fitted on a pendulum rig.

    budget   M1  b = Kv |w| + Kc
             M2  b = Kv |w| + Kc + Ks exp(-|w / ws|^1.35)           sticks more at rest
             M3  b = Kv |w| + Kc + Kl |tau_m - tau_e|               rubs more under load
             M4  b = Kv |w| + Kc + Kl |tau_m - tau_e| + (Ks + Kls |tau_m - tau_e|) exp(-|w / ws|^1.35)
    friction    clip(-J w / dt - tau_m - tau_e, -b, b)              what would stop the joint, as far as b goes
    motor       tau_m = Kt / R (V clip(0.166 P (goal - q)) - Ke w),  load  tau_e = -m g l sin q

Paper: M. Duclusaud, G. Passault, V. Padois, O. Ly, Extended Friction Models for the Physics Simulation of Servo
Actuators, 2025 (arXiv 2410.08650), Section III: M1 to M4; their rig has several masses and position gains, and four
motions of 6 s. They fit the motor's constants too, by CMA-ES on the mean absolute error; here the motor is known and
the fit is Gauss-Newton from several starts. Look first at `friction_budget`, then at `simulate`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from mujoco import minimize

from kit.envs.so101 import Servo
from kit.sim2real.motor import TICKS

GRAVITY = 9.81  # [m/s^2]
CURVE = 1.35  # exponent of the Stribeck curve; the paper fits it between 1 and 10
# parameter -> (lowest, highest, scale)
PARAMETERS: dict[str, tuple[float, float, float]] = {
    "coulomb": (0.0, 0.3, 0.05),  # Kc [N m]
    "viscous": (0.0, 0.5, 0.05),  # Kv [N m s/rad]
    "load": (0.0, 0.5, 0.1),  # Kl [N m/N m]
    "stribeck": (0.0, 0.3, 0.05),  # Ks [N m]
    "load_stribeck": (0.0, 0.5, 0.1),  # Kls [N m/N m]
    "speed": (0.05, 1.0, 0.2),  # ws [rad/s]
}
MODELS: dict[str, tuple[str, ...]] = {
    "M1": ("coulomb", "viscous"),
    "M2": ("coulomb", "viscous", "stribeck", "speed"),
    "M3": ("coulomb", "viscous", "load"),
    "M4": ("coulomb", "viscous", "load", "stribeck", "load_stribeck", "speed"),
}
MOTIONS = ("sin_time_square", "sin_sin", "up_and_down", "lift_and_drop")


@dataclass(frozen=True)
class Config:
    """The rig and the fit."""

    servo: Servo = field(default_factory=Servo)  # its own friction is not used
    inertia: float = 0.0284  # of the motor, at the joint [kg m^2]
    length: float = 0.12  # of the pendulum [m]
    masses: tuple[float, ...] = (0.3, 0.8)  # at its end [kg]
    gains: tuple[float, ...] = (8.0, 16.0, 32.0)  # firmware gains P that are fitted
    held_out: tuple[float, ...] = (24.0,)  # and those that are only judged
    seconds: float = 6.0  # of a run [s]
    dt: float = 0.005  # of the simulation and of the readings [s]
    whole_ticks: bool = True  # the rig reads a 12-bit encoder
    starts: int = 3  # of the fit
    max_iterations: int = 25  # from each start


@dataclass(frozen=True)
class Runs:
    """R runs of the rig, T frames each: goals and positions (R, T) [rad]; 0 is hanging down."""

    goals: np.ndarray
    on: np.ndarray  # whether the motor has its torque (R, T)
    gain: np.ndarray  # P (R,)
    mass: np.ndarray  # (R,) [kg]
    positions: np.ndarray | None = None  # as read


# ---- the models -------------------------------------------------------------------------------------------------


def friction_budget(tau_m: np.ndarray, tau_e: np.ndarray, w: np.ndarray, k: dict[str, np.ndarray]) -> np.ndarray:
    """The largest friction torque [N m] at motor and load torques [N m] and a speed [rad/s], arrays of one shape.

    `k` holds the parameters by name; those that a model does not have are 0.
    """
    through = np.abs(tau_m - tau_e)  # what the gears carry
    at_rest = np.exp(-(np.abs(w / k["speed"]) ** CURVE))
    load = k["load"] + k["load_stribeck"] * at_rest
    return k["coulomb"] + k["viscous"] * np.abs(w) + k["stribeck"] * at_rest + load * through


def stopping_friction(tau: np.ndarray, w: np.ndarray, inertia: np.ndarray, budget: np.ndarray, dt: float) -> np.ndarray:
    """The friction torque [N m] under the torque `tau` of all else: it stops the joint, or does all that it can."""
    return np.clip(-inertia * w / dt - tau, -budget, budget)


def motor_torque(goal: np.ndarray, q: np.ndarray, w: np.ndarray, gain: np.ndarray, servo: Servo) -> np.ndarray:
    """Torque [N m] of the servo that runs to a goal [rad]."""
    duty = np.clip(servo.duty_per_rad * gain * (goal - q), -servo.duty_max, servo.duty_max)
    return servo.torque_constant / servo.resistance * (servo.volts * duty - servo.torque_constant * w)


def simulate(k: dict[str, np.ndarray], runs: Runs, cfg: Config) -> np.ndarray:
    """Positions (n, R, T) [rad] of the rig with n sets of parameters, `k[name]` (n,)."""
    k = {name: np.asarray(value, float)[:, None] for name, value in k.items()}
    shape = len(k["coulomb"]), len(runs.mass)
    inertia = cfg.inertia + runs.mass * cfg.length**2
    q, w = np.tile(runs.goals[:, 0], (shape[0], 1)), np.zeros(shape)
    out = np.empty((*shape, runs.goals.shape[1]))
    for t in range(runs.goals.shape[1]):
        out[:, :, t] = q
        tau_m = runs.on[:, t] * motor_torque(runs.goals[:, t], q, w, runs.gain, cfg.servo)
        tau_e = -runs.mass * GRAVITY * cfg.length * np.sin(q)
        budget = friction_budget(tau_m, tau_e, w, k)
        total = tau_m + tau_e + stopping_friction(tau_m + tau_e, w, inertia, budget, cfg.dt)
        w = w + cfg.dt / inertia * total
        q = q + cfg.dt * w
    return out


# ---- the rig ----------------------------------------------------------------------------------------------------


def motion(name: str, t: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Goals [rad] and whether the torque is on, at times t [s]; `size` [rad] is the largest angle.

    Raises:
        ValueError: no such motion.
    """
    on, u = np.ones(len(t), bool), t / t[-1]
    if name == "sin_time_square":
        return size * np.sin(0.8 * t**2), on
    if name == "sin_sin":
        return size * (0.65 * np.sin(t) + 0.35 * np.sin(5 * t)), on
    if name == "up_and_down":
        return size * np.interp(u, [0, 0.4, 0.6, 1], [0, 1, 1, 0]), on
    if name == "lift_and_drop":
        return size * np.clip(2.5 * u, 0, 1), u < 0.5
    raise ValueError(f"no motion is called {name!r}; there are {', '.join(MOTIONS)}")


def plan_runs(gains: Sequence[float], cfg: Config, *, seed: int) -> Runs:
    """Every motion with every gain and mass; `seed` draws how far each goes, 60 to 90 degrees."""
    rng = np.random.default_rng(seed)
    t = np.arange(0, cfg.seconds, cfg.dt)
    rows = [(name, gain, mass) for name in MOTIONS for gain in gains for mass in cfg.masses]
    moves = [motion(name, t, rng.uniform(math.pi / 3, math.pi / 2)) for name, _, _ in rows]
    goals, on = (np.stack(column) for column in zip(*moves, strict=True))
    return Runs(goals, on, np.array([r[1] for r in rows]), np.array([r[2] for r in rows]))


def measure(truth: dict[str, float], runs: Runs, cfg: Config) -> Runs:
    """The runs with the positions (R, T) that a rig with friction `truth` reads."""
    positions = simulate({name: np.array([value]) for name, value in whole(truth).items()}, runs, cfg)[0]
    read = np.round(positions * TICKS) / TICKS if cfg.whole_ticks else positions
    return Runs(runs.goals, runs.on, runs.gain, runs.mass, read)


def whole(k: dict[str, float]) -> dict[str, float]:
    """All of `PARAMETERS`, those not given switched off."""
    return {name: k.get(name, 0.2 if name == "speed" else 0.0) for name in PARAMETERS}


# ---- the fit ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """A fitted model."""

    model: str
    parameters: dict[str, float]
    cost: float  # half the mean squared residual of the fitted runs [rad^2]


def fit(model: str, runs: Runs, cfg: Config | None = None, *, seed: int = 0) -> Fit:
    """Fit a friction model to measured runs, from `cfg.starts` random starts; the best is kept.

    Raises:
        ValueError: no such model.
    """
    if model not in MODELS:
        raise ValueError(f"no friction model is called {model!r}; there are {', '.join(MODELS)}")
    cfg = cfg or Config()
    rng = np.random.default_rng(seed)
    low, high, scale = np.array([PARAMETERS[name] for name in MODELS[model]]).T

    def residual(z: np.ndarray) -> np.ndarray:  # (p, n), in units of the scales
        k = {name: np.full(z.shape[1], value) for name, value in whole({}).items()}
        k |= dict(zip(MODELS[model], z * scale[:, None], strict=True))
        moved = simulate(k, runs, cfg) - runs.positions
        return (moved.reshape(z.shape[1], -1) / math.sqrt(runs.positions.size)).T.copy()

    found = []
    for _ in range(cfg.starts):
        start = rng.uniform(0.5, 1.5, len(scale))
        z, log = minimize.least_squares(
            start, residual, bounds=[low / scale, high / scale], eps=1e-3, xtol=1e-4, mu_factor=10**0.5, mu_max=1e3,
            max_iter=cfg.max_iterations, verbose=minimize.Verbosity.SILENT,
        )  # fmt: skip
        found.append(Fit(model, dict(zip(MODELS[model], (z * scale).tolist(), strict=True)), float(log[-1].objective)))
    return min(found, key=lambda f: f.cost)


def mean_absolute_error(fitted: Fit, runs: Runs, cfg: Config) -> float:
    """Of the positions of measured runs [deg]."""
    moved = simulate({name: np.array([value]) for name, value in whole(fitted.parameters).items()}, runs, cfg)[0]
    return float(np.degrees(np.abs(moved - runs.positions).mean()))


def compare(
    truth: dict[str, float], cfg: Config | None = None, *, models: Sequence[str] = ("M1", "M2", "M3"), seed: int = 0
) -> dict[str, tuple[Fit, float, float]]:
    """Measure a rig, fit models: name -> (fit, error on the fitted gains, error on the held-out gain) [deg]."""
    cfg = cfg or Config()
    seen = measure(truth, plan_runs(cfg.gains, cfg, seed=seed), cfg)
    new = measure(truth, plan_runs(cfg.held_out, cfg, seed=seed + 10_000), cfg)
    fits = {model: fit(model, seen, cfg, seed=seed) for model in models}
    return {m: (f, mean_absolute_error(f, seen, cfg), mean_absolute_error(f, new, cfg)) for m, f in fits.items()}
