"""A small maze in which an agent that sees little must find the goal; walls, start and goal are the level.

    view    5 x 5 cells around the agent: walls; when it was there, 0.9^age; the goal, once it is in view; and t / T
    reward  1 - 0.9 t / T on reaching the goal in step t, else 0; step T ends the episode
    optimum 1 - 0.9 d / T, with d the length of the shortest path; 0 where there is no way

The deadline T belongs to the game, which the agent can see, so it terminates; there is no discount, the reward falls
with time instead. Shortest paths are exact, and so is the regret of every episode. The student is a small PPO; a
rollout is one whole episode on each of many levels, in step, so that only complete episodes are scored. Look at
`Game` first, then `Student.play`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from kit import runtime
from kit.curricula.space import Task
from kit.curricula.teacher import Feedback, Teacher
from kit.curricula.worlds.mazes import (
    CELLS,
    PLACE,
    SEES,
    STEP,
    WIDE,
    Levels,
    MazeSpace,
    bordered,
    optimum,
    random_levels,
    shortest,
)
from kit.rl.ppo import clipped_loss, gae, network
from kit.types import Metrics

SPAN = np.arange(-SEES, SEES + 1)
VIEW = (SPAN[:, None] * WIDE + SPAN).ravel()  # differences of place of the cells in view
OBS = 3 * len(VIEW) + 1


@dataclass(frozen=True)
class Config:
    """The game and its student."""

    max_walls: int = 25  # a random level has 0 to this many walls, each number as likely
    limit: int = 50  # T, steps of an episode
    fade: float = 0.9  # of the trail, a step
    learning_rate: float = 5e-4  # of Adam
    epochs: int = 2  # passes over the episodes of one play
    batch_size: int = 512  # steps in a gradient step
    gae_lambda: float = 0.95  # trace decay of the advantage
    clip: float = 0.2  # how far the ratio of new to old policy may move before its gradient is cut
    value_weight: float = 0.5  # of the squared error of the value
    entropy_weight: float = 0.01  # of the policy's entropy [nat]
    max_grad_norm: float = 0.5  # gradients are scaled down to this Euclidean norm
    hidden: tuple[int, ...] = (64, 64)  # widths of the tanh layers, for policy and value each
    score_every: int = 20_000  # the world's score is measured anew after so many training steps

    def __post_init__(self) -> None:
        if not 0 <= self.max_walls <= CELLS - 2:
            raise ValueError(f"max_walls is {self.max_walls}; it must lie in 0..{CELLS - 2}: start and goal are free")
        if self.limit < 1:
            raise ValueError(f"limit is {self.limit}; an episode needs at least 1 step")


# ---- the game and its student -----------------------------------------------------------------------------------


class Game:
    """One episode on each of n levels, in step. `rows` (m,) are those that still go on."""

    def __init__(self, levels: Levels, cfg: Config):
        self.cfg, self.t, self.rows = cfg, 0, np.arange(len(levels))
        self.place, self.goal = PLACE[levels.start], PLACE[levels.goal]
        self.walls = bordered(levels.walls)
        self.trail, self.goals = np.zeros((2, *self.walls.shape), np.float32)
        self.goals[self.rows, self.goal] = 1

    def look(self) -> np.ndarray:
        """What the agents see, (m, 76)."""
        around = (self.rows[:, None], self.place[self.rows, None] + VIEW)
        self.trail[self.rows, self.place[self.rows]] = 1
        time = np.full((len(self.rows), 1), self.t / self.cfg.limit)
        return np.concatenate(
            [self.walls[around], self.trail[around], self.goals[around], time], axis=1, dtype=np.float32
        )

    def move(self, actions: np.ndarray) -> np.ndarray:
        """Take actions (m,): rewards (m,). Those who reached the goal leave `rows`; at the deadline all do."""
        rows, self.t = self.rows, self.t + 1
        target = self.place[rows] + STEP[actions]
        self.place[rows] = np.where(self.walls[rows, target], self.place[rows], target)
        self.trail[rows] *= self.cfg.fade
        there = self.place[rows] == self.goal[rows]
        self.rows = rows[~there] if self.t < self.cfg.limit else rows[:0]
        return there * (1 - 0.9 * self.t / self.cfg.limit)


@dataclass(frozen=True)
class Episodes:
    """One episode on each of n levels: `obs` (T, n, 76), the others (T, n); all is 0 after an episode's end."""

    obs: np.ndarray
    actions: np.ndarray
    log_probs: np.ndarray
    rewards: np.ndarray
    values: np.ndarray
    active: np.ndarray  # bool: the episode still went on

    @property
    def returns(self) -> np.ndarray:
        return self.rewards.sum(axis=0)

    @property
    def lengths(self) -> np.ndarray:
        return self.active.sum(axis=0)

    def advantages(self, lam: float) -> np.ndarray:
        """GAE without discount (T, n), 0 after the end."""
        later, goes_on = np.zeros_like(self.values), np.zeros_like(self.active)
        later[:-1], goes_on[:-1] = self.values[1:], self.active[1:]
        return gae(self.rewards, self.values, later, ~goes_on, np.zeros_like(goes_on), 1.0, lam)


def categorical(logits: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log probabilities (B,) of the choices (B,) under logits (B, m), and the mean entropy [nat]."""
    log_policy = torch.log_softmax(logits, dim=1)
    entropy = -(log_policy.exp() * log_policy).sum(dim=1).mean()
    return log_policy.gather(1, chosen[:, None]).squeeze(1), entropy


def descend(loss: torch.Tensor, optimiser: torch.optim.Optimizer, max_norm: float) -> None:
    """One step down the gradient, which is first scaled down to a Euclidean norm of `max_norm`."""
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_((p for group in optimiser.param_groups for p in group["params"]), max_norm)
    optimiser.step()


class Student:
    """Policy and value, each a tanh network. Counts the `steps` it made, how many of them it `trained` on, and its
    gradient `updates`."""

    def __init__(self, cfg: Config, *, seed: int):
        runtime.one_thread()
        self.cfg, self.rng, self.generator = cfg, np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        self.actor = network((OBS, *cfg.hidden, len(STEP)), 0.01, self.generator)
        self.critic = network((OBS, *cfg.hidden, 1), 1.0, self.generator)
        parameters = [*self.actor.parameters(), *self.critic.parameters()]
        self.optimiser = torch.optim.Adam(parameters, lr=cfg.learning_rate, eps=1e-5)
        self.steps = self.trained = self.updates = 0

    @torch.no_grad()
    def act(self, obs: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Sampled actions (m,) for what is seen (m, 76), and their log probabilities (m,)."""
        logits = torch.log_softmax(self.actor(torch.from_numpy(obs)), dim=1).numpy()
        actions = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
        return actions, logits[np.arange(len(actions)), actions]

    def play(self, levels: Levels) -> Episodes:
        """One episode on each level; learns nothing."""
        game, shape = Game(levels, self.cfg), (self.cfg.limit, len(levels))
        played = Episodes(
            np.zeros((*shape, OBS), np.float32), np.zeros(shape, int), *np.zeros((3, *shape), np.float32),
            np.zeros(shape, bool),
        )  # fmt: skip
        while len(game.rows):
            at = (game.t, game.rows)
            played.active[at], played.obs[at] = True, game.look()
            played.actions[at], played.log_probs[at] = self.act(played.obs[at], self.rng)
            played.rewards[at] = game.move(played.actions[at])
        with torch.no_grad():
            played.values[played.active] = self.critic(torch.from_numpy(played.obs[played.active])).squeeze(1).numpy()
        self.steps += int(played.active.sum())
        return played

    def learn(self, played: Episodes, chosen: np.ndarray | None = None) -> None:
        """PPO on the episodes of the `chosen` levels, bool (n,), or of all."""
        cfg, used = self.cfg, played.active if chosen is None else played.active & chosen
        if not used.any():
            return
        self.trained += int(used.sum())
        advantages = played.advantages(cfg.gae_lambda)
        targets = advantages + played.values
        columns = (played.obs, played.actions, played.log_probs, advantages, targets)
        batch = [torch.from_numpy(column[used]) for column in columns]
        for _ in range(cfg.epochs):
            for rows in torch.randperm(len(batch[0]), generator=self.generator).split(cfg.batch_size):
                descend(self.loss(*(column[rows] for column in batch)), self.optimiser, cfg.max_grad_norm)
                self.updates += 1

    def loss(self, obs, actions, old, advantages, targets) -> torch.Tensor:
        """PPO's objective for a categorical policy: `obs` (B, 76), the others (B,)."""
        cfg = self.cfg
        advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
        log_probs, entropy = categorical(self.actor(obs), actions)
        critic = ((self.critic(obs).squeeze(1) - targets) ** 2).mean()
        policy = clipped_loss(log_probs, old, advantages, cfg.clip)
        return policy + cfg.value_weight * critic - cfg.entropy_weight * entropy

    def solve(self, levels: Levels, *, seed: int, repeats: int = 1) -> np.ndarray:
        """Share of `repeats` episodes that reach the goal, on each level (n,). Nothing of the student changes."""
        rng, wins = np.random.default_rng(seed), np.zeros(len(levels))
        for _ in range(repeats):
            game = Game(levels, self.cfg)
            while len(game.rows):
                rows = game.rows
                wins[rows] += game.move(self.act(game.look(), rng)[0]) > 0
        return wins / repeats


class WallGrid:
    """The world: `space` of levels and a `student`. `score` is its solve rate on fixed solvable random levels."""

    def __init__(self, cfg: Config | None = None, *, seed: int = 0):
        self.cfg = Config() if cfg is None else cfg
        self.space = MazeSpace(self.cfg.max_walls)
        self.student = Student(self.cfg, seed=seed)
        self.held_out = solvable(100, self.cfg, seed=0)
        self._score: tuple[int, float] | None = None  # when it was measured [steps], and what it was

    def play(self, tasks: Sequence[Task]) -> list[Feedback]:
        """One episode on each task, then one PPO update on those with `trains`."""
        levels = self.space.levels_of(np.array([task.point for task in tasks]))
        played = self.student.play(levels)
        self.student.learn(played, np.array([task.trains for task in tasks]))
        numbers = feedback_numbers(played, levels, self.cfg)
        return [
            Feedback(task.id, **{name: column[i].item() for name, column in numbers.items()})
            for i, task in enumerate(tasks)
        ]

    def score(self) -> float:
        """Share of the held-out levels solved, measured anew only every `score_every` steps."""
        if self._score is None or self.student.steps >= self._score[0] + self.cfg.score_every:
            self._score = self.student.steps, float(self.student.solve(self.held_out, seed=0).mean())
        return self._score[1]


def train(teacher: Teacher, world: WallGrid, steps: int, *, batch: int = 64) -> Iterator[Metrics]:
    """Play tasks of the teacher's choice, `batch` at a time, until the student has made `steps` steps in all episodes,
    those from which it does not learn included; yield after each batch. The teacher is the agent."""
    episodes, student = 0, world.student
    while student.steps < steps:
        feedback = world.play(teacher.ask(batch))
        teacher.tell(feedback)
        episodes += batch
        values = {
            "steps": float(student.steps),
            "trained": float(student.trained),
            "updates": float(student.updates),
            "episodes": float(episodes),
            "progress": min(student.steps / steps, 1.0),
            "return": float(np.mean([fb.ret for fb in feedback])),
            "regret": float(np.mean([fb.regret for fb in feedback])),
            "mastered": world.score(),
        }
        yield Metrics(values, agent=teacher)


def solvable(n: int, cfg: Config, *, seed: int) -> Levels:
    """n random levels with a way to the goal, fixed by the seed."""
    levels = random_levels(np.random.default_rng(seed), 3 * n + 100, cfg.max_walls)
    levels = levels[np.isfinite(shortest(levels))]
    if len(levels) < n:
        raise ValueError(
            f"only {len(levels)} of {3 * n + 100} random levels have a way, {n} are needed; lower max_walls"
        )
    return levels[:n]


def feedback_numbers(played: Episodes, levels: Levels, cfg: Config) -> dict[str, np.ndarray]:
    """The fields of `Feedback` but its id, (n,) each; the regret is exact."""
    advantages, length = played.advantages(cfg.gae_lambda), played.lengths
    return {
        "ret": played.returns.astype(float),
        "success": played.returns > 0,
        "value": played.values[0],
        "mean_value": played.values.sum(axis=0) / length,
        "pvl": np.maximum(advantages, 0).sum(axis=0) / length,
        "abs_advantage": np.abs(advantages).sum(axis=0) / length,
        "regret": optimum(levels, cfg.limit) - played.returns,
        "length": length,
    }
