"""Networks that methods share. Here: the small tanh networks that policies ship as, run in NumPy.

A shipped policy needs no torch: loading it is fast, and one forward pass takes microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Layers = list[tuple[np.ndarray, np.ndarray]]  # weight (out, in) and bias (out,) of each layer


def forward(layers: Layers, h: np.ndarray) -> np.ndarray:
    """A tanh network, linear at its end."""
    for weight, bias in layers[:-1]:
        h = np.tanh(h @ weight.T + bias)
    weight, bias = layers[-1]
    return h @ weight.T + bias


def read_layers(weights: Mapping[str, np.ndarray], prefix: str = "") -> Layers:
    """`0.weight`, `0.bias`, `1.weight`, ... behind the prefix, in order."""
    depth = sum(f"{prefix}{i}.weight" in weights for i in range(len(weights)))
    return [
        (np.asarray(weights[f"{prefix}{i}.weight"]), np.asarray(weights[f"{prefix}{i}.bias"])) for i in range(depth)
    ]


def name_layers(layers: Layers, prefix: str = "") -> dict[str, np.ndarray]:
    return {
        f"{prefix}{i}.{k}": v for i, pair in enumerate(layers) for k, v in zip(("weight", "bias"), pair, strict=True)
    }


class MlpPolicy:
    """A Gaussian policy with a tanh network, following Stable-Baselines3's `predict`.

        h = tanh(W h + b) for each hidden layer,   a = clip(W h + b + exp(log_std) eps, low, high)

    `weights` holds `0.weight` (out, in), `0.bias` (out,), `1.weight`, ... in order, and `log_std` (act_dim,).
    """

    def __init__(self, weights: Mapping[str, np.ndarray], *, low: np.ndarray, high: np.ndarray, seed: int = 0):
        self.layers = read_layers(weights)
        self.log_std = np.asarray(weights["log_std"])
        self.low, self.high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        self.rng = np.random.default_rng(seed)

    @property
    def weights(self) -> dict[str, np.ndarray]:
        return name_layers(self.layers) | {"log_std": self.log_std}

    @property
    def obs_dim(self) -> int:
        return self.layers[0][0].shape[1]

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions (act_dim,) or (n, act_dim) for observations (obs_dim,) or (n, obs_dim); the state is passed through.

        Raises:
            ValueError: the observation's size is not the policy's.
        """
        h = np.asarray(observation, np.float32)
        if h.shape[-1:] != (self.obs_dim,) or h.ndim > 2:
            raise ValueError(
                f"observation has shape {h.shape}; this policy takes ({self.obs_dim},) or (n, {self.obs_dim})"
            )
        action = self.mean(h)
        if not deterministic:
            action = action + np.exp(self.log_std) * self.rng.standard_normal(action.shape, dtype=np.float32)
        return np.clip(action, self.low, self.high), state

    def mean(self, obs: np.ndarray) -> np.ndarray:
        """The Gaussian's mean (..., act_dim), not clipped."""
        return forward(self.layers, obs)

    @classmethod
    def from_sb3(cls, model: Any) -> MlpPolicy:
        """The actor of a Stable-Baselines3 PPO or A2C model with tanh layers and a Box action space."""
        import torch

        policy = model.policy
        if not hasattr(policy, "mlp_extractor"):
            raise ValueError(f"cannot export a {type(model).__name__} policy; only PPO's and A2C's")
        modules = [*policy.mlp_extractor.policy_net, policy.action_net]
        linear = [m for m in modules if isinstance(m, torch.nn.Linear)]
        others = {type(m).__name__ for m in modules} - {"Linear", "Tanh"}
        if others:
            raise ValueError(f"cannot export a policy with {', '.join(sorted(others))} layers; only tanh networks")
        weights = {"log_std": policy.log_std.detach().numpy().copy()}
        for i, layer in enumerate(linear):
            weights |= {
                f"{i}.weight": layer.weight.detach().numpy().copy(),
                f"{i}.bias": layer.bias.detach().numpy().copy(),
            }
        return cls(weights, low=model.action_space.low, high=model.action_space.high)


class FilmPolicy(MlpPolicy):
    """A tanh policy whose first hidden layer is modulated by c, the last numbers of an observation (FiLM).

        h = (1 + gamma(c)) tanh(W h + b) + beta(c)

    `weights` also holds the network from c to (gamma, beta), `film.0.weight`, `film.0.bias`, ...
    """

    def __init__(self, weights: Mapping[str, np.ndarray], *, low: np.ndarray, high: np.ndarray, seed: int = 0):
        super().__init__(weights, low=low, high=high, seed=seed)
        self.film = read_layers(weights, "film.")

    @property
    def weights(self) -> dict[str, np.ndarray]:
        return super().weights | name_layers(self.film, "film.")

    @property
    def c_dim(self) -> int:
        return self.film[0][0].shape[1]

    @property
    def obs_dim(self) -> int:
        return super().obs_dim + self.c_dim

    def mean(self, obs: np.ndarray) -> np.ndarray:
        rest, c = obs[..., : -self.c_dim], obs[..., -self.c_dim :]
        gamma, beta = np.split(forward(self.film, c), 2, axis=-1)
        weight, bias = self.layers[0]
        return forward(self.layers[1:], (1 + gamma) * np.tanh(rest @ weight.T + bias) + beta)
