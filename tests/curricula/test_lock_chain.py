"""The lock: its student's gradient against finite differences, its feedback, and the order of its teachers."""

import itertools

import numpy as np
import pytest
from scipy.special import softmax

from kit.curricula import plr
from kit.curricula.learning_progress import LearningProgress
from kit.curricula.loop import run
from kit.curricula.space import Task
from kit.curricula.teacher import RandomTeacher
from kit.curricula.worlds.lock_chain import (
    Config,
    LockChain,
    OracleCurriculum,
    SoftminReturn,
    TargetOnly,
    chances,
    policy_gradient,
)

TINY = Config(length=3, symbols=3, tasks=12, unsolvable=0.5)


def tasks_of(world: LockChain, which: list[int], trains: bool = True) -> list[Task]:
    points = world.space.points()[which]
    return [Task(i, points[i], {"task": int(j)}, trains) for i, j in enumerate(which)]


def final_score(teacher, world: LockChain) -> float:
    for _ in run(teacher, world, 24_000, batch=16):
        pass
    return 12 * world.score()


def test_chances_equal_an_enumeration():
    pi = softmax(np.random.default_rng(0).normal(size=(3, 4)), axis=1)
    key = np.array([2, 0, 3])
    expected = np.zeros(3)
    for guess in itertools.product(range(4), repeat=3):
        p = np.prod(pi[np.arange(3), guess])
        expected += p * np.cumprod(np.array(guess) == key)
    np.testing.assert_allclose(chances(pi, key), expected)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_gradient_equals_finite_differences(length):
    """The mean of the estimate over all guesses, each as often as it happens, is the gradient of the chance."""
    theta, key = np.random.default_rng(1).normal(size=(3, 3)), np.array([1, 2, 0])
    pi, baseline = softmax(theta, axis=1), 0.37
    total = np.zeros_like(theta)
    for guess in itertools.product(range(3), repeat=3):
        p = np.prod(pi[np.arange(3), guess])
        ret = float((np.array(guess) == key)[:length].all())
        total += p * policy_gradient(pi, np.array([guess]), np.array([length]), np.array([ret - baseline]))
    expected = np.zeros_like(theta)
    for k, a in np.ndindex(*theta.shape):
        bump = np.zeros_like(theta)
        bump[k, a] = 1e-6
        up, down = (chances(softmax(theta + s * bump, axis=1), key)[length - 1] for s in (1, -1))
        expected[k, a] = (up - down) / 2e-6
    np.testing.assert_allclose(total, expected, atol=1e-8)


def test_gradient_of_a_batch_is_the_mean():
    rng = np.random.default_rng(2)
    pi = softmax(rng.normal(size=(3, 3)), axis=1)
    actions, lengths, advantages = rng.integers(3, size=(5, 3)), rng.integers(1, 4, size=5), rng.normal(size=5)
    rows = [policy_gradient(pi, actions[[i]], lengths[[i]], advantages[[i]]) for i in range(5)]
    np.testing.assert_allclose(policy_gradient(pi, actions, lengths, advantages), np.mean(rows, axis=0))


def test_what_a_world_holds():
    world = LockChain(seed=0)
    assert world.solvable.sum() == 48 and world.space.count == 240
    np.testing.assert_array_equal(np.bincount(world.lengths[world.solvable], minlength=13)[1:], 4)
    np.testing.assert_array_equal(np.bincount(world.lengths, minlength=13)[1:], 20)
    np.testing.assert_allclose(world.chances(), 0.25 ** np.arange(1, 13))
    assert world.score() == 0
    assert not np.array_equal(world.lengths, LockChain(seed=1).lengths)


def test_rewards_come_as_often_as_the_chances_say():
    world = LockChain(TINY, seed=0)
    world.theta = np.random.default_rng(0).normal(size=(3, 3))
    opened = np.array(
        [[fb.ret for fb in world.play(tasks_of(world, list(range(12)), trains=False))] for _ in range(4000)]
    )
    expected = np.where(world.solvable, world.chances()[world.lengths - 1], 0)
    assert np.abs(opened.mean(axis=0) - expected).max() < 4 * np.sqrt(0.25 / 4000)


def test_feedback_is_derived_from_the_baseline():
    world = LockChain(TINY, seed=0)
    easy = int(np.flatnonzero(world.solvable & (world.lengths == 1))[0])
    world.baseline[easy] = 0.4
    seen = set()
    for _ in range(30):
        (fb,) = world.play(tasks_of(world, [easy], trains=False))
        assert fb.success is (fb.ret == 1) and fb.value == fb.mean_value == 0.4 and fb.length == 1
        assert (fb.pvl, fb.abs_advantage) == pytest.approx((0.6, 0.6) if fb.success else (0, 0.4))
        seen.add(fb.success)
    assert seen == {True, False} and world.baseline[easy] == 0.4


def test_one_batch_by_hand():
    """Two episodes on one task and one that does not train: one step by the mean over two, the baseline moves twice."""
    world, twin = LockChain(TINY, seed=3), LockChain(TINY, seed=3)
    easy, other = np.flatnonzero(world.solvable & (world.lengths == 1))[:2].tolist()
    tasks = tasks_of(world, [easy, easy, other])
    tasks[2] = Task(2, tasks[2].point, tasks[2].values, trains=False)
    feedback = world.play(tasks)
    guesses = [int((u > np.cumsum([1 / 3] * 3)[:-1]).sum()) for u in twin.rng.random((3, 3))[:, 0]]
    assert [fb.ret for fb in feedback] == [float(g == world.key[0]) for g in guesses]
    expected = np.zeros((3, 3))
    b = 0.0
    for fb, guess in zip(feedback[:2], guesses[:2], strict=True):
        expected[0] += 0.5 * (fb.ret - 0.0) * (np.eye(3)[guess] - 1 / 3) / 2
        b += 0.2 * (fb.ret - b)
    np.testing.assert_allclose(world.theta, expected)
    assert world.trained == 2
    assert world.baseline[easy] == pytest.approx(b) and world.baseline[other] == 0


def test_probes_teach_nothing():
    world = LockChain(TINY, seed=0)
    for _ in range(20):
        world.play(tasks_of(world, list(range(12)), trains=False))
    assert not world.theta.any() and not world.baseline.any() and world.trained == 0


def test_seeds():
    def trace(seed):
        world = LockChain(TINY, seed=seed)
        return [m["return"] for m in run(RandomTeacher(world.space, seed=seed), world, 400, batch=8)], world.theta

    (a, theta_a), (b, theta_b), (c, _) = trace(0), trace(0), trace(1)
    assert a == b != c
    np.testing.assert_array_equal(theta_a, theta_b)


def test_privileged_teachers_know_what_they_should():
    world = LockChain(seed=0)
    target = TargetOnly(world, seed=0)
    chosen = [task.values["task"] for task in target.ask(50)]
    assert (world.lengths[chosen] == 12).all() and world.solvable[chosen].all()
    oracle = OracleCurriculum(world, seed=0)
    world.theta[np.arange(5), world.key[:5]] = 9.0
    chosen = [task.values["task"] for task in oracle.ask(50)]
    assert (world.lengths[chosen] == 6).all() and world.solvable[chosen].all()
    for teacher in (target, oracle):
        assert teacher.density(world.space.points()).mean() == pytest.approx(1)
    world.theta[np.arange(12), world.key] = 9.0
    assert (world.lengths[oracle.chosen()] == 12).all(), "at the end it stays at the target"


def test_the_adversary_goes_where_returns_are_low(tmp_path):
    world = LockChain(TINY, seed=0)
    teacher = SoftminReturn(world.space, temperature=0.1, seed=0)
    for _ in run(teacher, world, 4000, batch=8):
        pass
    density = teacher.density(world.space.points())
    assert density.mean() == pytest.approx(1)
    assert density[~world.solvable].min() > density[world.solvable & (world.lengths == 1)].max()
    teacher.save(tmp_path / "softmin.json")
    other = SoftminReturn(world.space, temperature=0.1, seed=7)
    other.load(tmp_path / "softmin.json")
    assert [t.values for t in other.ask(20)] == [t.values for t in teacher.ask(20)]


def test_the_order_of_the_teachers():
    """The whole key alone teaches nothing; who sees into the lock opens it; methods lie between."""
    makers = {
        "target": lambda w: TargetOnly(w, seed=0),
        "uniform": lambda w: RandomTeacher(w.space, seed=0),
        "plr": lambda w: plr.PLR(w.space, plr.Config(capacity=240), seed=0),
        "lp": lambda w: LearningProgress(w.space, seed=0),
        "oracle": lambda w: OracleCurriculum(w, seed=0),
    }
    score = {}
    for name, make in makers.items():
        world = LockChain(seed=0)
        score[name] = final_score(make(world), world)
    assert score["target"] == 0 and score["oracle"] == 12
    assert 0 < score["uniform"] < score["plr"] <= score["lp"] <= 12
    assert score["plr"] >= 2 * score["uniform"]


def test_too_few_tasks():
    with pytest.raises(ValueError, match=r"20 tasks with 0\.8 unsolvable leave 4 solvable ones.*raise tasks"):
        Config(tasks=20)
