"""A point steered by a small evolved network through a maze with rewards in three places only.

    h_1 = tanh(W_1 (x, y, t) + b_1),   h_2 = tanh(W_2 h_1 + b_2),   velocity = 0.5 tanh(W_3 h_2 + b_3)   [cells a step]
    reward of disc i = max(0, 1 - |end - c_i| / radius)

Only where the point ends after 60 steps counts: nearly every policy earns nothing, so there is no slope to follow. And
the maze is deceptive (after Lehman & Stanley 2011): the disc "far" lies five cells from the start, behind a wall, and
the way there leads out of the room, through another one and back. A picture of 16 x 16 grey values shows the end of an
episode; a method that learns its behaviour space sees only that.

The position (x, y) is in cells, x to the right and y upwards, from (0, 0) to (16, 16). `print(DeceptivePoint())` shows
the map. Look at `rollout`: all policies of a generation run at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import label

MAP = """
################
#......#.......#
#..............#
#......#..######
#..A...#.......#
#......#.......#
########.###...#
#..........#...#
#..........#.B.#
#...S......#...#
#..........#####
#.#########....#
#.#............#
#.#..######..C.#
#....#.........#
################
"""
SIZE = 16  # cells along a side, and pixels of a picture
STEPS = 60  # of an episode
SPEED = 0.5  # largest move along an axis in a step [cells]
HIDDEN = 8  # units in each of the two layers
RADIUS = 1.0  # of a reward disc [cells]
LIMIT = 5.0  # a weight lies between -LIMIT and LIMIT
DISCS = ("far", "right", "low")  # names of the discs A, B, C
SIZES = ((3, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 2))  # of the layers, in and out
GENOME = sum((n_in + 1) * n_out for n_in, n_out in SIZES)


@dataclass(frozen=True)
class Rollout:
    """What n policies did."""

    paths: np.ndarray  # (n, STEPS + 1, 2) [cells]
    rewards: np.ndarray  # (n, 3), one column a disc, 0 to 1

    @property
    def ends(self) -> np.ndarray:
        """Last positions (n, 2) [cells]."""
        return self.paths[:, -1]


def layers(genomes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights (n, in, out) and biases (n, out) of each layer of the networks that genomes (n, GENOME) encode."""
    pairs, at = [], 0
    for n_in, n_out in SIZES:
        weight = genomes[:, at : at + n_in * n_out].reshape(-1, n_in, n_out)
        at += n_in * n_out
        pairs.append((weight, genomes[:, at : at + n_out]))
        at += n_out
    return pairs


class DeceptivePoint:
    """The maze as a task for `kit.skills.repertoire` and `kit.skills.stax`."""

    genome_dim = GENOME
    low, high = np.full(GENOME, -LIMIT), np.full(GENOME, LIMIT)
    start = np.zeros(GENOME)  # the network that stands still
    ranges = ((0.0, float(SIZE)), (0.0, float(SIZE)))  # of the end [cells]
    worst = 0.0
    discs = DISCS

    def __init__(self) -> None:
        self.rows = MAP.split()
        self.walls = np.array([[c == "#" for c in row] for row in reversed(self.rows)]).T  # [x, y]
        self.origin = self._find("S")
        self.centres = np.array([self._find(c) for c in "ABC"])  # (3, 2)

    def __str__(self) -> str:
        return MAP.strip()

    def _find(self, letter: str) -> np.ndarray:
        row = next(k for k, text in enumerate(self.rows) if letter in text)
        return np.array([self.rows[row].index(letter) + 0.5, SIZE - 1 - row + 0.5])

    @cached_property
    def free(self) -> np.ndarray:
        """Cells of the map that are connected with the start, bool (16, 16) as [x, y]."""
        parts, _ = label(~self.walls)
        return parts == parts[tuple(self.origin.astype(int))]

    def reachable(self, cells: tuple[int, int] = (48, 48)) -> np.ndarray:
        """Which cells of a finer grid lie in connected free space, bool (cells). Time is not looked at.

        Raises:
            ValueError: the grid does not divide each cell of the map evenly.
        """
        if any(n < SIZE or n % SIZE for n in cells):
            raise ValueError(f"cells is {tuple(cells)}; each number must be a multiple of {SIZE}")
        return np.kron(self.free, np.ones([n // SIZE for n in cells], bool))

    def rollout(self, genomes: np.ndarray) -> Rollout:
        """Run policies with genomes (n, GENOME) for one episode each. A move into a wall is cancelled along its axis.

        Raises:
            ValueError: the genomes have another shape or are not finite.
        """
        net = layers(_checked(genomes))
        paths = np.empty((len(genomes), STEPS + 1, 2))
        paths[:, 0] = self.origin
        for t in range(STEPS):
            paths[:, t + 1] = self.move(paths[:, t], SPEED * act(net, paths[:, t], t))
        return Rollout(paths, self.reward(paths[:, -1]))

    def move(self, points: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """Points (n, 2) after moves (n, 2) of less than a cell, first along x, then along y."""
        points = points.copy()
        for axis in (0, 1):
            moved = points.copy()
            moved[:, axis] += moves[:, axis]
            cell = moved.astype(int)
            hit = self.walls[cell[:, 0], cell[:, 1]]
            points[~hit, axis] = moved[~hit, axis]
        return points

    def reward(self, ends: np.ndarray) -> np.ndarray:
        """Rewards (n, 3) of ends (n, 2): 1 at a disc's centre, 0 from its rim on."""
        distance = np.linalg.norm(ends[:, None] - self.centres, axis=-1)
        return np.maximum(0, 1 - distance / RADIUS)

    def evaluate(self, genomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Objectives (n,), the reward of an episode, and ends (n, 2) [cells]."""
        run = self.rollout(genomes)
        return run.rewards.max(axis=1), run.ends

    def render(self, points: np.ndarray) -> np.ndarray:
        """Pictures (n, 16, 16) as [y, x], 0 to 1, of the maze with the point at points (n, 2): walls 0.5, floor 0.

        The point is a spot, full within a pixel and gone at two, so that a small move changes the picture.
        """
        y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
        distance = np.hypot(x - points[:, 0, None, None], y - points[:, 1, None, None])
        spot = np.clip(2.0 - distance, 0, 1)
        return np.maximum(0.5 * self.walls.T, spot).astype(np.float32)


def act(net: list[tuple[np.ndarray, np.ndarray]], points: np.ndarray, t: int) -> np.ndarray:
    """Actions (n, 2) in -1 to 1 of n networks at points (n, 2) in step t; each network sees its own point."""
    h = np.column_stack((points / (SIZE / 2) - 1, np.full(len(points), 2 * t / STEPS - 1)))
    for weight, bias in net:
        h = np.tanh(np.einsum("ni,nio->no", h, weight) + bias)
    return h


def _checked(genomes: np.ndarray) -> np.ndarray:
    genomes = np.asarray(genomes, float)
    if genomes.ndim != 2 or genomes.shape[1] != GENOME:
        raise ValueError(f"genomes have shape {genomes.shape}; expected (n, {GENOME}), a row a policy")
    if not np.isfinite(genomes).all():
        row = int(np.argmin(np.isfinite(genomes).all(axis=1)))
        raise ValueError(f"genome {row} has a weight that is not finite")
    return genomes
