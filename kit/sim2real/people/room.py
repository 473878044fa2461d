"""A room with pillars, and a small robot that has a lidar and a camera of one line of 16 pixels; NumPy only.

    lidar: distance along 16 rays to walls (axis-parallel) and pillars (circles), in closed form
    pixel: I = A(u) mean_k exp(-(pi f_k s)^2 / 6),   A(u) = 3/4 + cos(2 pi u / l + phi) / 4

A pixel sees the contrast of texture: u is where along the surface the ray ends [m], A how strongly it is painted there,
f_k the paint's frequencies [1/m], and s the width of surface that the pixel sees [m]; from afar fine paint is blurred
away. No pixel tells a distance: what is weakly painted and near looks like what is strongly painted and far. Look at
`lidar` first, then `contrast`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Config:
    """The room and the robot."""

    side: float = 5.0  # of the square room [m]
    pillars: int = 4  # round obstacles
    pillar_radius: float = 0.25  # [m]
    radius: float = 0.15  # of the robot [m]
    speed: float = 0.5  # of the robot, straight ahead [m/s]
    turn: float = 1.5  # of the robot, on the spot [rad/s]
    dt: float = 0.1  # control step [s]
    rays: int = 16  # of lidar and camera alike
    view: float = 1.5708  # angle that the rays span [rad]
    frequencies: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)  # of the paint [1/m]
    noise: float = 0.02  # standard deviation of a pixel [of the strongest contrast]


@dataclass(frozen=True)
class Room:
    """Pillars' centres (pillars, 2) [m]; each surface's paint, wave length l [m] and phase phi [rad], (4 + pillars,).

    Surfaces 0 to 3 are the walls x = 0, y = 0, x = side, y = side; then come the pillars.
    """

    cfg: Config
    pillars: np.ndarray
    wave: np.ndarray
    phase: np.ndarray


def furnish(cfg: Config, rng: np.random.Generator) -> Room:
    """A room whose pillars leave room to pass between each other and the walls, and whose paint is random."""
    gap = cfg.pillar_radius + 3 * cfg.radius
    centres: list[np.ndarray] = []
    while len(centres) < cfg.pillars:
        spot = rng.uniform(gap, cfg.side - gap, 2)
        if all(np.linalg.norm(spot - c) > gap + cfg.pillar_radius for c in centres):
            centres.append(spot)
    n = 4 + cfg.pillars
    return Room(cfg, np.array(centres).reshape(-1, 2), rng.uniform(1.5, 4.0, n), rng.uniform(0, 2 * np.pi, n))


# ---- the two sensors ------------------------------------------------------------------------------------------------


def ray_angles(cfg: Config) -> np.ndarray:
    """Directions (rays,) of the rays' middles relative to the robot's heading [rad], from right to left."""
    return ((np.arange(cfg.rays) + 0.5) / cfg.rays - 0.5) * cfg.view


def hits(room: Room, place: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances [m] from `place` (2,) to every surface along every direction, (surfaces, rays), inf where the ray
    misses it, and the directions (rays, 2)."""
    way = np.stack((np.cos(angles), np.sin(angles)), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        walls = np.concatenate((-place[:, None] / way.T, (room.cfg.side - place[:, None]) / way.T))
    to = room.pillars - place
    along = to @ way.T
    inside = room.cfg.pillar_radius**2 - ((to**2).sum(-1)[:, None] - along**2)
    circles = np.where(inside > 0, along - np.sqrt(np.maximum(inside, 0)), np.inf)
    distances = np.concatenate((walls, circles))
    return np.where(distances > 0, distances, np.inf), way


def lidar(room: Room, pose: np.ndarray) -> np.ndarray:
    """Distances (rays,) [m] that the trusted sensor sees from a pose (3,): x, y [m], heading [rad]."""
    return hits(room, pose[:2], pose[2] + ray_angles(room.cfg))[0].min(axis=0)


def camera(room: Room, pose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Contrasts (rays,) that the pixels see, between about 0 and 1, with noise."""
    distances, way = hits(room, pose[:2], pose[2] + ray_angles(room.cfg))
    surface, distance = distances.argmin(axis=0), distances.min(axis=0)
    u, slant = where_on(room, surface, pose[:2] + distance[:, None] * way, way)
    seen = distance * room.cfg.view / room.cfg.rays / np.maximum(slant, 0.05)
    return contrast(room, surface, u, seen) + room.cfg.noise * rng.standard_normal(room.cfg.rays)


def where_on(room: Room, surface: np.ndarray, end: np.ndarray, way: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For rays that end at `end` (rays, 2) [m] on surfaces (rays,) along `way` (rays, 2): place along the surface [m],
    and cosine of the angle between ray and normal, both (rays,)."""
    is_wall, axis = surface < 4, surface % 2
    centres = np.vstack((np.zeros((4, 2)), room.pillars))[surface]
    out = (end - centres) / room.cfg.pillar_radius
    normal = np.where(is_wall[:, None], np.eye(2)[axis], out)
    around = room.cfg.pillar_radius * np.arctan2(out[:, 1], out[:, 0])
    u = np.where(is_wall, np.where(axis == 0, end[:, 1], end[:, 0]), around)
    return u, np.abs((way * normal).sum(-1))


def contrast(room: Room, surface: np.ndarray, u: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Contrast (rays,) of surfaces (rays,) at places u (rays,) [m] in pixels that see widths `seen` (rays,) [m].

    A pixel blurs like a Gaussian with the variance `seen`^2 / 12 of a uniform width.
    """
    f = np.array(room.cfg.frequencies)
    strength = 0.75 + 0.25 * np.cos(2 * np.pi * u / room.wave[surface] + room.phase[surface])
    return strength * np.exp(-((np.pi * f * seen[:, None]) ** 2) / 6).mean(-1)


# ---- the robot ----------------------------------------------------------------------------------------------------


def clearance(room: Room, place: np.ndarray) -> float:
    """Distance [m] from the robot's rim at `place` (2,) to the nearest surface; negative where they overlap."""
    walls = min(place.min(), (room.cfg.side - place).min())
    pillars = np.linalg.norm(room.pillars - place, axis=-1) - room.cfg.pillar_radius
    return float(min([walls, *pillars]) - room.cfg.radius)


def move(room: Room, pose: np.ndarray, forward: bool, turn: float) -> tuple[np.ndarray, bool]:
    """The pose after a control step, and whether the robot bumped: it then stays where it was.

    `forward` drives straight ahead at full speed; `turn` in -1..1 is the share of the turning speed.
    """
    cfg = room.cfg
    heading = pose[2] + cfg.turn * turn * cfg.dt
    step = cfg.speed * cfg.dt * forward
    place = pose[:2] + step * np.array([np.cos(heading), np.sin(heading)])
    bumped = bool(forward and clearance(room, place) < 0)
    return np.r_[pose[:2] if bumped else place, heading], bumped


def free_pose(room: Room, rng: np.random.Generator, least: float = 0.3) -> np.ndarray:
    """A random pose (3,) with more than `least` metres of clearance."""
    while True:
        place = rng.uniform(0, room.cfg.side, 2)
        if clearance(room, place) > least:
            return np.r_[place, rng.uniform(-np.pi, np.pi)]
