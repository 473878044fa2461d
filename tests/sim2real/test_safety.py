"""The safety layer: each rule by hand, and whatever is sent to it, nothing leaves that its rules forbid."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.envs.so101 import HOME, MAX_DELTA
from kit.sim2real import safety
from kit.sim2real.arm_physics import REST
from kit.sim2real.safety import Anchor, Limits, State, Watch, command, hold, places, strain, stuck

LIMITS = Limits()
STEP = LIMITS.period
OPEN = Limits(box_low=(-9, -9, -9), box_high=(9, 9, 9), max_tool_step=9)


def after(goal, *, state=None, present=HOME, limits=OPEN, elapsed=STEP):
    """(sent, state, notes) of one command from HOME."""
    state = state or safety.start(HOME, 0.0, limits)
    return command(goal, state, np.asarray(present, float), state.at + elapsed, limits)


def other(number, value):
    changed = HOME.copy()
    changed[number] = value
    return changed


# ---- the rules --------------------------------------------------------------------------------------------------


def test_a_goal_that_nothing_forbids_passes_unchanged():
    goal = HOME + np.array([0.05, -0.05, 0.05, 0.05, -0.05, 0.05])
    sent, state, notes = after(goal)
    assert np.array_equal(sent, goal) and notes == ()
    assert state.at == STEP and np.allclose(state.step, goal - HOME)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_becomes_the_last_command(bad):
    sent, _, notes = after(other(2, bad))
    assert np.array_equal(sent, HOME) and notes == ("finite",)


def test_limits_keep_two_degrees_but_not_at_the_gripper():
    low, high = LIMITS.range
    assert np.allclose(np.degrees(high[:5] - np.array(LIMITS.high[:5])), -2.0, atol=1e-3)
    assert low[5] == LIMITS.low[5] and high[5] == LIMITS.high[5]
    state = safety.start(other(1, low[1] + 0.01), 0.0, OPEN)
    sent, _, notes = after(other(1, low[1] - 0.03), state=state, present=state.command)
    assert sent[1] == low[1] and notes == ("limits",)


def test_an_arm_that_starts_outside_may_come_in_and_not_go_further_out():
    outside = other(1, LIMITS.low[1])
    state = safety.start(outside, 0.0, OPEN)
    assert after(other(1, LIMITS.low[1] - 0.02), state=state, present=outside)[0][1] == LIMITS.low[1]
    sent, state, _ = after(other(1, LIMITS.low[1] + 0.03), state=state, present=outside)
    assert sent[1] == pytest.approx(LIMITS.low[1] + 0.03)
    assert after(outside, state=state, present=outside)[0][1] == sent[1]  # the way back is shut


def test_speed_is_a_step_of_a_twentieth_radian_and_a_budget_over_time():
    sent, state, notes = after(other(0, 1.0))
    assert sent[0] == pytest.approx(MAX_DELTA) and notes == ("speed",)
    total = [sent[0]]
    for _ in range(20):  # a loop that runs thirty times too fast
        sent, state, _ = after(other(0, 1.0), state=state, elapsed=STEP / 30)
        total.append(sent[0])
    assert total[-1] == pytest.approx(1.5 * (20 * STEP / 30 + 2 * STEP))
    assert after(other(0, 1.0), state=state, elapsed=0.0)[0][0] == pytest.approx(total[-1])


def test_a_loop_that_wavers_around_its_rate_is_not_slowed_down():
    state, sent = safety.start(HOME, 0.0, OPEN), HOME
    for k in range(30):
        sent, state, notes = after(
            sent + np.eye(6)[0] * 0.05, state=state, present=sent, elapsed=STEP + 0.008 * (-1) ** k
        )
        assert notes == (), k


def test_turning_round_at_full_speed_passes_and_a_gentler_arm_brakes_at_once_but_starts_slowly():
    _, state, _ = after(other(0, 0.05))
    sent, _, notes = after(other(0, 0.0), state=state)
    assert sent[0] == pytest.approx(0.0) and notes == ()
    slow = replace(OPEN, max_acceleration=9.0)  # 0.01 rad a step more
    assert after(other(0, 0.05), limits=slow)[0][0] == pytest.approx(0.01)
    fast = State(other(0, 0.05), np.array([0.05, 0, 0, 0, 0, 0]), 0.0, 2 * STEP)
    assert after(other(0, 0.05), state=fast, limits=slow)[0][0] == pytest.approx(0.05)
    sent, _, notes = after(other(0, 0.0), state=fast, limits=slow)
    assert sent[0] == pytest.approx(0.04) and notes == ("jerk",)
    assert after(other(0, 0.1), state=fast, limits=slow, elapsed=1.0)[0][0] == pytest.approx(0.06)  # it stood meanwhile


def test_a_goal_does_not_run_ahead_of_a_joint_that_does_not_follow():
    state, sent = safety.start(HOME, 0.0, OPEN), HOME
    for _ in range(20):
        sent, state, notes = after(other(0, 1.0), state=state)
    assert sent[0] == pytest.approx(OPEN.lead) and "lead" in notes
    pushed = after(other(0, 1.0), state=state, present=other(0, -0.5))[0]
    assert pushed[0] == pytest.approx(sent[0])  # pushed away by hand: no further, and nothing jumps back


def test_the_box_stops_the_tool_at_the_table():
    state, sent = safety.start(HOME, 0.0, LIMITS), HOME
    for _ in range(80):
        sent, state, notes = after(other(1, 0.6), state=state, present=sent, limits=LIMITS)
    assert notes == ("speed", "box") or notes == ("box",)
    assert 0.0 <= places(sent)[0, 2] < 0.002  # a sixteenth of a step
    back, _, notes = after(HOME, state=state, present=sent, limits=LIMITS)
    assert back[1] < sent[1] and "box" not in notes
    narrow = replace(LIMITS, box_high=(0.25, 0.45, 0.6))
    state = safety.start(HOME, 0.0, narrow)
    for _ in range(60):
        sent, state, _ = after(other(2, 0.0), state=state, present=state.command, limits=narrow)
    assert 0.248 < places(sent)[0, 0] <= 0.25 + 1e-9


def test_places_are_the_arms_kinematics():
    tool = places(np.array([0.3, -0.4, 0.6, -0.5, 0.7, 0.2]))[0]
    assert tool == pytest.approx([0.32347, -0.09343, 0.25066], abs=1e-5)  # computed from the published model
    assert (places(REST)[:, 2] > 0).all()


def test_hold_neither_moves_on_nor_drops():
    state = State(np.full(6, 0.3), np.full(6, 0.05), 1.0, 0.0)
    present = np.array([0.25, 0.0, 0.6, 0.3, 0.35, 0.3])
    held = hold(state, present, 2.0, LIMITS)
    assert held.command == pytest.approx([0.3, 0.1, 0.5, 0.3, 0.3, 0.3]) and not held.step.any() and held.at == 2.0
    assert hold(state, present, 2.0, LIMITS, sag=0.0).command == pytest.approx(present)
    far = np.full(6, 9.0)
    assert (hold(state, far, 2.0, LIMITS).command <= LIMITS.range[1]).all()


def test_strain_counts_time_and_starts_anew():
    since = np.full(6, np.nan)
    load = np.array([0.7, -0.7, 0.6, 0.0, 0.0, 0.0])
    since, found = strain(load, since, 1.0, LIMITS)
    assert not found.any() and np.isnan(since[2:]).all()
    load[1] = 0.1
    since, found = strain(load, since, 1.5, LIMITS)
    assert found.tolist() == [True] + [False] * 5 and since[0] == 1.0 and np.isnan(since[1])


def test_stuck_is_a_joint_that_stands_still_far_from_its_goal():
    anchor, far = Anchor(HOME, np.zeros(6)), HOME + 0.36
    same, found = stuck(anchor, HOME + 0.003, far, 0.2, LIMITS)
    assert found.tolist() == [True] * 5 + [False]  # a gripper may hold something
    assert np.array_equal(same.present, HOME) and not same.since.any()
    assert not stuck(anchor, HOME, far, 0.1, LIMITS)[1].any()  # it may be about to start
    near, found = stuck(anchor, HOME, HOME + 0.3, 9.0, LIMITS)
    assert not found.any() and near.since.tolist() == [9.0] * 6  # sags under a load
    moved, found = stuck(anchor, HOME + 0.005, far, 9.0, LIMITS)
    assert not found.any() and moved.since.tolist() == [9.0] * 6 and np.array_equal(moved.present, HOME + 0.005)


def test_the_watchdogs_clock():
    watch = Watch(LIMITS)
    assert watch.stage(100.0) == "idle"  # nothing was ever sent
    assert watch.fed(100.0)
    assert [watch.stage(100 + t) for t in (0.0, 0.29, 0.31, 1.9)] == ["ok", "ok", "hold", "hold"]
    assert watch.fed(101.9) and watch.stage(102.0) == "ok"
    assert not watch.fed(103.95) and watch.stage(103.95) == "rest"
    assert not watch.fed(103.96)  # there is no way back
    watch.reset()
    assert watch.stage(200.0) == "idle" and watch.fed(200.0)


def test_bad_limits_and_a_bad_start():
    with pytest.raises(ValueError, match="the limits of elbow_flex leave no room"):
        Limits(low=(-1, -1, 1.69, -1, -1, -0.1))
    with pytest.raises(ValueError, match="max_speed is 0; it must be positive"):
        Limits(max_speed=0)
    with pytest.raises(ValueError, match=r"hold_after 3 s must be positive and below rest_after 2.0 s"):
        Limits(hold_after=3)
    for bad in (np.full(6, np.nan), np.zeros(5)):
        with pytest.raises(ValueError, match="it must be six finite angles"):
            safety.start(bad, 0.0, LIMITS)


# ---- any sequence -----------------------------------------------------------------------------------------------

anything = st.one_of(
    st.floats(-4, 4, width=32),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, math.nan, 1e300, -1e300, math.inf]),
)
goals = st.lists(anything, min_size=6, max_size=6)
times = st.one_of(st.just(STEP), st.floats(0.0, 0.2), st.floats(0.0, 3.0))
moves = st.floats(-0.2, 0.2)
starts = st.sampled_from([HOME, REST, np.zeros(6), np.array(LIMITS.low), np.array([0, -0.5, 1.2, 0.6, 0, 0.5])])


def allowed(sent, before, limits, begun):
    """What every command must keep, said in other words than the layer's."""
    low, high = limits.range
    assert np.isfinite(sent).all()
    assert (sent >= np.minimum(low, begun) - 1e-12).all() and (sent <= np.maximum(high, begun) + 1e-12).all()
    assert np.abs(sent - before).max() <= limits.max_delta + 1e-12
    here, there = places(before), places(sent)
    assert np.linalg.norm(there[0] - here[0]) <= limits.max_tool_step + 1e-9
    assert there[0, 2] >= min(limits.box_low[2], here[0, 2]) - 1e-8
    assert there[0, 0] <= max(limits.box_high[0], here[0, 0]) + 1e-8


@settings(max_examples=60, deadline=None, derandomize=True)
@given(starts, st.lists(st.tuples(times, goals, st.lists(moves, min_size=6, max_size=6)), max_size=25))
def test_no_sequence_gets_a_forbidden_command_through(begun, sequence):
    """Goals, times and the arm's own motion are arbitrary, NaN included."""
    limits, now, sent_at = replace(LIMITS, box_high=(0.3, 0.45, 0.6)), 0.0, [(0.0, begun.copy())]
    state, watch, present = safety.start(begun, 0.0, limits), Watch(limits), begun.copy()
    silent_too_long = False
    for elapsed, goal, motion in sequence:
        now, present = now + elapsed, present + motion
        silent_too_long |= len(sent_at) > 1 and now - sent_at[-1][0] >= limits.rest_after
        if not watch.fed(now):
            assert silent_too_long
            continue
        assert not silent_too_long, "a command after the watchdog"
        sent, state, _ = command(np.array(goal), state, present, now, limits)
        allowed(sent, sent_at[-1][1], limits, begun)
        sent_at.append((now, sent))
    path = np.cumsum([0.0] + [np.abs(b[1] - a[1]).max() for a, b in pairwise(sent_at)])
    for i in range(len(sent_at)):
        for j in range(i, len(sent_at)):
            assert path[j] - path[i] <= limits.max_speed * (sent_at[j][0] - sent_at[i][0] + 2 * limits.period) + 1e-9


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.floats(-1, 1), min_size=6, max_size=6), min_size=1, max_size=20))
def test_a_policy_of_the_arm_tasks_passes_unchanged(actions):
    """Steps of at most 0.05 rad at 30 Hz, forth and back, wherever the box is not in the way."""
    state, target = safety.start(HOME, 0.0, OPEN), HOME
    for k, action in enumerate(actions, 1):
        target = np.clip(target + MAX_DELTA * np.array(action), HOME - 0.15, HOME + 0.15)
        sent, state, notes = command(target, state, HOME, k * STEP, OPEN)
        assert notes == () and np.allclose(sent, target, rtol=0, atol=1e-9)
