"""What a film of a sampler holds, and what it leaves as it is."""

import numpy as np
import pytest
import torch

from kit.diffusion import samplers, schedules
from kit.diffusion.film import film, nearest, record
from kit.diffusion.mixture import ring
from kit.live.particles import Particles

RING = ring()
X = 3 * torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LEVELS = schedules.make("karras", 4, 0.02, 3.0)


@pytest.mark.parametrize("method", ["euler", "heun", "dpmpp_2m"])
def test_a_record_is_the_run_itself(method):
    frames, said, sigmas = record(RING.denoise, X, LEVELS, method=method)
    assert sigmas == LEVELS.tolist() and frames.shape == said.shape == (5, 20, 2)
    assert torch.equal(frames[0], X) and torch.equal(said[0], RING.denoise(X, LEVELS[0]))
    assert torch.equal(frames[-1], samplers.sample(RING.denoise, X, LEVELS, method=method))
    assert torch.equal(said[2], RING.denoise(frames[2], LEVELS[2])), "Heun's look ahead is not where it goes on from"


def test_euler_moves_on_straight_lines_towards_what_the_denoiser_says():
    frames, said, sigmas = record(RING.denoise, X, LEVELS)
    for i in range(3):
        share = sigmas[i + 1] / sigmas[i]
        assert torch.allclose(frames[i + 1], said[i] + share * (frames[i] - said[i]))


def test_a_film_is_seen_through_the_camera():
    cloud = Particles()
    end = film(cloud, RING.denoise, X, LEVELS, homes=RING.means, guesses=True, title="on its way")
    assert np.allclose(cloud.frames[0], X.numpy() / np.sqrt(10)) and np.allclose(
        cloud.frames[-1], end.numpy(), atol=1e-6
    )
    sent = cloud.widget
    assert sent.labels[0] == "sigma = 3" and sent.labels[-1] == "sigma = 0" and sent.title == "on its way"
    assert list(sent.groups) == nearest(end, RING.means).tolist()
    assert np.frombuffer(sent.guesses, np.float32).size == 5 * 20 * 2


def test_nearest():
    homes = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert nearest(torch.tensor([[0.4, 0.0], [0.6, 5.0]]), homes).tolist() == [0, 1]
