"""A pendulum whose every step is known, and the replay of an agent that learns to swing it up.

    s = (cos th, sin th, w),  a in -1..1,  u = 2 a [N m],  dt = 0.05 s
    w'  = clip(w + (15 sin th + 3 u) dt, -8, 8),    th' = th + w' dt,    th = 0 is upright
    r   = -(th^2 + 0.1 w^2 + 0.001 u^2)             with th in -pi..pi

These are the dynamics of Gymnasium's Pendulum-v1, here for many states at once, so that any row (s, a, r, s'), also an
invented one, can be held against the truth. Look at `step` first, then at `replay`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from kit import runtime
from kit.offline.rows import Rows, from_sb3

TORQUE, SPEED, DT, STEPS = 2.0, 8.0, 0.05, 200  # [N m], [rad/s], [s], steps of an episode
SHIPPED = ("replay", "pendulum.npz")  # below assets/: the replay of seed 0


def observe(angle: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """States (n, 3) of angles (n,) [rad] and angular speeds (n,) [rad/s]."""
    return np.stack([np.cos(angle), np.sin(angle), speed], axis=-1)


def step(obs: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The next states (n, 3) and rewards (n,) of states (n, 3) under actions (n, 1) in -1..1.

    A state off the unit circle, such as a generated one, is read as the angle that it points to.
    """
    obs, torque = np.asarray(obs, float), TORQUE * np.clip(np.asarray(actions, float)[:, 0], -1, 1)
    angle, speed = np.arctan2(obs[:, 1], obs[:, 0]), obs[:, 2]
    reward = -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = np.clip(speed + (15 * np.sin(angle) + 3 * torque) * DT, -SPEED, SPEED)
    return observe(angle + speed * DT, speed), reward


def starts(n: int, rng: np.random.Generator) -> np.ndarray:
    """Initial states (n, 3): any angle, a speed of at most 1 rad/s."""
    return observe(rng.uniform(-np.pi, np.pi, n), rng.uniform(-1, 1, n))


def play(policy: Any, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n episodes of 200 steps at once: the returns (n,), and all states (201, n, 3).

    `policy.predict` is Stable-Baselines3's, with torques [N m] as actions.
    """
    obs = starts(n, np.random.default_rng(seed))
    returns, states = np.zeros(n), [obs]
    for _ in range(STEPS):
        torque, _ = policy.predict(obs.astype(np.float32), deterministic=True)
        obs, reward = step(obs, np.asarray(torque) / TORQUE)
        returns += reward
        states.append(obs)
    return returns, np.array(states)


def replay(seed: int, steps: int = 10_000, folder: Path | None = None) -> Rows:
    """What Stable-Baselines3's SAC has in its buffer after `steps` steps from nothing; one step, one row.

    Takes about a minute. With a `folder` it is kept there, and read from there the next time.
    """
    if folder is None:
        return learn(seed, steps)
    path = folder / f"pendulum_{steps}_{seed}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write(path, learn(seed, steps))
    return read(path)


def learn(seed: int, steps: int) -> Rows:
    """The replay of a new agent: small networks and a large learning rate, which suffice here."""
    import gymnasium
    from stable_baselines3 import SAC

    runtime.one_thread()
    model = SAC(
        "MlpPolicy",
        gymnasium.make("Pendulum-v1"),
        learning_rate=1e-3,
        learning_starts=500,
        policy_kwargs={"net_arch": [64, 64]},
        seed=seed,
        device="cpu",
    )
    return from_sb3(model.learn(steps).replay_buffer)


def shipped() -> Rows:
    """The replay of seed 0, 10,000 steps, which comes with the kit."""
    return read(runtime.asset(*SHIPPED))


def write(path: Path, rows: Rows) -> None:
    """Write rows as a compressed NumPy archive, whole or not at all."""
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez_compressed(file, **vars(rows))
    part.replace(path)


def read(path: Path) -> Rows:
    """Rows that `write` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        return Rows(**{name: archive[name] for name in archive.files})
