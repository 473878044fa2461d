"""The inner loop and the motor against closed forms."""

import math

import pytest

from kit.envs.so101 import Servo
from kit.sim2real import motor
from kit.sim2real.motor import TICKS, Gap, Heat, Motor
from kit.sim2real.servo import BRAKE, COAST, POSITION, PWM, UNLIMITED, VELOCITY, Drive

DT = 1 / 300
ASKED = Drive(POSITION, 2048, 0, 16, 0, UNLIMITED, UNLIMITED, 1.0, 0, 0, False)


def at_rest(gap=None, ticks=2048.0):
    m = Motor(Servo(), gap or Gap(), Heat())
    m.restart(ticks)
    return m


def travel(way, v_max, a_max, dt=1e-4):
    """Time until the inner goal is there, its highest speed and its furthest point."""
    s = v = t = top = far = 0.0
    while abs(way - s) > 1e-9 and t < 100:
        s, v = motor.profile(s, v, way, v_max, a_max, dt)
        t, top, far = t + dt, max(top, abs(v)), max(far, abs(s))
    return t, top, far


@pytest.mark.parametrize(("way", "v_max", "a_max"), [(1000, 400, 800), (-1000, 400, 800), (100, 1e4, 800)])
def test_profile_is_a_trapezoid(way, v_max, a_max):
    t, top, far = travel(way, v_max, a_max)
    peak = min(v_max, math.sqrt(a_max * abs(way)))
    assert t == pytest.approx(abs(way) / peak + peak / a_max, rel=0.01)
    assert top == pytest.approx(peak, rel=0.01)
    assert far == pytest.approx(abs(way))  # it does not overshoot


def test_profile_without_limits_jumps_and_with_a_speed_limit_slews():
    assert motor.profile(0.0, 0.0, 123.0, UNLIMITED, UNLIMITED, DT)[0] == pytest.approx(123)
    s, v = motor.profile(0.0, 0.0, 123.0, 300.0, UNLIMITED, DT)
    assert (s, v) == (pytest.approx(1), pytest.approx(300))
    assert motor.profile(5.0, 0.0, 5.0, 300.0, UNLIMITED, DT) == (5.0, 0.0)


def test_duty_is_proportional_then_saturates():
    gain = 0.166 / TICKS
    error = 0.1 * TICKS
    assert motor.duty_cycle(error, 0, ASKED, gain, gain, 0.97) == pytest.approx(0.166 * 16 * 0.1)
    assert motor.duty_cycle(-10 * error, 0, ASKED, gain, gain, 0.97) == -0.97
    assert motor.duty_cycle(10 * error, 0, ASKED._replace(limit=0.5), gain, gain, 0.97) == 0.485
    assert motor.duty_cycle(0, error, ASKED._replace(i=4), gain, gain, 0.97) == pytest.approx(0.166 * 4 * 0.1)


def test_dead_zone_has_two_sides():
    asked = ASKED._replace(dead_below=2, dead_above=1)
    duties = [motor.duty_cycle(e, 0, asked, 0.01, 0, 1) != 0 for e in (-2.1, -2, 0, 1, 1.1)]
    assert duties == [True, False, False, False, True]


def test_stall_current_and_torque():
    m = at_rest()
    m.loop(ASKED._replace(goal=4000), 2048.0, 10.0)  # a long step: the inner goal is there
    volts = m.terminal(0.0, 7.4, free=False)
    assert volts == pytest.approx(0.97 * 7.4) and m.amperes == pytest.approx(0.97 * 7.4 / 2.676)
    assert m.constant * m.amperes == pytest.approx(Servo().stall_torque)


def test_coasting_draws_nothing_and_braking_takes_back_emf():
    m = at_rest()
    m.loop(ASKED._replace(mode=COAST), 2048.0, DT)
    assert m.terminal(2.0, 7.4, free=True) == pytest.approx(2 * 1.2116) and m.amperes == 0
    m.loop(ASKED._replace(mode=BRAKE), 2048.0, DT)
    assert m.terminal(2.0, 7.4, free=False) == 0 and m.amperes == pytest.approx(-2 * 1.2116 / 2.676)
    assert motor.coasts(ASKED._replace(mode=COAST), False) and not motor.coasts(ASKED._replace(mode=COAST), True)
    assert not motor.coasts(ASKED._replace(mode=BRAKE), False)


def test_off_forgets_the_inner_goal():
    m = at_rest()
    m.loop(ASKED._replace(goal=3000), 2048.0, DT)
    assert m.inner > 2048 and m.duty > 0
    m.loop(ASKED._replace(mode=COAST), 2100.0, DT)
    assert (m.inner, m.duty, m.way) == (2100.0, 0.0, 0.0)


def test_velocity_mode_turns_on_and_does_not_save_up_its_way_when_blocked():
    m = at_rest()
    asked = ASKED._replace(mode=VELOCITY, goal=-600.0)
    for k in range(300):
        m.loop(asked, 2048.0 - 2 * k, DT)
    assert m.inner == pytest.approx(2048 - 600, abs=3)
    for _ in range(3000):
        m.loop(asked, 1000.0, DT)
    assert m.inner == pytest.approx(1000 - 512)
    assert m.duty == pytest.approx(-0.97)
    m.loop(asked._replace(goal=0.0), 1000.0, DT)
    assert m.inner == pytest.approx(1000 - 512)


def test_pwm_mode():
    m = at_rest()
    m.loop(ASKED._replace(mode=PWM, goal=-0.3), 2048.0, DT)
    assert m.duty == -0.3
    m.loop(ASKED._replace(mode=PWM, goal=0.9, limit=0.5), 2048.0, DT)
    assert m.duty == pytest.approx(0.485)


def test_the_error_is_taken_in_present_position_wrap_and_all():
    m = at_rest(ticks=4090.0)
    m.loop(ASKED._replace(goal=10), 4090.0, 10.0)
    assert m.inner == pytest.approx(10)  # the long way round, as a servo that counts one turn goes
    m.restart(2148.0)
    m.loop(ASKED._replace(goal=2048, homing=100), 2148.0, 10.0)
    assert m.duty == 0


def test_positions_count_one_turn_or_many():
    for ticks, homing, one in ((4200.0, 0, 104.0), (-50.0, 0, 4046.0), (100.0, 200, 3996.0)):
        asked = ASKED._replace(homing=homing)
        assert motor.present(ticks, asked) == one
        assert motor.present(ticks, asked._replace(many_turns=True)) == ticks - homing


def test_integral_stops_at_saturation():
    m = at_rest()
    for _ in range(30_000):
        m.loop(ASKED._replace(goal=3000, i=4), 2048.0, DT)
    saved = m.integral
    assert m.duty == pytest.approx(0.97)
    m.loop(ASKED._replace(goal=3000, i=4), 2048.0, DT)
    assert m.integral == saved


def test_gap_scales_stiffness_and_strength():
    m = at_rest(Gap(stiffness=13 / 16, strength=0.5))
    m.loop(ASKED._replace(goal=2058), 2048.0, 10.0)
    assert m.duty == pytest.approx(0.166 / TICKS * 13 * 10)
    m.loop(ASKED._replace(goal=4000), 2048.0, 10.0)
    assert m.duty == pytest.approx(0.485)


def test_temperature():
    heat = Heat()
    amperes = 15 * 0.0980665 / 1.2116  # 15 kg cm
    watts = amperes**2 * 2.676
    assert heat.ambient + heat.resistance * watts == pytest.approx(48, abs=1)
    assert motor.warm_up(25.0, watts, heat.time, heat) == pytest.approx(25 + (1 - math.exp(-1)) * 6 * watts)
    once = motor.warm_up(25.0, watts, 20.0, heat)
    twice = motor.warm_up(motor.warm_up(25.0, watts, 10.0, heat), watts, 10.0, heat)
    assert once == pytest.approx(twice)


def test_bad_gaps():
    with pytest.raises(ValueError, match=r"Gap\.coulomb is -0\.1; it must be finite and not negative"):
        Gap(coulomb=-0.1)
    with pytest.raises(ValueError, match=r"Gap\.packet_loss is 2"):
        Gap(packet_loss=2.0)
