"""Levels of a 7 x 7 grid maze: walls, a start and a goal; random ones, hand-made ones, and their exact shortest paths.

    S..#...
    .#.#.#.      S start, G goal, # wall; a border of walls surrounds the grid
    .#...#G ...

All functions take many levels at once. `MazeSpace` is their task space: every point of it is a valid level, and its
`sample` is domain randomisation. Look at `distances` first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from kit.curricula.space import Space
from kit.envs.grid import MOVES

SIZE = 7  # rows and columns
CELLS = SIZE * SIZE  # numbered row by row
SEES = 2  # cells to each side; a border of walls that wide surrounds the grid
WIDE = SIZE + 2 * SEES
PLACE = ((np.arange(SIZE)[:, None] + SEES) * WIDE + np.arange(SIZE) + SEES).ravel()  # of each cell in the bordered grid
STEP = MOVES @ (WIDE, 1)  # up, right, down, left as differences of place

MAZES = {
    "spiral": "S...... ######. .....#. .###.#. .#G..#. .#####. .......",
    "snake": "S...... ######. ....... .###### ....... ######. G......",
    "four_rooms": "S..#... ....... ...#... #.###.# ...#... ...#... ......G",
    "vault": "...S... .#####. .#...#. .#.G.#. .#...#. .##.##. .......",
    "detour": "....... ..S.... ....... ######. ....... ..G.... .......",
    "trap": "....... .####.. ....#.. S...#.G ....#.. .####.. .......",
    "comb": "S#...#. .#.#.#. .#.#.#. .#.#.#. .#.#.#. .#.#.#. ...#..G",
    "pillars": "S...... .#.#.#. ....... .#.#.#. ....... .#.#.#. ......G",
    "labyrinth": "S#..... .#.###. ...#... ##.#.## .#.#... .#.###. .....#G",
    "pocket": "...#..S ##.#.## ...#... .#####. .#...#. .#.#.#. ...#G..",
}  # S start, G goal, # wall, a row of cells each


# ---- levels -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Levels:
    """n levels: `walls` bool (n, 49), `start` and `goal` int (n,), two different free cells."""

    walls: np.ndarray
    start: np.ndarray
    goal: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, rows: np.ndarray | slice) -> Levels:
        return Levels(self.walls[rows], self.start[rows], self.goal[rows])

    @classmethod
    def valid(cls, walls: np.ndarray, start: np.ndarray, goal: np.ndarray) -> Levels:
        """Any walls (n, 49), starts and goals (n,) made valid: a start on the goal moves to the next cell, and both
        push walls away."""
        walls, start, goal = np.array(walls, bool), np.array(start, int), np.array(goal, int)
        start = np.where(start == goal, (start + 1) % CELLS, start)
        rows = np.arange(len(start))
        walls[rows, start] = walls[rows, goal] = False
        return cls(walls, start, goal)

    @classmethod
    def parse(cls, *texts: str) -> Levels:
        """Levels from text, as in `MAZES`.

        Raises:
            ValueError: a text has not seven rows of seven cells with one S and one G.
        """
        rows = []
        for text in texts:
            cells = np.array(list("".join(text.split())))
            if [len(row) for row in text.split()] != [SIZE] * SIZE or [(cells == c).sum() for c in "SG"] != [1, 1]:
                raise ValueError(f"a maze has {SIZE} rows of {SIZE} cells, one S and one G; this is {text!r}")
            rows.append((cells == "#", np.flatnonzero(cells == "S")[0], np.flatnonzero(cells == "G")[0]))
        return cls(*(np.array(column) for column in zip(*rows, strict=True)))

    def text(self, i: int) -> str:
        """Level i as lines of text."""
        cells = np.where(self.walls[i], "#", ".")
        cells[self.start[i]], cells[self.goal[i]] = "S", "G"
        return "\n".join("".join(row) for row in cells.reshape(SIZE, SIZE))


class MazeSpace(Space):
    """Fields `walls`, `start` and `goal`. Every point decodes to a valid level. `sample` draws the number of walls
    uniformly first, then their cells: a uniform point of the cube would be half walls, with hardly ever a way."""

    def __init__(self, max_walls: int):
        binary, cell = spaces.MultiBinary(CELLS), spaces.Discrete(CELLS)
        super().__init__(walls=binary, start=cell, goal=cell)
        self.max_walls = max_walls

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return self.points_of(random_levels(rng, n, self.max_walls))

    def snap(self, points: np.ndarray) -> np.ndarray:
        return self.points_of(self.levels_of(points))

    def levels_of(self, points: np.ndarray) -> Levels:
        """The levels of points (n, 51)."""
        bins = np.floor(super().snap(points) * self.choices).astype(int)
        return Levels.valid(bins[:, :CELLS], bins[:, CELLS], bins[:, CELLS + 1])

    def points_of(self, levels: Levels) -> np.ndarray:
        """The points (n, 51) of levels."""
        return (np.c_[levels.walls, levels.start, levels.goal] + 0.5) / self.choices


def random_levels(rng: np.random.Generator, n: int, max_walls: int) -> Levels:
    """n levels with 0..max_walls walls, each number as likely, in random cells; start and goal are random too."""
    count = rng.integers(0, max_walls + 1, n)
    order = rng.permuted(np.tile(np.arange(CELLS), (n, 1)), axis=1)
    walls = np.zeros((n, CELLS), bool)
    np.put_along_axis(walls, order[:, 2:], np.arange(CELLS - 2) < count[:, None], axis=1)
    return Levels(walls, order[:, 0], order[:, 1])


def from_tokens(tokens: np.ndarray) -> Levels:
    """Levels from cells (n, L) written down: walls, then the goal, then the start. 49 means no wall."""
    walls = np.zeros((len(tokens), CELLS + 1), bool)
    np.put_along_axis(walls, tokens[:, :-2], True, axis=1)
    return Levels.valid(walls[:, :CELLS], start=tokens[:, -1], goal=tokens[:, -2])


def empty_rooms(space: MazeSpace, rng: np.random.Generator, n: int) -> np.ndarray:
    """n levels without walls as points (n, 51), a generator for methods that begin with the simplest levels."""
    return space.points_of(random_levels(rng, n, 0))


def bordered(walls: np.ndarray) -> np.ndarray:
    """Walls (n, 49) with the border around, (n, 121)."""
    wide = np.ones((len(walls), WIDE * WIDE), bool)
    wide[:, PLACE] = walls
    return wide


def distances(levels: Levels) -> np.ndarray:
    """Steps from every cell to the goal (n, 49), breadth first on all levels at once; inf where there is no way."""
    free = ~bordered(levels.walls)
    steps = np.full(free.shape, np.inf)
    front = np.zeros_like(free)
    front[np.arange(len(levels)), PLACE[levels.goal]] = True
    d = 0
    while front.any():
        steps[front] = d
        beside = np.logical_or.reduce([np.roll(front, step, axis=1) for step in STEP])
        front = beside & free & np.isinf(steps)
        d += 1
    return steps[:, PLACE]


def shortest(levels: Levels) -> np.ndarray:
    """Length of the shortest path from start to goal (n,); inf where there is none."""
    return distances(levels)[np.arange(len(levels)), levels.start]


def optimum(levels: Levels, limit: int) -> np.ndarray:
    """The best return of each level (n,)."""
    steps = shortest(levels)
    return np.where(steps <= limit, 1 - 0.9 * np.minimum(steps, limit) / limit, 0.0)
