"""The networks of the wing, called as `net(x, time (B,), cond)`: a residual MLP, a 1-D U-Net; and a transformer.

    residual MLP   h <- h + W2 silu(W1 norm(h) + E e)         e = embedding of time and condition
    U-Net          h <- conv(h),  then  scale(e) h + shift(e)     FiLM; Janner et al. 2022, Chi et al. 2023
    transformer    h <- h + attention(norm(h)),  h <- h + mlp(norm(h))     pre-norm, as GPT-2
    EMA            average <- d average + (1 - d) weights,    d rises with the number of updates

A time is what a denoiser hands on (c_noise, a training step, or t), `time_scale` brings it to about 0..100. Weights are
drawn under `seeded`, which leaves PyTorch's own generator as it was. Look first at `ResidualMLP`.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Networks made inside have the weights of a seed; the process's generator goes on as if nothing had happened."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def sines(time: torch.Tensor, size: int) -> torch.Tensor:
    """Sines and cosines of times (...) at `size` / 2 frequencies from 1 down to 1e-4: (..., size)."""
    frequencies = torch.exp(-math.log(1e4) * torch.linspace(0, 1, size // 2, device=time.device, dtype=time.dtype))
    angles = time[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Embedding(nn.Module):
    """Time and condition as one vector e (B, width). The condition's half does not change from step to step."""

    def __init__(self, cond_size: int, width: int, time_scale: float):
        super().__init__()
        if width % 2:
            raise ValueError(f"width is {width}; half of a time's numbers are sines and half cosines: take an even one")
        self.time_scale, self.width = time_scale, width
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.cond = nn.Linear(cond_size, width) if cond_size else None

    def forward(self, time: torch.Tensor, cond: torch.Tensor | None) -> torch.Tensor:
        """
        Raises:
            ValueError: a condition is missing, of another size, or not wanted.
        """
        wanted = 0 if self.cond is None else self.cond.in_features
        if (0 if cond is None else cond.shape[-1]) != wanted:
            raise ValueError(
                f"the condition is {None if cond is None else tuple(cond.shape)}; this takes {wanted} numbers"
            )
        e = self.time(sines(self.time_scale * time, self.width))
        return e if cond is None else e + self.cond(cond)


class ResidualMLP(nn.Module):
    """x (B, size), or (B, T, d) with T d = size, to the same shape."""

    def __init__(self, size: int, cond_size: int = 0, *, width: int = 256, blocks: int = 3, time_scale: float = 1.0):
        super().__init__()
        self.size = size
        self.embedding = Embedding(cond_size, width, time_scale)
        self.first = nn.Linear(size, width)
        self.blocks = nn.ModuleList(MLPBlock(width) for _ in range(blocks))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, size))

    def forward(self, x: torch.Tensor, time: torch.Tensor, cond: torch.Tensor | None = None) -> torch.Tensor:
        if math.prod(x.shape[1:]) != self.size:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; this network takes (B, {self.size}), or its like in chunks"
            )
        e = self.embedding(time, cond)
        h = self.first(x.flatten(1)) + e
        for block in self.blocks:
            h = block(h, e)
        return self.last(h).view_as(x)


class MLPBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm, self.up = nn.LayerNorm(width), nn.Linear(width, width)
        self.shift, self.down = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, h: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        return h + self.down(F.silu(self.up(self.norm(h)) + self.shift(e)))


# ---- U-Net ------------------------------------------------------------------------------------------------------


class UNet1d(nn.Module):
    """Chunks x (B, T, size) to the same shape: convolutions along T, which must be divisible by 2^(levels - 1)."""

    def __init__(
        self,
        size: int,
        cond_size: int = 0,
        *,
        widths: Sequence[int] = (32, 64, 128),
        kernel: int = 5,
        groups: int = 8,
        time_scale: float = 1.0,
    ):
        super().__init__()
        self.divisor = 2 ** (len(widths) - 1)
        width = widths[-1]
        self.embedding = Embedding(cond_size, width, time_scale)
        pairs = list(zip([size, *widths[:-1]], widths, strict=True))

        def two(channels: int, out: int) -> nn.ModuleList:
            return nn.ModuleList(
                [ConvBlock(channels, out, width, kernel, groups), ConvBlock(out, out, width, kernel, groups)]
            )

        self.down = nn.ModuleList(two(a, b) for a, b in pairs)
        self.shrink = nn.ModuleList(nn.Conv1d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        self.middle = two(width, width)
        self.up = nn.ModuleList(two(2 * b, a) for a, b in reversed(pairs[1:]))
        self.grow = nn.ModuleList(nn.ConvTranspose1d(w, w, 4, stride=2, padding=1) for w in reversed(widths[:-1]))
        self.last = nn.Sequential(
            nn.Conv1d(widths[0], widths[0], kernel, padding=kernel // 2), nn.GroupNorm(groups, widths[0]), nn.SiLU(),
            nn.Conv1d(widths[0], size, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor, time: torch.Tensor, cond: torch.Tensor | None = None) -> torch.Tensor:
        if x.shape[1] % self.divisor:
            raise ValueError(f"the chunk has {x.shape[1]} steps; this U-Net takes multiples of {self.divisor}")
        e, h, kept = self.embedding(time, cond), x.transpose(1, 2), []
        for level, (first, second) in enumerate(self.down):
            h = second(first(h, e), e)
            kept.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        for block in self.middle:
            h = block(h, e)
        for (first, second), grow in zip(self.up, self.grow, strict=True):
            h = grow(second(first(torch.cat([h, kept.pop()], dim=1), e), e))
        return self.last(h).transpose(1, 2)


class ConvBlock(nn.Module):
    """Two convolutions with FiLM between them, and a way past both."""

    def __init__(self, channels: int, out: int, cond_size: int, kernel: int, groups: int):
        super().__init__()
        self.one = nn.Conv1d(channels, out, kernel, padding=kernel // 2)
        self.two = nn.Conv1d(out, out, kernel, padding=kernel // 2)
        self.norm_one, self.norm_two = nn.GroupNorm(groups, out), nn.GroupNorm(groups, out)
        self.film = nn.Linear(cond_size, 2 * out)
        self.past = nn.Conv1d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, h: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        scale, shift = self.film(F.silu(e))[..., None].chunk(2, dim=1)
        inner = (1 + scale) * F.silu(self.norm_one(self.one(h))) + shift
        return F.silu(self.norm_two(self.two(inner))) + self.past(h)


# ---- transformer ------------------------------------------------------------------------------------------------


class Transformer(nn.Module):
    """Tokens (B, L, width) to the same shape, L at most `length`; a causal one lets no token see later ones."""

    def __init__(self, width: int, *, layers: int, heads: int, length: int, causal: bool = True):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} does not divide into {heads} heads")
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.ModuleList(Layer(width, heads, causal) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.shape[1] > len(self.position):
            raise ValueError(f"there are {tokens.shape[1]} tokens; this transformer was made for {len(self.position)}")
        h = tokens + self.position[: tokens.shape[1]]
        for layer in self.layers:
            h = layer(h)
        return self.norm(h)


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm_one, self.norm_two = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm_one(h)).chunk(3, 2)
        )
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        h = h + self.out(seen.transpose(1, 2).flatten(2))
        return h + self.mlp(self.norm_two(h))


# ---- exponential moving average ---------------------------------------------------------------------------------

WARM_UPS = {
    "ratio": lambda n: (1 + n) / (10 + n),  # BESO
    "power": lambda n: 1 - (1 + n) ** -0.75,  # Diffusion Policy
}


class Ema:
    """The moving average of a network's weights, `module`, which is what acts.

    Raises:
        ValueError: a decay outside [0, 1), or an unknown warm-up.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999, warm_up: str = "ratio"):
        if not 0 <= decay < 1 or warm_up not in WARM_UPS:
            raise ValueError(f"decay is {decay} with warm-up {warm_up!r}; give [0, 1) and one of {', '.join(WARM_UPS)}")
        self.network, self.decay, self.warm_up, self.updates = network, decay, warm_up, 0
        self.module = copy.deepcopy(network).requires_grad_(False).eval()

    def update(self) -> None:
        decay = min(self.decay, WARM_UPS[self.warm_up](self.updates))
        self.updates += 1
        with torch.no_grad():
            torch._foreach_lerp_(list(self.module.parameters()), list(self.network.parameters()), 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {"module": self.module.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self.updates = state["updates"]
