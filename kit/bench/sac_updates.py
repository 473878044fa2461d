"""Updates/s of the readable SAC beside Stable-Baselines3's `SAC.train`, one thread, neither of them compiled.

Same networks, two critics each, batches of 256 drawn from as many transitions of the same environment, the same Adam;
tests/rl/test_sac_readable.py holds losses, gradients and weights equal. An update is one of the critics, the actor,
the temperature and the targets, and includes drawing the batch. The headline is SB3's default size of network; for
smaller networks the share of the arithmetic is less, and `ratios` shows what then remains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kit.bench import fresh
from kit.bench.blocks import Contestant, interleave, paired_ratio, summary

OURS, PEER = "kit.rl.sac", "stable_baselines3.SAC.train"
ENV_ID, SIMULATIONS, TRANSITIONS, BATCH = "kit/ArmReach-v0", 50, 5_000, 256
SIZES = ((256, 256), (128, 128), (64, 64))  # hidden layers; the first is the headline
UPDATES = 10  # in a call


def measure(rounds: int = 41, block_s: float = 0.25, sizes: Sequence[Sequence[int]] = SIZES) -> dict[str, Any]:
    """`ratio` is the median over rounds of our updates/s to SB3's, for the first of `sizes`."""
    return fresh.call(run, rounds=rounds, block_s=block_s, sizes=[list(s) for s in sizes])


def run(rounds: int, block_s: float, sizes: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Measure in this process."""
    from kit import runtime

    runtime.one_thread()
    work: dict[str, Callable[[], Any]] = {}
    for size in sizes:
        work |= {f"{OURS} {_name(size)}": our_updates(tuple(size)), f"{PEER} {_name(size)}": sb3_updates(list(size))}
    speeds = interleave([Contestant(name, f, units=UPDATES) for name, f in work.items()], rounds, block_s)
    ratios = {
        _name(size): paired_ratio(speeds[f"{OURS} {_name(size)}"], speeds[f"{PEER} {_name(size)}"]) for size in sizes
    }
    head = _name(sizes[0])
    return {
        "name": "sac_updates",
        "ours": float(np.median(speeds[f"{OURS} {head}"])),
        "peer": float(np.median(speeds[f"{PEER} {head}"])),
        "peer_name": PEER,
        "ratio": ratios[head],
        "unit": "updates/s",
        "compared": f"one thread, no compilation, two critics, batches of {BATCH} from {TRANSITIONS:,} transitions of "
        f"{ENV_ID}; hidden layers {head}",
        "ratios": ratios,
        "rounds": rounds,
        "contestants": summary(speeds),
    }


def _name(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def our_updates(hidden: tuple[int, ...]) -> Callable[[], Any]:
    """A call makes `UPDATES` updates."""
    import torch

    from kit.envs import batched
    from kit.rl import sac

    env = batched(ENV_ID, SIMULATIONS)
    space, obs_dim = env.single_action_space, env.single_observation_space.shape[0]
    cfg = sac.Config(hidden=hidden, batch_size=BATCH)
    agent = sac.Agent(obs_dim, space.low, space.high, cfg, torch.Generator().manual_seed(0))
    learner = sac.Learner(agent, cfg)
    player = sac.Player(env, sac.replay_for(obs_dim, space.shape[0], cfg), seed=0)
    for _ in range(TRANSITIONS // SIMULATIONS):
        player.step(agent, random=True)
    env.close()

    def updates() -> None:
        for _ in range(UPDATES):
            learner.update(player.replay.sample(BATCH, player.rng))

    return updates


def sb3_updates(hidden: list[int]) -> Callable[[], Any]:
    """The same of SB3's."""
    from stable_baselines3 import SAC

    from kit.envs import batched
    from kit.rl import sb3

    env = sb3.BatchVecEnv(batched(ENV_ID, SIMULATIONS))
    model = SAC(
        "MlpPolicy",
        env,
        policy_kwargs={"net_arch": hidden},
        batch_size=BATCH,
        learning_starts=TRANSITIONS,
        gradient_steps=0,
        seed=0,
        device="cpu",
    )
    model.learn(TRANSITIONS)  # fills the buffer; no update
    env.close()
    return lambda: model.train(UPDATES, BATCH)
