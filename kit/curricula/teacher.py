"""What every teacher is: `ask` for tasks, `tell` what came of them.

    teacher = ALPGMM(space, seed=0)
    tasks = teacher.ask(8)
    teacher.tell([Feedback(task.id, ret) for task, ret in zip(tasks, returns)])

Feedback names its task by id and may come in any order, late, or never (`drop` forgets a task that nobody played). A
teacher checks all of a call's feedback before it learns from any, so that bad feedback leaves it as it was. A method
writes `propose` and `learn`, and says in `needs` which of the feedback's numbers it uses.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kit.checkpoints import write_whole
from kit.curricula.space import Space, Task

Points = np.ndarray  # tasks as points of the unit cube, (n, d)


@dataclass(frozen=True)
class Feedback:
    """What came of one whole episode on a task. Only completed episodes are scored."""

    task_id: int
    ret: float  # undiscounted return
    success: bool | None = None
    value: float | None = None  # V(s_0)
    mean_value: float | None = None  # mean over the episode's steps of V(s_t)
    pvl: float | None = None  # positive value loss: mean of max(A_t, 0)
    abs_advantage: float | None = None  # mean of |A_t|
    regret: float | None = None  # a stronger student's return minus this one's
    length: int | None = None  # steps


class Teacher(ABC):
    """A curriculum. `ask` and `tell` do the bookkeeping; `propose` and `learn` are the method.

    `state_dict` holds arrays and what JSON can hold; a teacher restored from it goes on identically. `save` and `load`
    keep it in a file.
    """

    needs: frozenset[str] = frozenset({"ret"})

    def __init__(self, space: Space | None = None, *, seed: int = 0):
        self._space = space
        self.rng = np.random.default_rng(seed)
        self._open: dict[int, tuple[np.ndarray, Any]] = {}  # asked and not yet told: id -> (point, note)
        self._next_id = 0
        if space is not None:
            self.start()

    # ---- what a method writes --------------------------------------------------------------------------------------

    def start(self) -> None:  # noqa: B027  (a method without memory has nothing to prepare)
        """Set up memory; the space is known now."""

    @abstractmethod
    def propose(self, n: int) -> Points | tuple[Points, Sequence[Any]]:
        """The next n points (n, d), maybe with a JSON-able note for each, which comes back in `learn`."""

    @abstractmethod
    def learn(self, point: np.ndarray, feedback: Feedback, note: Any) -> None:
        """Take in one episode on the task at `point` (d,)."""

    @abstractmethod
    def density(self, grid: Points) -> np.ndarray:
        """Where tasks are drawn now: density (m,) at points (m, d); the uniform density over the cube is 1.

        For a discrete space it is the probability times the number of tasks.
        """

    def memory(self) -> dict[str, Any]:
        """What the method remembers: arrays, and what JSON can hold."""
        return {}

    def restore(self, memory: dict[str, Any]) -> None:  # noqa: B027
        """Take `memory` back; its arrays may have become lists on the way through a file."""

    def trains(self, note: Any) -> bool:
        """Whether the student should learn from an episode with this note."""
        return True

    # ---- bookkeeping -----------------------------------------------------------------------------------------------

    @property
    def space(self) -> Space:
        if self._space is None:
            raise RuntimeError(f"{type(self).__name__} has no task space yet; pass one, or set teacher.space first")
        return self._space

    @space.setter
    def space(self, space: Space) -> None:
        if self._space is not None:
            raise RuntimeError(f"{type(self).__name__} already has the space {self._space}; make a new teacher instead")
        self._space = space
        self.start()

    def ask(self, n: int = 1) -> list[Task]:
        """The next n tasks."""
        if n < 1:
            raise ValueError(f"asked for {n} tasks; at least 1 is needed")
        space = self.space
        proposal = self.propose(n)
        points, notes = proposal if isinstance(proposal, tuple) else (proposal, [None] * n)
        points = space.snap(points)
        ids = range(self._next_id, self._next_id + n)
        self._next_id += n
        self._open.update(zip(ids, zip(points, notes, strict=True), strict=True))
        rows = zip(ids, points, space.decode(points), notes, strict=True)
        return [Task(i, point, values, self.trains(note)) for i, point, values, note in rows]

    def tell(self, feedback: Feedback | Iterable[Feedback]) -> None:
        """Learn from finished episodes, in the order given.

        Raises:
            ValueError: an unknown or repeated task id, a number that is missing or not finite. Nothing was learned.
        """
        batch = [feedback] if isinstance(feedback, Feedback) else list(feedback)
        self._check(batch)
        for fb in batch:
            point, note = self._open.pop(fb.task_id)
            self.learn(point, fb, note)

    def drop(self, task_ids: Iterable[int]) -> None:
        """Forget tasks whose episodes will never finish."""
        for task_id in task_ids:
            self._open.pop(task_id, None)

    def _check(self, batch: list[Feedback]) -> None:
        seen: set[int] = set()
        for fb in batch:
            if fb.task_id not in self._open or fb.task_id in seen:
                raise ValueError(
                    f"feedback for task {fb.task_id}, which is not open; each task is told once, after ask"
                )
            seen.add(fb.task_id)
            for name in self.needs:
                value = getattr(fb, name)
                if value is None:
                    raise ValueError(f"feedback for task {fb.task_id} has no {name!r}; {type(self).__name__} needs it")
                if not np.isfinite(value):
                    raise ValueError(f"{name!r} of task {fb.task_id} is {value}; it must be finite")

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next `ask` and `tell` depend on."""
        opened = [{"id": i, "point": p.tolist(), "note": note} for i, (p, note) in self._open.items()]
        return {
            "teacher": type(self).__name__,
            "space": self.space.spec(),
            "rng": self.rng.bit_generator.state,
            "open": opened,
            "next_id": self._next_id,
            "memory": self.memory(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ValueError: the state is of another teacher or another space. Nothing was changed.
        """
        if state["teacher"] != type(self).__name__:
            raise ValueError(f"this is the state of a {state['teacher']}, not of a {type(self).__name__}")
        if state["space"] != self.space.spec():
            raise ValueError(f"this state belongs to the space {state['space']}; this teacher has {self.space.spec()}")
        self.restore(state["memory"])
        self.rng.bit_generator.state = state["rng"]
        self._open = {o["id"]: (np.array(o["point"]), o["note"]) for o in state["open"]}
        self._next_id = state["next_id"]

    def save(self, path: str | Path) -> None:
        """Write `state_dict` as JSON; an interrupt leaves the old file or the new one."""
        write_whole(Path(path), json.dumps(self.state_dict(), default=lambda array: array.tolist()).encode())

    def load(self, path: str | Path) -> None:
        """Go on where `save` was called."""
        self.load_state_dict(json.loads(Path(path).read_bytes()))


class RandomTeacher(Teacher):
    """Uniform over the task space: domain randomisation, and the baseline of every other teacher."""

    def propose(self, n: int) -> Points:
        return self.space.sample(self.rng, n)

    def learn(self, point: np.ndarray, feedback: Feedback, note: Any) -> None:
        pass

    def density(self, grid: Points) -> np.ndarray:
        return np.ones(len(grid))
