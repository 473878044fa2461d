"""Guidance: its identities, what it costs, and where it leads."""

import math

import pytest
import torch

from kit.diffusion import samplers, schedules
from kit.diffusion.guidance import CFG, Gradient, Inpaint
from kit.diffusion.mixture import Mixture, ring
from kit.diffusion.samplers import Counter

MIX = ring()
LEFT = 1 - 1 / math.hypot(1, 30)  # of a shift, when x starts without it at sigma_max = 30


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def toy(x, sigma, cond):
    """A denoiser that shows what it was asked: rows are treated one by one."""
    level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
    return torch.tanh(x) + cond["goal"] * level + cond["obs"]


def drop(cond):
    return {**cond, "goal": torch.zeros_like(cond["goal"])}


COND = {"obs": normal(6, 2, seed=1), "goal": normal(6, 2, seed=2)}


def test_scales_zero_and_one_cost_one_call_and_are_the_two_denoisers_themselves():
    x = normal(6, 2)
    for scale, cond in ((0, drop(COND)), (1, COND)):
        counted = Counter(toy)
        assert torch.equal(CFG(counted, scale, drop)(x, 0.5, COND), toy(x, 0.5, cond))
        assert (counted.calls, counted.rows) == (1, 6)


@pytest.mark.parametrize("sigma", [0.5, torch.linspace(0.1, 1, 6, dtype=torch.float64)])
def test_any_other_scale_costs_one_call_with_twice_the_rows(sigma):
    x, counted = normal(6, 2), Counter(toy)
    found = CFG(counted, 2.5, drop)(x, sigma, COND)
    free, asked = toy(x, sigma, drop(COND)), toy(x, sigma, COND)
    assert torch.allclose(found, free + 2.5 * (asked - free), atol=1e-12)
    assert (counted.calls, counted.rows) == (1, 12)


def test_the_formula_goes_over_into_its_ends():
    x = normal(6, 2)
    assert torch.allclose(CFG(toy, 1 + 1e-9, drop)(x, 0.5, COND), toy(x, 0.5, COND), atol=1e-6)
    assert torch.allclose(CFG(toy, 1e-9, drop)(x, 0.5, COND), toy(x, 0.5, drop(COND)), atol=1e-6)


def test_guidance_between_two_gaussians_is_known():
    """Equal widths: guided from N(0, 1) towards N(1, 1), scale l, the result is N(l, 1), but for what the start at
    sigma_max lacks: it should be centred at l itself."""
    zero, one = (Mixture(torch.ones(1), torch.tensor([[m]]), 1.0) for m in (0.0, 1.0))

    def denoiser(x, sigma, cond):
        return torch.where(cond > 0, one.denoise(x, sigma), zero.denoise(x, sigma))

    x = samplers.start((4000, 1), 30.0, torch.Generator().manual_seed(0), data_std=1.0).double()
    guided = CFG(denoiser, 3.0, torch.zeros_like)
    found = samplers.sample(guided, x, schedules.make("karras", 60, 0.01, 30.0), torch.ones_like(x), method="heun")
    assert found.mean().item() == pytest.approx(3.0 * LEFT, abs=0.05) and found.std().item() == pytest.approx(
        1.0, abs=0.05
    )


def test_a_gradient_tilts_the_data():
    """N(0, 1) guided by grad b x: exp(b x) N(0, 1) ~ N(b, 1)."""
    gauss = Mixture(torch.ones(1), torch.zeros(1, 1), 1.0)

    def tilt(x, sigma):  # of ln E[exp(b x0) | x], b = 2: the posterior's mean falls with 1 / (1 + sigma^2)
        return torch.full_like(x, 2.0) / (1 + torch.as_tensor(sigma) ** 2)

    x = samplers.start((4000, 1), 30.0, torch.Generator().manual_seed(0), data_std=1.0).double()
    found = samplers.sample(Gradient(gauss.denoise, tilt), x, schedules.make("karras", 60, 0.01, 30.0), method="heun")
    assert found.mean().item() == pytest.approx(2.0 * LEFT, abs=0.05) and found.std().item() == pytest.approx(
        1.0, abs=0.05
    )
    half = samplers.sample(
        Gradient(gauss.denoise, tilt, 0.5), x, schedules.make("karras", 60, 0.01, 30.0), method="heun"
    )
    assert half.mean().item() == pytest.approx(1.0 * LEFT, abs=0.05)


def test_inpainting_keeps_what_is_known_exactly():
    mask, known = torch.tensor([True, False]), torch.tensor([0.7, 0.0], dtype=torch.float64)
    inner = Inpaint(MIX.denoise, known, mask)
    for method in ("euler", "dpmpp_2m", "heun"):
        found = samplers.sample(inner, normal(50, 2), schedules.make("karras", 12, 0.02, 1.0), method=method)
        assert torch.allclose(found[:, 0], torch.tensor(0.7, dtype=torch.float64), atol=1e-12)
        assert found[:, 1].std() > 0.1
    with pytest.raises(ValueError, match=r"known has shape \(3,\) and mask \(2,\); x has \(50, 2\)"):
        Inpaint(MIX.denoise, torch.zeros(3), mask)(normal(50, 2), 1.0)
