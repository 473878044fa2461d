"""Acting in chunks: plan Tp actions from the last To observations, carry out Ta of them, plan again.

    plan at t:   chunk[0 .. Tp - 1],  chunk[To - 1] is for t;   carried out: chunk[To - 1 + L .. To - 1 + L + Ta - 1]

L is the latency [steps]: what is planned at t begins at t + L, and until then the end of the plan before goes on.
Chi et al. 2023, section 2. Temporal ensembling (Zhao et al. 2023) plans every step and averages what all plans say of
now, w_i = exp(-m i), the oldest first. Look first at `ChunkPolicy.predict`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

State = tuple[np.ndarray, ...]


class ChunkPolicy:
    """Stable-Baselines3's `predict` around a `plan`, which a method gives.

    Whatever an episode remembers is in `state` (the last observations (n, To, obs_dim), the actions still to be carried
    out (n, L + Ta, act_dim), their number (n,), and that of plans made (n,)), so rows of a batch may start anew at
    different times. With `deterministic` an episode's k-th plan always gets the same noise, else noise from `rng`.
    """

    obs_steps: int  # To
    horizon: int  # Tp
    execute: int  # Ta
    noise_shape: tuple[int, ...]  # standard normal numbers that one plan takes
    latency: int = 0  # L [steps]
    rng: np.random.Generator

    def plan(self, history: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Chunks (n, Tp, act_dim) for histories (n, To, obs_dim), oldest first, and noise (n, *noise_shape)."""
        raise NotImplementedError

    @property
    def obs_dim(self) -> int:
        raise NotImplementedError

    def check(self) -> None:
        """
        Raises:
            ValueError: a chunk is too short for what shall be carried out of it.
        """
        needed = self.obs_steps - 1 + self.latency + self.execute
        if self.execute < 1 or self.latency < 0 or self.obs_steps < 1 or needed > self.horizon:
            raise ValueError(
                f"a chunk of {self.horizon} steps cannot give {self.execute} actions after {self.obs_steps} "
                f"observations and {self.latency} steps of latency; it takes {needed}, and at least 1 action"
            )

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, State]:
        """Actions (act_dim,) or (n, act_dim) for observations (obs_dim,) or (n, obs_dim).

        Raises:
            ValueError: an observation of another size or with NaN, or a state of another batch.
        """
        self.check()
        obs = np.asarray(observation, np.float32)
        if obs.shape[-1:] != (self.obs_dim,) or obs.ndim > 2 or not obs.size:
            raise ValueError(
                f"observation has shape {obs.shape}; this policy takes ({self.obs_dim},) or (n, {self.obs_dim})"
            )
        if not np.isfinite(obs).all():
            raise ValueError("the observation is not finite; find out which sensor says so before acting on it")
        rows = obs.reshape(-1, self.obs_dim)
        history, queue, left, plans = self._remember(rows, state, episode_start)
        due = np.flatnonzero(left <= self.latency)
        if len(due):
            noise = self._noise(due, plans, deterministic)
            chunks = np.asarray(self.plan(history[due], noise), np.float32)
            queue = self._renew(queue, left, due, chunks)
            left[due] = self.latency + self.execute
            plans[due] += 1
        action, left = queue[:, 0].copy(), left - 1
        return action.reshape(*obs.shape[:-1], -1), (history, np.roll(queue, -1, axis=1), left, plans)

    def _noise(self, due: np.ndarray, plans: np.ndarray, deterministic: bool) -> np.ndarray:
        """Noise (len(due), *noise_shape) for the rows `due`; it is drawn for all rows, so that a row's noise does not
        depend on which others are due."""
        shape = (len(plans), *self.noise_shape)
        if not deterministic:
            return self.rng.standard_normal(shape, dtype=np.float32)[due]
        noise = np.empty(shape, np.float32)
        for k in np.unique(plans[due]):
            noise[plans == k] = np.random.default_rng(k).standard_normal(shape, dtype=np.float32)[plans == k]
        return noise[due]

    def _remember(
        self, rows: np.ndarray, state: State | None, start: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
        """The state with this observation; an episode's first one stands for those before it."""
        n = len(rows)
        if state is None:
            return np.repeat(rows[:, None], self.obs_steps, axis=1), None, np.full(n, -1), np.zeros(n, int)
        history, queue, left, plans = state
        if len(history) != n:
            raise ValueError(f"the state is that of {len(history)} rows, and there are {n} observations")
        history = np.concatenate((history[:, 1:], rows[:, None]), axis=1)
        new = np.zeros(n, bool) if start is None else np.broadcast_to(np.asarray(start, bool), n)
        history[new] = rows[new][:, None]
        return history, queue, np.where(new, -1, left), np.where(new, 0, plans)

    def _renew(self, queue: np.ndarray | None, left: np.ndarray, due: np.ndarray, chunks: np.ndarray) -> np.ndarray:
        """The queue (n, L + Ta, act_dim) with new plans in its rows `due`. A first plan is waited for."""
        begin, size = self.obs_steps - 1, self.latency + self.execute
        fresh = chunks[:, begin : begin + size]
        if queue is None:
            return fresh
        queue = queue.copy()
        going_on = (left[due] >= 0)[:, None] & (np.arange(size) < self.latency)
        queue[due] = np.where(going_on[..., None], queue[due], fresh)
        return queue


def ensemble(plans: np.ndarray, m: float = 0.01) -> np.ndarray:
    """What several plans (k, ..., act_dim) say of now, the oldest first, averaged with w_i = exp(-m i) / sum."""
    weights = np.exp(-m * np.arange(len(plans)))
    return np.tensordot(weights / weights.sum(), np.asarray(plans), axes=1)
