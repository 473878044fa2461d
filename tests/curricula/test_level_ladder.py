"""Terrain levels: the rule as a table, the lanes, and where a ladder settles."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from kit.curricula.level_ladder import Config, LevelLadder, next_level
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback

STAIRS = Space(colour=Discrete(3), height=Box(0, 2))
ROWS = Space(row=Discrete(6, start=1))


@pytest.mark.parametrize(
    ("level", "ret", "expected"),
    [(3, 4.1, 4), (3, 4.0, 3), (3, 2.0, 3), (3, 1.9, 2), (0, 0.0, 0), (5, 0.0, 4)],
)
def test_the_rule(level, ret, expected):
    cfg, rng = Config(up=4.0, down=2.0), np.random.default_rng(0)
    assert next_level(level, ret, 6, cfg, rng) == expected


def test_above_the_last_level():
    rng = np.random.default_rng(0)
    assert next_level(5, 1.0, 6, Config(wrap=False), rng) == 5
    counts = np.bincount([next_level(5, 1.0, 6, Config(), rng) for _ in range(6000)], minlength=6)
    assert len(counts) == 6 and np.abs(counts / 6000 - 1 / 6).max() < 4 * np.sqrt(5 / 36 / 6000)


def test_each_lane_has_its_own_level():
    teacher = LevelLadder(ROWS, Config(lanes=3), seed=0)
    assert [task.values["row"] for task in teacher.ask(3)] == [1, 1, 1]
    teacher.tell([Feedback(i, ret) for i, ret in ((2, 1.0), (0, 0.0), (1, 0.5))])
    np.testing.assert_array_equal(teacher.lanes, [0, 0, 1])
    tasks = teacher.ask(3)
    assert [task.values["row"] for task in tasks] == [1, 1, 2]
    teacher.tell(Feedback(tasks[2].id, 1.0))
    assert teacher.ask()[0].values["row"] == 3, "the free lane is served first"


def test_dropped_tasks_free_their_lane():
    teacher = LevelLadder(ROWS, Config(lanes=2), seed=0)
    first, _ = teacher.ask(2)
    teacher.drop([first.id])
    task = teacher.ask()[0]
    assert teacher._open[task.id][1] == 0


def test_a_student_alone_climbs_and_may_have_many_tasks_open():
    teacher = LevelLadder(ROWS, seed=0)
    tasks = teacher.ask(4)
    teacher.tell([Feedback(task.id, 1.0) for task in tasks])
    assert teacher.lanes.tolist() == [4]


def test_it_settles_where_the_student_succeeds_as_often_as_not():
    """Success with chance 1 - level / 9: up and down balance at level 4.5."""
    teacher, rng = LevelLadder(Space(row=Discrete(10)), Config(lanes=200), seed=0), np.random.default_rng(0)
    for _ in range(60):
        tasks = teacher.ask(200)
        teacher.tell([Feedback(t.id, float(rng.random() > t.values["row"] / 9)) for t in tasks])
    assert abs(teacher.lanes.mean() - 4.5) < 0.5


def test_the_difficulty_may_be_any_field_and_others_stay_uniform():
    teacher = LevelLadder(STAIRS, Config(field="height", levels=4, lanes=2), seed=0)
    teacher.lanes[:] = 0, 3
    tasks = teacher.ask(400)
    heights = np.array([task.values["height"].item() for task in tasks])
    assert heights[::2].min() >= 0 and heights[::2].max() < 0.5 and heights[1::2].min() >= 1.5
    assert np.bincount([task.values["colour"] for task in tasks]).min() > 90
    density = teacher.density(np.array([[0.5, 0.1], [0.5, 0.3], [0.5, 0.9], [0.5, 1.0]]))
    np.testing.assert_allclose(density, [2, 0, 2, 2])


def test_first_levels():
    teacher = LevelLadder(ROWS, Config(lanes=500, first=2), seed=0)
    assert set(teacher.lanes.tolist()) == {0, 1, 2}


def test_goes_on_identically_from_a_file(tmp_path):
    def play(teacher):
        seen = []
        for _ in range(30):
            tasks = teacher.ask(3)
            seen += [task.point.tolist() for task in tasks]
            teacher.tell([Feedback(t.id, float(np.sin(t.id) > -0.5)) for t in tasks])
        return seen

    teacher, other = (LevelLadder(STAIRS, Config(field="height", lanes=3), seed=seed) for seed in (0, 3))
    play(teacher)
    waiting = teacher.ask(2)
    teacher.save(tmp_path / "ladder.json")
    other.load(tmp_path / "ladder.json")
    for t in (teacher, other):
        t.tell([Feedback(task.id, 1.0) for task in waiting])
    assert play(other) == play(teacher)
    np.testing.assert_equal(other.state_dict(), teacher.state_dict())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Config(levels=1), "levels is 1"),
        (lambda: Config(lanes=0), "lanes 0"),
        (lambda: Config(up=0.2, down=0.4), r"down is 0\.4, above up = 0\.2"),
        (lambda: LevelLadder(ROWS, Config(field="slope")), "no field 'slope'; it has row"),
        (lambda: LevelLadder(ROWS, Config(first=6)), r"first is 6; the levels are 0\.\.5"),
        (lambda: LevelLadder(Space(x=Box(0, 1, (2,)))), "'x' has 2 coordinates"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_state_of_another_number_of_lanes():
    teacher, other = LevelLadder(ROWS, Config(lanes=2), seed=0), LevelLadder(ROWS, seed=0)
    with pytest.raises(ValueError, match="2 lanes and lanes is 1"):
        other.load_state_dict(teacher.state_dict())
    assert other.lanes.tolist() == [0]
