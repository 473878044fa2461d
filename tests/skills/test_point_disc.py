"""The disc world: steps of every direction are equally long; walls, the nuisance and bad input."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from kit.envs.env import BatchEnv, SingleEnv
from kit.envs.grid import Grid
from kit.envs.point_disc import STEP, PointDisc, count_cells


def after(env: BatchEnv, actions: list, steps: int = 1) -> np.ndarray:
    env.reset(seed=0)
    for _ in range(steps):
        obs = env.step(np.array(actions, float))[0]
    return obs


def test_a_full_step_is_equally_long_in_every_direction():
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    square = np.stack([np.cos(angle), np.sin(angle)], 1)
    square /= np.abs(square).max(axis=1, keepdims=True)  # on the square's edge, up to sqrt 2 long
    moved = after(BatchEnv(PointDisc(16)), square)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), STEP, rtol=1e-6)
    np.testing.assert_allclose(np.arctan2(*moved.T[::-1]), np.arctan2(*square.T[::-1]), atol=1e-6)


def test_a_small_step_is_as_long_as_asked():
    np.testing.assert_allclose(after(BatchEnv(PointDisc(1)), [[0.3, -0.4]]), [[0.06, -0.08]], rtol=1e-6)


def test_an_episode_is_cut_by_time_and_never_ends():
    env = BatchEnv(PointDisc(2, max_steps=3))
    env.reset(seed=0)
    for t in range(3):
        obs, reward, terminated, truncated, info = env.step(np.array([[1, 0], [0, 1.0]]))
        assert not terminated.any() and (truncated == (t == 2)).all() and (reward == 0).all()
    np.testing.assert_allclose(info["final_obs"], [[0.6, 0], [0, 0.6]], rtol=1e-6)
    np.testing.assert_array_equal(obs, np.zeros((2, 2)))


def test_rooms_are_the_grids_and_nobody_leaves_the_first_but_by_its_doors():
    task = PointDisc(64, rooms=True, max_steps=400)
    grid = Grid.from_walls(task.walls)
    centres = grid.cells[:, ::-1] - 1.0  # x is the column, y the row, the first free cell at the origin
    assert not task.blocked(centres).any() and task.blocked(centres[:1] - (1, 0)).all()
    env, rng = BatchEnv(task), np.random.default_rng(0)
    obs, _ = env.reset(seed=0)
    for _ in range(399):
        obs = env.step(rng.uniform(-1, 1, (64, 2)))[0]
        assert not task.blocked(task.position).any()
    assert count_cells(obs) > 5


def test_a_move_into_a_wall_slides_along_it():
    env = BatchEnv(PointDisc(1, rooms=True))
    np.testing.assert_allclose(after(env, [[-0.6, 0.6]], 10), [[-0.48, 1.2]], atol=1e-5)


def test_the_nuisance_is_bounded_scaled_and_moves_nothing_else():
    env = BatchEnv(PointDisc(2, nuisance=10.0))
    obs = after(env, [[1, 0, 1], [1, 0, -0.5]], 4)
    np.testing.assert_allclose(obs, [[0.8, 0, 8], [0.8, 0, -4]], rtol=1e-5)
    np.testing.assert_allclose(after(env, [[0, 0, 1], [0, 0, 1]], 9)[:, 2], 10)


def test_gymnasiums_checker_accepts_it():
    for task in (PointDisc(), PointDisc(rooms=True), PointDisc(nuisance=10.0)):
        check_env(SingleEnv(task), skip_render_check=True)


def test_single_equals_batched():
    batch, rng = BatchEnv(PointDisc(3)), np.random.default_rng(0)
    batch.reset(seed=5)
    singles = [SingleEnv(PointDisc()) for _ in range(3)]
    for i, env in enumerate(singles):
        env.reset(seed=5 + i)
    for _ in range(5):
        actions = rng.uniform(-1, 1, (3, 2))
        rows = batch.step(actions)[0]
        for i, env in enumerate(singles):
            np.testing.assert_array_equal(env.step(actions[i])[0], rows[i])


def test_cells_are_unit_squares_around_whole_numbers():
    points = np.array([[[0.0, 0.0], [0.49, -0.49]], [[0.51, 0.0], [-3.0, 7.2]]])
    assert count_cells(points) == 3


def test_a_start_can_be_given():
    env = BatchEnv(PointDisc(2))
    obs, _ = env.reset(seed=0, options={"task": {"start": np.array([[1.0, 2.0], [3.0, -4.0]])}})
    np.testing.assert_array_equal(obs, [[1, 2], [3, -4]])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"nuisance is -1\.0"):
        PointDisc(nuisance=-1.0)
    with pytest.raises(ValueError, match=r"start \[-1\.  0\.\] lies in a wall"):
        BatchEnv(PointDisc(rooms=True)).reset(options={"task": {"start": (-1.0, 0.0)}})
    with pytest.raises(ValueError, match=r"'start' is .*99"):
        BatchEnv(PointDisc()).reset(options={"task": {"start": (99.0, 0.0)}})
    env = BatchEnv(PointDisc())
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action\[0, 1\] is nan"):
        env.step(np.array([[0.0, np.nan]]))


def test_it_is_registered_where_the_kit_registers():
    from kit.envs import TASKS

    if "kit/PointDisc-v0" in TASKS:
        assert gym.make("kit/PointDisc-v0").reset(seed=0)[0].shape == (2,)
