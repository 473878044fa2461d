import json
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from kit.curricula.loop import run
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback, RandomTeacher, Teacher

SPACE = Space(x=Box(0, 1, (2,)), k=Discrete(3))


class Remembers(Teacher):
    """Draws near the best task so far, and keeps all returns: enough state to lose."""

    def start(self) -> None:
        self.best, self.returns = np.full(self.space.size, 0.5), []

    def propose(self, n: int):
        noise = self.rng.normal(0, 0.1, (n, self.space.size))
        return self.best + noise, [{"asked": i} for i in range(n)]

    def learn(self, point: np.ndarray, feedback: Feedback, note: Any) -> None:
        if not self.returns or feedback.ret > max(self.returns):
            self.best = point
        self.returns.append(feedback.ret)

    def density(self, grid: np.ndarray) -> np.ndarray:
        return np.ones(len(grid))

    def memory(self) -> dict[str, Any]:
        return {"best": self.best, "returns": self.returns}

    def restore(self, memory: dict[str, Any]) -> None:
        self.best, self.returns = np.asarray(memory["best"]), list(memory["returns"])


def play(teacher, rounds, rng):
    """Some rounds with shuffled feedback; the points asked for."""
    seen = []
    for _ in range(rounds):
        tasks = teacher.ask(5)
        seen += [t.point for t in tasks]
        order = rng.permutation(5)
        teacher.tell([Feedback(tasks[i].id, float(tasks[i].point[0])) for i in order])
    return np.array(seen)


def frozen(teacher) -> str:
    return json.dumps(teacher.state_dict(), default=lambda a: a.tolist(), sort_keys=True)


def test_feedback_reaches_the_task_it_names_in_any_order():
    teacher = Remembers(SPACE, seed=0)
    tasks = teacher.ask(4)
    teacher.tell([Feedback(tasks[2].id, 5.0), Feedback(tasks[0].id, 1.0)])
    assert teacher.best is not None and np.array_equal(teacher.best, tasks[2].point)
    teacher.tell(Feedback(tasks[3].id, 9.0))
    assert np.array_equal(teacher.best, tasks[3].point)
    assert teacher.returns == [5.0, 1.0, 9.0]


def test_a_restored_teacher_goes_on_identically(tmp_path):
    one = Remembers(SPACE, seed=0)
    play(one, 5, np.random.default_rng(0))
    waiting = one.ask(2)
    one.save(tmp_path / "teacher.json")
    other = Remembers(SPACE, seed=99)
    other.load(tmp_path / "teacher.json")
    for teacher in (one, other):
        teacher.tell([Feedback(waiting[1].id, 3.0), Feedback(waiting[0].id, 4.0)])
    assert np.array_equal(play(one, 20, np.random.default_rng(1)), play(other, 20, np.random.default_rng(1)))
    assert frozen(one) == frozen(other)


def test_seed_zero_is_a_seed():
    points = [RandomTeacher(SPACE, seed=s).ask(1)[0].point for s in (0, 0, 1)]
    assert np.array_equal(points[0], points[1]) and not np.array_equal(points[0], points[2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda i: [Feedback(i, 1.0), Feedback(77, 1.0)], "task 77, which is not open"),
        (lambda i: [Feedback(i, 1.0), Feedback(i, 1.0)], f"task {0}, which is not open"),
        (lambda i: [Feedback(i, float("nan"))], "'ret' of task 0 is nan"),
        (lambda i: [Feedback(i, float("inf"))], "'ret' of task 0 is inf"),
    ],
)
def test_bad_feedback_leaves_the_teacher_as_it_was(make, message):
    teacher = Remembers(SPACE, seed=0)
    task = teacher.ask(1)[0]
    before = frozen(teacher)
    with pytest.raises(ValueError, match=message):
        teacher.tell(make(task.id))
    assert frozen(teacher) == before
    teacher.tell(Feedback(task.id, 1.0))  # and it can still be told the truth
    with pytest.raises(ValueError, match="not open"):
        teacher.tell(Feedback(task.id, 1.0))


def test_feedback_without_what_the_method_needs():
    class Needy(RandomTeacher):
        needs = frozenset({"ret", "pvl"})

    teacher = Needy(SPACE, seed=0)
    task = teacher.ask()[0]
    with pytest.raises(ValueError, match="no 'pvl'; Needy needs it"):
        teacher.tell(Feedback(task.id, 1.0))


def test_a_teacher_without_a_space_says_so():
    teacher = RandomTeacher(seed=0)
    with pytest.raises(RuntimeError, match="no task space yet"):
        teacher.ask()
    teacher.space = SPACE
    assert len(teacher.ask(3)) == 3
    with pytest.raises(RuntimeError, match="already has the space"):
        teacher.space = SPACE
    with pytest.raises(ValueError, match="asked for 0 tasks"):
        teacher.ask(0)


def test_a_state_of_another_space_or_teacher_is_refused():
    state = Remembers(SPACE, seed=0).state_dict()
    other = Remembers(Space(x=Box(0, 2, (2,)), k=Discrete(3)), seed=0)
    before = frozen(other)
    with pytest.raises(ValueError, match="belongs to the space"):
        other.load_state_dict(state)
    assert frozen(other) == before
    with pytest.raises(ValueError, match="state of a Remembers, not of a RandomTeacher"):
        RandomTeacher(SPACE, seed=0).load_state_dict(state)


def test_dropped_tasks_are_forgotten():
    teacher = RandomTeacher(SPACE, seed=0)
    task = teacher.ask()[0]
    teacher.drop([task.id, 1234])
    assert teacher.state_dict()["open"] == []
    with pytest.raises(ValueError, match="not open"):
        teacher.tell(Feedback(task.id, 0.0))


def test_the_loop_asks_plays_and_tells():
    class World:
        space = SPACE
        played = 0

        def play(self, tasks):
            self.played += len(tasks)
            return [Feedback(t.id, float(t.point[0])) for t in reversed(tasks)]

        def score(self):
            return min(self.played / 10, 1.0)

    teacher = Remembers(SPACE, seed=0)
    rows = list(run(teacher, World(), 10, batch=4))
    assert [r["episodes"] for r in rows] == [4, 8, 10]
    assert rows[-1]["progress"] == 1 and rows[-1]["mastered"] == 1 and rows[-1].agent is teacher
    assert len(teacher.returns) == 10
