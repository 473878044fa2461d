"""A person takes over a running arm and gives it back; both teach: every transition says who acted.

    action  = the person's while they hold, else the controller's       both pass the robot's safety layer
    a_t     = (sent_t - sent_{t-1}) / 0.05 rad                          what is learned from is what was really sent
    (s_t, a_t, r_t, s_{t+1})  ->  own buffer; the person's also  ->  human buffer                  as in `hil_serl`

`Takeover` wraps a controller and is one itself, for `kit.sim2real.deploy`; recorded frames get a column "human":

    person = joystick.Joystick()                                        # sliders and keys; or any callable
    shared = Takeover(controller, person, buffers=Buffers(6, 6, cfg.sac))
    await live.run(drive(robot, shared, seconds=30))                    # in a notebook; a script calls deploy.rollout

A person is a callable: observation to action dictionary, or None while they do not hold. NaN and absurd angles end in
the safety layer like a policy's. Look first at `Takeover.__call__`, then at `Takeover.told`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from kit.envs import so101
from kit.sim2real import deploy
from kit.sim2real.people.hil_serl import Buffers
from kit.sim2real.units import KEYS, to_radians, to_values
from kit.types import Metrics

Observation = Mapping[str, float]
Person = Callable[[Observation], Mapping[str, float] | None]


def step_of(sent: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The action (6,) in -1..1 that leads from the last goals sent to these, (6,) [rad] each."""
    return np.clip((sent - before) / so101.MAX_DELTA, -1, 1)


class AgentSteps:
    """A learned agent as a controller: its action (6,) in -1..1 moves the last goals by at most 0.05 rad each.

    `features(observation)` is what the agent sees, by default the joint angles [rad].
    """

    rate, units, joints = so101.CONTROL_HZ, "degrees", KEYS

    def __init__(self, agent: Any, features: Callable[[Observation], np.ndarray] = to_radians, *, explore: bool = True):
        self.agent, self.features, self.explore = agent, features, explore

    def reset(self, observation: Observation) -> None:
        self._last = to_radians(observation)

    def __call__(self, observation: Observation) -> dict[str, float]:
        action, _ = self.agent.predict(self.features(observation), deterministic=not self.explore)
        return to_values(self._last + so101.MAX_DELTA * np.asarray(action, float))

    def told(self, sent: Observation) -> None:
        self._last = to_radians(sent)


class Scripted:
    """A person for tests and demonstrations: holds in the steps `start` to below `stop` of each episode, and then does
    what `act(observation)` says."""

    def __init__(self, act: Callable[[Observation], Mapping[str, float]], start: int, stop: int):
        if not 0 <= start < stop:
            raise ValueError(f"start is {start} and stop {stop}; a hold needs 0 <= start < stop [steps]")
        self.act, self.start, self.stop = act, start, stop
        self._step = 0

    def reset(self, observation: Observation) -> None:
        self._step = 0

    def __call__(self, observation: Observation) -> Mapping[str, float] | None:
        self._step += 1
        return self.act(observation) if self.start < self._step <= self.stop else None


class Takeover:
    """A controller beside a person. `held` says whether the person made the last step, `steps` and `human_steps` count.

    `buffers` get each transition once the observation after it is there. `features(observation)` is the state (n,) that
    is stored, by default the joint angles [rad]; `judge(observation)` gives the reward of arriving there and whether
    the task ended. An ended task, and `finish`, close the episode: no transition leads over its end.

    Raises:
        ValueError: the buffers hold states or actions of other sizes; said at the first transition.
    """

    def __init__(
        self,
        controller: Any,
        person: Person,
        *,
        buffers: Buffers | None = None,
        features: Callable[[Observation], np.ndarray] = to_radians,
        judge: Callable[[Observation], tuple[float, bool]] = lambda observation: (0.0, False),
        on_transition: Callable[[dict[str, Any]], Any] = lambda transition: None,
    ):
        self.controller, self.person, self.buffers = controller, person, buffers
        self.features, self.judge, self.on_transition = features, judge, on_transition
        self.rate, self.units, self.joints = (getattr(controller, k) for k in ("rate", "units", "joints"))
        self.held, self.steps, self.human_steps, self.success = False, 0, 0, None
        self._seen: Observation | None = None
        self._pending: dict[str, Any] | None = None

    def reset(self, observation: Observation) -> None:
        """An episode begins."""
        self.controller.reset(observation)
        getattr(self.person, "reset", _ignore)(observation)
        self._last, self._pending, self.success, self.held = to_radians(observation), None, None, False

    def __call__(self, observation: Observation) -> Mapping[str, float]:
        """The person's action while they hold, else the controller's, which is always asked, to stay up to date."""
        self._close(observation)
        wanted, steered = self.controller(observation), self.person(observation)
        self.held, self._seen = steered is not None, observation
        return wanted if steered is None else steered

    def told(self, sent: Observation) -> None:
        """What the safety layer let pass: it is the action of the transition that has begun."""
        getattr(self.controller, "told", _ignore)(sent)
        getattr(self.person, "told", _ignore)(sent)
        goals = to_radians(sent)
        state, action = self.features(self._seen), step_of(goals, self._last)
        self._pending, self._last = {"obs": state, "actions": action, "human": self.held}, goals
        self.steps, self.human_steps = self.steps + 1, self.human_steps + self.held

    def extra(self) -> dict[str, float]:
        """A column for the recorder."""
        return {"human": float(self.held)}

    def finish(self, observation: Observation) -> None:
        """The episode is over; this observation ends its last transition."""
        self._close(observation)
        self._pending = None

    def _close(self, observation: Observation) -> None:
        if self._pending is None:
            return
        reward, terminated = self.judge(observation)
        row = self._pending | {"next_obs": self.features(observation), "reward": reward, "terminated": terminated}
        self._pending = None
        if terminated:
            self.success = reward > 0
        if self.buffers is not None:
            fields = {k: np.asarray(v, np.float32)[None] for k, v in row.items() if k != "human"}
            self.buffers.add(fields, human=row["human"])
        self.on_transition(row)


def drive(robot: Any, shared: Takeover, *, seconds: float, recorder: Any = None) -> Iterator[Metrics]:
    """One episode in real time, as a generator, so that sliders and keys stay alive between two steps (`kit.live.run`).
    Metrics: `steps`, `progress`, `held` (0 or 1) and `human_steps`; the agent is `shared`.

    Raises:
        Halted, BusError: as `deploy.steps`.
    """
    rate = deploy.make_rate(robot)
    count, before = round(seconds * rate.hz), shared.human_steps
    for step in deploy.steps(robot, shared, count, recorder=recorder, task="takeover", wait=rate.wait):
        values = {"steps": step.number + 1.0, "progress": (step.number + 1) / count, "held": float(shared.held)}
        yield Metrics(values | {"human_steps": float(shared.human_steps - before)}, agent=shared)
    shared.finish(robot.get_observation())


def _ignore(value: Any) -> None:
    """What a part that has no such method does."""
