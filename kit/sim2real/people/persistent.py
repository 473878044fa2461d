"""A trusted sensor teaches a cheap one, hands over the wheel, and stays as safety stop until it is unplugged.

van Hecke et al. 2018, "Persistent self-supervised learning principle: from stereo to monocular vision for obstacle
avoidance". Theirs is a flying robot with stereo vision; here a lidar teaches a line of 16 pixels in
`kit.sim2real.people.room`.

    d_hat(o)  = mean of d over the k nearest camera lines o' in memory     learner: k nearest neighbours, grows online
    memory   += (o_t, d_t)   some seconds late, while there is a sensor    d: free way ahead, from the lidar
    e_t       = mean |d_hat - d| over the last W seconds                   each guess is made before its label is kept
    drives(t) = learner if e_t < E else sensor                             handover
    override:   while the learner drives and d < d_stop, the sensor turns the robot away

A teacher that drives well never comes near a wall, so its data lack what the learner's errors lead to. Under its own
control the learner sees those places, and the override makes that safe. Look at `Robot.step` first, then `who_drives`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from kit.sim2real.people import room as world
from kit.types import Metrics


@dataclass(frozen=True)
class Config:
    """One robot's life: first with the trusted sensor, then without."""

    plugged: float = 1200.0  # time with the sensor [s]
    unplugged: float = 1200.0  # time after it is lost [s]
    neighbours: int = 5  # k of the learner
    avoid: float = 0.8  # the robot turns away from what is nearer ahead, by sensor or by guess [m from its centre]
    stop: float = 0.35  # d_stop, where the sensor overrides the learner [m from its centre]
    turn: float = 2.0  # a turn is by a random angle up to this, and on until it is clear ahead [rad]
    far: float = 2.0  # distances beyond this count as this [m]
    bound: float = 0.25  # E, the learner drives while its recent error is below [m]
    window: float = 30.0  # W, over which the error is taken [s]
    late: float = 5.0  # what was seen is known after this time; a guess would else copy the moment before [s]
    room: world.Config = field(default_factory=world.Config)


ARMS = ("persistent", "teacher_only")
WHO = ("sensor", "learner", "override")


# ---- the pieces -------------------------------------------------------------------------------------------------


def ahead(distances: np.ndarray, angles: np.ndarray, half_width: float, far: float) -> float:
    """How far [m] the robot could go straight on: the nearest ray's end (rays,) in a lane `half_width` [m] to either
    side of its heading, at most `far`."""
    in_lane = np.abs(distances * np.sin(angles)) < half_width
    return float(min(far, (distances * np.cos(angles))[in_lane].min(initial=far)))


def who_drives(arm: str, error: float, bound: float) -> str:
    """The handover rule: "learner" while its recent error [m] is below the bound, but never in the teacher's arm."""
    return "learner" if arm == "persistent" and error < bound else "sensor"


class Neighbours:
    """k-nearest-neighbour regression from camera lines (pixels,) to a distance [m] that learns by remembering."""

    def __init__(self, k: int, pixels: int):
        self.k, self.n = k, 0
        self._lines, self._distances = np.empty((1024, pixels)), np.empty(1024)

    def learn(self, line: np.ndarray, distance: float) -> None:
        if self.n == len(self._lines):
            self._lines, self._distances = (
                np.concatenate((a, np.empty_like(a))) for a in (self._lines, self._distances)
            )
        self._lines[self.n], self._distances[self.n] = line, distance
        self.n += 1

    def guess(self, line: np.ndarray) -> float:
        """The distance [m]; 0, that is an obstacle, while fewer than k lines are known."""
        if self.n < self.k:
            return 0.0
        gaps = ((self._lines[: self.n] - line) ** 2).sum(axis=1)
        return float(self._distances[np.argpartition(gaps, self.k - 1)[: self.k]].mean())


class Turns:
    """Straight on until something is near, then a turn on the spot, to a random side, by at least a random angle and
    until it is clear ahead."""

    def __init__(self, most: int, rng: np.random.Generator):
        self.most, self.rng = most, rng  # the largest of the random angles [steps]
        self.turning = 0.0  # 1 left, -1 right, 0 straight on
        self.forced = 0  # steps of turning still to do, whatever is ahead

    def act(self, clear: float, near: float) -> tuple[bool, float]:
        """(forward, turn) for `clear` metres ahead."""
        self.forced = max(self.forced - 1, 0)
        if clear >= near and not self.forced:
            self.turning = 0.0
        elif self.turning == 0.0:
            self.start(int(self.rng.integers(1, self.most + 1)))
        return self.turning == 0.0, self.turning

    def start(self, steps: int) -> None:
        """Turn to a random side for that many steps at least."""
        self.turning, self.forced = float(self.rng.choice((-1, 1))), steps


# ---- the robot ----------------------------------------------------------------------------------------------------


class Robot:
    """A robot in its room, with its memory of what it saw and a record of each step: `log` has a dict a step."""

    def __init__(self, cfg: Config, arm: str, *, seed: int):
        if arm not in ARMS:
            raise ValueError(f"arm is {arm!r}; it must be one of {', '.join(ARMS)}")
        self.cfg, self.arm = cfg, arm
        self.rng = np.random.default_rng(seed)
        self.room = world.furnish(cfg.room, self.rng)
        self.pose = world.free_pose(self.room, self.rng)
        self.learner = Neighbours(cfg.neighbours, cfg.room.rays)
        self.turns = Turns(round(cfg.turn / (cfg.room.turn * cfg.room.dt)), self.rng)
        self.fresh: deque[tuple[np.ndarray, float]] = deque()  # seen and labelled, not yet in memory
        self.errors: deque[float] = deque(maxlen=round(cfg.window / cfg.room.dt))
        self.angles = world.ray_angles(cfg.room)
        self.log: list[dict] = []

    @property
    def error(self) -> float:
        """The learner's recent error [m], inf before a whole window is over."""
        return float(np.mean(self.errors)) if len(self.errors) == self.errors.maxlen else np.inf

    def sense(self) -> float:
        """Free way ahead [m] by the trusted sensor."""
        distances = world.lidar(self.room, self.pose)
        return ahead(distances, self.angles, self.cfg.room.radius + 0.1, self.cfg.far)

    def step(self, plugged: bool) -> None:
        """Sense, guess, learn while the sensor is there, drive."""
        cfg = self.cfg
        line, true = world.camera(self.room, self.pose, self.rng), self.sense()
        guess = self.learner.guess(line)
        who = who_drives(self.arm, self.error, cfg.bound) if plugged else "learner"
        if plugged:
            self.errors.append(abs(guess - true))
            self.fresh.append((line, true))
            if len(self.fresh) > cfg.late / cfg.room.dt:
                self.learner.learn(*self.fresh.popleft())
            if who == "learner" and true < cfg.stop:
                who = "override"
        clear = guess if who == "learner" else true
        pose, bumped = world.move(self.room, self.pose, *self.turns.act(clear, cfg.avoid))
        if bumped:
            self.turns.start(self.turns.most)
        self.log.append({
            "pose": self.pose, "who": who, "plugged": plugged, "bumped": bumped, "ahead": true, "guess": guess
        })  # fmt: skip
        self.pose = pose

    def column(self, name: str) -> np.ndarray:
        """One entry of the log over all steps: "pose" (T, 3), "who", "plugged", "bumped", "ahead" or "guess" (T,)."""
        return np.array([row[name] for row in self.log])


# ---- a life -------------------------------------------------------------------------------------------------------


def train(cfg: Config, *, seed: int, arm: str = "persistent") -> Iterator[Metrics]:
    """A life, with the sensor and then without; yields every 10 s of it. The agent is the `Robot`.

    The seed draws the room, its paint, the start and the noise.

    Raises:
        ValueError: an unknown arm.
    """
    robot, dt = Robot(cfg, arm, seed=seed), cfg.room.dt
    steps, plugged = round((cfg.plugged + cfg.unplugged) / dt), round(cfg.plugged / dt)
    for k in range(steps):
        robot.step(plugged=k < plugged)
        if (k + 1) % round(10 / dt) == 0 or k == steps - 1:
            yield Metrics(_summary(robot, k + 1), agent=robot)


def _summary(robot: Robot, steps: int) -> dict[str, float]:
    recent = robot.log[-round(10 / robot.cfg.room.dt) :]
    error = np.mean([abs(row["guess"] - row["ahead"]) for row in recent])
    who = [row["who"] for row in recent]
    return {
        "time": steps * robot.cfg.room.dt,
        "error": float(error),
        "learner": who.count("learner") / len(who),
        "override": who.count("override") / len(who),
        "bumps": float(sum(row["bumped"] for row in robot.log)),
    }


def error_anywhere(robot: Robot, poses: int = 500) -> float:
    """Mean error [m] of the learner's guess at random free poses of the robot's room, wherever it used to drive."""
    rng, here = np.random.default_rng(0), robot.pose
    errors = []
    for _ in range(poses):
        robot.pose = world.free_pose(robot.room, rng, least=0.0)
        errors.append(abs(robot.learner.guess(world.camera(robot.room, robot.pose, rng)) - robot.sense()))
    robot.pose = here
    return float(np.mean(errors))


def judge(robot: Robot) -> dict[str, float]:
    """What a finished life comes to: bumps in a minute with and without the sensor, and errors [m] early and late."""
    plugged, bumped, who = (robot.column(k) for k in ("plugged", "bumped", "who"))
    error = np.abs(robot.column("guess") - robot.column("ahead"))
    minute = round(60 / robot.cfg.room.dt)
    return {
        "bumps_per_minute": float(bumped[~plugged].mean() * minute),
        "bumps_per_minute_plugged": float(bumped[plugged].mean() * minute),
        "error_first_minute": float(error[:minute].mean()),
        "error_last_minute": float(error[plugged][-minute:].mean()),
        "error_anywhere": error_anywhere(robot),
        "error_unplugged": float(error[~plugged].mean()),
        "learner_share": float((who[plugged] != "sensor").mean()),
        "override_share": float((who[plugged] == "override").mean()),
    }
