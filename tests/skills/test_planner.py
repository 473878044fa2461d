"""Midpoints by hand, on maps where the middle of the way is known."""

from __future__ import annotations

import numpy as np
import pytest

from kit.envs.grid_maze import GridMaze, classical_scaling
from kit.skills.planner import Config, MidpointPlanner, midpoint, squared_distances


def test_squared_distances():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(7, 3))
    np.testing.assert_allclose(squared_distances(x, y), ((x[:, None] - y) ** 2).sum(axis=2), atol=1e-12)


def test_a_midpoint_by_hand():
    """On a line: from 0 to 8 the state that keeps the larger part of the way smallest is 4, then 3 or 5."""
    line = np.arange(9.0)[:, None]
    np.testing.assert_allclose(midpoint(line, np.array([[0.0]]), np.array([[8.0]]), 1), [[4.0]])
    np.testing.assert_allclose(midpoint(line, np.array([[0.0], [2.0]]), np.array([[8.0], [8.0]]), 3), [[4.0], [5.0]])
    gap = np.array([[0.0], [1.0], [7.0], [8.0]])  # no state in the middle: the largest part is 7 either way
    assert midpoint(gap, np.array([[0.0]]), np.array([[8.0]]), 1)[0, 0] in (1.0, 7.0)


def test_each_recursion_halves_the_way():
    line = np.arange(65.0)[:, None]
    ends = np.array([[0.0]]), np.array([[64.0]])
    for recursions, where in ((0, 64), (1, 32), (2, 16), (3, 8)):
        assert MidpointPlanner(line, Config(recursions, 1))(*ends)[0, 0] == where


def test_a_middle_is_a_state_where_a_straight_line_is_none():
    """In the U the straight line between the arms' ends runs through nothing; the middle of the way is at the turn."""
    maze = GridMaze.make("u")
    phi = classical_scaling(maze.distances, 8)
    s, g = maze.grid.state(0, 0), maze.grid.state(4, 0)
    found = midpoint(phi, phi[[s]], phi[[g]], 1)
    middle = int(squared_distances(found, phi)[0].argmin())
    assert maze.distances[s, middle] == maze.distances[middle, g] == maze.distances[s, g] / 2


def test_bad_input():
    with pytest.raises(ValueError, match=r"shape \(3, 2\); at least 10 are needed"):
        MidpointPlanner(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="not finite"):
        MidpointPlanner(np.full((20, 2), np.nan))
    with pytest.raises(ValueError, match="recursions -1"):
        Config(recursions=-1)
