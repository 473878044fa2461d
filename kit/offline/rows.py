"""Transitions as plain rows (s, a, r, s', terminated), out of and into Stable-Baselines3's replay buffer.

    rows = from_sb3(model.replay_buffer)             # all that an agent has seen
    few = rows.take(rng.choice(len(rows), 500, replace=False))
    model.replay_buffer = to_sb3(rows, observation_space, action_space)

Rows have no order and no episode: what learns from them may only use one step. Actions are those of a replay buffer,
-1..1 for the space's whole range. A time limit is not a termination, and rows do not say where one was: s' is always
the state that followed. Look at `Rows` first.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from stable_baselines3.common.buffers import ReplayBuffer


@dataclass(frozen=True)
class Rows:
    """n transitions, kept as float32.

    Raises:
        ValueError: no rows, shapes that do not fit, a value that is not finite, or actions outside of -1..1.
    """

    obs: np.ndarray  # (n, obs_dim)
    actions: np.ndarray  # (n, act_dim) in -1..1
    reward: np.ndarray  # (n,)
    next_obs: np.ndarray  # (n, obs_dim)
    terminated: np.ndarray  # (n,) 1 where the task ended; never 1 for a time limit

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, np.asarray(getattr(self, field.name), np.float32))
        n, vectors = len(self.obs), ("obs", "actions", "next_obs")
        if not n:
            raise ValueError("there are 0 rows; at least one is needed")
        for field in fields(self):
            array = getattr(self, field.name)
            if array.ndim != (2 if field.name in vectors else 1) or len(array) != n:
                wanted = f"({n}, d)" if field.name in vectors else f"({n},)"
                raise ValueError(f"{field.name} has shape {array.shape}; expected {wanted}")
            if not np.isfinite(array).all():
                raise ValueError(f"{field.name} holds {array[~np.isfinite(array)][0]}; rows must be finite")
        if not np.isin(self.terminated, (0, 1)).all():
            raise ValueError(f"terminated holds {self.terminated[~np.isin(self.terminated, (0, 1))][0]}; it is 0 or 1")
        if self.obs.shape != self.next_obs.shape:
            raise ValueError(f"next_obs has shape {self.next_obs.shape} and obs {self.obs.shape}; they must be equal")
        far = float(np.abs(self.actions).max(initial=0.0))
        if far > 1 + 1e-5:
            raise ValueError(f"actions reach {far:.4g}; rows hold them in -1..1. Divide by the action space's bounds")

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def obs_dim(self) -> int:
        return self.obs.shape[1]

    @property
    def act_dim(self) -> int:
        return self.actions.shape[1]

    def take(self, index: np.ndarray) -> Rows:
        """Some of the rows, by index or mask."""
        return Rows(*(getattr(self, field.name)[index] for field in fields(self)))

    def fraction(self, share: float, rng: np.random.Generator) -> Rows:
        """A random share of the rows, each at most once, at least one row; all of them, in order, for 1.

        Raises:
            ValueError: a share that is not above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}; it must be above 0 and at most 1")
        keep = rng.permutation(len(self))[: max(1, round(share * len(self)))]
        return self.take(np.sort(keep))

    def join(self, other: Rows) -> Rows:
        """These rows, then the other ones: for mixing generated rows into logged ones."""
        return Rows(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


def from_sb3(buffer: ReplayBuffer) -> Rows:
    """All transitions of a Stable-Baselines3 replay buffer with vector observations.

    SB3 stores `done` for time limits as well, and marks those in `timeouts`: only the others terminated.

    Raises:
        ValueError: an empty buffer, or one that saves memory by not storing s'.
    """
    size = buffer.buffer_size if buffer.full else buffer.pos
    if not size:
        raise ValueError("the replay buffer is empty; collect some steps first")
    if buffer.optimize_memory_usage:
        raise ValueError("optimize_memory_usage drops the state after a time limit; make the buffer without it")

    def flat(x: np.ndarray) -> np.ndarray:
        return x[:size].reshape(size * buffer.n_envs, -1)

    terminated = flat(buffer.dones) * (1 - flat(buffer.timeouts))
    obs, after = flat(buffer.observations), flat(buffer.next_observations)
    return Rows(obs, flat(buffer.actions), flat(buffer.rewards)[:, 0], after, terminated[:, 0])


def to_sb3(rows: Rows, observation_space: Any, action_space: Any) -> ReplayBuffer:
    """A Stable-Baselines3 replay buffer that holds exactly these rows.

    Raises:
        ValueError: a space of another size than the rows.
    """
    from stable_baselines3.common.buffers import ReplayBuffer

    for name, space, size in (("observation", observation_space, rows.obs_dim), ("action", action_space, rows.act_dim)):
        if space.shape != (size,):
            raise ValueError(f"the {name} space has shape {space.shape}; these rows need ({size},)")
    buffer = ReplayBuffer(len(rows), observation_space, action_space, device="cpu")
    add_to_sb3(buffer, rows)
    return buffer


def add_to_sb3(buffer: ReplayBuffer, rows: Rows) -> None:
    """Add rows to a replay buffer of one environment; when it is full the oldest go first, as always.

    Raises:
        ValueError: a buffer of several environments.
    """
    if buffer.n_envs != 1:
        raise ValueError(f"the buffer is of {buffer.n_envs} environments; rows belong to none. Use one with n_envs=1")
    for s, a, r, after, end in zip(*(getattr(rows, field.name) for field in fields(rows)), strict=True):
        buffer.add(s[None], after[None], a[None], r[None], end[None], [{}])
