"""Claims of automatic discount scheduling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kit.claims.core import Claim
from kit.curricula.discount_schedule import DiscountSchedule
from kit.curricula.worlds import chain

LAST = 50  # updates over which success is averaged


def success(arm: str, seed: int, budget: str) -> dict[str, float]:
    """The seed draws the finger moves, the demonstrators' pauses and all actions; arms differ in the discount alone."""
    cfg = chain.Config() if budget == "full" else replace(chain.Config(), updates=100)
    world = chain.make_chain(cfg, seed=seed)
    if arm == "ads":
        discount = DiscountSchedule(chain.reference(world))
    elif arm == "linear":
        discount = chain.Linear(cfg.horizon, cfg.updates)
    else:
        discount = float(arm.removeprefix("fixed_"))
    rows = list(chain.train(world, discount, seed=seed))
    metrics = {name: np.mean([m[name] for m in rows[-LAST:]]) for name in ("success", "grasped", "proxy_return")}
    return metrics | {"last_gamma": rows[-1]["gamma"]}


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="ads.success",
        papers=(19,),
        statement="A discount scheduled by progress learns the grasp and the way round more often than the best "
        "fixed discount.",
        arms=("ads", "fixed_0.95", "fixed_0.8", "fixed_0.9", "fixed_0.93", "fixed_0.98", "linear"),
        metric="success",
        run=success,
        source="direction only. The world is made so that no fixed discount does both; its sizes were set on seeds "
        "1000-1005, and 0.95 is the best of 12 fixed discounts from 0.8 to 0.99 on seeds 1000-1009",
        paper_number="best of all methods on nine Meta-World tasks",
        unit="share of episodes",
    ),
)
