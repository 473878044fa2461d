"""Goals as tokens: what a policy may be asked for, and what a logged walk turned out to reach.

    state   g (d,)          a state to reach                       one token,   W g + b
    word    g (n,)          one-hot: one of n requests             one token,   W g + b
    path    g (m, d)        points to pass, NaN after the last     m tokens,    W g_i + b + p_i
    none    the learned token 0, so that "nothing is asked" is no legal goal, as zeros would be

    hindsight goal of s_t:   s_k,  k - t ~ Geometric(1 - gamma), or k ~ uniform over t + 1 .. T, or k = T

Whole samples lose their goal in training, never single elements of one: guidance asks the network with no goal at all,
so that is what it must have seen (Ho & Salimans 2022; BESO, Reuss et al. 2023). A goal in hindsight is one that
somebody reached (Andrychowicz et al. 2017). Look first at `drop`, then at `GoalEncoder` and `later`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from kit.data import Episodes

DISTRIBUTIONS = ("geometric", "uniform", "final")


# ---- kinds of goals -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """A state to reach, (size,), scaled by the caller."""

    size: int
    tokens = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,)

    def fault(self, goal: torch.Tensor) -> str:
        """What is wrong with goals (B, size), or nothing."""
        return "" if goal.isfinite().all() else "a state goal must be finite"


@dataclass(frozen=True)
class Word:
    """One of `size` requests, one-hot (size,)."""

    size: int
    tokens = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,)

    def fault(self, goal: torch.Tensor) -> str:
        one_hot = ((goal == 0) | (goal == 1)).all() and (goal.sum(dim=-1) == 1).all()
        return "" if one_hot else f"a word is one-hot: a single 1 among {self.size} numbers, the others 0"


@dataclass(frozen=True)
class Path:
    """Up to `tokens` points (tokens, size) to pass; after the last point the rows are NaN."""

    size: int
    tokens: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.tokens, self.size)

    def fault(self, goal: torch.Tensor) -> str:
        there = goal.isfinite().all(dim=-1)
        if not there[:, 0].all() or (there[:, 1:] & ~there[:, :-1]).any():
            return "a path is finite from its first point to its last, and NaN only after it"
        return ""


Kind = State | Word | Path


def check_goal(kind: Kind, goal: torch.Tensor) -> torch.Tensor:
    """Goals of one kind as (B, tokens, size), from (B, *kind.shape) or the same flat, (B, numbers).

    Raises:
        ValueError: goals of another kind: their shape or their values do not fit.
    """
    name, wanted = type(kind).__name__.lower(), kind.shape
    if tuple(goal.shape[1:]) not in (wanted, (math.prod(wanted),)):
        raise ValueError(
            f"the goal has shape {tuple(goal.shape)}; a {name} is (B, {', '.join(map(str, wanted))}). Give a goal of "
            "the kind that the encoder was made with"
        )
    goal = goal.reshape(len(goal), *wanted)
    if fault := kind.fault(goal):
        raise ValueError(f"{fault}; found {goal[0].tolist()} among {len(goal)} goals")
    return goal.reshape(len(goal), kind.tokens, kind.size)


# ---- tokens -------------------------------------------------------------------------------------------------------


def whole(n: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Which of n samples lose their goal, bool (n,): each with probability `share`."""
    return torch.rand(n, generator=generator) < share


def drop(
    tokens: torch.Tensor, mask: torch.Tensor, null: torch.Tensor, dropped: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (B, L, width) and mask (B, L) with `null` (width,) where nothing is: beyond a goal's end, and in the whole
    sample where `dropped` (B,). A dropped sample shows one null token, so that not even its goal's length is seen."""
    tokens = torch.where((mask & ~dropped[:, None])[..., None], tokens, null)
    first = torch.zeros_like(mask)
    first[:, 0] = True
    return tokens, torch.where(dropped[:, None], first, mask)


class GoalEncoder(nn.Module):
    """Goals of one or several kinds as tokens (B, tokens, width) with a mask (B, tokens), true where a token counts.

    `tokens` is that of the longest kind. Where the mask is false a token is the learned null token.
    """

    def __init__(self, kinds: Kind | Mapping[str, Kind], width: int):
        super().__init__()
        self.kinds = dict(kinds) if isinstance(kinds, Mapping) else {type(kinds).__name__.lower(): kinds}
        if not self.kinds:
            raise ValueError("a goal encoder without a kind of goal; give State, Word or Path")
        self.width, self.tokens = width, max(kind.tokens for kind in self.kinds.values())
        self.read = nn.ModuleDict({name: nn.Linear(kind.size, width) for name, kind in self.kinds.items()})
        self.places = nn.Parameter(0.02 * torch.randn(self.tokens, width))
        self.null = nn.Parameter(0.02 * torch.randn(width))

    def kind(self, name: str | None = None) -> Kind:
        """The kind of that name; without one, the only kind.

        Raises:
            ValueError: there is none of that name, or no name was given though there are several.
        """
        if name is None and len(self.kinds) == 1:
            return next(iter(self.kinds.values()))
        if name not in self.kinds:
            raise ValueError(f"no goal of the kind {name!r}; this encoder knows {', '.join(self.kinds)}")
        return self.kinds[name]

    def forward(
        self, goal: torch.Tensor, dropped: torch.Tensor | None = None, kind: str | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and mask of goals (B, *shape), or flat; `dropped` (B,) bool: samples without a goal.

        Goals of dropped samples are not looked at: anything may stand there.

        Raises:
            ValueError: a goal of the wrong kind.
        """
        chosen, name = self.kind(kind), kind or next(iter(self.kinds))
        dropped = torch.zeros(len(goal), dtype=torch.bool, device=goal.device) if dropped is None else dropped
        points = torch.zeros(len(goal), chosen.tokens, chosen.size, dtype=self.null.dtype, device=goal.device)
        if not dropped.all():
            points[~dropped] = check_goal(chosen, goal[~dropped]).to(points)
        there = torch.zeros(len(goal), self.tokens, dtype=torch.bool, device=goal.device)
        there[:, : chosen.tokens] = points.isfinite().all(dim=-1)
        tokens = self.places.expand(len(goal), -1, -1).clone()
        tokens[:, : chosen.tokens] += self.read[name](points.nan_to_num(0.0))
        return drop(tokens, there, self.null, dropped)


# ---- goals in hindsight -------------------------------------------------------------------------------------------


def later(rows: np.ndarray, last: np.ndarray, u: np.ndarray, distribution: str, gamma: float = 0.95) -> np.ndarray:
    """Rows (n,) of goals for rows (n,) whose episodes end at `last` (n,), from uniform numbers u (n,) in [0, 1).

    All lie after their row and inside its episode: geometric by inversion, P(k - t >= j) = gamma^(j - 1).
    """
    if distribution == "final":
        return last
    if distribution == "uniform":
        return rows + 1 + (u * (last - rows)).astype(int)
    steps = 1 + np.floor(np.log1p(-u) / np.log(gamma)).astype(int)
    return np.minimum(rows + steps, last)


@dataclass(frozen=True)
class HindsightGoals:
    """Goals for rows of logged episodes, from what came later in them.

    Raises:
        ValueError: an unknown distribution, gamma outside (0, 1), or a dataset without goals.
    """

    data: Episodes
    distribution: str = "geometric"  # or uniform, or final: the episode's last row
    gamma: float = 0.95  # of the geometric distribution [a step]; its mean is 1 / (1 - gamma)

    def __post_init__(self) -> None:
        self.data.require(goal_dim=0)
        if self.distribution not in DISTRIBUTIONS:
            raise ValueError(f"unknown distribution {self.distribution!r}; there are {', '.join(DISTRIBUTIONS)}")
        if not 0 < self.gamma < 1:
            raise ValueError(f"gamma is {self.gamma}; it must lie strictly between 0 and 1")

    def rows(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Goal rows (n,) for rows (n,) from which a step was taken.

        Raises:
            ValueError: a row that ends its episode: nothing comes later.
        """
        last = self.data.last[rows]
        if (rows == last).any():
            raise ValueError(f"row {rows[rows == last][0]} ends its episode; goals in hindsight come later than a row")
        return later(rows, last, rng.random(len(rows)), self.distribution, self.gamma)

    def sample(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Goals (n, goal_dim) for rows (n,)."""
        return self.data.goals[self.rows(rows, rng)]

    def paths(self, rows: np.ndarray, points: int) -> np.ndarray:
        """The way from each row (n,) to its episode's end, as `points` evenly spaced goals (n, points, goal_dim)."""
        share = np.arange(1, points + 1) / points
        ahead = rows[:, None] + np.round((self.data.last[rows] - rows)[:, None] * share).astype(int)
        return self.data.goals[ahead]
