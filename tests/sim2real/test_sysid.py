"""System identification: the pieces by hand, then five hidden numbers of an arm from what its bus gives."""

from dataclasses import replace

import numpy as np
import pytest

from kit.envs import so101
from kit.sim2real import arm_physics
from kit.sim2real.arm_physics import ArmPhysics
from kit.sim2real.motor import TICKS, Gap
from kit.sim2real.transfer import sysid
from kit.sim2real.transfer.sysid import Config, Identified, Recording

HIDDEN = Gap(stiffness=13 / 16, coulomb=0.12, viscous=0.09, payload=0.15, action_delay=0.03)
SHORT = Config(seconds=4.0)
TRUTH = np.array([[0.12, 0.09, 0.15, 13 / 16, 0.03, 0.1]])  # the last is the supply's resistance


@pytest.fixture(scope="module")
def recording():
    return sysid.record_twin(HIDDEN, sysid.excitation(SHORT, seed=3), seed=3)


# ---- pieces -----------------------------------------------------------------------------------------------------


def test_gauss_newton_step_by_hand():
    # r = (1, 2), J = (1, 0; 0, 2): the step (-1, -1) makes r + J step zero
    assert sysid.gauss_newton_step(np.array([1.0, 2.0]), np.diag([1.0, 2.0]), 0.0) == pytest.approx([-1, -1])
    assert sysid.gauss_newton_step(np.array([1.0]), np.array([[1.0]]), 1.0) == pytest.approx([-0.5])


def test_gauss_newton_is_least_squares_on_a_line():
    rng = np.random.default_rng(0)
    J, b = rng.normal(size=(30, 3)), rng.normal(size=30)
    assert sysid.gauss_newton_step(-b, J, 0.0) == pytest.approx(np.linalg.lstsq(J, b, rcond=None)[0])


def test_standard_errors_by_hand_and_by_repetition():
    # the mean of four numbers with s = 1: 1 / sqrt(4)
    r = np.array([1.0, -1.0, 1.0, -1.0]) * np.sqrt(3 / 4)
    assert sysid.standard_errors(r, np.ones((4, 1))) == pytest.approx([0.5])
    rng = np.random.default_rng(0)
    J, found, errors = rng.normal(size=(200, 2)) @ [[1, 0.8], [0, 0.6]], [], []
    for _ in range(300):
        noise = 0.1 * rng.normal(size=200)
        step = sysid.gauss_newton_step(-noise, J, 0.0)
        found.append(step)
        errors.append(sysid.standard_errors(J @ step - noise, J))
    assert np.mean(errors, axis=0) == pytest.approx(np.std(found, axis=0), rel=0.15)


def test_inner_goals_run_to_the_goal_at_limited_speed():
    goals = np.zeros((30, 6))
    goals[5:, 2] = 0.5
    inner = sysid.inner_goals(goals, acceleration=39.0, speed=2.0)
    steps = np.diff(inner[:, 2]) * 300
    assert inner.shape == (300, 6) and (inner[:, [0, 1, 3, 4, 5]] == 0).all()
    assert steps.max() == pytest.approx(2.0) and np.abs(np.diff(steps)).max() * 300 < 39.1
    assert inner[49, 2] == 0 < inner[50, 2] and inner[-1, 2] == pytest.approx(0.5)


def test_supply_loss_by_hand():
    """One joint stands still with an error of 0.1 rad; the others have none."""
    servo, positions = so101.Servo(), np.zeros((4, 6))
    inner = np.zeros((40, 6))
    inner[:, 1] = 0.1
    duty = servo.duty_per_rad * 16 * 0.8 * 0.1
    drop = duty * duty * servo.volts / servo.resistance
    loss = sysid.supply_loss(inner, positions, 0.8, 0.0, servo)
    assert loss[:, 1] == pytest.approx(drop / servo.volts * 0.1) and not loss[:, [0, 2, 3, 4, 5]].any()


def test_excitation_is_calm_and_reproducible():
    goals = sysid.excitation(Config(), seed=0)
    assert goals.shape == (360, 6) and goals[0] == pytest.approx(Config().centre)
    assert np.abs(np.diff(goals, axis=0)).max() < so101.MAX_DELTA
    assert (goals == sysid.excitation(Config(), seed=0)).all() and (goals != sysid.excitation(Config(), seed=1)).any()


# ---- the model --------------------------------------------------------------------------------------------------


def test_recordings_are_what_the_bus_gives(recording):
    ticks = recording.positions[:, :5] * TICKS
    steps = np.diff(ticks, axis=0)
    assert np.abs(steps - np.round(steps)).max() < 0.05  # whole ticks, up to LeRobot's 4095 for 4096
    goals = sysid.excitation(SHORT, seed=3)[:20]
    first, again = (sysid.record_twin(HIDDEN, goals, seed=3) for _ in range(2))
    assert (first.positions == again.positions).all() and (first.goals == again.goals).all()
    assert (first.goals == recording.goals[:20]).all()


def test_the_model_is_the_arm_up_to_encoder_noise(recording):
    sim = sysid.Simulator(recording, SHORT)
    noise = 360 / 4096 / np.sqrt(12)
    assert sysid.rms_degrees(sysid.residual(TRUTH, sim)) == pytest.approx(noise, rel=0.12)
    assert sysid.rms_degrees(sysid.residual(TRUTH * [[1, 1, 1, 1.05, 1, 1]], sim)) > 3 * noise


def test_a_delay_of_nothing_and_of_whole_steps_is_exact(recording):
    """Interpolated and held delays are the same where a hold has nothing to round."""
    delays = TRUTH.repeat(3, axis=0)
    delays[:, 4] = 0, 3 / 300, 9 / 300
    linear, held = (
        sysid.Simulator(recording, replace(SHORT, interpolation=kind)).replay(delays) for kind in sysid.INTERPOLATION
    )
    assert np.abs(linear - held).max() < 1e-6


def test_a_held_delay_has_no_gradient(recording):
    moved = TRUTH.repeat(2, axis=0)
    moved[1, 4] += 1e-4
    for kind, same in (("zero-order", True), ("linear", False)):
        first, second = sysid.Simulator(recording, replace(SHORT, interpolation=kind)).replay(moved)
        assert (np.abs(first - second).max() == 0) == same


# ---- the fit ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(recording):
    return sysid.identify(recording, SHORT)


def test_five_numbers_are_recovered(found):
    errors = found.relative_errors(HIDDEN)
    assert max(errors.values()) < 0.05  # a third of the usual length
    assert all(errors[n] * getattr(HIDDEN, n) < 5 * found.error[n] for n in errors)
    assert found.rmse < 0.03 < 1 < found.before
    assert found.other["supply"] == pytest.approx(0.1, abs=5 * found.error["supply"])
    assert found.gap == Gap(**found.value)


def test_zero_order_hold_settles_on_wrong_numbers(recording):
    found = sysid.identify(recording, replace(SHORT, interpolation="zero-order"))
    assert found.value["action_delay"] == 0 and found.error["action_delay"] == np.inf
    assert found.rmse > 0.15 and found.relative_errors(HIDDEN)["payload"] > 0.1


def test_other_solvers_find_the_same(recording, found):
    for solver in ("sysid", "scipy", "gauss_newton"):
        other = sysid.identify(recording, SHORT, solver=solver)
        assert other.value == pytest.approx(found.value, rel=1e-2)


def test_errors_of_zero_that_gravity_shows():
    unit = replace(HIDDEN, encoder_offset=3.0)
    recording = sysid.record_twin(unit, sysid.excitation(SHORT, seed=0), seed=0)
    joints = ("shoulder_lift", "elbow_flex", "wrist_flex")
    found = sysid.identify(recording, replace(SHORT, offsets=joints))
    truth = -ArmPhysics(arm_physics.Config(gap=unit), seed=0).zero_error[1:4] / TICKS  # reported minus true
    assert np.abs(truth).max() > np.radians(2)
    for joint, error in zip(joints, truth, strict=True):
        assert abs(found.other[joint] - error) < 5 * found.error[joint] < np.radians(2)


# ---- bad input and files ----------------------------------------------------------------------------------------


def test_recordings_are_kept(recording, tmp_path):
    recording.save(tmp_path / "arm.npz")
    again = Recording.load(tmp_path / "arm.npz")
    assert (again.goals == recording.goals).all() and (again.positions == recording.positions).all()


def test_bad_input():
    with pytest.raises(ValueError, match=r"interpolation is 'cubic'; it must be zero-order or linear"):
        Config(interpolation="cubic")
    with pytest.raises(ValueError, match=r"there is no joint 'elbow'; the joints are shoulder_pan"):
        Config(offsets=("elbow",))
    with pytest.raises(ValueError, match=r"tones from 0.15 to 20.0 Hz"):
        Config(fastest=20.0)
    with pytest.raises(ValueError, match=r"\(3, 5\) and positions \(3, 6\) must both be \(T, 6\)"):
        Recording(np.zeros((3, 5)), np.zeros((3, 6)))
    with pytest.raises(ValueError, match="not finite; cut those frames off"):
        Recording(np.zeros((3, 6)), np.full((3, 6), np.nan))
    with pytest.raises(ValueError, match=r"solver is 'adam'; it must be one of minimize, gauss_newton, sysid, scipy"):
        sysid.identify(Recording(np.zeros((3, 6)), np.zeros((3, 6))), solver="adam")


def test_relative_errors():
    found = Identified(dict(coulomb=0.06, payload=0.01), {}, {}, 0.0, 0.0, 0)
    assert found.relative_errors(Gap(coulomb=0.05)) == pytest.approx({"coulomb": 0.2, "payload": 0.1})
