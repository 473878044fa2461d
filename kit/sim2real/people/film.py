"""One policy that a user retunes while it runs: feature-wise linear modulation (FiLM) by the user's parameter.

Bauersfeld, Kaufmann and Scaramuzza 2022, "User-Conditioned Neural Control Policies for Mobile Robotics"; the layer is
that of Perez et al. 2018, "FiLM: Visual Reasoning with a General Conditioning Layer".

    h <- (1 + gamma(c)) h + beta(c)            one layer, after the first hidden layer of policy and value each
    (gamma, beta)(c) = W2 tanh(W1 c + b1) + b2,   W2 = b2 = 0 at the start: training begins with the plain network
    c ~ U(c_min, c_max), anew in each episode;  the reward of the episode uses the same c

Here c is the thrust limit of a quadrotor in `kit.sim2real.people.quad`, the last number of its observation. Look at
`modulate` first, then `FiLMNetwork`; `ARMS` names what FiLM is compared with.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from kit import checkpoints
from kit.envs.env import BatchEnv
from kit.nets import FilmPolicy
from kit.rl import ppo
from kit.runtime import run
from kit.sim2real.people import quad
from kit.types import Metrics

PPO = ppo.Config(
    total_steps=1_500_000, n_steps=32, batch_size=2048, n_epochs=5, learning_rate=2e-3, final_rate=0.03, gamma=0.98
)
SETTINGS = (1.5, 3.0, 4.5)  # thrust limits of the specialists [weights]


@dataclass(frozen=True)
class Config:
    """One run."""

    num_envs: int = 128  # simulations
    conditioner: int = 32  # width of the hidden layer between c and (gamma, beta)
    limits: tuple[float, float] = quad.LIMITS  # c is drawn uniformly between these [weights]
    retune: float = 0.0  # chance that c is drawn anew in a second of flight; the paper draws it in each episode alone
    ppo: ppo.Config = field(default_factory=lambda: PPO)


# ---- the pieces -------------------------------------------------------------------------------------------------


def modulate(h: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """Features (..., width) scaled by 1 + gamma and shifted by beta, both (..., width)."""
    return (1 + gamma) * h + beta


class FiLM(nn.Module):
    """gamma and beta (..., width) from c (..., c_dim); both are zero at the start."""

    def __init__(self, c_dim: int, width: int, hidden: int, generator: torch.Generator):
        super().__init__()
        self.conditioner = ppo.network((c_dim, hidden, 2 * width), 0.0, generator)

    def forward(self, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.conditioner(c).chunk(2, dim=-1)


class FiLMNetwork(nn.Module):
    """A tanh network of an observation's first numbers; its last number, c, modulates the first hidden layer."""

    def __init__(self, sizes: tuple[int, ...], last_gain: float, hidden: int, generator: torch.Generator):
        super().__init__()
        self.trunk = ppo.network((sizes[0] - 1, *sizes[1:]), last_gain, generator)
        self.film = FiLM(1, sizes[1], hidden, generator)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        h = self.trunk[:2](obs[..., :-1])
        return self.trunk[2:](modulate(h, *self.film(obs[..., -1:])))


class Blind(nn.Module):
    """A network that is not told c."""

    def __init__(self, sizes: tuple[int, ...], last_gain: float, hidden: int, generator: torch.Generator):
        super().__init__()
        self.trunk = ppo.network((sizes[0] - 1, *sizes[1:]), last_gain, generator)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.trunk(obs[..., :-1])


# ---- the arms -----------------------------------------------------------------------------------------------------


def agent_builder(kind: Callable[..., nn.Module], cfg: Config) -> Callable[..., ppo.ActorCritic]:
    """For `ppo.train`: an `ActorCritic` whose two networks are of this kind."""

    def build(obs_dim: int, low: np.ndarray, high: np.ndarray, settings: ppo.Config, generator: torch.Generator):
        agent = ppo.ActorCritic(obs_dim, low, high, settings, generator)
        agent.actor = kind((obs_dim, *settings.hidden, len(low)), 0.01, cfg.conditioner, generator)
        agent.critic = kind((obs_dim, *settings.hidden, 1), 1.0, cfg.conditioner, generator)
        return agent

    return build


ARMS: dict[str, Callable[[Config], Callable[..., ppo.ActorCritic]]] = {
    "film": lambda cfg: agent_builder(FiLMNetwork, cfg),
    "concat": lambda cfg: ppo.ActorCritic,  # c is one more input
    "blind": lambda cfg: agent_builder(Blind, cfg),
}


class RetunedEnv(BatchEnv):
    """Laps whose c is drawn for each episode and, if `cfg.retune` says so, now and then in flight."""

    def __init__(self, cfg: Config, *, seed: int):
        super().__init__(quad.Quad(cfg.num_envs))
        self.cfg, self.rng = cfg, np.random.default_rng((seed, 1))
        self.task_source = self.draw

    def draw(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        return {"limit": self.rng.uniform(*self.cfg.limits, (len(ids), 1))}

    def step(self, actions: np.ndarray):
        ids = np.flatnonzero(self.rng.random(self.num_envs) < self.cfg.retune / quad.FPS)
        if len(ids):
            self.set_task(ids, **self.draw(ids))
        return super().step(actions)


def train(cfg: Config, *, seed: int, arm: str = "film") -> Iterator[Metrics]:
    """PPO on laps with c drawn in each episode; the agent is a `ppo.ActorCritic` that acts through `predict`.

    Raises:
        ValueError: an unknown arm.
    """
    if arm not in ARMS:
        raise ValueError(f"arm is {arm!r}; it must be one of {', '.join(ARMS)}")
    env = RetunedEnv(cfg, seed=seed)
    yield from ppo.train(env, cfg.ppo, seed=seed, build=ARMS[arm](cfg))


def specialist(cfg: Config, limit: float) -> Config:
    """The settings of a run at one thrust limit [weights]: the same network size, steps and reward, c fixed."""
    return dataclasses.replace(cfg, limits=(limit, limit))


# ---- shipping -----------------------------------------------------------------------------------------------------


def export(agent: ppo.ActorCritic) -> FilmPolicy:
    """The policy of a FiLM agent as NumPy arrays, without its value function.

    Raises:
        ValueError: the agent's policy is not a `FiLMNetwork`.
    """
    if not isinstance(agent.actor, FiLMNetwork):
        raise ValueError(f"the policy is a {type(agent.actor).__name__}; only a FiLMNetwork can be exported")
    weights = {"log_std": agent.log_std}
    for prefix, network in (("", agent.actor.trunk), ("film.", agent.actor.film.conditioner)):
        for i, layer in enumerate(m for m in network if isinstance(m, nn.Linear)):
            weights |= {f"{prefix}{i}.weight": layer.weight, f"{prefix}{i}.bias": layer.bias}
    return FilmPolicy({k: v.detach().numpy().copy() for k, v in weights.items()}, low=agent.low, high=agent.high)


def shipped() -> FilmPolicy:
    """The kit's own policy, made by `python -m kit.sim2real.people.film FOLDER`; its `card` says what it does."""
    return checkpoints.load("quad")


def make_shipped(folder: str, *, seed: int = 0) -> None:
    """Train for as long as the study, c also retuned in flight, and save with what it passes at five thrust limits."""
    cfg, limits = Config(retune=0.2), tuple(np.linspace(*quad.LIMITS, 5))
    policy = export(run(train(cfg, seed=seed)))
    passed = quad.gates_passed(policy, limits, seed=1).mean(axis=1)
    facts = {f"{limit:g}": round(float(n), 2) for limit, n in zip(limits, passed, strict=True)}
    how = {"method": "ppo with FiLM", "seed": seed, "retune": cfg.retune, "total_steps": cfg.ppo.total_steps}
    checkpoints.save(policy, folder, kind="film", **how, gates_passed_in_10_s=facts)


if __name__ == "__main__":
    make_shipped(sys.argv[1])
