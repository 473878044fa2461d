"""The loop of every curriculum on a small world: ask, play, tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from kit.curricula.space import Space, Task
from kit.curricula.teacher import Feedback, Teacher
from kit.types import Metrics


class World(Protocol):
    """A student and the tasks that it can be given, in one object."""

    space: Space

    def play(self, tasks: list[Task]) -> list[Feedback]:
        """The student plays every task once, and learns from those that say so (`task.trains`)."""

    def score(self) -> float:
        """How much the student masters now, 0..1."""


def run(teacher: Teacher, world: World, episodes: int, *, batch: int = 1) -> Iterator[Metrics]:
    """Play `episodes` tasks of the teacher's choice, `batch` at a time; yield after each batch.

    Metrics: `episodes`, `progress` (0..1), `return` (mean of the batch), `mastered` (the world's score); the teacher
    is the agent.
    """
    for start in range(0, episodes, batch):
        tasks = teacher.ask(min(batch, episodes - start))
        feedback = world.play(tasks)
        teacher.tell(feedback)
        done = start + len(tasks)
        values = {
            "episodes": float(done),
            "progress": done / episodes,
            "return": float(np.mean([fb.ret for fb in feedback])),
            "mastered": world.score(),
        }
        yield Metrics(values, agent=teacher)
