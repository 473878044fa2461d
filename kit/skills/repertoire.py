"""Repertoires: search for many different solutions at once, each the best of its kind. On pyribs.

    MAP-Elites (Mouret & Clune 2015)    x' = x_i + sigma N(0, I),  x_i a random elite
    iso-line (Vassiliades & Mouret 2018)    x' = x_i + s_1 N(0, I) + s_2 (x_j - x_i) N(0, 1)
    CMA-ME (Fontaine et al. 2020)       x' ~ N(m, C), adapted to what improved the archive
    novelty search (Lehman & Stanley 2011)    x' ~ N(m, C), adapted to   rho(x) = (1/k) sum_{i<=k} |b(x) - b_i|
    insertion: keep x' in the cell of b(x') if it is empty or f(x') > f(elite)

x is a genome, f(x) its objective, b(x) its behaviour descriptor. pyribs asks emitters for genomes, we evaluate them,
and the archive and the emitters are told. What remains is a `Repertoire`: plain arrays, one elite a cell.
Look at `train` first, then `elites`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as dump_tensors

from kit import runtime
from kit.checkpoints import DamagedCheckpoint, write_whole
from kit.types import Metrics

archives, emitters, schedulers = (runtime.optional(f"ribs.{name}") for name in ("archives", "emitters", "schedulers"))

METHODS = ("map_elites", "iso_line", "cma_me", "novelty", "random")
FORMAT = 1


class Task(Protocol):
    """What is searched: genomes within limits, each with an objective and a behaviour descriptor."""

    genome_dim: int
    low: np.ndarray  # (genome_dim,)
    high: np.ndarray
    start: np.ndarray  # a first genome
    ranges: tuple[tuple[float, float], ...]  # of the descriptor, a pair a dimension
    worst: float  # no objective is below

    def evaluate(self, genomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...  # (n, genome_dim) to (n,), (n, d)


@dataclass(frozen=True)
class Config:
    """Settings of a search; the defaults are those of the twelve-joint arm."""

    method: str = "map_elites"  # one of METHODS
    evaluations: int = 105_000  # genomes evaluated in all
    emitters: int = 5  # that take part in each generation
    batch: int = 30  # genomes of an emitter in a generation
    cells: tuple[int, ...] = (100, 100)  # of the archive, along each dimension of the descriptor
    sigma: float = 0.1  # of Gaussian mutation and of the first CMA-ES step [genome units]
    iso_sigma: float = 0.05  # s_1 [genome units]
    line_sigma: float = 0.2  # s_2 [share of the way between two elites]
    k_neighbours: int = 15  # k of novelty
    novelty_threshold: float = 0.01  # novelty at which a solution enters novelty search's archive [descriptor units]


# ---- the pieces -------------------------------------------------------------------------------------------------


def cells_of(descriptors: np.ndarray, dims: tuple[int, ...], ranges: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Flat cell numbers (n,) of descriptors (n, d) in a grid of `dims` cells over `ranges`; outside, the nearest."""
    low, high = np.array(ranges, float).T
    index = np.floor(np.array(dims) * (descriptors - low) / (high - low)).astype(int)
    return np.ravel_multi_index(tuple(np.clip(index, 0, np.array(dims) - 1).T), dims)


def elites(cells: np.ndarray, objectives: np.ndarray) -> np.ndarray:
    """Rows (m,) of the elites: in each cell that occurs, the row with the largest objective, the first one if equal.

    `cells` (n,) are cell numbers, `objectives` (n,). The rows come in the order of their cells.
    """
    order = np.lexsort((-objectives, cells))  # stable: of equal objectives the earlier row comes first
    _, first = np.unique(cells[order], return_index=True)
    return order[first]


# ---- the result -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repertoire:
    """Elites, at most one a cell, ordered by cell."""

    genomes: np.ndarray  # (m, genome_dim)
    objectives: np.ndarray  # (m,)
    descriptors: np.ndarray  # (m, d)
    dims: tuple[int, ...]
    ranges: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, genomes, objectives, descriptors, dims, ranges) -> Repertoire:
        """The elites among n solutions, whatever archive or log they come from.

        Raises:
            ValueError: the numbers of rows differ, or a number is not finite.
        """
        if not len(genomes) == len(objectives) == len(descriptors):
            raise ValueError(
                f"{len(genomes)} genomes, {len(objectives)} objectives and {len(descriptors)} descriptors; "
                "give as many of each"
            )
        if not (np.isfinite(genomes).all() and np.isfinite(objectives).all() and np.isfinite(descriptors).all()):
            raise ValueError("a genome, objective or descriptor is not finite; leave such solutions out")
        rows = elites(cells_of(descriptors, dims, ranges), objectives)
        dims, ranges = tuple(map(int, dims)), tuple((float(a), float(b)) for a, b in ranges)
        return cls(genomes[rows], objectives[rows], descriptors[rows], dims, ranges)

    def __len__(self) -> int:
        return len(self.genomes)

    @property
    def cells(self) -> np.ndarray:
        """Flat cell numbers (m,), increasing."""
        return cells_of(self.descriptors, self.dims, self.ranges)

    def grid(self) -> np.ndarray:
        """Objectives on the grid, shape dims, NaN where no elite is."""
        values = np.full(self.dims, np.nan)
        values.flat[self.cells] = self.objectives
        return values

    def pick(self, point: np.ndarray, *, nearest: bool = False) -> int:
        """The row of the elite in whose cell the descriptor `point` (d,) lies, or of the elite nearest to it.

        Raises:
            ValueError: the point has another size or is outside, or its cell is empty and `nearest` is not set.
        """
        point = np.asarray(point, float)
        if point.shape != (len(self.dims),):
            raise ValueError(f"point has shape {point.shape}; a descriptor here has {(len(self.dims),)}")
        low, high = np.array(self.ranges).T
        if not ((point >= low) & (point <= high)).all():
            raise ValueError(f"point {point} is outside the grid; limits {low} to {high}")
        if nearest and len(self):
            return int(np.linalg.norm(self.descriptors - point, axis=1).argmin())
        row = np.flatnonzero(self.cells == cells_of(point[None], self.dims, self.ranges))
        if not len(row):
            raise ValueError(f"no elite is in the cell of {point}; pick another one, or nearest=True")
        return int(row[0])

    def save(self, folder: str | Path, **facts: Any) -> Path:
        """Write `repertoire.safetensors` and `repertoire.json` with some facts about how it was made."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"genomes": self.genomes, "objectives": self.objectives, "descriptors": self.descriptors}
        blob = dump_tensors({k: np.ascontiguousarray(v) for k, v in arrays.items()})
        card = {"format": FORMAT, "dims": self.dims, "ranges": self.ranges, "sha256": hashlib.sha256(blob).hexdigest()}
        write_whole(folder / "repertoire.safetensors", blob)
        write_whole(folder / "repertoire.json", json.dumps(card | facts, indent=1).encode())
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Repertoire:
        """What `save` wrote; nothing is unpickled.

        Raises:
            FileNotFoundError: there is no repertoire.
            DamagedCheckpoint: the files do not belong together or cannot be read.
        """
        folder = Path(folder)
        if not (folder / "repertoire.json").exists():
            raise FileNotFoundError(f"no repertoire in {folder}; `Repertoire.save` writes one")
        try:
            card = json.loads((folder / "repertoire.json").read_text())
            blob = (folder / "repertoire.safetensors").read_bytes()
            if card["format"] != FORMAT or hashlib.sha256(blob).hexdigest() != card["sha256"]:
                raise DamagedCheckpoint(f"the tensors in {folder} are not those that its JSON describes; make it anew")
            arrays = load_tensors(blob)
            ranges = tuple((float(a), float(b)) for a, b in card["ranges"])
            return cls(arrays["genomes"], arrays["objectives"], arrays["descriptors"], tuple(card["dims"]), ranges)
        except (OSError, KeyError, TypeError, json.JSONDecodeError, SafetensorError) as error:
            raise DamagedCheckpoint(f"the repertoire in {folder} cannot be read ({error!r}); make it anew") from error


# ---- the search -----------------------------------------------------------------------------------------------------


class Search:
    """An archive with its emitters. `ask` for genomes, evaluate them, `tell`; `repertoire()` at any time.

    Raises:
        ValueError: an unknown method, a size that is not positive, or a grid of other dimensions than the task's.
    """

    def __init__(self, task: Task, cfg: Config, *, seed: int, begin: Repertoire | None = None):
        _check(task, cfg)
        self.task, self.cfg, self.evaluated = task, cfg, 0
        seeds = np.random.SeedSequence(seed).spawn(cfg.emitters + 2)
        grid = _grid(task, cfg, seeds[-1])
        archive = _proximity(task, cfg, seeds[-2]) if cfg.method == "novelty" else grid
        several = [_emitter(archive, task, cfg, s) for s in seeds[: cfg.emitters]]
        self.scheduler = schedulers.Scheduler(archive, several, result_archive=None if archive is grid else grid)
        self.grid = grid
        if begin is not None:
            for a in {id(x): x for x in (grid, archive)}.values():
                a.add(begin.genomes, begin.objectives, begin.descriptors)

    def step(self) -> None:
        """One generation: ask, evaluate, tell."""
        genomes = self.scheduler.ask()
        objectives, descriptors = self.task.evaluate(genomes)
        self.scheduler.tell(objectives, descriptors)
        self.evaluated += len(genomes)

    def metrics(self) -> Metrics:
        stats = self.grid.stats
        numbers = {
            "evaluations": self.evaluated, "cells": stats.num_elites, "qd_score": stats.qd_score,
            "best": stats.obj_max, "progress": self.evaluated / self.cfg.evaluations,
        }  # fmt: skip
        return Metrics({k: float(v) for k, v in numbers.items()}, agent=self)

    def repertoire(self) -> Repertoire:
        """The elites that the grid holds now."""
        data = self.grid.data()
        found = data["solution"], data["objective"], data["measures"]
        return Repertoire.of(*found, self.cfg.cells, self.task.ranges)


def train(task: Task, cfg: Config, *, seed: int, begin: Repertoire | None = None) -> Iterator[Metrics]:
    """Search for `evaluations` genomes, a generation a yield; the metrics' agent is the `Search`.

    `begin` puts the elites of an earlier search into the archive first.
    """
    search = Search(task, cfg, seed=seed, begin=begin)
    while search.evaluated < cfg.evaluations:
        search.step()
        yield search.metrics()


def _check(task: Task, cfg: Config) -> None:
    if cfg.method not in METHODS:
        raise ValueError(f"method is {cfg.method!r}; it must be one of {', '.join(METHODS)}")
    for name in ("evaluations", "emitters", "batch", "sigma", "k_neighbours"):
        if not getattr(cfg, name) > 0:
            raise ValueError(f"{name} is {getattr(cfg, name)}; it must be above 0")
    if len(cfg.cells) != len(task.ranges) or min(cfg.cells) < 1:
        raise ValueError(f"cells is {cfg.cells}; give {len(task.ranges)} numbers, 1 or more, one a descriptor")


def _grid(task: Task, cfg: Config, seed: np.random.SeedSequence) -> Any:
    return archives.GridArchive(
        solution_dim=task.genome_dim,
        dims=cfg.cells,
        ranges=task.ranges,
        epsilon=0,  # so that its cells are those of `cells_of`
        qd_score_offset=task.worst,
        seed=seed,
    )


def _proximity(task: Task, cfg: Config, seed: np.random.SeedSequence) -> Any:
    return archives.ProximityArchive(
        solution_dim=task.genome_dim,
        measure_dim=len(task.ranges),
        k_neighbors=cfg.k_neighbours,
        novelty_threshold=cfg.novelty_threshold,
        seed=seed,
    )


def _emitter(archive: Any, task: Task, cfg: Config, seed: np.random.SeedSequence) -> Any:
    limits = {"lower_bounds": task.low, "upper_bounds": task.high}
    if cfg.method == "random":
        return Uniform(archive, cfg.batch, np.random.default_rng(seed), **limits)
    common = {"x0": task.start, "batch_size": cfg.batch, "seed": seed, **limits}
    if cfg.method == "map_elites":
        return emitters.GaussianEmitter(archive, sigma=cfg.sigma, **common)
    if cfg.method == "iso_line":
        return emitters.IsoLineEmitter(archive, iso_sigma=cfg.iso_sigma, line_sigma=cfg.line_sigma, **common)
    if cfg.method == "cma_me":
        return emitters.EvolutionStrategyEmitter(archive, sigma0=cfg.sigma, ranker="2imp", **common)
    return emitters.EvolutionStrategyEmitter(archive, sigma0=cfg.sigma, ranker="nov", restart_rule="basic", **common)


class Uniform(emitters.EmitterBase):
    """The control: genomes drawn uniformly between the limits, whatever was found."""

    def __init__(self, archive: Any, batch: int, rng: np.random.Generator, **limits: np.ndarray):
        super().__init__(archive, solution_dim=archive.solution_dim, bounds=None, **limits)
        self.batch, self.rng = batch, rng

    def ask(self) -> np.ndarray:
        return self.rng.uniform(self.lower_bounds, self.upper_bounds, (self.batch, self.solution_dim))
