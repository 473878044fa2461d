"""Sampling for learnability: the variance of the outcome, the order of a round, and what counts as a probe."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from kit.curricula.learnability import Config, Learnability, learnability, most_learnable
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback

LINE = Space(task=Discrete(20))
SQUARE = Space(x=Box(0, 1), y=Box(0, 1))
SMALL = Config(levels=10, tries=4, keep=3, period=30)


def tell(teacher: Learnability, tasks: list, rng: np.random.Generator) -> None:
    """The chance of success is the first coordinate."""
    teacher.tell([Feedback(task.id, 0.0, success=bool(rng.random() < task.point[0])) for task in tasks])


def play(teacher: Learnability, batches: int) -> list:
    seen = []
    for _ in range(batches):
        tasks = teacher.ask(4)
        seen += [(task.point.tolist(), task.trains) for task in tasks]
        tell(teacher, tasks, np.random.default_rng(tasks[0].id))
    return seen


def test_learnability_is_the_variance_of_the_outcome():
    outcomes = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_allclose(learnability(outcomes.sum(axis=1), np.full(4, 4)), outcomes.var(axis=1))
    np.testing.assert_allclose(learnability([0, 4, 0], [4, 4, 0], prior=1.0), [5 / 36, 5 / 36, 0])


def test_the_prior_changes_no_order_at_equal_tries():
    successes, tries = np.arange(9), np.full(9, 8)
    plain, shrunk = (learnability(successes, tries, prior) for prior in (0.0, 1.0))
    np.testing.assert_array_equal(np.sign(np.subtract.outer(plain, plain)), np.sign(np.subtract.outer(shrunk, shrunk)))
    assert np.ptp(shrunk) < np.ptp(plain)


def test_most_learnable():
    np.testing.assert_array_equal(most_learnable(np.array([0.1, 0.25, 0, 0.2]), 2), [1, 3])
    np.testing.assert_array_equal(most_learnable(np.array([0.1, 0.25, 0, 0.2]), 4), [1, 3, 0])
    assert len(most_learnable(np.zeros(4), 4)) == 0, "what teaches nothing is not kept"


def test_a_round():
    teacher, rng = Learnability(LINE, SMALL, seed=0), np.random.default_rng(0)
    probes = teacher.ask(40)
    assert not any(task.trains for task in probes)
    for row in range(10):
        assert len({task.values["task"] for task in probes[row::10]}) == 1, "each level is tried four times"
    tell(teacher, probes, rng)
    np.testing.assert_array_equal(teacher.tries, 4)
    expected = most_learnable(learnability(teacher.successes, teacher.tries), 3)
    np.testing.assert_array_equal(teacher.kept(), teacher.points[expected])
    before = teacher.successes.copy()
    training = teacher.ask(30)
    assert all(task.trains for task in training)
    tell(teacher, training, rng)
    np.testing.assert_array_equal(teacher.successes, before, err_msg="training episodes are no probes")
    assert not teacher.ask()[0].trains and teacher.round == 2


def test_half_of_the_training_is_on_kept_levels():
    teacher = Learnability(SQUARE, Config(levels=10, tries=4, keep=3, period=4000), seed=0)
    tell(teacher, teacher.ask(40), np.random.default_rng(0))
    kept = {point.tobytes() for point in teacher.kept()}
    assert len(kept) == 3
    hits = [task.point.tobytes() in kept for task in teacher.ask(4000)]
    assert abs(np.mean(hits) - 0.5) < 4 * np.sqrt(0.25 / 4000)


def test_it_finds_the_levels_that_are_solved_half_of_the_time():
    teacher = Learnability(SQUARE, Config(levels=200, tries=40, keep=10, period=1), seed=0)
    tell(teacher, teacher.ask(8000), np.random.default_rng(1))
    chance = teacher.kept()[:, 0]
    assert np.abs(chance - 0.5).max() < 0.25 and abs(chance.mean() - 0.5) < 0.1


def test_late_and_lost_probes():
    teacher = Learnability(SQUARE, SMALL, seed=0)
    probes = teacher.ask(40)
    assert all(task.trains for task in teacher.ask(20)), "it does not wait"
    assert (teacher.density(SQUARE.sample(teacher.rng, 3)) == 1).all(), "uniform while no probe has come back"
    teacher.tell([Feedback(probes[i].id, 0.0, success=i == 0) for i in (0, 10)])
    np.testing.assert_array_equal(teacher.kept(), [probes[0].point])
    teacher.drop(task.id for task in probes[1:10])
    teacher.ask(11)  # the next round begins
    teacher.tell(Feedback(probes[11].id, 0.0, success=True))
    assert teacher.round == 2 and (teacher.tries == 0).all(), "a probe of the last round says nothing about this one"


def test_density():
    teacher = Learnability(LINE, SMALL, seed=3)
    tell(teacher, teacher.ask(40), np.random.default_rng(0))
    density = teacher.density(LINE.points())
    assert density.mean() == pytest.approx(1)
    kept = np.unique(teacher.kept())
    expected = 0.5 + 0.5 * 20 / len(kept) * np.isin(LINE.points().ravel(), kept)
    np.testing.assert_allclose(density, expected)


@pytest.mark.parametrize("space", [LINE, SQUARE])
def test_goes_on_identically_from_a_file(tmp_path, space):
    teacher, other = Learnability(space, SMALL, seed=0), Learnability(space, SMALL, seed=4)
    play(teacher, 7)
    waiting = teacher.ask(3)
    teacher.save(tmp_path / "sfl.json")
    other.load(tmp_path / "sfl.json")
    for t in (teacher, other):
        t.tell([Feedback(task.id, 1.0, success=True) for task in waiting])
    assert play(other, 30) == play(teacher, 30)
    np.testing.assert_equal(other.state_dict(), teacher.state_dict())


def test_a_fresh_teacher_can_be_saved(tmp_path):
    teacher = Learnability(SQUARE, SMALL, seed=0)
    teacher.save(tmp_path / "sfl.json")
    other = Learnability(SQUARE, SMALL, seed=1)
    other.load(tmp_path / "sfl.json")
    assert play(other, 20) == play(teacher, 20)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Config(tries=0), "tries is 0"),
        (lambda: Config(levels=5, keep=6), "keep is 6, of 5 levels"),
        (lambda: Config(kept_share=1.2), r"kept_share is 1\.2"),
        (lambda: Config(prior=-1), "prior -1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_state_of_another_number_of_levels():
    teacher, other = Learnability(SQUARE, SMALL, seed=0), Learnability(SQUARE, seed=0)
    play(teacher, 2)
    with pytest.raises(ValueError, match="probes 10 levels and levels is 100"):
        other.load_state_dict(teacher.state_dict())
    assert other.round == 0


def test_success_is_needed():
    teacher = Learnability(SQUARE, SMALL, seed=0)
    with pytest.raises(ValueError, match="no 'success'"):
        teacher.tell(Feedback(teacher.ask()[0].id, 1.0))
    assert (teacher.tries == 0).all()
