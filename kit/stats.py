"""Means that come with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A point estimate with a confidence interval."""

    value: float
    low: float
    high: float
    n: int  # observations behind it

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}] (n = {self.n})"


def _values(values: np.ndarray, least: int) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64).ravel()
    if len(values) < least:
        raise ValueError(f"{len(values)} values; at least {least} are needed for an interval")
    if not np.isfinite(values).all():
        raise ValueError(f"value {values[~np.isfinite(values)][0]} among {len(values)}; all must be finite")
    return values


def wilson(successes: np.ndarray, z: float) -> tuple[float, float, float]:
    """Share of successes (n,), each 0 or 1, and its interval's ends (Wilson 1927), `z` standard deviations to a side.

    The interval holds every p from which the share is at most z sqrt(p (1 - p) / n) away.
    """
    n, share = len(successes), float(np.mean(successes))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return share, max(float(centre - half), 0.0), min(float(centre + half), 1.0)


def success_rate(successes: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Share of successes (n,) with Wilson's interval, which stays inside 0..1 and is not empty at either end."""
    values = _values(successes, least=1)
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"successes must be 0 or 1; found {values[~np.isin(values, (0, 1))][0]}")
    return Estimate(*wilson(values, float(stats.norm.ppf(0.5 + confidence / 2))), len(values))


def held(distances: np.ndarray, tolerance: float, steps: int) -> np.ndarray:
    """Whether each of N simulations stayed closer than `tolerance` in all of its last `steps` steps, bool (N,).

    `distances` (T, N) has a row a step, and `tolerance` its unit.
    """
    return (distances[-steps:] < tolerance).all(axis=0)


def iqm(values: np.ndarray) -> float:
    """Interquartile mean: the mean of the middle half (Agarwal et al. 2021)."""
    return float(stats.trim_mean(_values(values, least=1), 0.25))


def iqm_interval(values: np.ndarray, *, seed: int, confidence: float = 0.95, resamples: int = 2000) -> Estimate:
    """Interquartile mean with its percentile bootstrap interval."""
    values = _values(values, least=2)
    result = stats.bootstrap(
        (values,),
        lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
        confidence_level=confidence,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Estimate(iqm(values), *result.confidence_interval, len(values))


def behaviour_entropy(modes: np.ndarray, success: np.ndarray, count: int, *, corrected: bool = True) -> float:
    """Of the ways (n,), numbered 0 to `count` - 1, that successful rollouts took: 0 for one way, 1 for all alike.

        H = -sum_b p(b) log_count p(b)  [+ (seen - 1) / (2 n ln count)]

    The plain estimate is too small, by about as much as the second term adds (Miller 1955). NaN without any success:
    who never succeeds has no way of his own. D3IL (Jia et al. 2024).

    Raises:
        ValueError: shapes that differ, a way outside 0..count-1 among the successes, or fewer than two ways.
    """
    modes, success = np.asarray(modes, int), np.asarray(success, bool)
    if modes.shape != success.shape or count < 2:
        raise ValueError(
            f"modes {modes.shape} and success {success.shape} must agree, and count, {count}, be 2 or more"
        )
    taken = modes[success]
    if len(taken) and not (taken.min() >= 0 and taken.max() < count):
        raise ValueError(f"ways {taken.min()} to {taken.max()} among the successes; they are 0 to {count - 1}")
    if not len(taken):
        return float("nan")
    share = np.bincount(taken, minlength=count) / len(taken)
    seen = share[share > 0]
    plain = -(seen * np.log(seen)).sum() / np.log(count)
    bias = (len(seen) - 1) / (2 * len(taken) * np.log(count)) if corrected else 0.0
    return float(min(plain + bias, 1.0))


def conditional_entropy(
    modes: np.ndarray, success: np.ndarray, contexts: np.ndarray, count: int, *, corrected: bool = True
) -> float:
    """The mean of `behaviour_entropy` over contexts (n,) in which anything succeeded; NaN if nothing did."""
    contexts = np.asarray(contexts)
    groups = [contexts == c for c in np.unique(contexts)]
    found = [
        behaviour_entropy(np.asarray(modes)[g], np.asarray(success)[g], count, corrected=corrected) for g in groups
    ]
    known = [h for h in found if np.isfinite(h)]
    return float(np.mean(known)) if known else float("nan")
