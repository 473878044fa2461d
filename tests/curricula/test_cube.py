"""CubeWorld: its rules against a second writing of them, then each challenge."""

import numpy as np
import pytest

from kit.curricula.loop import run
from kit.curricula.space import Task
from kit.curricula.teacher import RandomTeacher
from kit.curricula.worlds.cube import CHALLENGES, FULL, UNLOCK, Config, CubeWorld, lower_neighbours


def visit(world, *point, times=1, trains=True):
    """Play one point; the last feedback."""
    point = np.array([*point, *[0.5] * (world.space.size - len(point))], float)
    return [world.play([Task(i, point, {}, trains)])[0] for i in range(times)][-1]


def test_lower_neighbours_by_hand():
    assert lower_neighbours((0, 0)) == []
    assert set(lower_neighbours((0, 3))) == {(0, 2)}
    assert set(lower_neighbours((2, 3))) == {(1, 3), (2, 2), (1, 2)}
    assert len(lower_neighbours((1, 1, 1))) == 7


def test_a_cube_opens_at_75_and_is_mastered_above():
    world = CubeWorld()
    assert visit(world, 0.15, 0.05).ret == 0, "locked"
    feedback = visit(world, 0.05, 0.05, times=74)
    assert feedback.ret == 0.74 and visit(world, 0.15, 0.15).ret == 0
    feedback = visit(world, 0.05, 0.05)
    assert feedback.ret == 0.75 and not feedback.success and world.score() == 0
    assert visit(world, 0.15, 0.15).ret == 0.01, "the diagonal neighbour is open at 75"
    assert visit(world, 0.15, 0.25).ret == 0, "its own neighbours are not"
    feedback = visit(world, 0.05, 0.05)
    assert feedback.success and world.score() == 0.01
    assert visit(world, 0.05, 0.05, times=100).ret == 1.0, "and it stops at 100"


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_long_run_equals_the_rules_written_again(dims):
    cfg = Config(dims=dims, bins=3)
    world, rng = CubeWorld(cfg), np.random.default_rng(dims)
    c = np.zeros((3,) * dims, int)
    for point in rng.random((400 * dims, dims)) ** 2:
        cube = tuple((point * 3).astype(int))
        below = [tuple(np.subtract(cube, step)) for step in np.ndindex((2,) * dims) if any(step)]
        opened = any(min(b) >= 0 and c[b] >= 75 for b in below) or not any(cube)
        c[cube] = min(c[cube] + opened, 100)
        feedback = world.play([Task(0, point, {})])[0]
        assert feedback.ret == c[cube] / 100 and feedback.success == (c[cube] > 75)
        assert world.score() == pytest.approx((c > 75).mean())
    assert c.max() > 75
    np.testing.assert_array_equal(world.competence, c)


def test_the_faces_belong_to_the_cube():
    world = CubeWorld()
    assert world.cube(np.array([1.0, 1.0])) == 99 and world.cube(np.array([0.0, 1.0])) == 9
    assert [world.cube(np.array([x, 0.0])) for x in (0.0999, 0.1, 0.3)] == [0, 10, 30]


def test_a_task_that_does_not_train_changes_nothing():
    world = CubeWorld()
    assert visit(world, 0.0, 0.0, times=3, trains=False).ret == 0 and not world.competence.any()


def test_unfeasible_cubes_never_change_and_do_not_count():
    world = CubeWorld(CHALLENGES["unfeasible"])
    assert world.learnable.sum() == 25 and world.learnable[:5, :5].all()
    for i in range(5):
        visit(world, i / 10, 0.05, times=100)
    assert world.score() == 5 / 25
    assert visit(world, 0.55, 0.05, times=100).ret == 0, "its neighbour is mastered, and yet"


def test_a_mask_says_which_cubes_can_be_learnt():
    mask = np.ones((10, 10), bool)
    mask[1, :2] = False
    world = CubeWorld(learnable=mask)
    mask[:] = False  # the world has its own
    assert world.learnable.sum() == 98
    visit(world, 0.05, 0.05, times=100)
    assert world.score() == 1 / 98
    assert visit(world, 0.15, 0.05, times=100).ret == 0, "it cannot be learnt, beside a mastered cube or not"
    assert visit(world, 0.05, 0.15, times=76).success, "but a way round is open"


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((5, 5), bool), r"\(5, 5\).*\(10, 10\)"),
        (np.ones((10, 10)), "float64"),
        (np.zeros((10, 10), bool), "0 cubes"),
    ],
)
def test_a_bad_mask_is_named(mask, message):
    with pytest.raises(ValueError, match=message):
        CubeWorld(learnable=mask)


def test_half_is_mastered_from_the_start():
    world = CubeWorld(CHALLENGES["feasible"])
    assert world.score() == 0.5 and (world.competence[:5] == FULL).all() and not world.competence[5:].any()
    assert visit(world, 0.95, 0.0).ret == 0 and visit(world, 0.55, 0.95, times=UNLOCK + 1).success
    assert world.score() == 0.51


def test_the_student_forgets_before_the_episode_named():
    world = CubeWorld(Config(wipe_at=80))
    visit(world, 0.0, 0.0, times=80)
    assert world.score() == 0.01
    assert visit(world, 0.0, 0.0).ret == 0.01 and world.score() == 0
    assert visit(world, 0.0, 0.0, times=90).success, "once only"


def test_a_rugged_world_is_the_smooth_one_with_its_cubes_moved():
    smooth, rugged, other = CubeWorld(), *(CubeWorld(CHALLENGES["rugged"], seed=seed) for seed in (0, 1))
    assert any((a != b).any() for a, b in zip(rugged.order, other.order, strict=True))
    for point in np.random.default_rng(0).random((3000, 2)) * 0.3:
        bins = (point * 10).astype(int)
        there = [(np.flatnonzero(order == b)[0] + 0.5) / 10 for order, b in zip(rugged.order, bins, strict=True)]
        assert visit(rugged, *there).ret == visit(smooth, *point).ret
    np.testing.assert_array_equal(rugged.competence, smooth.competence)
    i, j = (int(np.flatnonzero(order == 0)[0]) for order in rugged.order)
    assert rugged.in_task_order[i, j] == smooth.competence[0, 0] > 0


def test_useless_coordinates_do_nothing():
    world = CubeWorld(CHALLENGES["useless"])
    assert world.space.size == 6
    assert {world.cube(np.array([0.23, 0.71, *rest])) for rest in np.random.default_rng(0).random((50, 4))} == {27}


def test_uniform_tasks_take_as_long_as_the_rules_say():
    """Each of 100 cubes is visited 50 times in 5,000 episodes, too few for the first, and 100 times in 10,000."""
    world = CubeWorld()
    shares = [m["mastered"] for m in run(RandomTeacher(world.space, seed=0), world, 10_000, batch=100)]
    assert shares[49] == 0 and shares[-1] == 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"bins": 0}, "bins 0"), ({"learnable": 0.0}, "learnable is 0.0"), ({"mastered": 1.5}, "mastered 1.5")],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)
