"""A scripted expert for `kit/PushT-v0` that solves it in a different way each time, and its demonstrations.

A push at the point r of a side with inward normal n moves the T as a rigid body on a circle (f is the T's share of the
pusher's way along n, rho its radius of gyration; r and n are fixed in the T):

    f = 1 / (1 + (r x n)^2 / rho^2),     v = f n,     w = f (r x n) / rho^2
    pose after a way L = pose * exp(L (v, w)),        distance^2 = |centroid - goal|^2 + rho^2 (angle - goal)^2

The expert knows 12 such points. For each it finds the best L, counts the steps that the way there (around the T on the
left or on the right) and the push take, and draws a push at random among those that shrink the distance fastest:

    score = steps / log(distance before / distance after),     p ~ exp(-(score / best score - 1) / temperature)

So the same state is answered in several ways. Look first at `plan`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.data import Episodes
from kit.envs.push_t import (
    AROUND,
    CENTRE,
    FIELD,
    GOAL,
    GYRATION,
    OUTLINE,
    PUSHER,
    REACH,
    PushT,
    centroid,
    coverage,
    turn,
    wrap,
)


@dataclass(frozen=True)
class Config:
    """How the expert moves."""

    lead: float = 0.05  # how far the target runs ahead of the pusher while it travels [m]
    push_lead: float = 0.04  # and while it pushes [m]
    clearance: float = 0.006  # between pusher and side when a push begins [m]
    temperature: float = 0.3  # of the choice between pushes [share of the best score]
    floor: float = 0.0015  # distance below which nothing is gained [m]
    stop: float = 0.0006  # a push whose remaining way is shorter ends [m]
    noise: float = 0.0  # standard deviation of what disturbs the target in demonstrations [m]


def contacts(margin: float = 0.008, apart: float = 0.06) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a pusher can push: touched points from the centroid (k, 2) [m], inward normals (k, 2), sides (k,)."""
    points, normals, sides = [], [], []
    for i, (a, b) in enumerate(zip(OUTLINE, np.roll(OUTLINE, -1, axis=0), strict=True)):
        length = np.linalg.norm(b - a)
        along = (b - a) / length
        # next to an inner corner the pusher itself needs room
        room = [margin + PUSHER if i in inner else margin for inner in ((3, 6), (2, 5))]
        free = length - sum(room)
        for s in np.linspace(room[0], length - room[1], 1 + round(free / apart)):
            points.append(a + s * along - CENTRE)
            normals.append((-along[1], along[0]))
            sides.append(i)
    return np.array(points), np.array(normals), np.array(sides)


POINTS, NORMALS, SIDES = contacts()
SEATS = POINTS - PUSHER * NORMALS  # the pusher's centre in a push, from the centroid, in the T's frame [m]
ARM = POINTS[:, 0] * NORMALS[:, 1] - POINTS[:, 1] * NORMALS[:, 0]  # r x n [m]
SHARE = 1 / (1 + ARM**2 / GYRATION**2)  # f
SPIN = SHARE * ARM / GYRATION**2  # w [rad/m]
LENGTHS = np.r_[0.0005 * 1.5 ** np.arange(8), np.arange(0.01, 0.26, 0.01)]  # ways L that are tried [m]


def after(centre: np.ndarray, angle: np.ndarray, push: np.ndarray, way: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centroids (..., 2) and angles (...,) after pushes of number `push` (...,) over ways (...,) [m]."""
    phi = SPIN[push] * way
    sinc = np.sinc(phi / np.pi)
    cosc = phi / 2 * np.sinc(phi / (2 * np.pi)) ** 2  # (1 - cos phi) / phi
    n, length = NORMALS[push], SHARE[push] * way
    moved = np.stack((sinc * n[..., 0] - cosc * n[..., 1], cosc * n[..., 0] + sinc * n[..., 1]), axis=-1)
    return centre + turn(angle, moved * length[..., None]), angle + phi


def distance(centre: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """How far the T is from its goal, turning counted at its radius of gyration, (...,) [m]."""
    gap = np.square(centre - centroid(GOAL)).sum(axis=-1)
    return np.sqrt(gap + np.square(GYRATION * wrap(angle - GOAL[2])))


def slope(centre: np.ndarray, angle: np.ndarray, push: np.ndarray) -> np.ndarray:
    """The remaining way (...,) [m] of a push by one Gauss-Newton step: negative where it leads away from the goal."""
    gap = centroid(GOAL) - centre
    moved = turn(angle, NORMALS[push]) * SHARE[push][..., None]
    turned = SPIN[push] * GYRATION
    down = (gap * moved).sum(axis=-1) + wrap(GOAL[2] - angle) * GYRATION * turned
    return down / (np.square(moved).sum(axis=-1) + turned**2)


def entry(push: np.ndarray) -> np.ndarray:
    """Where the line of approach to a push meets the circle around the T, (..., 2), in the T's frame [m]."""
    seat, n = SEATS[push], NORMALS[push]
    along = (seat * n).sum(axis=-1)
    back = along + np.sqrt(along**2 + AROUND**2 - np.square(seat).sum(axis=-1))
    return seat - n * back[..., None]


def heading(points: np.ndarray) -> np.ndarray:
    return np.arctan2(points[..., 1], points[..., 0])


def plan(
    centre: np.ndarray, angle: np.ndarray, pusher: np.ndarray, last: np.ndarray, cfg: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, 2 k) of the k pushes, around the left and then around the right: steps for each e-fold of distance.

    `pusher` (n, 2) is in the T's frame [m], `last` (n,) the push from which it comes. Infinite where a push is of no
    use or the pusher would leave the table.
    """
    n, k = len(centre), len(POINTS)
    push = np.broadcast_to(np.arange(k)[:, None], (k, len(LENGTHS)))
    ends = distance(*after(centre[:, None, None], angle[:, None, None], push, LENGTHS))  # (n, k, lengths)
    best = ends.argmin(axis=-1)
    left = np.take_along_axis(ends, best[..., None], axis=-1)[..., 0]
    gain = np.log((distance(centre, angle)[:, None] + cfg.floor) / (left + cfg.floor))
    useful = (slope(centre[:, None], angle[:, None], np.arange(k)) > cfg.stop) & (gain > 0.05)
    at = centre[:, None] + turn(angle[:, None], SEATS - 0.02 * NORMALS)
    useful &= ((at > PUSHER) & (at < FIELD - PUSHER)).all(axis=-1)
    pushing = LENGTHS[best] / (0.45 * cfg.push_lead) + 4
    score = [(pushing + way / (0.45 * cfg.lead)) / np.maximum(gain, 1e-9) for way in ways(pusher, last)]
    return np.concatenate([np.where(useful, s, np.inf) for s in score], axis=1).reshape(n, 2 * k)


def ways(pusher: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths (n, k) [m] of the ways to all pushes anticlockwise and clockwise around the T."""
    gates = entry(np.arange(len(POINTS)))
    out = np.maximum(AROUND - np.linalg.norm(pusher, axis=1), 0)
    here = np.where((out > 0.01)[:, None], entry(last), pusher)
    straight = np.linalg.norm(pusher - here, axis=1)[:, None] + np.linalg.norm(gates - SEATS, axis=1)
    turned = (heading(gates) - heading(here)[:, None]) % (2 * np.pi)
    same = (SIDES[last][:, None] == SIDES) & (out > 0.01)[:, None]
    beside = np.linalg.norm(pusher[:, None] - SEATS, axis=-1) + 0.02
    return tuple(np.where(same, beside, straight + AROUND * t) for t in (turned, 2 * np.pi - turned))


class Expert:
    """What the expert does in `n` simulations: the push it is at, the side around which it goes, whether it pushes."""

    def __init__(self, n: int, cfg: Config | None = None, *, seed: int):
        self.cfg = cfg or Config()
        self.rng = np.random.default_rng(seed)
        self.push, self.last = np.zeros(n, int), np.zeros(n, int)
        self.way = np.ones(n)  # +1 anticlockwise around the T, -1 clockwise
        self.touching, self.fresh = np.zeros(n, bool), np.ones(n, bool)

    def act(self, task: PushT) -> np.ndarray:
        """Actions (n, 2) for the task's simulations."""
        centre, angle = centroid(task.pose), task.pose[:, 2]
        pusher = turn(-angle, task.pusher - centre)
        left = slope(centre, angle, self.push)
        self._choose(np.flatnonzero(self.fresh | (left < self.cfg.stop)), centre, angle, pusher)
        left = slope(centre, angle, self.push)
        target = np.where(self._aligned(pusher)[:, None], self._push(pusher, left), self._travel(pusher))
        return task.action_towards(centre + turn(angle, target))

    def _choose(self, ids: np.ndarray, centre: np.ndarray, angle: np.ndarray, pusher: np.ndarray) -> None:
        if not len(ids):
            return
        nearest = np.linalg.norm(pusher[ids, None] - SEATS, axis=-1).argmin(axis=1)
        self.last[ids] = np.where(self.fresh[ids], nearest, self.push[ids])
        score = plan(centre[ids], angle[ids], pusher[ids], self.last[ids], self.cfg)
        worth = -(score / np.minimum(score.min(axis=1, keepdims=True), 1e9) - 1) / self.cfg.temperature
        choice = (np.nan_to_num(worth, neginf=-1e9) + self.rng.gumbel(size=worth.shape)).argmax(axis=1)
        self.push[ids], self.way[ids] = choice % len(POINTS), np.where(choice < len(POINTS), 1.0, -1.0)
        self.fresh[ids] = False

    def _aligned(self, pusher: np.ndarray) -> np.ndarray:
        """Whether the pusher is on the line of approach of its push, outside the T."""
        n = NORMALS[self.push]
        off = pusher - SEATS[self.push]
        beside = np.abs(off[:, 0] * n[:, 1] - off[:, 1] * n[:, 0])
        return (beside < 0.008) & ((off * n).sum(axis=1) < 0.006)

    def _push(self, pusher: np.ndarray, left: np.ndarray) -> np.ndarray:
        seat, n, cfg = SEATS[self.push], NORMALS[self.push], self.cfg
        behind = -((pusher - seat) * n).sum(axis=1)
        return seat + n * np.minimum(np.clip(left, 0, None), cfg.push_lead - behind)[:, None]

    def _travel(self, pusher: np.ndarray) -> np.ndarray:
        """The next target on the way: out from the last side, around the T, to the line of approach."""
        cfg = self.cfg
        gate, radius = entry(self.push), np.linalg.norm(pusher, axis=1)
        turned = (self.way * (heading(gate) - heading(pusher))) % (2 * np.pi)
        reach = np.arccos(np.clip(AROUND / np.maximum(radius, AROUND), 0, 1))
        step = np.minimum(turned, np.maximum(cfg.lead / AROUND, reach))
        ahead = heading(pusher) + self.way * step
        ring = AROUND * np.stack((np.cos(ahead), np.sin(ahead)), axis=1)
        target = np.where((turned < 1e-2)[:, None] | (turned > 2 * np.pi - 1e-2)[:, None], gate, ring)
        out = pusher - cfg.lead * NORMALS[self.last]
        target = np.where((radius < AROUND - 0.008)[:, None], out, target)
        return self._limit(pusher, self._beside(pusher, target))

    def _beside(self, pusher: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Along the same side it is enough to back off by a little."""
        seat, n, cfg = SEATS[self.push], NORMALS[self.push], self.cfg
        depth = ((pusher - seat) * n).sum(axis=1)
        same = (SIDES[self.push] == SIDES[self.last]) & (np.linalg.norm(pusher, axis=1) < AROUND - 0.008)
        back = pusher - 2 * cfg.clearance * n
        along = seat - cfg.clearance * n
        return np.where(same[:, None], np.where((depth > -cfg.clearance / 2)[:, None], back, along), target)

    def _limit(self, pusher: np.ndarray, target: np.ndarray) -> np.ndarray:
        step = target - pusher
        length = np.linalg.norm(step, axis=1, keepdims=True)
        return pusher + step * np.minimum(1, self.cfg.lead / np.maximum(length, 1e-9))


def demonstrations(
    episodes: int, *, seed: int, cfg: Config | None = None, until: float = 0.97, least_steps: int = 16,
    most_steps: int = 200, **options: Any,
) -> Episodes:  # fmt: skip
    """Episodes of the expert that reached the coverage `until`; `episodes` are started, options are `PushT`'s.

    With `Config.noise` the pusher is disturbed, and the actions are what the expert meant: they show how to recover
    (Laskey et al. 2017). They go on a little beyond success, so that a policy learns what to do shortly before it.
    Episodes shorter than `least_steps` are left out, because chunk policies cannot use them, and those that take more
    than `most_steps`.

    Raises:
        ValueError: no episode is left, or pixels are asked for.
    """
    if options.get("pixels"):
        raise ValueError("demonstrations hold states; draw their pictures with kit.envs.push_t.picture")
    task = PushT(episodes, **options)
    task.reset(np.arange(episodes), {}, [np.random.default_rng((seed, i)) for i in range(episodes)])
    expert, rng = Expert(episodes, cfg, seed=seed), np.random.default_rng((seed, 1))
    jolt = expert.cfg.noise / (REACH if task.frame == "block" else FIELD / 2)
    seen, acted, done = [task.observe()], [], np.zeros(episodes, int)
    while (done == 0).any() and len(acted) < most_steps:
        acted.append(expert.act(task))
        task.step(np.clip(acted[-1] + jolt * rng.standard_normal(acted[-1].shape), -1, 1))
        seen.append(task.observe())
        done[(done == 0) & (coverage(task.pose) >= until)] = len(acted)
    keep = np.flatnonzero(done >= max(least_steps, 2))
    if not len(keep):
        raise ValueError(
            f"none of {episodes} episodes reached {until} after {least_steps} to {most_steps} steps; start more"
        )
    return cut(np.stack(seen, axis=1)[keep], np.stack(acted, axis=1)[keep], done[keep])


def cut(observations: np.ndarray, actions: np.ndarray, lengths: np.ndarray) -> Episodes:
    """The first `lengths` (E,) steps of arrays (E, T + 1, obs_dim) and (E, T, act_dim), as episodes that terminated."""
    rows, ends = list(enumerate(lengths)), np.cumsum(lengths + 1) - 1
    terminated = np.zeros(ends[-1] + 1, bool)
    terminated[ends - 1] = True
    return Episodes(
        np.concatenate([observations[e, : t + 1] for e, t in rows]),
        np.concatenate([np.pad(actions[e, :t], ((0, 1), (0, 0))) for e, t in rows]),
        terminated, np.zeros_like(terminated), ends,
    )  # fmt: skip
