"""Friction models of a servo: budgets by hand, a pendulum that sticks, and exact recovery without noise."""

from dataclasses import replace

import numpy as np
import pytest

from kit.sim2real.transfer import friction
from kit.sim2real.transfer.friction import Config

SMALL = Config(masses=(0.6,), gains=(8.0, 32.0), seconds=3.0, starts=1, whole_ticks=False)
M3 = dict(coulomb=0.05, viscous=0.06, load=0.15)
OFF = {name: np.array(value) for name, value in friction.whole({}).items()}


def budget(tau_m, tau_e, w, **k):
    return float(friction.friction_budget(np.array(tau_m), np.array(tau_e), np.array(w), OFF | k))


def test_budgets_by_hand():
    assert budget(0.3, -0.2, -2.0, coulomb=0.05, viscous=0.1) == pytest.approx(0.25)
    assert budget(0.3, -0.2, -2.0, coulomb=0.05, viscous=0.1, load=0.2) == pytest.approx(0.35)
    assert budget(0.3, 0.3, 0.0, load=0.2) == 0  # the gears carry nothing when both push the same way
    assert budget(0.0, 0.0, 0.0, stribeck=0.08, speed=0.2) == pytest.approx(0.08)
    assert budget(0.0, 0.0, 0.2, stribeck=0.08, speed=0.2) == pytest.approx(0.08 / np.e)
    assert budget(0.5, 0.0, 0.2, load_stribeck=0.4, speed=0.2) == pytest.approx(0.2 / np.e)


def test_friction_stops_and_holds_but_never_pushes():
    def torque(tau, w, most):
        return float(friction.stopping_friction(np.array(tau), np.array(w), np.array(0.1), np.array(most), 0.01))

    assert torque(0.3, 0.0, 0.5) == pytest.approx(-0.3)  # at rest it balances
    assert torque(0.8, 0.0, 0.5) == -0.5  # and gives way
    assert torque(0.0, 0.02, 0.5) == pytest.approx(-0.2)  # a slow joint is stopped within the step: J w / dt
    assert torque(0.0, -5.0, 0.5) == 0.5


def test_energy_falls_and_a_swing_ends_where_friction_holds_it():
    cfg = Config(masses=(0.6,))
    T = 2000
    runs = friction.Runs(np.full((1, T), 1.2), np.zeros((1, T), bool), np.array([16.0]), np.array([0.6]))
    swing = friction.simulate({k: v[None] for k, v in (OFF | {"coulomb": np.array(0.1)}).items()}, runs, cfg)[0, 0]
    assert swing[0] == 1.2 and np.abs(swing).max() < 1.21 and swing.min() < -0.3
    assert (swing[-100:] == swing[-1]).all()
    assert 0.6 * 9.81 * 0.12 * abs(np.sin(swing[-1])) < 0.1


def test_rigs_repeat_and_read_whole_ticks():
    cfg = replace(SMALL, whole_ticks=True)
    runs = friction.plan_runs((16.0,), cfg, seed=0)
    assert runs.goals.shape == (4, 600) and not runs.on[3, 300:].any() and runs.on[:3].all()
    first, again = (friction.measure(M3, runs, cfg).positions for _ in range(2))
    ticks = first * 4096 / (2 * np.pi)
    assert (first == again).all() and np.abs(ticks - np.round(ticks)).max() < 1e-6


@pytest.mark.parametrize(
    ("model", "truth"),
    [
        ("M1", dict(coulomb=0.08, viscous=0.04)),
        ("M2", dict(coulomb=0.06, viscous=0.05, stribeck=0.05, speed=0.25)),
        ("M3", M3),
    ],
)
def test_exact_recovery_without_noise(model, truth):
    seen = friction.measure(truth, friction.plan_runs(SMALL.gains, SMALL, seed=0), SMALL)
    found = friction.fit(model, seen, SMALL)
    assert found.parameters == pytest.approx(truth, rel=0.01) and found.cost < 1e-9


def test_more_general_models_fit_at_least_as_well_and_load_shows_at_a_new_gain():
    cfg = replace(SMALL, whole_ticks=True, seconds=2.0, max_iterations=6)
    results = friction.compare(M3, cfg, models=("M1", "M3"), seed=1)
    (m1, _, new1), (m3, _, new3) = results["M1"], results["M3"]
    assert m3.cost < m1.cost and new3 < 0.1 < new1


def test_bad_input():
    with pytest.raises(ValueError, match=r"no friction model is called 'M7'; there are M1, M2, M3, M4"):
        friction.fit("M7", friction.plan_runs((8.0,), SMALL, seed=0))
    with pytest.raises(ValueError, match=r"no motion is called 'wave'; there are sin_time_square"):
        friction.motion("wave", np.arange(3.0), 1.0)
