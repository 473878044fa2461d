"""The deceptive maze: rollouts against a loop in plain Python, rewards, pictures and free space."""

import math
from collections import deque

import numpy as np
import pytest

from kit.envs import deceptive_point as dp

MAZE = dp.DeceptivePoint()


def walk(genome: np.ndarray) -> list[tuple[float, float]]:
    """One policy, number by number."""
    weights, at = [], 0
    for n_in, n_out in dp.SIZES:
        w = [[genome[at + i * n_out + o] for o in range(n_out)] for i in range(n_in)]
        at += n_in * n_out
        weights.append((w, genome[at : at + n_out]))
        at += n_out
    x, y = MAZE.origin
    path = [(x, y)]
    rows = list(reversed(dp.MAP.split()))
    for t in range(dp.STEPS):
        h = [x / 8 - 1, y / 8 - 1, 2 * t / dp.STEPS - 1]
        for w, b in weights:
            h = [math.tanh(sum(h[i] * w[i][o] for i in range(len(h))) + b[o]) for o in range(len(b))]
        if rows[int(y)][int(x + 0.5 * h[0])] != "#":
            x += 0.5 * h[0]
        if rows[int(y + 0.5 * h[1])][int(x)] != "#":
            y += 0.5 * h[1]
        path.append((x, y))
    return path


def test_rollouts_equal_a_plain_loop():
    genomes = np.random.default_rng(0).uniform(-5, 5, (6, dp.GENOME))
    run = MAZE.rollout(genomes)
    for genome, path in zip(genomes, run.paths, strict=True):
        np.testing.assert_allclose(path, walk(genome), atol=1e-9)


def test_one_policy_alone_does_what_it_does_among_others():
    genomes = np.random.default_rng(1).uniform(-5, 5, (5, dp.GENOME))
    together = MAZE.rollout(genomes)
    np.testing.assert_allclose(MAZE.rollout(genomes[3:4]).paths[0], together.paths[3], atol=1e-9)


def test_walls_hold_and_steps_are_bounded():
    run = MAZE.rollout(np.random.default_rng(2).uniform(-5, 5, (300, dp.GENOME)))
    cell = run.paths.astype(int)
    assert MAZE.free[cell[..., 0], cell[..., 1]].all(), "a path lies in free space that is connected with the start"
    assert np.abs(np.diff(run.paths, axis=1)).max() <= dp.SPEED + 1e-9
    assert np.unique(run.ends.round(3), axis=0).shape[0] > 200


def test_the_zero_network_stands_still():
    run = MAZE.rollout(np.zeros((1, dp.GENOME)))
    assert (run.paths == MAZE.origin).all() and (run.rewards == 0).all()


def test_free_space_equals_a_flood_fill():
    seen, queue = set(), deque([tuple(MAZE.origin.astype(int))])
    while queue:
        x, y = queue.popleft()
        if (x, y) not in seen and not MAZE.walls[x, y]:
            seen.add((x, y))
            queue += [(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]
    assert seen == {tuple(c) for c in np.argwhere(MAZE.free)}
    assert MAZE.reachable((48, 48)).sum() == 9 * len(seen)
    assert all(MAZE.free[tuple(c.astype(int))] for c in MAZE.centres), "every disc can be reached"


def test_the_maze_is_deceptive():
    """The way to the nearest disc is more than three times as long as the straight line through the wall."""
    target = tuple(MAZE.centres[0].astype(int))
    distance, queue = {tuple(MAZE.origin.astype(int)): 0}, deque([tuple(MAZE.origin.astype(int))])
    while queue:
        x, y = queue.popleft()
        for step in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
            if step not in distance and MAZE.free[step]:
                distance[step] = distance[x, y] + 1
                queue.append(step)
    straight = np.linalg.norm(MAZE.centres - MAZE.origin, axis=1)
    assert straight.argmin() == 0
    assert distance[target] > 3 * straight[0]


def test_reward_is_one_in_the_middle_and_nothing_outside():
    ends = MAZE.centres[[0, 0, 0, 1]] + np.array([[0, 0], [0.25, 0], [0, 1.0], [0.6, 0.8]])
    np.testing.assert_allclose(MAZE.reward(ends), [[1, 0, 0], [0.75, 0, 0], [0, 0, 0], [0, 0, 0]], atol=1e-12)


def test_pictures_show_walls_and_the_point():
    image = MAZE.render(np.array([[4.5, 6.5], [4.75, 6.5]]))
    assert image.shape == (2, 16, 16) and image.dtype == np.float32
    assert image[0, 6, 4] == 1.0 and image[0, 0, 0] == 0.5
    assert image[0, 4, 6] < 1.0, "row is y, column is x"
    assert np.abs(image[0] - image[1]).max() > 0.1, "a move of a quarter of a cell is seen"


@pytest.mark.parametrize(
    ("genomes", "message"),
    [
        (np.zeros((2, 7)), r"shape \(2, 7\); expected \(n, 122\)"),
        (np.full((1, dp.GENOME), np.inf), "genome 0 has a weight that is not finite"),
    ],
)
def test_bad_genomes(genomes, message):
    with pytest.raises(ValueError, match=message):
        MAZE.evaluate(genomes)


def test_a_grid_that_does_not_fit_the_map():
    with pytest.raises(ValueError, match="multiple of 16"):
        MAZE.reachable((50, 50))
