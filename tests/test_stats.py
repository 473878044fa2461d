"""Statistics against closed forms, brute force and library twins."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from kit import stats
from kit.stats import behaviour_entropy, conditional_entropy


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (190, 200)])
def test_wilson_interval_closed_form(k, n):
    z, p = scipy_stats.norm.ppf(0.975), k / n
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    estimate = stats.success_rate(np.repeat([1, 0], [k, n - k]))
    assert estimate.value == p and estimate.n == n
    assert estimate.low == pytest.approx((centre - half) / (1 + z**2 / n), abs=1e-12)
    assert estimate.high == pytest.approx((centre + half) / (1 + z**2 / n), abs=1e-12)


def test_wilson_interval_covers_the_truth():
    rng, p, n = np.random.default_rng(0), 0.9, 50
    intervals = [stats.success_rate(rng.random(n) < p) for _ in range(2000)]
    covered = np.mean([e.low <= p <= e.high for e in intervals])
    assert 0.93 < covered < 0.98


def test_iqm_is_the_mean_of_the_middle_half():
    values = np.array([9.0, 1, 2, 3, 4, 5, 6, -100])
    assert stats.iqm(values) == pytest.approx(np.mean([2, 3, 4, 5]))


def test_iqm_interval_is_deterministic_and_shrinks():
    rng = np.random.default_rng(0)
    small, large = rng.normal(size=10), rng.normal(size=1000)
    a, b = stats.iqm_interval(small, seed=1), stats.iqm_interval(small, seed=1)
    assert a == b and a.low < a.value < a.high
    c = stats.iqm_interval(large, seed=1)
    assert c.high - c.low < 0.3 * (a.high - a.low)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.success_rate([]), "0 values"),
        (lambda: stats.success_rate([0, 1, 2]), "found 2"),
        (lambda: stats.iqm([1.0, np.nan]), "nan"),
        (lambda: stats.iqm_interval([1.0], seed=0), "at least 2"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- behaviour entropy ------------------------------------------------------------------------------------------


def test_entropy_of_all_ways_alike_of_one_way_and_of_no_success():
    every = np.tile(np.arange(24), 20)
    yes = np.ones(480, bool)
    assert behaviour_entropy(every, yes, 24) == 1 and behaviour_entropy(
        every, yes, 24, corrected=False
    ) == pytest.approx(1)
    assert behaviour_entropy(np.full(480, 7), yes, 24) == 0
    assert np.isnan(behaviour_entropy(every, ~yes, 24))  # not 0: nobody knows


def test_entropy_counts_successes_only_and_by_hand():
    modes, success = np.array([0, 0, 1, 5, -1]), np.array([True, True, True, False, False])
    plain = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)) / np.log(6)
    assert behaviour_entropy(modes, success, 6, corrected=False) == pytest.approx(plain)
    assert behaviour_entropy(modes, success, 6) == pytest.approx(plain + 1 / (6 * np.log(6)))


def test_the_correction_removes_most_of_the_bias():
    rng = np.random.default_rng(0)
    yes = np.ones(100, bool)
    drawn = [rng.integers(24, size=100) for _ in range(400)]
    plain, mended = (np.mean([behaviour_entropy(m, yes, 24, corrected=c) for m in drawn]) for c in (False, True))
    assert plain == pytest.approx(1 - 0.036, abs=0.005) and abs(mended - 1) < 0.3 * (1 - plain)


def test_conditional_entropy_leaves_out_contexts_without_success():
    modes = np.array([0, 1, 0, 0, 1, 1])
    contexts = np.array([0, 0, 1, 1, 2, 2])
    success = np.array([True, True, True, True, False, False])
    assert conditional_entropy(modes, success, contexts, 2, corrected=False) == pytest.approx(0.5)
    assert np.isnan(conditional_entropy(modes, np.zeros(6, bool), contexts, 2))


@pytest.mark.parametrize(
    ("modes", "success", "count", "message"),
    [
        ([0, 24], [True, True], 24, "ways 0 to 24 among the successes; they are 0 to 23"),
        ([-1, 2], [True, True], 24, "ways -1 to 2"),
        ([0, 1], [True], 24, "must agree"),
        ([0, 0], [True, True], 1, "be 2 or more"),
    ],
)
def test_bad_entropies(modes, success, count, message):
    with pytest.raises(ValueError, match=message):
        behaviour_entropy(np.array(modes), np.array(success), count)
