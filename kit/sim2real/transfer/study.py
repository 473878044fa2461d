"""The headline study: what each way of closing the gap is worth on a hidden twin.

Every recipe trains the same student, `kit.rl.ppo`, for the same number of steps and on the same seeds, and never sees
`TWIN_A`; only the oracle trains there. Each is judged on 100 held-out tasks in the nominal arm and the same 100 in the
twin. A recipe recovers the share

    (its success in the twin - the naive one's) / (the oracle's - the naive one's).

`PRIOR` is what one can know before the arm is measured, from data sheets and from what users report:

    for m in train("history", Config(), seed=0): ...
    judge("history", m.agent, seed=0)

Look first at `RECIPES`, then at `train`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from kit import __version__, checkpoints
from kit.curricula.adr import ADR
from kit.curricula.adr import Config as ADRConfig
from kit.curricula.env import named
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback
from kit.envs.env import BatchEnv
from kit.rl import ppo
from kit.rollout import evaluate
from kit.sim2real.motor import Gap
from kit.sim2real.transfer import caps
from kit.sim2real.transfer.residual import ResidualReach
from kit.sim2real.transfer.twin import FIELDS, NOMINAL, TWIN_A, GapRange, TwinReach, numbers
from kit.types import Metrics, Policy

PRIOR = (
    Gap(stiffness=0.65, coulomb=0.03, viscous=0.04),  # a supply of 5 V gives 0.68 of the stiffness at 7.4 V
    Gap(
        stiffness=1.1, coulomb=0.20, viscous=0.15, backlash=1.0, action_delay=0.060, observation_delay=0.015,
        payload=0.2, packet_loss=0.01,
    ),
)  # fmt: skip
PROMPT = (PRIOR[0], Gap(**(vars(PRIOR[1]) | {"action_delay": 0.0, "observation_delay": 0.0})))  # without delays
EPISODES = 100
DRAW_SEED = 100_000  # of the held-out tasks; training seeds stay below


@dataclass(frozen=True)
class Config:
    """One run of the study."""

    ppo: ppo.Config = field(default_factory=lambda: ppo.Config(total_steps=400_000))
    num_envs: int = 64  # simulations stepped together
    history: int = 4  # control steps that the recipes with memory see
    caps: caps.Config = field(default_factory=caps.Config)


@dataclass(frozen=True)
class Recipe:
    """Where a policy trains, and with what added. `gap` None: it is identified first."""

    says: str
    gap: GapRange | None = NOMINAL
    memory: bool = False  # sees the last angles and actions
    grows: bool = False  # ADR opens the range, from nominal on
    smooth: bool = False  # CAPS
    residual: bool = False  # corrects inverse kinematics
    trains: bool = True


RECIPES: dict[str, Recipe] = {
    "naive": Recipe("nominal simulation"),
    "oracle": Recipe("the hidden twin itself", TWIN_A),
    "identified": Recipe("the twin as system identification finds it", None),
    "uniform": Recipe("friction, stiffness, play and payload at random, no delays", PROMPT),
    "latency": Recipe("all of that and delays at random", PRIOR),
    "history": Recipe("all at random, and the last four steps in view", PRIOR, memory=True),
    "adr": Recipe("ADR opens the same ranges from nominal on", PRIOR, grows=True),
    "residual": Recipe("a correction of inverse kinematics, in nominal simulation", residual=True),
    "caps": Recipe("nominal simulation, with smooth actions (CAPS)", smooth=True),
    "ik": Recipe("inverse kinematics alone", residual=True, trains=False),
}


def recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise ValueError(f"no recipe is called {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]


def scale(gaps: tuple[Gap, Gap], width: float) -> tuple[Gap, Gap]:
    """A range around nominal, `width` times as wide; nothing falls below 0."""
    centre = numbers(NOMINAL)
    ends = [np.maximum(centre + width * (numbers(gap) - centre), 0) for gap in gaps]
    return tuple(Gap(**dict(zip(FIELDS, end.tolist(), strict=True))) for end in ends)


# ---- training -----------------------------------------------------------------------------------------------------


def make(name: str, cfg: Config, num_envs: int, gap: GapRange) -> BatchEnv:
    """The recipe's task, with its own way of seeing and acting, on an arm with a gap."""
    chosen = recipe(name)
    kind = ResidualReach if chosen.residual else TwinReach
    return BatchEnv(kind(num_envs, gap=gap, history=cfg.history if chosen.memory else 0, nthread=1))


def train(name: str, cfg: Config, *, seed: int, gap: GapRange | None = None) -> Iterator[Metrics]:
    """PPO by a recipe; the agent is an `ActorCritic`. `gap` replaces the recipe's own.

    Raises:
        ValueError: no such recipe, or one that needs a `gap` and has none.
    """
    chosen = recipe(name)
    gap = gap or chosen.gap
    if gap is None:
        raise ValueError(f"the recipe {name!r} trains in an identified arm; give its gap=, see transfer.sysid")
    env = make(name, cfg, cfg.num_envs, gap)
    teacher = ADR(adr_space(gap), ADRConfig(start=adr_start(gap), probes=20, t_high=0.8), seed=seed)
    hooks: dict[str, Any] = {}
    if chosen.grows:
        env.task_source = lambda ids: [named(task) for task in teacher.ask(len(ids))]
        hooks["on_end"] = tell(teacher)
    if chosen.smooth:
        hooks["objective"] = caps.objective(cfg.caps, seed)
    try:
        for metrics in ppo.train(env, cfg.ppo, seed=seed, **hooks):
            if chosen.grows:
                metrics["volume"] = float(np.ptp(teacher.box, axis=0).mean())
            yield metrics
    finally:
        env.close()


def adr_space(gap: GapRange) -> Space:
    """The numbers that differ over a range, as tasks for a teacher."""
    low, high = gap if isinstance(gap, tuple) else (gap, gap)
    pairs = {name: (getattr(low, name), getattr(high, name)) for name in FIELDS}
    boxes = {name: spaces.Box(a, b, (1,), np.float64) for name, (a, b) in pairs.items() if b > a}
    return Space(**(boxes or {"stiffness": spaces.Box(0.5, 1.0, (1,), np.float64)}))


def adr_start(gap: GapRange) -> tuple[float, ...]:
    """Nominal as a point of the unit cube."""
    space = adr_space(gap)
    nominal = np.array([getattr(NOMINAL, name) for name in space.fields])
    return tuple(np.clip((nominal - space.low) / (space.high - space.low), 0, 1).tolist())


def tell(teacher: ADR) -> ppo.OnEnd:
    """Success is what ADR goes by."""

    def on_end(task_ids: np.ndarray, returns: np.ndarray, success: np.ndarray) -> None:
        teacher.tell([Feedback(int(i), float(s), bool(s)) for i, s in zip(task_ids, success, strict=True) if i >= 0])

    return on_end


# ---- judging ------------------------------------------------------------------------------------------------------


class Still:
    """The policy that adds nothing: what is left is inverse kinematics alone."""

    def __init__(self, size: int):
        self.size = size

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.zeros((len(observation), self.size), np.float32), state


def judge(name: str, policy: Policy, cfg: Config | None = None, *, seed: int, twin: Gap = TWIN_A) -> dict[str, float]:
    """Success in nominal and in the twin on the same held-out tasks, the gap, and how smooth the actions are there."""
    cfg, found = cfg or Config(), {}
    for where, gap in (("nominal", NOMINAL), ("twin", twin)):
        actions: list[np.ndarray] = []
        env = make(name, cfg, EPISODES, gap)
        try:
            acted = Recorded(policy, actions)
            found[where] = evaluate(acted, env, seed=DRAW_SEED + EPISODES * seed).rate.value
            found[f"{where}_roughness"] = float(caps.smoothness(np.stack(actions), env.unwrapped.task.fps).mean())
        finally:
            env.close()
    return found | {"gap": found["nominal"] - found["twin"]}


class Recorded:
    """A policy that keeps its actions."""

    def __init__(self, policy: Policy, actions: list[np.ndarray]):
        self.policy, self.actions = policy, actions

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        action, state = self.policy.predict(observation, state, episode_start, deterministic)
        self.actions.append(np.array(action))
        return action, state


def run(name: str, cfg: Config, *, seed: int, progress: Callable[[Metrics], None] = lambda m: None) -> dict[str, float]:
    """Train and judge one recipe on one seed."""
    chosen = recipe(name)
    if not chosen.trains:
        return judge(name, Still(make(name, cfg, 1, NOMINAL).single_action_space.shape[0]), cfg, seed=seed)
    extra: dict[str, float] = {}
    gap = chosen.gap
    if gap is None:
        gap, extra = identify(seed)
    for metrics in train(name, cfg, seed=seed, gap=gap):
        progress(metrics)
    extra |= {"volume": metrics["volume"]} if "volume" in metrics else {}
    return judge(name, metrics.agent, cfg, seed=seed) | extra


def identify(seed: int) -> tuple[Gap, dict[str, float]]:
    """What system identification makes of twelve seconds on the hidden twin, and how far off it is."""
    from kit.sim2real.transfer.sysid import identify_twin

    found = identify_twin(TWIN_A, seed=seed)
    return found.gap, {f"found_{name}": value for name, value in found.value.items()}


# ---- shipping -----------------------------------------------------------------------------------------------------


def ship(name: str, seed: int, out: str | Path, cfg: Config | None = None) -> Path:
    """Train a recipe and save its policy as a checkpoint in the folder `out`, with what `judge` says of it.

    Raises:
        ValueError: a recipe that trains nothing, or that needs an identified arm.
    """
    from kit.sim2real.export import after, as_mlp, layers_of

    cfg, chosen = cfg or Config(), recipe(name)
    if not chosen.trains:
        raise ValueError(f"the recipe {name!r} trains nothing, so there is nothing to save")
    for metrics in train(name, cfg, seed=seed):
        agent = metrics.agent
    core = layers_of(agent)
    policy = as_mlp(agent, core, [*core, *after(agent.low, agent.high, False)], agent.low, agent.high)
    facts = {"name": Path(out).name, "recipe": name, "seed": seed, "kit": __version__, "config": asdict(cfg)}
    if not (chosen.memory or chosen.residual):
        facts["env"] = "kit/ArmReach-v0"  # whose state it sees
    return checkpoints.save(
        policy, out, steps=int(metrics["steps"]), judged=judge(name, policy, cfg, seed=seed), **facts
    )
