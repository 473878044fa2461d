"""A planar quadrotor that flies laps through gates while a user sets how much thrust it may use; NumPy only.

    omega' = (omega_cmd - omega) / tau                                  body rate behind a first-order rate controller
    theta' = omega
    v'     = f g (sin theta, cos theta) - (0, g) - k v,   x' = v        f: thrust [weights], cut at the user's limit c

The commands are a collective thrust and a body rate, as in the racing quadrotors of Bauersfeld et al. 2022. The limit c
is the last number of an observation, it may change in flight, and the reward uses the same c. A step is exact for a
constant attitude, so hovering and falling have no integration error. Look at `fly_step` first, then `Quad.judge`;
`fly(policy, limit)` records a flight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from kit.envs.env import BatchEnv
from kit.envs.task import Fields, Task, TaskSpace
from kit.types import Policy

GRAVITY = 9.81  # [m/s^2]
DRAG = 0.1  # k, of the speed [1/s]
LAG = 0.05  # tau, of the body rate [s]
MAX_RATE = 10.0  # largest body rate that can be asked for [rad/s]
LIMITS = (1.5, 4.5)  # of the user's c, the largest thrust [weights]; 4.5 is what the motors can do
GATES = np.array([[-5.0, 2.0], [5.0, 2.0], [5.0, 5.0], [-5.0, 5.0]])  # x, z [m], in the order of a lap
GATE_RADIUS = 0.6  # a gate is passed within this distance of its centre [m]
ARENA = np.array([[-8.0, 0.2], [8.0, 8.0]])  # lowest and highest x, z; outside is a crash [m]
FPS = 25.0  # control steps in a second
SUBSTEPS = 2  # physics steps in a control step
CRASH = 5.0  # reward lost by a crash [m of progress]
OVER_LIMIT = 0.05  # reward lost in a step for each weight of thrust that was asked for beyond c
SHAKE = 0.02  # reward lost in a step at the largest body rate, in proportion to its square


# ---- the pieces -------------------------------------------------------------------------------------------------


def fly_step(
    x: np.ndarray, v: np.ndarray, theta: np.ndarray, omega: np.ndarray, f: np.ndarray, rate: np.ndarray, dt: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Position (n, 2) [m], velocity (n, 2) [m/s], pitch (n,) [rad] and body rate (n,) [rad/s] after `dt` seconds.

    `f` (n,) is the thrust [weights], `rate` (n,) the body rate asked for [rad/s]. The body rate and, at the pitch of
    the middle of the step, the velocity and position are integrated exactly.
    """
    keep = np.exp(-dt / LAG)
    turned = rate * dt + (omega - rate) * LAG * (1 - keep)
    middle = theta + turned / 2
    push = GRAVITY * (f[:, None] * np.stack((np.sin(middle), np.cos(middle)), -1) - np.array([0.0, 1.0]))
    decay = np.exp(-DRAG * dt)
    final = push / DRAG  # velocity at which drag balances the push
    x = x + final * dt + (v - final) * (1 - decay) / DRAG
    return x, final + (v - final) * decay, theta + turned, rate + (omega - rate) * keep


def miss(start: np.ndarray, end: np.ndarray, gate: np.ndarray) -> np.ndarray:
    """Least distance (n,) [m] between gates (n, 2) and the straight ways from `start` (n, 2) to `end` (n, 2)."""
    way, to = end - start, gate - start
    share = np.clip((way * to).sum(-1) / np.maximum((way**2).sum(-1), 1e-12), 0, 1)
    return np.linalg.norm(to - share[:, None] * way, axis=-1)


def scaled(limit: np.ndarray | float) -> np.ndarray:
    """A thrust limit [weights] as policies see it: -1 at the lowest, 1 at the highest."""
    return 2 * (np.asarray(limit, float) - LIMITS[0]) / (LIMITS[1] - LIMITS[0]) - 1


# ---- the world ----------------------------------------------------------------------------------------------------


class Quad(Task):
    """Task field: `limit`, the user's c [weights], drawn uniformly and free to change in flight.

    An episode starts near a gate, almost at rest, and lasts 10 s or to a crash. Actions (2,): thrust, -1 for none to 1
    for 4.5 weights, and body rate, as a share of 10 rad/s. State (13,), of order one: position, way to the next gate,
    way from there to the one after, velocity, sine and cosine of the pitch, body rate, thrust of the last step, c.
    """

    live_fields = ("limit",)
    fps = FPS

    def __init__(self, num_envs: int = 1, *, max_steps: int = 250):
        super().__init__(num_envs)
        self.max_steps = max_steps
        self.task_space = TaskSpace(limit=spaces.Box(*LIMITS, (1,), np.float64))
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = spaces.Box(-10, 10, (13,), np.float32)
        self.x, self.v = np.zeros((num_envs, 2)), np.zeros((num_envs, 2))
        self.theta, self.omega = np.zeros(num_envs), np.zeros(num_envs)
        self.limit = np.full(num_envs, LIMITS[0])  # c [weights]
        self.asked, self.thrust = np.ones(num_envs), np.ones(num_envs)  # of the last step [weights]
        self.next = np.zeros(num_envs, int)  # index of the next gate
        self.passed = np.zeros(num_envs, int)  # gates in this episode
        self._progress = np.zeros(num_envs)

    def reset(self, ids: np.ndarray, given: Fields, rngs: Sequence[np.random.Generator]) -> Fields:
        drawn = np.array([np.r_[rng.integers(len(GATES)), rng.uniform(size=8)] for rng in rngs]).reshape(-1, 9)
        limit = given.get("limit", LIMITS[0] + (LIMITS[1] - LIMITS[0]) * drawn[:, 1:2])
        at, noise = drawn[:, 0].astype(int), 2 * drawn[:, 2:] - 1
        self.x[ids], self.v[ids] = GATES[at] + 0.5 * noise[:, :2], 0.5 * noise[:, 2:4]
        self.theta[ids], self.omega[ids] = 0.2 * noise[:, 4], 0.5 * noise[:, 5]
        self.limit[ids] = limit[:, 0]
        self.asked[ids] = self.thrust[ids] = 1.0
        self.next[ids], self.passed[ids], self._progress[ids] = (at + 1) % len(GATES), 0, 0.0
        return {"limit": limit}

    def retask(self, ids: np.ndarray, fields: Fields) -> None:
        if "limit" in fields:
            self.limit[ids] = fields["limit"][:, 0]

    def step(self, actions: np.ndarray) -> None:
        gate, before = GATES[self.next], self.x
        self.asked = LIMITS[1] * (1 + actions[:, 0]) / 2
        self.thrust = np.minimum(self.asked, self.limit)
        for _ in range(SUBSTEPS):
            self.x, self.v, self.theta, self.omega = fly_step(
                self.x, self.v, self.theta, self.omega, self.thrust, MAX_RATE * actions[:, 1], 1 / (FPS * SUBSTEPS)
            )
        there = miss(before, self.x, gate) < GATE_RADIUS
        self._progress = np.linalg.norm(gate - before, axis=-1) - np.linalg.norm(gate - self.x, axis=-1)
        self.passed += there
        self.next = (self.next + there) % len(GATES)

    def observe(self, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        gate, after = GATES[self.next[ids]], GATES[(self.next[ids] + 1) % len(GATES)]
        x, theta = self.x[ids], self.theta[ids]
        state = np.column_stack((
            x / 5, (gate - x) / 5, (after - gate) / 5, self.v[ids] / 5, np.sin(theta), np.cos(theta),
            self.omega[ids] / 5, self.thrust[ids] / 2, scaled(self.limit[ids]),
        ))  # fmt: skip
        return state.clip(-10, 10).astype(np.float32)

    def judge(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Metres of progress towards the next gate, less the costs; success is a whole lap in this episode."""
        crashed = ((self.x < ARENA[0]) | (self.x > ARENA[1])).any(axis=-1)
        over = np.maximum(self.asked - self.limit, 0)
        reward = self._progress - OVER_LIMIT * over - SHAKE * actions[:, 1] ** 2 - CRASH * crashed
        return reward, crashed, self.passed >= len(GATES)


# ---- recorded flights -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flight:
    """A flight of T control steps; row 0 of the arrays is the start, so they have T + 1 rows."""

    time: np.ndarray  # (T + 1,) [s]
    position: np.ndarray  # (T + 1, 2) x, z [m]
    velocity: np.ndarray  # (T + 1, 2) [m/s]
    pitch: np.ndarray  # (T + 1,) [rad]
    thrust: np.ndarray  # (T + 1,) [weights]
    limit: np.ndarray  # (T + 1,) the user's c [weights]
    passed: np.ndarray  # (T + 1,) gates so far
    crashed: bool

    @property
    def lap_times(self) -> np.ndarray:
        """Seconds (laps,) of each whole lap, from the first gate that was passed."""
        at = self.time[1:][np.diff(self.passed) > 0][:: len(GATES)]
        return np.diff(at)


def fly(policy: Policy, limit: float | Callable[[float], float], *, seconds: float = 10.0, seed: int = 0) -> Flight:
    """Fly the deterministic policy from a start that `seed` draws; ends early at a crash.

    `limit` is the user's c [weights], or a function of the time [s] that gives it, for instance what a slider says.

    Raises:
        ValueError: a limit outside 1.5..4.5 weights.
    """
    limit_at = limit if callable(limit) else lambda t: limit
    env = BatchEnv(Quad(1, max_steps=round(seconds * FPS) + 1))
    quad = env.task
    env.reset(seed=seed, options={"task": {"limit": [float(limit_at(0.0))]}})
    rows, crashed = [_row(quad)], False
    for k in range(round(seconds * FPS)):
        env.set_task(limit=[float(limit_at(k / FPS))])
        action, _ = policy.predict(quad.observe(), deterministic=True)
        quad.step(np.asarray(action, float).clip(-1, 1))
        rows.append(_row(quad))
        if crashed := bool(quad.judge(action)[1][0]):
            break
    columns = [np.array(c) for c in zip(*rows, strict=True)]
    return Flight(np.arange(len(rows)) / FPS, *columns, crashed)


def _row(quad: Quad) -> tuple:
    return (
        quad.x[0].copy(), quad.v[0].copy(), quad.theta[0], quad.thrust[0], quad.limit[0], quad.passed[0]
    )  # fmt: skip


def gates_passed(policy: Policy, limits: Sequence[float], *, starts: int = 32, seed: int = 0) -> np.ndarray:
    """Gates passed in 10 s, until a crash where there is one, by the deterministic policy: (limits, starts).

    Every limit is flown from the same starts, which `seed` draws.
    """
    quad = Quad(len(limits) * starts)
    seeds = np.tile(np.arange(starts), len(limits)) + 1000 * seed
    rngs = [np.random.default_rng(s) for s in seeds]
    quad.reset(np.arange(quad.num_envs), {"limit": np.repeat(limits, starts)[:, None].astype(float)}, rngs)
    flying, passed = np.ones(quad.num_envs, bool), np.zeros(quad.num_envs, int)
    for _ in range(quad.max_steps):
        actions = np.asarray(policy.predict(quad.observe(), deterministic=True)[0], float).clip(-1, 1)
        quad.step(actions)
        passed = np.where(flying, quad.passed, passed)
        flying &= ~quad.judge(actions)[1]
    return passed.reshape(len(limits), starts)
