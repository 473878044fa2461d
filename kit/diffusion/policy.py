"""Diffusion Policy: a denoiser of action chunks, given the last observations (Chi et al. 2023).

    train    x_k = sqrt(ab_k) x_0 + sqrt(1 - ab_k) e,  k ~ U{0 .. T - 1}:   min  E |f(x_k, k, O) - x_0|^2  or  |f - e|^2
    draw     x0 = clip(f), or clip((x - sqrt(1 - ab) f) / sqrt(ab));   e = (x - sqrt(ab) x0) / sqrt(1 - ab)
             x <- sqrt(ab') x0 + sqrt(1 - ab' - s^2) e + s z       s = 0: DDIM, in n steps;  DDPM: all T steps, s > 0
    act      carry out chunk[To - 1 .. To - 2 + Ta] of the Tp actions, look again, draw again (receding horizon)

x_0 is a chunk of Tp actions scaled to [-1, 1], O the last To observations, ab (alpha bar) the squared-cosine schedule.
Where demonstrations go left or right, the mean of both is neither; a sample is one of them. The paper's network
predicts the noise e. Its error grows by sqrt(1 - ab) / sqrt(ab) on the way to x0, and most where left and right part:
to predict x_0 (`sample` in the paper's code) takes far fewer updates, and is the default here. Look first at `loss`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from kit.data import Episodes
from kit.diffusion import schedules
from kit.diffusion.chunks import ChunkPolicy
from kit.diffusion.fit import Fit, FitConfig
from kit.diffusion.nets import ResidualMLP, Transformer, UNet1d, seeded, sines
from kit.diffusion.precond import Network
from kit.diffusion.windows import MinMax, Window, Windows, check_scaled
from kit.types import Metrics

NETWORKS = ("mlp", "unet", "transformer")
SAMPLERS = ("ddim", "ddpm")
TARGETS = ("clean", "noise")


@dataclass(frozen=True)
class Config:
    """Settings; the paper's, with networks fit for one core."""

    obs_steps: int = 2  # To, observations that a plan sees
    horizon: int = 16  # Tp, actions in a chunk
    execute: int = 8  # Ta, actions carried out of a chunk
    network: str = "mlp"  # one of NETWORKS
    width: int = 256  # of the MLP's or the transformer's layers
    layers: int = 3  # blocks of the MLP, or layers of the transformer
    heads: int = 4  # of the transformer
    widths: tuple[int, ...] = (32, 64, 128)  # channels of the U-Net, level by level
    target: str = "clean"  # one of TARGETS, what the network predicts: x_0, or the noise e, as in the paper
    noise_steps: int = 100  # T, noise levels in training
    sampler: str = "ddim"  # one of SAMPLERS; DDPM takes all T steps
    sample_steps: int = 8  # of DDIM; calls of the network for a chunk
    clip: float = 1.0  # largest x0 in each step [scaled actions]
    device: str = "cpu"  # of torch
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        for name, known in (("sampler", SAMPLERS), ("target", TARGETS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; there are {', '.join(known)}")
        schedules.spaced(self.noise_steps, self.sample_steps)
        check_network(self)


def check_network(cfg: Any) -> None:
    """
    Raises:
        ValueError: settings of a network or of its actions that cannot be met.
    """
    if cfg.network not in NETWORKS:
        raise ValueError(f"network is {cfg.network!r}; there are {', '.join(NETWORKS)}")
    if not cfg.clip > 0:
        raise ValueError(f"clip is {cfg.clip}; actions are scaled to [-1, 1], and 1 cuts nothing off")
    divisor = 2 ** (len(cfg.widths) - 1)
    if cfg.network == "unet" and cfg.horizon % divisor:
        raise ValueError(f"horizon is {cfg.horizon}; a U-Net of {len(cfg.widths)} levels takes multiples of {divisor}")


# ---- the pieces -------------------------------------------------------------------------------------------------


def add_noise(x0: torch.Tensor, noise: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """x_k (B, Tp, act_dim): clean chunks of which a share `kept` (B,), alpha bar, of the variance is left."""
    kept = kept[:, None, None]
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise


def loss(
    net: Network, x0: torch.Tensor, cond: torch.Tensor, alpha_bar: torch.Tensor, noise: torch.Tensor,
    times: torch.Tensor, target: str = "noise",
) -> torch.Tensor:  # fmt: skip
    """Mean squared error () of what the network sees in noisy chunks: the noise, or the clean ones.

    Chunks x0 and `noise` (B, Tp, act_dim), observations `cond` (B, To obs_dim), alpha_bar (T,), training `times` (B,).

    Raises:
        ValueError: chunks that are not scaled to [-1, 1].
    """
    noisy = add_noise(check_scaled(x0, "actions"), noise, alpha_bar[times])
    return ((net(noisy, times.to(x0.dtype), cond) - (noise if target == "noise" else x0)) ** 2).mean()


def clean(x: torch.Tensor, eps: torch.Tensor, kept: float, clip: float) -> torch.Tensor:
    """x0 (B, Tp, act_dim) within +-clip, if `eps` is the noise in x and `kept` its alpha bar."""
    return ((x - (1 - kept) ** 0.5 * eps) / kept**0.5).clamp(-clip, clip)


def spread(kept: float, next_kept: float, eta: float) -> float:
    """s, how much new noise a step to the alpha bar `next_kept` adds: none with eta 0, DDPM's with eta 1."""
    return eta * ((1 - next_kept) / (1 - kept) * (1 - kept / next_kept)) ** 0.5


def renoise(x: torch.Tensor, x0: torch.Tensor, kept: float, next_kept: float, s: float = 0.0) -> torch.Tensor:
    """x at the alpha bar `next_kept`, from x at `kept` and the clean chunks x0 in it, without the new noise s z."""
    share = ((1 - next_kept - s**2) / (1 - kept)) ** 0.5
    return share * x + (next_kept**0.5 - share * kept**0.5) * x0


@cache
def visited(total: int, n: int | None) -> tuple[torch.Tensor, tuple[float, ...]]:
    """The training times (n,) that a sampler visits of `total`, all with None, and their alpha bars."""
    times = schedules.spaced(total, n or total)
    return times, tuple(schedules.squared_cosine(total)[times].tolist())


def denoise(
    net: Network, noise: torch.Tensor, cond: torch.Tensor, times: torch.Tensor, kept: Sequence[float],
    *, target: str = "noise", eta: float = 0.0, clip: float = 1.0,
) -> torch.Tensor:  # fmt: skip
    """Chunks (B, Tp, act_dim) from noise (B, 1, Tp, act_dim), by way of training times (n,) with their alpha bars.

    With eta above 0 every step but the last takes noise of its own: (B, n, Tp, act_dim).

    Raises:
        ValueError: too little noise.
    """
    if noise.shape[1] < (len(kept) if eta else 1):
        raise ValueError(f"there is noise for {noise.shape[1]} steps; with eta {eta} {len(kept)} steps take their own")
    x, each = noise[:, 0], times.to(noise)[:, None].expand(-1, len(noise))
    for i, (time, here, there) in enumerate(zip(each, kept, (*kept[1:], 1.0), strict=True)):
        seen = net(x, time, cond)
        x0 = clean(x, seen, here, clip) if target == "noise" else seen.clamp(-clip, clip)
        s = spread(here, there, eta)
        x = renoise(x, x0, here, there, s)
        if s > 0:
            x = x + s * noise[:, i + 1]
    return x


# ---- networks ---------------------------------------------------------------------------------------------------


class ChunkTransformer(nn.Module):
    """Chunks (B, Tp, act_dim) to the same shape: tokens for the time, To observations and Tp actions, in this order;
    each sees those before it."""

    def __init__(self, obs_dim: int, act_dim: int, cfg: Config, time_scale: float = 1.0):
        super().__init__()
        self.obs_steps, self.width, self.time_scale = cfg.obs_steps, cfg.width, time_scale
        self.time = nn.Sequential(nn.Linear(cfg.width, cfg.width), nn.SiLU(), nn.Linear(cfg.width, cfg.width))
        self.obs, self.action = nn.Linear(obs_dim, cfg.width), nn.Linear(act_dim, cfg.width)
        length = 1 + cfg.obs_steps + cfg.horizon
        self.trunk = Transformer(cfg.width, layers=cfg.layers, heads=cfg.heads, length=length)
        self.last = nn.Linear(cfg.width, act_dim)

    def forward(self, x: torch.Tensor, time: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        when = self.time(sines(self.time_scale * time, self.width))[:, None]
        seen = self.obs(cond.unflatten(1, (self.obs_steps, -1)))
        tokens = self.trunk(torch.cat([when, seen, self.action(x)], dim=1))
        return self.last(tokens[:, -x.shape[1] :])


def network(obs_dim: int, act_dim: int, cfg: Any, *, seed: int, time_scale: float = 1.0) -> nn.Module:
    """`net(x (B, Tp, act_dim), time (B,), cond (B, To obs_dim))`, as `cfg` asks for; weights from the seed."""
    seen = cfg.obs_steps * obs_dim
    with seeded(seed):
        if cfg.network == "mlp":
            net = ResidualMLP(cfg.horizon * act_dim, seen, width=cfg.width, blocks=cfg.layers, time_scale=time_scale)
        elif cfg.network == "unet":
            net = UNet1d(act_dim, seen, widths=cfg.widths, time_scale=time_scale)
        else:
            net = ChunkTransformer(obs_dim, act_dim, cfg, time_scale)
    return net.to(cfg.device)


# ---- state ------------------------------------------------------------------------------------------------------


class Agent(ChunkPolicy):
    """A network with the ranges of what it sees and does. `execute`, `latency` and `cfg` may change after training."""

    method: ClassVar[str] = "diffusion"
    time_scale: ClassVar[float] = 1.0  # times are 0 to T - 1

    def __init__(self, net: nn.Module, obs_scaler: MinMax, action_scaler: MinMax, cfg: Any, *, seed: int = 0):
        self.net, self.obs_scaler, self.action_scaler, self.cfg = net, obs_scaler, action_scaler, cfg
        self.obs_steps, self.horizon, self.execute, self.latency = cfg.obs_steps, cfg.horizon, cfg.execute, 0
        self.rng = np.random.default_rng(seed)
        self.card: dict[str, Any] = {}
        self.check()

    @property
    def obs_dim(self) -> int:
        return len(self.obs_scaler.low)

    @property
    def act_dim(self) -> int:
        return len(self.action_scaler.low)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.cfg.noise_steps if self.cfg.sampler == "ddpm" else 1, self.horizon, self.act_dim)

    def sampling(self, sampler: str, sample_steps: int | None = None) -> Agent:
        """The same agent, which from now on draws by another sampler, or in another number of steps."""
        self.cfg = replace(
            self.cfg, sampler=sampler, sample_steps=self.cfg.sample_steps if sample_steps is None else sample_steps
        )
        return self

    def plan(self, history: np.ndarray, noise: np.ndarray) -> np.ndarray:
        cond = self.obs_scaler.scale(torch.as_tensor(history)).flatten(1).to(self.cfg.device)
        with torch.no_grad():
            chunks = self.draw(torch.as_tensor(noise, dtype=cond.dtype, device=cond.device), cond)
        return self.action_scaler.unscale(chunks.cpu()).numpy()

    def draw(self, noise: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        """Scaled chunks (B, Tp, act_dim) from noise (B, *noise_shape) and scaled observations (B, To obs_dim)."""
        times, kept = visited(self.cfg.noise_steps, None if self.cfg.sampler == "ddpm" else self.cfg.sample_steps)
        eta = float(self.cfg.sampler == "ddpm")
        return denoise(self.net, noise, cond, times, kept, target=self.cfg.target, eta=eta, clip=self.cfg.clip)

    def loss(self, net: nn.Module, window: Window, generator: torch.Generator) -> torch.Tensor:
        """The training loss () of a batch."""
        x0, cond = window.actions.to(self.cfg.device), window.obs.flatten(1).to(self.cfg.device)
        noise = torch.randn(x0.shape, generator=generator).to(x0.device)
        times = torch.randint(self.cfg.noise_steps, (len(x0),), generator=generator).to(x0.device)
        alpha_bar = schedules.squared_cosine(self.cfg.noise_steps).to(x0)
        return loss(net, x0, cond, alpha_bar, noise, times, self.cfg.target)


def learner(data: Episodes, cfg: Any, *, seed: int, kind: type[Agent] = Agent) -> tuple[Fit, Agent]:
    """A training that has not begun, whose `state_dict` resumes, and the agent that acts by its averaged weights.

    Raises:
        ValueError: an episode shorter than a chunk, or data that are not finite.
    """
    windows = Windows(data, cfg.obs_steps, cfg.horizon)
    net = network(data.obs_dim, data.act_dim, cfg, seed=seed, time_scale=kind.time_scale)

    def batch_loss(n: int, rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
        return agent.loss(net, windows.sample(n, rng), generator)

    fit = Fit(net, batch_loss, cfg.fit, seed=seed)
    agent = kind(fit.ema.module, windows.obs_scaler, windows.action_scaler, cfg, seed=seed)
    return fit, agent


def train(data: Episodes, cfg: Config, *, seed: int) -> Iterator[Metrics]:
    """Learn from the data; the agent is an `Agent`."""
    fit, agent = learner(data, cfg, seed=seed)
    yield from fit.run(agent)
