"""A lock with a long secret key: only a curriculum of ever longer prefixes opens it.

    task i asks for the first L_i symbols of the secret key; most tasks are unsolvable, and look no different
    reward 1 if all L_i symbols are right, else 0 (always 0 where the task is unsolvable)
    student pi_k = softmax(theta_k) for each position k, trained by REINFORCE with a baseline b_i for each task
        theta += lr mean over episodes of (R - b_i) sum_{k < L_i} grad log pi_k(a_k),      b_i += rate (R - b_i)
    score   share of the lengths 1..12 that open with probability above 1/2

A guess opens length L with chance 4^-L, so that practice on the target alone learns nothing; but who knows the first
L symbols opens L + 1 in every fourth attempt. Look at `policy_gradient` first, then `LockChain.play`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from scipy.special import softmax

from kit.curricula.space import Space, Task
from kit.curricula.teacher import Feedback, Points, Teacher


@dataclass(frozen=True)
class Config:
    """The lock and its student. A run is 1,500 batches of 16 episodes."""

    length: int = 12  # symbols of the key
    symbols: int = 4  # values of each
    tasks: int = 240
    unsolvable: float = 0.8  # share of the tasks
    learning_rate: float = 0.5
    baseline_rate: float = 0.2  # of the running mean return of each task
    mastery: float = 0.5  # a length counts from this chance of opening it

    def __post_init__(self) -> None:
        if not 0 <= self.unsolvable < 1 or self.solvable < self.length:
            raise ValueError(
                f"{self.tasks} tasks with {self.unsolvable} unsolvable leave {self.solvable} solvable ones; "
                f"each of the {self.length} lengths needs one: raise tasks or lower unsolvable"
            )

    @property
    def solvable(self) -> int:
        """Number of solvable tasks."""
        return round(self.tasks * (1 - self.unsolvable))


# ---- the pieces -------------------------------------------------------------------------------------------------


def chances(pi: np.ndarray, key: np.ndarray) -> np.ndarray:
    """The chance (length,) that a policy pi (length, symbols) opens each length 1..length."""
    return np.cumprod(pi[np.arange(len(key)), key])


def policy_gradient(pi: np.ndarray, actions: np.ndarray, lengths: np.ndarray, advantages: np.ndarray) -> np.ndarray:
    """REINFORCE (Williams 1992): the mean over n episodes of A sum_{k < L} grad log pi_k(a_k), (length, symbols).

    Policy (length, symbols), actions (n, length), lengths (n,), advantages (n,). With softmax policies
    grad log pi(a) = onehot(a) - pi.
    """
    played = np.arange(len(pi)) < lengths[:, None]
    score = np.eye(pi.shape[1])[actions] - pi  # (n, length, symbols)
    return np.einsum("n,nk,nka->ka", advantages, played, score) / len(actions)


# ---- the world ----------------------------------------------------------------------------------------------------


class LockChain:
    """The lock, its tasks (`lengths` and `solvable`, both (tasks,), hidden from teachers) and one student.

    The seed draws the key, which task is which, and the student's guesses. The space is a single choice, `task`,
    whose order says nothing. `trained` counts the episodes that the student has learned from.
    """

    def __init__(self, cfg: Config | None = None, *, seed: int = 0):
        self.cfg = cfg = Config() if cfg is None else cfg
        world, self.rng = np.random.default_rng(seed).spawn(2)
        self.space = Space(task=spaces.Discrete(cfg.tasks))
        self.key = world.integers(cfg.symbols, size=cfg.length)
        order = world.permutation(cfg.tasks)
        self.lengths = (np.arange(cfg.tasks) % cfg.length + 1)[order]
        self.solvable = (np.arange(cfg.tasks) < cfg.solvable)[order]
        self.theta = np.zeros((cfg.length, cfg.symbols))
        self.baseline = np.zeros(cfg.tasks)
        self.trained = 0

    def play(self, tasks: list[Task]) -> list[Feedback]:
        """One episode each, then one gradient step on those that train.

        The value of every state of an episode is the task's baseline before the batch, so that the advantage of every
        step is A = R - b: the positive value loss is max(A, 0), the mean value is b.
        """
        which = np.array([task.values["task"] for task in tasks])
        pi, lengths = softmax(self.theta, axis=1), self.lengths[which]
        uniform = self.rng.random((len(which), self.cfg.length, 1))
        actions = (uniform > pi.cumsum(axis=1)[:, :-1]).sum(axis=2)
        right = np.cumprod(actions == self.key, axis=1)[np.arange(len(which)), lengths - 1]
        ret = (right * self.solvable[which]).astype(float)
        value = self.baseline[which]
        self._learn(np.array([task.trains for task in tasks]), which, actions, ret)
        rows = zip(tasks, ret.tolist(), value.tolist(), lengths.tolist(), strict=True)
        return [_feedback(task.id, r, b, length) for task, r, b, length in rows]

    def _learn(self, trains: np.ndarray, which: np.ndarray, actions: np.ndarray, ret: np.ndarray) -> None:
        if not trains.any():
            return
        which, actions, ret = which[trains], actions[trains], ret[trains]
        self.trained += len(which)
        advantages = ret - self.baseline[which]
        pi = softmax(self.theta, axis=1)
        self.theta += self.cfg.learning_rate * policy_gradient(pi, actions, self.lengths[which], advantages)
        for i, r in zip(which, ret, strict=True):  # one after the other: a task may be in the batch twice
            self.baseline[i] += self.cfg.baseline_rate * (r - self.baseline[i])

    def chances(self) -> np.ndarray:
        """The chance (length,) that the student opens each length now."""
        return chances(softmax(self.theta, axis=1), self.key)

    def score(self) -> float:
        """Share of the lengths that are mastered."""
        return float((self.chances() > self.cfg.mastery).mean())


def _feedback(task_id: int, ret: float, value: float, length: int) -> Feedback:
    advantage = ret - value
    return Feedback(
        task_id, ret, success=ret > 0, value=value, mean_value=value, pvl=max(advantage, 0.0),
        abs_advantage=abs(advantage), length=length,
    )  # fmt: skip


# ---- what to compare with -----------------------------------------------------------------------------------------


class Privileged(Teacher):
    """A teacher that sees into the lock: uniform over some of its tasks. Not a method, but a bound on methods."""

    def __init__(self, world: LockChain, *, seed: int = 0):
        self.world = world
        super().__init__(world.space, seed=seed)

    def chosen(self) -> np.ndarray:
        """Which tasks are drawn from now, bool (tasks,)."""
        raise NotImplementedError

    def propose(self, n: int) -> Points:
        return self.space.points()[self.rng.choice(np.flatnonzero(self.chosen()), size=n)]

    def learn(self, point: np.ndarray, feedback: Feedback, note: Any) -> None:
        pass

    def density(self, grid: Points) -> np.ndarray:
        chosen = self.chosen()
        return (chosen / chosen.mean())[[values["task"] for values in self.space.decode(grid)]]


class TargetOnly(Privileged):
    """Nothing but the whole key."""

    def chosen(self) -> np.ndarray:
        return self.world.solvable & (self.world.lengths == self.world.cfg.length)


class OracleCurriculum(Privileged):
    """The shortest length that the student has not mastered."""

    def chosen(self) -> np.ndarray:
        world = self.world
        frontier = min(int((world.chances() > world.cfg.mastery).sum()) + 1, world.cfg.length)
        return world.solvable & (world.lengths == frontier)


class SoftminReturn(Teacher):
    """An adversary that wants low returns: P(i) ~ exp(-m_i / temperature), m_i the running mean return of task i."""

    def __init__(self, space: Space | None = None, *, temperature: float = 0.5, rate: float = 0.2, seed: int = 0):
        self.temperature, self.rate = temperature, rate
        super().__init__(space, seed=seed)

    def start(self) -> None:
        self.mean_returns = np.zeros(self.space.count)

    def propose(self, n: int) -> Points:
        chosen = self.rng.choice(self.space.count, size=n, p=softmax(-self.mean_returns / self.temperature))
        return self.space.points()[chosen]

    def learn(self, point: np.ndarray, feedback: Feedback, note: Any) -> None:
        i = int(self.space.decode(point)[0]["task"])
        self.mean_returns[i] += self.rate * (feedback.ret - self.mean_returns[i])

    def density(self, grid: Points) -> np.ndarray:
        p = softmax(-self.mean_returns / self.temperature)
        return (p * len(p))[[values["task"] for values in self.space.decode(grid)]]

    def memory(self) -> dict[str, Any]:
        return {"mean_returns": self.mean_returns.copy()}

    def restore(self, memory: dict[str, Any]) -> None:
        self.mean_returns = np.array(memory["mean_returns"], dtype=float)
