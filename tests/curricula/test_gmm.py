"""Mixtures against scikit-learn's, and their density against their samples."""

import warnings

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from kit.curricula import gmm
from kit.curricula.gmm import Mixture, Stack

KS = range(2, 11)


def points(seed, dim=3, n=250):
    """Six clusters, the last coordinate often 0 as a learning progress is."""
    rng = np.random.default_rng(seed)
    x = rng.random((6, dim))[rng.integers(6, size=n)] + 0.08 * rng.standard_normal((n, dim))
    x[:, -1] *= rng.random(n) < 0.4
    return x.clip(0, 1)


def start(x, ks, seed):
    return gmm.m_step(x, gmm.k_means(x, ks, np.random.default_rng(seed)), np.array(ks))


def sklearns(mixture, **settings):
    """scikit-learn's, to start from these parameters."""
    return GaussianMixture(
        len(mixture.weights),
        weights_init=mixture.weights / mixture.weights.sum(),
        means_init=mixture.means,
        precisions_init=np.linalg.inv(mixture.covs),
        **settings,
    )


def assert_same(ours, theirs):
    np.testing.assert_allclose(ours.weights, theirs.weights_, atol=1e-6)
    np.testing.assert_allclose(ours.means, theirs.means_, atol=1e-6)
    np.testing.assert_allclose(ours.covs, theirs.covariances_, atol=1e-6)


@pytest.mark.parametrize("dim", [2, 3, 7])
def test_a_step_and_a_whole_fit_equal_scikit_learns(dim):
    x = points(dim, dim)
    stack = start(x, KS, 0)
    step = gmm.m_step(x, gmm.e_step(x, stack)[0], stack.sizes)
    end = gmm.climb(x, stack)
    assert list(end.sizes) == list(KS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one step does not converge
        for m in range(len(KS)):
            assert_same(step[m], sklearns(stack[m], max_iter=1).fit(x))
            assert_same(end[m], sklearns(stack[m]).fit(x))


def test_likelihood_and_aic_equal_scikit_learns():
    x = points(0)
    stack, criteria = gmm.fit_all(x, KS, np.random.default_rng(0))
    likelihood = gmm.e_step(x, stack)[1]
    for m in range(len(KS)):
        theirs = GaussianMixture(KS[m])
        theirs.weights_, theirs.means_, theirs.covariances_ = stack[m].weights, stack[m].means, stack[m].covs
        theirs.precisions_cholesky_ = np.linalg.inv(np.linalg.cholesky(stack[m].covs)).transpose(0, 2, 1)
        assert likelihood[m] == pytest.approx(theirs.score(x), abs=1e-6)
        assert criteria[m] == pytest.approx(theirs.aic(x), abs=1e-6)


def test_the_size_with_the_least_aic_is_taken():
    """Three tight clusters: 3 components, not fewer, and no more than chance adds."""
    rng = np.random.default_rng(1)
    x = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]])[rng.integers(3, size=300)] + 0.02 * rng.standard_normal((300, 2))
    stack, criteria = gmm.fit_all(x, (1, 2, 3, 4), np.random.default_rng(0))
    best = gmm.fit(x, (1, 2, 3, 4), np.random.default_rng(0))
    assert len(best.weights) == stack.sizes[criteria.argmin()] >= 3
    np.testing.assert_array_equal(best.means, stack[int(criteria.argmin())].means)
    sizes = [len(gmm.fit(x, (k,), np.random.default_rng(0)).weights) for k in (1, 4)]
    assert sizes == [1, 4]


def test_fits_are_as_good_as_scikit_learns():
    """The best AIC of nine sizes, over six sets of points."""
    worse = []
    for i in range(6):
        x = points(i)
        theirs = min(GaussianMixture(k, random_state=i).fit(x).aic(x) for k in KS)
        worse.append(gmm.fit_all(x, KS, np.random.default_rng(i))[1].min() - theirs)
    assert np.mean(worse) < 2 * np.std(worse, ddof=1) / np.sqrt(6)


def test_points_that_are_all_the_same_are_no_trouble():
    for x in (np.full((250, 3), 0.5), np.repeat(np.eye(3), 90, axis=0)):
        mixture = gmm.fit(x, KS, np.random.default_rng(0))
        assert np.isfinite(mixture.covs).all() and mixture.weights.sum() == pytest.approx(1)
        assert np.isfinite(mixture.draw(np.arange(len(mixture.weights)), np.random.default_rng(0))).all()


def test_large_numbers_are_no_trouble():
    """Returns in the millions, of which half are one and the same."""
    x = points(0)
    x[:, -1] = np.where(x[:, -1] > 0, 3e6 + 1e6 * x[:, -1], 0)
    mixture = gmm.fit(x, KS, np.random.default_rng(0))
    assert np.isfinite(mixture.factors).all() and mixture.means[:, -1].max() > 3e6


def test_k_means_ends_at_a_fixed_point():
    """Every point is with its nearest centre, and every centre is its points' mean."""
    x = points(3)
    for first, k in ((0, 2), (2, 5)):
        inside = gmm.k_means(x, (2, 5), np.random.default_rng(0))[first : first + k].astype(bool)
        assert (inside.sum(axis=0) == 1).all()
        centres = np.array([x[row].mean(axis=0) for row in inside])
        nearest = ((x[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        np.testing.assert_array_equal(nearest, inside.argmax(axis=0))


def test_choose_is_in_proportion_and_uniform_where_all_are_zero():
    rng = np.random.default_rng(0)
    counts = np.bincount(gmm.choose(np.array([0.0, 1.0, 3.0, 0.0]), rng, 20_000), minlength=4)
    assert counts[0] == counts[3] == 0 and counts[2] / counts[1] == pytest.approx(3, rel=0.06)
    assert np.bincount(gmm.choose(np.zeros(4), rng, 20_000)) == pytest.approx([5000] * 4, rel=0.06)


def test_draws_have_the_components_mean_and_covariance():
    cov = np.array([[0.04, 0.018], [0.018, 0.01]])
    mixture = Mixture(np.ones(2) / 2, np.array([[0.0, 0.0], [3.0, 1.0]]), np.stack([np.eye(2), cov]))
    drawn = mixture.draw(np.ones(40_000, int), np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(axis=0), [3, 1], atol=0.01)
    np.testing.assert_allclose(np.cov(drawn.T), cov, atol=0.001)


def test_a_stack_of_mixtures_gives_them_back():
    stack = start(points(0), (2, 4, 3), 0)
    again = Stack.of([stack[m] for m in range(3)])
    np.testing.assert_array_equal(again.means, stack.means)
    np.testing.assert_array_equal(stack.keep(np.array([True, False, True])).weights, stack.weights[[0, 1, 6, 7, 8]])


def test_bad_input():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="5 points for 10 components"):
        gmm.fit(np.zeros((5, 2)), KS, rng)
    with pytest.raises(ValueError, match="not finite"):
        gmm.fit(np.full((20, 2), np.nan), KS, rng)
