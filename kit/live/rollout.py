"""One environment played live in a scene, by an agent that may still be learning."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from kit.live.scene import FPS, Scene
from kit.live.stepped import Stepped
from kit.types import Metrics, Policy


class LiveRollout(Stepped):
    """Steps `env` with `policy` at `fps` steps a second and shows it in `scene`.

    `env.unwrapped` gives `model` and `data`, the MjModel and the MjData of this one simulation, and may have
    `markers() -> {name: (position (3,), radius [m], rgba (4,))}` for goals. Without a policy the action is zero.

    `options` go to every reset, for instance a task. Pass it to `live.run(generator, rollout)` to watch the agent
    learn, `await rollout.play(20)` to watch it for 20 s with sliders alive, or `rollout.start()` to let it move while
    other cells are edited.

    Raises:
        TypeError: the env has no `model` and `data`.
    """

    def __init__(
        self,
        scene: Scene,
        env: gym.Env,
        policy: Policy | None = None,
        fps: float = FPS,
        seed: int | None = None,
        options: dict[str, Any] | None = None,
    ):
        for name in ("model", "data"):
            if not hasattr(env.unwrapped, name):
                raise TypeError(f"{env!r} has no attribute {name!r}; LiveRollout needs env.unwrapped.model and .data")
        self.scene, self.env, self.policy, self.fps, self.options = scene, env, policy, fps, options
        self.reset(seed)

    @property
    def shown(self) -> bool:
        """Whether the scene is on the page."""
        return self.scene.shown

    @property
    def widget(self):
        """The scene's widget."""
        return self.scene.widget

    def _repr_mimebundle_(self, **kwargs) -> dict:
        return self.scene._repr_mimebundle_(**kwargs)

    def reset(self, seed: int | None = None) -> None:
        """Begin a new episode and show it."""
        self._obs, _ = self.env.reset(seed=seed, options=self.options)
        self._state, self._first = None, True
        self.show(force=True)

    def step(self) -> None:
        """One control step, and a new episode where this one ends."""
        self._obs, _, terminated, truncated, _ = self.env.step(self._action())
        self._first = False
        if terminated or truncated:
            self.reset()
        else:
            self.show()

    def _action(self) -> Any:
        if self.policy is None:
            return np.zeros(self.env.action_space.shape, self.env.action_space.dtype)
        start = np.array([self._first])
        action, self._state = self.policy.predict(self._obs, self._state, episode_start=start, deterministic=True)
        return action

    def show(self, *, force: bool = False) -> None:
        """Show the simulation as it is, with its markers."""
        env = self.env.unwrapped
        for name, (position, radius, rgba) in getattr(env, "markers", dict)().items():
            self.scene.marker(name, position, radius, tuple(rgba[:3]), float(rgba[3]))
        self.scene.update(env.data, force=force)

    def push(self, metrics: Metrics) -> None:
        """What `live.run` calls: take the agent, and catch up with the clock by a few steps."""
        self.policy = metrics.agent if metrics.agent is not None else self.policy
        self.catch_up()
