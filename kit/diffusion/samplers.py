"""From noise to data: samplers as pure functions of a denoiser D(x, sigma, cond) -> x0 and a list of noise levels.

    slope       d = (x - D) / sigma                            of the probability-flow ODE  dx = d dsigma
    Euler       x <- x + (s_j - s_i) d = D + (s_j / s_i) (x - D)             the same as DDIM with eta = 0
    Heun        Euler, then once more with the mean of the slopes at both ends; Euler into s_j = 0
    2M          h = ln(s_i / s_j), r = h_before / h:  Euler with (1 + 1/2r) D - (1/2r) D_before     DPM-Solver++(2M)
    ancestral   Euler to s_down, then s_up of new noise:  s_up^2 + s_down^2 = s_j^2
    churn       first up to s (1 + gamma) by new noise, then Euler or Heun from there

Song et al. 2021, Karras et al. 2022 (algorithms 1 and 2), Lu et al. 2022. Noise is handed in, so that a run can be
repeated, and two samplers can be compared on the same noise. Look first at `euler`, then at `sample`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch

Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (x, sigma) -> x0
Noise = Callable[[torch.Tensor], torch.Tensor]  # standard normal, like x
Callback = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], None]  # step, x, sigma, x0
SCALE, FALL = 0.5, 6.0  # above the first (data have about this spread) Heun bridges levels this factor apart


class Counter:
    """A denoiser that counts: `calls` of the network, and `rows` that went through it."""

    def __init__(self, denoiser: Callable[..., torch.Tensor]):
        self.denoiser, self.calls, self.rows = denoiser, 0, 0

    def __call__(self, x: torch.Tensor, sigma: Any, cond: Any = None) -> torch.Tensor:
        self.calls, self.rows = self.calls + 1, self.rows + len(x)
        return self.denoiser(x, sigma, cond)


def noise_from(generator: torch.Generator) -> Noise:
    """Standard normal numbers, always the same ones from a generator of the same seed."""
    return lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


def start(shape: tuple[int, ...], sigma_max: float, generator: torch.Generator, *, data_std: float = 0.0):
    """x at the largest level: N(0, sigma_max^2 + data_std^2).

    Samplers usually start without `data_std`, which is right only if sigma_max is far above it: at sigma_max = 1 the
    samples stay too narrow, however many steps are taken.
    """
    return math.hypot(sigma_max, data_std) * torch.randn(shape, generator=generator)


def sample(
    denoiser: Callable[..., torch.Tensor],
    x: torch.Tensor,
    sigmas: torch.Tensor,
    cond: Any = None,
    *,
    method: str = "euler",
    noise: Noise | None = None,
    callback: Callback | None = None,
    **options: float,
) -> torch.Tensor:
    """x0 (B, ...) from x (B, ...) at the level `sigmas[0]`, by way of all levels (n + 1,), which fall to 0.

    `method` is one of `METHODS`; `options` go to it. `callback(step, x, sigma, x0)` sees each call's input and answer.

    Raises:
        ValueError: an unknown method, levels that do not fall, no noise for a method that needs it, or fewer steps than
            Heun can honour.
    """
    if method not in METHODS:
        raise ValueError(f"unknown sampler {method!r}; there are {', '.join(METHODS)}")
    if len(sigmas) < 2 or not (sigmas[:-1] > sigmas[1:]).all() or sigmas[-1] < 0 or sigmas[0].isinf():
        raise ValueError(
            f"the levels {sigmas.tolist()} must fall, not below 0, and be finite; see kit.diffusion.schedules"
        )
    if method in STOCHASTIC:
        if noise is None:
            raise ValueError(f"the sampler {method} adds noise; give noise=noise_from(generator)")
        options["noise"] = noise
    if "heun" in method:
        check_heun(sigmas)
    seen = 0

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        x0 = denoiser(x, sigma, cond)
        if callback is not None:
            callback(seen, x, sigma, x0)
        seen += 1
        return x0

    return METHODS[method](denoise, x, sigmas.to(x), **options)


def check_heun(sigmas: torch.Tensor) -> None:
    """
    Raises:
        ValueError: levels that are wider than the data fall so steeply that the slope at a step's end is taken far from
            the path: with a factor of 8 a third of the samples miss the data, with more nearly all.
    """
    falls = torch.where((sigmas[:-1] > SCALE) & (sigmas[1:] > 0), sigmas[:-1] / sigmas[1:], 1.0)
    if falls.max() > FALL:
        high, low = sigmas[falls.argmax() :][:2].tolist()
        raise ValueError(
            f"Heun from sigma {high:.3g} to {low:.3g} in one step gives garbage; levels may fall by a factor of "
            f"{FALL:g}. Take more steps, a smaller sigma_max, or dpmpp_2m"
        )


# ---- the samplers -----------------------------------------------------------------------------------------------


def euler(denoise: Denoise, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    for here, there in itertools.pairwise(sigmas):
        x0 = denoise(x, here)
        x = x0 + there / here * (x - x0)
    return x


def heun(denoise: Denoise, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    for here, there in itertools.pairwise(sigmas):
        x = heun_step(denoise, x, here, there)
    return x


def heun_step(denoise: Denoise, x: torch.Tensor, here: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    slope = (x - denoise(x, here)) / here
    ahead = x + (there - here) * slope
    if there == 0:
        return ahead
    return x + (there - here) * (slope + (ahead - denoise(ahead, there)) / there) / 2


def dpmpp_2m(denoise: Denoise, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    before, h_before = None, None
    for here, there in itertools.pairwise(sigmas):
        x0 = denoise(x, here)
        if there == 0 or before is None:
            guess = x0
        else:
            r = h_before / (here / there).log()
            guess = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
        x = guess + there / here * (x - guess)
        before, h_before = x0, (here / there).log()
    return x


def euler_ancestral(
    denoise: Denoise, x: torch.Tensor, sigmas: torch.Tensor, *, noise: Noise, eta: float = 1.0
) -> torch.Tensor:
    for here, there in itertools.pairwise(sigmas):
        x0 = denoise(x, here)
        up = torch.minimum(there, eta * (there**2 * (here**2 - there**2) / here**2).sqrt())
        down = (there**2 - up**2).sqrt()
        x = x0 + down / here * (x - x0)
        if there > 0:
            x = x + up * noise(x)
    return x


def churn(
    denoise: Denoise,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    *,
    noise: Noise,
    s_churn: float = 80.0,
    s_min: float = 0.05,
    s_max: float = 50.0,
    s_noise: float = 1.003,
    second_order: bool = False,
) -> torch.Tensor:
    """Karras et al. 2022, algorithm 2; `second_order` makes it Heun's. The defaults are theirs for images."""
    n = len(sigmas) - 1
    for here, there in itertools.pairwise(sigmas):
        gamma = min(s_churn / n, math.sqrt(2) - 1) if s_min <= here <= s_max else 0.0
        up = here * (1 + gamma)
        if gamma:
            x = x + (up**2 - here**2).sqrt() * s_noise * noise(x)
        if second_order:
            x = heun_step(denoise, x, up, there)
        else:
            x0 = denoise(x, up)
            x = x0 + there / up * (x - x0)
    return x


def heun_churn(denoise: Denoise, x: torch.Tensor, sigmas: torch.Tensor, **options: Any) -> torch.Tensor:
    return churn(denoise, x, sigmas, second_order=True, **options)


METHODS: dict[str, Callable[..., torch.Tensor]] = {
    "euler": euler,
    "ddim": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "euler_ancestral": euler_ancestral,
    "euler_churn": churn,
    "heun_churn": heun_churn,
}
STOCHASTIC = ("euler_ancestral", "euler_churn", "heun_churn")


# ---- the same in the other two forms ----------------------------------------------------------------------------


def vp_ddim(
    predict: Callable[..., torch.Tensor],
    x: torch.Tensor,
    alpha_bar: torch.Tensor,
    times: torch.Tensor,
    cond: Any = None,
    *,
    eta: float = 0.0,
    noise: Noise | None = None,
    clip: float | None = None,
) -> torch.Tensor:
    """DDIM on x_VP (B, ...): `predict(x, time (B,), cond)` is the noise, `alpha_bar` (T,), `times` (n,) fall.

    With eta = 1 over all times it is DDPM. `clip` bounds x0 in each step, as diffusion policies do.

    Raises:
        ValueError: eta above 0 without noise, no times, or times that do not fall.
    """
    if len(times) < 1 or not (times[:-1] > times[1:]).all():
        raise ValueError(
            f"the times {times.tolist()} must be at least one, and fall; see kit.diffusion.schedules.spaced"
        )
    if eta and noise is None:
        raise ValueError(f"eta is {eta}, which adds noise; give noise=noise_from(generator)")
    kept = alpha_bar[times].tolist()  # numbers: a step with tensors of one number costs three times as much
    for time, here, there in zip(times.to(x), kept, [*kept[1:], 1.0], strict=True):
        eps = predict(x, time.expand(len(x)), cond)
        x0 = (x - (1 - here) ** 0.5 * eps) / here**0.5
        if clip is not None:
            x0 = x0.clamp(-clip, clip)
            eps = (x - here**0.5 * x0) / (1 - here) ** 0.5
        s = eta * ((1 - there) / (1 - here) * (1 - here / there)) ** 0.5
        x = there**0.5 * x0 + max(1 - there - s**2, 0.0) ** 0.5 * eps
        if s > 0:
            x = x + s * noise(x)
    return x


def flow(
    velocity: Callable[..., torch.Tensor], a: torch.Tensor, steps: int, cond: Any = None, *, method: str = "euler"
) -> torch.Tensor:
    """Integrate da/dt = velocity(a, t, cond) from noise at t = 0 to data at t = 1, in equal steps: "euler" or "rk4".

    Raises:
        ValueError: an unknown method, or no step.
    """
    if method not in ("euler", "rk4") or steps < 1:
        raise ValueError(f"method is {method!r} with {steps} steps; give euler or rk4, and at least 1")
    h = 1 / steps
    for k in range(steps):
        t, k1 = k * h, velocity(a, k * h, cond)
        if method == "rk4":
            k2 = velocity(a + h / 2 * k1, t + h / 2, cond)
            k3 = velocity(a + h / 2 * k2, t + h / 2, cond)
            k1 = (k1 + 2 * k2 + 2 * k3 + velocity(a + h * k3, t + h, cond)) / 6
        a = a + h * k1
    return a
