"""RIAC: progress and cuts by hand, the tree against its definition, then that it teaches."""

from dataclasses import replace
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
    skill,
)

from kit.curricula import riac
from kit.curricula.history import History
from kit.curricula.loop import run
from kit.curricula.riac import RIAC, Config
from kit.curricula.worlds.cube import CubeWorld

LOW, HIGH = np.zeros(2), np.ones(2)


def make(seed, **settings):
    return RIAC(SPACE, Config(**settings), seed=seed)


def history(points, returns):
    return History.of(np.asarray(points), np.asarray(returns, float), size=2)


def test_progress_by_hand():
    assert riac.learning_progress(np.array([0.0, 0, 1, 1]), 200) == 1
    assert riac.learning_progress(np.array([1.0, 1, 0, 0]), 200) == 1, "falling returns count"
    assert riac.learning_progress(np.array([0.0, 1, 2]), 200) == 1.5, "of three the older half has two"
    assert riac.learning_progress(np.array([9.0, 9, 0, 0, 1, 1]), 4) == 1, "the window has the latest four"
    assert riac.learning_progress(np.array([0.0, 1]), 200) == 0


def test_split_score_by_hand():
    """Six episodes of progress 1 against four of progress 0: 6 * 4 * 1. The sizes count, not their number."""
    left, right = np.array([0.0, 0, 0, 1, 1, 1]), np.full(4, 0.5)
    assert riac.split_score(left, right, 200) == 24
    assert riac.split_score(left[1:-1], right, 200) == 16


def test_the_best_cut_parts_what_is_learnt_from_what_is_not():
    """Returns rise where x < 0.3 and nowhere else: of all cuts the best is at 0.3, across x."""
    rng = np.random.default_rng(0)
    points = rng.random((200, 2))
    returns = np.where(points[:, 0] < 0.3, np.linspace(0, 1, 200), 0.5)
    axis, threshold = riac.best_split(history(points, returns), LOW, HIGH, Config(tries=300), rng)
    assert axis == 0 and threshold == pytest.approx(0.3, abs=0.04)


def test_the_best_of_the_candidates_is_taken(monkeypatch):
    rng = np.random.default_rng(1)
    points, returns = rng.random((200, 2)), rng.random(200)
    axes, cuts = np.array([0, 1, 0, 1]), np.array([0.2, 0.4, 0.6, 0.8])
    monkeypatch.setattr(riac, "candidate_cuts", lambda *_: (axes, cuts))
    scores = []
    for axis, cut in zip(axes, cuts, strict=True):
        left = points[:, axis] < cut
        progress = [
            abs(r[: -(len(r) // 2)].mean() - r[-(len(r) // 2) :].mean()) for r in (returns[left], returns[~left])
        ]
        scores.append(left.sum() * (~left).sum() * abs(progress[0] - progress[1]))
    best = int(np.argmax(scores))
    assert riac.best_split(history(points, returns), LOW, HIGH, Config(), rng) == (axes[best], cuts[best])


def test_cuts_leave_room_and_episodes_on_both_sides():
    rng, cfg = np.random.default_rng(0), Config()
    points, low, high = rng.random((201, 2)) * [0.3, 1], np.zeros(2), np.array([0.3, 1.0])
    axes, cuts = riac.candidate_cuts(points, low, high, cfg, rng)
    assert 0 < len(axes) <= cfg.tries and set(axes) == {0, 1}
    assert (cuts - low[axes] >= 1 / 15).all() and (high[axes] - cuts >= 1 / 15).all()
    left = (points[:, axes] < cuts).sum(axis=0)
    assert left.min() >= 10 and (201 - left).min() >= 10
    assert len(riac.candidate_cuts(points, low, high, replace(cfg, min_side=0.4), rng)[0]) < len(axes)


def test_identical_tasks_do_not_hang_it_but_are_forgotten():
    teacher = make(0)
    teacher.propose = lambda n: np.full((n, 2), 0.5)
    play(teacher, 201)
    assert len(teacher.boxes) == 1 and len(teacher.boxes[0].history) == 201 - 50
    play(teacher, 300)
    assert len(teacher.boxes) == 1


@pytest.fixture(scope="module")
def grown():
    teacher = make(0, capacity=60)
    return teacher, play(teacher, 2000)


def test_leaves_tile_the_cube_and_hold_what_fell_into_them(grown):
    teacher, points = grown
    leaves = [box for box in teacher.boxes if box.cut is None]
    assert len(leaves) > 10 and sum(np.prod(leaf.high - leaf.low) for leaf in leaves) == pytest.approx(1)
    returns = np.array([skill(point, time) for time, point in enumerate(points)])
    for box in teacher.boxes:
        assert (box.high - box.low >= 1 / 15).all()
        inside = ((points >= box.low) & ((points < box.high) | (box.high == 1))).all(axis=1)
        n = len(box.history)
        assert 0 < n <= 61 and (box.cut is not None or n <= 60)
        np.testing.assert_array_equal(box.history.points, points[inside][-n:])
        np.testing.assert_array_equal(box.history.returns, returns[inside][-n:])


def test_every_boxes_progress_is_that_of_its_returns(grown):
    """Those of new boxes too: each has the progress of its own half of the best cut."""
    teacher, _ = grown
    expected = [riac.learning_progress(box.history.returns, 60) for box in teacher.boxes]
    np.testing.assert_array_equal(teacher.progress, expected)
    fresh = make(0, capacity=60)
    play(fresh, 61)
    assert len(fresh.boxes) == 3
    assert fresh.progress.tolist() == [riac.learning_progress(box.history.returns, 60) for box in fresh.boxes]


def test_a_path_leads_from_the_root_through_every_box_with_the_point(grown):
    teacher, _ = grown
    for point in np.random.default_rng(0).random((50, 2)):
        inside = [i for i, box in enumerate(teacher.boxes) if ((point >= box.low) & (point < box.high)).all()]
        assert sorted(teacher.path(point)) == inside
    assert teacher.boxes[teacher.path(np.ones(2))[-1]].cut is None


def test_tasks_come_from_boxes_by_progress_at_random_and_near_the_worst():
    teacher = make(0)
    left, right = riac.Box(LOW, HIGH, History(2)).halves(0, 0.5)
    left.history.add(np.array([0.25, 0.25]), 0.9)
    left.history.add(np.array([0.05, 0.75]), 0.1)
    teacher.boxes, teacher.progress = [left, right], np.array([1.0, 0.0])

    def points(**settings):
        teacher.cfg = Config(**settings)
        return np.array([task.point for task in teacher.ask(4000)])

    assert (points(uniform_share=1, worst_share=0)[:, 0] < 0.5).mean() == pytest.approx(0.5, abs=0.03)
    inside = points(uniform_share=0, worst_share=0)
    assert (inside[:, 0] < 0.5).all() and inside.mean(axis=0) == pytest.approx([0.25, 0.5], abs=0.02)
    near = points(uniform_share=0, worst_share=1)
    assert (near[:, 0] >= 0).all() and (near[:, 0] < 0.5).all(), "clipped to the box"
    assert near[:, 1].mean() == pytest.approx(0.75, abs=0.01) and near[:, 1].std() == pytest.approx(0.1, abs=0.01)
    mixed = points()
    assert (mixed[:, 0] >= 0.5).mean() == pytest.approx(0.2 / 2, abs=0.015)


def test_units_change_nothing():
    scaled = make(0, capacity=60, return_range=(-100.0, 300.0))
    one = play(make(0, capacity=60), 400)
    two = play(scaled, 400, ret=lambda point, time: 400 * skill(point, time) - 100)
    np.testing.assert_allclose(one, two, atol=1e-9)


def test_density_is_that_of_the_tasks(grown):
    assert (density_integrates_to_one(make(0)) == 1).all(), "before anything was told"
    teacher, _ = grown
    density = density_integrates_to_one(teacher, n=150).reshape(150, 150)
    points = np.array([task.point for task in teacher.ask(8_000)])
    drawn = np.histogram2d(points[:, 1], points[:, 0], bins=3, range=[[0, 1]] * 2)[0] / 8_000
    expected = density.reshape(3, 50, 3, 50).mean(axis=(1, 3)) / 9
    np.testing.assert_allclose(drawn, expected, atol=0.02)


def test_density_of_choices():
    teacher = RIAC(CHOICES, Config(capacity=40, min_side=0.1), seed=0)
    play(teacher, 400)
    assert len(teacher.boxes) > 3
    density_is_the_share_of_every_choice(teacher)


def test_restore_goes_on_identically():
    goes_on_identically(partial(make, capacity=60))
    goes_on_identically(make)


def test_seed_0_is_a_seed():
    seeds_differ_and_repeat(make)


def test_feedback_may_be_bad_late_or_lost():
    bad_feedback_changes_nothing(make)
    late_and_lost_feedback(partial(make, capacity=60))


def test_it_needs_a_space():
    needs_a_space(RIAC())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"capacity": 2}, "capacity is 2"),
        ({"min_side": 0.7}, "min_side is 0.7"),
        ({"forget": 0.001}, "forget 0.001"),
        ({"uniform_share": 0.8, "worst_share": 0.3}, "worst_share 0.3"),
        ({"sigma": 0.0}, "sigma is 0.0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_it_masters_more_than_uniform_tasks_can():
    world = CubeWorld()
    assert [m["mastered"] for m in run(RIAC(world.space, seed=0), world, 5_000, batch=5)][-1] >= 0.05
