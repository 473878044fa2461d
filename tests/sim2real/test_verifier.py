"""The mixture against torch's own, threshold and error rates by hand, the loop against its algebra; that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import distributions as D

from kit.claims import verifier as claimed
from kit.sim2real.people import drawers, verifier
from kit.sim2real.people.verifier import Clone, Config, error_rates, expected_success, mixture_loss, settle, threshold

SMALL = Config(scenes=60, demos=120, steps=400, verifier_steps=200, labelled=60, unseen=60, hidden=64)


@pytest.fixture(scope="module")
def policy():
    *_, last = verifier.train(SMALL, seed=0)
    return last.agent


def test_mixture_loss_equals_torchs_mixture():
    g = torch.Generator().manual_seed(0)
    log_w = torch.log_softmax(torch.randn(7, 3, generator=g), 1)
    mean, log_std, a = (torch.randn(s, generator=g) for s in ((7, 3, 2), (7, 3, 2), (7, 2)))
    theirs = D.MixtureSameFamily(D.Categorical(logits=log_w), D.Independent(D.Normal(mean, log_std.exp()), 1))
    torch.testing.assert_close(mixture_loss(log_w, mean, log_std, a), -theirs.log_prob(a).mean())


def test_predict_draws_from_the_mixture():
    policy = Clone(np.random.default_rng(0).normal(size=(50, 12)).astype(np.float32), SMALL, torch.Generator(), seed=0)
    with torch.no_grad():
        policy.net[-1].weight.zero_()
        out = policy.net[-1].bias.reshape(5, 5)
        out[:, 0] = torch.tensor([0.8, 0.2, 1e-9, 1e-9, 1e-9]).log()
        out[:, 1:3], out[:, 3:] = torch.tensor([[-0.5, 0.1]] * 1 + [[0.5, 0.1]] * 4), -9.0
    drawn, _ = policy.predict(np.zeros((4000, 12), np.float32))
    assert np.mean(drawn[:, 0] < 0) == pytest.approx(0.8, abs=0.02)
    left = drawn[drawn[:, 0] < 0]
    assert left.mean(axis=0) == pytest.approx([-0.5, 0.1], abs=0.01), "sigma is no smaller than least_std"
    assert left.std(axis=0) == pytest.approx([SMALL.least_std] * 2, rel=0.05)
    likeliest, state = policy.predict(np.zeros(12, np.float32), deterministic=True)
    assert likeliest == pytest.approx([-0.5, 0.1]) and state is None


def test_threshold_by_hand_and_its_promise():
    scores = np.array([-3.0, -1.0, 0.5, 2.0, 9.0, 8.0])
    success = np.array([0, 0, 0, 0, 1, 1], bool)
    assert threshold(scores, success, 0.0) == 2.0  # above every failure
    assert threshold(scores, success, 0.25) == 0.5  # one of four failures may pass
    rng = np.random.default_rng(0)
    for alpha in (0.0, 0.05, 0.31):
        scores, success = rng.normal(size=97), rng.random(97) < 0.4
        assert error_rates(scores > threshold(scores, success, alpha), success)[0] <= alpha


def test_error_rates_by_hand():
    yes, success = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 0, 0, 1], bool)
    assert error_rates(yes, success) == (pytest.approx(2 / 3), 0.5)
    assert error_rates(yes, np.ones(5, bool))[0] == 0 and error_rates(yes, np.zeros(5, bool))[1] == 0


def test_settle_by_hand():
    opened = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 1, 1], [1, 0, 1, 0, 0]], bool)
    yes = np.array([[1, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool)
    # accepted at once; at the second try; a failure accepted; a success rejected and then lost; never accepted
    success, used = settle(opened, yes)
    assert success.tolist() == [True, True, False, False, False] and used.tolist() == [1, 2, 1, 3, 3]


@pytest.mark.parametrize(("p", "alpha", "beta", "tries"), [(0.6, 0.1, 0.2, 3), (0.3, 0.0, 0.0, 4), (0.7, 1, 0, 3)])
def test_expected_success_equals_simulation(p, alpha, beta, tries):
    rng = np.random.default_rng(0)
    opened = rng.random((tries, 200_000)) < p
    yes = rng.random(opened.shape) < np.where(opened, 1 - beta, alpha)
    assert settle(opened, yes)[0].mean() == pytest.approx(expected_success(p, alpha, beta, tries), abs=0.005)


def test_expected_success_in_closed_forms():
    assert expected_success(0.4, 0, 0, 3) == pytest.approx(1 - 0.6**3)  # a perfect verifier
    assert expected_success(0.4, 0, 1, 3) == pytest.approx(0.4)  # one that always says no
    assert expected_success(0.4, 1, 0, 3) == pytest.approx(0.4)  # one that always says yes
    assert expected_success(0.4, 0.3, 0.7, 5) == pytest.approx(0.4)  # one that tosses a coin


def test_the_loop_equals_what_all_tries_would_settle(policy):
    def eager(frames):
        return frames[:, 0] > 0.0

    task = verifier.unseen(SMALL, seed=3)
    policy.rng = np.random.default_rng(9)
    opened, frames = verifier.attempts(task, policy, 3)
    policy.rng = np.random.default_rng(9)
    success, used = verifier.retry(verifier.unseen(SMALL, seed=3), policy, eager, 3)
    expected = settle(opened, np.array([eager(f) for f in frames]))
    np.testing.assert_array_equal(success, expected[0])
    np.testing.assert_array_equal(used, expected[1])
    assert len(set(used)) > 1


def test_a_deterministic_attempt_with_the_same_noise_is_the_same(policy):
    tried = [verifier.attempts(verifier.unseen(SMALL, seed=4), policy, 1, deterministic=True) for _ in range(2)]
    np.testing.assert_array_equal(tried[0][1], tried[1][1])
    drawn = [verifier.attempts(verifier.unseen(SMALL, seed=4), policy, 1) for _ in range(2)]
    assert (drawn[0][1] != drawn[1][1]).any()


def test_it_learns_and_two_modes_are_kept(policy):
    opened, _ = verifier.attempts(verifier.unseen(SMALL, seed=5), policy, 1)
    assert opened.mean() > 0.15, "by chance no drawer opens"
    rng = np.random.default_rng(0)
    scene = drawers.draw(1, rng) | {"place": np.array([[0.0, 0.35]]), "angle": np.zeros((1, 1))}
    task = drawers.start(drawers.repeat(scene, 40), rng, SMALL.drawers)
    sides = np.zeros(40)
    for _ in range(task.max_steps):
        task.step(policy.predict(task.observe())[0])
        u, v = task.local()
        sides = np.where((sides == 0) & (v < task.opening + 0.04), np.sign(u), sides)
    assert (sides < 0).sum() >= 4 and (sides > 0).sum() >= 4


def test_the_verifier_keeps_its_promise_on_new_scenes(policy):
    judge = verifier.train_verifier(policy, replace(SMALL, labelled=100), seed=0)
    opened, frames = verifier.attempts(verifier.unseen(SMALL, seed=6), policy, 4)
    accepted, rejected = error_rates(judge.says_yes(frames).ravel(), opened.ravel())
    assert accepted < 0.15 and rejected < 0.15


def test_training_is_deterministic_and_touches_no_global_generator():
    tiny = replace(SMALL, steps=50)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = ([m["loss"] for m in verifier.train(tiny, seed=0)] for _ in range(2))
    assert first == second and len(first) == 1
    assert first != [m["loss"] for m in verifier.train(tiny, seed=1)]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_policy_is_saved_and_goes_on(policy):
    other = Clone(np.zeros((2, 12), np.float32), SMALL, torch.Generator(), seed=0)
    other.load_state_dict(policy.state_dict())
    seen = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
    np.testing.assert_array_equal(*(p.predict(seen, deterministic=True)[0] for p in (policy, other)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Config(scenes=7), "480 demonstrations in 7 scenes"),
        (lambda: Config(false_accept=1.0), "false_accept is 1.0"),
        (lambda: Config(tries=0), "tries is 0"),
        (lambda: threshold(np.ones(3), np.ones(3, bool), 0.1), "all 3 labelled attempts succeeded"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_claims_agree_whatever_ran_before(monkeypatch):
    tiny = replace(SMALL, scenes=30, demos=60, steps=50, labelled=40, unseen=20)
    monkeypatch.setattr(claimed, "config", lambda arm, budget: tiny)
    first = [claimed.retries("retry", 0, "fast"), claimed.diversity("many", 0, "fast")]
    again = [claimed.diversity("many", 0, "fast"), claimed.retries("retry", 0, "fast")][::-1]
    claimed.seen.cache_clear()
    assert first == again == [claimed.retries("retry", 0, "fast"), claimed.diversity("many", 0, "fast")]
    claimed.seen.cache_clear()
    claimed.trained.cache_clear()
