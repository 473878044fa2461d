"""Claims about teachers that replay, rank or design environments."""

from __future__ import annotations

import numpy as np

from kit.claims.core import Claim
from kit.curricula.learnability import Config as LearnabilityConfig
from kit.curricula.learnability import Learnability
from kit.curricula.learning_progress import LearningProgress
from kit.curricula.loop import run
from kit.curricula.plr import PLR
from kit.curricula.plr import Config as PLRConfig
from kit.curricula.teacher import RandomTeacher, Teacher
from kit.curricula.worlds.lock_chain import LockChain, OracleCurriculum, SoftminReturn, TargetOnly

# ---- the lock -----------------------------------------------------------------------------------------------------

LOCK_BATCH = 16  # episodes
LOCK_UPDATES = {"full": 1500, "fast": 100}


def _lock_teacher(arm: str, world: LockChain, seed: int) -> Teacher:
    """Methods at their defaults; PLR's buffer has room for every task."""
    if arm in ("target_only", "oracle"):
        return {"target_only": TargetOnly, "oracle": OracleCurriculum}[arm](world, seed=seed)
    room = world.space.count
    kind, cfg = {
        "uniform": (RandomTeacher, {}),
        "softmin_return": (SoftminReturn, {}),
        "plr": (PLR, {"cfg": PLRConfig(capacity=room)}),
        "plr_max_mc": (PLR, {"cfg": PLRConfig(capacity=room, score="max_mc")}),
        "robust_plr": (PLR, {"cfg": PLRConfig(capacity=room, robust=True)}),
        "robust_plr_equal_updates": (PLR, {"cfg": PLRConfig(capacity=room, robust=True)}),
        "learning_progress": (LearningProgress, {}),
        "learnability": (Learnability, {}),
        "learnability_unsolved_too": (Learnability, {"cfg": LearnabilityConfig(prior=1.0)}),
    }[arm]
    return kind(world.space, seed=seed, **cfg)


def lock_chain(arm: str, seed: int, budget: str) -> dict[str, float]:
    """The seed draws the key, the order of the tasks, the student's guesses and the teacher's draws.

    All arms play as many episodes, probes included, but for `robust_plr_equal_updates`, which plays until the student
    has learned from as many.
    """
    world = LockChain(seed=seed)
    teacher, episodes = _lock_teacher(arm, world, seed), LOCK_BATCH * LOCK_UPDATES[budget]
    longest = 4 * episodes if arm == "robust_plr_equal_updates" else episodes
    played = 0.0
    for metrics in run(teacher, world, longest, batch=LOCK_BATCH):
        played = metrics["episodes"]
        if world.trained >= episodes:
            break
    lengths = world.score() * world.cfg.length
    return {
        "lengths": lengths,
        "doublings": float(np.log2(max(lengths, 0.5))),  # none mastered counts as half a length
        "episodes": played,
        "trained": float(world.trained),
    }


LOCK_CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="plr.lock_chain",
        papers=(),
        statement="With four tasks in five unsolvable, prioritized level replay masters at least twice the lengths of "
        "uniform sampling.",
        arms=(
            "plr",
            "uniform",
            "target_only",
            "softmin_return",
            "learnability",
            "learning_progress",
            "plr_max_mc",
            "robust_plr",
            "robust_plr_equal_updates",
            "oracle",
        ),
        metric="doublings",
        run=lock_chain,
        margin=1.0,
        source="twice: an independent prototype of this world had 8.0 lengths against 3.2 (five seeds)",
        paper_number="more than 76 % over the baseline on Procgen's test return, together with the best before",
        unit="doublings of the lengths mastered",
    ),
    Claim(
        id="lp.lock_chain",
        papers=(36,),
        statement="Sampling by learning progress masters more lengths than uniform sampling when four tasks in five "
        "are unsolvable.",
        arms=("learning_progress", "uniform", "plr", "oracle"),
        metric="lengths",
        run=lock_chain,
        margin=3.0,
        source="half of what an independent prototype of this world gained: 9.2 lengths against 3.2 (five seeds)",
        paper_number="learning progress above uniform sampling among 1,023 impossible tasks",
        unit="lengths",
    ),
    Claim(
        id="sfl.lock_chain",
        papers=(),
        statement="Sampling for learnability masters more lengths than uniform sampling; its probes count as episodes.",
        arms=("learnability", "uniform", "learnability_unsolved_too", "plr", "oracle"),
        metric="lengths",
        run=lock_chain,
        margin=1.1,
        source="half of what an independent prototype of this world gained: 5.4 lengths against 3.2 (five seeds)",
        paper_number="highest win rate on the worst levels of a maze and a navigation benchmark",
        unit="lengths",
    ),
)

CLAIMS: tuple[Claim, ...] = (*LOCK_CLAIMS,)
