"""Drawers that a robot has not seen: procedural, planar, batched, watched by a cheap camera. NumPy only.

    u, v           place of the finger along the drawer's front and out of it; at angle 0 u is x and v is -y
    the handle     a bar, |u| < w, at v = s + d; a post at u = 0 holds it; d is how far the drawer is open
    to open        go in beside the bar, to either side of it; move behind it; pull:  d' = d + ease * dv
    the camera     sees two ends of the bar and the cabinet's edge from the finger:  seen = true + L(look) + noise

A finger that comes from the front pushes the drawer shut, and the mean of the two ways leads there: who imitates has to
choose a side. The `look` of a scene (gloss, contrast, light, lens) shifts what the camera sees, the same way in every
scene: whoever has met many looks can undo it. Look first at `move`, then at `demonstrate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from kit.envs.task import Fields, Task, TaskSpace

STANDOFF = 0.03  # s, from the drawer's front to the bar's middle [m]
THICK = 0.005  # half of the bar's thickness [m]
BESIDE = 0.025  # a demonstrator passes the bar's end at this distance [m]
ROUNDING = 1e-9  # a finger that touches the bar is not inside it [m]
LOOKS = ("gloss", "contrast", "light", "lens")


@dataclass(frozen=True)
class Config:
    """The scenes and the camera."""

    max_steps: int = 60  # control steps of an attempt, 10 in a second
    step_m: float = 0.015  # largest move along an axis in a step [m]
    open_m: float = 0.10  # a drawer that is open this far counts as opened [m]
    look_m: float = 0.02  # what a look of 1 shifts [m]
    frame_m: float = 0.004  # standard deviation of what one frame adds to each number, close by [m]
    far: float = 4.0  # by how much it grows with the distance [1/m]
    mount_m: float = 0.004  # standard deviation of the camera's own place, new with each attempt [m]
    slip: float = 0.5  # standard deviation of a demonstrator's hand [steps]

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise ValueError(f"{name} is {value}; it must not be negative")


# ---- the pieces -----------------------------------------------------------------------------------------------------


def axes(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along the front and out of it, each (n, 2), at angles (n,) [rad]."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack((c, s), 1), np.stack((s, -c), 1)


def move(
    u: np.ndarray, v: np.ndarray, d: np.ndarray, du: np.ndarray, dv: np.ndarray, half: np.ndarray, travel, ease
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step of finger and drawer, first along the front, then out of it: the new u, v and opening d, each (n,) [m].

    `half` (n,) is half of the bar's length, `travel` (n,) how far the drawer goes [m], `ease` (n,) which share of a
    pull it follows.
    """
    bar = d + STANDOFF
    level = np.abs(v - bar) < THICK - ROUNDING
    beside, side = np.abs(u) >= half, np.where(u < 0, -1.0, 1.0)
    to = u + du
    to = np.where(level & beside & (np.abs(to) < half), side * half, to)  # against the bar's end
    to = np.where((v < bar) & ~beside, side * np.maximum(side * to, THICK), to)  # against the post
    behind = (np.abs(to) < half) & (v < bar)
    before = (np.abs(to) < half) & (v >= bar)
    out = v + dv
    pulled = np.where(behind, np.maximum(out - (bar - THICK), 0), 0)
    opened = np.minimum(d + ease * pulled, travel)
    out = np.where(pulled > 0, opened + STANDOFF - THICK, out)
    pressed = np.where(before, out - STANDOFF - THICK, out)  # the bar's face, or the drawer's front
    closed = np.clip(pressed, 0, opened)
    least = np.where(before, closed + STANDOFF + THICK, closed)
    return to, np.maximum(out, least), closed


def shift(look: np.ndarray, angle: np.ndarray, scale: float) -> np.ndarray:
    """L: what looks (n, 4) make of bar ends and cabinet's edge, (n, 3, 2) [m]; a look of 1 shifts by `scale` [m]."""
    along, outward = axes(angle)
    gloss, contrast, light, lens = look.T[:, :, None]
    middle = gloss * along + light * outward
    return scale * np.stack((middle - contrast * along, middle + contrast * along, lens * outward), 1)


def demonstrate(u: np.ndarray, v: np.ndarray, d: np.ndarray, half: np.ndarray, side: np.ndarray) -> np.ndarray:
    """A demonstrator's step (n, 2) along the front and out of it [m]; `side` (n,) is -1 or 1, the end it goes round."""
    a, bar = side * u, d + STANDOFF
    deep, wide = v < bar, a > half + BESIDE / 2
    hooked = deep & (np.abs(a) < half) & (a > 0)
    beside = np.stack((half + BESIDE - a, bar + BESIDE - v), 1)
    inward = np.stack((half + BESIDE - a, d + STANDOFF / 2 - v), 1)
    behind = np.stack((half / 2 - a, d + STANDOFF / 2 - v), 1)
    pull = np.stack((half / 2 - a, np.ones_like(v)), 1)
    chosen = np.select([hooked[:, None], (deep & (a > 0))[:, None], wide[:, None]], [pull, behind, inward], beside)
    return chosen * np.stack((side, np.ones_like(v)), 1)


# ---- the environment ------------------------------------------------------------------------------------------------


class Drawers(Task):
    """A finger before drawers. Task fields: `place` (2,) of the front's middle [m], `angle` [rad], `half` of the bar's
    length [m], `travel` [m], `ease` and `look` (4,). Observation (12,): the bar's ends and the cabinet's edge as the
    camera on the finger sees them [m], the look, the finger's own place [m]. Action (2,): shares of the largest step,
    right and ahead.

    An attempt always lasts `max_steps`: nothing tells the robot that the drawer is open.
    """

    fps = 10.0

    def __init__(self, num_envs: int = 1, cfg: Config | None = None):
        super().__init__(num_envs)
        self.cfg = cfg or Config()
        self.max_steps = self.cfg.max_steps
        limits = {
            "place": ((-0.08, 0.32), (0.08, 0.42)),
            "angle": ((-0.5,), (0.5,)),
            "half": ((0.025,), (0.06,)),
            "travel": ((0.13,), (0.2,)),
            "ease": ((0.5,), (1.0,)),
            "look": ((-1.0,) * 4, (1.0,) * 4),
        }
        boxes = {k: spaces.Box(*np.array(ends), dtype=np.float64) for k, ends in limits.items()}
        self.task_space = TaskSpace(**boxes)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = spaces.Box(-2, 2, (12,), np.float32)
        self.scene: Fields = {k: np.zeros((num_envs, box.shape[0])) for k, box in boxes.items()}
        self.finger, self.opening = np.zeros((num_envs, 2)), np.zeros(num_envs)
        self.mount, self.noise = np.zeros((num_envs, 2)), np.zeros((num_envs, 3, 2))
        self.rngs: list[np.random.Generator] = [np.random.default_rng(0)] * num_envs

    def reset(self, ids: np.ndarray, given: Fields, rngs: Sequence[np.random.Generator]) -> Fields:
        drawn = self.task_space.decode(np.array([rng.random(self.task_space.size) for rng in rngs]))
        fields = drawn | given
        for name, values in fields.items():
            self.scene[name][ids] = values
        for i, rng in zip(ids, rngs, strict=True):
            self.rngs[i] = rng
        self.again(ids)
        return fields

    def again(self, ids: np.ndarray) -> None:
        """Drawers are pushed shut, fingers go home; the camera then sits a little differently. If a drawer stayed as it
        was left, even blind tries would add up."""
        self.opening[ids] = 0
        for i in ids:
            self.finger[i] = self.rngs[i].uniform(-0.03, 0.03, 2)
            self.mount[i] = self.cfg.mount_m * self.rngs[i].standard_normal(2)
        self._see(ids)

    def retask(self, ids: np.ndarray, fields: Fields) -> None:
        """No field changes while an attempt runs."""

    def local(self) -> tuple[np.ndarray, np.ndarray]:
        """u and v of the fingers, each (n,) [m]."""
        along, outward = axes(self.scene["angle"][:, 0])
        offset = self.finger - self.scene["place"]
        return (offset * along).sum(1), (offset * outward).sum(1)

    def step(self, actions: np.ndarray) -> None:
        along, outward = axes(self.scene["angle"][:, 0])
        by = self.cfg.step_m * actions
        u, v = self.local()
        half, travel, ease = (self.scene[k][:, 0] for k in ("half", "travel", "ease"))
        moved = move(u, v, self.opening, (by * along).sum(1), (by * outward).sum(1), half, travel, ease)
        self.opening = moved[2]
        self.finger = self.scene["place"] + moved[0][:, None] * along + moved[1][:, None] * outward
        self._see(np.arange(self.num_envs))

    def keypoints(self) -> np.ndarray:
        """Where the bar's ends and the cabinet's edge really are, (n, 3, 2) [m]."""
        along, outward = axes(self.scene["angle"][:, 0])
        middle = self.scene["place"] + (self.opening + STANDOFF)[:, None] * outward
        reach = self.scene["half"] * along
        return np.stack((middle - reach, middle + reach, self.scene["place"]), 1)

    def _see(self, ids: np.ndarray) -> None:
        """A new frame, with noise of its own."""
        self.noise[ids] = [self.rngs[i].standard_normal((3, 2)) for i in ids]

    def observe(self, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        cfg, look = self.cfg, self.scene["look"]
        offset = self.keypoints() - self.finger[:, None]
        sigma = cfg.frame_m * (1 + cfg.far * np.linalg.norm(offset, axis=2, keepdims=True))
        seen = offset + shift(look, self.scene["angle"][:, 0], cfg.look_m) + self.mount[:, None] + sigma * self.noise
        return np.concatenate((seen.reshape(-1, 6), look, self.finger), axis=1)[ids].astype(np.float32)

    def judge(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        opened = self.opened()
        return opened.astype(float), np.zeros(self.num_envs, bool), opened

    def opened(self) -> np.ndarray:
        """Whether the drawers are open, bool (n,). Only the judge knows."""
        return self.opening >= self.cfg.open_m


# ---- demonstrations -------------------------------------------------------------------------------------------------


def draw(n: int, rng: np.random.Generator, cfg: Config | None = None) -> Fields:
    """`n` scenes, each field (n, size)."""
    space = Drawers(1, cfg).task_space
    return space.decode(rng.random((n, space.size)))


def repeat(scenes: Fields, times: int) -> Fields:
    """Every scene `times` times in a row."""
    return {k: np.repeat(v, times, axis=0) for k, v in scenes.items()}


def start(scenes: Fields, rng: np.random.Generator, cfg: Config) -> Drawers:
    """The scenes at the start of an attempt, one simulation each; `rng` seeds their noise."""
    n = len(scenes["angle"])
    task = Drawers(n, cfg)
    task.reset(np.arange(n), scenes, rng.spawn(n))
    return task


def shown(task: Drawers, side: np.ndarray) -> np.ndarray:
    """The demonstrator's actions (n, 2) where the fingers are now; it sees the truth."""
    along, outward = axes(task.scene["angle"][:, 0])
    by = demonstrate(*task.local(), task.opening, task.scene["half"][:, 0], side) / task.cfg.step_m
    world = by[:, :1] * along + by[:, 1:] * outward
    return world / np.maximum(np.abs(world).max(axis=1, keepdims=True), 1)


def demonstrations(scenes: Fields, rng: np.random.Generator, cfg: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One demonstration a scene, its side a coin's: observations (T, n, 12), actions (T, n, 2), opened (n,).

    The demonstrator's hand slips, and what it meant to do is recorded.
    """
    task = start(scenes, rng, cfg)
    side = rng.choice([-1.0, 1.0], size=task.num_envs)
    observations, actions = [], []
    for _ in range(cfg.max_steps):
        meant = shown(task, side)
        observations.append(task.observe())
        actions.append(meant)
        task.step(np.clip(meant + cfg.slip * rng.standard_normal(meant.shape), -1, 1))
    return np.array(observations), np.array(actions, np.float32), task.opened()
