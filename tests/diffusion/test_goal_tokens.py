"""Goals as tokens and goals in hindsight."""

import numpy as np
import pytest
import torch

from kit.data import Episodes
from kit.diffusion import goals
from kit.diffusion.goals import GoalEncoder, HindsightGoals, Path, State, Word
from kit.diffusion.nets import seeded

WORDS = torch.eye(3)


def encoder(kinds, width=8, seed=0):
    with seeded(seed):
        return GoalEncoder(kinds, width)


def walks(lengths=(4, 9, 2)):
    """Episodes whose goal is the time since the start, and the number of the episode."""
    rows = [np.stack([np.arange(n + 1.0), np.full(n + 1, i)], axis=1) for i, n in enumerate(lengths)]
    flat = np.concatenate(rows)
    ends = np.cumsum([n + 1 for n in lengths]) - 1
    last = np.isin(np.arange(len(flat)), ends - 1)
    return Episodes(flat, np.zeros((len(flat), 1)), last, np.zeros(len(flat), bool), ends, flat)


# ---- tokens -------------------------------------------------------------------------------------------------------


def test_a_state_and_a_word_are_one_linear_token():
    for kind, goal in ((State(4), torch.randn(5, 4)), (Word(3), WORDS[[0, 1, 2, 2, 0]])):
        e = encoder(kind)
        tokens, mask = e(goal)
        read = next(iter(e.read.values()))
        assert tokens.shape == (5, 1, 8) and mask.all()
        assert torch.allclose(tokens[:, 0], goal @ read.weight.T + read.bias + e.places[0], atol=1e-6)


def test_a_path_is_one_token_a_point_and_null_after_its_end():
    e, path = encoder(Path(2, 4)), torch.randn(2, 4, 2)
    path[1, 2:] = torch.nan
    tokens, mask = e(path)
    assert mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert torch.equal(tokens[1, 2:], e.null.expand(2, 8))
    assert torch.equal(tokens[1, :2], e(torch.cat([path[1:, :2], path[1:, :2]], dim=1))[0][0, :2])  # own points only
    assert torch.equal(e(path.flatten(1))[0], tokens)  # as part of an observation it is flat


def test_kinds_share_a_width_and_the_number_of_tokens():
    e = encoder({"end": State(2), "say": Word(3), "way": Path(2, 5)})
    for name, goal in (("end", torch.ones(2, 2)), ("say", WORDS[:2]), ("way", torch.ones(2, 5, 2))):
        tokens, mask = e(goal, kind=name)
        assert tokens.shape == (2, 5, 8) and mask.sum(dim=1).tolist() == [e.kinds[name].tokens] * 2


def test_a_whole_sample_is_dropped_or_none_of_it():
    e, path = encoder(Path(2, 4)), torch.randn(300, 4, 2)
    dropped = goals.whole(300, 0.1, torch.Generator().manual_seed(0))
    tokens, mask = e(path, dropped)
    null = (tokens == e.null).all(dim=-1)  # (B, tokens)
    assert (null.all(dim=1) == dropped).all() and (null.any(dim=1) == dropped).all()
    assert mask[dropped].tolist() == [[True, False, False, False]] * int(dropped.sum())
    assert torch.equal(tokens[~dropped], e(path)[0][~dropped])


def test_the_share_of_dropped_samples_is_the_one_asked_for():
    share = goals.whole(20_000, 0.1, torch.Generator().manual_seed(1)).float().mean().item()
    assert abs(share - 0.1) < 4 * (0.1 * 0.9 / 20_000) ** 0.5
    assert not goals.whole(100, 0.0, torch.Generator()).any() and goals.whole(100, 1.0, torch.Generator()).all()


def test_dropped_goals_are_not_looked_at_and_nothing_of_them_is_seen():
    e, dropped = encoder(Word(3)), torch.tensor([True, False])
    one, two = torch.stack([WORDS[0], WORDS[1]]), torch.stack([torch.full((3,), torch.nan), WORDS[1]])
    assert torch.equal(e(one, dropped)[0], e(two, dropped)[0])
    assert torch.equal(e(torch.zeros(2, 3), torch.ones(2, dtype=torch.bool))[0][:, 0], e.null.expand(2, 8))


def test_the_null_token_learns_and_is_not_zero():
    e = encoder(State(2))
    tokens, _ = e(torch.ones(3, 2), torch.tensor([True, False, False]))
    tokens.sum().backward()
    assert (e.null != 0).all() and torch.equal(e.null.grad, torch.ones(8))


def test_the_same_seed_gives_the_same_tokens():
    assert torch.equal(encoder(Word(3))(WORDS)[0], encoder(Word(3))(WORDS)[0])
    assert not torch.equal(encoder(Word(3))(WORDS)[0], encoder(Word(3), seed=1)(WORDS)[0])


@pytest.mark.parametrize(
    ("kind", "goal", "message"),
    [
        (Word(3), torch.tensor([[0.2, 0.3, 0.5]]), "a word is one-hot"),
        (Word(3), torch.zeros(1, 3), "a word is one-hot"),
        (Word(3), torch.ones(2, 4), r"shape \(2, 4\); a word is \(B, 3\)"),
        (State(4), torch.ones(2, 3), r"a state is \(B, 4\)"),
        (State(2), torch.tensor([[0.0, torch.nan]]), "a state goal must be finite"),
        (Path(2, 3), torch.ones(2, 4, 2), r"a path is \(B, 3, 2\)"),
        (Path(2, 3), torch.tensor([[[1.0, 1], [torch.nan, 1], [1, 1]]]), "NaN only after it"),
        (Path(2, 3), torch.full((1, 3, 2), torch.nan), "NaN only after it"),
    ],
)
def test_a_goal_of_the_wrong_kind_is_refused(kind, goal, message):
    with pytest.raises(ValueError, match=message):
        encoder(kind)(goal)


def test_an_unknown_or_missing_name_of_a_kind_is_refused():
    e = encoder({"end": State(2), "say": Word(3)})
    with pytest.raises(ValueError, match="no goal of the kind 'word'; this encoder knows end, say"):
        e(WORDS, kind="word")
    with pytest.raises(ValueError, match="no goal of the kind None"):
        e(WORDS)
    with pytest.raises(ValueError, match="without a kind"):
        encoder({})


# ---- hindsight ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", goals.DISTRIBUTIONS)
def test_goals_come_later_in_the_same_episode(distribution):
    data = walks()
    rows = np.repeat(data.steps, 200)
    found = HindsightGoals(data, distribution, gamma=0.8).sample(rows, np.random.default_rng(0))
    now = data.goals[rows]
    assert (found[:, 1] == now[:, 1]).all() and (found[:, 0] > now[:, 0]).all()
    if distribution == "final":
        assert (found[:, 0] == np.array([4, 9, 2])[now[:, 1].astype(int)]).all()


def test_geometric_steps_have_the_geometric_distribution():
    n, gamma = 40_000, 0.8
    u = np.random.default_rng(0).random(n)
    ahead = goals.later(np.zeros(n, int), np.full(n, 10**6), u, "geometric", gamma)
    for j in range(1, 8):
        expected = gamma ** (j - 1)
        assert abs((ahead >= j).mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / n) + 1e-12
    assert (goals.later(np.zeros(n, int), np.full(n, 3), u, "geometric", gamma) <= 3).all()


def test_uniform_goals_are_uniform_over_the_rest():
    n = 30_000
    u = np.random.default_rng(1).random(n)
    counts = np.bincount(goals.later(np.full(n, 2), np.full(n, 7), u, "uniform"), minlength=8)
    assert counts[:3].sum() == 0 and (np.abs(counts[3:] / n - 0.2) < 4 * np.sqrt(0.2 * 0.8 / n)).all()


def test_paths_end_where_the_episode_ends():
    data = walks((4, 8))
    found = HindsightGoals(data).paths(np.array([0, 5, 9]), 4)
    assert found[0, :, 0].tolist() == [1, 2, 3, 4]
    assert found[1, :, 0].tolist() == [2, 4, 6, 8]
    assert found[2, :, 0].tolist() == [5, 6, 7, 8] and (found[2, :, 1] == 1).all()


def test_hindsight_refuses_what_has_no_future():
    data = walks()
    with pytest.raises(ValueError, match="row 4 ends its episode"):
        HindsightGoals(data).sample(np.array([0, 4]), np.random.default_rng(0))
    with pytest.raises(ValueError, match="unknown distribution 'last'; there are geometric, uniform, final"):
        HindsightGoals(data, "last")
    with pytest.raises(ValueError, match="gamma is 1"):
        HindsightGoals(data, gamma=1.0)
    fields = ("observations", "actions", "terminated", "truncated", "ends")
    with pytest.raises(ValueError, match="no goals"):
        HindsightGoals(Episodes(*(getattr(data, k) for k in fields)))
