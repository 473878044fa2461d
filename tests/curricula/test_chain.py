"""The chain: ways by hand, both inequalities of its docstring, the gradient by enumeration, then that it learns."""

from dataclasses import replace
from itertools import islice, product

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import softmax

from kit.curricula import discount_schedule as ads
from kit.curricula.worlds import chain as ch

# One demonstration without pauses and a nearly exact transport: what can be computed by hand.
EXACT = ch.Config(demos=1, pauses=0, epsilon=0.002, sinkhorn_steps=3000)
TINY = ch.Config(
    approach=1, grasp=1, carry=1, detour=1, rest=2, retreat=1, actions=3, demos=1, pauses=0, epsilon=0.1
)  # fmt: skip


def test_frames_by_hand():
    """w = 0.3 for the hand, 0.7 for the ball, times 0.05 where only one of the two frames is beside the wall."""
    cfg = ch.Config()
    cost = ch.make_chain(cfg, seed=0).cost
    at = lambda mode, place: ch.state(cfg, mode, place)  # noqa: E731
    np.testing.assert_allclose(np.diag(cost), 0, atol=1e-12)
    assert cost[3, 5] == pytest.approx(0.3), "before the grasp the ball looks the same"
    assert cost[12, 15] == pytest.approx(1), "then both move"
    assert cost[at(ch.SKIPPED, 15), 15] == pytest.approx(0.7), "only the hand"
    assert cost[at(ch.SKIPPED, 15), 4] == pytest.approx(0.3), "only the ball"
    assert cost[at(ch.DROPPED, 30), 30] == pytest.approx(0.7)
    assert cost[at(ch.DROPPED, 30), 26] == pytest.approx(0.3)
    assert cost[at(ch.ROUND, 30), 30] == pytest.approx(0.95)
    assert cost[at(ch.ROUND, 30), 31] == pytest.approx(1)
    assert cost[at(ch.STOPPED, 7), 7] == pytest.approx(0.7)
    np.testing.assert_allclose(cost[at(ch.RETREAT, 2), :55], 1)


def test_every_way_leads_where_it_should():
    at = lambda mode, place: ch.state(ch.Config(), mode, np.asarray(place))  # noqa: E731
    for seed in range(20):
        chain = ch.make_chain(seed=seed)
        right, skip, drop, stop = (ch.scripted(chain, way) for way in ("right", "skip", "drop", "stop"))
        beside = at(ch.ROUND, range(27, 41))
        np.testing.assert_array_equal(right, np.r_[1:27, beside, 41:55])
        np.testing.assert_array_equal(skip, np.r_[1:7, at(ch.RETREAT, range(5)), at(ch.SKIPPED, range(11, 54))])
        np.testing.assert_array_equal(drop, np.r_[1:27, at(ch.DROPPED, range(27, 55))])
        np.testing.assert_array_equal(stop, np.r_[1:7, np.full(48, at(ch.STOPPED, 6))])
        ways = np.array([np.r_[0, way] for way in (right, skip, drop, stop)])
        assert [ch.outcome(chain, way[None]) for way in ways] == [
            {"grasped": 1, "success": 1}, {"grasped": 0, "success": 0},
            {"grasped": 1, "success": 0}, {"grasped": 0, "success": 0},
        ]  # fmt: skip
        assert chain.secret[0] != 0, "0 skips"
        assert (np.diff(chain.demos, axis=1) == 0).sum(axis=1).max() <= chain.cfg.pauses


def test_standing_still_and_waiting():
    chain = ch.make_chain(seed=0)
    assert (chain.next[2, 1:] == 2).all()
    assert (chain.next[chain.cfg.wall, 2:] == chain.cfg.wall).all()
    assert (chain.next[chain.cfg.horizon] == chain.cfg.horizon).all()


def test_proxy_rewards_by_hand():
    """Skipping: five dark frames cost 1 each, four hands are matched with the grasp's still ball at 0.3, 39 with the
    same hand at 0.7. Letting go: 28 at 0.7. Round: 14 at 0.95. Stopped: all 48 at 1, or as much in another matching."""
    chain = ch.make_chain(EXACT, seed=0)
    ways = np.stack([ch.scripted(chain, way) for way in ("right", "skip", "drop", "stop")])
    rewards = ch.proxy_rewards(chain, ways)
    expected = [-14 * 0.95, -(5 + 4 * 0.3 + 39 * 0.7), -28 * 0.7, -48]
    np.testing.assert_allclose(rewards.sum(axis=1), expected, rtol=1e-3)
    np.testing.assert_allclose(rewards[0], np.r_[np.zeros(26), np.full(14, -0.95), np.zeros(14)], atol=1e-3)
    np.testing.assert_allclose(rewards[2], np.r_[np.zeros(26), np.full(28, -0.7)], atol=1e-3)
    np.testing.assert_allclose(rewards[1, 6:11], -1, atol=1e-3)


def test_the_wall_needs_the_foresight_that_the_docstring_says():
    w, c, d, L = EXACT.hand_share, EXACT.overlap, EXACT.detour, 28
    exact = brentq(lambda g: (1 - c) * g**d - (w - c) - (1 - w) * g**L, 0.8, 0.98)
    assert exact == pytest.approx(0.929, abs=5e-4)
    for cfg, least in ((EXACT, exact), (ch.Config(), 0.945)):  # pauses leave the last frames without a partner
        for seed in range(5):
            chain = ch.make_chain(cfg, seed=seed)
            rewards = ch.proxy_rewards(chain, np.stack([ch.scripted(chain, way) for way in ("right", "drop")]))
            for gamma, better in ((least - 0.005, 1), (least + 0.005, 0)):
                assert ch.returns_to_go(rewards, gamma)[:, cfg.wall].argmax() == better, (cfg.pauses, seed, gamma)


def test_skipping_beats_untrained_fingers_but_never_trained_ones():
    chain = ch.make_chain(seed=0)
    rewards = 1 + ch.proxy_rewards(chain, np.stack([ch.scripted(chain, way) for way in ("right", "skip")]))
    for gamma in (0.8, 0.9, 0.95, 0.99):
        right, skip = ch.returns_to_go(rewards, gamma)[:, chain.cfg.approach]
        untrained = (1 - gamma) / (1 - gamma / chain.cfg.actions)
        assert right > skip
        assert (skip > 2 * untrained) == (gamma > 0.9)


def test_returns_by_hand():
    rewards = np.array([[1.0, 0, 4], [0, 2, 0]])
    np.testing.assert_allclose(ch.returns_to_go(rewards, 0.5), [[1, 1, 2], [0.5, 1, 0]])
    np.testing.assert_allclose(ch.returns_to_go(rewards, 0), rewards)


def test_proxy_rewards_take_the_nearest_demonstration():
    chain = ch.make_chain(seed=3)
    rewards = ch.proxy_rewards(chain, chain.demos)
    np.testing.assert_allclose(rewards, 0, atol=0.02)
    each = ads.ot_reward(ch.episode_costs(chain, chain.demos), chain.cfg.epsilon, chain.cfg.sinkhorn_steps)
    assert each.sum(axis=-1).min() < -0.5, "another demonstration pauses elsewhere"
    twice = ch.proxy_rewards(chain, chain.demos[[2, 0, 2]])
    np.testing.assert_allclose(twice, rewards[[2, 0, 2]], err_msg="rewards go back to their episodes")


def objective(chain: ch.Chain, logits: np.ndarray, states: np.ndarray, actions: np.ndarray, totals: np.ndarray):
    """Expected total reward and its gradient, over all action sequences."""
    pi = softmax(logits, axis=1)
    chance = pi[states[:, :-1], actions].prod(axis=1)
    weights = (len(states) * chance * totals)[:, None].repeat(actions.shape[1], axis=1)
    return chance @ totals, ch.policy_gradient(logits, states[:, :-1], actions, weights)


def test_policy_gradient_equals_finite_differences():
    """REINFORCE over all 3^6 episodes of a tiny chain is the gradient of the expected return."""
    chain, rng = ch.make_chain(TINY, seed=0), np.random.default_rng(0)
    actions = np.array(list(product(range(3), repeat=TINY.horizon)))
    states = np.zeros((len(actions), TINY.horizon + 1), int)
    for t in range(TINY.horizon):
        states[:, t + 1] = chain.next[states[:, t], actions[:, t]]
    totals = ch.proxy_rewards(chain, states[:, 1:]).sum(axis=1)
    logits = rng.normal(size=chain.next.shape)
    gradient = objective(chain, logits, states, actions, totals)[1]
    for entry in [(s, a) for s in np.unique(states[:, :-1]) for a in range(3)]:
        step = np.zeros_like(logits)
        step[entry] = 1e-5
        up, down = (objective(chain, logits + sign * step, states, actions, totals)[0] for sign in (1, -1))
        assert gradient[entry] == pytest.approx((up - down) / 2e-5, abs=1e-8), entry
    assert np.abs(gradient).max() > 0.01


def test_rollout_draws_from_the_softmax():
    chain, rng = ch.make_chain(TINY, seed=0), np.random.default_rng(0)
    logits = rng.normal(size=chain.next.shape)
    states, actions = ch.rollout(chain, logits, 20_000, rng)
    np.testing.assert_array_equal(states[:, 1:], chain.next[states[:, :-1], actions])
    shares = np.bincount(actions[:, 0], minlength=3) / 20_000
    np.testing.assert_allclose(shares, softmax(logits[0]), atol=4 * 0.5 / np.sqrt(20_000))


def test_training_is_deterministic_and_seeds_differ():
    def returns(chain_seed: int, seed: int) -> list[float]:
        chain = ch.make_chain(replace(ch.Config(), updates=5), seed=chain_seed)
        return [m["proxy_return"] for m in ch.train(chain, 0.9, seed=seed)]

    assert returns(0, 0) == returns(0, 0)
    assert returns(0, 0) != returns(0, 1)


def test_training_from_a_restored_schedule_uses_its_discount():
    chain = ch.make_chain(replace(ch.Config(), updates=60), seed=1000)
    first = ads.DiscountSchedule(ch.reference(chain))
    rows = list(ch.train(chain, first, seed=1000))
    assert [m["gamma"] for m in rows] == sorted(m["gamma"] for m in rows)
    second = ads.DiscountSchedule(ch.reference(chain))
    second.load_state_dict(first.state_dict())
    assert next(ch.train(chain, second, seed=1))["gamma"] == first.gamma > rows[0]["gamma"]


def test_linear_progress():
    linear = ch.Linear(horizon=50, updates=4)
    seen = [linear.gamma] + [linear.observe(np.zeros(0)) for _ in range(5)]
    np.testing.assert_allclose(seen, 0.2 ** (1 / np.array([10, 20, 30, 40, 50, 50])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hand_share": 0.6}, "hand_share is 0.6"),
        ({"overlap": 0.3}, "overlap 0.3"),
        ({"actions": 2}, "actions is 2; at least 3"),
        ({"pauses": 14}, "pauses is 14; a demonstration may pause 0 to 13 times"),
        ({"retreat": 54}, "retreat is 54"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ch.Config(**change)


def test_bad_ways_and_discounts_are_refused():
    chain = ch.make_chain(seed=0)
    with pytest.raises(ValueError, match="way is 'left'; it must be right, skip, drop or stop"):
        ch.scripted(chain, "left")
    with pytest.raises(ValueError, match=r"gamma is 1.0; it must lie in \[0, 1\)"):
        next(ch.train(chain, 1.0, seed=0))


def test_the_schedule_learns_both_and_constants_fail_on_either_side():
    chain = ch.make_chain(seed=1000)
    arms = (("ads", ads.DiscountSchedule(ch.reference(chain)), 200), ("small", 0.85, 120), ("large", 0.98, 120))
    last = {}
    for arm, discount, updates in arms:
        rows = list(islice(ch.train(chain, discount, seed=1000), updates))[-20:]
        last[arm] = {k: np.mean([m[k] for m in rows]) for k in ("grasped", "success")}
    assert last["ads"]["success"] > 0.9
    assert last["small"]["grasped"] > 0.9
    assert last["small"]["success"] < 0.1
    assert last["large"]["grasped"] < 0.1
