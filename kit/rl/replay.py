"""A replay buffer: the last transitions, by named fields, in NumPy.

    buffer = Replay(100_000, {"obs": (4,), "actions": (2,), "reward": ()})
    buffer.add(obs=obs, actions=actions, reward=reward)                 # n rows each
    batch = half_and_half(buffer, demonstrations, 256, rng)             # torch tensors, RLPD's symmetric sampling

Look first at `Replay.add`, which refuses a whole call or stores it whole.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch


class Replay:
    """The last `capacity` transitions. `shapes` names the fields: (4,) for vectors, () for numbers.

    Raises:
        ValueError: rows that do not fit, or are not finite; nothing is stored.
    """

    def __init__(self, capacity: int, shapes: Mapping[str, tuple[int, ...]]):
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; it must be at least 1 transition")
        self.capacity, self.added = capacity, 0
        self.fields = {name: np.zeros((capacity, *shape), np.float32) for name, shape in shapes.items()}

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, **rows: np.ndarray) -> None:
        """Store n transitions: each field (n, ...)."""
        if set(rows) != set(self.fields):
            raise ValueError(f"a transition has the fields {', '.join(self.fields)}, not {', '.join(rows)}")
        arrays = {name: np.asarray(value, np.float32) for name, value in rows.items()}
        n = len(next(iter(arrays.values())))
        for name, array in arrays.items():
            if array.shape != (n, *self.fields[name].shape[1:]):
                raise ValueError(f"{name} has shape {array.shape}; expected {(n, *self.fields[name].shape[1:])}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} holds {array[~np.isfinite(array)][0]}; a transition must be finite")
        for name, array in arrays.items():
            self.fields[name][(self.added + np.arange(n)) % self.capacity] = array
        self.added += n

    def sample(self, n: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """n transitions, drawn with replacement.

        Raises:
            ValueError: the buffer is empty.
        """
        if not len(self):
            raise ValueError("the replay buffer is empty; add transitions before sampling")
        rows = rng.integers(len(self), size=n)
        return {name: torch.from_numpy(values[rows]) for name, values in self.fields.items()}

    def rows(self) -> dict[str, np.ndarray]:
        """All transitions, each field (len, ...); the order is that of storing until the buffer is full."""
        return {name: values[: len(self)] for name, values in self.fields.items()}

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"added": np.array(self.added)} | {k: v.copy() for k, v in self.rows().items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        self.added = int(state["added"])
        for name, values in self.fields.items():
            values[: len(self)] = state[name]


def half_and_half(own: Replay, prior: Replay | None, n: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """n transitions, half of them from prior data where there are some: RLPD's symmetric sampling."""
    if prior is None or not len(prior):
        return own.sample(n, rng)
    mine, theirs = own.sample(n - n // 2, rng), prior.sample(n // 2, rng)
    return {name: torch.cat([mine[name], theirs[name]]) for name in mine}
