"""The contracts that hold the kit together, and the small records that pass between its parts.

Each protocol is borrowed, so that code written for the library it comes from works here too:
`Policy` from Stable-Baselines3, `Robot` from LeRobot. `SkillMethod` and `ZeroShot` are the skills wing's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np


class Metrics(dict[str, float]):
    """What a training generator yields: a flat dict of floats, with the live agent as `.agent`.

    `agent` is the object that is being trained, not a copy: it changes while training goes on.
    """

    def __init__(self, values: Mapping[str, float] = (), *, agent: Any = None):
        super().__init__(values)
        self.agent = agent


@runtime_checkable
class Policy(Protocol):
    """Stable-Baselines3's `predict`. `obs` has shape (obs_dim,) or (n, obs_dim); so has the action."""

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]: ...


@runtime_checkable
class Robot(Protocol):
    """LeRobot's robot. Both feature dictionaries are known before `connect`."""

    observation_features: dict[str, Any]
    action_features: dict[str, Any]

    def connect(self, calibrate: bool = True) -> None: ...
    def get_observation(self) -> dict[str, Any]: ...
    def send_action(self, action: dict[str, Any]) -> dict[str, Any]: ...
    def disconnect(self) -> None: ...


@runtime_checkable
class SkillMethod(Protocol):
    """Reward-free skill discovery: a skill z (dim_z,) is drawn for a while, and earns what `reward` says of a step.

    Rewards change with what has been learned, so they are computed when a batch is sampled, not when it is stored.
    """

    def sample_skill(self, n: int, rng: np.random.Generator) -> np.ndarray: ...  # (n, dim_z)
    def reward(self, s: np.ndarray, z: np.ndarray, s2: np.ndarray) -> np.ndarray: ...  # (n,)
    def update(self, batch: Any) -> dict[str, float]: ...


@runtime_checkable
class ZeroShot(Protocol):
    """A frozen policy with skills in its observation, and three ways to say what it shall do."""

    def z_from_goal(self, s: np.ndarray, g: np.ndarray) -> np.ndarray: ...  # (n, obs_dim) twice to (n, dim_z)
    def z_from_reward(self, states: np.ndarray, rewards: np.ndarray) -> np.ndarray: ...  # (n, obs_dim), (n,): (dim_z,)
    def z_from_states(self, states: np.ndarray) -> np.ndarray: ...  # a demonstration (n, obs_dim) to (dim_z,)
