"""Soft actor-critic, to be read: Haarnoja et al. 2018; with half of each batch from prior data, RLPD, Ball et al. 2023.

    a'      = tanh(mu(s') + sigma(s') eps),  eps ~ N(0, 1)                                  squashed Gaussian policy
    y       = r + gamma (1 - terminated) (min_i Q'_i(s', a') - alpha log pi(a'|s'))         critic target
    L_Q     = sum_i mean (Q_i(s, a) - y)^2 / 2,        Q' <- Q' + tau (Q - Q')
    L_pi    = mean (alpha log pi(a|s) - min_i Q_i(s, a)),  a ~ pi(.|s)
    L_alpha = -log(alpha) mean (log pi(a|s) + H),      H the entropy that is wanted

A time limit (`truncated`) does not stop the bootstrap. With the same weights, batch and noise, losses and gradients
equal Stable-Baselines3's SAC. RLPD is a setting: `layer_norm=True`, a high `utd`, and `train(..., prior=replay)`.
Look at `critic_target` and `actor_loss` first, then at `Learner.update`.
"""

from __future__ import annotations

import copy
import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from kit import runtime
from kit.envs.env import BatchEnv
from kit.rl.replay import Replay, half_and_half
from kit.types import Metrics

Batch = dict[str, torch.Tensor]
ACTIVATIONS = {"relu": torch.relu_, "tanh": torch.tanh_}  # in place, which spares memory traffic


@dataclass(frozen=True)
class Config:
    """Settings of a run; the defaults are Stable-Baselines3's, with smaller networks."""

    total_steps: int = 50_000  # environment steps over all simulations
    learning_starts: int = 500  # steps with random actions before the first update
    capacity: int = 200_000  # of the replay buffer [transitions]
    batch_size: int = 256  # transitions in an update; with prior data half of them are from there
    utd: float = 1.0  # critic updates per environment step (update-to-data ratio)
    actor_every: int = 1  # critic updates per actor update
    learning_rate: float = 3e-4  # of Adam, for actor, critics and temperature
    gamma: float = 0.99  # discount of a control step
    tau: float = 0.005  # share by which target critics follow in an update
    alpha: float = 1.0  # temperature at the start
    target_entropy: float | None = None  # H [nat]; None: minus the number of actions
    backup_entropy: bool = True  # whether the critic target counts the entropy
    hidden: tuple[int, ...] = (64, 64)  # widths of the layers, for actor and each critic
    activation: str = "relu"  # or "tanh"
    layer_norm: bool = False  # in the critics, before each activation; it bounds values of unseen actions
    ensemble: int = 2  # networks of a critic, of which the least value counts
    critics: tuple[str, ...] = ("reward",)  # each learns the reward of its name; the actor maximises their sum

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation is {self.activation!r}; it must be one of {', '.join(ACTIVATIONS)}")
        for name in ("utd", "actor_every", "alpha", "ensemble", "batch_size"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")


# ---- the pieces -------------------------------------------------------------------------------------------------


def squash(mean: torch.Tensor, log_std: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Actions (B, act_dim) in -1..1 from standard normal noise (B, act_dim), and their log densities (B,)."""
    actions = torch.tanh(mean + log_std.exp() * noise)
    log_normal = -(0.5 * noise**2 + log_std + 0.5 * np.log(2 * np.pi)).sum(dim=-1)
    return actions, log_normal - (1 - actions**2 + 1e-6).log().sum(dim=-1)  # change of variables; 1e-6 against log 0


def critic_target(
    rewards: torch.Tensor,
    terminated: torch.Tensor,
    next_q: torch.Tensor,
    next_log_probs: torch.Tensor,
    alpha: float | torch.Tensor,
    gamma: float,
) -> torch.Tensor:
    """y (B,) from target critics' values `next_q` (ensemble, B) of actions that the policy takes in the next states."""
    return rewards + gamma * (1 - terminated) * (next_q.min(dim=0).values - alpha * next_log_probs)


def critic_loss(q: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Of values (ensemble, B) and targets (B,)."""
    return 0.5 * ((q - target) ** 2).mean(dim=1).sum()


def actor_loss(q: torch.Tensor, log_probs: torch.Tensor, alpha: float | torch.Tensor) -> torch.Tensor:
    """Of the value `q` (B,) of the policy's own actions, and their log densities (B,)."""
    return (alpha * log_probs - q).mean()


def temperature_loss(log_alpha: torch.Tensor, log_probs: torch.Tensor, target_entropy: float) -> torch.Tensor:
    """Its gradient raises alpha while the policy's entropy, -mean log_probs (B,), is below the wanted one."""
    return -(log_alpha * (log_probs + target_entropy).detach()).mean()


def gaussian(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Standard normal noise."""
    return torch.randn(shape, generator=generator)


# ---- state --------------------------------------------------------------------------------------------------------


class Ensemble(nn.Module):
    """`n` networks of the same shape that run as one: inputs (B, in) to outputs (n, B, out). Weights (n, in, out)."""

    def __init__(self, n: int, sizes: tuple[int, ...], activation: str, layer_norm: bool, generator: torch.Generator):
        super().__init__()
        self.activation, self.layer_norm = ACTIVATIONS[activation], layer_norm
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for n_in, n_out in itertools.pairwise(sizes):
            for shape, parameters in (((n, n_in, n_out), self.weights), ((n, 1, n_out), self.biases)):
                parameters.append(torch.empty(shape).uniform_(-(n_in**-0.5), n_in**-0.5, generator=generator))
        widths = sizes[1:-1] if layer_norm else ()
        self.scales = nn.ParameterList([torch.ones(n, 1, width) for width in widths])
        self.shifts = nn.ParameterList([torch.zeros(n, 1, width) for width in widths])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.expand(len(self.weights[0]), *x.shape)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if i == len(self.weights) - 1:
                return x
            if self.layer_norm:
                x = F.layer_norm(x, x.shape[-1:]) * self.scales[i] + self.shifts[i]
            x = self.activation(x)
        raise ValueError("a network needs at least one layer")


class Agent(nn.Module):
    """A squashed Gaussian policy, critics by name with their targets, and the temperature.

    Networks and replay buffers speak actions of -1..1; `predict` is Stable-Baselines3's, in the space's units.
    """

    def __init__(self, obs_dim: int, low: np.ndarray, high: np.ndarray, cfg: Config, generator: torch.Generator):
        super().__init__()
        self.low, self.high, self.generator = np.asarray(low), np.asarray(high), generator
        n_actions = len(self.low)
        self.actor = Ensemble(1, (obs_dim, *cfg.hidden, 2 * n_actions), cfg.activation, False, generator)
        sizes = (obs_dim + n_actions, *cfg.hidden, 1)

        def critics() -> nn.ModuleDict:
            args = cfg.ensemble, sizes, cfg.activation, cfg.layer_norm, generator
            return nn.ModuleDict({name: Ensemble(*args) for name in cfg.critics})

        self.critics, self.targets = critics(), critics().requires_grad_(False)
        self.targets.load_state_dict(self.critics.state_dict())
        self.log_alpha = nn.Parameter(torch.tensor(float(np.log(cfg.alpha))))

    def policy(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log standard deviation before the squashing, (B, act_dim) each."""
        mean, log_std = self.actor(obs)[0].chunk(2, dim=-1)
        return mean, log_std.clamp(-20, 2)

    def sample(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Actions (B, act_dim) in -1..1, differentiable, and their log densities (B,)."""
        mean, log_std = self.policy(obs)
        return squash(mean, log_std, gaussian(mean.shape, self.generator))

    def q(self, name: str, obs: torch.Tensor, actions: torch.Tensor, target: bool = False) -> torch.Tensor:
        """Values (ensemble, B) of a critic."""
        critics = self.targets if target else self.critics
        return critics[name](torch.cat([obs, actions], dim=-1)).squeeze(-1)

    def to_space(self, actions: np.ndarray) -> np.ndarray:
        """Actions of -1..1 in the space's units."""
        return self.low + 0.5 * (actions + 1) * (self.high - self.low)

    @torch.no_grad()
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        obs = torch.as_tensor(np.asarray(observation), dtype=torch.float32)
        rows = obs.reshape(-1, obs.shape[-1])
        actions = torch.tanh(self.policy(rows)[0]) if deterministic else self.sample(rows)[0]
        return self.to_space(actions.reshape(*obs.shape[:-1], -1).numpy()), state


class Learner:
    """An agent with its optimisers. `state_dict` holds all that an update depends on."""

    def __init__(self, agent: Agent, cfg: Config):
        self.agent, self.cfg = agent, cfg
        wanted = cfg.target_entropy
        self.target_entropy = -float(len(agent.low)) if wanted is None else wanted
        self.slow, self.fast = list(agent.targets.parameters()), list(agent.critics.parameters())
        self.parts = {"critic": self.fast, "actor": [*agent.actor.parameters(), agent.log_alpha]}
        self.optimisers = {k: torch.optim.Adam(p, lr=cfg.learning_rate, fused=True) for k, p in self.parts.items()}

    def update(self, batch: Batch, *, actor: bool = True) -> dict[str, float]:
        """One update of the critics, and of actor and temperature unless told otherwise. `batch` holds `obs`,
        `actions`, `next_obs`, `terminated` and, under its name, each critic's reward (B,)."""
        alpha = self.agent.log_alpha.detach().exp()
        info = self._update_critics(batch, alpha)
        if actor:
            info |= self._update_actor(batch, alpha)
        with torch.no_grad():
            torch._foreach_lerp_(self.slow, self.fast, self.cfg.tau)
        return info

    def _update_critics(self, batch: Batch, alpha: torch.Tensor) -> dict[str, float]:
        agent, cfg, loss = self.agent, self.cfg, 0.0
        with torch.no_grad():
            actions, log_probs = agent.sample(batch["next_obs"])
        for name in cfg.critics:
            bonus = alpha if cfg.backup_entropy and name == cfg.critics[0] else 0.0  # the sum counts entropy once
            next_q = agent.q(name, batch["next_obs"], actions, target=True)
            target = critic_target(batch[name], batch["terminated"], next_q, log_probs, bonus, cfg.gamma)
            loss = loss + critic_loss(agent.q(name, batch["obs"], batch["actions"]), target)
        self._step("critic", loss)
        return {"critic_loss": loss.item()}

    def _update_actor(self, batch: Batch, alpha: torch.Tensor) -> dict[str, float]:
        agent = self.agent
        actions, log_probs = agent.sample(batch["obs"])
        q = sum(agent.q(name, batch["obs"], actions).min(dim=0).values for name in self.cfg.critics)
        loss = actor_loss(q, log_probs, alpha)
        self._step("actor", loss + temperature_loss(agent.log_alpha, log_probs, self.target_entropy))
        return {"actor_loss": loss.item(), "alpha": alpha.item(), "entropy": -log_probs.mean().item()}

    def _step(self, part: str, loss: torch.Tensor) -> None:
        for parameter in self.parts[part]:
            parameter.grad = None
        loss.backward(inputs=self.parts[part])  # no gradients of critics for an update of the actor
        self.optimisers[part].step()

    def state_dict(self) -> dict[str, Any]:
        optimisers = {name: o.state_dict() for name, o in self.optimisers.items()}
        state = {"agent": self.agent.state_dict(), "noise": self.agent.generator.get_state(), "optimisers": optimisers}
        return copy.deepcopy(state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        state = copy.deepcopy(state)  # an optimiser would keep the very tensors that it is given
        self.agent.load_state_dict(state["agent"])
        self.agent.generator.set_state(state["noise"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])


def replay_for(obs_dim: int, act_dim: int, cfg: Config, **more: tuple[int, ...]) -> Replay:
    """A buffer with the fields that `Learner.update` reads, and `more` by name and shape."""
    shapes = {"obs": (obs_dim,), "actions": (act_dim,), "next_obs": (obs_dim,), "terminated": ()}
    return Replay(cfg.capacity, shapes | dict.fromkeys(cfg.critics, ()) | more)


# ---- training -----------------------------------------------------------------------------------------------------


class Player:
    """Plays on a batch of simulations, one step at a time, and fills a replay buffer."""

    def __init__(self, env: BatchEnv, replay: Replay, seed: int):
        self.env, self.replay, self.rng = env.unwrapped, replay, np.random.default_rng(seed)
        self.obs, _ = self.env.reset(seed=seed)
        self.returns = np.zeros(self.env.num_envs)
        self.finished: deque[tuple[float, bool]] = deque(maxlen=100)  # (return, success) of the last episodes

    def step(self, agent: Agent, random: bool) -> None:
        """One step of every simulation, with random actions or the agent's."""
        shape = (self.env.num_envs, len(agent.low))
        with torch.no_grad():
            actions = self.rng.uniform(-1, 1, shape) if random else agent.sample(torch.as_tensor(self.obs))[0].numpy()
        obs, rewards, terminated, truncated, info = self.env.step(agent.to_space(actions))
        done, next_obs = terminated | truncated, obs
        self.returns += rewards
        if done.any():
            next_obs = np.where(done[:, None], info["final_obs"], obs)
            self.finished += zip(self.returns[done], info["final_info"]["success"][done], strict=True)
            self.returns[done] = 0
        row = {"obs": self.obs, "actions": actions, "next_obs": next_obs, "terminated": terminated}
        self.replay.add(**row, reward=rewards)
        self.obs = obs


def train(env: BatchEnv, cfg: Config, *, seed: int, prior: Replay | None = None) -> Iterator[Metrics]:
    """Alternate steps and updates until `total_steps`; yields after every step of the batch. The agent is an `Agent`.

    Raises:
        ValueError: `cfg.critics` names another reward than the environment's, "reward".
    """
    if cfg.critics != ("reward",):
        raise ValueError(
            f"critics are {cfg.critics}; this loop knows only 'reward'. Use Learner with a loop of your own"
        )
    runtime.one_thread()
    env, generator = env.unwrapped, torch.Generator().manual_seed(seed)
    space, obs_dim = env.single_action_space, env.single_observation_space.shape[0]
    learner = Learner(Agent(obs_dim, space.low, space.high, cfg, generator), cfg)
    player = Player(env, replay_for(obs_dim, space.shape[0], cfg), seed)
    owed, updates, info = 0.0, 0, {}
    for steps in range(env.num_envs, cfg.total_steps + env.num_envs, env.num_envs):
        random = steps <= cfg.learning_starts
        player.step(learner.agent, random)
        owed += 0.0 if random else cfg.utd * env.num_envs
        for _ in range(int(owed)):
            batch = half_and_half(player.replay, prior, cfg.batch_size, player.rng)
            info |= learner.update(batch, actor=updates % cfg.actor_every == 0)
            updates += 1
        owed -= int(owed)
        yield Metrics(_summary(steps, cfg, player) | info, agent=learner.agent)


def _summary(steps: int, cfg: Config, player: Player) -> dict[str, float]:
    values = {"steps": float(steps), "progress": min(steps / cfg.total_steps, 1.0)}
    if player.finished:
        values["return"] = float(np.mean([r for r, _ in player.finished]))
        values["success"] = float(np.mean([s for _, s in player.finished]))
    return values
