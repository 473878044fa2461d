"""`kit/Avoid-v0`: a rod crosses three rows of pillars, in one of 24 ways; kinematic, NumPy only.

        exit 0  |  exit 1  |  exit 2         done above y = 0.35
          o        o        o                row 3: four gaps
              o        o                     row 2: three gaps
                  o                          row 1: two gaps
                   x                         start

    desired <- desired + 0.01 a,   actual <- actual + 0.5 (desired - actual)          each 35 ms, a in [-1, 1]^2

The rod's point (radius 0.01) follows the desired one; touching a pillar ends the episode. Which gap of each row it took
is its `mode`, 2 * 3 * 4 in all, so that how many ways a policy knows can be counted. The geometry is that of D3IL's
Avoiding task (Jia et al. 2024). `Avoid(rows=1)` has the first pillar alone: left or right. Look first at `Avoid.step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from scipy.interpolate import PchipInterpolator

from kit.data import Episodes
from kit.envs.task import Fields, Task, TaskSpace

ROWS = ((0.5,), (0.425, 0.575), (0.35, 0.5, 0.65))  # x of the pillars [m]
ROW_Y = (-0.10, 0.08, 0.26)  # [m]
PILLAR = (0.03, 0.025, 0.025)  # radii by row [m]
ROD = 0.01  # radius [m]
START = np.array([0.525, -0.28])  # [m]
DONE_Y = 0.35  # [m]
EXITS = (0.4, 0.6)  # x that parts the three exits [m]
GAP = 0.075  # from a pillar to the middle of a gap beside it [m]
LOW, HIGH = np.array([0.2, -0.35]), np.array([0.8, 0.40])  # where the desired point may be [m]
DELTA = 0.01  # largest step of the desired point along an axis [m]
FOLLOW = 0.5  # share of the way that the rod makes in a step


def gaps(row: int) -> np.ndarray:
    """x of the middles of a row's gaps, left to right [m]."""
    pillars = np.array(ROWS[row])
    return np.append(pillars - GAP, pillars[-1] + GAP)


def mode_of(taken: np.ndarray) -> np.ndarray:
    """Numbers (n,) of the ways, from the gaps taken in each row (n, rows); -1 where a row was not crossed."""
    taken = np.asarray(taken, int)
    number = np.zeros(len(taken), int)
    for row in range(taken.shape[1]):
        number = number * (len(ROWS[row]) + 1) + taken[:, row]
    return np.where((taken < 0).any(axis=1), -1, number)


def gaps_of(mode: int, rows: int = 3) -> tuple[int, ...]:
    """The inverse of `mode_of`, for one way."""
    taken = []
    for row in reversed(range(rows)):
        mode, gap = divmod(mode, len(ROWS[row]) + 1)
        taken.append(gap)
    return tuple(reversed(taken))


def modes(rows: int = 3) -> int:
    """How many ways there are: 24, or 2 with the first row alone."""
    return int(np.prod([len(ROWS[row]) + 1 for row in range(rows)]))


class Avoid(Task):
    """Task field: `exit`, which of the three is asked for, or -1, any. State (4,): desired and actual x, y [m].

    After a step, `mode` (n,) is the way taken, -1 as long as rows are left, and `left_by` (n,) the exit, or -1.
    """

    live_fields = ("exit",)
    fps = 1 / 0.035

    def __init__(self, num_envs: int = 1, *, rows: int = 3, max_steps: int = 250):
        super().__init__(num_envs)
        if rows not in (1, 2, 3):
            raise ValueError(f"rows is {rows}; it must be 1, 2 or 3")
        self.rows, self.max_steps = rows, max_steps
        self.pillars = np.array([(x, ROW_Y[row]) for row in range(rows) for x in ROWS[row]])
        self.radii = np.array([PILLAR[row] for row in range(rows) for _ in ROWS[row]])
        self.task_space = TaskSpace(exit=spaces.Box(-1.0, 2.0, (1,), np.float64))
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = spaces.Box(np.tile(LOW, 2).astype(np.float32), np.tile(HIGH, 2).astype(np.float32))
        self.desired, self.actual = np.tile(START, (num_envs, 1)), np.tile(START, (num_envs, 1))
        self.exit = np.full(num_envs, -1)
        self.taken = np.full((num_envs, rows), -1)

    @property
    def mode(self) -> np.ndarray:
        return mode_of(self.taken)

    @property
    def left_by(self) -> np.ndarray:
        exits = np.searchsorted(EXITS, self.actual[:, 0], side="right")
        return np.where(self.actual[:, 1] > DONE_Y, exits, -1)

    def reset(self, ids: np.ndarray, given: Fields, rngs: Sequence[np.random.Generator]) -> Fields:
        asked = given.get("exit", np.full((len(ids), 1), -1.0))
        self._check_exit(asked)
        self.desired[ids] = self.actual[ids] = START
        self.exit[ids], self.taken[ids] = asked[:, 0].astype(int), -1
        return {"exit": asked}

    @staticmethod
    def _check_exit(asked: np.ndarray) -> None:
        if (bad := asked != np.round(asked)).any():
            raise ValueError(f"exit is {asked[bad][0]}; it must be 0, 1, 2, or -1 for any")

    def retask(self, ids: np.ndarray, fields: Fields) -> None:
        if "exit" in fields:
            self._check_exit(fields["exit"])
            self.exit[ids] = fields["exit"][:, 0].astype(int)

    def step(self, actions: np.ndarray) -> None:
        before = self.actual[:, 1].copy()
        self.desired = np.clip(self.desired + DELTA * actions, LOW, HIGH)
        self.actual = self.actual + FOLLOW * (self.desired - self.actual)
        for row in range(self.rows):
            crossed = (before < ROW_Y[row]) & (self.actual[:, 1] >= ROW_Y[row])
            gap = np.searchsorted(ROWS[row], self.actual[:, 0])
            self.taken[:, row] = np.where(crossed, gap, self.taken[:, row])

    def touching(self) -> np.ndarray:
        """Which rods touch a pillar, bool (n,)."""
        apart = np.linalg.norm(self.actual[:, None] - self.pillars, axis=2)
        return (apart < self.radii + ROD).any(axis=1)

    def observe(self, ids: np.ndarray | slice = slice(None)) -> Any:
        return np.concatenate((self.desired[ids], self.actual[ids]), axis=1).astype(np.float32)

    def judge(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reward 1 for leaving by the exit asked for; leaving and touching end the episode."""
        touching, left = self.touching(), self.left_by
        success = (left >= 0) & ~touching & ((self.exit < 0) | (left == self.exit))
        return success.astype(float), touching | (left >= 0), success

    def render(self, sim: int) -> np.ndarray:
        """From above, 400 pixels a metre: pillars grey, the desired point orange, the rod blue."""
        x, y = np.meshgrid(np.linspace(LOW[0], HIGH[0], 240), np.linspace(LOW[1], HIGH[1], 300))
        at = np.stack((x, y), axis=-1)
        image = np.full((*x.shape, 3), (240, 240, 236), np.uint8)
        image[(y > DONE_Y) & (np.abs(x[..., None] - EXITS).min(axis=-1) > 0.003)] = (214, 236, 226)
        for pillar, radius in zip(self.pillars, self.radii, strict=True):
            image[np.linalg.norm(at - pillar, axis=-1) < radius] = (70, 70, 75)
        image[np.linalg.norm(at - self.desired[sim], axis=-1) < ROD / 2] = (230, 159, 0)
        image[np.linalg.norm(at - self.actual[sim], axis=-1) < ROD] = (0, 114, 178)
        return image[::-1]


# ---- the scripted expert ----------------------------------------------------------------------------------------


def path(mode: int, rng: np.random.Generator | None = None, *, rows: int = 3, noise: float = 0.012) -> np.ndarray:
    """Points (m, 2) [m] of a smooth way by the gaps of a mode; with `rng` it passes up to `noise` beside their middles.

    Before and after each row the way runs straight for 2 cm, so that it bends where there is room.
    """
    taken = gaps_of(mode, rows)
    shift = np.zeros(rows) if rng is None else rng.uniform(-noise, noise, rows)
    ys, xs = [START[1]], [START[0]]
    for row in range(rows):
        x = gaps(row)[taken[row]] + shift[row]
        ys += [ROW_Y[row] - 0.02, ROW_Y[row] + 0.02]
        xs += [x, x]
    ys, xs = [*ys, DONE_Y + 0.02], [*xs, xs[-1]]
    y = np.linspace(ys[0], ys[-1], 400)
    return np.stack([PchipInterpolator(ys, xs)(y), y], axis=1)


def follow(points: np.ndarray, desired: np.ndarray) -> np.ndarray:
    """The action (2,) that moves a desired point (2,) on along a way (m, 2): towards the point one step ahead of the
    nearest one, as fast as an axis allows."""
    nearest = int(np.argmin(np.linalg.norm(points - desired, axis=1)))
    ahead = np.linalg.norm(points[nearest:] - desired, axis=1)
    there = points[nearest + int(np.argmax(ahead > DELTA))] if (ahead > DELTA).any() else points[-1]
    return np.clip((there - desired) / DELTA, -1, 1)


def demonstrations(copies: int = 4, *, seed: int, rows: int = 3) -> dict[str, list[np.ndarray]]:
    """Episodes that take each way `copies` times: `observations` (T + 1, 4), `actions` (T, 2), and `modes` (1,).

    The rod's own lag is in them. Deterministic for a seed.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {"observations": [], "actions": [], "modes": []}
    for mode in range(modes(rows)):
        for _ in range(copies):
            points, task = path(mode, rng, rows=rows), Avoid(1, rows=rows)
            task.reset(np.arange(1), {}, [rng])
            observations, actions = [task.observe()[0]], []
            while task.left_by[0] < 0 and len(actions) < task.max_steps:
                actions.append(follow(points, task.desired[0]).astype(np.float32))
                task.step(actions[-1][None])
                observations.append(task.observe()[0])
            found["observations"].append(np.array(observations))
            found["actions"].append(np.array(actions))
            found["modes"].append(task.mode)
    return found


def episodes(copies: int = 4, *, seed: int, rows: int = 3) -> Episodes:
    """`demonstrations` as one dataset; reaching an exit terminates."""
    shown = demonstrations(copies, seed=seed, rows=rows)
    ends = np.cumsum([len(o) for o in shown["observations"]]) - 1
    terminated = np.zeros(ends[-1] + 1, bool)
    terminated[ends - 1] = True
    actions = np.concatenate([np.pad(a, ((0, 1), (0, 0))) for a in shown["actions"]])
    return Episodes(np.concatenate(shown["observations"]), actions, terminated, np.zeros_like(terminated), ends)
