"""What every teacher must do, as checks that the tests of each one call. `make(seed)` gives a new teacher."""

import json

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from kit.curricula.space import Space
from kit.curricula.teacher import Feedback

SPACE = Space(x=Box(-2.0, 6.0, (1,)), y=Box(0.0, 100.0, (1,)))
CHOICES = Space(x=Discrete(4), y=Discrete(3))


def skill(point, time):
    """A return in 0..1 that grows with time, first near the corner."""
    return float(1 / (1 + np.exp(4 * point.sum() - time / 100)))


def play(teacher, episodes, *, batch=1, start=0, ret=skill):
    """Points (episodes, d) that the teacher chose; each task is told at once, or `batch` together."""
    points = []
    for time in range(start, start + episodes, batch):
        tasks = teacher.ask(min(batch, start + episodes - time))
        points += [task.point for task in tasks]
        teacher.tell([Feedback(task.id, ret(task.point, time)) for task in tasks])
    return np.array(points)


def text(state):
    """A state as JSON."""
    return json.dumps(state, default=lambda array: array.tolist())


def goes_on_identically(make, before=330, after=330):
    """State -> JSON -> a new teacher of another seed: the same tasks from then on, with tasks open in between."""
    teacher = make(0)
    play(teacher, before)
    opened = teacher.ask(5)
    saved = text(teacher.state_dict())
    other = make(7)
    other.load_state_dict(json.loads(saved))
    assert text(other.state_dict()) == saved
    for each in (teacher, other):
        each.tell([Feedback(task.id, 0.5) for task in reversed(opened)])
    one, two = play(teacher, after, start=before), play(other, after, start=before)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(play(teacher, 64, batch=64), play(other, 64, batch=64))
    assert text(teacher.state_dict()) == text(other.state_dict())


def seeds_differ_and_repeat(make, episodes=330):
    zero, again, one = (play(make(seed), episodes) for seed in (0, 0, 1))
    np.testing.assert_array_equal(zero, again)
    assert not np.isclose(zero, one).all(axis=1).any()


def bad_feedback_changes_nothing(make, played=60):
    teacher = make(0)
    play(teacher, played)
    good, bad = teacher.ask(2)
    before = text(teacher.state_dict())
    for feedback, message in (
        ([Feedback(good.id, 1.0), Feedback(bad.id, float("nan"))], "'ret' of task .* is nan"),
        ([Feedback(good.id, 1.0), Feedback(10**6, 1.0)], "task 1000000, which is not open"),
        ([Feedback(good.id, 1.0), Feedback(good.id, 1.0)], "not open; each task is told once"),
    ):
        with pytest.raises(ValueError, match=message):
            teacher.tell(feedback)
        assert text(teacher.state_dict()) == before
    teacher.tell([Feedback(bad.id, 1.0), Feedback(good.id, 1.0)])
    assert text(teacher.state_dict()) != before


def late_and_lost_feedback(make, rounds=40):
    """Twenty tasks at a time, told in any order and rounds later; some never come back."""
    teacher, rng = make(0), np.random.default_rng(0)
    waiting = []
    for time in range(rounds):
        waiting += teacher.ask(20)
        rng.shuffle(waiting)
        lost, told, waiting = waiting[:2], waiting[2:20], waiting[20:]
        teacher.drop(task.id for task in lost)
        teacher.tell([Feedback(task.id, skill(task.point, 18 * time)) for task in told])
    state = json.loads(text(teacher.state_dict()))
    assert state["next_id"] == 20 * rounds and len(state["open"]) == len(waiting) == 0
    points = np.array([task.point for task in teacher.ask(100)])
    assert points.shape == (100, 2) and (points >= 0).all() and (points <= 1).all()


def needs_a_space(teacher):
    """`teacher` was made without one."""
    with pytest.raises(RuntimeError, match="no task space yet"):
        teacher.ask()
    teacher.space = SPACE
    assert set(teacher.ask()[0].values) == {"x", "y"}


def density_integrates_to_one(teacher, n=400, within=0.01):
    """By the midpoint rule over the unit square."""
    middle = (np.arange(n) + 0.5) / n
    grid = np.stack(np.meshgrid(middle, middle), axis=-1).reshape(-1, 2)
    density = teacher.density(grid)
    assert density.shape == (n * n,) and (density >= 0).all()
    assert density.mean() == pytest.approx(1, abs=within)
    return density


def density_is_the_share_of_every_choice(teacher, n=6000, within=0.025):
    """On `CHOICES`: probability times the number of tasks, against the share of n tasks."""
    density = teacher.density(CHOICES.points())
    assert density.mean() == pytest.approx(1, abs=1e-6)
    bins = [tuple(task.values.values()) for task in teacher.ask(n)]
    shares = [bins.count((x, y)) / n for x in range(4) for y in range(3)]
    np.testing.assert_allclose(density / 12, shares, atol=within)
