"""Preconditioning and its losses: identities, exact optima, refusals."""

import math

import pytest
import torch

from kit.diffusion import precond, schedules
from kit.diffusion.mixture import ring
from kit.diffusion.precond import EDM, VP, Flow, edm_coefficients, expand

MIX = ring()


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_edms_weighted_loss_is_plain_mean_squared_error_of_the_network():
    """w |D - x0|^2 = |F - (x0 - c_skip x) / c_out|^2."""

    def net(x, c, cond):
        return torch.sin(2 * x + c[:, None])

    x0, noise, sigma = normal(40, 3), normal(40, 3, seed=1), torch.logspace(-2, 2, 40, dtype=torch.float64)
    denoiser = EDM(net, 0.7)
    c_skip, c_out, c_in, c_noise = edm_coefficients(sigma, 0.7)
    x = x0 + sigma[:, None] * noise
    target = (x0 - c_skip[:, None] * x) / c_out[:, None]
    plain = (net(c_in[:, None] * x, c_noise, None) - target) ** 2
    assert torch.allclose(denoiser.loss(x0, sigma, noise), plain, rtol=1e-8)


def test_edm_inputs_and_targets_have_unit_variance():
    x0, noise = 0.5 * normal(200_000, 1), normal(200_000, 1, seed=1)
    for level in (0.02, 0.5, 20.0):
        c_skip, c_out, c_in, _ = edm_coefficients(torch.tensor(level, dtype=torch.float64), 0.5)
        x = x0 + level * noise
        assert (c_in * x).std().item() == pytest.approx(1, rel=0.01)
        assert ((x0 - c_skip * x) / c_out).std().item() == pytest.approx(1, rel=0.01)


def test_all_three_forms_wrap_the_exact_answer_into_the_same_denoiser():
    x, sigma = normal(60, 2), torch.logspace(-1, 1, 60, dtype=torch.float64)
    alpha_bar = schedules.squared_cosine(1000)
    exact = MIX.denoise(x, sigma)

    def of_vp(x_vp, time, cond):
        return (x - exact) / sigma[:, None]

    def of_flow(a, t, cond):  # v = E[a - z] = (D - a_t) / (1 - t)
        level = (1 - t) / t
        return (MIX.denoise(a / t[:, None], level) - a) / (1 - t[:, None])

    assert torch.allclose(VP(of_vp, alpha_bar)(x, sigma), exact, atol=1e-10)
    assert torch.allclose(Flow(of_flow)(x, sigma), exact, atol=1e-10)


def test_vp_scales_its_input_and_names_the_time():
    alpha_bar = schedules.squared_cosine(50)
    seen = {}
    denoiser = VP(lambda x, t, cond: seen.update(x=x, t=t) or torch.zeros_like(x), alpha_bar)
    sigma = schedules.to_sigma(alpha_bar)[[3, 20, 49]]
    x = normal(3, 2)
    assert torch.equal(denoiser(x, sigma), x)
    assert seen["t"].tolist() == pytest.approx([3, 20, 49], abs=1e-6)
    assert torch.allclose(seen["x"], alpha_bar[[3, 20, 49]].sqrt()[:, None] * x)
    half = torch.tensor([math.sqrt(sigma[0] * schedules.to_sigma(alpha_bar)[4])], dtype=torch.float64)
    assert VP(None, alpha_bar).time(half).item() == pytest.approx(3.5)


@pytest.mark.parametrize("form", ["vp", "flow"])
def test_losses_are_least_at_the_conditional_mean(form):
    """Around the exact answer every other one is worse."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = MIX.sample(20_000, generator).double(), normal(20_000, 2, seed=2)
    alpha_bar = schedules.squared_cosine(100)
    time = torch.full((20_000,), 40)
    kept = alpha_bar[40]
    level = schedules.to_sigma(kept)

    def net(shift):
        def vp(x, t, cond):
            clean = MIX.denoise(x / kept.sqrt(), level)
            return (x - kept.sqrt() * clean) / (1 - kept).sqrt() + shift

        def flow(a, t, cond):
            return (MIX.denoise(a / 0.6, 0.4 / 0.6) - a) / 0.4 + shift

        return vp if form == "vp" else flow

    def loss(shift):
        if form == "vp":
            return VP(net(shift), alpha_bar).loss(x0, time, noise).mean().item()
        return Flow(net(shift)).loss(x0, torch.full((20_000,), 0.6, dtype=torch.float64), noise).mean().item()

    assert loss(0.0) < min(loss(0.1), loss(-0.1))


def test_training_levels():
    generator = torch.Generator().manual_seed(0)
    levels = precond.log_normal(50_000, generator)
    assert levels.log().mean().item() == pytest.approx(-1.2, abs=0.02) and levels.log().std().item() == pytest.approx(
        1.2, abs=0.02
    )
    cut = precond.log_logistic(50_000, generator, sigma_data=0.5, sigma_min=0.05, sigma_max=1.0)
    assert cut.min() >= 0.05 - 1e-6 and cut.max() <= 1 + 1e-6
    inside = torch.sigmoid(2 * (torch.tensor([0.05, 0.5, 1.0]) / 0.5).log())
    below = (0.5 - inside[0]) / (inside[2] - inside[0])  # the share below sigma_data
    assert (cut < 0.5).double().mean().item() == pytest.approx(below.item(), abs=0.01)


def test_expand():
    x = torch.zeros(2, 3, 4)
    assert expand(0.5, x).shape == (1, 1, 1) and expand(torch.ones(2), x).shape == (2, 1, 1)
    assert expand(torch.ones(2, 3), x).shape == (2, 3, 1)
    with pytest.raises(ValueError, match=r"sigma has shape \(3,\); it must be \(\), or lead x's shape \(2, 3, 4\)"):
        expand(torch.ones(3), x)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_bad_levels(bad):
    with pytest.raises(ValueError, match="it must be finite and positive"):
        EDM(lambda x, c, cond: x)(torch.zeros(1, 2), bad)


def test_a_level_that_vp_was_not_trained_for():
    denoiser = VP(lambda x, t, cond: x, schedules.squared_cosine(100))
    with pytest.raises(ValueError, match="sigma 1e-05 to 1e-05 leaves what the network was trained for"):
        denoiser(torch.zeros(1, 2), 1e-5)
