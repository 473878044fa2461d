"""The maze world: exact shortest paths and returns, what the agent sees, what the student learns from."""

import numpy as np
import pytest
import torch

from kit.curricula.space import Task
from kit.curricula.teacher import RandomTeacher
from kit.curricula.worlds import mazes
from kit.curricula.worlds.mazes import CELLS, MAZES, SIZE, Levels, MazeSpace, random_levels
from kit.curricula.worlds.wall_grid import (
    Config,
    Game,
    Student,
    WallGrid,
    categorical,
    feedback_numbers,
    solvable,
    train,
)
from kit.envs.grid import Grid

SMALL = Config(hidden=(16,), limit=20)
OPEN = "....... ....... ....... ...S... ....... ....... ......G"


def weights(student: Student) -> torch.Tensor:
    return torch.cat([p.detach().ravel() for net in (student.actor, student.critic) for p in net.parameters()])


def tasks_of(space: MazeSpace, points: np.ndarray, trains=None) -> list[Task]:
    trains = [True] * len(points) if trains is None else trains
    return [Task(i, p, v, t) for i, (p, v, t) in enumerate(zip(points, space.decode(points), trains, strict=True))]


# ---- levels -----------------------------------------------------------------------------------------------------


def test_distances_equal_breadth_first_search_on_single_grids():
    levels = random_levels(np.random.default_rng(0), 60, 25)
    found = mazes.distances(levels)
    for i in range(len(levels)):
        grid = Grid.from_walls(levels.walls[i].reshape(SIZE, SIZE))
        expected = np.full((SIZE, SIZE), np.inf)
        expected[tuple(grid.cells.T)] = grid.distances(grid.state(*divmod(levels.goal[i], SIZE)))
        np.testing.assert_array_equal(found[i].reshape(SIZE, SIZE), expected)


def test_hand_made_mazes_have_the_paths_that_were_counted():
    lengths = dict(zip(MAZES, mazes.shortest(Levels.parse(*MAZES.values())), strict=True))
    assert lengths == {
        "spiral": 30, "snake": 30, "four_rooms": 12, "vault": 15, "detour": 12, "trap": 12, "comb": 24, "pillars": 12,
        "labyrinth": 20, "pocket": 12,
    }  # fmt: skip


def test_text_is_what_was_parsed():
    assert Levels.parse(MAZES["comb"]).text(0).split() == MAZES["comb"].split()


@pytest.mark.parametrize("text", ["S.G", OPEN.replace("G", "."), OPEN.replace("...S...", "..SS...")])
def test_a_maze_of_the_wrong_form_is_refused(text):
    with pytest.raises(ValueError, match="7 rows of 7 cells, one S and one G"):
        Levels.parse(text)


def test_random_levels_are_valid_and_their_wall_counts_uniform():
    levels = random_levels(np.random.default_rng(0), 20_000, 25)
    counts = np.bincount(levels.walls.sum(axis=1), minlength=26)
    assert len(counts) == 26
    assert abs(counts - 20_000 / 26).max() < 5 * np.sqrt(20_000 / 26)
    assert (levels.start != levels.goal).all()
    rows = np.arange(len(levels))
    assert not levels.walls[rows, levels.start].any() and not levels.walls[rows, levels.goal].any()
    per_cell = levels.walls.mean(axis=0)
    assert abs(per_cell - 12.5 / CELLS).max() < 0.02


def test_every_point_of_the_space_is_a_valid_level():
    space = MazeSpace(25)
    points = np.random.default_rng(0).random((500, space.size))
    for values in space.decode(points):
        assert values["start"] != values["goal"]
        assert values["walls"].shape == (CELLS,) and not values["walls"][[values["start"], values["goal"]]].any()
    snapped = space.snap(points)
    np.testing.assert_array_equal(space.snap(snapped), snapped)
    np.testing.assert_allclose(space.encode(space.decode(points)), snapped)


def test_levels_survive_the_way_through_the_space():
    space, levels = MazeSpace(25), random_levels(np.random.default_rng(0), 200, 25)
    back = space.levels_of(space.points_of(levels))
    for name in ("walls", "start", "goal"):
        np.testing.assert_array_equal(getattr(back, name), getattr(levels, name))


def test_a_start_on_the_goal_moves_and_walls_give_way():
    level = Levels.valid(np.ones((1, CELLS), bool), np.array([48]), np.array([48]))
    assert (level.start[0], level.goal[0]) == (0, 48)
    assert np.flatnonzero(~level.walls[0]).tolist() == [0, 48]


# ---- the game ---------------------------------------------------------------------------------------------------


def test_walking_down_the_distances_earns_the_optimum():
    cfg = Config()
    levels = solvable(100, cfg, seed=1)
    steps = np.pad(mazes.distances(levels).reshape(-1, SIZE, SIZE), ((0, 0), (2, 2), (2, 2)), constant_values=np.inf)
    steps, game, returns = steps.reshape(len(levels), -1), Game(levels, cfg), np.zeros(len(levels))
    while len(rows := game.rows):
        beside = steps[rows[:, None], game.place[rows, None] + mazes.STEP]
        returns[rows] += game.move(beside.argmin(axis=1))
    np.testing.assert_allclose(returns, mazes.optimum(levels, cfg.limit))
    np.testing.assert_allclose(returns, 1 - 0.9 * mazes.shortest(levels) / 50)


def test_no_way_and_too_long_a_way_are_worth_nothing():
    shut = Levels.parse("S#..... ##..... ....... ....... ....... ....... ......G", MAZES["spiral"])
    np.testing.assert_allclose(mazes.optimum(shut, 50), [0, 1 - 0.9 * 30 / 50])
    np.testing.assert_allclose(mazes.optimum(shut, 30), [0, 0.1])
    np.testing.assert_allclose(mazes.optimum(shut, 29), [0, 0])


def test_the_view_by_hand():
    game = Game(Levels.parse(MAZES["four_rooms"]), Config(limit=10, fade=0.5))
    see = game.look()[0]
    walls, trail, goal = see[:75].reshape(3, 5, 5)
    np.testing.assert_array_equal(walls, [[1] * 5, [1] * 5, [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0]])
    assert trail[2, 2] == 1 and trail.sum() == 1 and goal.sum() == 0 and see[75] == 0
    game.move(np.array([1]))  # right
    see = game.look()[0]
    walls, trail, _ = see[:75].reshape(3, 5, 5)
    assert walls[2].tolist() == [1, 0, 0, 0, 1], "the wall in column 3 has come into view"
    assert trail[2, 2] == 1 and trail[2, 1] == 0.5 and np.isclose(see[75], 0.1)
    assert game.move(np.array([0])) == 0 and game.place[0] == mazes.PLACE[1], "the border stops a move"


def test_an_episode_ends_at_the_goal_and_at_the_deadline():
    levels = Levels.parse(OPEN.replace("......G", "...G..."), OPEN)
    game = Game(levels, Config(limit=4))
    for expected in ([0, 0], [0, 0], [1 - 0.9 * 3 / 4, 0]):
        np.testing.assert_allclose(game.move(np.full(len(game.rows), 2)), expected)
    assert game.rows.tolist() == [1]
    game.move(np.array([2]))
    assert len(game.rows) == 0


# ---- the student --------------------------------------------------------------------------------------------------


def test_feedback_numbers_are_what_they_are_called():
    student, levels = Student(SMALL, seed=0), random_levels(np.random.default_rng(0), 40, 25)
    played = student.play(levels)
    numbers, lam, best = feedback_numbers(played, levels, SMALL), SMALL.gae_lambda, mazes.optimum(levels, SMALL.limit)
    for i in range(len(levels)):
        n = played.active[:, i].sum()
        assert played.active[:n, i].all(), "an episode has no gaps"
        r, v = played.rewards[:n, i], np.append(played.values[:n, i], 0)
        delta = r + v[1:] - v[:-1]
        a = np.array([sum(lam ** (k - t) * delta[k] for k in range(t, n)) for t in range(n)])
        expected = {
            "ret": r.sum(), "success": r.sum() > 0, "value": v[0], "mean_value": v[:-1].mean(),
            "pvl": np.maximum(a, 0).mean(), "abs_advantage": np.abs(a).mean(), "regret": best[i] - r.sum(), "length": n,
        }  # fmt: skip
        for name, value in expected.items():
            assert np.isclose(numbers[name][i], value, atol=1e-5), name
    assert (numbers["regret"] > -1e-6).all() and student.steps == played.active.sum()
    assert (numbers["ret"][np.isinf(mazes.shortest(levels))] == 0).all()


def test_categorical_equals_torchs():
    logits, chosen = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 4
    theirs = torch.distributions.Categorical(logits=logits)
    log_probs, entropy = categorical(logits, chosen)
    torch.testing.assert_close(log_probs, theirs.log_prob(chosen))
    torch.testing.assert_close(entropy, theirs.entropy().mean())


def test_nothing_is_learned_where_a_task_does_not_train():
    world = WallGrid(SMALL)
    before, points = weights(world.student), world.space.sample(np.random.default_rng(0), 12)
    feedback = world.play(tasks_of(world.space, points, [False] * 12))
    assert len(feedback) == 12 and world.student.updates == 0 and world.student.steps > 0
    torch.testing.assert_close(weights(world.student), before, rtol=0, atol=0)
    world.play(tasks_of(world.space, points))
    assert world.student.updates > 0 and not torch.equal(weights(world.student), before)


def test_a_mixed_batch_learns_only_from_what_trains():
    chosen = np.arange(10) < 4
    levels = random_levels(np.random.default_rng(0), 10, 25)
    mixed, only = Student(SMALL, seed=0), Student(SMALL, seed=0)
    played = mixed.play(levels)
    mixed.learn(played, chosen)
    only.learn(type(played)(*(getattr(played, name)[:, chosen] for name in played.__dataclass_fields__)))
    torch.testing.assert_close(weights(mixed), weights(only), rtol=0, atol=0)


def test_worlds_with_one_seed_are_equal_and_with_two_are_not():
    def history(seed: int) -> list[float]:
        world = WallGrid(SMALL, seed=seed)
        teacher = RandomTeacher(world.space, seed=1)
        return [m["return"] for m in train(teacher, world, 2000, batch=16)]

    assert history(0) == history(0)
    assert history(0) != history(1)


def test_measuring_changes_nothing():
    world = WallGrid(SMALL)
    before = weights(world.student), world.student.rng.bit_generator.state
    levels = solvable(30, SMALL, seed=3)
    first = world.student.solve(levels, seed=0, repeats=3)
    world.score()
    np.testing.assert_array_equal(world.student.solve(levels, seed=0, repeats=3), first)
    assert set(np.round(first * 3, 9)) <= {0, 1, 2, 3} and world.student.steps == 0
    assert before[1] == world.student.rng.bit_generator.state and torch.equal(before[0], weights(world.student))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"max_walls": 48}, "max_walls is 48; it must lie in 0..47"), ({"limit": 0}, "limit is 0")],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_random_levels_teach():
    world = WallGrid(Config(learning_rate=2e-3, epochs=4))
    before = world.score()
    for metrics in train(RandomTeacher(world.space), world, 40_000):
        assert metrics["steps"] == world.student.steps
    assert metrics["progress"] == 1
    assert world.student.solve(world.held_out, seed=1, repeats=2).mean() > before + 0.2
