"""What exercise cells call: `gae = check.gae(my_gae)` tries the learner's function and says what went wrong.

A check gives back the learner's function if it is right, else the kit's own with a banner, so that a half-solved
notebook runs to its end. `KIT_STRICT=1` makes it raise `CheckFailed` instead. `check.progress()` counts. One module a
notebook, loaded when its first exercise is asked for; to add one, name its exercises here.
"""

from importlib import import_module
from typing import Any

from kit.check.core import Case, CheckFailed, Exercise, progress

NOTEBOOKS: dict[str, tuple[str, ...]] = {
    "nb00": ("wilson", "held"),
    "nb01": ("gae", "log_prob", "policy_gradient_loss", "clipped_loss"),
    "nb10": ("absolute_learning_progress", "aic", "split_score", "cvar"),
    "nb11": ("rank_weights", "easiest", "regret", "sort_tokens", "longest_increasing_subsequence"),
    "nb20": ("mutual_information", "discriminator_reward", "directional_reward", "room", "knn_distance"),
    "nb21": ("temporal_loss", "z_from_reward", "midpoint", "chain_advantage"),
    "nb22": ("tip", "elites", "novelty", "improvement", "pareto_front"),
    "nb23": ("push", "normalise", "combine", "search"),
    "nb30": ("posterior_mean", "euler", "karras", "heun_step", "edm_coefficients"),
    "nb31": ("later", "drop", "interleave", "lay"),
    "nb32": ("add_noise", "clean", "renoise", "ensemble"),
    "nb33": ("standards", "dynamics_error", "nearest_distance", "critic_target", "actor_loss"),
    "nb40": ("checksum", "present", "not_fast", "joint_speed"),
    "nb41": ("gauss_newton_step", "standard_errors", "friction_budget", "servo_goal"),
    "nb42": ("smoothness", "step", "advance_base", "penalty"),
    "nb43": ("modulate", "ahead", "step_of", "expected_success"),
    "nb80": ("value_update",),
    "nb81": ("rankme",),
}
NAMES: tuple[str, ...] = tuple(name for names in NOTEBOOKS.values() for name in names)
__all__ = ["NAMES", "NOTEBOOKS", "Case", "CheckFailed", "Exercise", "progress"]


def __getattr__(name: str) -> Any:
    for module, names in NOTEBOOKS.items():
        if name in names:
            return getattr(import_module(f"kit.check.{module}"), name)
    raise AttributeError(f"no exercise is called {name!r}; there are {', '.join(NAMES)}")


def __dir__() -> list[str]:
    return sorted([*__all__, *NAMES])
