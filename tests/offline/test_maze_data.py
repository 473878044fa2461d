"""The scripted oracle of the point mazes."""

from __future__ import annotations

import numpy as np
import pytest

from kit.data import Episodes
from kit.envs.point_maze import RADIUS, STEP, PointMaze
from kit.offline import maze_data
from kit.offline.maze_data import Config, Oracle, corridor_ends, generate


@pytest.fixture(scope="module")
def oracle():
    return Oracle(PointMaze(maze="medium"))


def test_the_next_cell_is_one_nearer_to_the_goal(oracle):
    states = np.arange(oracle.grid.size)
    for goal in states:
        after = oracle.next[states, goal]
        nearer = oracle.distances[states, goal] - oracle.distances[after, goal]
        assert (nearer == (states != goal)).all()


def test_distances_are_symmetric_and_those_of_the_maze():
    large = Oracle(PointMaze(maze="large"))
    np.testing.assert_array_equal(large.distances, large.distances.T)
    assert (large.grid.size, large.distances.max()) == (46, 19)
    giant = Oracle(PointMaze(maze="giant"))
    assert (giant.grid.size, giant.distances.max()) == (86, 31)


def test_corridor_ends_leave_out_straight_pieces_only(oracle):
    ends = set(corridor_ends(oracle.grid))
    for s in range(oracle.grid.size):
        row, column = oracle.grid.cells[s]
        free = ~oracle.grid.walls
        vertical = free[row - 1, column] and free[row + 1, column]
        across = free[row, column - 1] and free[row, column + 1]
        degree = sum(free[row + a, column + b] for a, b in ((-1, 0), (1, 0), (0, -1), (0, 1)))
        assert (s in ends) == (not (degree == 2 and (vertical or across)))


def test_directions_are_unit_vectors_to_the_next_centre_and_to_the_goal_at_last(oracle):
    centres = oracle.centres
    u = oracle.direction(centres[[0, 0]], centres[[0, -1]] + [[0.3, -0.4], [0, 0]])
    np.testing.assert_allclose(u[0], [0.6, -0.8])
    gap = centres[oracle.next[0, -1]] - centres[0]
    np.testing.assert_allclose(u[1], gap / np.linalg.norm(gap))


@pytest.mark.parametrize("kind", ["navigate", "stitch"])
def test_generated_steps_obey_the_world(kind):
    d = generate(Config("large", kind, episodes=20, steps=60), seed=3)
    assert isinstance(d, Episodes) and len(d) == 20 * 61
    assert np.abs(d.actions).max() <= 1
    moved = d.observations[d.steps + 1] - d.observations[d.steps]
    assert (np.abs(moved - STEP * d.actions[d.steps]).min(axis=1) < 1e-5).mean() > 0.9  # a wall cancels one axis
    stopped = np.abs(moved) < 1e-6
    assert (stopped | (np.abs(moved - STEP * d.actions[d.steps]) < 1e-5)).all()
    assert not PointMaze(maze="large").blocked(d.observations.astype(float) * (1 - 1e-7)).any()
    np.testing.assert_array_equal(d.goals, d.observations)
    assert not d.terminated.any() and d.truncated.sum() == 20
    assert RADIUS < 2


def test_without_noise_the_oracle_takes_shortest_ways(oracle):
    d = generate(Config("medium", "stitch", episodes=50, steps=150, noise=0.0), seed=0)
    first, final = d.observations[d.ends - 150].astype(float), d.observations[d.ends].astype(float)
    assert (oracle.path_length(first, final) == 4).all()  # it arrives


def test_stitch_goals_are_four_cells_away(oracle):
    states = np.arange(oracle.grid.size)
    goals = maze_data.stitch_goals(oracle, states, np.random.default_rng(0))
    assert (oracle.distances[states, goals] == 4).all()


def test_navigate_visits_the_whole_maze_and_repeats_with_its_seed():
    cfg = Config("medium", "navigate", episodes=20, steps=300)
    a, b, c = (generate(cfg, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(a.observations, b.observations)
    assert (a.observations != c.observations).any()
    oracle = Oracle(PointMaze(maze="medium"))
    assert len(np.unique(oracle.state(a.observations.astype(float)))) == oracle.grid.size


def test_settings_that_make_no_data_are_refused():
    for wrong, message in (
        ({"maze": "huge"}, "unknown maze 'huge'"),
        ({"kind": "explore"}, "kind is 'explore'"),
        ({"episodes": 0}, "0 episodes"),
        ({"steps": 1}, "of 1 steps"),
        ({"noise": -1.0}, "noise is -1"),
    ):
        with pytest.raises(ValueError, match=message):
            Config(**wrong)


# ---- judging ------------------------------------------------------------------------------------------------------


class Follow:
    """The oracle as a policy."""

    def __init__(self, oracle):
        self.oracle = oracle

    def predict(self, obs, state=None, episode_start=None, deterministic=False):
        return self.oracle.direction(obs[:, :2].astype(float), obs[:, 2:].astype(float)), state


def test_the_oracle_reaches_far_goals_and_a_still_point_none(oracle):
    starts, goals = maze_data.far_pairs(oracle, 30, 0.5, np.random.default_rng(0))
    assert (oracle.path_length(starts, goals) >= 0.5 * oracle.distances.max()).all()
    assert maze_data.reached(Follow(oracle), "medium", starts, goals, 600).all()
    assert not maze_data.reached(Follow(oracle), "medium", starts, goals, 20).any()


def test_order_consistency_of_exact_reversed_and_flat_values(oracle):
    exact = oracle.path_length
    assert maze_data.order_consistency(lambda s, g: -exact(s, g), oracle, 0.5) == 1
    assert maze_data.order_consistency(exact, oracle, 0.5) == 0
    noise = np.random.default_rng(0)
    share = maze_data.order_consistency(lambda s, g: noise.normal(size=len(s)), oracle, 0.0)
    assert share == pytest.approx(0.5, abs=0.06)


def test_a_goal_inside_a_wall_is_named(oracle):
    free, wall = oracle.centres[:1], np.array([[8.0, 0.0]])
    with pytest.raises(ValueError, match=r"goal \[8. 0.\] touches a wall of the medium maze"):
        maze_data.reached(Follow(oracle), "medium", free, wall, 5)
    with pytest.raises(ValueError, match=r"\[8. 0.\] lies in a wall of the medium maze"):
        oracle.direction(free, wall)
    outside = np.array([[-4.0, -4.0]])
    with pytest.raises(ValueError, match=r"\[-4. -4.\] .* limits \[-2. -2.\] to \[22. 22.\]"):
        maze_data.reached(Follow(oracle), "medium", free, outside, 5)
    with pytest.raises(ValueError, match=r"\[-4. -4.\] lies in a wall of the medium maze"):
        oracle.direction(free, outside)
