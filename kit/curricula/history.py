"""What was played and what came of it: the memory that ALP-GMM searches and that a region of RIAC keeps."""

from __future__ import annotations

from typing import Any

import numpy as np


class History:
    """Tasks and their returns in the order in which they were told; the last `limit`, or all."""

    def __init__(self, size: int, limit: int | None = None):
        self.limit = limit
        self._rows, self._end = np.empty((size + 1, 64)), 0  # a column a task: NumPy then sums over axes fastest

    @property
    def _kept(self) -> np.ndarray:
        return self._rows[:, max(self._end - (self.limit or self._end), 0) : self._end]

    def __len__(self) -> int:
        return self._end if self.limit is None else min(self._end, self.limit)

    @property
    def points(self) -> np.ndarray:
        """Tasks (n, d), the latest last; a view."""
        return self._kept[:-1].T

    @property
    def returns(self) -> np.ndarray:
        """Returns (n,), the latest last; a view."""
        return self._kept[-1]

    def add(self, point: np.ndarray, ret: float) -> None:
        if self._end == self._rows.shape[1]:
            self._fill(self._kept)
        self._rows[:-1, self._end], self._rows[-1, self._end] = point, ret
        self._end += 1

    def forget(self, n: int) -> None:
        """Drop the oldest n."""
        self._fill(self._kept[:, n:])

    def _fill(self, rows: np.ndarray) -> None:
        room = np.empty((len(rows), 2 * rows.shape[1] + 64))
        room[:, : rows.shape[1]] = rows
        self._rows, self._end = room, rows.shape[1]

    def memory(self) -> dict[str, Any]:
        return {"points": self.points.copy(), "returns": self.returns.copy()}

    @classmethod
    def of(cls, points: np.ndarray, returns: np.ndarray, size: int, limit: int | None = None) -> History:
        """One that holds points (n, d) and returns (n,)."""
        history = cls(size, limit)
        points = np.asarray(points, float).reshape(-1, size)
        history._fill(np.vstack([points.T, np.asarray(returns, float)]))
        return history
