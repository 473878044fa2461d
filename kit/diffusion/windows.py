"""Episodes as windows that chunk policies learn from: observations before a step, actions around it, all in [-1, 1].

    row r:   observations r - To + 1 .. r,   actions r - To + 1 .. r - To + Tp,   so that actions[To - 1] is taken at r

To observations and Tp actions, Chi et al. 2023's indices. Beyond an episode's ends the first observation and the last
action repeat, and `real` says which actions were taken. Look first at `Windows.at`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from kit.data import Episodes, sample_steps

BEYOND = 1e-3  # by which scaled numbers may leave [-1, 1]


@dataclass(frozen=True)
class MinMax:
    """The range of each column, (d,), to [-1, 1] and back. A column that never changes becomes 0."""

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> MinMax:
        """The range of rows (n, d).

        Raises:
            ValueError: a number that is not finite.
        """
        rows = np.asarray(rows, np.float32)
        if not np.isfinite(rows).all():
            raise ValueError(f"row {int(np.argmin(np.isfinite(rows).all(axis=1)))} is not finite; leave such rows out")
        return cls(rows.min(axis=0), rows.max(axis=0))

    @property
    def middle(self) -> np.ndarray:
        return (self.low + self.high) / 2

    @property
    def half(self) -> np.ndarray:
        """Half the range; 1 for a column that never changes."""
        half = (self.high - self.low) / 2
        return np.where(half > 1e-7, half, 1.0).astype(np.float32)

    def scale(self, x: Any) -> Any:
        """Numbers (..., d) of an array or a tensor to about [-1, 1]."""
        return (x - self._like(self.middle, x)) / self._like(self.half, x)

    def unscale(self, x: Any) -> Any:
        """Back: what was 1 is `high`; a column that never changes is what it was."""
        return x * self._like((self.high - self.low) / 2, x) + self._like(self.middle, x)

    @staticmethod
    def _like(numbers: np.ndarray, x: Any) -> Any:
        return torch.as_tensor(numbers, dtype=x.dtype, device=x.device) if isinstance(x, torch.Tensor) else numbers


def check_scaled(x: torch.Tensor, what: str) -> torch.Tensor:
    """
    Raises:
        ValueError: a number that is not finite, or lies outside [-1, 1].
    """
    largest = x.detach().abs().max().item()  # a NaN comes through
    if not largest <= 1 + BEYOND:
        raise ValueError(
            f"{what} reach {largest:.4g}; a chunk policy learns numbers in [-1, 1]: scale them with MinMax.of"
        )
    return x


class Window(NamedTuple):
    """A batch; observations and actions are scaled."""

    obs: torch.Tensor  # (n, To, obs_dim)
    actions: torch.Tensor  # (n, Tp, act_dim)
    real: torch.Tensor  # (n, Tp) bool: not beyond the episode's ends
    rows: np.ndarray  # (n,) the rows of the data that are "now"


class Windows:
    """All windows of a dataset with To = `obs_steps` and Tp = `horizon`.

    Raises:
        ValueError: To or Tp below 1, To above Tp, or an episode shorter than the window.
    """

    def __init__(self, data: Episodes, obs_steps: int, horizon: int):
        if not 1 <= obs_steps <= horizon:
            raise ValueError(f"obs_steps is {obs_steps} and horizon {horizon}; 1 <= obs_steps <= horizon is needed")
        lengths = np.diff(data.ends, prepend=-1) - 1
        if lengths.min() < horizon:
            raise ValueError(
                f"episode {int(lengths.argmin())} has {lengths.min()} steps, fewer than the window's {horizon}; leave "
                "such episodes out, or take a smaller horizon"
            )
        self.data, self.obs_steps, self.horizon = data, obs_steps, horizon
        self.obs_scaler, self.action_scaler = MinMax.of(data.observations), MinMax.of(data.actions[data.steps])
        self.obs = torch.from_numpy(self.obs_scaler.scale(data.observations))
        self.actions = torch.from_numpy(self.action_scaler.scale(data.actions))
        self.first = np.repeat(np.r_[0, data.ends[:-1] + 1], np.diff(data.ends, prepend=-1))

    def at(self, rows: np.ndarray) -> Window:
        """The windows of rows (n,), from each of which a step was taken."""
        first, last = self.first[rows][:, None], self.data.last[rows][:, None] - 1
        start = rows[:, None] - self.obs_steps + 1
        seen = np.maximum(start + np.arange(self.obs_steps), first)
        wanted = start + np.arange(self.horizon)
        taken = np.clip(wanted, first, last)
        return Window(self.obs[seen], self.actions[taken], torch.from_numpy(taken == wanted), rows)

    def sample(self, n: int, rng: np.random.Generator) -> Window:
        return self.at(sample_steps(self.data, n, rng))
