"""What a claim is, which there are, and how its verdict is reached.

A claim compares two arms on the same seeds. Its effect is the mean over seeds of

    d_i = sign (metric of the treatment - metric of the control),   sign = +1 where more is better, else -1,

with the paired 95 % t-interval  d +- t_{0.975, n-1} s_d / sqrt(n).  It holds if the interval's lower end is above the
margin, fails if its upper end is below, and is unclear where the interval straddles it. Where all differences agree
the interval is the point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

import numpy as np
from scipy import stats as scipy_stats

LEAST_SEEDS = 5  # fewer give no verdict
COST_S = {"quick": 120.0, "long": 900.0}  # what one seed of a claim may take on one core [s]

Result = dict[str, Any]
Arm = str
Run = Callable[[Arm, int, str], Mapping[str, float]]


@dataclass(frozen=True)
class Claim:
    """A paper's sentence as code. `run(arm, seed, budget)` returns metrics; `budget` is "full" or "fast".

    `arms` are (treatment, control, others...): the first two are judged, the others are shown beside them. `margin`
    is what the paper, theory or a calibration on other seeds says, in the metric's unit; `source` says which.
    """

    id: str
    papers: tuple[int, ...]  # rows of assets/papers.csv
    statement: str
    arms: tuple[str, ...]
    metric: str
    run: Run
    margin: float = 0.0
    source: str = "direction only: the paper's arm is better"  # where the margin comes from
    more_is_better: bool = True
    paper_number: str = ""
    cost: Literal["quick", "long"] = "quick"
    unit: str = ""
    tried: str = ""  # for a claim that does not hold: what was tried

    def __post_init__(self) -> None:
        if len(self.arms) < 2 or len(set(self.arms)) != len(self.arms):
            raise ValueError(f"claim {self.id!r} needs two or more different arms, not {self.arms}")
        if self.cost not in COST_S:
            raise ValueError(f"claim {self.id!r} has cost {self.cost!r}; it must be one of {', '.join(COST_S)}")
        if not np.isfinite(self.margin):
            raise ValueError(f"claim {self.id!r} has margin {self.margin}; it must be finite")


@dataclass(frozen=True)
class Verdict:
    """The paired comparison: `holds` is True, False, or None where the interval straddles the margin."""

    holds: bool | None
    effect: float  # mean difference, positive where the treatment is better
    low: float
    high: float
    n: int


def verdict(treatment: np.ndarray, control: np.ndarray, margin: float = 0.0, more_is_better: bool = True) -> Verdict:
    """Judge paired values, each (seeds,).

    Raises:
        ValueError: the lengths differ, there are fewer than five pairs, or a value is not finite.
    """
    a, b = np.asarray(treatment, float), np.asarray(control, float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired values must have one shape (seeds,); found {a.shape} and {b.shape}")
    if len(a) < LEAST_SEEDS:
        raise ValueError(f"{len(a)} seeds; a verdict needs at least {LEAST_SEEDS}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a metric is not finite; a verdict needs numbers")
    d = (a - b) if more_is_better else (b - a)
    mean, spread = float(d.mean()), float(d.std(ddof=1))
    half = 0.0 if np.ptp(d) == 0 else float(scipy_stats.t.ppf(0.975, len(d) - 1) * spread / np.sqrt(len(d)))
    low, high = mean - half, mean + half
    holds = True if low > margin else False if high < margin else None
    return Verdict(holds, mean, low, high, len(d))


# Modules that hold claims, each with a tuple CLAIMS. Order is the order of the list.
MODULES: tuple[str, ...] = (
    "kit.claims.offline",
    "kit.claims.imitation",
    "kit.claims.representation",
    "kit.claims.preferences",
    "kit.claims.worldmodels",
    "kit.claims.teachers",
    "kit.claims.environment_design",
    "kit.claims.discount",
    "kit.claims.track",
    "kit.claims.transfer",
    "kit.claims.sysid",
    "kit.claims.film",
    "kit.claims.persistent",
    "kit.claims.hil_serl",
    "kit.claims.verifier",
    "kit.claims.hilp",
    "kit.claims.discovery",
    "kit.claims.repertoires",
    "kit.claims.slim",
    "kit.claims.goals",
    "kit.claims.successor",
    "kit.claims.beso",
    "kit.claims.avoid",
    "kit.claims.push_t",
    "kit.claims.synther",
    "kit.claims.backward",
)


@cache
def _registry() -> dict[str, Claim]:
    claims = [claim for module in MODULES for claim in import_module(module).CLAIMS]
    ids = [c.id for c in claims]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise ValueError(f"two claims are called {twice[0]!r}")
    return dict(zip(ids, claims, strict=True))


def claim_ids() -> list[str]:
    return list(_registry())


def get(claim_id: str) -> Claim:
    """A claim by its id.

    Raises:
        ValueError: there is none of that name; the message lists the ids.
    """
    if claim_id not in _registry():
        raise ValueError(f"no claim is called {claim_id!r}; there are {', '.join(_registry()) or 'none'}")
    return _registry()[claim_id]
