"""Prioritized level replay: its weights against numbers worked out by hand, its buffer rule by rule, its state."""

import itertools

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from kit.curricula.plr import PLR, Config, LevelBuffer, level_weights, max_mc, rank_weights, staleness_weights
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback

SCORES, LAST = (0.9, 0.5, 0.4, 0.1, 0.0), (10, 8, 2, 9, 5)
LINE = Space(task=Discrete(10))
SQUARE = Space(x=Box(0, 1), y=Box(-2, 2))


def play(teacher: PLR, batches: int, n: int = 4, scale: float = 1.0) -> list:
    """Rounds with feedback that depends on the level only; the tasks, as (point, trains)."""
    seen = []
    for _ in range(batches):
        tasks = teacher.ask(n)
        seen += [(task.point.tolist(), task.trains) for task in tasks]
        numbers = [float(scale * np.sin(17 * task.point.sum()) ** 2) for task in tasks]
        teacher.tell([Feedback(t.id, v, mean_value=v / 2, pvl=v) for t, v in zip(tasks, numbers, strict=True)][::-1])
    return seen


# ---- the pieces -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beta", "rho", "expected", "digits"),
    [
        (0.3, 0.0, (0.8776, 0.0871, 0.0225, 0.0086, 0.0041), 4),
        (0.3, 0.3, (0.6144, 0.0985, 0.1658, 0.0248, 0.0966), 4),
        (1.0, 0.5, (0.219, 0.172, 0.323, 0.086, 0.200), 3),
    ],
)
def test_level_weights_by_hand(beta, rho, expected, digits):
    np.testing.assert_allclose(level_weights(SCORES, LAST, 10, beta, rho), expected, atol=0.5 * 10**-digits)


def test_rank_weights_equal_the_definition():
    scores = np.random.default_rng(0).normal(size=30)
    ranks = [1 + sum(other > s for other in scores) for s in scores]
    expected = np.array([(1 / rank) ** (1 / 0.4) for rank in ranks])
    np.testing.assert_allclose(rank_weights(scores, 0.4), expected / expected.sum())


def test_only_the_order_of_scores_counts():
    """MaxMC may be negative: shares of a sum would be wrong there, ranks are not."""
    scores = np.random.default_rng(1).normal(size=12)
    for same_order in (scores - 100, 7 * scores, np.exp(scores), -1 / (scores - scores.min() + 1)):
        np.testing.assert_allclose(rank_weights(same_order, 0.3), rank_weights(scores, 0.3))
    assert max_mc(best_return=-2.0, mean_value=-1.5) == -0.5
    assert level_weights([-0.5, -3.0], [0, 0], 0, 0.3, 0.3).min() > 0


def test_equal_scores_get_the_mean_of_what_an_order_would_give():
    orders = np.array([(1.0, *rest) for rest in itertools.permutations((0.3, 0.2, 0.1))])
    mean = np.mean([rank_weights(scores, 0.5) for scores in orders], axis=0)
    np.testing.assert_allclose(rank_weights(np.array([1.0, 0, 0, 0]), 0.5), mean)


def test_temperature_limits():
    np.testing.assert_allclose(rank_weights(SCORES, np.inf), 0.2)
    np.testing.assert_allclose(rank_weights(SCORES, 0.01), [1, 0, 0, 0, 0], atol=1e-12)


def test_staleness():
    np.testing.assert_allclose(staleness_weights(LAST, 10), np.array([0, 2, 8, 1, 5]) / 16)
    np.testing.assert_allclose(staleness_weights(np.full(4, 7), 7), 0.25, err_msg="all visited now: uniform")


# ---- the buffer -----------------------------------------------------------------------------------------------


def test_buffer_rules():
    buffer = LevelBuffer(1, Config(capacity=3, rho=0.0))
    for i, score in enumerate((0.5, 0.1, 0.9)):
        assert buffer.insert(np.array([i / 10]), score, score, now=0), "room for all"
    assert not buffer.insert(np.array([0.7]), 0.1, 0.1, now=1), "equal to the least is not better"
    assert buffer.find(np.array([0.7])) is None and buffer.find(np.array([0.1])) == 1
    assert buffer.insert(np.array([0.7]), 0.2, 0.3, now=1)
    assert buffer.find(np.array([0.1])) is None and buffer.find(np.array([0.7])) == 1
    np.testing.assert_array_equal(buffer.points.ravel(), [0, 0.7, 0.2])
    np.testing.assert_array_equal(buffer.scores, [0.5, 0.2, 0.9])
    np.testing.assert_array_equal(buffer.best_returns, [0.5, 0.3, 0.9])
    np.testing.assert_array_equal(buffer.last_visits, [0, 1, 0])
    assert len(buffer) == 3


def test_a_newcomer_is_compared_with_the_level_of_least_weight_not_of_least_score():
    buffer = LevelBuffer(1, Config(capacity=2, rho=1.0))
    buffer.insert(np.array([0.1]), 0.0, 0.0, now=0)  # the worst score, but stale
    buffer.insert(np.array([0.2]), 0.5, 0.5, now=9)
    assert not buffer.insert(np.array([0.3]), 0.4, 0.4, now=10)
    assert buffer.insert(np.array([0.3]), 0.6, 0.6, now=10)
    assert buffer.find(np.array([0.2])) is None and buffer.find(np.array([0.1])) is not None


def test_zero_has_no_sign():
    buffer = LevelBuffer(1, Config(capacity=2))
    buffer.insert(np.array([-0.0]), 1.0, 1.0, now=0)
    assert buffer.find(np.array([0.0])) == 0


# ---- the teacher ----------------------------------------------------------------------------------------------


def test_a_level_seen_again_is_updated_not_added():
    teacher = PLR(LINE, Config(capacity=10), seed=0, generator=lambda space, rng, n: np.full((n, 1), 0.35))
    first, second = teacher.ask(2)
    teacher.tell(Feedback(first.id, 3.0, pvl=0.8))
    teacher.tell(Feedback(second.id, 1.0, pvl=0.2))
    assert len(teacher.buffer) == 1
    assert teacher.buffer.scores[0] == 0.2, "the score is the latest"
    assert teacher.buffer.best_returns[0] == 3.0, "the return is the best"


@pytest.mark.parametrize(("score", "expected"), [("pvl", 0.1), ("abs_advantage", 0.2), ("regret", 0.3)])
def test_scores_are_read_from_the_feedback(score, expected):
    teacher = PLR(LINE, Config(capacity=10, score=score), seed=0)
    teacher.tell(Feedback(teacher.ask()[0].id, 1.0, pvl=0.1, abs_advantage=0.2, regret=0.3))
    assert teacher.buffer.scores[0] == expected


def test_max_mc_remembers_the_best_return_of_the_level():
    teacher = PLR(LINE, Config(capacity=10, score="max_mc"), seed=0, generator=lambda s, rng, n: np.full((n, 1), 0.35))
    scores = []
    for task, ret in zip(teacher.ask(3), (0.2, 1.0, -1.0), strict=True):
        teacher.tell(Feedback(task.id, ret, mean_value=0.5))
        scores.append(teacher.buffer.scores[0])
    np.testing.assert_allclose(scores, [0.2 - 0.5, 1.0 - 0.5, 1.0 - 0.5])


def test_no_replay_before_the_buffer_is_full_enough():
    teacher = PLR(SQUARE, Config(capacity=20, fill=0.5, replay=1.0), seed=0)
    while len(teacher.buffer) < 10:
        assert not teacher.buffer.ready and (teacher.density(SQUARE.sample(teacher.rng, 5)) == 1).all()
        task = teacher.ask()[0]
        assert teacher.buffer.find(task.point) is None
        teacher.tell(Feedback(task.id, 0.0, pvl=0.5))
    known = {point.tobytes() for point in teacher.buffer.points}
    assert all(task.point.tobytes() in known for task in teacher.ask(50))


def test_replay_draws_by_weight_and_counts_as_a_visit():
    cfg = Config(capacity=5, replay=1.0, fill=1.0)
    teacher = PLR(Space(task=Discrete(5)), cfg, seed=0)
    for point, score, last in zip(teacher.space.points(), SCORES, LAST, strict=True):
        teacher.buffer.insert(point, score, score, last)
    n = 40_000
    teacher.clock = 10
    expected = teacher.buffer.weights(10)
    rows = np.floor(teacher.sample_replay_levels(n).ravel() * 5).astype(int)
    shares = np.bincount(rows, minlength=5) / n
    assert np.abs(shares - expected).max() < 4 * np.sqrt(0.25 / n)
    assert (teacher.buffer.last_visits == 10).all()


def test_time_is_counted_in_tasks():
    teacher = PLR(SQUARE, Config(capacity=10), seed=0)
    first, *_ = teacher.ask(3)
    late = teacher.ask()[0]
    teacher.tell(Feedback(first.id, 0.0, pvl=0.5))
    teacher.ask(6)
    teacher.tell(Feedback(late.id, 0.0, pvl=0.4))
    np.testing.assert_array_equal(teacher.buffer.last_visits, [4, 10])


def test_share_of_replays():
    teacher = PLR(SQUARE, Config(capacity=10, replay=0.3), seed=0)
    play(teacher, 5)
    notes = []
    for _ in range(2000):
        task = teacher.ask()[0]
        notes.append(teacher._open[task.id][1])
        teacher.drop([task.id])
    assert abs(np.mean([note == "replay" for note in notes]) - 0.3) < 4 * np.sqrt(0.21 / 2000)


@pytest.mark.parametrize("robust", [False, True])
def test_robust_trains_on_replayed_levels_only(robust):
    teacher = PLR(SQUARE, Config(capacity=10, robust=robust), seed=0)
    known, kinds = set(), set()
    for _ in range(60):
        tasks = teacher.ask(3)
        replayed = {task.point.tobytes() in known for task in tasks}
        assert len(replayed) == 1, "a batch is one or the other"
        assert {task.trains for task in tasks} == ({True} if not robust else replayed)
        kinds |= replayed
        teacher.tell([Feedback(task.id, 0.0, pvl=float(task.point[0])) for task in tasks])
        known |= {point.tobytes() for point in teacher.buffer.points}
    assert kinds == {False, True}
    assert not teacher.trains("something else")


def test_the_buffer_keeps_the_levels_of_large_score():
    teacher = PLR(SQUARE, Config(capacity=20, replay=0.0, rho=0.0), seed=0)
    told = []
    for _ in range(300):
        task = teacher.ask()[0]
        told.append(task.point[0])
        teacher.tell(Feedback(task.id, 0.0, pvl=float(task.point[0])))
    np.testing.assert_allclose(np.sort(teacher.buffer.scores), np.sort(told)[-20:])


def test_grids_of_many_coordinates():
    space = Space(walls=MultiDiscrete([2] * 49), start=Discrete(49), goal=Discrete(49))
    teacher = PLR(space, Config(capacity=30, replay=0.9), seed=0)
    play(teacher, 100)
    assert len(teacher.buffer) == 30 and teacher.buffer.points.shape == (30, 51)
    density = teacher.density(teacher.buffer.points)
    np.testing.assert_allclose(density, 0.1 + 0.9 * teacher.buffer.weights(teacher.clock) * space.count)


def test_density_is_what_is_drawn():
    teacher = PLR(LINE, Config(capacity=8), seed=0)
    play(teacher, 20)
    density = teacher.density(LINE.points())
    assert density.mean() == pytest.approx(1)
    counts = np.zeros(10)
    state = teacher.state_dict()
    for seed in range(2000):
        teacher.load_state_dict(state)
        teacher.rng = np.random.default_rng(seed)
        teacher.clock -= 1  # ask counts itself; the density is of now
        counts[int(teacher.ask()[0].point[0] * 10)] += 1
    assert np.abs(counts / 2000 - density / 10).max() < 4 * np.sqrt(0.25 / 2000)
    grid = (np.indices((8, 8)).reshape(2, -1).T + 0.5) / 8
    continuous = PLR(SQUARE, Config(capacity=8), seed=0)
    play(continuous, 20)
    assert continuous.density(grid).mean() == pytest.approx(1)


@pytest.mark.parametrize("space", [LINE, SQUARE])
def test_goes_on_identically_from_a_file(tmp_path, space):
    cfg = Config(capacity=8, score="max_mc")
    teacher = PLR(space, cfg, seed=0)
    play(teacher, 15)
    waiting = teacher.ask(3)
    teacher.save(tmp_path / "plr.json")
    other = PLR(space, cfg, seed=9)
    other.load(tmp_path / "plr.json")
    for t in (teacher, other):
        t.tell([Feedback(task.id, 0.5, mean_value=0.1) for task in waiting])
    assert play(other, 20) == play(teacher, 20)
    np.testing.assert_equal(other.state_dict(), teacher.state_dict())


def test_seeds():
    runs = [play(PLR(SQUARE, Config(capacity=8), seed=seed), 10) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_loading_into_a_smaller_buffer_changes_nothing():
    teacher, small = PLR(SQUARE, Config(capacity=8), seed=0), PLR(SQUARE, Config(capacity=4), seed=1)
    play(teacher, 10)
    before = small.state_dict()
    with pytest.raises(ValueError, match="8 levels and this one holds 4; raise capacity"):
        small.load_state_dict(teacher.state_dict())
    np.testing.assert_equal(small.state_dict(), before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Config(replay=1.5), r"replay is 1\.5.*0\.\.1"),
        (lambda: Config(rho=-0.1), r"rho is -0\.1"),
        (lambda: Config(beta=0), "beta 0; both must be above 0"),
        (lambda: Config(capacity=0), "capacity is 0"),
        (lambda: Config(score="td"), "'td'.*max_mc"),
        (lambda: PLR(LINE), "2000 levels.*only 10; lower capacity or fill"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_missing_score_is_refused():
    teacher = PLR(LINE, Config(capacity=10, score="max_mc"), seed=0)
    with pytest.raises(ValueError, match="no 'mean_value'; PLR needs it"):
        teacher.tell(Feedback(teacher.ask()[0].id, 1.0, pvl=0.3))
    assert len(teacher.buffer) == 0
