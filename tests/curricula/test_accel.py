"""ACCEL: who is edited, how, and that complexity compounds."""

import json

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary

from kit.curricula import accel
from kit.curricula.accel import ACCEL, Config
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback
from kit.curricula.worlds.mazes import CELLS, MazeSpace, empty_rooms, shortest

SPACE = MazeSpace(25)
SMALL = Config(capacity=64, fill=0.5, beta=0.3)


def changed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Number of coordinates (n,) in which points differ."""
    return (a != b).sum(axis=1)


def play(teacher: ACCEL, tasks, rng) -> None:
    """A student that has most regret where the walls are many."""
    for task in tasks:
        walls = task.values["walls"].sum()
        teacher.tell(Feedback(task.id, ret=float(rng.random()), pvl=walls / CELLS + 0.01 * float(rng.random())))


def advance(teacher: ACCEL, note: str, rng, batch: int = 16) -> list:
    """Play until a batch with this note was asked; return it unplayed."""
    for _ in range(200):
        tasks = teacher.ask(batch)
        if teacher._open[tasks[0].id][1] == note:
            return tasks
        play(teacher, tasks, rng)
    raise AssertionError(f"no batch {note!r} in 200")


def test_easiest_by_hand():
    returns, scores = [0.9, 0.5, 0.9, 0.0], [0.3, 0.0, 0.1, 0.0]
    assert accel.easiest(returns, scores, 4).tolist() == [2, 0, 1, 3]
    assert accel.easiest(returns, scores, 1).tolist() == [2]
    assert accel.easiest([1, 1, 1], [0, 0, 0], 2).tolist() == [0, 1], "equal ones keep their order"


def test_mutation_changes_every_level_in_so_many_coordinates():
    space = Space(bits=MultiBinary(20), k=Discrete(9))
    points = space.sample(np.random.default_rng(0), 300)
    for edits in (1, 3, 7):
        children = accel.mutate(points, space, edits, 0.1, np.random.default_rng(1))
        assert (changed(points, children) == edits).all()
        np.testing.assert_array_equal(space.snap(children), children)


def test_an_edited_choice_takes_all_other_values_alike():
    space = Space(k=Discrete(5))
    parents = np.repeat(space.encode([{"k": 3}]), 8000, axis=0)
    children = accel.mutate(parents, space, 1, 0.1, np.random.default_rng(0))
    counts = np.bincount([v["k"] for v in space.decode(children)], minlength=5)
    assert counts[3] == 0
    assert abs(counts[[0, 1, 2, 4]] - 2000).max() < 5 * np.sqrt(2000)


def test_an_edited_number_moves_by_a_normal_step_and_stays_in_the_cube():
    space = Space(x=Box(-2, 2), y=Box(0, 1))
    parents = np.full((4000, 2), 0.5)
    children = accel.mutate(parents, space, 1, 0.1, np.random.default_rng(0))
    moved = children[children != 0.5] - 0.5
    assert len(moved) == 4000 and abs(moved.std() - 0.1) < 0.01
    edge = accel.mutate(np.ones((50, 2)), space, 2, 5.0, np.random.default_rng(0))
    assert edge.min() >= 0 and edge.max() <= 1


def test_mazes_are_all_edited_and_stay_valid():
    points = SPACE.sample(np.random.default_rng(0), 500)
    children = accel.mutate(points, SPACE, 3, 0.1, np.random.default_rng(1))
    assert (changed(points, children) > 0).all()
    np.testing.assert_array_equal(SPACE.snap(children), children)


def test_new_levels_are_the_generators():
    teacher = ACCEL(SPACE, SMALL, generator=empty_rooms)
    levels = SPACE.levels_of(np.array([task.point for task in teacher.ask(20)]))
    assert levels.walls.sum() == 0 and np.isfinite(shortest(levels)).all()
    assert len(np.unique(levels.start)) > 5


def test_children_of_the_easiest_follow_replay_and_never_train():
    rng, teacher = np.random.default_rng(0), ACCEL(SPACE, SMALL, generator=empty_rooms)
    replayed = advance(teacher, "replay", rng)
    assert all(task.trains for task in replayed)
    best = {3, 11}
    feedback = [Feedback(t.id, ret=1.0 if i in best else 0.2, pvl=0.1 + 0.001 * i) for i, t in enumerate(replayed)]
    teacher.tell(feedback)
    children = teacher.ask(16)
    assert not any(task.trains for task in children)
    parents = [replayed[3].point, replayed[11].point]  # an eighth of 16
    for i, child in enumerate(children):
        assert 0 < (child.point != parents[i % 2]).sum() <= 3 + 1, "three edits, and perhaps the start made way"
    play(teacher, children, rng)
    assert teacher.replayed == [], "children have no children at once"
    assert any(teacher.buffer.find(child.point) is not None for child in children)


def test_all_replayed_levels_are_parents_if_asked():
    rng, teacher = np.random.default_rng(0), ACCEL(SPACE, Config(capacity=64, easiest=1.0), generator=empty_rooms)
    replayed = advance(teacher, "replay", rng)
    play(teacher, replayed, rng)
    parents = np.array([task.point for task in replayed])
    children = np.array([task.point for task in teacher.ask(16)])
    nearest = (children[:, None] != parents[None]).sum(axis=2)
    assert (nearest.min(axis=1) <= 4).all() and (nearest.min(axis=1) > 0).all()
    rows = {int(i) for i in nearest.argmin(axis=1)}
    assert len({parents[i].tobytes() for i in rows}) == len({p.tobytes() for p in parents})


@pytest.mark.parametrize("stop", ["replay", "mutation", "new"])
def test_a_restored_teacher_goes_on_identically(stop, tmp_path):
    rng, teacher = np.random.default_rng(0), ACCEL(SPACE, SMALL, generator=empty_rooms)
    play(teacher, advance(teacher, stop, rng), rng)
    teacher.save(tmp_path / "teacher.json")
    other = ACCEL(SPACE, SMALL, generator=empty_rooms, seed=5)
    other.load(tmp_path / "teacher.json")
    json.dumps(teacher.memory(), default=lambda array: array.tolist())
    for _ in range(6):
        state = rng.bit_generator.state
        pairs = []
        for t in (teacher, other):
            rng.bit_generator.state = state
            tasks = t.ask(8)
            pairs.append(np.array([task.point for task in tasks]))
            play(t, tasks, rng)
        np.testing.assert_array_equal(*pairs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"edits": 0}, "edits is 0"), ({"easiest": 0.0}, "easiest is 0.0"), ({"replay": 2.0}, "replay is 2.0")],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_complexity_compounds_where_regret_grows_with_walls():
    rng, teacher = np.random.default_rng(0), ACCEL(SPACE, SMALL, generator=empty_rooms)
    walls = []
    for _ in range(120):
        play(teacher, teacher.ask(16), rng)
        walls.append(SPACE.levels_of(teacher.buffer.points).walls.sum(axis=1).mean())
    assert walls[2] == 0
    assert walls[-1] > walls[60] > walls[20] and walls[-1] > 15
