"""A reach policy through the robot: the same state as in simulation, a loop that records what it sends, and its end."""

import logging
import time

import numpy as np
import pytest

import kit
from kit.envs import single, so101, workspace
from kit.envs.arm_reach import draw_start
from kit.sim2real import client as line
from kit.sim2real import deploy, kinematics
from kit.sim2real.bus import Lockstep, Realtime, virtual_arm
from kit.sim2real.deploy import Reach, joint_speed, rollout, steps
from kit.sim2real.episodes import Recorder, load
from kit.sim2real.rate import Rate
from kit.sim2real.safety import Limits
from kit.sim2real.so101 import SO101, Config
from kit.sim2real.units import KEYS, Halted, WrongRate, to_radians, to_values
from kit.types import Robot

QUICK = line.Config(timeout=0.004)
GOAL = (0.25, 0.05, 0.15)
POLICY = kit.load("arm_reach")


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def arm(seed=0, start=so101.HOME, cfg=None):
    """(robot, bus), connected, on a lockstep clock."""
    bus = virtual_arm(calibrated=True, clock=Lockstep(), seed=seed)
    bus.arm.place(start)
    robot = SO101(bus, cfg or Config(line=QUICK), calibration=bus.arm.calibration)
    robot.connect()
    return robot, bus


def draw_task(seed):
    """Six joint angles [rad] to start from and a goal (3,) [m], as the environment draws them."""
    rng = np.random.default_rng(seed)
    start = np.append(draw_start(rng), so101.CLOSED)
    return start, workspace.sample(rng, away_from=kinematics.tool(start[None])[0], distance=0.1, lowest=0.03)


class Still:
    """A controller that keeps the arm where it was at first."""

    rate, units, joints = 30.0, "degrees", KEYS

    def reset(self, observation):
        self.first = dict(observation)

    def __call__(self, observation):
        return self.first


# ---- the controller ---------------------------------------------------------------------------------------------


def test_speed_is_exact_for_constant_acceleration():
    t = np.array([0.0, 0.1, 0.2])
    q = 0.3 - 2.0 * t + 7.0 * t**2
    np.testing.assert_allclose(joint_speed(*[np.array([x]) for x in q[::-1]], 10.0), [-2.0 + 2 * 7.0 * 0.2])
    assert joint_speed(np.ones(5), np.ones(5), np.ones(5), 30.0).tolist() == [0.0] * 5
    assert joint_speed(np.array([1.0]), np.array([0.0]), np.array([0.0]), 30.0) == [45.0]


def test_it_sees_and_commands_what_the_environment_does(monkeypatch):
    """Fed with the exact angles and speeds of the environment, it commands the environment's targets."""
    env = single("kit/ArmReach-v0")
    obs, _ = env.reset(seed=3)
    task = env.unwrapped.task
    monkeypatch.setattr(deploy, "joint_speed", lambda *_: task.qvel[0, :5].copy())
    seen, policy = [], POLICY

    class Spy:
        def predict(self, observation, *args, **options):
            seen.append(observation.copy())
            return policy.predict(observation, *args, **options)

    reach = Reach(Spy(), task.goal[0])
    reach.reset(to_values(task.ctrl[0]))  # the arm has sagged a little from its first target
    for _ in range(40):
        action = reach(to_values(task.qpos[0]))
        np.testing.assert_allclose(seen[-1], obs, atol=2e-5)
        assert list(action) == list(KEYS) and action["gripper.pos"] == 0.0
        assert reach.distance == pytest.approx(np.linalg.norm(task.tool[0] - task.goal[0]), abs=1e-6)
        obs, *_ = env.step(policy.predict(obs, deterministic=True)[0])
        np.testing.assert_allclose(to_radians(action)[:5], task.ctrl[0, :5], atol=2e-5)
    env.close()


def test_the_shipped_policy_reaches_on_the_virtual_arm_as_in_simulation():
    """From encoder ticks, through units, calibration, safety layer and packets: 98 of 100 in simulation, 97 here."""
    reached = []
    for seed in range(8):
        start, goal = draw_task(seed)
        robot, bus = arm(seed, start)
        reach = Reach(POLICY, goal)
        report = rollout(robot, reach, seconds=3)
        away = np.linalg.norm(kinematics.tool(bus.arm.angles[None])[0] - goal)  # where the arm really is
        assert (report.frames, report.halted) == (90, "")
        reached.append(reach.success and away < 0.025)
    assert sum(reached) >= 7


def test_a_plain_difference_of_angles_makes_it_circle_the_goal(monkeypatch):
    """Half a period of delay in the speeds is enough: the policy was trained with speeds of now."""

    def unrest():
        start, goal = draw_task(8)
        robot, bus = arm(8, start)
        moving = []
        rollout(robot, Reach(POLICY, goal), seconds=3, on_step=lambda _: moving.append(bus.arm.data.qvel[:5].copy()))
        return np.abs(moving[60:]).mean()

    calm = unrest()
    monkeypatch.setattr(deploy, "joint_speed", lambda q, before, earlier, rate: (q - before) * rate)
    assert unrest() > 1.5 * calm


def test_a_goal_may_change_and_must_be_reachable():
    robot, _ = arm()
    reach = Reach(POLICY, GOAL)
    rollout(robot, reach, seconds=2)
    assert reach.success
    with pytest.raises(ValueError, match=r"goal \[0.9 0.  0.1\] is out of the arm's reach"):
        reach.goal = (0.9, 0.0, 0.1)
    np.testing.assert_array_equal(reach.goal, GOAL)
    reach.goal = (0.22, -0.12, 0.1)
    assert not reach.success
    rollout(robot, reach, seconds=2)
    assert reach.success
    with pytest.raises(ValueError, match="out of the arm's reach"):
        Reach(POLICY, (0.2, 0.1))
    with pytest.raises(ValueError, match="out of the arm's reach"):
        Reach(POLICY, (0.2, np.nan, 0.1))


def test_the_target_goes_on_from_what_was_really_sent():
    reach = Reach(POLICY, GOAL)
    here = to_values(so101.HOME)
    reach.reset(here)
    asked = to_radians(reach(here))
    reach.told(to_values(asked + 0.004))  # whole ticks are no other goal
    np.testing.assert_allclose(reach._target, asked[:5])
    other = asked + np.array([0.3, 0, 0, 0, 0, 0])  # a human pulled the pan
    reach.told(to_values(other))
    np.testing.assert_allclose(reach._target, other[:5])
    robot, _ = arm(cfg=Config(line=QUICK, limits=Limits(max_delta=0.01)))
    reach, ahead = Reach(POLICY, GOAL), []
    report = rollout(robot, reach, seconds=1, on_step=lambda s: ahead.append(to_radians(s.sent)[:5] - reach._target))
    assert report.changed["speed"] > 5 and np.abs(ahead).max() <= deploy.SENT_ELSE  # no wind-up


# ---- the loop ---------------------------------------------------------------------------------------------------


def test_lockstep_rollouts_are_equal_and_wait_for_nothing(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waited"))

    def run():
        robot, bus = arm(2)
        assert isinstance(robot, Robot) and robot.lockstep
        sent = []
        report = rollout(robot, Reach(POLICY, GOAL), seconds=1.5, on_step=lambda s: sent.append((s.number, s.sent)))
        return report, sent, bus.arm.angles.tolist(), [event.data for event in bus.trace]

    first = run()
    assert first == run()
    report = first[0]
    assert report.frames == 45 and report.rate.mean == pytest.approx(30) and report.rate.misses == 0
    assert str(report).startswith("45 frames; 30.0 Hz now, 30.0 mean")


def test_in_real_time_it_keeps_the_rate_and_counts_what_is_late():
    now = [0.0]

    def sleep(left):
        now[0] += left

    bus = virtual_arm(calibrated=True, clock=Realtime(now=lambda: now[0]))
    patient = Config(line=line.Config(timeout=5.0), watchdog=False)
    robot = SO101(bus, patient, calibration=bus.arm.calibration, now=lambda: now[0], sleep=sleep)
    robot.connect()
    assert not robot.lockstep

    def busy(step):
        now[0] += 0.050 if step.number == 9 else 0.010  # the tenth step takes longer than a period

    report = rollout(robot, Still(), seconds=2, rate=Rate(30, now=lambda: now[0], sleep=sleep), on_step=busy)
    assert report.frames == 60 and report.rate.misses == 1
    assert report.rate.latest == pytest.approx(0.050 - 1 / 30, abs=1e-6)
    assert report.rate.mean == pytest.approx(30.0, rel=0.01)


def test_every_frame_that_was_sent_is_recorded(tmp_path):
    robot, _ = arm()
    recorder, kept = Recorder(tmp_path), []
    report = rollout(robot, Reach(POLICY, GOAL), seconds=2, recorder=recorder, task="touch", on_step=kept.append)
    (episode,) = load(tmp_path)
    assert len(episode) == report.frames == 60 and (episode.task, episode.reason) == ("touch", "")
    assert episode.finished and episode.success is True
    np.testing.assert_allclose(episode.observations, [[s.observation[k] for k in KEYS] for s in kept])
    np.testing.assert_allclose(episode.actions, [[s.sent[k] for k in KEYS] for s in kept])
    rollout(robot, Still(), seconds=0.2, recorder=recorder)
    assert [(len(e), e.success) for e in load(tmp_path)] == [(60, True), (6, None)]


def test_extra_numbers_of_a_controller_are_recorded(tmp_path):
    class Human(Still):
        def extra(self):
            return {"human": 1.0}

    robot, _ = arm()
    rollout(robot, Human(), seconds=0.1, recorder=Recorder(tmp_path))
    assert load(tmp_path)[0].extra["human"].tolist() == [1.0] * 3


def test_however_it_ends_the_episode_is_closed_with_the_reason(tmp_path):
    robot, bus = arm()
    recorder = Recorder(tmp_path)

    class Broken(Still):
        def __call__(self, observation):
            self.calls = getattr(self, "calls", 0) + 1
            return self.first if self.calls < 4 else 1 / 0

    with pytest.raises(ZeroDivisionError):
        rollout(robot, Broken(), seconds=1, recorder=recorder)
    loop = steps(robot, Still(), 30, recorder=recorder)
    next(loop)
    loop.close()
    bus.faults.silence(3)
    report = rollout(robot, Still(), seconds=1, recorder=recorder)
    assert report.frames == 0 and "servo 3 (elbow_flex) does not answer" in report.halted
    assert "; halted: servo 3" in str(report)
    found = [(len(e), e.success, e.reason, e.finished) for e in load(tmp_path)]
    assert found == [
        (3, None, "ZeroDivisionError: division by zero", True),
        (1, None, "broken off", True),
    ]  # and none for the arm that did not move
    assert not recorder.recording
    again = rollout(robot, Still(), seconds=1, recorder=recorder)
    assert again.frames == 0 and again.halted and len(load(tmp_path)) == 2
    bus.faults.heal()
    robot.reconnect()
    assert rollout(robot, Still(), seconds=1, recorder=recorder).frames == 30


def test_a_recorders_own_episode_is_not_touched(tmp_path):
    robot, _ = arm()
    recorder = Recorder(tmp_path)
    recorder.start(task="mine")
    with pytest.raises(RuntimeError, match="an episode is being recorded"):
        rollout(robot, Still(), seconds=1, recorder=recorder)
    assert recorder.recording


def test_a_controller_for_another_rate_moves_nothing():
    robot, bus = arm()
    slow = Still()
    slow.rate = 15.0
    requests = bus.requests
    with pytest.raises(WrongRate, match="the loop runs at 30 Hz and the controller at 15 Hz"):
        rollout(robot, slow, seconds=1)
    with pytest.raises(WrongRate, match="trained at 15 Hz and the arm runs at 30 Hz"):
        rollout(robot, slow, seconds=1, rate=Rate(15))
    assert bus.requests == requests


def test_steps_raises_what_rollout_reports():
    robot, bus = arm()
    bus.faults.drop(1.0)
    with pytest.raises(Halted, match="no servo answers"):
        list(steps(robot, Still(), 3))
