"""The oracle: its window by hand, then that it teaches what lies on its path."""

from functools import partial

import numpy as np
import pytest
from teacher_contract import (
    CHOICES,
    SPACE,
    bad_feedback_changes_nothing,
    density_integrates_to_one,
    density_is_the_share_of_every_choice,
    goes_on_identically,
    late_and_lost_feedback,
    needs_a_space,
    play,
    seeds_differ_and_repeat,
)

from kit.curricula import oracle
from kit.curricula.loop import run
from kit.curricula.oracle import Config, OracleTeacher
from kit.curricula.teacher import Feedback
from kit.curricula.worlds.cube import CHALLENGES, CubeWorld


def make(seed, **settings):
    return OracleTeacher(SPACE, Config(**settings), seed=seed)


def test_the_window_by_hand():
    low, step = np.array([0.2, 0.8]), np.array([0.1, 0.1])
    move = partial(oracle.next_window, low, step, 1 / 6, threshold=0.5)
    np.testing.assert_allclose(move(0.6), [0.3, 5 / 6], err_msg="it stops at the face")
    np.testing.assert_array_equal(move(0.5), low)


def test_it_starts_where_its_steps_lead_away_from():
    np.testing.assert_allclose(make(0, step=(0.1, -0.2)).low, [0, 5 / 6])
    np.testing.assert_allclose(make(0, start=(0.3, 0.95)).low, [0.3, 5 / 6])


def test_it_moves_after_fifty_good_tasks_and_not_after_bad_ones():
    teacher = make(0, step=(0.1, 0.0))
    points = play(teacher, 50, ret=lambda *_: 1.0)
    assert points.max() <= 1 / 6 and points.max() > 0.15
    np.testing.assert_allclose(teacher.low, [0.1, 0])
    play(teacher, 50, ret=lambda *_: 0.5)
    play(teacher, 49, ret=lambda *_: 1.0)
    np.testing.assert_allclose(teacher.low, [0.1, 0])
    play(teacher, 1, ret=lambda *_: 1.0)
    np.testing.assert_allclose(teacher.low, [0.2, 0])


def test_tasks_of_a_window_that_has_moved_do_not_count():
    teacher = make(0, step=0.1)
    teacher.tell([Feedback(task.id, 1.0) for task in teacher.ask(200)])
    np.testing.assert_allclose(teacher.low, [0.1, 0.1])


def test_density_is_the_window():
    teacher = make(0, start=(0.3, 0.5))
    density = density_integrates_to_one(teacher, n=600).reshape(600, 600)
    assert density[330, 200] == pytest.approx(36) and density[200, 330] == 0


def test_density_of_choices():
    density_is_the_share_of_every_choice(OracleTeacher(CHOICES, Config(start=(0.2, 0.3)), seed=0))


def test_restore_goes_on_identically():
    goes_on_identically(make)
    goes_on_identically(partial(make, episodes=7, threshold=0.1))


def test_seed_0_is_a_seed():
    seeds_differ_and_repeat(make)


def test_feedback_may_be_bad_late_or_lost():
    bad_feedback_changes_nothing(make)
    late_and_lost_feedback(make)


def test_it_needs_a_space():
    needs_a_space(OracleTeacher())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0.0}, "width is 0.0"),
        ({"episodes": 0}, "episodes 0"),
        ({"step": float("nan")}, "step is nan"),
        ({"return_range": (1.0, 0.0)}, "return_range is"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


@pytest.mark.parametrize("settings", [{"step": (0.1, 0.1, 0.1)}, {"start": (0.0,)}])
def test_settings_of_another_size_are_refused(settings):
    with pytest.raises(ValueError, match="coordinates; the space has 2"):
        make(0, **settings)


@pytest.mark.parametrize(("challenge", "least", "most"), [("base", 0.15, 0.4), ("rugged", 0.0, 0.02)])
def test_it_masters_the_diagonal_of_a_smooth_world_and_nothing_of_a_rugged_one(challenge, least, most):
    world = CubeWorld(CHALLENGES[challenge], seed=0)
    teacher = OracleTeacher(world.space, Config(threshold=0.75), seed=0)
    assert least <= [m["mastered"] for m in run(teacher, world, 5_000, batch=10)][-1] <= most
