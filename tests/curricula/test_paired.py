"""PAIRED: what the adversary is paid, that its gradients are right, and that regret is fair where minimax is not."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete

from kit.curricula import paired
from kit.curricula.paired import AdversaryConfig, Builder, Config, SoftmaxAdversary, regret
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback
from kit.curricula.worlds.lock_chain import Config as LockConfig
from kit.curricula.worlds.lock_chain import LockChain
from kit.curricula.worlds.mazes import MazeSpace

P = np.array([[0.0, 1.0, 0.5], [0.5, 0.0, 0.5]])  # two episodes on three levels: means 1/4, 1/2, 1/2
A = np.array([[1.0, 0.0, 0.5], [0.0, 0.0, 0.5]])  # means 1/2, 0, 1/2


def test_regret_by_hand():
    np.testing.assert_allclose(regret(P, A), [1 - 0.25, 0.0, 0.0])
    np.testing.assert_allclose(regret(P, A, "flexible"), [1 - 0.25, 1 - 0.0, 0.0])
    np.testing.assert_allclose(regret(P, None, "minimax"), [-0.25, -0.5, -0.5])


def test_nobody_is_paid_for_a_level_that_nobody_solves_but_minimax():
    none = np.zeros((3, 4))
    assert (regret(none, none) == 0).all() and (regret(none, none, "flexible") == 0).all()
    assert (regret(none, none, "minimax") > regret(none + 0.1, none, "minimax")).all()


def test_flexible_regret_is_that_of_the_better_student():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 5, 200))
    flexible = regret(a, b, "flexible")
    for i in range(200):
        strong, weak = (b, a) if b[:, i].mean() > a[:, i].mean() else (a, b)
        assert np.isclose(flexible[i], max(strong[:, i]) - sum(weak[:, i]) / 5)
    np.testing.assert_allclose(regret(b, a, "flexible"), flexible, err_msg="no student is the protagonist")
    assert (flexible >= 0).all()


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="variant is 'fair'; it must be one of regret, flexible, minimax"):
        regret(P, A, "fair")
    with pytest.raises(ValueError, match="variant is 'fair'"):
        Config(variant="fair")
    with pytest.raises(ValueError, match="levels is 0"):
        Config(levels=0)


def test_reinforce_is_the_gradient_of_the_mean_reward():
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=6), requires_grad=True)
    chosen, rewards = rng.integers(6, size=40), rng.random(40)
    log_p = torch.log_softmax(logits, dim=0)
    loss = (torch.tensor(rewards - rewards.mean()) * log_p[torch.tensor(chosen)]).mean()
    (expected,) = torch.autograd.grad(loss, logits)
    found = paired.reinforce(log_p.exp().detach().numpy(), chosen, rewards)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)


def test_standardised():
    np.testing.assert_allclose(paired.standardised(np.array([1.0, 3.0])), [-1, 1], atol=1e-6)
    assert (paired.standardised(np.full(4, 0.3)) == 0).all()


def test_the_softmax_finds_what_is_paid_best():
    space = Space(task=Discrete(20))
    adversary, worth = SoftmaxAdversary(space, seed=0), np.linspace(0, 1, 20) ** 4
    for _ in range(300):
        adversary.propose(32)
        adversary.learn(worth[adversary.chosen])
    assert worth[adversary.chosen].mean() > 0.8 > worth.mean() + 0.4


def test_the_builder_learns_to_build_what_is_paid():
    space = MazeSpace(12)
    builder = Builder(space, AdversaryConfig(learning_rate=3e-3), seed=0)

    def left(levels):  # of all walls, the share in the three left columns
        return levels.walls.reshape(-1, 7, 7)[:, :, :3].sum(axis=(1, 2)) / levels.walls.sum(axis=1)

    shares = []
    for _ in range(40):
        levels = space.levels_of(builder.propose(32))
        assert (levels.walls.sum(axis=1) <= 12).all()
        shares.append(left(levels).mean())
        builder.learn(left(levels))
    assert shares[0] < 0.55 and np.mean(shares[-5:]) > 0.75


def test_the_builder_sees_what_it_has_built():
    builder = Builder(MazeSpace(3), seed=0)
    builder.propose(4)
    seen, tokens, logs = builder.last
    walls, goal, step = seen[:, :, :49], seen[:, :, 49:98], seen[:, :, 98:103]
    for i in range(4):
        for j in range(5):
            assert set(np.flatnonzero(walls[i, j])) == set(tokens[i, : min(j, 3)])
            assert set(np.flatnonzero(goal[i, j])) == set(tokens[i, 3:4] if j == 4 else [])
            assert step[i, j].tolist() == np.eye(5)[j].tolist()
    again = torch.log_softmax(builder.actor(torch.from_numpy(seen)), dim=2).detach().numpy()
    np.testing.assert_allclose(np.take_along_axis(again, tokens[..., None], axis=2)[..., 0], logs, atol=1e-5)


class Counts:
    """A world that remembers what it was given, and returns a number of the level."""

    def __init__(self, space, factor):
        self.space, self.factor, self.seen = space, factor, []

    def play(self, tasks):
        numbers = [values["task"] for values in self.space.decode([t.point for t in tasks])]
        assert numbers == [t.values["task"] for t in tasks]
        self.seen.append(numbers)
        return [Feedback(t.id, self.factor * number) for t, number in zip(tasks, numbers, strict=True)]

    def score(self):
        return 0.5


def test_both_students_play_the_same_levels_k_times_and_the_adversary_is_paid_their_regret():
    space = Space(task=Discrete(10))
    protagonist, antagonist, paid = Counts(space, 1.0), Counts(space, 3.0), []
    adversary = SoftmaxAdversary(space, seed=0)
    adversary.learn = paid.append
    metrics = list(paired.train(adversary, protagonist, antagonist, Config(updates=2, levels=4, episodes=3)))
    assert protagonist.seen == antagonist.seen
    first = protagonist.seen[0]
    assert len(first) == 12 and first[:4] == first[4:8] == first[8:]
    np.testing.assert_allclose(paid[0], 2.0 * np.array(first[:4]))
    assert [m["updates"] for m in metrics] == [1, 2] and metrics[0]["reward"] == paid[0].mean()
    assert metrics[0].agent is protagonist


def test_only_minimax_does_without_an_antagonist():
    space = Space(task=Discrete(10))
    with pytest.raises(ValueError, match="the variant 'regret' needs an antagonist"):
        next(paired.train(SoftmaxAdversary(space), Counts(space, 1), None, Config()))
    run = paired.train(SoftmaxAdversary(space), Counts(space, 1), None, Config(variant="minimax", updates=1))
    assert "antagonist_return" not in next(run)


def lock_run(variant: str, seed: int) -> tuple[float, list[float]]:
    cfg = LockConfig(unsolvable=0.5)
    protagonist, antagonist = LockChain(cfg, seed=seed), LockChain(cfg, seed=seed)
    antagonist.rng = np.random.default_rng((seed, 1))  # the same lock, another student
    adversary, unsolvable, rewards = SoftmaxAdversary(protagonist.space, seed=seed), [], []
    for metrics in paired.train(
        adversary, protagonist, antagonist, Config(updates=500, levels=16, episodes=1, variant=variant)
    ):
        unsolvable.append(np.mean(~protagonist.solvable[adversary.chosen]))
        rewards.append(metrics["reward"])
    return float(np.mean(unsolvable)), rewards


def test_regret_leaves_impossible_locks_alone_and_minimax_seeks_them():
    fair, unfair = lock_run("regret", 0), lock_run("minimax", 0)
    assert fair[0] < 0.5 < unfair[0]
    assert lock_run("regret", 0) == fair, "one seed, one history"
