"""Skills as vectors: how they are drawn, checked, and put behind an observation.

    discrete:    z = e_k, k uniform on 1..K                (DIAYN)
    continuous:  z = x / |x|, x ~ N(0, I)                  (LSD, CSD, METRA): uniform on the sphere

and the reward that the continuous methods share, the progress in latent space along z,

    r(s, z, s') = (phi(s') - phi(s)) . z

They differ only in what keeps phi from growing. Look first at `directional_reward`.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

NORM_TOLERANCE = 1e-3  # relative; float32 keeps a norm to 1e-6


def check_skill(z: Any, dim: int, norm: float = 1.0) -> np.ndarray:
    """The skill or skills as float32, (dim,) or (n, dim).

    Raises:
        ValueError: its last axis is not `dim`, or a norm is not `norm`; the message names both.
    """
    z = np.asarray(z, np.float32)
    if z.ndim not in (1, 2) or z.shape[-1] != dim:
        raise ValueError(f"skill has shape {z.shape}; this policy takes ({dim},) or (n, {dim})")
    found = np.atleast_1d(np.linalg.norm(z, axis=-1))
    wrong = ~(np.abs(found - norm) <= NORM_TOLERANCE * max(norm, 1e-9))  # NaN is wrong too
    if dim and wrong.any():
        i = int(np.argmax(wrong))
        at = f" {i}" if z.ndim == 2 else ""
        raise ValueError(f"skill{at} has norm {found[i]:.4g}; this policy takes norm {norm:.4g}: scale z to it")
    return z


class Learned:
    """What a method has learned, piece by piece: `parts` names modules and optimisers."""

    norm = 1.0  # of a skill

    def parts(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        """A copy: what is learned afterwards does not change it."""
        return copy.deepcopy({name: part.state_dict() for name, part in self.parts().items()})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(
                copy.deepcopy(state[name])
            )  # an optimiser would keep the very tensors that it is given


def one_hot(n: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """n of k discrete skills, uniform, as rows of the identity: (n, k)."""
    return np.eye(k, dtype=np.float32)[rng.integers(k, size=n)]


def sphere(n: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """n unit vectors (n, dim), uniform over directions."""
    x = rng.standard_normal((n, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def circle(n: int) -> np.ndarray:
    """n unit vectors (n, 2) at even angles, the first along x: the skills of a fan."""
    angle = 2 * math.pi * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def directional_reward(phi: Any, phi2: Any, z: Any) -> Any:
    """(phi(s') - phi(s)) . z, (n,), from embeddings (n, dim) of s and s' and skills (n, dim); tensors or arrays."""
    return ((phi2 - phi) * z).sum(-1)


def network(sizes: Iterable[int], generator: Any, *, wrap: Callable[[Any], Any] = lambda layer: layer) -> Any:
    """A ReLU network as a `torch.nn.Sequential`, its weights drawn from `generator`, each linear layer in a `wrap`."""
    import torch

    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layer = torch.nn.Linear(n_in, n_out)
        with torch.no_grad():
            for p in layer.parameters():
                p.uniform_(-(n_in**-0.5), n_in**-0.5, generator=generator)
        layers += [wrap(layer), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])
