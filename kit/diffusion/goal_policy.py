"""Acting with a denoiser that reads a window of states and actions, and a goal: one action a step, drawn in a few.

    x        a_1 .. a_k-1 as they were carried out, a_k ~ N(0, sigma_max^2)                         the start
    levels   sigma_max > .. > sigma_min > 0, all slots together; the last one's action is carried out
    guided   D = D_0 + lambda (D_g - D_0), both as rows of one call

Rows of a batch are at different steps of their episodes: each has its own number of filled slots, and what stands in
later slots is not seen, since the network is causal. Look first at `lay`, then at `GoalPolicy.predict`.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kit.diffusion import samplers, schedules
from kit.diffusion.goals import Kind, check_goal
from kit.diffusion.guidance import CFG
from kit.diffusion.precond import EDM
from kit.diffusion.windows import MinMax

Memory = tuple[np.ndarray, ...]
OBSERVED = "observed"  # the goal is the end of the observation


@dataclass(frozen=True)
class Sampling:
    """How an action is drawn; the defaults are the paper's for pushing blocks."""

    steps: int = 3  # levels on the way, and calls of the network
    method: str = "ddim"  # one of kit.diffusion.samplers.METHODS
    schedule: str = "linear"  # one of kit.diffusion.schedules.NAMES
    sigma_min: float = 0.1  # last level before 0 [scaled actions]
    sigma_max: float = 1.0  # first level [scaled actions]
    guidance: float = 2.0  # lambda: 0 ignores the goal, 1 follows it, above 1 overdoes it


def levels(how: Sampling, sigma_min: float, sigma_max: float) -> torch.Tensor:
    """The noise levels (steps + 1,) to visit, by a network that was trained from `sigma_min` to `sigma_max`.

    Raises:
        ValueError: an unknown sampler or schedule, no step, levels that were not trained, or endless guidance.
    """
    if how.method not in samplers.METHODS:
        raise ValueError(f"unknown sampler {how.method!r}; there are {', '.join(samplers.METHODS)}")
    sigmas = schedules.make(how.schedule, how.steps, how.sigma_min, how.sigma_max)
    if not sigma_min <= how.sigma_min < how.sigma_max <= sigma_max:
        raise ValueError(
            f"sampling from sigma {how.sigma_max} to {how.sigma_min} leaves what the network was trained for, "
            f"{sigma_min} to {sigma_max}; choose levels inside"
        )
    if not math.isfinite(how.guidance):
        raise ValueError(f"guidance is {how.guidance}; it must be finite: 0 ignores the goal, 1 follows it")
    return sigmas


# ---- the pieces ---------------------------------------------------------------------------------------------------


def slide(window: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """Windows (n, k, d) with room for one more row: those whose k slots are all filled, by `filled` (n,), lose their
    oldest."""
    full = (filled == window.shape[1])[:, None, None]
    return np.where(full, np.roll(window, -1, axis=1), window)


def lay(past: torch.Tensor, now: torch.Tensor, noise: torch.Tensor, sigma_max: float) -> torch.Tensor:
    """What sampling starts from (n, k, act_dim): past actions in the slots before `now` (n,), noise (n, act_dim) at
    `sigma_max` in it, and nothing after it."""
    slots = torch.arange(past.shape[1], device=past.device)
    here, before = (slots == now[:, None])[..., None], (slots < now[:, None])[..., None]
    return torch.where(here, sigma_max * noise[:, None], torch.where(before, past, 0.0))


def without_goal(cond: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same conditions with no goal in any row."""
    return cond | {"free": torch.ones_like(cond["free"])}


# ---- state --------------------------------------------------------------------------------------------------------


class GoalPolicy:
    """Stable-Baselines3's `predict` around `net(x (B, k, act_dim), time, cond)`; `cfg` is the method's.

    An observation is [state, goal] side by side; of `agent.ask(goal)` it is the state alone. The window is in `state`:
    the last k states (n, k, obs_dim) and actions (n, k, act_dim), scaled, oldest first, and how many of the k slots are
    filled (n,).
    """

    def __init__(self, net: torch.nn.Module, cfg: Any, scalers: dict[str, MinMax], *, seed: int = 0):
        self.net, self.cfg, self.scalers = net, cfg, scalers
        self.denoiser, self.sampling, self.rng = EDM(net, cfg.sigma_data), cfg.sampling, np.random.default_rng(seed)
        self.goal: torch.Tensor | str | None = OBSERVED
        self.callback: samplers.Callback | None = None  # sees each call's input and answer, (n, k, act_dim)
        self.card: dict[str, Any] = {}

    @property
    def kind(self) -> Kind:
        return self.net.goal.kind()

    @property
    def goal_size(self) -> int:
        return self.kind.tokens * self.kind.size

    @property
    def state_size(self) -> int:
        return self.net.state.in_features

    @property
    def obs_dim(self) -> int:
        return self.state_size + (self.goal_size if isinstance(self.goal, str) else 0)

    def ask(self, goal: Any) -> GoalPolicy:
        """The same network asked for a goal: one for all rows, `kind.shape`, or one a row, (n, *kind.shape), or None,
        for nothing at all.

        Raises:
            ValueError: a goal of the wrong kind.
        """
        other = copy.copy(self)
        other.goal = None
        if goal is not None:
            rows = torch.as_tensor(np.asarray(goal, np.float32))
            other.goal = self.read(rows[None] if rows.shape == self.kind.shape else rows)
        return other

    def using(self, *, seed: int | None = None, **sampling: Any) -> GoalPolicy:
        """The same network with other `Sampling`; `seed` begins new random numbers.

        Raises:
            ValueError: an unknown sampler or schedule, no step, or levels that were not trained.
        """
        other = copy.copy(self)
        other.sampling = dataclasses.replace(self.sampling, **sampling)
        levels(other.sampling, self.cfg.sigma_min, self.cfg.sigma_max)
        if seed is not None:
            other.rng = np.random.default_rng(seed)
        return other

    def read(self, goal: torch.Tensor) -> torch.Tensor:
        """Goals (n, *kind.shape), or flat, as the network gets them: scaled and flat."""
        points = check_goal(self.kind, goal)
        return (self.scalers["goal"].scale(points) if "goal" in self.scalers else points).flatten(1)

    def predict(
        self,
        observation: Any,
        state: Memory | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Memory]:
        """Actions (act_dim,) or (n, act_dim) for observations (obs_dim,) or (n, obs_dim).

        With `deterministic` every step of a row starts from the same noise.

        Raises:
            ValueError: an observation of another size or with NaN, a goal of the wrong kind or number, or a state of
                another batch.
        """
        obs = np.asarray(observation, np.float32)
        if obs.shape[-1:] != (self.obs_dim,) or obs.ndim > 2:
            raise ValueError(
                f"observation has shape {obs.shape}; this policy takes ({self.obs_dim},) or (n, {self.obs_dim})"
            )
        rows = obs.reshape(-1, self.obs_dim)
        goal, seen = self._split(rows)
        if not np.isfinite(seen).all():
            raise ValueError("the observation is not finite; find out which sensor says so before acting on it")
        states, actions, filled = self._remember(len(rows), state, episode_start)
        states, actions, now = slide(states, filled), slide(actions, filled), np.minimum(filled, self.cfg.window - 1)
        every = np.arange(len(rows))
        states[every, now] = self.scalers["obs"].scale(seen)
        rng = np.random.default_rng(0) if deterministic else self.rng
        noise = rng.standard_normal((len(rows), actions.shape[2]), dtype=np.float32)
        scaler = self.scalers["action"]
        low, high = scaler.scale(scaler.low), scaler.scale(scaler.high)  # -1 and 1, or 0 for what never changes
        actions[every, now] = np.clip(self.denoise(states, actions, now, goal, noise), low, high)
        action = scaler.unscale(actions[every, now])
        return action.reshape(*obs.shape[:-1], -1), (states, actions, now + 1)

    def _split(self, rows: np.ndarray) -> tuple[torch.Tensor | None, np.ndarray]:
        """Goals (n, numbers), or None, and states (n, state_size) of observations."""
        n = len(rows)
        if self.goal is None:
            return None, rows
        if isinstance(self.goal, str):
            return self.read(torch.from_numpy(rows[:, self.state_size :])), rows[:, : self.state_size]
        if len(self.goal) not in (1, n):
            raise ValueError(f"{len(self.goal)} goals were asked for, and there are {n} observations; give one a row")
        return self.goal.expand(n, -1), rows

    def _remember(
        self, n: int, state: Memory | None, start: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The window so far; empty in rows that start anew."""
        k, act_dim = self.cfg.window, self.net.out.out_features
        if state is None:
            empty = np.zeros((n, k, self.state_size), np.float32), np.zeros((n, k, act_dim), np.float32)
            return *empty, np.zeros(n, int)
        if len(state[2]) != n:
            raise ValueError(f"the state is that of {len(state[2])} rows, and there are {n} observations")
        new = np.zeros(n, bool) if start is None else np.broadcast_to(np.asarray(start, bool), n)
        return tuple(np.where(new.reshape(n, *[1] * (x.ndim - 1)), 0, x).astype(x.dtype) for x in state)

    @torch.no_grad()
    def denoise(
        self, states: np.ndarray, past: np.ndarray, now: np.ndarray, goal: torch.Tensor | None, noise: np.ndarray
    ) -> np.ndarray:
        """Scaled actions (n, act_dim) for slot `now` (n,) of windows (n, k, ...)."""
        n, device, how = len(states), next(self.net.parameters()).device, self.sampling
        free = goal is None
        cond = {
            "obs": torch.from_numpy(states).to(device),
            "goal": (torch.zeros(n, self.goal_size) if free else goal).to(device),
            "free": torch.full((n,), free, device=device),
        }
        guided = self.denoiser if free else CFG(self.denoiser, how.guidance, without_goal)
        slots = torch.from_numpy(now)
        x = lay(torch.from_numpy(past), slots, torch.from_numpy(noise), how.sigma_max).to(device)
        extra = torch.Generator().manual_seed(int(noise.view(np.uint32).sum(dtype=np.uint64) % 2**63))
        sigmas = levels(how, self.cfg.sigma_min, self.cfg.sigma_max)
        keywords = {"method": how.method, "callback": self.callback, "noise": samplers.noise_from(extra)}
        x0 = samplers.sample(guided, x, sigmas, cond, **keywords)
        return x0.cpu().numpy()[np.arange(n), now]
