"""Small gridworlds as tables, with everything that can be known about them exactly.

    ####
    #S.#        '#' is a wall, anything else is free; states are the free cells, numbered row by row
    #.G#

An action moves one cell (up, right, down, left); a move into a wall stays. `next_state` (S, 4) is the whole dynamics.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])  # up, right, down, left as (row, column)
ARROWS = "↑→↓←"

WALLS = """
###########
#....#....#
#....#....#
#.........#
#....#....#
#....#....#
##.#####.##
#....#....#
#....#....#
#.........#
#....#....#
#....#....#
###########
"""


@dataclass(frozen=True)
class Grid:
    """A gridworld. Attributes: `walls` bool (rows, columns), `cells` (S, 2), `index` (rows, columns) with -1 for walls,
    `next_state` (S, 4)."""

    walls: np.ndarray
    cells: np.ndarray
    index: np.ndarray
    next_state: np.ndarray

    @classmethod
    def parse(cls, text: str) -> Grid:
        """A grid from text.

        Raises:
            ValueError: the lines differ in length, or no cell is free.
        """
        lines = text.split()
        if len({len(line) for line in lines}) != 1:
            raise ValueError(f"grid lines have lengths {sorted({len(line) for line in lines})}; they must be equal")
        walls = np.array([[c == "#" for c in line] for line in lines])
        return cls.from_walls(walls)

    @classmethod
    def empty(cls, rows: int, columns: int) -> Grid:
        """A room of `rows` x `columns` free cells, walled all around."""
        return cls.from_walls(np.pad(np.zeros((rows, columns), bool), 1, constant_values=True))

    @classmethod
    def from_walls(cls, walls: np.ndarray) -> Grid:
        walls = np.pad(walls, 0)
        cells = np.argwhere(~walls)
        if not len(cells):
            raise ValueError("this grid has no free cell")
        index = np.full(walls.shape, -1)
        index[tuple(cells.T)] = np.arange(len(cells))
        target = cells[:, None] + MOVES  # (S, 4, 2)
        inside = ((target >= 0) & (target < walls.shape)).all(axis=-1)
        clipped = np.clip(target, 0, np.array(walls.shape) - 1)
        reached = np.where(inside, index[clipped[..., 0], clipped[..., 1]], -1)
        return cls(walls, cells, index, np.where(reached >= 0, reached, np.arange(len(cells))[:, None]))

    @property
    def size(self) -> int:
        return len(self.cells)

    def state(self, row: int, column: int) -> int:
        """The state of a free cell.

        Raises:
            ValueError: the cell is a wall or outside.
        """
        inside = 0 <= row < self.walls.shape[0] and 0 <= column < self.walls.shape[1]
        if not inside or self.walls[row, column]:
            raise ValueError(f"cell ({row}, {column}) is a wall or outside of {self.walls.shape}")
        return int(self.index[row, column])

    def distances(self, goal: int) -> np.ndarray:
        """Steps from every state to `goal` by breadth-first search, (S,); inf where there is no way."""
        steps = np.full(self.size, np.inf)
        steps[goal] = 0
        queue = deque([goal])
        into = [np.flatnonzero((self.next_state == s).any(axis=1)) for s in range(self.size)]
        while queue:
            s = queue.popleft()
            for before in into[s]:
                if np.isinf(steps[before]):
                    steps[before] = steps[s] + 1
                    queue.append(before)
        return steps

    def all_distances(self) -> np.ndarray:
        """Steps from every state to every state, (S, S): row s holds those from s."""
        return np.stack([self.distances(goal) for goal in range(self.size)], axis=1)

    def transition(self, policy: np.ndarray) -> np.ndarray:
        """State-to-state probabilities (S, S) under `policy` (S, 4)."""
        matrix = np.zeros((self.size, self.size))
        for a in range(4):
            np.add.at(matrix, (np.arange(self.size), self.next_state[:, a]), policy[:, a])
        return matrix

    def show(self, values: np.ndarray, *, fill: float = np.nan) -> np.ndarray:
        """Values of states (S,) as a picture (rows, columns), `fill` in the walls."""
        picture = np.full(self.walls.shape, fill, dtype=float)
        picture[tuple(self.cells.T)] = values
        return picture

    def picture(self, values: np.ndarray) -> list[list[float | None]]:
        """Values of states (S,) as rows for a heat map; None in the walls, which JSON can carry and NaN cannot."""
        return [[None if np.isnan(v) else float(v) for v in row] for row in self.show(values)]
