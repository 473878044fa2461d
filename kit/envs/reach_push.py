"""`kit/ReachPush-v0`: eight coloured targets before an SO-101; reach one, or push a cube onto it, from above or level.

    word    "reach" or "push", and a colour: 16 tasks, each done in two ways that end alike
    pitch   q_lift + q_elbow + q_wrist, how far the gripper points down: 0 is level, pi/2 straight down [rad]
    mode    0, from above: pitch > 55 deg at success;  1, level: pitch < 33 deg;  -1 in between, where the arm starts

30 Hz, 8 s, actions as in `kit.envs.arm_task`. Reaching succeeds when the tool has been within 2.5 cm of the point 5 cm
above the target for a third of a second, pushing when the cube has rested within 3 cm of it for that long; success ends
the episode with reward 1, a cube out of reach ends it without. `demonstrations` plays a scripted expert that holds one
of both pitches. Look first at `ReachPush.judge`, then at `Expert`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces

from kit.data import Episodes
from kit.envs import so101
from kit.envs.arm_push import AT_REST, CUBE_HALF, LOST, push_spec
from kit.envs.arm_task import ARM, ArmTask, with_pixels
from kit.envs.pixels import Markers
from kit.envs.task import Fields, TaskSpace
from kit.sim2real import kinematics

COLOURS = {
    "black": (0.10, 0.10, 0.10),
    "orange": (0.90, 0.62, 0.00),
    "sky": (0.34, 0.71, 0.91),
    "green": (0.00, 0.62, 0.45),
    "yellow": (0.94, 0.89, 0.26),
    "blue": (0.00, 0.45, 0.70),
    "red": (0.84, 0.37, 0.00),
    "purple": (0.80, 0.47, 0.65),
}
SKILLS = ("reach", "push")
MODES = ("from above", "level")
BEARINGS = np.radians([-54, -42, -30, -18, 18, 30, 42, 54])  # of the targets from the pan axis, right to left [rad]
RADIUS = 0.30  # of the targets from the pan axis [m]
TARGETS = np.stack([so101.PAN_AXIS_X + RADIUS * np.cos(BEARINGS), RADIUS * np.sin(BEARINGS)], axis=1)  # (8, 2) [m]
REACH_HEIGHT = 0.05  # of the point to reach above its target [m]
REACH_TOLERANCE, PUSH_TOLERANCE = 0.025, 0.03  # [m]
HOLD_S = 1 / 3  # how long it must last [s]
CUBE = np.array([so101.PAN_AXIS_X + 0.25, 0.0])  # middle of the places where the cube starts [m]
CUBE_JITTER = 0.01  # largest distance from it along an axis [m]
START_JITTER = 0.08  # largest distance of a joint from `so101.HOME` at the start [rad]
PITCH = np.array([1.2, 0.35])  # of the expert in each mode [rad]
ABOVE, LEVEL = np.radians(55), np.radians(33)  # a mode is beyond these pitches [rad]
PUSHING = 0.036  # from a pushed cube's centre to the tool [m]
TOOL_HEIGHT = 0.02  # of the tool when it pushes [m]
STATE = 27  # numbers of an observation before the word or goal
WORD = len(COLOURS) + len(SKILLS)


def scene(servo: str | so101.Servo | so101.StiffServo, max_delay: float) -> mujoco.MjSpec:
    """The arm, a grey cube, and the targets, which are only seen: a disc on the table and a bead to reach for."""
    spec = push_spec(servo, max_delay)
    spec.geom("cube").rgba = [0.6, 0.6, 0.62, 1]
    seen = {"contype": 0, "conaffinity": 0, "group": 2}
    for (x, y), (name, rgb) in zip(TARGETS, COLOURS.items(), strict=True):
        spec.worldbody.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            pos=[x, y, 0.001],
            size=[0.025, 0.001, 0],
            rgba=[*rgb, 1],
            **seen,
        )
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE, pos=[x, y, REACH_HEIGHT], size=[0.007, 0, 0], rgba=[*rgb, 0.8], **seen
        )
    return spec


def skills_of(name: str) -> list[int]:
    """Numbers of the skills that a name stands for: "reach", "push" or "both".

    Raises:
        ValueError: another name.
    """
    if name not in (*SKILLS, "both"):
        raise ValueError(f"skill is {name!r}; it must be reach, push or both")
    return [SKILLS.index(name)] if name in SKILLS else [0, 1]


def words(target: np.ndarray, push: np.ndarray) -> np.ndarray:
    """Tasks as words (n, 10) float32: one-hot colour, one-hot skill. `target` (n,) is 0..7, `push` (n,) 0 or 1."""
    colour, skill = np.eye(len(COLOURS)), np.eye(len(SKILLS))
    return np.concatenate([colour[np.asarray(target, int)], skill[np.asarray(push, int)]], axis=1).astype(np.float32)


def goal_states(target: np.ndarray, push: np.ndarray, cube: np.ndarray) -> np.ndarray:
    """Where tool and cube are when a task is done, (n, 5) [m]: tool x, y, z, cube x, y; from cubes at (n, 2) [m]."""
    there, push = TARGETS[np.asarray(target, int)], np.asarray(push, bool)[:, None]
    along = unit(there - cube)
    reach = np.column_stack([there, np.full(len(there), REACH_HEIGHT), cube])
    pushed = np.column_stack([there - PUSHING * along, np.full(len(there), TOOL_HEIGHT), there])
    return np.where(push, pushed, reach)


def mode_of(pitch: np.ndarray) -> np.ndarray:
    """Numbers (n,) of the approaches from pitches (n,) [rad]: 0 from above, 1 level, -1 in between."""
    return np.where(pitch > ABOVE, 0, np.where(pitch < LEVEL, 1, -1))


def unit(way: np.ndarray) -> np.ndarray:
    """Vectors (n, d) of length 1; zero stays zero."""
    return way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)


class ReachPush(ArmTask):
    """Task fields: `target`, 0..7; `push`, 0 or 1; `start`, five joint angles [rad]; `cube`, a place on the table [m].

    State (27,), scaled to order one and clipped to +-10: q, 0.2 qd, target - q; 4 tool, 4 (cube - its middle),
    10 (cube - tool), cosine and sine of 4 yaw, 5 cube's velocity. After it, by `goal`: "word" (10,), one-hot colour and
    skill; "state" (5,), 4 times the `goal_states`; "none", nothing. `skill` is what drawn tasks ask for: "reach",
    "push" or "both".
    """

    live_fields = ("target", "push")

    def __init__(
        self,
        num_envs: int = 1,
        *,
        goal: str = "word",
        skill: str = "both",
        max_steps: int = 240,
        camera: str | None = None,
        **options: Any,
    ):
        sizes = {"word": WORD, "state": 5, "none": 0}
        if goal not in sizes:
            raise ValueError(f"goal is {goal!r}; it must be one of {', '.join(sizes)}")
        skills_of(skill)
        super().__init__(num_envs, max_steps=max_steps, camera=camera, **options)
        self.goal_kind, self.skill = goal, skill
        at, speed = self.model.joint("cube").qposadr[0], self.model.joint("cube").dofadr[0]
        self._cube, self._cube_turn = slice(at, at + 3), slice(at + 3, at + 7)
        self._cube_speed = slice(speed, speed + 3)
        home = so101.HOME[:ARM]
        self.task_space = TaskSpace(
            target=spaces.Box(0.0, len(TARGETS) - 1.0, (1,), np.float64),
            push=spaces.Box(0.0, 1.0, (1,), np.float64),
            start=spaces.Box(home - START_JITTER, home + START_JITTER, dtype=np.float64),
            cube=spaces.Box(CUBE - CUBE_JITTER, CUBE + CUBE_JITTER, dtype=np.float64),
        )
        self.observation_space = with_pixels(spaces.Box(-10, 10, (STATE + sizes[goal],), np.float32), camera)
        self.target, self.push = np.zeros(num_envs, int), np.zeros(num_envs, bool)
        self._goal_states, self._held = np.zeros((num_envs, 5)), np.zeros(num_envs, int)
        self._hold = round(HOLD_S * self.fps)

    def build(self, servo: str | so101.Servo | so101.StiffServo, max_delay: float) -> mujoco.MjSpec:
        return scene(servo, max_delay)

    @property
    def cube(self) -> np.ndarray:
        """Cube centres, (num_envs, 3) [m]."""
        return self.qpos[:, self._cube]

    @property
    def pitch(self) -> np.ndarray:
        """How far the grippers point down, (num_envs,) [rad]."""
        return self.qpos[:, self._q][:, 1:4].sum(axis=1)

    @property
    def mode(self) -> np.ndarray:
        """How the arms come, (num_envs,): 0 from above, 1 level, -1 in between."""
        return mode_of(self.pitch)

    def reset(self, ids: np.ndarray, given: Fields, rngs: Sequence[np.random.Generator]) -> Fields:
        self._check(given)
        drawn = [self._draw(rng) for rng in rngs]
        boxes = self.task_space.fields.items()
        fields = {k: np.array([d[k] for d in drawn]).reshape(-1, box.shape[0]) for k, box in boxes} | given
        self.begin(ids, rngs)
        self.put(ids, np.column_stack([fields["start"], np.full(len(ids), so101.CLOSED)]))
        self.cube[ids] = np.column_stack([fields["cube"], np.full(len(ids), CUBE_HALF)])
        self.settle(ids)
        self.retask(ids, fields)
        return fields

    def _draw(self, rng: np.random.Generator) -> Fields:
        boxes = self.task_space.fields
        asked = {"reach": 0, "push": 1, "both": rng.integers(2)}[self.skill]
        return {
            "target": np.array([float(rng.integers(len(TARGETS)))]),
            "push": np.array([float(asked)]),
            **{k: rng.uniform(boxes[k].low, boxes[k].high) for k in ("start", "cube")},
        }

    @staticmethod
    def _check(fields: Fields) -> None:
        for name, choice in (("target", "0 to 7"), ("push", "0, to reach, or 1, to push")):
            values = fields.get(name, np.zeros((0, 1)))
            if (bad := values != np.round(values)).any():
                raise ValueError(f"{name} is {values[bad][0]}; it must be {choice}")

    def retask(self, ids: np.ndarray, fields: Fields) -> None:
        self._check(fields)
        self.target[ids] = fields["target"][:, 0] if "target" in fields else self.target[ids]
        self.push[ids] = fields["push"][:, 0] if "push" in fields else self.push[ids]
        self._goal_states[ids] = goal_states(self.target[ids], self.push[ids], self.cube[ids, :2])
        self._held[ids] = 0

    def observe(self, ids: np.ndarray | slice = slice(None)) -> Any:
        q, qd, ahead, tool = self.arm(ids)
        cube, turn, speed = self.cube[ids], self.qpos[ids, self._cube_turn], self.qvel[ids, self._cube_speed]
        yaw = 8 * np.arctan2(turn[:, 3], turn[:, 0])  # four times the yaw: a cube looks alike after a quarter turn
        state = np.column_stack((
            q, 0.2 * qd, ahead, 4 * tool, 4 * (cube[:, :2] - CUBE), 10 * (cube - tool), np.cos(yaw), np.sin(yaw),
            5 * speed[:, :2], self._asked(ids),
        ))  # fmt: skip
        state = np.clip(np.nan_to_num(state), -10, 10).astype(np.float32)
        return state if self.camera is None else {"state": state, "pixels": self.pixels(ids)}

    def _asked(self, ids: np.ndarray | slice) -> np.ndarray:
        if self.goal_kind == "word":
            return words(self.target[ids], self.push[ids])
        return 4 * self._goal_states[ids] if self.goal_kind == "state" else self._goal_states[ids, :0]

    def achieved(self) -> np.ndarray:
        """Where tools and cubes are, (num_envs, 5) [m], as in `goal_states`."""
        return np.column_stack([self.tool, self.cube[:, :2]])

    def judge(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        there, cube = TARGETS[self.target], self.cube[:, :2]
        point = np.column_stack([there, np.full(self.num_envs, REACH_HEIGHT)])
        reached = np.linalg.norm(self.tool - point, axis=1) < REACH_TOLERANCE
        rests = np.linalg.norm(self.qvel[:, self._cube_speed], axis=1) < AT_REST
        pushed = rests & (np.linalg.norm(cube - there, axis=1) < PUSH_TOLERANCE)
        self._held = (self._held + 1) * np.where(self.push, pushed, reached)
        lost = ((cube < LOST[0]) | (cube > LOST[1])).any(axis=1)
        success = (self._held >= self._hold) & ~lost & ~self.failed
        return success.astype(float), success | lost, success

    def markers(self, sim: int = 0) -> Markers:
        point = np.append(TARGETS[self.target[sim]], 0.0 if self.push[sim] else REACH_HEIGHT)
        colour = list(COLOURS.values())[self.target[sim]]
        return {"goal": (point, PUSH_TOLERANCE if self.push[sim] else REACH_TOLERANCE, (*colour, 0.4))}


# ---- the scripted expert ----------------------------------------------------------------------------------------

PITCH_ROW = 0.1  # weight of the pitch beside the tool's point [m/rad]
SPEED = 0.005  # of the point that the tool follows [m a control step]
PUSH_SPEED = 0.0035  # the same while it pushes
TURN = 0.03  # of the pitch that it follows [rad a control step]
STEER = 0.4  # share of the tool's offset beside the line that its point makes good in a control step
SIDEWAYS = 0.003  # largest such step [m]
CLEAR = 0.085  # height at which it passes over the cube [m]
DONE = 0.018  # a push ends when the cube is this near [m]
SLOW = 0.02  # below this speed an arm's error counts as sag [rad a control step]
LEAN = 0.1  # share of the sag that is made good in a control step
NEAR = 0.012  # a waypoint counts as reached from here on [m]
BACK = 0.055  # where a push begins, behind the cube's centre [m]
SLIPPED = 0.02  # a tool further than this beside the line of the push begins anew [m]


def solve(q: np.ndarray, point: np.ndarray, pitch: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Angles (n, 5) [rad] near q (n, 5) with the tool at points (n, 3) [m], pitched (n,) [rad], without roll.

    Four steps of damped least squares on point and pitch, within limits (5,); `kinematics.solve` leaves both free.
    """
    q = np.column_stack([q[:, :4], np.zeros(len(q))])
    row = PITCH_ROW * np.array([0.0, 1, 1, 1])
    for _ in range(4):
        at, j = kinematics.jacobian(q)
        j = np.concatenate([j[:, :, :4], np.broadcast_to(row, (len(q), 1, 4))], axis=1)
        miss = np.column_stack([point - at, PITCH_ROW * (pitch - q[:, 1:4].sum(axis=1))])
        square = j @ j.transpose(0, 2, 1) + 0.01**2 * np.eye(4)
        move = (j.transpose(0, 2, 1) @ np.linalg.solve(square, miss[..., None]))[..., 0]
        q[:, :4] += np.clip(move, -kinematics.LARGEST_STEP, kinematics.LARGEST_STEP)
        q = np.clip(q, low, high)
    return q


class Expert:
    """Leads each arm by a point and a pitch that run ahead of it, by way of waypoints; one mode (n,) a simulation.

    The servos sag, so what is left of the way when the point stands is added to the joint targets, little by little.
    A cube that slips off the finger is approached anew.
    """

    def __init__(self, task: ReachPush, mode: np.ndarray, rng: np.random.Generator):
        self.task, self.mode, n = task, np.asarray(mode, int), task.num_envs
        self.point, self.pitch = task.tool.copy(), task.pitch.copy()
        self.q = task.arm(slice(None))[0].copy()
        self.lean = np.zeros((n, ARM))  # what is added to the targets against gravity [rad]
        self.phase = np.zeros(n, int)  # 0: beside the target, or over the place behind the cube; 1: there; 2: pushing
        self.pace = rng.uniform(0.8, 1.1, n)

    def act(self) -> np.ndarray:
        """Actions (n, 5) for the tasks as they stand."""
        task, now = self.task, self.task.arm(slice(None))[0]
        there, cube = TARGETS[task.target], task.cube[:, :2]
        along = unit(there - cube)
        self._change_phase(along)
        way = self._waypoint(along) - self.point
        length = np.maximum(np.linalg.norm(way, axis=1), 1e-6)
        step = way * np.minimum(1, SPEED * self.pace / length)[:, None]
        self.point += np.where((self.phase == 2)[:, None], self._push(along), step)
        self.pitch += np.clip(PITCH[self.mode] - self.pitch, -TURN, TURN)
        before, self.q = self.q, solve(self.q, self.point, self.pitch, task._low, task._high)
        slow = np.abs(self.q - before).max(axis=1) < SLOW  # a moving arm is behind for another reason
        self.lean = np.clip(self.lean + LEAN * slow[:, None] * (self.q - now), -0.3, 0.3)
        return np.clip((self.q + self.lean - task.ctrl[:, :ARM]) / so101.MAX_DELTA, -1, 1)

    def _change_phase(self, along: np.ndarray) -> None:
        task = self.task
        offset = task.tool[:, :2] - task.cube[:, :2]
        beside, behind = np.abs(across(offset, along)), -(offset * along).sum(axis=1)
        slipped = (self.phase == 2) & ((beside > SLIPPED) | (behind < 0)) & ~self._done()
        there = np.linalg.norm(self._waypoint(along) - task.tool, axis=1) < NEAR
        steady = np.abs(PITCH[self.mode] - task.pitch) < 0.15
        self.phase = np.where(slipped, 0, self.phase + (there & steady & (self.phase < 1 + task.push)))

    def _done(self) -> np.ndarray:
        """Whether the cube is where it shall be, bool (n,)."""
        return np.linalg.norm(TARGETS[self.task.target] - self.task.cube[:, :2], axis=1) < DONE

    def _waypoint(self, along: np.ndarray) -> np.ndarray:
        """Where each tool goes next, (n, 3): first beside its target or above the place behind its cube, then there."""
        task, first = self.task, self.phase == 0
        there, cube = TARGETS[task.target], task.cube[:, :2]
        aside = np.where((first & (self.mode == 1))[:, None], 0.03 * unit(there - (so101.PAN_AXIS_X, 0.0)), 0.0)
        up = np.where(first, np.where(self.mode == 0, 0.03, 0.01), 0.0)
        reach = np.column_stack([there - aside, REACH_HEIGHT + up])
        behind = np.column_stack([cube - BACK * along, np.where(first, CLEAR, TOOL_HEIGHT)])
        low = first & (task.tool[:, 2] < 0.06) & (np.linalg.norm(task.tool[:, :2] - cube, axis=1) < 0.06)
        behind[low, :2] = self.point[low, :2]  # straight up first, or the cube would be swept along
        return np.where(task.push[:, None], behind, reach)

    def _push(self, along: np.ndarray) -> np.ndarray:
        """Steps (n, 3) of the point while it pushes: on along the line from cube to target and back onto that line."""
        beside = across(self.task.tool[:, :2] - self.task.cube[:, :2], along)
        forward = PUSH_SPEED * self.pace * np.clip(1 - np.abs(beside) / 0.015, 0, 1) * ~self._done()
        back = np.clip(STEER * beside, -SIDEWAYS, SIDEWAYS)[:, None] * np.stack([-along[:, 1], along[:, 0]], axis=1)
        return np.column_stack(
            [forward[:, None] * along - back * ~self._done()[:, None], 0.2 * (TOOL_HEIGHT - self.point[:, 2])]
        )


def across(way: np.ndarray, along: np.ndarray) -> np.ndarray:
    """How far vectors (n, 2) point to the left of unit vectors (n, 2), (n,)."""
    return along[:, 0] * way[:, 1] - along[:, 1] * way[:, 0]


def demonstrations(copies: int = 4, *, seed: int, skill: str = "both", goal: str = "word") -> Episodes:
    """Episodes that do every task `copies` times from above and as often level; only those that succeed are kept.

    Observations are the environment's, goals are what tool and cube achieve, (R, 5) [m]. Deterministic for a seed.
    """
    skills = skills_of(skill)
    tasks = np.array([(c, p, m) for c in range(len(TARGETS)) for p in skills for m in (0, 1) for _ in range(copies)])
    task, rng = ReachPush(len(tasks), goal=goal, skill=skill), np.random.default_rng(seed)
    ids = np.arange(len(tasks))
    task.reset(ids, {"target": tasks[:, :1].astype(float), "push": tasks[:, 1:2].astype(float)}, rng.spawn(len(tasks)))
    expert, seen, goals, actions = Expert(task, tasks[:, 2], rng), [task.observe()], [task.achieved()], []
    length, running = np.zeros(len(tasks), int), np.ones(len(tasks), bool)
    while running.any() and len(actions) < task.max_steps:
        actions.append(expert.act().astype(np.float32))
        task.step(actions[-1])
        _, terminated, success = task.judge(actions[-1])
        seen.append(task.observe())
        goals.append(task.achieved())
        length[running & success & (task.mode == tasks[:, 2])] = len(actions)
        running &= ~terminated
    return _pack(np.array(seen), np.array(actions), np.array(goals), length)


def _pack(seen: np.ndarray, actions: np.ndarray, goals: np.ndarray, length: np.ndarray) -> Episodes:
    """Episodes of `length` (n,) steps from arrays whose leading axes are time and simulation; length 0 is left out."""
    kept = np.flatnonzero(length)
    if not len(kept):
        raise ValueError("the expert solved none of its tasks; nothing is left to learn from")
    ends = np.cumsum(length[kept] + 1) - 1
    last = np.zeros(ends[-1] + 1, bool)
    last[ends - 1] = True
    moves = [np.pad(actions[: length[i], i], ((0, 1), (0, 0))) for i in kept]
    rows = [np.concatenate([x[: length[i] + 1, i] for i in kept]) for x in (seen, goals)]
    return Episodes(rows[0], np.concatenate(moves), last, np.zeros_like(last), ends, rows[1])


def modes_of(data: Episodes) -> np.ndarray:
    """How each episode of this environment ended, (E,): 0 from above, 1 level, -1 in between."""
    return mode_of(data.observations[data.ends, 1:4].sum(axis=1))
