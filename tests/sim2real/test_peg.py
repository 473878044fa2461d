"""The peg and its hole: geometry against a raster of points, contact by hand, and the Task's contract."""

import numpy as np
import pytest

from kit.envs.env import BatchEnv, SingleEnv
from kit.sim2real.people import peg

INSIDE = np.array([0.0, -0.01, 0.0])


def pose(x=0.0, z=0.0, theta=0.0) -> np.ndarray:
    """In mm and rad."""
    return np.array([1e-3 * x, 1e-3 * z, theta])


@pytest.mark.parametrize(
    ("q", "depth_mm"),
    [
        (pose(z=1), -1.0),  # above the hole: the hole's edges are 1 mm below the bottom
        (pose(x=10, z=2), -2.0),  # above the table
        (pose(x=10, z=-2), 2.0),  # in the table
        (pose(z=-10), -0.25),  # in the hole, in the middle: the clearance
        (pose(x=0.2, z=-10), -0.05),
        (pose(x=0.3, z=-10), 0.05),  # in the hole's wall
        (pose(z=-20.5), 0.5),  # in the hole's floor
    ],
)
def test_penetration_by_hand(q, depth_mm):
    assert 1e3 * peg.penetration(q) == pytest.approx(depth_mm, abs=1e-9)


def test_penetration_agrees_with_a_raster_of_points_about_touching():
    rng = np.random.default_rng(0)
    q = rng.uniform([-8e-3, -0.02, -0.3], [8e-3, 5e-3, 0.3], (300, 3))
    u, v = (g.ravel() for g in np.meshgrid(np.linspace(-peg.HALF, peg.HALF, 61), np.linspace(0, peg.LENGTH, 241)))
    touching = []
    for x, z, theta in q:
        px, pz = x + u * np.cos(theta) - v * np.sin(theta), z + u * np.sin(theta) + v * np.cos(theta)
        touching.append(((pz < 0) & ((np.abs(px) > peg.HOLE) | (pz < -peg.DEPTH))).any())
    depth = peg.penetration(q)
    sure = np.abs(depth) > 0.3e-3  # the raster's own width
    assert sure.sum() > 200 and 50 < np.sum(touching) < 250
    np.testing.assert_array_equal(depth[sure] > 0, np.array(touching)[sure])


def test_a_tilted_peg_fits_only_as_deep_as_the_clearance_allows():
    """At tilt t the peg is 2 a cos t + d sin t wide over a depth d: it fits while that is at most the hole's width."""
    tilt = 0.05
    deepest = (2 * peg.HOLE - 2 * peg.HALF * np.cos(tilt)) / np.sin(tilt)
    xs = np.linspace(-1e-3, 1e-3, 4001)
    for factor, fits in ((0.97, True), (1.03, False)):
        q = np.stack([xs, np.full_like(xs, -factor * deepest), np.full_like(xs, tilt)], axis=1)
        assert (peg.penetration(q) <= 0).any() == fits


def run(q: np.ndarray, *actions) -> tuple[np.ndarray, np.ndarray]:
    """The pose and the blocked shares after actions from pose q."""
    task = peg.Peg()
    task.q[0] = q
    for action in actions:
        task.step(np.array([action], float))
    return task.q[0], task.blocked[0]


def test_free_steps_are_exact():
    q, blocked = run(pose(z=10), (1, -0.5, 0.2))
    np.testing.assert_allclose(q, pose(2, 9, 0.01), atol=1e-12)
    np.testing.assert_allclose(blocked, 0, atol=1e-12)


def test_the_edge_blocks_and_pressing_sticks():
    at = pose(x=3, z=0)
    q, blocked = run(at, (0, -1, 0))
    np.testing.assert_allclose(q, at, atol=1e-9)
    assert blocked[1] == pytest.approx(-1)
    q, _ = run(at, (0.4, -1, 0))
    assert q[0] == pytest.approx(at[0]), "0.8 mm wanted, 1 mm held by friction"
    q, _ = run(at, (0.9, -1, 0))
    assert q[0] == pytest.approx(at[0] + 0.8e-3), "1.8 mm wanted less 1 mm"


def test_the_walls_of_the_hole_hold_the_peg():
    q, blocked = run(INSIDE, (1, 0, 0), (1, 0, 0), (1, 0, 0))
    assert 0 < q[0] <= peg.CLEARANCE + 1e-9 and blocked[0] > 0.9
    q, _ = run(INSIDE, *[(0, 0, 1)] * 5)
    assert 0 <= q[2] < 0.06


def test_no_way_leads_into_the_table():
    env = BatchEnv(peg.Peg(64))
    env.reset(seed=0)
    rng, worst = np.random.default_rng(1), -1.0
    for _ in range(150):
        env.step(rng.uniform((-1, -1.5, -1), (1, 0.5, 1), (64, 3)))
        worst = max(worst, peg.penetration(env.task.q).max())
    assert -1e-4 <= worst <= 1e-9


def test_success_is_the_only_reward_and_time_is_no_end():
    env = SingleEnv(peg.Peg(max_steps=30))
    env.reset(seed=0, options={"task": {"start": (0, 0.01, 0)}})
    results = [env.step((0, -1, 0)) for _ in range(13)]
    assert [r[1] for r in results] == [0] * 12 + [1]
    assert results[-1][2] and results[-1][4]["success"] and not results[-1][3]
    env.reset(seed=0)
    *_, last = (env.step((0, 1, 0)) for _ in range(30))
    assert last[3] and not last[2] and not last[4]["success"]


def test_single_equals_batched():
    envs = BatchEnv(peg.Peg(3))
    obs, _ = envs.reset(seed=5)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (20, 3))
    one = SingleEnv(peg.Peg())
    first, _ = one.reset(seed=7)
    np.testing.assert_array_equal(obs[2], first)
    for a in actions:
        obs = envs.step(np.tile(a, (3, 1)))[0]
        np.testing.assert_array_equal(obs[2], one.step(a)[0])
    assert one.observation_space.contains(one.step(a)[0])


def test_bad_input_names_the_limit():
    env = SingleEnv(peg.Peg())
    with pytest.raises(ValueError, match="limits"):
        env.reset(options={"task": {"start": (0, 0, 0)}})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="is nan; every entry must be finite"):
        env.step((np.nan, 0, 0))
    with pytest.raises(ValueError, match="cannot change"):
        env.set_task(start=(0, 0.01, 0))


def test_pictures():
    outline, table = peg.draw(pose(x=1, z=2, theta=0.1))
    assert outline.shape == (5, 2) and table.shape == (6, 2)
    np.testing.assert_allclose(outline[:2].mean(axis=0), [1, 2], atol=1e-9)
    sides = np.linalg.norm(np.diff(outline, axis=0), axis=1)
    np.testing.assert_allclose(sides, [10, 40, 10, 40], atol=1e-9)
    task = peg.Peg()
    task.q[0] = INSIDE
    image = task.render(0)
    assert image.shape == (160, 160, 3) and len(np.unique(image.reshape(-1, 3), axis=0)) == 3
