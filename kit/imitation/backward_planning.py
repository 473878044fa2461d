"""Plan from the goal back: where does this end, what lies halfway there, and halfway to that? (LBP, Liu et al. 2025)

Liu et al. 2025, "Efficient Robotic Policy Learning via Latent Space Backward Planning".

    w_0 = f_g(z_t, l)              ~ z_H                             the end of the episode, from state and instruction
    w_i = f_w(z_t, w_{i-1}, l)     ~ z_{t + lambda^i (H - t)}        one network for all levels, i = 1 .. n
    L   = mean_i ||w_i - z||^2;    f_w reads its own w_{i-1}, or by a coin a batch the true one + N(0, sigma^2)
    a   = pi(z_t, l, sum_i softmax_i(q . k_i / sqrt(d)) v_i)         keys and values of the subgoals, q is learnt
    on a straight line w_i = z_t + lambda (w_{i-1} - z_t): an error e of w_0 is lambda^i e in w_i

Backward, each step interpolates and shrinks what went wrong before it; forward, from the nearest subgoal to the end,
each step extrapolates and stretches it by 1 / lambda. Both are here, with the same networks, losses and batches, and
three more (`ORDERS`). Look at `offsets` first, then at `unroll` and `Agent.loss`.

The encoder is left out: a latent z is a row of `data.goals`, here a place, so that plans can be drawn on a map. The
policy is one pass and a squared error; the paper's denoises a chunk of actions, from images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from kit import runtime
from kit.data import Episodes, sample_steps
from kit.diffusion.fit import Fit, FitConfig
from kit.diffusion.nets import seeded
from kit.diffusion.windows import check_scaled
from kit.offline.goals import waves
from kit.types import Metrics

# backward: the end first. forward: the same subgoals, the nearest first. fixed: jumps of equal length, each from where
# the last one landed. parallel: all at once. flat: none, cloning from state and instruction.
ORDERS = ("backward", "forward", "fixed", "parallel", "flat")


@dataclass(frozen=True)
class Config:
    """Settings; the defaults suit a point in a maze."""

    order: str = "backward"  # one of ORDERS
    subgoals: int = 2  # n, beside the end itself; the paper's best
    ratio: float = 0.5  # lambda, the share of the way that is left after each level
    jump: int = 25  # length of a step of the fixed order [steps]
    noise: float = 0.1  # sigma, of true subgoals that f_w reads [half the range of a latent]
    own: float = 0.5  # probability that a batch reads its own predictions instead
    hidden: tuple[int, ...] = (128, 128)  # widths of each network's layers
    frequencies: int = 4  # octaves of sines beside each latent coordinate; walls are sharp, networks smooth
    width: int = 64  # d, of keys and values
    device: str = "cpu"
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=3000, batch_size=256))

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"order is {self.order!r}; it must be one of {', '.join(ORDERS)}")
        if self.subgoals < 0 or self.jump < 1:
            raise ValueError(f"subgoals is {self.subgoals} and jump {self.jump}; need at least 0 and 1")
        if not 0 < self.ratio < 1:
            raise ValueError(f"ratio is {self.ratio}; it lies strictly between 0 and 1, 0.5 halves the way each time")
        if not 0 <= self.own <= 1 or not self.noise >= 0:
            raise ValueError(f"own is {self.own} and noise {self.noise}; need a probability, and at least 0")


# ---- the pieces ---------------------------------------------------------------------------------------------------


def offsets(left: np.ndarray, subgoals: int, ratio: float) -> np.ndarray:
    """Steps from now to the subgoals, (B, n + 1), the end first: lambda^i (H - t) rounded up, from H - t (B,)."""
    return np.ceil(np.asarray(left)[:, None] * ratio ** np.arange(subgoals + 1)).astype(int)


def jumps(left: np.ndarray, n: int, jump: int) -> np.ndarray:
    """Steps from now to where equal jumps land, (B, n), none beyond the end, from H - t (B,)."""
    return np.minimum(np.asarray(left)[:, None], jump * np.arange(1, n + 1))


def unroll(
    first: torch.Tensor, step: Callable[[torch.Tensor], torch.Tensor], n: int, given: torch.Tensor | None = None
) -> torch.Tensor:
    """A chain (B, n + 1, d): `first` (B, d), then each from the one before it, or from the true one, `given`."""
    chain = [first]
    for i in range(n):
        chain.append(step(chain[-1] if given is None else given[:, i]))
    return torch.stack(chain, dim=1)


def attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of one query (d,) over keys and values (B, n, d): the answers (B, d) and the weights (B, n)."""
    weights = (keys @ query / math.sqrt(len(query))).softmax(dim=1)
    return (weights[:, :, None] * values).sum(dim=1), weights


def mlp(size: int, hidden: tuple[int, ...], out: int) -> nn.Sequential:
    """Linear layers with normalisation and SiLU between them."""
    layers: list[nn.Module] = []
    for n_in, n_out in zip((size, *hidden), hidden, strict=False):
        layers += [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear((size, *hidden)[-1], out))


# ---- state --------------------------------------------------------------------------------------------------------


class Agent(nn.Module):
    """Planner and policy. `predict` is Stable-Baselines3's; an observation is a latent and an instruction side by side.

    Inside, latents are scaled to -1..1. A plan (B, n + 1, d) has the end in its first row and the nearest subgoal in
    its last one, in every order but `fixed`, where it has the first n + 1 jumps.
    """

    def __init__(self, data: Episodes, cfg: Config, *, seed: int):
        super().__init__()
        check(data)
        self.cfg, self.size, self.words = cfg, data.goals.shape[1], data.obs_dim - data.goals.shape[1]
        middle, half = (data.goals.max(axis=0) + data.goals.min(axis=0)) / 2, np.ptp(data.goals, axis=0) / 2
        self.register_buffer("middle", torch.from_numpy(middle))
        self.register_buffer("scale", torch.from_numpy(np.where(half > 1e-7, half, 1).astype(np.float32)))
        seen, levels = self.size * (1 + 2 * cfg.frequencies), cfg.subgoals + 1
        with seeded(seed):
            out = self.size * (levels if cfg.order == "parallel" else 1)
            self.first = mlp(seen + self.words, cfg.hidden, out) if cfg.order != "flat" else None
            chained = cfg.order in ("backward", "forward") and cfg.subgoals
            self.between = mlp(2 * seen + self.words, cfg.hidden, self.size) if chained else None
            self.level = nn.Parameter(0.1 * torch.randn(levels, cfg.width))
            self.query = nn.Parameter(torch.randn(cfg.width))
            self.token = nn.Linear(seen + self.size, 2 * cfg.width) if cfg.order != "flat" else None
            asked = cfg.width if cfg.order != "flat" else 0
            self.policy = mlp(seen + self.words + asked, cfg.hidden, data.act_dim)
        self.to(cfg.device)

    def read(self, z: torch.Tensor, words: torch.Tensor, w: torch.Tensor | None = None) -> torch.Tensor:
        """What a network sees of latents (B, d), instructions (B, l) and subgoals (B, d)."""
        parts = [waves(z, self.cfg.frequencies), words]
        return torch.cat(parts if w is None else [*parts, waves(w, self.cfg.frequencies)], dim=-1)

    def plan(self, z: torch.Tensor, words: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        """The plan (B, n + 1, d) from latents (B, d) and instructions (B, l). `given` (B, n + 1, d) are subgoals to
        read instead of its own, in the order in which they are predicted."""
        n, first = self.cfg.subgoals, self.first(self.read(z, words))
        if self.cfg.order == "parallel":
            return first.unflatten(1, (n + 1, self.size))
        if self.cfg.order == "fixed":
            return unroll(first, lambda w: self.first(self.read(w, words)), n, given)
        chain = unroll(first, lambda w: self.between(self.read(z, words, w)), n, given)
        return chain.flip(1) if self.cfg.order == "forward" else chain

    def act(self, z: torch.Tensor, words: torch.Tensor, plan: torch.Tensor | None) -> torch.Tensor:
        """Actions (B, act_dim) on the way of a plan."""
        if plan is None:
            return self.policy(self.read(z, words))
        seen = torch.cat([waves(plan, self.cfg.frequencies), plan - z[:, None]], dim=-1)
        keys, values = (self.token(seen) + torch.cat([self.level, self.level], dim=-1)).chunk(2, dim=-1)
        return self.policy(torch.cat([self.read(z, words), attend(self.query, keys, values)[0]], dim=-1))

    def ahead(self, left: np.ndarray) -> np.ndarray:
        """How many steps ahead a plan's rows lie, (B, n + 1), with H - t (B,) steps left."""
        n, cfg = self.cfg.subgoals, self.cfg
        return jumps(left, n + 1, cfg.jump) if cfg.order == "fixed" else offsets(left, n, cfg.ratio)

    def split(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled latents (B, d) and instructions (B, l) of observations (B, d + l)."""
        z, words = observations.to(self.middle.device).split([self.size, self.words], dim=-1)
        return (z - self.middle) / self.scale, words

    def loss(
        self, observations: torch.Tensor, targets: torch.Tensor, actions: torch.Tensor, given: torch.Tensor | None
    ) -> torch.Tensor:
        """The planner's squared error and the policy's, whose gradient stops at the plan, (): of observations
        (B, d + l), scaled true subgoals (B, n + 1, d), actions (B, act_dim); `given` as for `plan`."""
        z, words = self.split(observations)
        if self.cfg.order == "flat":
            return (self.act(z, words, None) - actions).square().mean()
        plan = self.plan(z, words, given)
        with torch.no_grad():
            own = plan if given is None else self.plan(z, words)
        return (plan - targets).square().mean() + (self.act(z, words, own.detach()) - actions).square().mean()

    @torch.no_grad()
    def subgoals(self, observations: np.ndarray) -> np.ndarray:
        """The plans of observations (d + l,) or (n, d + l) in their own units, (subgoals + 1, d) or (n, ...).

        Raises:
            ValueError: the agent is flat, or an observation has another size.
        """
        if self.cfg.order == "flat":
            raise ValueError("a flat agent makes no plans; train it with another order")
        obs = self._check(observations)
        plan = self.plan(*self.split(obs.reshape(-1, obs.shape[-1]))) * self.scale + self.middle
        return plan.reshape(*obs.shape[:-1], *plan.shape[1:]).cpu().numpy()

    @torch.no_grad()
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """Actions clipped to -1..1; a plan is made anew at every step."""
        obs = self._check(observation)
        z, words = self.split(obs.reshape(-1, obs.shape[-1]))
        action = self.act(z, words, None if self.cfg.order == "flat" else self.plan(z, words))
        return action.clamp(-1, 1).reshape(*obs.shape[:-1], -1).cpu().numpy(), state

    def _check(self, observation: np.ndarray) -> torch.Tensor:
        obs = torch.as_tensor(np.asarray(observation), dtype=torch.float32)
        size = self.size + self.words
        if obs.shape[-1:] != (size,) or obs.ndim > 2:
            raise ValueError(
                f"observation has shape {tuple(obs.shape)}; state and instruction are ({size},) or (n, {size})"
            )
        if not obs.isfinite().all():
            raise ValueError("the observation is not finite; find out which sensor says so before acting on it")
        return obs


def check(data: Episodes) -> None:
    """
    Raises:
        ValueError: the dataset has no goals, its observations do not begin with them, or actions leave -1..1.
    """
    data.require(goal_dim=0)
    size = data.goals.shape[1]
    if size > data.obs_dim or not np.array_equal(data.observations[:, :size], data.goals):
        raise ValueError(
            f"the first {size} columns of the observations are not the goals; put latents first, then instructions"
        )
    check_scaled(torch.from_numpy(data.actions), "actions")


# ---- training -----------------------------------------------------------------------------------------------------


class Learner(Fit):
    """A network in training with its data; `agent` is its moving average, which acts."""

    def __init__(self, data: Episodes, cfg: Config, *, seed: int):
        super().__init__(Agent(data, cfg, seed=seed), self.batch_loss, cfg.fit, seed=seed)
        self.data = data
        self.observations, self.actions = (
            torch.from_numpy(x).to(cfg.device) for x in (data.observations, data.actions)
        )
        self.latents = self.network.split(self.observations)[0]

    @property
    def agent(self) -> Agent:
        return self.ema.module

    def batch_loss(self, n: int, rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
        """The loss of n rows drawn from `rng`; the coin and the noise come from `generator`."""
        net, cfg = self.network, self.network.cfg
        rows = sample_steps(self.data, n, rng)
        later = rows[:, None] + net.ahead(self.data.last[rows] - rows)
        targets = self.latents[later]
        given = targets.flip(1) if cfg.order == "forward" else targets
        given = given + cfg.noise * torch.randn(given.shape, generator=generator).to(given.device)
        own = torch.rand((), generator=generator).item() < cfg.own
        return net.loss(self.observations[rows], targets, self.actions[rows], None if own else given)


def train(data: Episodes, cfg: Config, *, seed: int, every: int = 20) -> Iterator[Metrics]:
    """Learn planner and policy together; yields after every `every` updates. The agent is an `Agent`.

    An episode is one task that ends where its instruction says; observations begin with the latents, which are also the
    goals, and go on with the instruction.

    Raises:
        ValueError: the dataset has no goals, or its observations do not begin with them.
    """
    runtime.one_thread()
    learner = Learner(data, cfg, seed=seed)
    yield from learner.run(learner.agent, every=every)
