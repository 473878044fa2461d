"""VQ-BeT: the quantiser by hand and by brute force, gradients, focal loss, resuming, then two ways round a pillar."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kit.data import Episodes
from kit.diffusion.fit import FitConfig
from kit.imitation import vq_bet
from kit.imitation.vq_bet import (
    Config,
    VQBeT,
    chosen,
    code_loss,
    first_books,
    focal,
    posterior,
    quantise,
    straight_through,
    train,
)

FIT = FitConfig(steps=8, batch_size=32)
SMALL = Config(obs_steps=1, horizon=4, execute=2, width=32, codes=4, latent=3, fit=FIT, vq_fit=FIT)


def fork(episodes=40, steps=8, seed=0):
    """From 0, half of the demonstrators go up by 0.5 at each step, half go down."""
    rng = np.random.default_rng(seed)
    way = np.where(np.arange(episodes) % 2, 0.5, -0.5)[:, None, None]
    actions = way + 0.02 * rng.normal(size=(episodes, steps, 1))
    return Episodes.stack(np.pad(actions.cumsum(axis=1), ((0, 0), (1, 0), (0, 0))), actions)


def books():
    """Coarse codes at multiples of 10 and fine ones of 1, so that every sum is unambiguous."""
    coarse = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [-10.0, -10.0]])
    fine = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, -1.0], [1.0, 1.0]])
    return torch.stack([coarse, fine])


# ---- the pieces -------------------------------------------------------------------------------------------------


def test_residual_vq_finds_every_sum_of_its_codes_again():
    book = books()
    pairs = torch.tensor(list(itertools.product(range(4), range(4))))
    z = book[0][pairs[:, 0]] + book[1][pairs[:, 1]]
    codes, vectors, residuals = quantise(z, book)
    assert torch.equal(codes, pairs) and torch.equal(vectors.sum(dim=0), z)
    assert torch.equal(residuals[0], z) and torch.equal(residuals[1], z - vectors[0])


def test_residual_vq_takes_the_nearest_code_of_each_level():
    g = torch.Generator().manual_seed(0)
    z, book = torch.randn(30, 3, generator=g), torch.randn(2, 5, 3, generator=g)
    codes, vectors, _ = quantise(z, book)
    for i in range(30):
        one = min(range(5), key=lambda c: (z[i] - book[0, c]).norm())
        two = min(range(5), key=lambda c: (z[i] - book[0, one] - book[1, c]).norm())
        assert codes[i].tolist() == [one, two]
        torch.testing.assert_close(vectors[:, i], torch.stack([book[0, one], book[1, two]]))


def test_gradients_pass_straight_through():
    """The value is the code's, the gradient that of the identity, and none goes to the codes."""
    z, book = torch.tensor([[9.0, 1.0], [-8.0, -9.0]], requires_grad=True), books().requires_grad_()
    quantised = quantise(z, book)[1].sum(dim=0)
    out = straight_through(z, quantised)
    torch.testing.assert_close(out, quantised)
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    grad_z, grad_book = torch.autograd.grad((weight * out).sum(), (z, book), allow_unused=True)
    assert torch.equal(grad_z, weight) and grad_book is None


def test_code_loss_moves_codes_to_the_encoder_and_the_encoder_to_codes():
    vectors = torch.tensor([[[1.0]], [[2.0]]], requires_grad=True)
    residuals = torch.tensor([[[4.0]], [[3.0]]], requires_grad=True)
    loss = code_loss(vectors, residuals, 0.25)
    assert loss.item() == pytest.approx((9 + 1) * 1.25)
    grad_v, grad_r = torch.autograd.grad(loss, (vectors, residuals))
    assert grad_v.flatten().tolist() == [-6, -2] and grad_r.flatten().tolist() == [0.25 * 6, 0.25 * 2]


def test_focal_loss():
    logits = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    target = torch.arange(9) % 5
    torch.testing.assert_close(focal(logits, target, 0.0), F.cross_entropy(logits, target, reduction="none"))
    by_hand = focal(torch.log(torch.tensor([[0.9, 0.1]])), torch.tensor([0]), 2.0)
    assert by_hand.item() == pytest.approx(0.01 * -np.log(0.9), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_posterior_undoes_what_focal_loss_does_to_probabilities(gamma):
    """Minimise the expected focal loss of known probabilities; with gamma = 2 the optimum is flatter than they are."""
    p = torch.tensor([0.7, 0.2, 0.08, 0.02], dtype=torch.float64)
    logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = (p * torch.cat([focal(logits, torch.tensor([c]), gamma) for c in range(4)])).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    q = logits.detach().softmax(dim=1)
    torch.testing.assert_close(posterior(q, gamma)[0], p, atol=1e-5, rtol=0)
    assert (q[0, 0] < 0.6) == (gamma == 2)


def test_first_books_find_separate_clusters():
    rng = np.random.default_rng(0)
    pairs = rng.integers(4, size=(800, 2))
    z = books()[0][pairs[:, 0]].numpy() + books()[1][pairs[:, 1]].numpy()
    found = torch.from_numpy(first_books(z, 2, 4, rng))
    _, vectors, _ = quantise(torch.from_numpy(z), found)
    np.testing.assert_allclose(vectors.sum(dim=0), z, atol=1.5)
    assert len(np.unique(quantise(torch.from_numpy(z), found)[0][:, 0])) == 4


def test_chosen_adds_both_codes_offsets():
    offsets = torch.arange(2 * 2 * 3 * 2, dtype=torch.float32).reshape(2, 2, 3, 2, 1)
    got = chosen(offsets, torch.tensor([[1, 2], [0, 0]]))
    torch.testing.assert_close(got[0], offsets[0, 0, 1] + offsets[0, 1, 2])
    torch.testing.assert_close(got[1], offsets[1, 0, 0] + offsets[1, 1, 0])


# ---- the policy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trunk", ["mlp", "transformer"])
def test_same_seed_same_policy_and_training_resumes_identically(trunk):
    cfg, data = replace(SMALL, trunk=trunk), fork()
    whole, part = VQBeT(data, cfg, seed=0), VQBeT(data, cfg, seed=0)
    list(part.fits[0].run(part))  # stopped between the two phases, and again within the second
    for _ in range(3):
        part.fits[1].step()
    other = VQBeT(data, cfg, seed=5)
    other.load_state_dict(part.state_dict())
    phases = [m["phase"] for m in whole.learn()]
    list(other.learn())
    obs = np.linspace(-1, 1, 7, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(whole.predict(obs)[0], other.predict(obs)[0])
    assert phases == sorted(phases) and set(phases) == {0, 1}


def test_codes_rebuild_chunks_and_both_ways_are_taken():
    fit = FitConfig(steps=300, batch_size=64, learning_rate=3e-3)
    cfg = replace(SMALL, codes=2, fit=fit, vq_fit=fit)
    *_, last = train(fork(), cfg, seed=0)
    agent = last.agent
    window = agent.windows.at(agent.windows.data.steps)
    rebuilt = agent.vq.decode(agent.vq.codes(window.actions))
    assert (rebuilt - window.actions).abs().mean() < 0.1 * window.actions.abs().mean()
    actions, _ = agent.predict(np.zeros((200, 1), np.float32))
    assert (np.abs(np.abs(actions) - 0.5) < 0.15).mean() > 0.95
    assert 0.3 < (actions > 0).mean() < 0.7


def test_bad_settings_and_data():
    with pytest.raises(ValueError, match="codes is 1"):
        replace(SMALL, codes=1)
    with pytest.raises(ValueError, match="fewer than the window's 4"):
        VQBeT(fork(steps=3), SMALL, seed=0)
    assert vq_bet.Config().codes == 16
