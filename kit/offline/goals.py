"""Reach any goal from logged episodes: GCIQL (flat), HIQL (Park et al. 2023), OTA (Ahn et al. 2025), by two switches.

    L_V    = E |tau - 1(A < 0)| (y - V(s,g))^2,  A = y - V'(s,g),  y = -1 + gamma V'(s_n, g), or 0 where s = g
    low    : max E exp(beta (V(s_1, w) - V(s, w))) log pi(a | s, w)         w = s_k, the state k steps later
    high   : max E exp(beta (V_h(s_k, g) - V_h(s, g))) log pi_h(s_k | s, g)
    V      = -(1 - gamma^(d/n)) / (1 - gamma)        the optimum at distance d, in options of n steps

GCIQL is the low level alone with w = g. HIQL adds the high level, with V_h = V and n = 1; OTA gives the high level a
value of its own that counts options (n = 5). At d = 1000 the step to a subgoal changes V by 0.0012, and V_h by 0.69:
one drowns in the error of a network. Look at `chain_value` first, then at `value_loss` and `Learner.update`.

The value needs no actions, as in HIQL's paper (OGBench calls the flat form GCIVL). Subgoals are goals as they stand,
not learned codes of them, so that they can be drawn on a map.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.special import erf
from torch import nn

from kit import runtime
from kit.data import Episodes, GoalShares, rows_ahead, sample_goals, sample_steps
from kit.rl.sac import Ensemble
from kit.types import Metrics

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Config:
    """Settings of a run; the defaults are HIQL's and OTA's, with smaller networks and batches."""

    hierarchical: bool = True  # False: GCIQL, one policy that is given the goal itself
    subgoal_steps: int = 25  # k, how far ahead a subgoal lies [steps]
    option_steps: int = 1  # n, the high level's unit of time [steps]: 1 is HIQL, 5 is OTA
    updates: int = 6000
    policies_from: float = 0.5  # share of the updates after which policies are trained too; no value depends on them
    batch_size: int = 256  # transitions in an update
    learning_rate: float = 1e-3  # of Adam
    gamma: float = 0.99  # discount of a step, and of an option
    tau: float = 0.05  # share by which target values follow in an update
    expectile: float = 0.7  # of the value regression; 0.5 is the mean
    beta: float = 3.0  # inverse temperature of both regressions [1 / unit of value]
    weight_limit: float = 100.0  # largest weight of a transition in a regression
    hidden: tuple[int, ...] = (128, 128)  # widths of the layers, for each network
    frequencies: int = 4  # octaves of sines that stand beside each coordinate; walls are sharp, networks smooth
    value_goals: GoalShares = field(default_factory=GoalShares)
    actor_goals: GoalShares = field(default_factory=lambda: GoalShares(0.0, 1.0, 0.0, geometric=False))

    def __post_init__(self) -> None:
        if not 1 <= self.option_steps < max(self.subgoal_steps, 2):
            raise ValueError(
                f"option_steps is {self.option_steps} and subgoal_steps {self.subgoal_steps}; options must be shorter "
                "than the way to a subgoal, and at least 1"
            )
        if self.option_steps > 1 and not self.hierarchical:
            raise ValueError(f"option_steps is {self.option_steps}, but only a high level counts options; set it to 1")
        if not 0 < self.expectile < 1:
            raise ValueError(f"expectile is {self.expectile}; it lies strictly between 0 and 1 (0.5 is the mean)")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma is {self.gamma}; it must be at least 0 and below 1")


GCIQL = Config(hierarchical=False)
HIQL = Config()
OTA = Config(option_steps=5)


# ---- what the optimum looks like ----------------------------------------------------------------------------------


def chain_value(distance: np.ndarray, gamma: float, n: int = 1) -> np.ndarray:
    """V* at distances [steps], any shape, when a reward of -1 and a discount are paid once in n steps."""
    return -(1 - gamma ** np.ceil(np.asarray(distance) / n)) / (1 - gamma)


def chain_advantage(distance: np.ndarray, gamma: float, k: int, n: int = 1) -> np.ndarray:
    """What k steps towards the goal are worth at distances [steps]: V*(d - k) - V*(d)."""
    return chain_value(np.asarray(distance) - k, gamma, n) - chain_value(distance, gamma, n)


def sign_accuracy(advantage: np.ndarray, noise: float) -> np.ndarray:
    """How often the advantage keeps its sign if both its values carry Gaussian errors of standard deviation `noise`."""
    return 0.5 * (1 + erf(np.asarray(advantage) / (2 * noise)))


# ---- the pieces ---------------------------------------------------------------------------------------------------


def value_target(next_value: torch.Tensor, reached: torch.Tensor, gamma: float) -> torch.Tensor:
    """y (..., B) from V'(s_n, g) (..., B): 0 where the state is the goal, `reached` (B,); -1 + gamma V' elsewhere."""
    return (1 - reached) * (gamma * next_value - 1)


def value_loss(
    v: torch.Tensor, v_target: torch.Tensor, next_target: torch.Tensor, reached: torch.Tensor, cfg: Config
) -> torch.Tensor:
    """L_V of two values, each (2, B): both share the sign of one advantage, and each regresses on its own target.

    `v` are V(s, g), `v_target` and `next_target` the target networks' V'(s, g) and V'(s_n, g).
    """
    advantage = value_target(next_target.min(dim=0).values, reached, cfg.gamma) - v_target.mean(dim=0)
    weight = torch.where(advantage < 0, 1 - cfg.expectile, cfg.expectile)
    return (weight * (value_target(next_target, reached, cfg.gamma) - v) ** 2).mean(dim=1).sum()


def awr_weights(advantage: torch.Tensor, beta: float, limit: float) -> torch.Tensor:
    """Regression weights min(exp(beta A), limit), the shape of A."""
    return (beta * advantage).exp().clamp(max=limit)


def regression_loss(mean: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted negative log likelihood of targets (B, d) under a Gaussian of unit variance, up to a constant."""
    return 0.5 * (weight * ((mean - target) ** 2).sum(dim=1)).mean()


def waves(x: torch.Tensor, frequencies: int) -> torch.Tensor:
    """Coordinates (..., d) of about -1..1, and their sines and cosines at 1, 2, 4, .. half waves: (..., d + 2 d f)."""
    rates = torch.pi / 2 * 2.0 ** torch.arange(frequencies, device=x.device)
    angles = (x[..., None] * rates).flatten(-2)
    return torch.cat([x, angles.sin(), angles.cos()], dim=-1)


# ---- state --------------------------------------------------------------------------------------------------------


class Agent(nn.Module):
    """Values, targets and policies; the high level is absent when flat, and shares the low value when n = 1.

    `predict` is Stable-Baselines3's; its observation is a state and a goal side by side, (n, obs_dim + goal_dim).
    """

    def __init__(self, data: Episodes, cfg: Config, generator: torch.Generator):
        super().__init__()
        data.require(goal_dim=0)
        self.cfg, self.generator = cfg, generator
        self.obs_dim, self.goal_dim = data.obs_dim, data.goals.shape[1]
        for name, rows in (("obs", data.observations), ("goal", data.goals)):
            middle, half = (rows.max(axis=0) + rows.min(axis=0)) / 2, np.ptp(rows, axis=0) / 2
            self.register_buffer(f"{name}_middle", torch.from_numpy(middle))
            self.register_buffer(f"{name}_half", torch.from_numpy(np.maximum(half, 1e-6)))
        size = (self.obs_dim + self.goal_dim) * (1 + 2 * cfg.frequencies)

        def network(n: int, out: int) -> Ensemble:
            return Ensemble(n, (size, *cfg.hidden, out), "relu", True, generator)

        self.values = nn.ModuleDict({name: network(2, 1) for name in self.levels})
        self.targets = copy.deepcopy(self.values).requires_grad_(False)
        self.policy = network(1, data.act_dim)
        self.high_policy = network(1, self.goal_dim) if cfg.hierarchical else None

    @property
    def levels(self) -> tuple[str, ...]:
        return ("low", "high") if self.cfg.option_steps > 1 else ("low",)

    def read(self, rows: torch.Tensor, kind: str) -> torch.Tensor:
        """What the networks read of states (B, obs_dim), kind "obs", or of goals (B, goal_dim), kind "goal"."""
        scaled = (rows - getattr(self, f"{kind}_middle")) / getattr(self, f"{kind}_half")
        return waves(scaled, self.cfg.frequencies)

    def value(self, s: torch.Tensor, g: torch.Tensor, level: str = "low", target: bool = False) -> torch.Tensor:
        """V (2, B) of a level for states and goals as read; without options the high level has the low one's."""
        networks = self.targets if target else self.values
        return networks[level if level in self.levels else "low"](torch.cat([s, g], dim=1)).squeeze(-1)

    def advantage(self, s: torch.Tensor, later: torch.Tensor, g: torch.Tensor, level: str) -> torch.Tensor:
        """V(later, g) - V(s, g), the mean of both networks, (B,)."""
        with torch.no_grad():
            v = self.value(torch.cat([s, later]), torch.cat([g, g]), level).mean(dim=0)
        return v[len(s) :] - v[: len(s)]

    def subgoal(self, s: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """Where to go first (B, goal_dim) from states (B, obs_dim) to goals (B, goal_dim): when flat, to the goal."""
        if self.high_policy is None:
            return g
        pair = torch.cat([self.read(s, "obs"), self.read(g, "goal")], dim=1)
        return self.high_policy(pair)[0] * self.goal_half + self.goal_middle

    def high_values(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """V_h (n,) of states (n, obs_dim) and goals (n, goal_dim), the mean of both networks."""
        with torch.no_grad():
            s, g = (torch.as_tensor(np.asarray(x), dtype=torch.float32) for x in (states, goals))
            return self.value(self.read(s, "obs"), self.read(g, "goal"), "high").mean(dim=0).numpy()

    @torch.no_grad()
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        obs = torch.as_tensor(np.asarray(observation), dtype=torch.float32)
        size = self.obs_dim + self.goal_dim
        if obs.shape[-1:] != (size,) or obs.ndim > 2:
            raise ValueError(
                f"observation has shape {tuple(obs.shape)}; a state and a goal are ({size},) or (n, {size})"
            )
        s, g = obs.reshape(-1, size).split([self.obs_dim, self.goal_dim], dim=1)
        action = self.policy(torch.cat([self.read(s, "obs"), self.read(self.subgoal(s, g), "goal")], dim=1))[0]
        if not deterministic:
            action = action + torch.randn(action.shape, generator=self.generator)
        return action.clamp(-1, 1).reshape(*obs.shape[:-1], -1).numpy(), state


class Learner:
    """An agent with its optimiser, its data and their random numbers. `state_dict` holds all an update depends on."""

    def __init__(self, data: Episodes, cfg: Config, *, seed: int):
        self.data, self.cfg, self.rng = data, cfg, np.random.default_rng(seed)
        self.agent = Agent(data, cfg, torch.Generator().manual_seed(seed))
        trained = [p for p in self.agent.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=cfg.learning_rate, fused=True)
        goals, self.actions = torch.from_numpy(data.goals), torch.from_numpy(data.actions)
        self.states = self.agent.read(torch.from_numpy(data.observations), "obs")
        self.goals = self.agent.read(goals, "goal")
        self.scaled_goals = (goals - self.agent.goal_middle) / self.agent.goal_half

    def sample(self) -> Batch:
        """Transitions with goals for the values and for the policies, subgoals, and states one option ahead: states and
        goals as the networks read them, and the subgoals `w`, which the high policy shall name, in -1..1."""
        data, cfg, rng = self.data, self.cfg, self.rng
        rows = sample_steps(data, cfg.batch_size, rng)
        goal = sample_goals(data, rows, cfg.value_goals, rng)
        actor_goal = sample_goals(data, rows, cfg.actor_goals, rng)
        ahead = rows_ahead(data, rows, cfg.subgoal_steps, actor_goal)
        low_goal = rows_ahead(data, rows, cfg.subgoal_steps) if cfg.hierarchical else actor_goal
        states = {"s": rows, "s_next": rows + 1, "s_option": rows_ahead(data, rows, cfg.option_steps, goal)}
        goals = {"g": goal, "actor_g": actor_goal, "low_g": low_goal}
        return (
            {name: self.states[r] for name, r in (states | {"s_ahead": ahead}).items()}
            | {name: self.goals[r] for name, r in goals.items()}
            | {
                "a": self.actions[rows],
                "w": self.scaled_goals[ahead],
                "reached": torch.from_numpy(rows == goal).float(),
            }
        )

    def update(self, batch: Batch, *, policies: bool = True) -> dict[str, float]:
        """One step of all networks, or of the values only; returns the losses."""
        losses = {f"{level}_value_loss": self._value_loss(batch, level) for level in self.agent.levels}
        if policies:
            losses["policy_loss"] = self._policy_loss(batch)
        if policies and self.cfg.hierarchical:
            losses["high_policy_loss"] = self._high_policy_loss(batch)
        self.optimiser.zero_grad()
        sum(losses.values()).backward()
        self.optimiser.step()
        with torch.no_grad():
            slow, fast = list(self.agent.targets.parameters()), list(self.agent.values.parameters())
            torch._foreach_lerp_(slow, fast, self.cfg.tau)
        return {name: loss.item() for name, loss in losses.items()}

    def _value_loss(self, batch: Batch, level: str) -> torch.Tensor:
        s, g, agent = batch["s"], batch["g"], self.agent
        later = batch["s_option"] if level == "high" else batch["s_next"]
        with torch.no_grad():
            v_target, next_target = agent.value(torch.cat([s, later]), torch.cat([g, g]), level, True).chunk(2, dim=1)
        return value_loss(agent.value(s, g, level), v_target, next_target, batch["reached"], self.cfg)

    def _policy_loss(self, batch: Batch) -> torch.Tensor:
        advantage = self.agent.advantage(batch["s"], batch["s_next"], batch["low_g"], "low")
        weights = awr_weights(advantage, self.cfg.beta, self.cfg.weight_limit)
        mean = self.agent.policy(torch.cat([batch["s"], batch["low_g"]], dim=1))[0]
        return regression_loss(mean, batch["a"], weights)

    def _high_policy_loss(self, batch: Batch) -> torch.Tensor:
        agent, s, g = self.agent, batch["s"], batch["actor_g"]
        weights = awr_weights(agent.advantage(s, batch["s_ahead"], g, "high"), self.cfg.beta, self.cfg.weight_limit)
        return regression_loss(agent.high_policy(torch.cat([s, g], dim=1))[0], batch["w"], weights)

    def state_dict(self) -> dict[str, Any]:
        return copy.deepcopy({
            "agent": self.agent.state_dict(), "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.bit_generator.state, "noise": self.agent.generator.get_state(),
        })  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        state = copy.deepcopy(dict(state))  # an optimiser would keep the very tensors that it is given
        self.agent.load_state_dict(state["agent"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.bit_generator.state = state["rng"]
        self.agent.generator.set_state(state["noise"])


# ---- training -----------------------------------------------------------------------------------------------------


def train(data: Episodes, cfg: Config, *, seed: int, every: int = 50) -> Iterator[Metrics]:
    """Learn from the data; yields after every `every` updates. The agent is an `Agent`.

    Raises:
        ValueError: the dataset has no goals.
    """
    runtime.one_thread()
    learner, info = Learner(data, cfg, seed=seed), {}
    for update in range(1, cfg.updates + 1):
        info |= learner.update(learner.sample(), policies=update > cfg.policies_from * cfg.updates)
        if update % every == 0 or update == cfg.updates:
            yield Metrics({"updates": float(update), "progress": update / cfg.updates} | info, agent=learner.agent)
