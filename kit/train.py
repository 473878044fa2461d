"""The policies that the kit ships, and how each is made: `python -m kit train NAME --seed N --out DIR`.

A run writes its state every twenty seconds; the same command run again goes on from there. What is saved is the
network, the optimiser and the step count, as safetensors and JSON. The simulations start new episodes, so a resumed
run is not bit-identical to an unbroken one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as dump_tensors
from stable_baselines3 import PPO

from kit import __version__, checkpoints, runtime
from kit.envs import batched
from kit.rl import sb3
from kit.rollout import Evaluation, evaluate
from kit.types import Metrics

SAVE_EVERY_S = 20.0
HELD_OUT = 10_000  # seed of the tasks that judge; training seeds stay below it


@dataclass(frozen=True)
class Recipe:
    """An environment and the settings that solve it."""

    env_id: str
    config: sb3.Config
    target: float  # success that the settings are meant to reach on 200 held-out tasks


RECIPES = {
    "arm_reach": Recipe(
        "kit/ArmReach-v0",
        sb3.Config(total_steps=800_000, batch_size=512, final_rate=0.1, log_std=-0.7),
        target=0.95,
    ),
    "arm_push": Recipe(
        "kit/ArmPush-v0",
        sb3.Config(total_steps=2_000_000, num_envs=128, batch_size=512, gamma=0.98, final_rate=0.1, log_std=0.0),
        target=0.80,
    ),
    "track": Recipe(
        "kit/Track-v0",
        sb3.Config(total_steps=2_000_000, n_steps=64, n_epochs=6, gamma=0.99, final_rate=0.1, log_std=-0.5),
        target=0.70,
    ),
}


# Skills are made by their own modules, in one go of some minutes: make(name, seed=, out=) saves at its end.
MODULES = {
    "metra_disc": "kit.skills.trainer",
    "maze_directions": "kit.skills.maze_world",
    "skills_planar": "kit.skills.slim",
    "skills_arm": "kit.skills.slim",
    "beso_avoid": "kit.diffusion.avoid_world",
    "avoid_diffusion": "kit.diffusion.shipped",
    "push_t": "kit.diffusion.shipped",
}


def recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise ValueError(f"nothing to train is called {name!r}; there are {', '.join((*RECIPES, *MODULES))}")
    return RECIPES[name]


def make(name: str, *, seed: int, out: Path) -> Iterator[Metrics]:
    """Make a shipped policy that a method's own module trains, one of `MODULES`.

    Raises:
        ValueError: `out` holds a checkpoint already.
    """
    if (out / "policy.json").exists():
        raise ValueError(f"{out} holds a checkpoint already; give another --out, or empty it")
    yield from import_module(MODULES[name]).make(name, seed=seed, out=out)


def judge(policy: Any, env_id: str, *, episodes: int = 200) -> Evaluation:
    """The deterministic policy on fixed held-out tasks, one episode each."""
    env = batched(env_id, episodes)
    try:
        return evaluate(policy, env, seed=HELD_OUT)
    finally:
        env.close()


def train(name: str, *, seed: int, out: Path | None = None, config: sb3.Config | None = None) -> Iterator[Metrics]:
    """Make a shipped policy; with `out`, save it there, and go on from what an interrupted run left there."""
    chosen = recipe(name)
    cfg = config or chosen.config
    if not 0 <= seed < HELD_OUT:
        raise ValueError(f"seed is {seed}; give 0 to {HELD_OUT - 1}, larger ones draw the held-out tasks")
    env = batched(chosen.env_id, cfg.num_envs)
    model = sb3.make(env, cfg, seed=seed)
    facts = {"name": name, "env": chosen.env_id, "seed": seed, "kit": __version__, "config": dataclasses.asdict(cfg)}
    if out is not None:
        resume(model, out, facts)
    saved = time.perf_counter()
    try:
        for metrics in sb3.stream(model, cfg.total_steps - model.num_timesteps):
            metrics["progress"] = model.num_timesteps / cfg.total_steps
            yield metrics
            if out is not None and time.perf_counter() - saved > SAVE_EVERY_S:
                save_run(model, out, facts)
                saved = time.perf_counter()
    finally:
        env.close()
        if out is not None:
            save_run(model, out, facts)


def save_run(model: PPO, out: Path, facts: dict[str, Any]) -> None:
    """The policy as a checkpoint, and beside it what resuming needs: all parameters and Adam's moments."""
    tensors = {f"net.{k}": v.detach().numpy() for k, v in model.policy.state_dict().items()}
    for i, state in model.policy.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{k}": np.asarray(v) for k, v in state.items()}
    checkpoints.save(model, out, steps=model.num_timesteps, **facts)
    blob = dump_tensors({k: np.ascontiguousarray(v) for k, v in tensors.items()})
    digest = hashlib.sha256(blob).hexdigest()
    checkpoints.write_whole(out / "resume.safetensors", blob)
    run = {"steps": model.num_timesteps, "sha256": digest, **facts}
    checkpoints.write_whole(out / "resume.json", json.dumps(run, indent=1).encode())


def resume(model: PPO, out: Path, facts: dict[str, Any]) -> None:
    """Load what `save_run` left in `out`, if anything.

    Raises:
        ValueError: the folder holds another run (another name, seed or configuration) or is damaged.
    """
    if not (out / "resume.json").exists():
        return
    run = json.loads((out / "resume.json").read_text())
    mine = json.loads(json.dumps(facts))
    other = [k for k in ("name", "seed", "config") if run.get(k) != mine[k]]
    if other:
        raise ValueError(f"{out} holds a run with another {' and '.join(other)}; give another --out, or empty it")
    blob = (out / "resume.safetensors").read_bytes()
    if hashlib.sha256(blob).hexdigest() != run["sha256"]:
        raise ValueError(f"{out}/resume.safetensors does not match its JSON; empty the folder and train anew")
    try:
        tensors = {k: torch.from_numpy(v) for k, v in load_tensors(blob).items()}
    except SafetensorError as error:
        raise ValueError(f"{out}/resume.safetensors cannot be read ({error}); empty the folder") from error
    model.policy.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key in (k for k in tensors if k.startswith("adam.")):
        _, i, name = key.split(".")
        state.setdefault(int(i), {})[name] = tensors[key]
    model.policy.optimizer.load_state_dict(model.policy.optimizer.state_dict() | {"state": state})
    model.num_timesteps = run["steps"]


def main(name: str, *, seed: int, out: Path, config: sb3.Config) -> None:
    """Train with a progress bar, judge the result, and write both down."""
    start = time.perf_counter()
    model = runtime.run(train(name, seed=seed, out=out, config=config), desc=name)
    seconds = time.perf_counter() - start
    chosen = recipe(name)
    if model is None:
        print(f"{out} already holds the finished run")
        model = checkpoints.load(out)
    rate = judge(model, chosen.env_id).rate
    card = json.loads((out / "policy.json").read_text())
    card["success"] = {"rate": rate.value, "low": rate.low, "high": rate.high, "episodes": rate.n}
    checkpoints.write_whole(out / "policy.json", json.dumps(card, indent=1).encode())
    print(f"{name}: success {rate} on held-out tasks after {seconds:.0f} s; target {chosen.target}; saved in {out}")
