"""Samplers against one another, against diffusers, and against formulas."""

import math
import warnings

import numpy as np
import pytest
import torch

from kit.diffusion import samplers, schedules
from kit.diffusion.mixture import ring
from kit.diffusion.precond import EDM, edm_coefficients
from kit.diffusion.samplers import Counter, noise_from, sample, vp_ddim

MIX = ring()


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# ---- equal to one another ---------------------------------------------------------------------------------------


def test_euler_is_ddim_is_ddim_in_the_variance_preserving_form():
    alpha_bar = schedules.squared_cosine(100)[:95]  # beyond, x / sqrt(alpha_bar) loses digits
    times = schedules.spaced(95, 10)
    sigmas = torch.cat([schedules.to_sigma(alpha_bar)[times], torch.zeros(1, dtype=torch.float64)])
    x = normal(200, 2)

    def eps(x_vp, time, cond):
        kept = alpha_bar[time.long()][:, None]
        x = x_vp / kept.sqrt()
        return (x - MIX.denoise(x, schedules.to_sigma(kept[:, 0]))) / schedules.to_sigma(kept)

    first = alpha_bar[times[0]]
    euler = sample(MIX.denoise, x / first.sqrt(), sigmas, method="euler")
    ddim = sample(MIX.denoise, x / first.sqrt(), sigmas, method="ddim")
    vp = vp_ddim(eps, x, alpha_bar, times)
    assert torch.equal(euler, ddim) and (euler - vp).abs().max() < 1e-10


def test_churn_of_nothing_is_the_plain_sampler_and_ancestral_without_eta_is_euler():
    x, levels, noise = normal(100, 2), schedules.make("karras", 12, 0.02, 1.0), noise_from(torch.Generator())
    for plain, noisy, options in (
        ("euler", "euler_churn", {"s_churn": 0.0}),
        ("heun", "heun_churn", {"s_churn": 0.0}),
        ("euler", "euler_ancestral", {"eta": 0.0}),
    ):
        found = sample(MIX.denoise, x, levels, method=noisy, noise=noise, **options)
        assert torch.equal(found, sample(MIX.denoise, x, levels, method=plain))


def test_the_first_and_last_step_of_2m_are_eulers():
    x, levels = normal(50, 2), schedules.make("karras", 2, 0.1, 1.0)
    assert torch.equal(
        sample(MIX.denoise, x, levels, method="dpmpp_2m"), sample(MIX.denoise, x, levels, method="euler")
    )


def test_a_step_of_2m_by_hand():
    """Levels 4, 2, 1, 0: h = ln 2 each time, so that r = 1 and the guess is 1.5 D - 0.5 D_before."""
    answers = iter([torch.tensor([[1.0]]), torch.tensor([[3.0]]), torch.tensor([[7.0]])])
    seen = []
    found = samplers.dpmpp_2m(
        lambda x, sigma: (seen.append(x.item()), next(answers))[1], torch.tensor([[9.0]]), torch.tensor([4.0, 2, 1, 0])
    )
    assert seen == pytest.approx([9, 1 + 0.5 * 8, 4 + 0.5 * (5 - 4)]) and found.item() == 7


def test_ancestral_noise_by_hand():
    """From 2 to 1: s_up^2 = 1 (4 - 1) / 4, s_down^2 = 1 / 4."""
    found = samplers.euler_ancestral(
        lambda x, sigma: torch.zeros_like(x), torch.tensor([[2.0]]), torch.tensor([2.0, 1.0]), noise=torch.ones_like
    )
    assert found.item() == pytest.approx(0.5 + math.sqrt(0.75))


def test_order_of_convergence():
    """Halving the steps of a smooth problem: Euler's error halves, Heun's and RK4's fall by 4 and 16."""

    def wide(x, sigma, cond=None):  # data N(0, 1): x falls like sqrt(1 + sigma^2)
        return x / (1 + torch.as_tensor(sigma) ** 2)

    x, exact = torch.ones(1, 1, dtype=torch.float64), 1 / math.sqrt(2)

    def error(method, n):
        levels = torch.linspace(1, 0, n + 1, dtype=torch.float64)
        return abs(sample(wide, x, levels, method=method).item() - exact)

    assert error("euler", 40) / error("euler", 80) == pytest.approx(2, abs=0.1)
    assert error("heun", 40) / error("heun", 80) == pytest.approx(4, abs=0.5)

    def growth(n):
        found = samplers.flow(lambda a, t, cond: a * (1 + t), x, n, method="rk4").item()
        return abs(found - math.exp(1.5))

    assert growth(5) / growth(10) == pytest.approx(16, rel=0.15)


def test_a_linear_gaussian_expert():
    """Actions a = -K s without spread: the best noise predictor is (a_k - sqrt(alpha_bar) a) / sqrt(1 - alpha_bar), and
    DDIM gives back -K s (Chi et al. 2023, section 4.5)."""
    gain, states = torch.tensor([[0.5, 2.0]], dtype=torch.float64), normal(30, 2, seed=3)
    alpha_bar = schedules.squared_cosine(100)

    def eps(x, time, cond):
        kept = alpha_bar[time.long()][:, None]
        return (x + kept.sqrt() * cond @ gain.T) / (1 - kept).sqrt()

    found = vp_ddim(eps, normal(30, 1), alpha_bar, schedules.spaced(100, 10), states)
    assert torch.allclose(found, -states @ gain.T, atol=1e-9)


# ---- against diffusers ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def diffusers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("diffusers")


@pytest.mark.parametrize("kind", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_edm_samplers_equal_those_of_diffusers(diffusers, kind):
    """They keep sigma in float32, so that the tolerance is relative to sigma_max."""
    n, sigma_min, sigma_max, sigma_data = 18, 0.002, 80.0, 0.5
    options = {"final_sigmas_type": "zero"} if "DPM" in kind else {}
    theirs = getattr(diffusers, kind)(sigma_min=sigma_min, sigma_max=sigma_max, sigma_data=sigma_data, **options)
    theirs.set_timesteps(n)
    assert theirs.sigmas.tolist() == pytest.approx(schedules.make("karras", n, sigma_min, sigma_max).tolist(), rel=1e-5)
    start = normal(64, 2) * sigma_max

    def raw(x_in, c_noise, cond):  # F, for which the preconditioned denoiser is the exact one
        sigma = torch.exp(4 * c_noise)
        c_skip, c_out, c_in, _ = (c[:, None] for c in edm_coefficients(sigma, sigma_data))
        x = x_in / c_in
        return (MIX.denoise(x, sigma) - c_skip * x) / c_out

    ours = sample(
        EDM(raw, sigma_data), start, theirs.sigmas.double(), method="euler" if "Euler" in kind else "dpmpp_2m"
    )
    x = start.clone()
    for t in theirs.timesteps:
        scaled = theirs.scale_model_input(x, t)
        x = theirs.step(raw(scaled.double(), t.double().expand(len(x)), None), t, x).prev_sample.double()
    assert (ours - x).abs().max() < 1e-5 * sigma_max


@pytest.mark.parametrize("n", [5, 25, 100])
def test_ddim_equals_that_of_diffusers(diffusers, n):
    theirs = diffusers.DDIMScheduler(
        100, beta_schedule="squaredcos_cap_v2", clip_sample=False, set_alpha_to_one=True, steps_offset=0
    )
    theirs.set_timesteps(n)
    times = schedules.spaced(100, n, "leading")
    assert theirs.timesteps.tolist() == times.tolist()
    alpha_bar = schedules.squared_cosine(100)
    assert theirs.alphas_cumprod.tolist() == pytest.approx(alpha_bar.tolist(), rel=2e-4, abs=1e-9)

    def eps(x, time, cond=None):
        return torch.sin(3 * x + 0.1 * time[:, None])

    x = start = normal(50, 3)
    for t in theirs.timesteps:
        x = theirs.step(eps(x, t.double().expand(len(x))), t, x).prev_sample
    ours = vp_ddim(eps, start, theirs.alphas_cumprod.double(), times)
    assert (ours - x).abs().max() < 1e-5 * start.abs().max() / alpha_bar[times[0]].sqrt()


def test_ddpm_equals_that_of_diffusers_with_the_same_noise(diffusers):
    theirs = diffusers.DDPMScheduler(100, beta_schedule="squaredcos_cap_v2", clip_sample=True)
    theirs.set_timesteps(100)
    start, generator = normal(20, 3), torch.Generator().manual_seed(5)

    def eps(x, time, cond=None):
        return torch.sin(x + 0.05 * time[:, None])

    x = start
    for t in theirs.timesteps:
        x = theirs.step(eps(x, t.double().expand(len(x))), t, x, generator=generator).prev_sample
    noise = noise_from(torch.Generator().manual_seed(5))
    ours = vp_ddim(
        eps, start, theirs.alphas_cumprod.double(), schedules.spaced(100, 100), eta=1.0, noise=noise, clip=1.0
    )
    assert (ours - x).abs().max() < 1e-4


# ---- counting, watching, repeating ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "calls"), [("euler", 6), ("dpmpp_2m", 6), ("euler_ancestral", 6), ("heun", 11), ("heun_churn", 11)]
)
def test_calls_of_the_network(method, calls):
    counted = Counter(MIX.denoise)
    seen = []
    sample(
        counted,
        normal(5, 2),
        schedules.make("karras", 6, 0.05, 1.0),
        method=method,
        noise=noise_from(torch.Generator()),
        callback=lambda *found: seen.append(found),
    )
    assert counted.calls == calls == len(seen) and counted.rows == 5 * calls
    step, x, sigma, x0 = seen[-1]
    assert step == calls - 1 and torch.equal(x0, MIX.denoise(x, sigma))


def test_the_same_noise_gives_the_same_samples():
    levels, x = schedules.make("karras", 8, 0.05, 1.0), normal(20, 2, dtype=torch.float32)
    runs = [
        sample(MIX.denoise, x, levels, method="euler_ancestral", noise=noise_from(torch.Generator().manual_seed(s)))
        for s in (0, 0, 1)
    ]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    assert runs[0].dtype == torch.float32


def test_tokens_with_levels_of_their_own():
    """Sigma (B, T) reaches the network as it is, and scales each token by itself."""
    shapes = []
    denoiser = EDM(lambda x, c, cond: shapes.append(c.shape) or torch.zeros_like(x), 0.5)
    sigma = torch.tensor([[0.5, 1.0], [2.0, 4.0]])
    found = denoiser(torch.ones(2, 2, 3), sigma)
    assert shapes == [(2, 2)] and found[..., 0].flatten().tolist() == pytest.approx(
        [0.25 / (s**2 + 0.25) for s in (0.5, 1, 2, 4)]
    )


# ---- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "ddpm"}, "unknown sampler 'ddpm'; there are euler, ddim, heun"),
        ({"method": "euler_ancestral"}, "adds noise; give noise=noise_from"),
        ({"sigmas": torch.tensor([1.0, 1.0, 0.0])}, "must fall"),
        ({"sigmas": torch.tensor([1.0])}, "must fall"),
        ({"sigmas": torch.tensor([1.0, -1.0])}, "not below 0"),
        ({"method": "heun", "sigmas": schedules.make("karras", 5, 0.02, 80.0)}, "Heun from sigma 4.05 to 0.465"),
    ],
)
def test_bad_requests(options, message):
    with pytest.raises(ValueError, match=message):
        sample(MIX.denoise, normal(3, 2), **{"sigmas": schedules.make("karras", 5, 0.02, 1.0), **options})


def test_heun_is_allowed_where_it_works():
    for n, sigma_max in ((11, 80.0), (3, 1.0)):
        found = sample(MIX.denoise, normal(4, 2), schedules.make("karras", n, 0.02, sigma_max), method="heun")
        assert torch.isfinite(found).all()


def test_other_refusals():
    with pytest.raises(ValueError, match=r"eta is 0\.5, which adds noise"):
        vp_ddim(lambda *a: None, normal(2, 2), schedules.squared_cosine(10), schedules.spaced(10, 2), eta=0.5)
    with pytest.raises(ValueError, match="method is 'heun' with 3 steps; give euler or rk4"):
        samplers.flow(lambda a, t, c: a, normal(2, 2), 3, method="heun")
    with pytest.raises(ValueError, match="at least 1"):
        samplers.flow(lambda a, t, c: a, normal(2, 2), 0)


def test_start_has_the_width_that_is_asked_for():
    x = samplers.start((20_000, 2), 0.3, torch.Generator().manual_seed(0), data_std=0.4)
    assert np.std(x.numpy()) == pytest.approx(0.5, rel=0.02)
