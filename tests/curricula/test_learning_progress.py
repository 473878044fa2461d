"""Learning progress: numbers worked out by hand, the filter, and that what it says is never stale."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary

from kit.curricula.learning_progress import Config, LearningProgress, above_baseline, progress, reweight, shares
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback

FAST, SLOW = np.array([0.05, 0.2, 0.5, 0.9, 1]), np.array([0, 0.1, 0.45, 0.9, 1])
GRID = Space(kind=Discrete(3, start=2), flags=MultiBinary(2))


def tell_all(teacher: LearningProgress, success: np.ndarray) -> None:
    """One episode on every task, `success` (n,)."""
    teacher.propose = lambda n: teacher.space.points()
    tasks = teacher.ask(len(success))
    del teacher.propose
    teacher.tell([Feedback(t.id, float(s), success=bool(s)) for t, s in zip(tasks, success, strict=True)])


def play(teacher: LearningProgress, batches: int) -> list:
    seen = []
    for _ in range(batches):
        tasks = teacher.ask(4)
        seen += [task.point.tolist() for task in tasks]
        teacher.tell([Feedback(t.id, 0.0, success=bool(np.sin(99 * t.point.sum() + t.id) > 0)) for t in tasks])
    return seen


def test_numbers_by_hand():
    lp = progress(FAST, SLOW, theta=0.1)
    np.testing.assert_allclose(lp, [0.3214, 0.1923, 0.0196, 0, 0], atol=5e-5)
    np.testing.assert_allclose(shares(lp, FAST > 0), [0.3433, 0.2695, 0.1381, 0.1246, 0.1246], atol=5e-5)


def test_reweighting():
    np.testing.assert_allclose(reweight(np.array([0, 0.1, 1]), 0.1), [0, 0.5, 1])
    p = np.linspace(0, 1, 11)
    np.testing.assert_allclose(reweight(p, 0.5), p, err_msg="theta = 1/2 leaves p as it is")


def test_averages_by_hand():
    teacher = LearningProgress(Space(task=Discrete(1)), Config(alpha=0.5), seed=0)
    for success in (1, 0):
        tell_all(teacher, np.array([success]))
    assert teacher.p_fast[0] == 0.25 and teacher.p_slow[0] == 0.25  # fast 1/2, 1/4; slow 1/4, 1/4


def test_baseline():
    assert above_baseline(1.0, 0.25) == 1 and above_baseline(0.25, 0.25) == 0 and above_baseline(0, 0.5) == -1
    assert (progress(np.array([-0.3]), np.array([-0.1]), 0.1) == 0).all(), "worse than random is no progress"


def test_falling_success_is_progress_too():
    np.testing.assert_allclose(progress(SLOW, FAST, 0.1), progress(FAST, SLOW, 0.1))


def test_filter():
    lp = np.array([0.3, 0, 0, 0])
    weights = shares(lp, np.array([True, True, False, False]))
    assert (weights[2:] == 0).all() and weights[0] > weights[1] > 0
    padded = shares(np.append(progress(FAST, SLOW, 0.1), np.zeros(9)), np.append(FAST > 0, np.zeros(9, bool)))
    np.testing.assert_allclose(padded[:5], shares(progress(FAST, SLOW, 0.1), FAST > 0), err_msg="as if not there")
    np.testing.assert_allclose(shares(np.zeros(4), np.zeros(4, bool)), 0.25, err_msg="nobody qualifies: uniform")
    np.testing.assert_allclose(shares(np.full(3, 0.2), np.ones(3, bool)), 1 / 3, err_msg="no spread")


def test_impossible_tasks_get_little_after_two_evaluations():
    """15 skills that begin to succeed, 90 near-duplicates of them, 1,023 impossible tasks."""
    teacher = LearningProgress(Space(task=Discrete(1128)), Config(uniform=0.05), seed=0)
    possible = np.arange(1128) < 105
    assert teacher.probabilities()[possible].sum() == pytest.approx(105 / 1128), "at first it knows nothing"
    rng = np.random.default_rng(0)
    tell_all(teacher, possible & (rng.random(1128) < 0.3))
    tell_all(teacher, possible & (rng.random(1128) < 0.6))
    assert teacher.probabilities()[~possible].sum() <= 0.05
    assert teacher.probabilities()[~possible].sum() == pytest.approx(0.05 * 1023 / 1128)


def test_nothing_is_cached():
    """A filter on top, as in OMNI, must hold in every call, and new feedback must show in the next."""

    class Picky(LearningProgress):
        def interest(self):
            return (np.arange(12) < 6).astype(float)

    teacher = Picky(GRID, Config(uniform=0.0), seed=0)
    tell_all(teacher, np.ones(12))
    first = teacher.probabilities()
    np.testing.assert_array_equal(teacher.probabilities(), first)
    assert first[:6].sum() == pytest.approx(1) and (first[6:] == 0).all()
    assert set(teacher.index(np.array([task.point for task in teacher.ask(200)]))) <= set(range(6))
    tell_all(teacher, np.arange(12) == 0)
    assert not np.allclose(teacher.probabilities(), first) and (teacher.probabilities()[6:] == 0).all()
    assert (teacher.density(GRID.points())[6:] == 0).all()


def test_index_counts_as_the_space_does():
    teacher = LearningProgress(GRID, seed=0)
    np.testing.assert_array_equal(teacher.index(GRID.points()), np.arange(12))


def test_the_uniform_share():
    teacher = LearningProgress(GRID, Config(uniform=0.24), seed=0)
    tell_all(teacher, np.arange(12) == 3)
    p = teacher.probabilities()
    assert p.sum() == pytest.approx(1) and p[3] == pytest.approx(0.78)
    np.testing.assert_allclose(np.delete(p, 3), 0.02)
    np.testing.assert_allclose(teacher.density(GRID.points()), 12 * p)
    drawn = teacher.index(np.array([task.point for task in teacher.ask(4000)]))
    assert abs((drawn == 3).mean() - 0.78) < 4 * np.sqrt(0.78 * 0.22 / 4000)


def test_a_fast_learner_is_preferred():
    teacher = LearningProgress(Space(task=Discrete(3)), seed=0)
    rng = np.random.default_rng(0)
    for t in range(20):
        tell_all(teacher, rng.random(3) < (t / 20, 0.0, 1.0))  # learning, impossible, mastered
    p = teacher.probabilities()
    assert p[0] > p[2] > p[1]


def test_goes_on_identically_from_a_file(tmp_path):
    teacher, other = LearningProgress(GRID, seed=0), LearningProgress(GRID, seed=5)
    play(teacher, 30)
    waiting = teacher.ask(2)
    teacher.save(tmp_path / "lp.json")
    other.load(tmp_path / "lp.json")
    for t in (teacher, other):
        t.tell([Feedback(task.id, 1.0, success=True) for task in waiting])
    assert play(other, 20) == play(teacher, 20)
    np.testing.assert_equal(other.state_dict(), teacher.state_dict())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Config(alpha=0), "alpha is 0"),
        (lambda: Config(theta=1.0), r"theta 1\.0"),
        (lambda: Config(uniform=2), "uniform is 2"),
        (lambda: Config(baseline=1.0), r"baseline is 1\.0"),
        (lambda: LearningProgress(Space(x=Box(0, 1))), "'x' is continuous"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_success_is_needed():
    teacher = LearningProgress(GRID, seed=0)
    with pytest.raises(ValueError, match="no 'success'"):
        teacher.tell(Feedback(teacher.ask()[0].id, 1.0))
    assert (teacher.p_fast == 0).all()
