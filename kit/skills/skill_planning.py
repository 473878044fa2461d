"""Planning over frozen skills: measure what each skill does to the puck, then search over sequences of them.

    x = (puck, tool),   x' = f(x, z)          where a skill z leads to when it is held for K steps; f is fitted to plays
    z_1*  of   argmin_{z_1..z_H} sum_h |puck_h - goal|        over all sequences of M options, H deep
    play z_1* for K steps, look, search again                 model-predictive control

The skills know no goal and are not trained further; a goal enters only here. One option is to do nothing, so that a
puck can stay where it belongs. SLIM (Emukpere et al. 2024) plans over its skills too; how is not known to us in detail,
so this search is the kit's own. Look at `search`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.envs.env import BatchEnv
from kit.envs.task import Task
from kit.nets import forward
from kit.skills.pushing import SKILL_DIM, SkillTask, view_of
from kit.skills.skill import circle, sphere

Step = Callable[[np.ndarray, np.ndarray], np.ndarray]  # states (n, 4), options (n, 2) -> states (n, 4)


@dataclass(frozen=True)
class Config:
    """How skills are measured and how far the search looks."""

    steps: int = 2  # K, control steps for which a skill is held
    segments: int = 20_000  # plays of K steps that the model is fitted to
    directions: int = 8  # skills that the search may choose from; doing nothing is one more
    holds: tuple[int, ...] = (1, 7)  # for how many times K steps each option of a sequence is held: later ones longer
    hidden: tuple[int, ...] = (64, 64)  # widths of the model's layers
    epochs: int = 30  # passes over the plays

    def __post_init__(self) -> None:
        if min(self.steps, self.segments, self.directions, *self.holds, len(self.holds)) < 1:
            raise ValueError(f"steps, segments, directions and holds must be at least 1, not {self}")


# ---- the pieces -----------------------------------------------------------------------------------------------------


def search(step: Step, state: np.ndarray, goal: np.ndarray, options: np.ndarray, holds: tuple[int, ...]) -> np.ndarray:
    """The first option of the best sequence, indices (n,).

    For states (n, d) whose first two numbers should come to the goals (n, 2). All sequences of the options (M, k) are
    tried, of one option for each of `holds`, held for so many steps of the model. A sequence costs the distances to
    the goal after each step, summed.
    """
    count, cost = len(options), np.zeros(len(state))
    for hold in holds:
        state, goal, cost = (np.repeat(x, count, axis=0) for x in (state, goal, cost))
        chosen = np.tile(options, (len(state) // count, 1))
        for _ in range(hold):
            state = step(state, chosen)
            cost = cost + np.linalg.norm(state[:, :2] - goal, axis=1)
    return cost.reshape(-1, count, count ** (len(holds) - 1)).min(axis=2).argmin(axis=1)


def features(state: np.ndarray, options: np.ndarray, length: float) -> np.ndarray:
    """What the model sees (n, 6), of order one: puck, tool as seen from the puck, skill."""
    puck, tool = state[:, :2], state[:, 2:]
    return np.concatenate((puck / 0.2, np.clip((tool - puck) / (4 * length), -3, 3), options), axis=1)


def measure(policy: Any, env: BatchEnv, cfg: Config, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Play random skills for K steps each: states before (n, 4), skills (n, 2) and states after (n, 4) [m]."""
    rng = np.random.default_rng(seed)
    task, rows = env.task, []
    env.reset(seed=seed)
    while len(rows) * env.num_envs < cfg.segments:
        skills = sphere(env.num_envs, SKILL_DIM, rng)
        task.retask(np.arange(env.num_envs), {"skill": skills})
        before, whole = locate(task), np.ones(env.num_envs, bool)
        for _ in range(cfg.steps):
            _, _, terminated, truncated, _ = env.step(policy.predict(task.observe(), deterministic=True)[0])
            task.retask(np.arange(env.num_envs), {"skill": skills})
            whole &= ~(terminated | truncated)
        rows.append((before, skills, locate(task), whole))
    before, skills, after, whole = (np.concatenate(x) for x in zip(*rows, strict=True))
    return before[whole], skills[whole], after[whole]


def locate(task: SkillTask) -> np.ndarray:
    """Puck and tool on the table, (n, 4) [m]."""
    return np.concatenate((task.view.puck(task.task), task.view.tool(task.task)[:, :2]), axis=1)


# ---- state ----------------------------------------------------------------------------------------------------------


class SkillModel:
    """f: where puck and tool are after an option; the option (0, 0) leaves them."""

    def __init__(self, length: float):
        self.length = length
        self.layers: list[tuple[np.ndarray, np.ndarray]] = []

    def fit(self, before: np.ndarray, skills: np.ndarray, after: np.ndarray, cfg: Config, *, seed: int) -> SkillModel:
        """Least squares on the changes; all arrays as `measure` gives them."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        net = MLPRegressor(
            hidden_layer_sizes=cfg.hidden, activation="tanh", learning_rate_init=3e-3, batch_size=256,
            max_iter=cfg.epochs, random_state=seed, tol=0.0, n_iter_no_change=cfg.epochs,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it was told when to stop
            net.fit(features(before, skills, self.length), (after - before) / self.length)
        self.layers = [(w.T, b) for w, b in zip(net.coefs_, net.intercepts_, strict=True)]
        return self

    def __call__(self, state: np.ndarray, options: np.ndarray) -> np.ndarray:
        """States (n, 4) [m] after options (n, 2)."""
        if not self.layers:
            raise RuntimeError("the model has not seen a play; call fit first")
        change = self.length * forward(self.layers, features(state, options, self.length))
        return state + change * options.any(axis=1, keepdims=True)


class SkillPlanner:
    """Acts on the task itself, goal and all, through frozen skills; follows Stable-Baselines3's `predict`.

    `state` is (option (n, 2), steps left (n,)); both are cleared where an episode starts.
    """

    def __init__(self, policy: Any, model: Step, task: Task, cfg: Config | None = None):
        self.policy, self.model, self.cfg = policy, model, cfg or Config()
        self.view, self.action_dim = view_of(task), task.action_space.shape[0]
        self.options = np.vstack((circle(self.cfg.directions), np.zeros((1, SKILL_DIM), np.float32)))

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        obs = np.atleast_2d(np.asarray(observation, np.float64))
        n = len(obs)
        option, left = (np.zeros((n, 2)), np.zeros(n, int)) if state is None else (state[0].copy(), state[1].copy())
        if episode_start is not None:
            left[np.asarray(episode_start, bool)] = 0
        due = left <= 0
        if due.any():
            option[due] = self.plan(*self.view.read(obs[due]))
            left[due] = self.cfg.steps
        action = self._act(obs, option)
        return (action if np.ndim(observation) == 2 else action[0]), (option, left - 1)

    def plan(self, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """The options (n, 2) to play now, for pucks and tools (n, 4) [m] and goals (n, 2) [m].

        Raises:
            ValueError: a goal that no push can reach, or that is not finite.
        """
        far = ~(np.linalg.norm(goal - self.view.base, axis=1) <= self.view.reach)  # NaN is far too
        if far.any():
            raise ValueError(
                f"goal {goal[np.argmax(far)]} is out of reach: pucks can be pushed up to {self.view.reach} m from "
                f"{self.view.base}"
            )
        return self.options[search(self.model, state, goal, self.options, self.cfg.holds)]

    def _act(self, obs: np.ndarray, option: np.ndarray) -> np.ndarray:
        """The skills' actions, and none where the option is to do nothing; all (n, ...)."""
        action = self.policy.predict(np.concatenate((obs[:, self.view.columns], option), axis=1), deterministic=True)[0]
        return action * option.any(axis=1, keepdims=True)


def learn(policy: Any, env: BatchEnv, cfg: Config, *, seed: int) -> SkillModel:
    """Measure frozen skills on a batch of `SkillTask`s and fit their model."""
    return SkillModel(env.task.view.length).fit(*measure(policy, env, cfg, seed=seed), cfg, seed=seed)
