"""Grid mazes: exact tables against brute force and closed forms, and what a Euclidean space can hold of them."""

from __future__ import annotations

import numpy as np
import pytest

from kit.envs.grid_maze import (
    MAZES,
    GridMaze,
    ceiling,
    classical_scaling,
    embed,
    negative_mass,
    pairwise,
    relative_error,
)

# name: states, diameter, negative mass, ceilings of the relative error in 8 dimensions: raw, discounted at 0.95
KNOWN = {
    "corridor": (20, 19, 0.00, 0.000, 0.001),
    "u": (37, 20, 0.04, 0.060, 0.043),
    "four rooms": (68, 16, 0.23, 0.133, 0.074),
    "open": (64, 14, 0.23, 0.111, 0.082),
    "large": (46, 19, 0.10, 0.082, 0.036),
    "giant": (86, 31, 0.22, 0.116, 0.031),
}


def floyd(maze):
    """All shortest paths by Floyd and Warshall's recursion, an algorithm that shares nothing with the search."""
    distance = np.full((maze.size, maze.size), np.inf)
    for s in range(maze.size):
        distance[s, maze.grid.next_state[s]] = 1
        distance[s, s] = 0
    for k in range(maze.size):
        distance = np.minimum(distance, distance[:, [k]] + distance[[k]])
    return distance


@pytest.mark.parametrize("name", MAZES)
def test_distances_are_the_shortest_ways(name):
    maze = GridMaze.make(name)
    np.testing.assert_array_equal(maze.distances, floyd(maze))
    assert np.isfinite(maze.distances).all(), "every state can be reached"


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_known_of_the_mazes(name):
    states, diameter, mass, raw, discounted = KNOWN[name]
    maze = GridMaze.make(name)
    assert (maze.size, maze.diameter) == (states, diameter)
    assert negative_mass(maze.distances) == pytest.approx(mass, abs=0.006)
    assert ceiling(maze.distances, 8) == pytest.approx(raw, abs=0.002)
    assert ceiling(maze.discounted(0.95), 8) == pytest.approx(discounted, abs=0.002)


def test_a_corridor_embeds_in_one_dimension():
    distance = GridMaze.make("corridor").distances
    np.testing.assert_allclose(pairwise(classical_scaling(distance, 1)), distance, atol=1e-6)
    assert embed(distance, 3).shape == (20, 3)


def test_discounted_distances_are_minus_the_optimal_values():
    maze, gamma = GridMaze.make("u"), 0.9
    value = np.zeros((maze.size, maze.size))
    for _ in range(maze.diameter):
        value = np.where(np.eye(maze.size, dtype=bool), 0, -1 + gamma * value[maze.grid.next_state].max(axis=1))
    np.testing.assert_allclose(maze.discounted(gamma), -value, atol=1e-12)


def test_the_successor_matrix_counts_discounted_visits():
    maze, gamma = GridMaze.make("corridor"), 0.8
    matrix, step = maze.successor(gamma), maze.grid.transition(np.full((20, 4), 0.25))
    series = sum(np.linalg.matrix_power(gamma * step, t) for t in range(120))
    np.testing.assert_allclose(matrix, series, atol=1e-9)
    np.testing.assert_allclose(matrix.sum(axis=1), 1 / (1 - gamma))
    right = np.tile([0.0, 1.0, 0.0, 0.0], (20, 1))
    np.testing.assert_allclose(maze.successor(gamma, right)[0, :3], [1, 0.8, 0.64])


def test_greedy_steps_follow_a_distance_and_get_stuck_where_it_is_wrong():
    maze = GridMaze.make("u")
    assert maze.greedy_success(maze.distances).all()
    crow = pairwise(maze.coordinates())  # as the crow flies: the wall between the arms is in the way
    found = maze.greedy_success(crow)
    assert not found[0, maze.grid.state(4, 0)] and found[0, maze.grid.state(1, 8)]
    assert not maze.greedy_success(-maze.distances)[0, 1:].any(), "away from the goal nobody arrives"


def test_walks_take_logged_steps_and_are_reproducible():
    maze = GridMaze.make("four rooms")
    data = maze.walk(5, 30, np.random.default_rng(0))
    states, actions = data.observations[:, 0].astype(int), data.actions[:, 0].astype(int)
    rows = data.steps
    np.testing.assert_array_equal(states[rows + 1], maze.grid.next_state[states[rows], actions[rows]])
    assert len(data) == 5 * 31 and data.goals is not None
    np.testing.assert_array_equal(maze.walk(5, 30, np.random.default_rng(0)).observations, data.observations)


def test_relative_error_by_hand():
    exact = np.array([[0.0, 2.0], [2.0, 0.0]])
    assert relative_error(np.array([[0.0, 3.0], [2.0, 0.0]]), exact) == 0.25


def test_bad_input():
    with pytest.raises(ValueError, match=r"unknown grid maze 'nowhere'; there are corridor, u, four rooms"):
        GridMaze.make("nowhere")
    maze = GridMaze.make("u")
    with pytest.raises(ValueError, match=r"gamma is 1.0; visits are finite for 0 <= gamma < 1"):
        maze.successor(1.0)
    with pytest.raises(ValueError, match=r"3 walks of 1 steps"):
        maze.walk(3, 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"\(3, 3\); 'u' has 37 states"):
        maze.greedy_success(np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"cell \(2, 0\) is a wall"):
        maze.grid.state(2, 0)
