"""Task spaces: named fields of numbers and choices, mapped to the unit cube and back.

    space = Space(height=Box(0, 0.4), count=Discrete(5))
    space.decode(points)   # (n, 2) in the unit cube -> [{"height": 0.12, "count": 3}, ...]

A teacher works in the unit cube only, so that no method ever mixes metres with counts. A choice among k values owns k
equal bins of its axis; its point is the middle of its bin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces


@dataclass(frozen=True)
class Task:
    """One task: a point (d,) of the unit cube, what it decodes to, and the number that feedback about it must name."""

    id: int
    point: np.ndarray
    values: dict[str, Any]
    trains: bool = True  # False: the student plays this episode without learning from it


class Space:
    """Named fields, each a `Box` of one axis or a `Discrete`/`MultiDiscrete`/`MultiBinary` space.

    `size` is the number of coordinates d. `choices` (d,) has the number of values of each coordinate, 0 where it is
    continuous.
    """

    def __init__(self, **fields: spaces.Space):
        if not fields:
            raise ValueError("a task space needs at least one field")
        self.fields = fields
        parts = [_axes(name, field) for name, field in fields.items()]
        self.low = np.concatenate([p[0] for p in parts])
        self.high = np.concatenate([p[1] for p in parts])
        self.choices = np.concatenate([p[2] for p in parts])
        self._cuts = np.cumsum([len(p[0]) for p in parts])

    @classmethod
    def of(cls, env: Any) -> Space:
        """The tasks of one of the kit's environments, single or batched."""
        tasks = env.unwrapped.task.task_space
        return cls(**tasks.fields)

    @property
    def size(self) -> int:
        return len(self.low)

    @property
    def discrete(self) -> bool:
        """Whether every coordinate is a choice, so that tasks can be counted."""
        return bool((self.choices > 0).all())

    @property
    def count(self) -> int:
        """How many different tasks there are.

        Raises:
            ValueError: a coordinate is continuous.
        """
        if not self.discrete:
            raise ValueError(f"field {self._continuous()!r} is continuous; only a discrete space can be counted")
        return int(np.prod(self.choices.astype(object)))

    def _continuous(self) -> str:
        return next(n for n, f in self.fields.items() if isinstance(f, spaces.Box))

    def points(self) -> np.ndarray:
        """All tasks of a discrete space, shape (count, d), the last coordinate counting fastest."""
        bins = np.indices(tuple(self.choices)).reshape(self.size, self.count).T
        return (bins + 0.5) / self.choices

    def snap(self, points: np.ndarray) -> np.ndarray:
        """Points (n, d) clipped to the unit cube, discrete coordinates moved to the middle of their bin.

        Raises:
            ValueError: wrong width, or a coordinate that is not finite.
        """
        points = np.atleast_2d(np.asarray(points, dtype=np.float64))
        if points.ndim != 2 or points.shape[1] != self.size:
            raise ValueError(f"points have shape {points.shape}; this space has {self.size} coordinates")
        if not np.isfinite(points).all():
            row, column = np.argwhere(~np.isfinite(points))[0]
            raise ValueError(f"coordinate {column} of point {row} is {points[row, column]}; it must be finite")
        points = points.clip(0.0, 1.0)
        k = np.maximum(self.choices, 1)
        middle = (np.minimum(np.floor(points * k), k - 1) + 0.5) / k
        return np.where(self.choices > 0, middle, points)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Uniform points, shape (n, d)."""
        return self.snap(rng.random((n, self.size)))

    def decode(self, points: np.ndarray) -> list[dict[str, Any]]:
        """Points (n, d) as tasks: a number for a field of one coordinate, an array for one of several."""
        points = self.snap(points)
        k = np.maximum(self.choices, 1)
        raw = np.where(self.choices > 0, np.floor(points * k) + self.low, self.low + points * (self.high - self.low))
        columns = np.split(raw, self._cuts[:-1], axis=1)
        return [
            {n: _value(f, c[i]) for (n, f), c in zip(self.fields.items(), columns, strict=True)}
            for i in range(len(points))
        ]

    def encode(self, tasks: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Tasks as points (n, d); the inverse of `decode`.

        Raises:
            ValueError: a field is missing, unknown, of a wrong size or outside its limits.
        """
        return np.array([self._encode(task) for task in tasks]).reshape(len(tasks), self.size)

    def _encode(self, task: Mapping[str, Any]) -> np.ndarray:
        if set(task) != set(self.fields):
            raise ValueError(
                f"a task has the fields {', '.join(self.fields)}; this one has {', '.join(task) or 'none'}"
            )
        for name, box in self.fields.items():
            size = np.size(task[name])
            if size != len(_axes(name, box)[0]):
                raise ValueError(f"task field {name!r} has {size} values; expected {len(_axes(name, box)[0])}")
        raw = np.concatenate([np.ravel(np.asarray(task[name], dtype=np.float64)) for name in self.fields])
        inside = (raw >= self.low - 1e-9) & (raw <= self.high + 1e-9)
        if not inside.all():
            i = int(np.argmin(inside))
            raise ValueError(f"coordinate {i} of the task is {raw[i]}; its limits are {self.low[i]} to {self.high[i]}")
        k = np.maximum(self.choices, 1)
        return np.where(self.choices > 0, (raw - self.low + 0.5) / k, (raw - self.low) / _span(self.low, self.high))

    def spec(self) -> dict[str, Any]:
        """What identifies this space, as JSON can hold it; a teacher's state carries it."""
        sizes = np.diff(self._cuts, prepend=0).tolist()
        limits = {"low": self.low.tolist(), "high": self.high.tolist(), "choices": self.choices.tolist()}
        return {"fields": list(self.fields), "sizes": sizes, **limits}

    def __repr__(self) -> str:
        return f"Space({', '.join(f'{n}={f}' for n, f in self.fields.items())})"


def _span(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.where(high > low, high - low, 1.0)


def _axes(name: str, field: spaces.Space) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Low, high and number of choices of a field's coordinates, each (size,)."""
    if isinstance(field, spaces.Box):
        low, high = field.low.ravel().astype(float), field.high.ravel().astype(float)
        if low.size == 0 or not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise ValueError(f"task field {name!r} has limits {low} to {high}; both must be finite, and not empty")
        if not (low < high).all():
            raise ValueError(f"task field {name!r} has limits {low} to {high}; each low must be below its high")
        return low, high, np.zeros(low.size, int)
    if isinstance(field, spaces.Discrete):
        n, start = np.array([int(field.n)]), np.array([float(field.start)])
    elif isinstance(field, spaces.MultiBinary):
        n = np.full(int(np.prod(field.shape)), 2)
        start = np.zeros(len(n))
    elif isinstance(field, spaces.MultiDiscrete):
        n, start = field.nvec.ravel().astype(int), field.start.ravel().astype(float)
    else:
        raise ValueError(
            f"task field {name!r} is a {type(field).__name__}; use Box, Discrete, MultiDiscrete or MultiBinary"
        )
    return start, start + n - 1, n


def _value(field: spaces.Space, numbers: np.ndarray) -> Any:
    if isinstance(field, spaces.Discrete):
        return int(numbers[0])
    if isinstance(field, spaces.Box):
        return numbers.reshape(field.shape)
    return numbers.astype(int).reshape(field.shape)
