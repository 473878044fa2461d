"""Takeover on the lockstep virtual arm: who acts, what is stored, and that the safety layer stops a bad hand."""

import itertools

import numpy as np
import pytest

from kit.envs.so101 import MAX_DELTA
from kit.rl import sac
from kit.sim2real import client as line
from kit.sim2real import deploy
from kit.sim2real.bus import Lockstep, virtual_arm
from kit.sim2real.episodes import Recorder, load
from kit.sim2real.people.hil_serl import Buffers
from kit.sim2real.people.takeover import AgentSteps, Scripted, Takeover, drive, step_of
from kit.sim2real.so101 import SO101, Config
from kit.sim2real.units import KEYS, UnknownJoint, to_radians

QUICK = line.Config(timeout=0.004)
START = 12  # the person holds in steps START to STOP - 1
STOP = 24
LENGTH = 36


class Fixed:
    """A controller that always asks for the same goals."""

    rate, units, joints = 30.0, "degrees", KEYS

    def __init__(self, **goals: float):
        self.goals, self.calls, self.sent = goals, 0, []

    def reset(self, observation):
        self.start = dict(observation)

    def __call__(self, observation):
        self.calls += 1
        return self.start | {f"{k}.pos": v for k, v in self.goals.items()}

    def told(self, sent):
        self.sent.append(dict(sent))


@pytest.fixture
def robot():
    bus = virtual_arm(calibrated=True, clock=Lockstep())
    robot = SO101(bus, Config(line=QUICK), calibration=bus.arm.calibration)
    robot.connect()
    yield robot
    robot.disconnect()


def play(robot, person, *, controller=None, length=LENGTH, **options):
    """(takeover, transitions, report) of a rollout."""
    seen = []
    controller = controller or Fixed(shoulder_pan=20.0)
    shared = Takeover(controller, person, on_transition=seen.append, **options)
    report = deploy.rollout(robot, shared, seconds=length / 30)
    shared.finish(robot.get_observation())
    return shared, seen, report


def away(observation):
    """The person turns the base the other way."""
    return {"shoulder_pan.pos": -20.0}


def buffers():
    return Buffers(6, 6, sac.Config())


def test_step_of_is_the_share_of_the_largest_step():
    before = np.zeros(6)
    np.testing.assert_allclose(step_of(np.array([0, 0.025, -0.05, 9, 0, 0]), before), [0, 0.5, -1, 1, 0, 0])


def test_every_transition_says_who_acted_and_goes_to_the_right_buffers(robot):
    both = buffers()
    shared, seen, report = play(robot, Scripted(away, START, STOP), buffers=both)
    assert report.halted == "" and len(seen) == LENGTH == shared.steps
    assert [t["human"] for t in seen] == [START <= k < STOP for k in range(LENGTH)]
    assert shared.human_steps == STOP - START
    own, human = both.own.rows(), both.human.rows()
    assert len(own["obs"]) == LENGTH and len(human["obs"]) == STOP - START
    np.testing.assert_array_equal(own["obs"][START:STOP], human["obs"])
    np.testing.assert_array_equal(own["by_human"], [float(t["human"]) for t in seen])


def test_the_stored_action_is_what_was_sent_and_states_follow_each_other(robot):
    controller = Fixed(shoulder_pan=20.0)
    _, seen, _ = play(robot, Scripted(away, START, STOP), controller=controller)
    sent = np.array([to_radians(s) for s in controller.sent])
    moved = np.diff(sent, axis=0) / MAX_DELTA
    np.testing.assert_allclose([t["actions"] for t in seen[1:]], np.clip(moved, -1, 1), atol=1e-9)
    for one, following in itertools.pairwise(seen):
        np.testing.assert_array_equal(one["next_obs"], following["obs"])
    pan = [t["actions"][0] for t in seen]
    assert min(pan[:START]) >= 0 and max(pan[:START]) > 0.5, "the controller turns one way"
    assert max(pan[START + 3 : STOP]) <= 0 and min(pan[START:STOP]) < -0.5, "the person the other"


def test_the_controller_is_asked_and_told_all_the_time(robot):
    controller = Fixed(shoulder_pan=20.0)
    play(robot, Scripted(away, START, STOP), controller=controller)
    assert controller.calls == LENGTH == len(controller.sent)


ABSURD = {
    "nan": {"shoulder_pan.pos": float("nan")},
    "infinite": {"elbow_flex.pos": float("inf")},
    "far": {"shoulder_pan.pos": 1e9},
    "far back": {"shoulder_lift.pos": -1e9},
    "everything": dict.fromkeys(KEYS, -1e6),
    "into the table": {"shoulder_lift.pos": 100.0, "elbow_flex.pos": 90.0},
}


@pytest.mark.parametrize("bad", ABSURD.values(), ids=ABSURD)
def test_a_bad_hand_ends_in_the_safety_layer(robot, bad):
    both, controller = buffers(), Fixed(shoulder_pan=20.0)
    before = np.array(to_radians(robot.get_observation()))
    _, seen, report = play(robot, Scripted(lambda o: bad, START, STOP), controller=controller, buffers=both)
    assert report.halted == "" and report.changed, "the layer noted it"
    sent = np.array([before, *(to_radians(s) for s in controller.sent)])
    low, high = robot.limits.range
    assert np.isfinite(sent).all() and np.abs(np.diff(sent, axis=0)).max() <= MAX_DELTA + 0.002  # a tick
    assert (sent >= np.minimum(low, before) - 0.002).all() and (sent <= np.maximum(high, before) + 0.002).all()
    assert all(np.isfinite(v).all() for v in both.human.rows().values()) and len(both.human) == STOP - START
    assert len(seen) == LENGTH


def test_nan_holds_the_arm_still(robot):
    controller = Fixed(shoulder_pan=60.0)
    nan = dict.fromkeys(KEYS, float("nan"))
    _, seen, _ = play(robot, Scripted(lambda o: nan, START, STOP), controller=controller)
    actions = np.array([t["actions"] for t in seen])
    assert np.abs(actions[START:STOP]).max() <= 0.05, "no more than a tick's rounding"
    assert np.abs(actions[:START]).max() > 0.5 and np.abs(actions[STOP:]).max() > 0.5, "before and after it moves"


def test_a_joint_that_there_is_not_is_refused_before_anything_is_sent(robot):
    both, controller = buffers(), Fixed(shoulder_pan=20.0)
    person = Scripted(lambda o: {"elbow.pos": 1.0}, START, STOP)
    with pytest.raises(UnknownJoint, match=r"'elbow\.pos'"):
        play(robot, person, controller=controller, buffers=both)
    assert len(controller.sent) == START == len(both.own) and len(both.human) == 0
    assert robot.status == "ready"


def test_an_ended_task_ends_the_episode(robot):
    def judge(observation):
        there = observation["shoulder_pan.pos"] > 5
        return float(there), there

    shared, seen, _ = play(robot, Scripted(away, 30, 31), judge=judge, length=20)
    ends = [k for k, t in enumerate(seen) if t["terminated"]]
    assert ends and shared.success is True and seen[ends[0]]["reward"] == 1 and seen[0]["reward"] == 0


def test_recorded_frames_say_who_acted(robot, tmp_path):
    recorder = Recorder(tmp_path / "takeover", fps=30.0, robot_type="so101", names=KEYS)
    shared = Takeover(Fixed(shoulder_pan=20.0), Scripted(away, 3, 6))
    deploy.rollout(robot, shared, seconds=8 / 30, recorder=recorder)
    recorder.close()
    (episode,) = load(tmp_path / "takeover")
    np.testing.assert_array_equal(episode.extra["human"], [0, 0, 0, 1, 1, 1, 0, 0])


def test_the_loop_as_a_generator(robot):
    shared = Takeover(Fixed(shoulder_pan=20.0), Scripted(away, 3, 6), buffers=buffers())
    seen = list(drive(robot, shared, seconds=0.3))
    assert [m["held"] for m in seen] == [0, 0, 0, 1, 1, 1, 0, 0, 0] and seen[-1]["progress"] == 1
    assert seen[-1]["human_steps"] == 3 == len(shared.buffers.human) and len(shared.buffers.own) == 9


def test_a_learner_can_steer_and_learn_from_both_buffers(robot):
    import torch

    cfg, both = sac.Config(hidden=(16, 16), batch_size=16), buffers()
    agent = sac.Agent(6, -np.ones(6), np.ones(6), cfg, torch.Generator().manual_seed(0))
    _, _, report = play(robot, Scripted(away, START, STOP), controller=AgentSteps(agent), buffers=both)
    assert report.halted == ""
    info = sac.Learner(agent, cfg).update(both.sample(16, np.random.default_rng(0)))
    assert np.isfinite(list(info.values())).all()
    asked, clear = both.own.rows()["actions"], both.own.rows()["by_human"] == 0
    assert np.abs(asked[clear]).mean() > 0.2, "an exploring agent moves the arm"


def test_a_person_without_time_is_refused():
    with pytest.raises(ValueError, match="start is 5 and stop 5"):
        Scripted(away, 5, 5)


# ---- sliders and keys -------------------------------------------------------------------------------------------


@pytest.fixture
def joystick():
    pytest.importorskip("anywidget")
    from kit.sim2real.people.joystick import Joystick

    clock = [0.0]
    stick = Joystick(now=lambda: clock[0])
    stick.clock = clock
    return stick


HERE = dict(zip(KEYS, (1.0, -60.0, 60.0, 40.0, 0.0, 20.0), strict=True))


def press(stick, keys):
    stick.keyboard.down = list(keys)
    stick.keyboard.beat += 1


def test_nobody_holds_until_the_button(joystick):
    assert joystick(HERE) is None
    joystick.button.value = True
    assert joystick(HERE) == pytest.approx(HERE), "whoever takes over starts from where the arm is"
    joystick.sliders.value = [10, -60, 60, 40, 0, 20]
    assert joystick(HERE)["shoulder_pan.pos"] == 10
    joystick.button.value = False
    assert joystick(HERE) is None


def test_a_key_moves_its_joint_and_lets_go(joystick):
    press(joystick, "q")
    assert joystick(HERE)["shoulder_pan.pos"] == pytest.approx(3.0)
    assert joystick(HERE)["shoulder_pan.pos"] == pytest.approx(5.0)
    press(joystick, "qh")
    action = joystick(HERE)
    assert action["shoulder_pan.pos"] == pytest.approx(7.0) and action["gripper.pos"] == pytest.approx(18.0)
    press(joystick, "")
    assert joystick(HERE) is None


def test_a_page_that_is_gone_lets_go(joystick):
    press(joystick, "w")
    assert joystick(HERE) is not None
    joystick.clock[0] = 0.6
    assert joystick(HERE) is None
    joystick.keyboard.beat += 1
    assert joystick(HERE) is not None


def test_sliders_follow_the_arm_until_somebody_holds(joystick):
    joystick.told(HERE)
    np.testing.assert_allclose(joystick.sliders.value, list(HERE.values()))
    joystick.button.value = True
    joystick(HERE)
    joystick.told(dict.fromkeys(KEYS, 0.0))
    np.testing.assert_allclose(joystick.sliders.value, list(HERE.values()))


def test_on_the_arm_with_the_button(robot, joystick):
    shared, seen, _ = play(robot, joystick, length=5)
    assert shared.human_steps == 0
    joystick.button.value = True
    shared, seen, _ = play(robot, joystick, length=5)
    assert shared.human_steps == 5 and len(seen) == 5
