"""ADR: how bounds move, by hand, then that it wins where it is smooth and fails where it is not."""

from functools import partial

import numpy as np
import pytest
from gymnasium.spaces import Discrete
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

from kit.curricula import adr
from kit.curricula.adr import ADR, Config
from kit.curricula.loop import run
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback
from kit.curricula.worlds.cube import CHALLENGES, CubeWorld


def make(seed, **settings):
    return ADR(SPACE, Config(**{"start": (0.5, 0.5)} | settings), seed=seed)


def probe(teacher, side, axis, returns):
    """Ask until there are probes of that bound, and tell these returns for them; nothing else is told."""
    for ret in returns:
        while True:
            task = teacher.ask()[0]
            note = teacher._open[task.id][1]
            if note and note[:2] == [side, axis]:
                break
        teacher.tell(Feedback(task.id, ret))


@pytest.mark.parametrize(
    ("side", "mean", "expected"),
    [(0, 0.9, 0.3), (0, 0.66, 0.3), (0, 0.5, 0.4), (0, 0.3, 0.5), (1, 0.9, 0.7), (1, 0.5, 0.6), (1, 0.1, 0.5)],
)
def test_bounds_move_by_hand(side, mean, expected):
    assert adr.next_bound(np.array([0.4, 0.6]), side, mean, Config()) == pytest.approx(expected)


def test_bounds_stay_in_the_cube_and_do_not_pass_each_other():
    bounds, cfg = np.array([0.04, 0.97]), Config()
    assert adr.next_bound(bounds, 0, 1.0, cfg) == 0 and adr.next_bound(bounds, 1, 1.0, cfg) == 1
    close = np.array([0.50, 0.55])
    assert adr.next_bound(close, 0, 0.0, cfg) == 0.55 and adr.next_bound(close, 1, 0.0, cfg) == 0.5
    assert adr.next_bound(close, 1, -5.0, Config(t_low=-np.inf)) == 0.55, "it never shrinks"


def test_a_bound_grows_and_shrinks_after_its_own_probes_only():
    teacher = make(0, probes=3)
    probe(teacher, 1, 0, [1.0, 1.0])
    np.testing.assert_array_equal(teacher.box, [[0.5, 0.5], [0.5, 0.5]])
    probe(teacher, 1, 0, [0.1])
    np.testing.assert_allclose(teacher.box, [[0.5, 0.5], [0.6, 0.5]], err_msg="the mean of the three is 0.7")
    probe(teacher, 0, 1, [1.0, 1.0, 1.0])
    np.testing.assert_allclose(teacher.box, [[0.5, 0.4], [0.6, 0.5]])
    probe(teacher, 1, 0, [0.0, 0.0, 0.0])
    np.testing.assert_allclose(teacher.box, [[0.5, 0.4], [0.5, 0.5]])
    probe(teacher, 1, 0, [0.5, 0.5, 0.5, 1.0, 1.0])
    np.testing.assert_allclose(teacher.box[1, 0], 0.5, err_msg="the queue was emptied after three")


def test_an_empty_box_does_not_grow_on_both_sides_from_the_same_episodes():
    """All tasks are at the start, each on all four bounds: yet ten good ones for one bound move that one alone."""
    teacher = make(0)
    assert {tuple(task.point) for task in teacher.ask(200)} == {(0.5, 0.5)}
    probe(teacher, 1, 0, [1.0] * 10)
    np.testing.assert_allclose(teacher.box, [[0.5, 0.5], [0.6, 0.5]])
    assert [len(q) for side in teacher.queues for q in side] == [0, 0, 0, 0]


def test_tasks_that_probe_nothing_move_nothing():
    teacher = make(0, probe_share=0.0)
    play(teacher, 200, ret=lambda *_: 1.0)
    np.testing.assert_array_equal(teacher.box, [[0.5, 0.5], [0.5, 0.5]])


def test_a_bound_that_is_no_round_number_is_probed_as_well():
    teacher = make(0, start=(1 / 3, 0.7), step=0.07)
    play(teacher, 3000, ret=lambda *_: 1.0)
    np.testing.assert_array_equal(teacher.box, [[0, 0], [1, 1]])


def test_probes_of_a_bound_that_has_moved_do_not_count():
    """Of 400 tasks asked for at once about fifty probe each bound; they move it once, not five times."""
    teacher = make(0)
    teacher.tell([Feedback(task.id, 1.0) for task in teacher.ask(400)])
    np.testing.assert_allclose(teacher.box, [[0.4, 0.4], [0.6, 0.6]])


def test_probes_lie_on_the_bounds_and_other_tasks_inside():
    teacher = make(0, start=(0.3, 0.3))
    teacher.box = np.array([[0.2, 0.3], [0.6, 0.4]])
    points = np.array([task.point for task in teacher.ask(8000)])
    on = np.array([[(points[:, a] == teacher.box[s, a]).mean() for a in range(2)] for s in range(2)])
    np.testing.assert_allclose(on, 0.5 / 4, atol=0.015)
    assert (points >= teacher.box[0]).all() and (points <= teacher.box[1]).all()


@pytest.mark.parametrize(("t_low", "expected"), [(0.3, {0, 1}), (-np.inf, {1})])
def test_an_open_axis_is_probed_only_if_it_may_shrink_again(t_low, expected):
    teacher = make(0, t_low=t_low)
    teacher.box = np.array([[0.0, 0.4], [1.0, 1.0]])
    notes = [teacher._open[task.id][1] for task in teacher.ask(400)]
    assert {note[1] for note in notes if note} == expected
    assert np.mean([note is not None for note in notes]) == pytest.approx(0.5, abs=0.06)
    teacher.box = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert any(teacher._open[task.id][1] for task in teacher.ask(100)) == (0 in expected)


def test_a_discrete_space():
    teacher = ADR(Space(level=Discrete(5)), Config(start=(0.1,)), seed=0)
    assert {task.values["level"] for task in teacher.ask(50)} == {0}
    play(teacher, 2000, ret=lambda point, time: float(point[0] < 0.6))
    levels = {task.values["level"] for task in teacher.ask(200)}
    assert {0, 1, 2} <= levels <= {0, 1, 2, 3}, "the hard side is probed, not passed"


def test_density_is_the_box():
    teacher = make(0)
    density = density_integrates_to_one(teacher)
    assert density.max() == pytest.approx(1 / 0.1**2), "a point is shown one step wide"
    teacher.box = np.array([[0.2, 0.0], [0.6, 0.05]])
    density = density_integrates_to_one(teacher).reshape(400, 400)
    assert density[10, 200] == pytest.approx(1 / (0.4 * 0.1)) and density[10, 300] == density[60, 200] == 0


def test_the_start_is_drawn_where_none_is_given():
    starts = np.array([ADR(SPACE, seed=seed).box for seed in (0, 0, 1)])
    assert (starts[0] == starts[1]).all() and (starts[0] != starts[2]).all() and (starts[:, 0] == starts[:, 1]).all()


def test_density_of_choices():
    teacher = ADR(CHOICES, Config(start=(0.1, 0.9)), seed=0)
    density_is_the_share_of_every_choice(teacher)
    teacher.box = np.array([[0.1, 0.3], [0.6, 1.0]])
    density_is_the_share_of_every_choice(teacher)


def test_restore_goes_on_identically():
    goes_on_identically(make)
    goes_on_identically(partial(make, start=None))


def test_seed_0_is_a_seed():
    seeds_differ_and_repeat(partial(make, start=None))


def test_feedback_may_be_bad_late_or_lost():
    bad_feedback_changes_nothing(make)
    late_and_lost_feedback(make)


def test_it_needs_a_space():
    needs_a_space(ADR(cfg=Config(start=(0.5, 0.5))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": (0.5, 1.5)}, "start is"),
        ({"step": 0.0}, "step is 0.0"),
        ({"probes": 0}, "probes 0"),
        ({"t_low": 0.8}, "t_low is 0.8"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_a_start_of_another_size_is_refused():
    with pytest.raises(ValueError, match="of 3 coordinates; the space has 2"):
        ADR(SPACE, Config(start=(0.1, 0.1, 0.1)))


@pytest.mark.parametrize(("challenge", "least", "most"), [("base", 0.1, 1.0), ("rugged", 0.0, 0.02)])
def test_it_masters_a_smooth_world_and_not_a_rugged_one(challenge, least, most):
    world = CubeWorld(CHALLENGES[challenge], seed=0)
    cfg = Config(start=(0.05, 0.05), t_high=0.75, t_low=-np.inf)
    shares = [m["mastered"] for m in run(ADR(world.space, cfg, seed=0), world, 4_000, batch=10)]
    assert least <= shares[-1] <= most
