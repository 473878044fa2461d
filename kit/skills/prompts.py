"""What a frozen skill policy is asked to do: a goal, a reward or a demonstration becomes a direction z, ||z|| = 1.

    goal            z = (phi(g) - phi(s)) / ||.||                               anew in every step
    reward          z = argmin_w sum_i (r_i - (phi(s_i) - mean phi) . w)^2 / ||.||
    demonstration   z = (phi(s_T) - phi(s_0)) / ||.||                           the mean step of the states shown

The policy is the one of `kit.skills.hilp`, run in NumPy; its observation is [s, z]. Look at `HilbertPolicy` first,
then at `Toward`, which turns it into a policy for observations [s, g].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kit.nets import MlpPolicy, forward, name_layers, read_layers
from kit.skills.skill import check_skill, sphere


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., D) scaled to norm 1; zero vectors become the first axis, since a skill must have a direction."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    first = np.eye(1, vectors.shape[-1])[0]
    return np.where(length > 1e-8, vectors / np.maximum(length, 1e-8), first)


def z_from_goal(phi_s: np.ndarray, phi_g: np.ndarray) -> np.ndarray:
    """Unit directions (..., D) from points phi_s to phi_g of the map, both (..., D)."""
    return unit(phi_g - phi_s)


def z_from_reward(phi: np.ndarray, reward: np.ndarray) -> np.ndarray:
    """The unit direction (D,) along which phi (n, D) explains rewards (n,) best, by least squares."""
    z, *_ = np.linalg.lstsq(phi - phi.mean(axis=0), reward, rcond=None)
    return unit(z)


def z_from_states(phi: np.ndarray) -> np.ndarray:
    """The unit direction (D,) of a demonstration's points phi (n, D): their steps add up to last minus first."""
    return unit(phi[-1] - phi[0])


class HilbertPolicy(MlpPolicy):
    """The map and the direction-conditioned policy, following Stable-Baselines3's `predict`; observations are [s, z].

    `weights` holds the actor's layers like `MlpPolicy`, and the map's behind the prefix `phi.`.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], *, low: np.ndarray, high: np.ndarray, seed: int = 0):
        super().__init__(weights, low=low, high=high, seed=seed)
        self.map = read_layers(weights, "phi.")

    @property
    def weights(self) -> dict[str, np.ndarray]:
        return super().weights | name_layers(self.map, "phi.")

    @property
    def state_dim(self) -> int:
        """Size of s."""
        return self.map[0][0].shape[1]

    @property
    def dim(self) -> int:
        """D, the size of a skill."""
        return self.map[-1][0].shape[0]

    def phi(self, states: np.ndarray) -> np.ndarray:
        """Points (..., D) of the map for states (..., state_dim).

        Raises:
            ValueError: states of another size, or a value that is not finite.
        """
        states = np.asarray(states, np.float32)
        if states.shape[-1:] != (self.state_dim,):
            raise ValueError(f"states have shape {states.shape}; this map takes (..., {self.state_dim})")
        if not np.isfinite(states).all():
            raise ValueError(f"a state is not finite: {states[~np.isfinite(states).all(axis=-1)][0]}")
        return forward(self.map, states)

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions (act_dim,) or (n, act_dim) for [s, z] of shape (state_dim + D,) or (n, state_dim + D).

        Raises:
            ValueError: the observation's size is another one, or a skill's norm is not 1.
        """
        obs = np.asarray(observation, np.float32)
        if obs.shape[-1:] == (self.obs_dim,):
            check_skill(obs[..., self.state_dim :], self.dim)
        return super().predict(obs, state, episode_start, deterministic)

    def z_from_goal(self, s: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Skills (n, D), or (D,), that lead from states s to states g, both (n, state_dim) or (state_dim,)."""
        return z_from_goal(self.phi(s), self.phi(g))

    def z_from_reward(self, states: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        """The skill (D,) that suits rewards (n,) of states (n, state_dim) best.

        Raises:
            ValueError: another number of rewards than of states, or rewards that are not finite or all alike.
        """
        phi, rewards = self.phi(states), np.asarray(rewards, float)
        if rewards.shape != (len(phi),):
            raise ValueError(f"there are {len(phi)} states and rewards of shape {rewards.shape}; one each is needed")
        if not np.isfinite(rewards).all() or np.ptp(rewards) == 0:
            raise ValueError("rewards must be finite and not all alike; equal rewards ask for nothing")
        return z_from_reward(phi, rewards)

    def z_from_states(self, states: np.ndarray) -> np.ndarray:
        """The skill (D,) that a demonstration (n, state_dim) follows on average.

        Raises:
            ValueError: there are fewer than two states.
        """
        if len(states) < 2:
            raise ValueError(f"a demonstration of {len(states)} state(s) has no direction; at least 2 are needed")
        return z_from_states(self.phi(states))

    def distance(self, s: np.ndarray, g: np.ndarray) -> np.ndarray:
        """What the map says of the steps from s to g, (...)."""
        return np.linalg.norm(self.phi(s) - self.phi(g), axis=-1)


class Toward:
    """A skill policy prompted by goals: `predict` takes observations [s, g], as `kit/PointMaze-v0` gives them.

    `replace_goal(phi_s, phi_g) -> phi_w` may put a nearer point of the map in the goal's place, all (n, D); see
    `kit.skills.planner`.
    """

    def __init__(
        self, policy: HilbertPolicy, replace_goal: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    ):
        self.policy, self.replace_goal = policy, replace_goal

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        obs = np.atleast_2d(np.asarray(observation, np.float32))
        if obs.shape[-1] != 2 * self.policy.state_dim:
            raise ValueError(
                f"observation has shape {np.shape(observation)}; [state, goal] has {2 * self.policy.state_dim}"
            )
        s, g = np.split(obs, 2, axis=-1)
        phi_s, phi_g = self.policy.phi(s), self.policy.phi(g)
        if self.replace_goal is not None:
            phi_g = self.replace_goal(phi_s, phi_g)
        action, _ = self.policy.predict(
            np.concatenate((s, z_from_goal(phi_s, phi_g)), axis=1), None, None, deterministic
        )
        return action.reshape(np.shape(observation)[:-1] + action.shape[-1:]), state


class Wander:
    """The same policy under directions that nobody chose: a new one, uniform, every `hold` steps, for [s, g]."""

    def __init__(self, policy: HilbertPolicy, *, hold: int = 50, seed: int = 0):
        self.policy, self.hold, self.rng = policy, hold, np.random.default_rng(seed)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        s = np.atleast_2d(np.asarray(observation, np.float32))[:, : self.policy.state_dim]
        z, age = state if state is not None else (np.zeros((len(s), self.policy.dim), np.float32), np.zeros(len(s)))
        start = np.ones(len(s), bool) if state is None or episode_start is None else np.asarray(episode_start)
        age = np.where(start, 0, age)
        z = np.where((age % self.hold == 0)[:, None], sphere(len(s), self.policy.dim, self.rng), z)
        action, _ = self.policy.predict(np.concatenate((s, z), axis=1), None, None, deterministic)
        return action.reshape(np.shape(observation)[:-1] + action.shape[-1:]), (z, age + 1)
