import mujoco
import numpy as np
import pytest

from kit.envs import so101
from kit.envs.arm_reach import ArmReach
from kit.envs.env import BatchEnv
from kit.sim2real import kinematics
from kit.sim2real.bus import Lockstep, virtual_arm
from kit.sim2real.motor import TICKS, Gap
from kit.sim2real.so101 import SO101
from kit.sim2real.transfer.residual import ALPHA, ResidualReach, advance_base
from kit.sim2real.transfer.twin import FIELDS, NOMINAL, TWIN_A, TwinPush, TwinReach, numbers
from kit.sim2real.units import to_radians, to_values

START = np.array([0.2, -0.9, 0.9, 0.5, 0.1])


def moves(steps: int) -> np.ndarray:
    """Smooth actions (steps, 5) of up to half the range."""
    t = np.arange(steps)[:, None] / 30
    return (0.3 * np.cos(2 * np.pi * t * np.array([0.4, 0.3, 0.5, 0.7, 0.6]))).astype(np.float32)


def play(gap, actions, **options):
    """What the program of one twin reads along a row of actions (T, 5) [rad], and where the joints really are."""
    env = BatchEnv(TwinReach(1, gap=gap, nthread=1, **options))
    env.reset(seed=0, options={"task": {"start": START}})
    seen, true = [], []
    for action in actions:
        env.step(action[None])
        seen.append(env.task._seen[0].copy())
        true.append(env.task.qpos[0, env.task._q][:5].copy())
    return np.array(seen), np.array(true)


def test_nominal_twin_moves_like_the_plain_task():
    actions = moves(60)
    env = BatchEnv(ArmReach(1, nthread=1))
    env.reset(seed=0, options={"task": {"start": START}})
    plain = []
    for action in actions:
        env.step(action[None])
        plain.append(env.task.qpos[0, :5].copy())
    seen, true = play(NOMINAL, actions)
    np.testing.assert_allclose(true, plain, atol=1e-12)
    assert np.abs(seen - plain).max() <= 0.5 / TICKS + 1e-12  # whole ticks


def virtual(gap, actions):
    """The same actions as goals over the servo bus of a virtual arm: angles read (T, 5) [rad]."""
    bus = virtual_arm(gap=gap, calibrated=True, clock=Lockstep())
    robot = SO101(bus, calibration=bus.arm.calibration)
    bus.arm.place(np.append(START, so101.CLOSED))
    robot.connect()
    target, seen = START.copy(), []
    for action in actions:
        target = target + so101.MAX_DELTA * action
        robot.send_action(to_values(np.append(target, so101.CLOSED)))
        seen.append(to_radians(robot.get_observation())[:5])
    robot.disconnect()
    return np.array(seen)


@pytest.mark.parametrize("gap", [NOMINAL, Gap(stiffness=0.8, coulomb=0.1, payload=0.1, action_delay=0.03), TWIN_A])
def test_twin_moves_like_the_virtual_arm_behind_its_bus(gap):
    """Two programs: MuJoCo's dcmotor in a batch, and the servo loop in Python behind registers (with a soft supply)."""
    lossless = Gap(**(vars(gap) | {"packet_loss": 0.0}))
    actions = moves(85)
    here, there = play(lossless, actions)[0], virtual(lossless, actions)
    assert np.abs(here - START).max() > 0.15  # it moved
    # The first second is left out: the virtual arm has sagged before it is told where to go.
    away = np.degrees(np.abs(here - there)[30:])
    assert away.max() < 1.0 and away.mean() < 0.35  # dead zones, ramps and the play are not the same in both


def test_delay_holds_a_goal_back():
    actions = np.zeros((30, 5), np.float32)
    actions[5:, 0] = 1.0
    prompt, late = play(NOMINAL, actions)[1][:, 0], play(Gap(action_delay=1 / 30), actions)[1][:, 0]
    np.testing.assert_allclose(late[6:], prompt[5:-1], atol=1e-5)  # one control step
    np.testing.assert_allclose(late[:5], prompt[:5], atol=1e-9)  # and no jump at the start


def test_old_readings_are_those_of_an_earlier_physics_step():
    actions = moves(30)
    env = BatchEnv(TwinReach(1, gap=Gap(observation_delay=2 / 300), nthread=1))
    env.reset(seed=0, options={"task": {"start": START}})
    task, before = env.task, []
    step = task.batch.step
    task.batch_positions = []

    def watched(nstep, stage):
        for _ in range(nstep):
            before.append(task.qpos[0, task._q][:5].copy())
            step(nstep=1, stage=stage)

    task.batch = type("Watched", (), {"step": staticmethod(watched), "warning": task.batch.warning})()
    for action in actions:
        env.step(action[None])
        np.testing.assert_allclose(task._seen[0], np.round(before[-2] * TICKS) / TICKS, atol=1e-9)


def test_gap_is_written_into_each_simulation():
    task = TwinReach(4, gap=TWIN_A, nthread=1)
    env = BatchEnv(task)
    stiffness = np.array([[0.5], [0.8], [1.0], [1.2]])
    env.reset(seed=0, options={"task": {"stiffness": stiffness, "payload": stiffness / 12}})
    models = task.batch.get_model(0), task.batch.get_model(3)
    kp = so101.SERVOS["7.4V-P16"].stiffness
    for model, share in zip(models, (0.5, 1.2), strict=True):
        assert model.actuator_gainprm[0, 4] == pytest.approx(kp * share)
        assert model.body("payload").mass[0] == pytest.approx(share / 12)
        assert model.dof_frictionloss[model.joint("elbow_flex").dofadr[0]] == pytest.approx(0.12)
        assert model.joint("elbow_flex_play").range == pytest.approx([-np.radians(0.25), np.radians(0.25)])
        assert model.actuator_delay[0] == pytest.approx(0.03)


def test_payload_pulls_the_arm_down_as_much_as_it_weighs():
    still = np.zeros((60, 5), np.float32)
    light, heavy = (play(Gap(payload=mass, coulomb=0.0), still)[1][-1] for mass in (0.0, 0.1))
    model = so101.make_spec(scene="so101").compile()
    data = mujoco.MjData(model)
    data.qpos[:5] = heavy
    mujoco.mj_forward(model, data)
    lever = kinematics.jacobian(heavy[None])[1][0, 2]  # dz/dq [m/rad]
    kp = so101.SERVOS["7.4V-P16"].stiffness
    assert heavy[1] - light[1] == pytest.approx(-0.1 * 9.81 * lever[1] / kp, rel=0.25)


def test_ranges_draw_a_gap_an_episode_from_its_seed():
    low, high = Gap(coulomb=0.03), Gap(coulomb=0.2, payload=0.2, action_delay=0.05)
    env = BatchEnv(TwinReach(32, gap=(low, high), nthread=1))
    env.reset(seed=3)
    drawn = env.task.drawn
    assert (drawn >= numbers(low) - 1e-12).all() and (drawn <= numbers(high) + 1e-12).all()
    assert np.ptp(drawn[:, FIELDS.index("coulomb")]) > 0.1 and np.ptp(drawn[:, FIELDS.index("stiffness")]) == 0
    again = BatchEnv(TwinReach(4, gap=(low, high), nthread=1))
    again.reset(seed=5)
    np.testing.assert_array_equal(again.task.drawn[0], drawn[2])  # simulation i has seed + i


def test_lost_packets_keep_the_old_goal_and_the_old_reading():
    actions = moves(20)
    seen, true = play(Gap(packet_loss=1.0), actions)
    assert np.ptp(seen, axis=0).max() == 0
    assert np.abs(true - true[0]).max() < 0.1  # it only sags


def test_history_shows_the_last_steps():
    env = BatchEnv(TwinReach(2, gap=NOMINAL, history=3, nthread=1))
    obs, _ = env.reset(seed=0)
    assert obs.shape == (2, 24 + 30)
    np.testing.assert_array_equal(obs[:, 24:], 0)
    actions = moves(9)[[5, 6, 7]]
    for action in actions:
        last = env.task._seen.copy()
        obs = env.step(np.tile(action, (2, 1)))[0]
    np.testing.assert_allclose(obs[0, 24 + 5 : 24 + 10], actions[-1], atol=1e-6)
    np.testing.assert_allclose(obs[0, 34 + 5 : 34 + 10], actions[-2], atol=1e-6)
    np.testing.assert_allclose(obs[:, 24:29], 10 * (last - env.task._seen), atol=1e-5)


def test_offsets_shift_what_is_read_and_what_is_sent():
    env = BatchEnv(TwinReach(3, gap=Gap(encoder_offset=3.0), nthread=1))
    env.reset(seed=0)
    task = env.task
    offset = task._seen - task.qpos[:, task._q][:, :5]
    assert 0.5 < np.degrees(np.abs(offset)).max() <= 3.1
    np.testing.assert_allclose(task.target - task.ctrl[:, :5], task._offset, atol=1e-12)


def test_push_twin_keeps_the_cube_apart_from_the_play():
    env = BatchEnv(TwinPush(2, gap=TWIN_A, nthread=1))
    obs, _ = env.reset(seed=0, options={"task": {"cube": (0.25, 0.05), "goal": (0.35, 0.0)}})
    assert obs.shape == (2, 32) and np.isfinite(obs).all()
    np.testing.assert_allclose(env.task.cube[:, :2], [[0.25, 0.05]] * 2)
    for _ in range(30):
        env.step(np.zeros((2, 5), np.float32))
    np.testing.assert_allclose(env.task.cube[:, :2], [[0.25, 0.05]] * 2, atol=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TwinReach(1, gap=Gap(load_friction=0.1)), r"load_friction is 0.1; a batched twin has none"),
        (lambda: TwinReach(1, gap=(Gap(payload=0.2), Gap())), r"range of payload is empty: 0.2 to 0"),
    ],
)
def test_bad_gaps(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_task_cannot_ask_for_what_the_model_lacks():
    env = BatchEnv(TwinReach(1, gap=Gap(payload=0.1), nthread=1))
    with pytest.raises(ValueError, match=r"payload 0.3 is above 0.1.*wider gap="):
        env.reset(seed=0, options={"task": {"payload": (0.3,)}})


# ---- residual -----------------------------------------------------------------------------------------------------


def test_advance_base_moves_at_the_goal_within_the_limit():
    rng = np.random.default_rng(0)
    base = rng.uniform(-1, 1, (50, 5))
    goal = kinematics.tool(base + rng.normal(0, 0.1, (50, 5)))
    moved = advance_base(base, goal)
    assert np.abs(moved - base).max() <= so101.MAX_DELTA + 1e-12
    before, after = (np.linalg.norm(kinematics.tool(q) - goal, axis=1) for q in (base, moved))
    assert (after < before).mean() > 0.95


def test_residual_of_zero_is_inverse_kinematics():
    env = BatchEnv(ResidualReach(20, gap=NOMINAL, nthread=1))
    obs, _ = env.reset(seed=0)
    assert obs.shape == (20, 29)
    for _ in range(60):
        env.step(np.zeros((20, 5), np.float32))
    task = env.task
    np.testing.assert_allclose(task.target, task.base, atol=1e-12)
    aim = np.linalg.norm(kinematics.tool(task.target) - task.goal, axis=1)
    miss = np.linalg.norm(task.tool - task.goal, axis=1)
    assert np.median(aim) < 0.005 < np.median(miss)  # the targets are there, the sagging tool is not


def test_residual_is_at_most_alpha_away_from_the_base():
    env = BatchEnv(ResidualReach(4, gap=NOMINAL, nthread=1))
    env.reset(seed=0)
    for _ in range(60):
        env.step(np.ones((4, 5), np.float32))
    away = env.task.target - env.task.base
    assert away.max() <= ALPHA + 1e-9 and np.median(away) == pytest.approx(ALPHA, abs=1e-6)
