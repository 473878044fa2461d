"""CLUTR: one spelling for each level, the autoencoder's parts, and an adversary in latent space."""

import itertools

import numpy as np
import pytest
import torch

from kit.curricula import clutr, paired
from kit.curricula.clutr import NONE, Config, LatentAdversary, TaskVAE
from kit.curricula.paired import AdversaryConfig
from kit.curricula.worlds.mazes import CELLS, Levels, MazeSpace, from_tokens, random_levels
from kit.curricula.worlds.wall_grid import Config as GridConfig
from kit.curricula.worlds.wall_grid import WallGrid

SMALL = Config(iterations=40, batch_size=32, embedding=8, hidden=16, latent=3)


def test_sorting_by_hand():
    spelt = np.array([[7, 3, 3, NONE, 20, 5], [9, 9, 9, 9, 9, 8]])
    np.testing.assert_array_equal(clutr.sort_tokens(spelt), [[3, 7, NONE, NONE, 20, 5], [9, NONE, NONE, NONE, 9, 8]])


def test_sorting_removes_all_duplicate_spellings():
    """Three walls out of four cells: 64 spellings of the 4 + 6 + 4 non-empty sets of at most three cells."""
    spelt = np.array([(*walls, 48, 47) for walls in itertools.product(range(4), repeat=3)])
    levels = from_tokens(spelt)
    assert len(spelt) == 64 and len(np.unique(spelt, axis=0)) == 64
    assert len(np.unique(levels.walls, axis=0)) == 14
    sorted_ = clutr.sort_tokens(spelt)
    assert len(np.unique(sorted_, axis=0)) == 14
    np.testing.assert_array_equal(from_tokens(sorted_).walls, levels.walls, err_msg="the level stays the same")


def test_shuffled_levels_are_the_same_levels_with_one_sorted_spelling():
    levels = random_levels(np.random.default_rng(0), 100, 25)
    tokens = clutr.tokens_of(levels, 25)
    shuffled = clutr.shuffle_tokens(tokens, np.random.default_rng(1))
    assert (shuffled != tokens).any()
    np.testing.assert_array_equal(from_tokens(shuffled).walls, levels.walls)
    np.testing.assert_array_equal(clutr.sort_tokens(shuffled), tokens)


def test_levels_and_tokens_there_and_back():
    levels = random_levels(np.random.default_rng(0), 300, 25)
    tokens = clutr.tokens_of(levels, 25)
    assert tokens.shape == (300, 27)
    np.testing.assert_array_equal(clutr.sort_tokens(tokens), tokens)
    back = from_tokens(tokens)
    for name in ("walls", "start", "goal"):
        np.testing.assert_array_equal(getattr(back, name), getattr(levels, name))
    one = Levels.parse(".#..... #...... ....... ...S... ....... ....... ......G")
    np.testing.assert_array_equal(clutr.tokens_of(one, 3), [[1, 7, NONE, 48, 24]])
    with pytest.raises(ValueError, match="a level has 2 walls and max_walls is 1"):
        clutr.tokens_of(one, 1)


def test_kl_equals_torchs():
    generator = torch.Generator().manual_seed(0)
    mu, log_var = torch.randn(9, 4, generator=generator), torch.randn(9, 4, generator=generator)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mu, (0.5 * log_var).exp()), normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(clutr.kl(mu, log_var), expected)
    assert clutr.kl(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0


def test_kl_weight_rises_from_0_to_1():
    published = Config(kl_middle=3500, kl_width=1000)
    assert clutr.kl_weight(3500, published) == 0.5
    assert clutr.kl_weight(0, published) < 1e-3 and clutr.kl_weight(7000, published) > 1 - 1e-3
    np.testing.assert_allclose(clutr.kl_weight(4500, published), (np.tanh(1) + 1) / 2)


def test_no_token_is_predicted_from_itself_or_later_ones():
    vae, z = TaskVAE(5, SMALL, seed=0), torch.ones(1, 3)
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6, 7]])
    before = vae.logits(tokens, z)
    for j in range(7):
        other = tokens.clone()
        other[0, j] = 40
        same = (vae.logits(other, z) == before).all(dim=2)[0]
        assert same[: j + 1].all() and not same[j + 1 :].any()


def test_decoding_takes_the_most_likely_token_every_time():
    vae, z = TaskVAE(5, SMALL, seed=0), np.random.default_rng(0).normal(size=(20, 3)) * 2
    tokens = vae.decode_tokens(z)
    logits = vae.logits(torch.from_numpy(tokens), torch.as_tensor(z, dtype=torch.float32)).detach()
    logits[:, -2:, NONE] = -torch.inf
    np.testing.assert_array_equal(logits.argmax(dim=2).numpy(), tokens)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_z_is_a_valid_level(seed):
    vae = TaskVAE(25, SMALL, seed=seed)
    torch.nn.init.normal_(vae.to_token.weight, 0, 3, generator=torch.Generator().manual_seed(seed))
    levels = vae.decode(np.random.default_rng(seed).uniform(-4, 4, (300, 3)))
    rows = np.arange(300)
    assert (levels.start != levels.goal).all() and ((levels.goal >= 0) & (levels.goal < CELLS)).all()
    assert not levels.walls[rows, levels.start].any() and not levels.walls[rows, levels.goal].any()


def test_pretraining_learns_and_depends_on_nothing_but_its_seed():
    first = [m["ce"] for m in clutr.pretrain(6, SMALL, seed=0)]
    torch.rand(5)  # the process's generator has moved on
    assert [m["ce"] for m in clutr.pretrain(6, SMALL, seed=0)] == first
    assert first[0] > 3.5 and np.mean(first[-5:]) < 3.0, "log 50 is 3.9"


def test_sorted_levels_are_easier_to_learn_than_shuffled_ones():
    def last(sort: bool) -> float:
        cfg = Config(iterations=100, batch_size=32, embedding=16, hidden=32, latent=3, sort=sort)
        return float(np.mean([m["ce"] for m in clutr.pretrain(12, cfg, seed=0)][-20:]))

    assert last(True) < last(False) - 0.3


def test_the_adversary_moves_towards_what_is_paid():
    adversary = LatentAdversary(MazeSpace(5), TaskVAE(5, SMALL, seed=0), AdversaryConfig(learning_rate=5e-3), seed=0)
    firsts = []
    for _ in range(80):
        points = adversary.propose(32)
        assert points.shape == (32, CELLS + 2)
        z = adversary.last[1][:, 0].numpy()
        firsts.append(z.mean())
        adversary.learn(-((z - 2) ** 2))
    assert abs(firsts[0]) < 0.6 and abs(np.mean(firsts[-5:]) - 2) < 0.7


def test_equal_pay_teaches_nothing():
    cfg = AdversaryConfig(entropy_weight=0.0)
    adversary = LatentAdversary(MazeSpace(5), TaskVAE(5, SMALL, seed=0), cfg, seed=0)
    adversary.propose(8)
    before = [p.detach().clone() for p in adversary.mean.parameters()]
    adversary.learn(np.full(8, 0.7))
    for p, q in zip(adversary.mean.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=0, atol=0)


def test_the_decoder_stays_as_it_is_while_students_and_adversary_learn():
    vae, cfg = TaskVAE(25, SMALL, seed=0), GridConfig(hidden=(16,), limit=20)
    before = [p.detach().clone() for p in vae.parameters()]
    protagonist, antagonist = WallGrid(cfg, seed=0), WallGrid(cfg, seed=1)
    game = paired.Config(updates=2, levels=4, episodes=2, variant="flexible")
    metrics = list(clutr.train(vae, protagonist, antagonist, game, seed=0))
    assert len(metrics) == 2 and protagonist.student.updates > 0 and antagonist.student.updates > 0
    assert all(torch.equal(p, q) for p, q in zip(vae.parameters(), before, strict=True))


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="latent is 0"):
        Config(latent=0)
