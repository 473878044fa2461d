"""PAIRED: an adversary builds levels that a second student solves and the first does not yet.

Dennis et al. 2020, "Emergent Complexity and Zero-shot Transfer via Unsupervised Environment Design". Protagonist P and
antagonist A play each level k times, U are their returns, and the adversary is paid

    regret    max(0, max_k U_A - mean_k U_P)                                PAIRED
    flexible  max_k U_S - mean_k U_W      S the student with the larger mean return on the level, W the other one
    minimax   -mean_k U_P                                                   the baseline: it has no reason to stay fair

A level that nobody solves has no regret, but is the best there is for minimax. An adversary over a list of tasks is a
softmax trained by REINFORCE; in a maze it places one thing after another, trained by PPO. Look at `regret` first, then
`train`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from scipy.special import softmax

from kit import runtime
from kit.curricula.loop import World
from kit.curricula.space import Space, Task
from kit.curricula.teacher import Points
from kit.curricula.worlds.mazes import CELLS, MazeSpace, from_tokens
from kit.curricula.worlds.wall_grid import categorical, descend
from kit.rl.ppo import clipped_loss, network
from kit.types import Metrics

Variant = Literal["regret", "flexible", "minimax"]
VARIANTS = ("regret", "flexible", "minimax")


@dataclass(frozen=True)
class Config:
    """The game of three."""

    updates: int = 300  # of the adversary
    levels: int = 32  # levels of an update
    episodes: int = 4  # k, that each student plays on each level
    variant: Variant = "regret"  # what the adversary is paid

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant is {self.variant!r}; it must be one of {', '.join(VARIANTS)}")
        for name in ("updates", "levels", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True)
class AdversaryConfig:
    """How an adversary learns; the softmax one uses its first line only."""

    softmax_rate: float = 2.0  # step of REINFORCE on the logits of the softmax
    learning_rate: float = 2e-3  # of Adam, for the networks
    epochs: int = 4  # passes over the proposals of an update
    batch_size: int = 512  # choices in a gradient step
    clip: float = 0.2  # how far the ratio may move before its gradient is cut
    entropy_weight: float = 0.01  # of the policy's entropy [nat a choice]
    max_grad_norm: float = 0.5  # gradients are scaled down to this Euclidean norm
    noise: int = 8  # numbers drawn for each level, so that one network can build many
    hidden: tuple[int, ...] = (64, 64)  # widths of the tanh layers


# ---- the pieces -------------------------------------------------------------------------------------------------


def regret(protagonist: np.ndarray, antagonist: np.ndarray | None, variant: Variant = "regret") -> np.ndarray:
    """What the adversary is paid for each level (n,), from returns (k, n) of both; minimax needs no antagonist.

    Raises:
        ValueError: an unknown variant.
    """
    mean_p = protagonist.mean(axis=0)
    if variant == "minimax":
        return -mean_p
    mean_a = antagonist.mean(axis=0)
    if variant == "regret":
        return np.maximum(0.0, antagonist.max(axis=0) - mean_p)
    if variant != "flexible":
        raise ValueError(f"variant is {variant!r}; it must be one of {', '.join(VARIANTS)}")
    best = np.where(mean_a > mean_p, antagonist.max(axis=0), protagonist.max(axis=0))
    return best - np.minimum(mean_a, mean_p)


def reinforce(probabilities: np.ndarray, chosen: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Gradient (m,) of the mean reward by the logits, less the batch's mean: mean_i (r_i - r) (onehot(c_i) - p).

    `probabilities` (m,), `chosen` and `rewards` (n,).
    """
    score = np.eye(len(probabilities))[chosen] - probabilities  # (n, m)
    return ((rewards - rewards.mean())[:, None] * score).mean(axis=0)


def standardised(rewards: np.ndarray) -> np.ndarray:
    """Rewards (n,) less their mean, in standard deviations; all zero where they are equal."""
    return (rewards - rewards.mean()) / (rewards.std() + 1e-8)


# ---- adversaries --------------------------------------------------------------------------------------------------


class Adversary(Protocol):
    """Proposes levels, and is then told what each was worth. `space` says what a level is."""

    space: Space

    def propose(self, n: int) -> Points: ...
    def learn(self, rewards: np.ndarray) -> None: ...


class SoftmaxAdversary:
    """One logit for each task of a discrete space."""

    def __init__(self, space: Space, cfg: AdversaryConfig | None = None, *, seed: int = 0):
        self.space, self.cfg = space, AdversaryConfig() if cfg is None else cfg
        self.rng, self.points = np.random.default_rng(seed), space.points()
        self.logits = np.zeros(len(self.points))

    def propose(self, n: int) -> Points:
        self.chosen = self.rng.choice(len(self.logits), size=n, p=softmax(self.logits))
        return self.points[self.chosen]

    def learn(self, rewards: np.ndarray) -> None:
        """Rewards (n,) of the last proposal."""
        self.logits += self.cfg.softmax_rate * reinforce(softmax(self.logits), self.chosen, rewards)


class Builder:
    """Builds a maze by `max_walls` + 2 choices of a cell: walls, then the goal, then the start. It sees what stands so
    far, which choice is next, and noise. A wall on a wall changes nothing, so that a level may have fewer."""

    def __init__(self, space: MazeSpace, cfg: AdversaryConfig | None = None, *, seed: int = 0):
        runtime.one_thread()
        self.space, self.cfg = space, AdversaryConfig() if cfg is None else cfg
        self.rng, self.generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        self.choices = space.max_walls + 2
        sizes = (2 * CELLS + self.choices + self.cfg.noise, *self.cfg.hidden)
        self.actor = network((*sizes, CELLS), 0.01, self.generator)
        self.critic = network((*sizes, 1), 1.0, self.generator)
        parameters = [*self.actor.parameters(), *self.critic.parameters()]
        self.optimiser = torch.optim.Adam(parameters, lr=self.cfg.learning_rate, eps=1e-5)

    @torch.no_grad()
    def propose(self, n: int) -> Points:
        goal_at, rows = self.choices - 2, np.arange(n)
        tokens, logs = np.zeros((n, self.choices), int), np.zeros((n, self.choices), np.float32)
        seen = np.zeros((n, self.choices, 2 * CELLS + self.choices + self.cfg.noise), np.float32)
        seen[:, :, -self.cfg.noise :] = self.rng.normal(size=(n, 1, self.cfg.noise))
        seen[:, np.arange(self.choices), 2 * CELLS + np.arange(self.choices)] = 1
        for j in range(self.choices):
            logits = torch.log_softmax(self.actor(torch.from_numpy(seen[:, j])), dim=1).numpy()
            tokens[:, j] = (logits + self.rng.gumbel(size=logits.shape)).argmax(axis=1)
            logs[:, j] = logits[rows, tokens[:, j]]
            seen[rows, j + 1 :, tokens[:, j] + CELLS * (j == goal_at)] = 1
        self.last = seen, tokens, logs
        return self.space.points_of(from_tokens(tokens))

    def learn(self, rewards: np.ndarray) -> None:
        """PPO: every choice of a level is paid the level's reward (n,), against a value of what stood by then."""
        seen, tokens, logs = (torch.from_numpy(column).flatten(0, 1) for column in self.last)
        targets = torch.from_numpy(np.repeat(rewards, self.choices).astype(np.float32))
        with torch.no_grad():
            advantages = targets - self.critic(seen).squeeze(1)
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        for _ in range(self.cfg.epochs):
            for rows in torch.randperm(len(seen), generator=self.generator).split(self.cfg.batch_size):
                log_probs, entropy = categorical(self.actor(seen[rows]), tokens[rows])
                error = ((self.critic(seen[rows]).squeeze(1) - targets[rows]) ** 2).mean()
                policy = clipped_loss(log_probs, logs[rows], advantages[rows], self.cfg.clip)
                loss = policy + 0.5 * error - self.cfg.entropy_weight * entropy
                descend(loss, self.optimiser, self.cfg.max_grad_norm)


# ---- training -----------------------------------------------------------------------------------------------------


def train(adversary: Adversary, protagonist: World, antagonist: World | None, cfg: Config) -> Iterator[Metrics]:
    """Propose, play, pay, `cfg.updates` times; yields after each. The agent is the protagonist's world.

    Raises:
        ValueError: there is no antagonist, and the variant is not minimax.
    """
    if antagonist is None and cfg.variant != "minimax":
        raise ValueError(f"the variant {cfg.variant!r} needs an antagonist; only minimax does without")
    for update in range(1, cfg.updates + 1):
        points = adversary.space.snap(adversary.propose(cfg.levels))
        returns_p = play(protagonist, points, cfg.episodes)
        returns_a = None if antagonist is None else play(antagonist, points, cfg.episodes)
        rewards = regret(returns_p, returns_a, cfg.variant)
        adversary.learn(rewards)
        values = {
            "updates": float(update),
            "progress": update / cfg.updates,
            "reward": float(rewards.mean()),
            "return": float(returns_p.mean()),
            "mastered": protagonist.score(),
        }
        if returns_a is not None:
            values["antagonist_return"] = float(returns_a.mean())
        yield Metrics(values, agent=protagonist)


def play(world: World, points: Points, episodes: int) -> np.ndarray:
    """Returns (episodes, n) of a student that plays each level so often, and learns from all of them."""
    values = world.space.decode(points)
    tasks = [Task(k * len(points) + i, points[i], values[i]) for k in range(episodes) for i in range(len(points))]
    return np.array([fb.ret for fb in world.play(tasks)]).reshape(episodes, len(points))
