"""HILP: a map in which straight-line distance is time, and one policy that moves along any direction of that map.

Park, Kreiman and Levine 2024, "Foundation Policies with Hilbert Representations".

    V(s, g) = -||phi(s) - phi(g)||                                             minus the steps from s to g
    q       = r + gamma m min_i V'_i(s', g)      r = -1, m = 1;  at the goal (s = g) both are 0;  V' lags behind V
    A       = q - mean_i V'_i(s, g)
    L_phi   = sum_i E |tau - 1[A < 0]| (r + gamma m V'_i(s', g) - V_i(s, g))^2       expectile: believe the best step
    r_z     = (phi(s') - phi(s)) . z,   ||z|| = 1                              progress along a direction of the map
    pi(a | s, z)  by implicit Q-learning on r_z:  L_pi = -E min(exp(beta (Q - V)), 100) log pi

sum_t gamma^t r_z equals (1 - gamma) sum_t gamma^t phi(s_t+1) . z - phi(s_0) . z, so the same policy also maximises any
reward that is linear in phi. Look at `temporal_loss` first, then at `Skills.update`;
`kit.skills.prompts` has what the frozen policy is asked to do.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from kit import runtime
from kit.data import Episodes, GoalShares, sample_goals, sample_steps
from kit.nets import name_layers
from kit.offline.goals import awr_weights
from kit.rl.sac import Ensemble
from kit.skills.prompts import HilbertPolicy
from kit.skills.skill import directional_reward
from kit.types import Metrics

NEAR = 1e-6  # least squared distance, so that the root has a gradient
YIELD_S = 0.25  # between two yields of `train`


@dataclass(frozen=True)
class Config:
    """Settings; the defaults suit a point in a maze. `steps` and `skill_steps` are trained one after the other."""

    dim: int = 8  # D, numbers of a point of the map
    gamma: float = 0.98  # discount of a step, for the map and for the skills
    expectile: float = 0.95  # tau; 0.5 would learn how long the data's own walk takes
    ema: float = 0.01  # share by which targets follow in an update
    learning_rate: float = 2e-3  # of Adam
    batch: int = 256  # transitions of an update
    steps: int = 6_000  # updates of the map
    trajectory: float = 0.625  # share of goals that lie later in the transition's episode; the others are any state
    hidden: tuple[int, ...] = (64, 64)  # widths of the tanh layers of every network
    sharpness: float = 4.0  # factor of the first layer at the start: walls make distances jump, smooth features do not
    skill_steps: int = 4_000  # updates of the skill policy
    skill_expectile: float = 0.9  # of its value
    beta: float = 10.0  # inverse temperature of its regression [1 / step gained]
    weight_limit: float = 100.0  # largest weight of a transition in the regression
    log_std: float = -1.0  # of the Gaussian policy, fixed

    def __post_init__(self) -> None:
        for name in ("expectile", "skill_expectile"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it lies strictly between 0 and 1 (0.5 is the mean)")
        if not 0 <= self.gamma < 1 or not 0 <= self.trajectory <= 1:
            raise ValueError(f"gamma is {self.gamma} and trajectory {self.trajectory}; need 0 <= gamma < 1, a share")
        if min(self.dim, self.batch, self.steps) < 1 or self.skill_steps < 0:
            raise ValueError(f"dim {self.dim}, batch {self.batch} and steps {self.steps} must be at least 1")


GRID = Config(gamma=0.95, ema=0.005, learning_rate=3e-3, batch=512, steps=15_000, skill_steps=0)  # a table, no policy


# ---- the pieces ---------------------------------------------------------------------------------------------------


def latent_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Euclidean distances (...) of points (..., D), at least 0.001."""
    return ((x - y) ** 2).sum(dim=-1).clamp(min=NEAR).sqrt()


def expectile_weights(error: torch.Tensor, tau: float) -> torch.Tensor:
    """|tau - 1[error < 0]|, the shape of `error`: tau where there is more to gain than was believed, else 1 - tau."""
    return (tau - (error < 0).float()).abs()


def temporal_loss(
    value: torch.Tensor,
    target_here: torch.Tensor,
    target_next: torch.Tensor,
    at_goal: torch.Tensor,
    gamma: float,
    expectile: float,
) -> torch.Tensor:
    """L_phi, a scalar, of V_i(s, g), V'_i(s, g) and V'_i(s', g), each (2, B); `at_goal` (B,) is 1 where s = g."""
    reward, mask = at_goal - 1, 1 - at_goal
    q = reward + gamma * mask * target_next.min(dim=0).values
    weight = expectile_weights(q - target_here.mean(dim=0), expectile)
    return (weight * (reward + gamma * mask * target_next - value) ** 2).mean(dim=1).sum()


def directions(n: int, dim: int, generator: torch.Generator) -> torch.Tensor:
    """Uniform on the unit sphere, (n, dim)."""
    return nn.functional.normalize(torch.randn(n, dim, generator=generator), dim=-1)


# ---- state --------------------------------------------------------------------------------------------------------


class Table(nn.Module):
    """phi as two tables (2, S, D), for observations (..., 1) that number the states."""

    def __init__(self, states: int, dim: int, generator: torch.Generator):
        super().__init__()
        self.points = nn.Parameter(torch.randn(2, states, dim, generator=generator))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.points[:, obs[..., 0].long()]


class Map(nn.Module):
    """phi twice over, and the lagging copies; the first of the two is the map that skills use."""

    def __init__(self, net: nn.Module, cfg: Config):
        super().__init__()
        self.cfg, self.net, self.target = cfg, net, copy.deepcopy(net).requires_grad_(False)
        self.optimiser = torch.optim.Adam(net.parameters(), lr=cfg.learning_rate)

    def update(self, s: torch.Tensor, s2: torch.Tensor, g: torch.Tensor, at_goal: torch.Tensor) -> dict[str, float]:
        """One gradient step on observations (B, obs_dim) and `at_goal` (B,)."""
        cfg = self.cfg
        with torch.no_grad():
            here, after, goal = self.target(torch.cat((s, s2, g))).chunk(3, dim=1)
            target_here, target_next = -latent_distance(here, goal), -latent_distance(after, goal)
        value = -latent_distance(*self.net(torch.cat((s, g))).chunk(2, dim=1))
        loss = temporal_loss(value, target_here, target_next, at_goal, cfg.gamma, cfg.expectile)
        descend(self.optimiser, loss)
        follow(self.target, self.net, cfg.ema)
        return {"map_loss": loss.item(), "distance": -value.mean().item()}

    @torch.no_grad()
    def phi(self, obs: torch.Tensor) -> torch.Tensor:
        """Points of the map (B, D)."""
        return self.net(obs)[0]


class Skills(nn.Module):
    """The direction-conditioned policy, learnt by implicit Q-learning with two critics and their lagging copies.

    Rewards are linear in z, so values are F . z with D outputs F of a network of (s, z) or (s, z, a).
    """

    def __init__(self, obs_dim: int, act_dim: int, cfg: Config, generator: torch.Generator):
        super().__init__()

        def net(n: int, extra: int, n_out: int) -> Ensemble:
            return network(n, obs_dim, cfg.dim + extra, n_out, cfg, generator)

        self.cfg, self.generator = cfg, generator
        self.value, self.actor, self.critic = net(1, 0, cfg.dim), net(1, 0, act_dim), net(2, act_dim, cfg.dim)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        learnt = [p for module in (self.value, self.actor, self.critic) for p in module.parameters()]
        self.optimiser = torch.optim.Adam(learnt, lr=cfg.learning_rate)

    def update(
        self, s: torch.Tensor, a: torch.Tensor, s2: torch.Tensor, phi: torch.Tensor, phi2: torch.Tensor
    ) -> dict[str, float]:
        """One gradient step on a batch (B, ...): every step is relabelled with a fresh direction."""
        cfg = self.cfg
        z = directions(len(s), cfg.dim, self.generator)
        sz, sza = torch.cat((s, z), dim=1), torch.cat((s, z, a), dim=1)
        with torch.no_grad():
            target = (self.target(sza) * z).sum(dim=-1).min(dim=0).values
            next_value = (self.value(torch.cat((s2, z), dim=1))[0] * z).sum(dim=-1)
            backup = directional_reward(phi, phi2, z) + cfg.gamma * next_value
        advantage = target - (self.value(sz)[0] * z).sum(dim=-1)
        value_loss = (expectile_weights(advantage.detach(), cfg.skill_expectile) * advantage**2).mean()
        critic_loss = (((self.critic(sza) * z).sum(dim=-1) - backup) ** 2).mean(dim=1).sum()
        weight = awr_weights(advantage.detach(), cfg.beta, cfg.weight_limit)
        actor_loss = (weight * ((self.actor(sz)[0] - a) ** 2).sum(dim=1)).mean() / (2 * np.exp(2 * cfg.log_std))
        descend(self.optimiser, value_loss + critic_loss + actor_loss)
        follow(self.target, self.critic, cfg.ema)
        return {"value_loss": value_loss.item(), "critic_loss": critic_loss.item(), "weight": weight.mean().item()}


def network(n: int, obs_dim: int, extra: int, n_out: int, cfg: Config, generator: torch.Generator) -> Ensemble:
    """`n` tanh networks of an observation and `extra` numbers more, to which walls look as sharp as `cfg` says."""
    net = Ensemble(n, (obs_dim + extra, *cfg.hidden, n_out), "tanh", False, generator)
    with torch.no_grad():
        net.weights[0][:, :obs_dim] *= cfg.sharpness
        net.biases[0].uniform_(-cfg.sharpness / 2, cfg.sharpness / 2, generator=generator)
    return net


def descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


@torch.no_grad()
def follow(target: nn.Module, net: nn.Module, share: float) -> None:
    torch._foreach_lerp_(list(target.parameters()), list(net.parameters()), share)


class HILP:
    """Map and skills in training, on data whose observations are their own goals; observations are scaled inside."""

    def __init__(self, data: Episodes, cfg: Config, *, seed: int, states: int | None = None):
        """With `states` the map is a table of so many states, and observations (R, 1) number them.

        Raises:
            ValueError: the data have no goals, goals of another size than observations, or unknown states.
        """
        check_data(data, states)
        self.cfg, self.data, self.table = cfg, data, states is not None
        self.rng, self.generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        self.shift = np.zeros(1) if self.table else data.observations.mean(axis=0)
        self.scale = np.ones(1) if self.table else np.maximum(data.observations.std(axis=0), 1e-6)
        self.obs = torch.as_tensor((data.observations - self.shift) / self.scale, dtype=torch.float32)
        self.actions = torch.as_tensor(data.actions)
        if self.table:
            self.map = Map(Table(states, cfg.dim, self.generator), cfg)
        else:
            self.map = Map(network(2, data.obs_dim, 0, cfg.dim, cfg, self.generator), cfg)
        self.skills = Skills(data.obs_dim, data.act_dim, cfg, self.generator)
        self.shares = GoalShares(0.0, cfg.trajectory, 1 - cfg.trajectory, gamma=cfg.gamma)

    def update_map(self) -> dict[str, float]:
        rows = sample_steps(self.data, self.cfg.batch, self.rng)
        goals = sample_goals(self.data, rows, self.shares, self.rng)
        s, g = self.obs[rows], self.obs[goals]
        return self.map.update(s, self.obs[rows + 1], g, (s == g).all(dim=1).float())

    def update_skills(self) -> dict[str, float]:
        rows = sample_steps(self.data, self.cfg.batch, self.rng)
        s, s2 = self.obs[rows], self.obs[rows + 1]
        phi, phi2 = self.map.phi(torch.cat((s, s2))).chunk(2)
        return self.skills.update(s, self.actions[rows], s2, phi, phi2)

    def points(self) -> np.ndarray:
        """The map of every state of a table (S, D), or of every row of the data (R, D)."""
        if self.table:
            return self.map.net.points[0].detach().numpy()
        return self.map.phi(self.obs).numpy()

    def policy(self, low: float = -1.0, high: float = 1.0) -> HilbertPolicy:
        """The frozen map and policy for raw observations, in NumPy; actions are clipped to `low`..`high`.

        Raises:
            ValueError: the map is a table.
        """
        if self.table:
            raise ValueError("a table has no network to freeze; use `points()` and its greedy steps")
        act_dim = self.data.act_dim
        weights = self._layers(self.map.net, "phi.") | self._layers(self.skills.actor, "")
        weights["log_std"] = np.full(act_dim, self.cfg.log_std, np.float32)
        return HilbertPolicy(weights, low=np.full(act_dim, low), high=np.full(act_dim, high))

    def state_dict(self) -> dict[str, Any]:
        """All that training needs to go on as if it had never stopped; `load_state_dict` takes it back."""
        parts = {"map": self.map, "skills": self.skills}
        state = {
            "nets": {name: part.state_dict() for name, part in parts.items()},
            "adam": {name: part.optimiser.state_dict() for name, part in parts.items()},
            "random": (self.rng.bit_generator.state, self.generator.get_state()),
        }
        return copy.deepcopy(state)  # a copy, since the tensors go on changing

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        state = copy.deepcopy(dict(state))  # an optimiser would go on with the very tensors that it is given
        for name, part in (("map", self.map), ("skills", self.skills)):
            part.load_state_dict(state["nets"][name])
            part.optimiser.load_state_dict(state["adam"][name])
        self.rng.bit_generator.state = state["random"][0]
        self.generator.set_state(state["random"][1])

    def _layers(self, net: Ensemble, prefix: str) -> dict[str, np.ndarray]:
        """The first network of an ensemble, with the scaling of observations inside its first layer."""
        layers = [
            (w[0].detach().numpy().T.copy(), b[0, 0].detach().numpy().copy())
            for w, b in zip(net.weights, net.biases, strict=True)
        ]
        weight, bias = layers[0]
        weight[:, : len(self.scale)] /= self.scale
        bias -= weight[:, : len(self.scale)] @ self.shift
        return name_layers(layers, prefix)


def check_data(data: Episodes, states: int | None = None) -> None:
    """Whether HILP can learn from the data.

    Raises:
        ValueError: the data have no goals, goals of another size than observations, or a state out of range.
    """
    data.require(goal_dim=data.obs_dim)
    if states is None:
        return
    data.require(obs_dim=1)
    low, high = data.observations.min(), data.observations.max()
    if low < 0 or high >= states:
        raise ValueError(f"the data hold states {low:g} to {high:g}; a table of {states} has 0 to {states - 1}")


# ---- training -----------------------------------------------------------------------------------------------------


def train(data: Episodes, cfg: Config | None = None, *, seed: int, states: int | None = None) -> Iterator[Metrics]:
    """First the map, then the skills on the finished map; yields every quarter of a second. The agent is a `HILP`."""
    cfg = cfg or Config()
    runtime.one_thread()
    agent = HILP(data, cfg, seed=seed, states=states)
    total, spoken = cfg.steps + cfg.skill_steps, time.perf_counter()
    for i in range(total):
        info = agent.update_map() if i < cfg.steps else agent.update_skills()
        if time.perf_counter() - spoken > YIELD_S or i == total - 1:
            spoken = time.perf_counter()
            yield Metrics({"steps": i + 1.0, "progress": (i + 1) / total} | info, agent=agent)
