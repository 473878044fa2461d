"""BESO's world here: 24 ways through three rows of pillars, and three exits that can be asked for.

    goal of a row    the exit above it, one-hot;  in hindsight "final": the exit by which the episode left
    success          left by the exit asked for, no pillar touched
    entropy          of the 24 ways among rods that left, for each exit asked for, then the mean: 0 to 1

Exits are reached by 6, 12 and 6 ways. Look first at `episodes`, then at `play`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kit.data import Episodes
from kit.diffusion import beso
from kit.envs import avoid
from kit.stats import behaviour_entropy, conditional_entropy, success_rate
from kit.types import Metrics

COPIES = 4  # demonstrations of each way
CONFIG = beso.Config(goal="word", hindsight="final")


def exit_words(x: np.ndarray) -> np.ndarray:
    """Which exit lies above each x (n,) [m], one-hot (n, 3)."""
    return np.eye(3, dtype=np.float32)[np.searchsorted(avoid.EXITS, x, side="right")]


def episodes(copies: int = COPIES, *, seed: int) -> Episodes:
    """Scripted demonstrations, `copies` of each of the 24 ways; a row's goal is the exit above it."""
    data = avoid.episodes(copies, seed=seed)
    return data.with_goals(exit_words(data.observations[:, 2]))


@dataclass(frozen=True)
class Outcome:
    """One finished episode a rod."""

    asked: np.ndarray  # (n,) the exit asked for
    left: np.ndarray  # (n,) the exit by which it left, -1: it touched a pillar or ran out of time
    ways: np.ndarray  # (n,) which of the 24 ways, -1 if it did not cross all rows
    paths: list[np.ndarray]  # of each rod, (T + 1, 2) [m]

    @property
    def success(self) -> np.ndarray:
        """bool (n,)."""
        return self.left == self.asked

    @property
    def entropy(self) -> float:
        """Of the ways of rods that left, whichever the exit, given the exit asked for; NaN if none left."""
        return conditional_entropy(self.ways, self.left >= 0, self.asked, avoid.modes())

    @property
    def whole_entropy(self) -> float:
        """Of the ways of all rods that left, whatever was asked for."""
        return behaviour_entropy(self.ways, self.left >= 0, avoid.modes())


def play(agent: beso.Agent, n: int, *, seed: int, exits: tuple[int, ...] = (0, 1, 2), **sampling: Any) -> Outcome:
    """`n` rods, asked for `exits` by turns; `sampling` changes how actions are drawn. The seed draws the noise."""
    asked = np.resize(exits, n)
    words, policy, task = np.eye(3, dtype=np.float32)[asked], agent.using(seed=seed, **sampling), avoid.Avoid(n)
    task.reset(np.arange(n), {"exit": asked[:, None].astype(float)}, [np.random.default_rng(seed)] * n)
    left, ways, running, state = np.full(n, -1), np.full(n, -1), np.arange(n), None
    paths = [[here] for here in task.actual]
    for _ in range(task.max_steps):
        actions = np.zeros((n, 2))
        seen = np.concatenate((task.observe(running), words[running]), axis=1)
        actions[running], state = policy.predict(seen, state)
        task.step(actions)
        for i in running:
            paths[i].append(task.actual[i])
        touching, out = task.touching(), task.left_by
        gone = running[(out[running] >= 0) & ~touching[running]]
        left[gone], ways[gone] = out[gone], task.mode[gone]
        stays = (out[running] < 0) & ~touching[running]
        running, state = running[stays], tuple(x[stays] for x in state)
        if not len(running):
            break
    return Outcome(asked, left, ways, [np.array(path) for path in paths])


def make(name: str, *, seed: int, out: str | Path) -> Iterator[Metrics]:
    """Train on four demonstrations of each way, judge on 240 rods, and save the policy in the folder `out` at the end;
    two minutes. The kit ships it as `beso_avoid`.

    Raises:
        ValueError: another name.
    """
    if name != "beso_avoid":
        raise ValueError(f"no policy is called {name!r} here; there is beso_avoid")
    metrics = None
    for metrics in beso.train(episodes(seed=seed), CONFIG, seed=seed):
        yield metrics
    played = play(metrics.agent, 240, seed=seed)
    rate = success_rate(played.success)
    facts = {"rate": rate.value, "low": rate.low, "high": rate.high, "episodes": rate.n, "entropy": played.entropy}
    beso.save(metrics.agent, out, name=name, env="kit/Avoid-v0", seed=seed, copies=COPIES, success=facts)
