"""Training of a network that has a loss: AdamW, a warm-up, a cosine, a moving average, and a state that resumes.

    learning rate of update n:   min(1, (n + 1) / warm_up) (1 + cos(pi n / steps)) / 2

Look first at `Fit.step`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from kit import runtime
from kit.diffusion.nets import Ema
from kit.types import Metrics

Loss = Callable[[int, np.random.Generator, torch.Generator], torch.Tensor]  # (batch size, rows, noise) -> ()


@dataclass(frozen=True)
class FitConfig:
    """Settings of a training; small networks, a few minutes on one core."""

    steps: int = 5000  # updates
    batch_size: int = 128  # windows in an update
    learning_rate: float = 1e-3  # of AdamW, at its highest
    weight_decay: float = 1e-6
    warm_up: int = 100  # updates until the highest learning rate
    cosine: bool = True  # the learning rate falls to 0 towards the end
    ema: float = 0.995  # highest decay of the average that acts [an update]
    ema_warm_up: str = "power"  # one of kit.diffusion.nets.WARM_UPS
    clip: float = 1.0  # largest norm of the gradient

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size) < 1 or not self.learning_rate > 0:
            raise ValueError(
                f"steps is {self.steps}, batch_size {self.batch_size}, learning_rate {self.learning_rate}; all must be "
                "positive"
            )
        if not self.clip > 0:
            raise ValueError(f"clip is {self.clip}; the largest norm of a gradient is positive (math.inf: no limit)")


def rate(update: int, cfg: FitConfig) -> float:
    """The share of the learning rate that an update, counted from 0, gets."""
    fall = (1 + math.cos(math.pi * update / cfg.steps)) / 2 if cfg.cosine else 1.0
    return min(1.0, (update + 1) / max(cfg.warm_up, 1)) * fall


class Fit:
    """A network in training; `ema.module` is what acts. `state_dict` holds all that the next update depends on.

    `loss(batch_size, rng, generator)` draws its rows from `rng` and its noise from `generator`, a CPU one.
    """

    def __init__(self, network: nn.Module, loss: Loss, cfg: FitConfig, *, seed: int):
        self.network, self.loss, self.cfg = network, loss, cfg
        self.rng, self.generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=cfg.learning_rate, weight_decay=cfg.weight_decay, fused=True
        )
        self.ema = Ema(network, cfg.ema, cfg.ema_warm_up)
        self.updates = 0

    def step(self) -> float:
        """One update; returns the loss.

        Raises:
            FloatingPointError: the loss or its gradient is not finite; the weights are as before.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.cfg.learning_rate * rate(self.updates, self.cfg)
        loss = self.loss(self.cfg.batch_size, self.rng, self.generator)
        if not math.isfinite(value := loss.item()):
            raise FloatingPointError(f"the loss of update {self.updates} is {value}; lower the learning rate")
        self.optimiser.zero_grad()
        loss.backward()
        if not nn.utils.clip_grad_norm_(self.network.parameters(), self.cfg.clip).isfinite():
            raise FloatingPointError(f"the gradient of update {self.updates} is not finite; lower the learning rate")
        self.optimiser.step()
        self.ema.update()
        self.updates += 1
        return value

    def run(self, agent: Any, *, every: int = 20) -> Iterator[Metrics]:
        """Train to the end, from wherever this is; yields the mean loss of each `every` updates, with the agent."""
        runtime.one_thread()
        while self.updates < self.cfg.steps:
            n = min(every, self.cfg.steps - self.updates)
            loss = sum(self.step() for _ in range(n)) / n
            yield Metrics({"step": self.updates, "loss": loss, "progress": self.updates / self.cfg.steps}, agent=agent)

    def state_dict(self) -> dict[str, Any]:
        return copy.deepcopy({
            "network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(),
            "ema": self.ema.state_dict(), "updates": self.updates,
            "rows": self.rng.bit_generator.state, "noise": self.generator.get_state(),
        })  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        state = copy.deepcopy(dict(state))  # an optimiser would keep the very tensors that it is given
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.ema.load_state_dict(state["ema"])
        self.updates, self.rng.bit_generator.state = state["updates"], state["rows"]
        self.generator.set_state(state["noise"])
