"""The exact denoiser, against brute force and its own derivative; then what each sampler makes of it."""

import math

import numpy as np
import pytest
import torch

from kit.diffusion import mixture, samplers, schedules
from kit.diffusion.mixture import Mixture, off_support, ring, sliced_w1

N = 8_000
TWO = Mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [0.5]]), 0.2)


def test_the_denoiser_is_the_mean_over_the_posterior():
    grid = torch.linspace(-6, 6, 20_001, dtype=torch.float64)[:, None]
    prior = TWO.log_prob(grid).exp()
    for x, sigma in ((0.1, 0.4), (-2.0, 1.5), (0.9, 0.05)):
        likely = prior * torch.exp(-((x - grid[:, 0]) ** 2) / (2 * sigma**2))
        mean = (likely * grid[:, 0]).sum() / likely.sum()
        found = TWO.denoise(torch.tensor([[x]], dtype=torch.float64), sigma)
        assert found.item() == pytest.approx(mean.item(), abs=1e-6)


def test_tweedie():
    """D = x + sigma^2 grad log p_sigma(x), for a level a sample of its own as well."""
    many = ring()
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    sigma = torch.linspace(0.05, 3, 20, dtype=torch.float64)
    score = torch.autograd.grad(many.log_prob(x, sigma).sum(), x)[0]
    assert torch.allclose(many.denoise(x, sigma), x + sigma[:, None] ** 2 * score, atol=1e-12)


def test_density_integrates_to_one_and_samples_have_its_moments():
    grid = torch.linspace(-6, 6, 20_001, dtype=torch.float64)[:, None]
    assert (TWO.log_prob(grid).exp().sum() * 12 / 20_000).item() == pytest.approx(1, abs=1e-6)
    x = TWO.sample(40_000, torch.Generator().manual_seed(0))
    assert x.mean().item() == pytest.approx(0.05, abs=0.02)
    assert x.var().item() == pytest.approx(0.04 + 0.3 * 1 + 0.7 * 0.25 - 0.05**2, abs=0.02)


def test_sliced_distance():
    a = np.random.default_rng(0).normal(size=(500, 2))
    assert sliced_w1(a, a[::-1], seed=0) == 0
    shift = sliced_w1(a, a + np.array([0.5, 0]), seed=0, projections=4000)
    assert shift == pytest.approx(0.5 * 2 / math.pi, rel=0.02)  # the mean of |cos|
    with pytest.raises(ValueError, match="they must be equal"):
        sliced_w1(a, a[:10], seed=0)


# ---- samplers with an exact score; sliced W1, share off the support: measured once elsewhere, with other numbers -----

CASES = ((3, 1), (3, 80), (10, 1), (10, 80), (50, 80))  # calls of the network, sigma_max
TABLE = {  # method: (distance, share) for each case
    "euler": ((0.091, 0.30), (0.497, 1.0), (0.036, 0.04), (0.058, 0.13), (0.013, 0.02)),
    "dpmpp_2m": ((0.083, 0.19), (0.419, 1.0), (0.024, 0.01), (0.064, 0.04), (0.007, 0.01)),
    "euler_ancestral": ((0.084, 0.27), (0.510, 1.0), (0.017, 0.01), (0.055, 0.09), (0.013, 0.01)),
    "heun": ((0.356, 1.0), (80.8, 1.0), (0.016, 0.01), (0.604, 0.96), (0.007, 0.01)),
}
FLOW = {3: (0.162, 0.63), 10: (0.024, 0.05), 50: (0.009, 0.01)}


@pytest.fixture(scope="module")
def real():
    return ring().sample(N, torch.Generator().manual_seed(0)).double()


def drawn(method, steps, sigma_max, *, seed=1, data_std=0.0, sigma_min=0.02):
    generator = torch.Generator().manual_seed(seed)
    x = samplers.start((N, 2), sigma_max, generator, data_std=data_std).double()
    levels = schedules.make("karras", steps, sigma_min, sigma_max)
    noise = samplers.noise_from(generator)
    return samplers.sample(ring().denoise, x, levels, method=method, noise=noise)


def near(found, expected):
    """To 0.01 up to 0.1, and to a tenth above."""
    return found == pytest.approx(expected, abs=max(0.01, 0.1 * expected))


@pytest.mark.parametrize("method", TABLE)
def test_the_table_of_samplers(method, real, monkeypatch):
    monkeypatch.setattr(samplers, "check_heun", lambda sigmas: None)  # it forbids what is shown to be useless here
    for (calls, sigma_max), (distance, share) in zip(CASES, TABLE[method], strict=True):
        steps = (calls + 1) // 2 if method == "heun" else calls
        found = drawn(method, steps, float(sigma_max))
        assert near(sliced_w1(found, real, seed=1), distance), (calls, sigma_max)
        assert off_support(ring(), found) == pytest.approx(share, abs=0.03)


def test_flow_on_the_exact_velocity(real):
    def velocity(a, t, cond=None):
        t = max(t, 1e-6)
        return (ring().denoise(a / t, (1 - t) / t) - a) / (1 - t)

    noise = torch.randn((N, 2), generator=torch.Generator().manual_seed(1)).double()
    for steps, (distance, share) in FLOW.items():
        found = samplers.flow(velocity, noise, steps)
        assert near(sliced_w1(found, real, seed=1), distance) and off_support(ring(), found) == pytest.approx(
            share, abs=0.03
        )


def test_second_order_wins_with_enough_steps(real):
    for steps in (20, 30):
        euler, second = (sliced_w1(drawn(m, steps, 80.0), real, seed=1) for m in ("euler", "dpmpp_2m"))
        assert second < euler


def test_a_start_with_the_datas_own_width_mends_the_bias_of_a_small_sigma_max(real):
    narrow, right = (sliced_w1(drawn("euler", 50, 1.0, data_std=s), real, seed=1) for s in (0.0, math.sqrt(0.5)))
    assert narrow > 0.02 > right


def test_with_three_steps_the_smallest_level_matters(real):
    fine, coarse = (drawn("euler", 3, 1.0, sigma_min=s) for s in (0.005, 0.1))
    assert sliced_w1(coarse, real, seed=1) < 0.6 * sliced_w1(fine, real, seed=1)
    assert off_support(ring(), coarse) < 0.5 * off_support(ring(), fine)


def test_ring_has_light_and_heavy_modes():
    assert ring().weights.tolist() == pytest.approx([1 / 16, 3 / 16] * 4)
    assert mixture.ring(4, 0.1).means.norm(dim=1).tolist() == pytest.approx([1] * 4)
