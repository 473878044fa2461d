"""The headline study: which teacher makes a runner master most, where three quarters of all tasks are impossible.

Every teacher gets the same student (Stable-Baselines3's PPO), the same number of environment steps and the same seeds
on `kit/Track-v0` with `impossible=0.75`. It is judged on 100 tasks that no teacher chose and that can be done: each of
them was mastered by some specialist, a policy that trained on a few of them alone (`make_held_out`). A task is mastered
when the deterministic policy covers 90 % of its course.

    for m in train("alp_gmm", Config(), seed=0): ...
    master(m.agent).share            # of the 100 tasks

Look at `TEACHERS`, then `train`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kit import rollout
from kit.curricula.adr import ADR
from kit.curricula.adr import Config as ADRConfig
from kit.curricula.alp_gmm import ALPGMM
from kit.curricula.covar_gmm import CovarGMM
from kit.curricula.env import CurriculumEnv
from kit.curricula.evaluate import Report, evaluate
from kit.curricula.plr import PLR
from kit.curricula.plr import Config as PLRConfig
from kit.curricula.riac import RIAC
from kit.curricula.sb3 import TeacherCallback
from kit.curricula.teacher import RandomTeacher, Teacher
from kit.envs import batched
from kit.envs.track import FEASIBLE
from kit.rl import sb3
from kit.runtime import asset
from kit.train import recipe
from kit.types import Metrics, Policy

PPO = recipe("track").config
TASKS = 100  # of the held-out set
DRAW_SEED = 10_000  # of the held-out set's candidates; no study uses a seed so large
TRIES, NEEDED = 5, 4  # a specialist masters a candidate if it covers the course in 4 of 5 episodes
# Where specialists train, and for how many steps: a part of the feasible box, as shares of each axis. The first has the
# whole box; the others go on from it, where it is weakest.
Box = dict[str, tuple[float, float]]
SPECIALISTS: tuple[tuple[Box, int], ...] = (
    ({"stump": (0.0, 1.0), "gap": (0.0, 1.0)}, 2_000_000),
    ({"stump": (0.7, 1.0), "gap": (0.0, 0.7)}, 1_000_000),
    ({"stump": (0.0, 0.7), "gap": (0.7, 1.0)}, 1_000_000),
    ({"stump": (0.7, 1.0), "gap": (0.7, 1.0)}, 1_000_000),
)

# ADR alone is told something about the tasks: where the easiest is.
TEACHERS: dict[str, Callable[[int], Teacher]] = {
    "random": lambda seed: RandomTeacher(seed=seed),
    "alp_gmm": lambda seed: ALPGMM(seed=seed),
    "covar_gmm": lambda seed: CovarGMM(seed=seed),
    "riac": lambda seed: RIAC(seed=seed),
    "adr": lambda seed: ADR(cfg=ADRConfig(start=(0.0, 0.0)), seed=seed),
    "plr": lambda seed: PLR(cfg=PLRConfig(capacity=500), seed=seed),
}


@dataclass(frozen=True)
class Config:
    """One run of the study."""

    impossible: float = 0.75  # share of the task box that nobody can do
    ppo: sb3.Config = field(default_factory=lambda: PPO)


def make_teacher(name: str, seed: int) -> Teacher:
    if name not in TEACHERS:
        raise ValueError(f"no teacher is called {name!r}; there are {', '.join(TEACHERS)}")
    return TEACHERS[name](seed)


def train(teacher: str | Teacher, cfg: Config, *, seed: int) -> Iterator[Metrics]:
    """PPO on tasks of the teacher's choice; the agent is the Stable-Baselines3 model.

    Beside those of `kit.rl.sb3.stream` there is the metric `feasible`: the share of possible tasks among those that are
    being played.
    """
    teacher = make_teacher(teacher, seed) if isinstance(teacher, str) else teacher
    env = CurriculumEnv(
        batched("kit/Track-v0", cfg.ppo.num_envs, impossible=cfg.impossible, nthread=1), teacher, tell=False
    )
    try:
        model = sb3.make(env, cfg.ppo, seed=seed)
        for metrics in sb3.stream(model, cfg.ppo.total_steps, TeacherCallback(teacher)):
            metrics["feasible"] = feasible_share(env.unwrapped.current_tasks)
            yield metrics
    finally:
        env.close()


def feasible_share(tasks: dict[str, np.ndarray]) -> float:
    """Share of tasks, each field (n, 1), that lie in the feasible box."""
    return float(np.all([tasks[name][:, 0] <= high for name, high in FEASIBLE.items()], axis=0).mean())


# ---- judging --------------------------------------------------------------------------------------------------------


def held_out() -> list[dict[str, float]]:
    """The 100 tasks, each mastered by some specialist."""
    return json.loads(asset("track", "held_out.json").read_text())["tasks"]


def master(policy: Policy, tasks: list[dict[str, float]] | None = None) -> Report:
    """The deterministic policy on held-out tasks, by default on all of them."""
    tasks = held_out() if tasks is None else tasks
    env = batched("kit/Track-v0", len(tasks), impossible=Config.impossible, nthread=1)
    try:
        return evaluate(policy, env, [{k: [v] for k, v in task.items()} for task in tasks], seed=DRAW_SEED)
    finally:
        env.close()


def run_arm(name: str, cfg: Config, *, seed: int) -> dict[str, float]:
    """One run and its judgement, as a claim's metrics."""
    runs = [(metrics["feasible"], metrics.agent) for metrics in train(name, cfg, seed=seed)]
    report = master(runs[-1][1])
    return {
        "mastered": report.share.value,
        "mean_progress": float(report.first.mean()),
        "worst_5_percent": report.worst,
        "feasible_share": float(np.mean([share for share, _ in runs])),
    }


# ---- the held-out set -----------------------------------------------------------------------------------------------


def specialists(seed: int = DRAW_SEED) -> Iterator[Policy]:
    """The policies that vouch for the held-out tasks, one after the other; about ten minutes on one core."""
    first = None
    for box, steps in SPECIALISTS:
        env = batched("kit/Track-v0", PPO.num_envs, nthread=1)
        env.task_source = uniform_in(box, np.random.default_rng(seed))
        model = sb3.make(env, dataclasses.replace(PPO, total_steps=steps), seed=seed)
        if first is not None:
            model.policy.load_state_dict(first.policy.state_dict())
        for _ in sb3.stream(model, steps):
            pass
        env.close()
        first = first or model
        yield model


def uniform_in(box: Box, rng: np.random.Generator) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A task source that is uniform over a part of the feasible box."""
    low, high = np.array([[share * FEASIBLE[name] for share in box[name]] for name in FEASIBLE]).T

    def source(ids: np.ndarray) -> dict[str, np.ndarray]:
        points = rng.uniform(low, high, (len(ids), len(FEASIBLE)))
        return {name: points[:, [i]] for i, name in enumerate(FEASIBLE)}

    return source


def make_held_out() -> dict[str, Any]:
    """Candidates uniform over the feasible box, and the first 100 of them that a specialist masters; as JSON holds it.

    Raises:
        RuntimeError: the specialists master fewer than 100 of the candidates.
    """
    candidates = np.random.default_rng(DRAW_SEED).random((2 * TASKS, len(FEASIBLE))) * list(FEASIBLE.values())
    tasks = [dict(zip(FEASIBLE, c.tolist(), strict=True)) for c in candidates.round(4)]
    solved = np.array([mastered_often(policy, tasks) for policy in specialists()])
    able = solved.max(axis=0) >= NEEDED
    if able.sum() < TASKS:
        raise RuntimeError(f"the specialists master {able.sum()} of {len(tasks)} candidates; {TASKS} are needed")
    chosen = np.flatnonzero(able)[:TASKS]
    return {
        "tasks": [tasks[i] for i in chosen],
        "specialist": solved[:, chosen].argmax(axis=0).tolist(),
        "candidates": len(tasks),
        "mastered_by_each": (solved >= NEEDED).sum(axis=1).tolist(),
        "mastered_by_any": int(able.sum()),
        "tries": TRIES,
        "needed": NEEDED,
    }


def mastered_often(policy: Policy, tasks: list[dict[str, float]]) -> np.ndarray:
    """In how many of `TRIES` episodes the policy masters each task, (tasks,)."""
    env = batched("kit/Track-v0", len(tasks), nthread=1)
    given = {name: np.array([[task[name]] for task in tasks]) for name in FEASIBLE}
    try:
        return sum(rollout.evaluate(policy, env, seed=k, tasks=given).success.astype(int) for k in range(TRIES))
    finally:
        env.close()
