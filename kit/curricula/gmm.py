"""Gaussian mixtures of several sizes at once, by expectation-maximisation: what ALP-GMM and Covar-GMM refit.

    r_ik    = pi_k N(x_i; mu_k, Sigma_k) / sum_j pi_j N(x_i; mu_j, Sigma_j)                 expectation
    pi_k    = n_k / n,  mu_k = sum_i r_ik x_i / n_k,  n_k = sum_i r_ik                       maximisation
    Sigma_k = sum_i r_ik (x_i - mu_k)(x_i - mu_k)' / n_k + 1e-6 I
    AIC     = 2 p - 2 log L,  p = K (D + D (D + 1) / 2) + K - 1                              Akaike 1974

A step equals one of scikit-learn's `GaussianMixture`, and so do the stopping rule and the start from k-means++. But the
components of all candidates stand in one array, so that a step of nine mixtures is a few NumPy calls: a curriculum
refits often, on few points, where the calls are what costs. Look at `e_step` first, then `fit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

REG_COVAR = 1e-6  # added to the diagonal of every covariance
TOLERANCE = 1e-3  # a fit ends when the mean log-likelihood gains less [nats a point]
MAX_STEPS = 100  # of expectation-maximisation; of k-means, three times as many
LOCAL_TRIALS = 4  # candidates for each centre of k-means++, of which the best is taken


@dataclass(frozen=True)
class Mixture:
    """Weights (K,), means (K, D) and covariances (K, D, D)."""

    weights: np.ndarray
    means: np.ndarray
    covs: np.ndarray

    @cached_property
    def factors(self) -> np.ndarray:
        """Lower Cholesky factors of the covariances, (K, D, D)."""
        return np.linalg.cholesky(self.covs)

    def draw(self, components: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A point (n, D) of each of the components (n,)."""
        noise = rng.standard_normal((len(components), self.means.shape[1]))
        return self.means[components] + (self.factors[components] @ noise[:, :, None])[:, :, 0]

    def memory(self) -> dict[str, Any]:
        return {"weights": self.weights, "means": self.means, "covs": self.covs}

    @classmethod
    def of(cls, memory: dict[str, Any]) -> Mixture:
        return cls(*(np.asarray(memory[name], float) for name in ("weights", "means", "covs")))


@dataclass(frozen=True)
class Stack:
    """M mixtures in one: the components of mixture m are `sizes[m]` rows, after those of m - 1."""

    sizes: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    covs: np.ndarray

    @cached_property
    def owner(self) -> np.ndarray:
        """The mixture of each component, (K,)."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @cached_property
    def first(self) -> np.ndarray:
        """Each mixture's first component, (M,)."""
        return np.cumsum(self.sizes) - self.sizes

    def __getitem__(self, m: int) -> Mixture:
        rows = slice(self.first[m], self.first[m] + self.sizes[m])
        return Mixture(self.weights[rows], self.means[rows], self.covs[rows])

    def keep(self, which: np.ndarray) -> Stack:
        """Only the mixtures of the mask (M,)."""
        if which.all():
            return self
        rows = which[self.owner]
        return Stack(self.sizes[which], self.weights[rows], self.means[rows], self.covs[rows])

    @classmethod
    def of(cls, mixtures: Sequence[Mixture]) -> Stack:
        parts = (np.concatenate([getattr(m, name) for m in mixtures]) for name in ("weights", "means", "covs"))
        return cls(np.array([len(m.weights) for m in mixtures]), *parts)


# ---- expectation and maximisation ---------------------------------------------------------------------------------


def log_gaussians(x: np.ndarray, means: np.ndarray, covs: np.ndarray) -> np.ndarray:
    """log N(x_i; mu_k, Sigma_k), (K, n), of points (n, D)."""
    whiten = np.linalg.inv(np.linalg.cholesky(covs))  # z = whiten (x - mu) has unit covariance
    z = whiten @ x.T - whiten @ means[:, :, None]
    log_det = np.log(np.diagonal(whiten, axis1=1, axis2=2)).sum(axis=1)
    return log_det[:, None] - 0.5 * (np.einsum("kdn,kdn->kn", z, z) + x.shape[1] * np.log(2 * np.pi))


def e_step(x: np.ndarray, stack: Stack) -> tuple[np.ndarray, np.ndarray]:
    """Responsibilities (K, n) and the mean log-likelihood (M,) of each mixture."""
    joint = log_gaussians(x, stack.means, stack.covs) + np.log(stack.weights)[:, None]
    top = np.maximum.reduceat(joint, stack.first, axis=0)
    share = np.exp(joint - top[stack.owner])
    total = np.add.reduceat(share, stack.first, axis=0)
    return share / total[stack.owner], (np.log(total) + top).mean(axis=1)


def m_step(x: np.ndarray, resp: np.ndarray, sizes: np.ndarray) -> Stack:
    """The mixtures that fit points (n, D) best under responsibilities (K, n)."""
    n, dim = x.shape
    mass = resp.sum(axis=1) + 10 * np.finfo(float).eps
    centre = x.mean(axis=0)
    x = x - centre  # second moments about the middle lose no digits
    means = resp @ x / mass[:, None]
    squares = resp @ np.einsum("ni,nj->nij", x, x).reshape(n, -1)
    covs = (squares / mass[:, None]).reshape(-1, dim, dim) - means[:, :, None] * means[:, None, :]
    ridge = max(REG_COVAR, 1e-12 * (x**2).max())  # the second keeps covariances positive beside large numbers
    return Stack(sizes, mass / n, means + centre, covs + ridge * np.eye(dim))


def aic(log_likelihood: np.ndarray, n: int, sizes: np.ndarray, dim: int) -> np.ndarray:
    """Akaike's criterion (M,) of mean log-likelihoods (M,) over n points; the lower the better."""
    parameters = sizes * (dim + dim * (dim + 1) // 2) + sizes - 1
    return 2 * parameters - 2 * n * log_likelihood


# ---- the start ----------------------------------------------------------------------------------------------------


def squared_distances(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(K, n) between points (n, D) and centres (K, D)."""
    return np.maximum((centres**2).sum(1)[:, None] - 2 * centres @ x.T + (x**2).sum(1), 0)


def k_means_plus_plus(x: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """k of the points (n, D), by k-means++ (Arthur and Vassilvitskii 2007): the next one is drawn by its squared
    distance to those chosen; of a few such candidates the one is kept that leaves the least distance."""
    chosen = [int(rng.integers(len(x)))]
    nearest = squared_distances(x, x[chosen])[0]
    while len(chosen) < k:
        candidates = choose(nearest, rng, LOCAL_TRIALS)
        left = np.minimum(squared_distances(x, x[candidates]), nearest)
        best = int(left.sum(axis=1).argmin())
        chosen.append(int(candidates[best]))
        nearest = left[best]
    return x[chosen]


def k_means(x: np.ndarray, ks: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Responsibilities (K, n), 0 or 1, of Lloyd's algorithm for every k at once; all start from the same points."""
    x = x - x.mean(axis=0)
    first = np.cumsum(ks) - ks
    start = k_means_plus_plus(x, max(ks), rng)
    centres, labels = np.concatenate([start[:k] for k in ks]), None
    for _ in range(3 * MAX_STEPS):
        cost = (centres**2).sum(axis=1)[:, None] - 2 * centres @ x.T
        old, labels = labels, np.stack([a + cost[a : a + k].argmin(axis=0) for a, k in zip(first, ks, strict=True)])
        if old is not None and (old == labels).all():
            break
        inside = np.zeros_like(cost)
        inside[labels, np.arange(len(x))] = 1.0
        count = inside.sum(axis=1)[:, None]
        centres = np.where(count > 0, inside @ x / np.maximum(count, 1), centres)
    return inside


# ---- fitting ------------------------------------------------------------------------------------------------------


def climb(x: np.ndarray, stack: Stack) -> Stack:
    """Steps on points (n, D) until the likelihood of each mixture stands still; those that are done are left alone."""
    done: dict[int, Mixture] = {}
    running, before = np.arange(len(stack.sizes)), np.full(len(stack.sizes), -np.inf)
    for step in range(MAX_STEPS):
        resp, likelihood = e_step(x, stack)
        stack = m_step(x, resp, stack.sizes)
        moving = (np.abs(likelihood - before) >= TOLERANCE) & (step < MAX_STEPS - 1)
        done |= {int(running[m]): stack[m] for m in np.flatnonzero(~moving)}
        if not moving.any():
            break
        running, before = running[moving], likelihood[moving]
        stack = stack.keep(moving)
    return Stack.of([done[m] for m in sorted(done)])


def fit_all(x: np.ndarray, ks: Sequence[int], rng: np.random.Generator) -> tuple[Stack, np.ndarray]:
    """A mixture of each size in `ks` on points (n, D), and their criteria (M,), of which the lowest is best.

    Raises:
        ValueError: fewer points than components, or a coordinate that is not finite.
    """
    x = np.asarray(x, float)
    if len(x) < max(ks):
        raise ValueError(f"{len(x)} points for {max(ks)} components; at least one a component is needed")
    if not np.isfinite(x).all():
        raise ValueError("a coordinate of the points is not finite; a mixture needs numbers")
    stack = climb(x, m_step(x, k_means(x, ks, rng), np.asarray(ks)))
    return stack, aic(e_step(x, stack)[1], len(x), stack.sizes, x.shape[1])


def fit(x: np.ndarray, ks: Sequence[int], rng: np.random.Generator) -> Mixture:
    """The mixture on points (n, D), of a size in `ks`, with the least AIC."""
    stack, criteria = fit_all(x, ks, rng)
    return stack[int(criteria.argmin())]


# ---- sampling -----------------------------------------------------------------------------------------------------


def shares(weights: np.ndarray) -> np.ndarray:
    """Weights (K,) >= 0 scaled to sum to 1; all equal if all are 0."""
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(weights), 1 / len(weights))


def choose(weights: np.ndarray, rng: np.random.Generator, n: int) -> np.ndarray:
    """n indices drawn in proportion to weights (K,) >= 0; uniformly if all are 0."""
    total = np.cumsum(weights)
    if total[-1] <= 0:
        return rng.integers(len(weights), size=n)
    return np.minimum(total.searchsorted(rng.random(n) * total[-1], side="right"), len(weights) - 1)
