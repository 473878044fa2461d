"""Densities of tasks that a teacher draws uniformly in a box, or from a Gaussian and then clips.

All functions take a space and points (m, d) of its unit cube, and give the density (m,); the uniform density over the
cube is 1. Along a choice among k values it is k times the probability of the point's value, clipped mass included.
Along a number, clipping puts mass on a face, where no density can show it: it is shown spread over the rest of the
Gaussian instead, which so keeps all of its mass inside.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr
from scipy.stats import multivariate_normal

from kit.curricula.space import Space


def bins(space: Space, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edges (m, d) of each point's values; for a number, its point and its point."""
    k = np.maximum(space.choices, 1)
    lower = np.minimum(np.floor(points * k), k - 1) / k
    discrete = space.choices > 0
    return np.where(discrete, lower, points), np.where(discrete, lower + 1 / k, points)


def uniform(space: Space, points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Uniform in the box from low (d,) to high (d,); along a choice the two may be one number."""
    lower, upper = bins(space, points)
    width = np.where(high > low, high - low, 1.0)
    overlap = (np.minimum(upper, high) - np.maximum(lower, low)).clip(0) / width
    holds = (lower <= low) & ((low < upper) | (upper >= 1))  # for a box without width
    chosen = space.choices * np.where(high > low, overlap, holds)
    inside = (points >= low) & (points <= high)
    return np.where(space.choices > 0, chosen, inside / width).prod(axis=1)


def near(
    space: Space, points: np.ndarray, mean: np.ndarray, sigma: float, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Gaussian of mean (d,) and one sigma on every axis, clipped to the box from low (d,) to high (d,)."""
    density, (lower, upper) = np.zeros(len(points)), bins(space, points)
    rows = ((upper >= low) & (lower <= high)).all(axis=1)
    lower, upper = ((np.clip(edge[rows], low, high) - mean) / sigma for edge in (lower, upper))
    first, last = (low - mean) / sigma, (high - mean) / sigma
    below, up_to = np.where(lower <= first, 0.0, ndtr(lower)), np.where(upper >= last, 1.0, ndtr(upper))
    chosen = space.choices * np.where(upper > lower, up_to - below, 0.0)
    number = np.exp(-0.5 * lower**2) / (np.sqrt(2 * np.pi) * sigma * (ndtr(last) - ndtr(first)))
    density[rows] = np.where(space.choices > 0, chosen, number).prod(axis=1)
    return density


def gaussian(space: Space, points: np.ndarray, mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """Gaussian of mean (d,) and covariance (d, d), clipped to the cube; one with numbers and choices counts as all
    numbers. Over three coordinates or more its integrals are good to 1e-4, and take milliseconds each."""
    normal, rng = multivariate_normal(mean, cov, abseps=1e-4, maxpts=1000 * len(mean)), np.random.default_rng(0)
    if not space.discrete:
        inside = normal.cdf(np.ones(len(mean)), lower_limit=np.zeros(len(mean)), rng=rng)
        return normal.pdf(points).reshape(-1) / max(inside, 1e-12)
    lower, upper = bins(space, points)
    lower, upper = np.where(lower <= 0, -np.inf, lower), np.where(upper >= 1 - 1e-9, np.inf, upper)
    return space.count * np.reshape(normal.cdf(upper, lower_limit=lower, rng=rng), -1)
