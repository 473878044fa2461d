"""The room: the lidar against brute force, the camera against integrals and invariances, bumps."""

import numpy as np
import pytest

from kit.sim2real.people import room as world

CFG = world.Config()


def make(seed: int = 0, **changes) -> world.Room:
    return world.furnish(world.Config(**changes), np.random.default_rng(seed))


def march(room: world.Room, place: np.ndarray, angle: float, step: float = 1e-3) -> float:
    """Walk along a ray until something is hit."""
    way, d = np.array([np.cos(angle), np.sin(angle)]), 0.0
    while True:
        d += step
        point = place + d * way
        in_pillar = (np.linalg.norm(room.pillars - point, axis=-1) < room.cfg.pillar_radius).any()
        if in_pillar or (point < 0).any() or (point > room.cfg.side).any():
            return d


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_lidar_equals_marching_along_the_rays(seed):
    rng = np.random.default_rng(seed)
    room = make(seed, rays=8, view=6.0)
    pose = world.free_pose(room, rng)
    brute = [march(room, pose[:2], pose[2] + a) for a in world.ray_angles(room.cfg)]
    np.testing.assert_allclose(world.lidar(room, pose), brute, atol=2e-3)


def test_lidar_along_an_axis():
    room = make(pillars=0, rays=1)
    for heading, distance in ((0, 4.0), (np.pi / 2, 3.0), (np.pi, 1.0), (-np.pi / 2, 2.0)):
        np.testing.assert_allclose(world.lidar(room, np.array([1.0, 2.0, heading])), [distance])


def test_rays_fill_the_view_from_right_to_left():
    angles = world.ray_angles(CFG)
    width = CFG.view / CFG.rays
    np.testing.assert_allclose(np.diff(angles), width)
    np.testing.assert_allclose((angles[0] - width / 2, angles[-1] + width / 2), (-CFG.view / 2, CFG.view / 2))


def test_places_on_surfaces():
    room = world.Room(CFG, np.array([[2.0, 2.0]]), np.ones(5), np.zeros(5))
    surface = np.array([0, 1, 2, 3, 4])
    end = np.array([[0, 1.0], [2.0, 0], [5, 3.0], [4.0, 5], [2.0, 2.25]])
    way = np.array([[-1.0, 0], [0, -1], [0.6, 0.8], [0, 1], [0, -1]])
    u, slant = world.where_on(room, surface, end, way)
    np.testing.assert_allclose(u, [1, 2, 3, 4, 0.25 * np.pi / 2])
    np.testing.assert_allclose(slant, [1, 1, 0.6, 1, 1])


def test_contrast_is_that_of_a_blurred_wave():
    """One band: the amplitude that a Gaussian of the same variance leaves of a cosine."""
    room = make(frequencies=(2.0,))
    x = np.linspace(-3, 3, 60_001)
    for seen in (0.05, 0.2, 0.5):
        kernel = np.exp(-(x**2) / (2 * seen**2 / 12))
        left = (kernel * np.cos(2 * np.pi * 2.0 * x)).sum() / kernel.sum()
        u = room.wave[0] * (1 - room.phase[0] / (2 * np.pi))  # where the paint is strongest
        found = world.contrast(room, np.array([0]), np.array([u]), np.array([seen]))
        np.testing.assert_allclose(found, left, atol=1e-8)


def test_what_is_farther_has_less_contrast_but_paint_confounds_it():
    room = make()
    at = np.linspace(0, 4, 50)
    near, far = (world.contrast(room, np.zeros(50, int), at, np.full(50, s)) for s in (0.05, 0.2))
    assert (near > far).all()
    assert near.min() < far.max(), "weak paint near by and strong paint far away look the same"


def test_the_camera_is_the_contrast_along_the_lidars_rays_with_noise():
    room, pose = make(noise=0.0), np.array([1.0, 1.0, 0.3])
    clean = world.camera(room, pose, np.random.default_rng(0))
    assert clean.shape == (16,) and (clean > 0).all() and (clean <= 1).all()
    np.testing.assert_array_equal(clean, world.camera(room, pose, np.random.default_rng(1)))
    loud = world.Room(world.Config(noise=0.1), room.pillars, room.wave, room.phase)
    draws = np.array([world.camera(loud, pose, np.random.default_rng(s)) for s in range(400)])
    np.testing.assert_allclose(draws.mean(axis=0), clean, atol=0.02)
    np.testing.assert_allclose(draws.std(axis=0), 0.1, rtol=0.2)


def test_a_room_leaves_way_between_its_pillars():
    for seed in range(20):
        room = make(seed)
        apart = np.linalg.norm(room.pillars[:, None] - room.pillars, axis=-1) + 9 * np.eye(4)
        assert apart.min() > 2 * CFG.pillar_radius + 2 * CFG.radius
        assert world.clearance(room, world.free_pose(room, np.random.default_rng(seed))[:2]) > 0.3


def test_driving_and_bumping():
    room = make(pillars=0)
    pose, bumped = world.move(room, np.array([1.0, 1.0, 0.0]), True, 0.0)
    np.testing.assert_allclose(pose, [1 + CFG.speed * CFG.dt, 1, 0])
    assert not bumped
    pose, bumped = world.move(room, np.array([1.0, 1.0, 0.0]), False, -1.0)
    np.testing.assert_allclose(pose, [1, 1, -CFG.turn * CFG.dt])
    at_wall = np.array([CFG.side - CFG.radius - 0.01, 1.0, 0.0])
    pose, bumped = world.move(room, at_wall, True, 0.0)
    np.testing.assert_array_equal(pose, at_wall)
    assert bumped


def test_clearance_of_a_pillar():
    room = world.Room(CFG, np.array([[2.5, 2.5]]), np.ones(5), np.zeros(5))
    assert world.clearance(room, np.array([2.5, 3.5])) == pytest.approx(1 - CFG.pillar_radius - CFG.radius)
    assert world.clearance(room, np.array([2.5, 2.6])) < 0
