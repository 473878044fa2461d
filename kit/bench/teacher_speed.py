"""Seconds that 20,000 episodes of ALP-GMM take on CubeWorld, beside the same teacher written plainly on scikit-learn.

The peer has the same settings and schedule: every 250 episodes it fits scikit-learn's `GaussianMixture` for every k
from 2 to 10, each from its own k-means, and takes the one with the least AIC. Its neighbour search is the one of the
authors' code, a k-d tree rebuilt every 500 episodes with the rest looked through. It has no task ids, no checks and no
state to save; the kit's teacher does all that. Both teach the same student, and `mastered` shows what it learnt.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from sklearn.mixture import GaussianMixture

from kit.bench import fresh
from kit.curricula.alp_gmm import ALPGMM, Config
from kit.curricula.space import Task
from kit.curricula.worlds.cube import CubeWorld

OURS, PEER = "kit.curricula.alp_gmm", "scikit-learn GaussianMixture"
CFG = Config()


def measure(seeds: Sequence[int] = tuple(range(7)), episodes: int = 20_000) -> dict[str, Any]:
    """`ratio` is the median over seeds of the peer's seconds to ours; both run one after the other, in turn first."""
    return fresh.call(run, seeds=list(seeds), episodes=episodes)


def run(seeds: Sequence[int], episodes: int) -> dict[str, Any]:
    """Measure in this process."""
    contestants = {OURS: kit_teacher, PEER: plain_teacher}
    for teach in contestants.values():
        teach(CubeWorld(), 300, 0)  # what the first call alone does: imports, first allocations
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    mastered: dict[str, list[float]] = {name: [] for name in contestants}
    for turn, seed in enumerate(seeds):
        for name in list(contestants)[:: 1 if turn % 2 else -1]:
            world, start = CubeWorld(), time.perf_counter()
            contestants[name](world, episodes, seed)
            seconds[name].append(time.perf_counter() - start)
            mastered[name].append(world.score())
    return result(seconds, mastered, seeds, episodes)


def kit_teacher(world: CubeWorld, episodes: int, seed: int) -> None:
    teacher = ALPGMM(world.space, seed=seed)
    for _ in range(episodes):
        teacher.tell(world.play(teacher.ask()))


def plain_teacher(world: CubeWorld, episodes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, returns, rows = np.empty((episodes, 2)), np.empty(episodes), np.empty((episodes, 3))
    tree, in_tree, mixture = None, 0, None
    for n in range(episodes):
        if mixture is None or rng.random() < CFG.random_share:
            point = rng.random(2)
        else:
            progress = mixture.means_[:, -1] + 1e-12
            k = rng.choice(len(progress), p=progress / progress.sum())
            point = rng.multivariate_normal(mixture.means_[k], mixture.covariances_[k])[:-1].clip(0, 1)
        ret = world.play([Task(n, point, {})])[0].ret
        alp = 0.0
        if n > 5:
            nearest = in_tree + int(((points[in_tree:n] - point) ** 2).sum(axis=1).argmin())
            if tree is not None:
                distance, old = tree.query(point)
                nearest = old if distance < np.linalg.norm(points[nearest] - point) else nearest
            alp = abs(ret - returns[nearest])
        points[n], returns[n], rows[n] = point, ret, [*point, alp]
        if (n + 1) % 500 == 0 and n + 1 < episodes:
            tree, in_tree = cKDTree(points[:n]), n
        if (n + 1) % CFG.fit_rate == 0:
            mixture = best_mixture(rows[n + 1 - CFG.fit_rate : n + 1], int(rng.integers(2**31)))


def best_mixture(rows: np.ndarray, seed: int) -> GaussianMixture:
    fitted = [GaussianMixture(k, random_state=seed).fit(rows) for k in range(CFG.k_min, CFG.k_max + 1)]
    return min(fitted, key=lambda mixture: mixture.aic(rows))


def result(
    seconds: dict[str, list[float]], mastered: dict[str, list[float]], seeds: Sequence[int], episodes: int
) -> dict[str, Any]:
    return {
        "name": "teacher_speed",
        "ours": statistics.median(seconds[OURS]),
        "peer": statistics.median(seconds[PEER]),
        "peer_name": PEER,
        "ratio": statistics.median(p / o for o, p in zip(seconds[OURS], seconds[PEER], strict=True)),
        "unit": "s",
        "compared": f"{episodes:,} episodes of ALP-GMM on CubeWorld, one thread, same settings and schedule: fits of "
        "all sizes in one array against scikit-learn's one by one",
        "seeds": list(seeds),
        "seconds": seconds,
        "mastered": mastered,
        "mean_mastered": {name: statistics.fmean(shares) for name, shares in mastered.items()},
    }
