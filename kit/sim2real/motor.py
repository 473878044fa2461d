"""One servo's inner loop and DC motor: from what its registers ask to the voltage on the motor.

BAM model M1 of a Feetech STS3215 (Rhoban; the numbers are in `kit.envs.so101`), in encoder ticks (4096 a turn):

    inner goal s runs to the goal, at most as fast as Acceleration, Goal_Velocity and 3400 ticks/s allow
    duty = clip(0.166 P (s - position), +-0.97 Torque_Limit)
    tau  = Kt i,   i = (duty V - Ke qd) / R
    T   += (ambient + R_th i^2 R - T) (1 - exp(-dt / time constant))        temperature of the housing

A `Gap` is how a unit differs from this. Look first at `profile` and `duty_cycle`, then at `Motor.loop`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kit.envs.so101 import Servo
from kit.sim2real.servo import COAST, POSITION, PWM, TURN, VELOCITY, Drive

TICKS = TURN / (2 * math.pi)  # in a radian


@dataclass(frozen=True)
class Gap:
    """How a unit differs from nominal: what a policy trained in simulation does not know. The defaults are nominal."""

    stiffness: float = 1.0  # multiple of the position gain
    strength: float = 1.0  # multiple of the largest duty
    coulomb: float = 0.0524  # friction of a 1:345 joint [N m]
    viscous: float = 0.0591  # [N m s/rad]
    load_friction: float = 0.0  # friction added for each N m that the motor gives [N m/N m]
    backlash: float = 0.0  # play of each joint, end to end [deg]
    action_delay: float = 0.0  # from a new goal to the motor [s]
    jitter: float = 0.0  # added to each goal's delay, uniform up to this [s]
    observation_delay: float = 0.0  # age of the position that is read [s]
    whole_ticks: bool = False  # the servo's own loop sees whole ticks, not the exact angle
    encoder_offset: float = 0.0  # error left in the zero of each joint, uniform up to +- this [deg]
    payload: float = 0.0  # mass at the tool [kg]
    packet_loss: float = 0.0  # chance that a packet is lost on the wire, each way

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise ValueError(f"Gap.{name} is {value}; it must be finite and not negative")
        if self.packet_loss > 1:
            raise ValueError(f"Gap.packet_loss is {self.packet_loss}; a chance is at most 1")


@dataclass(frozen=True)
class Heat:
    """The thermal model."""

    ambient: float = 25.0  # [deg C]
    resistance: float = 6.0  # housing to air [K/W]; 48 deg C while 15 kg cm are held, as users measured
    time: float = 600.0  # time constant [s]; assumed


# ---- the pieces -------------------------------------------------------------------------------------------------


def profile(s: float, v: float, goal: float, v_max: float, a_max: float, dt: float) -> tuple[float, float]:
    """One step of the inner goal `s` [ticks] with speed `v` towards `goal`: a trapezoid in speed.

    v_max [ticks/s], a_max [ticks/s^2], dt [s]. Returns the new s and v.
    """
    way, lost = goal - s, a_max * dt / 2  # in whole steps, braking from v takes v^2 / 2 a + v dt / 2
    stoppable = math.sqrt(lost**2 + 2 * a_max * abs(way)) - lost
    wanted = math.copysign(min(abs(way) / dt, v_max, stoppable), way)
    v = min(max(wanted, v - a_max * dt), v + a_max * dt)
    return s + v * dt, v


def duty_cycle(
    error: float, integral: float, asked: Drive, gain: float, integral_gain: float, duty_max: float
) -> float:
    """Duty of the position loop for an error [ticks] and its integral [ticks s].

    `gain` and `integral_gain` are the duty for each tick, or tick second, and unit of coefficient.
    """
    dead = -asked.dead_below <= error <= asked.dead_above
    duty = gain * asked.p * (0.0 if dead else error) + integral_gain * asked.i * integral
    return clip(duty, duty_max * asked.limit)


def present(ticks: float, asked: Drive) -> float:
    """Present_Position, not rounded, of an encoder [ticks]."""
    position = ticks - asked.homing
    return position if asked.many_turns else position % TURN


def warm_up(celsius: float, watts: float, dt: float, heat: Heat) -> float:
    """Temperature after `dt` seconds of heat."""
    settled = heat.ambient + heat.resistance * watts
    return celsius + (settled - celsius) * (1 - math.exp(-dt / heat.time))


def clip(value: float, limit: float) -> float:
    return min(max(value, -limit), limit)


# ---- state ------------------------------------------------------------------------------------------------------


class Motor:
    """What a servo's loop and motor remember. `gear` is the ratio as a multiple of 1:345, `integral_unit` [1/s]."""

    def __init__(self, servo: Servo, gap: Gap, heat: Heat, *, gear: float = 1.0, integral_unit: float = 1.0):
        self.heat, self.resistance = heat, servo.resistance
        self.constant = servo.torque_constant * gear  # Kt = Ke [N m/A]
        self.slew = servo.slew * TICKS or math.inf
        self.gain = servo.duty_per_rad / TICKS * gap.stiffness
        self.integral_gain = self.gain * integral_unit
        self.duty_max = servo.duty_max * gap.strength
        self.restart(0.0)

    def restart(self, ticks: float) -> None:
        """At rest and cold."""
        self.inner, self.inner_speed, self.integral, self.way = ticks, 0.0, 0.0, 0.0
        self.duty, self.amperes, self.celsius = 0.0, 0.0, self.heat.ambient

    def loop(self, asked: Drive, ticks: float, dt: float) -> None:
        """The firmware's loop: set `duty` from what the encoder sees."""
        if asked.mode < POSITION:
            self.inner, self.inner_speed, self.integral, self.way, self.duty = ticks, 0.0, 0.0, 0.0, 0.0
        elif asked.mode == PWM:
            self.inner, self.duty = ticks, clip(asked.goal, self.duty_max * asked.limit)
        else:
            self._run_inner_goal(asked, ticks, dt)
            error = self.inner - ticks
            self.duty = duty_cycle(error, self.integral, asked, self.gain, self.integral_gain, self.duty_max)
            if abs(self.duty) < self.duty_max * asked.limit:  # no wind-up while saturated
                self.integral += error * dt

    def _run_inner_goal(self, asked: Drive, ticks: float, dt: float) -> None:
        if asked.mode == VELOCITY:
            goal, fastest = self.inner + math.copysign(TURN, asked.goal), min(abs(asked.goal), self.slew)
        else:  # the error is taken in Present_Position, where a real servo takes it, wrap and all
            goal, fastest = ticks + asked.goal - present(ticks, asked), min(asked.speed, self.slew)
        self.inner, self.inner_speed = profile(self.inner, self.inner_speed, goal, fastest, asked.acceleration, dt)
        self.way = goal - self.inner
        if asked.mode == VELOCITY:  # a blocked motor must not save up its way
            self.inner = ticks + clip(self.inner - ticks, TURN / 8)

    def terminal(self, speed: float, supply: float, *, free: bool) -> float:
        """Voltage on the motor at a joint speed [rad/s] and a supply [V], or with its wires open; sets `amperes`."""
        back_emf = self.constant * speed
        volts = back_emf if free else self.duty * supply
        self.amperes = (volts - back_emf) / self.resistance
        return volts

    def warm(self, dt: float) -> None:
        self.celsius = warm_up(self.celsius, self.amperes**2 * self.resistance, dt, self.heat)


def coasts(asked: Drive, brake_when_off: bool) -> bool:
    """Whether the motor's wires are open, so that it does not brake."""
    return asked.mode == COAST and not brake_when_off
