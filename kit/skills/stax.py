"""STAX: explore in a behaviour space learned on the way, and exploit every reward that exploring runs into.

Paolo, Coninx, Laflaquiere & Doncieux, "Discovering and Exploiting Sparse Rewards in a Learned Behavior Space" (2024).

    b(x)    = encoder(last picture of policy x)                                       learned descriptor, 10 numbers
    rho(x)  = (1/k) sum of the distances from b(x) to its k nearest                   novelty, k = 15
    e(x)    = mean (decoder(b(x)) - picture)^2                                        surprise
    explore: two mutants a parent; survivors by rho or by e, a coin decides; then the autoencoder learns again
    exploit: from each rewarded x a small elitist search with sigma = min_j |x - x_j| / 3, kept if it improves;
             the next one comes from the Pareto front of improvement and novelty among the rewarded

Once the autoencoder has learned, old descriptors mean nothing: look at `STAX.reencode`, then at `explore`, `exploit`.
With `descriptor="given"` and `exploit=False` this is novelty search in the space of end positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from kit import runtime
from kit.skills.repertoire import Repertoire
from kit.types import Metrics

archives, emitters = runtime.optional("ribs.archives"), runtime.optional("ribs.emitters")
Batch = dict[str, np.ndarray]  # solution, objective, measures, image, end, rewards: n rows each, as archives hold them
FIELDS = ("solution", "objective", "measures", "image", "end", "rewards")


@dataclass(frozen=True)
class Config:
    """Settings of a search: the authors', but for budget, population, mutation and stagnation, which fit this world."""

    evaluations: int = 20_000  # policies run in all
    chunk: int = 1_000  # policies run before exploring and exploiting take turns
    population: int = 100  # policies that exploring keeps
    children: int = 2  # mutants a parent
    sigma: float = 0.2  # of exploring's Gaussian mutation [weight units]
    k_neighbours: int = 15  # k of novelty
    archived: int = 5  # lambda, children put into the archive each generation, drawn at random
    descriptor: str = "learned"  # or "given": the end position, the designer's choice
    reencode: bool = True  # descriptors in store are computed anew when the autoencoder has changed
    exploit: bool = True  # whether rewards are followed up
    code: int = 10  # size of a learned descriptor
    hidden: int = 64  # units of the autoencoder's hidden layers
    epochs: int = 100  # passes over the pictures in store, at most, each time it learns; 0 leaves it as it began
    patience: int = 5  # passes without a lower error on held-out pictures after which it stops
    batch: int = 128  # pictures in a gradient step
    learning_rate: float = 1e-3  # of Adam
    short_steps: bool = False  # divide an emitter's sigma by sqrt(weights), so that a step is a third of the way long
    mu: int = 6  # policies that an emitter keeps; it makes twice as many a step
    bootstrap: int = 5  # steps that a new emitter gets to show an improvement
    stagnation: int = 10  # steps without a better reward after which an emitter ends
    cells: tuple[int, int] = (48, 48)  # of the repertoire's grid over end positions


# ---- the pieces -------------------------------------------------------------------------------------------------


def novelty(points: np.ndarray, reference: np.ndarray, k: int, skip: int) -> np.ndarray:
    """Mean distance (n,) of points (n, d) to the k nearest of reference (m, d), after leaving out the `skip` nearest.

    `skip` is 1 where the points are in the reference themselves. With fewer than k others, the mean is over those;
    with none, the novelty is infinite.
    """
    if len(reference) <= skip:
        return np.full(len(points), np.inf)
    gaps = np.linalg.norm(points[:, None] - reference[None], axis=-1)
    return np.sort(gaps, axis=1)[:, skip : skip + k].mean(axis=1)


def improvement(rewards: np.ndarray) -> float:
    """How much an emitter gained: mean reward of its last three steps minus that of its first three; (steps, mu)."""
    return float(rewards[-3:].mean() - rewards[:3].mean())


def pareto_front(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which of n candidates are not dominated, bool (n,): none other is as good in both scores and better in one."""
    as_good = (first[None] >= first[:, None]) & (second[None] >= second[:, None])
    better = (first[None] > first[:, None]) | (second[None] > second[:, None])
    return ~(as_good & better).any(axis=1)


def step_size(genome: np.ndarray, others: np.ndarray, fallback: float) -> float:
    """An emitter's sigma: a third of the distance from genome (g,) to the nearest of others (m, g); never zero."""
    distance = float(np.linalg.norm(others - genome, axis=1).min())
    return distance / 3 if distance > 0 else fallback


def best(scores: np.ndarray, n: int) -> np.ndarray:
    """Rows of the n largest scores, the largest first; of equal ones the earlier."""
    return np.argsort(-scores, kind="stable")[:n]


def stagnant(rewards: np.ndarray, steps: int) -> bool:
    """Whether the last `steps` rows of rewards (T, mu) hold no better reward than those before."""
    return len(rewards) > steps and float(rewards[-steps:].max()) <= float(rewards[:-steps].max())


def take(batch: Batch, rows: np.ndarray) -> Batch:
    return {k: v[rows] for k, v in batch.items()}


def join(*batches: Batch) -> Batch:
    return {k: np.concatenate([b[k] for b in batches]) for k in FIELDS}


# ---- the learned descriptor ---------------------------------------------------------------------------------------


class AutoEncoder(nn.Module):
    """Pictures (n, pixels) to codes (n, code) and back. The code layer is linear, so that distances are not bent."""

    def __init__(self, pixels: int, cfg: Config, generator: torch.Generator):
        super().__init__()
        self.cfg, self.generator = cfg, generator
        self.encoder = nn.Sequential(nn.Linear(pixels, cfg.hidden), nn.SELU(), nn.Linear(cfg.hidden, cfg.code))
        self.decoder = nn.Sequential(nn.Linear(cfg.code, cfg.hidden), nn.SELU(), nn.Linear(cfg.hidden, pixels))
        for layer in (m for m in self.modules() if isinstance(m, nn.Linear)):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        self.optimiser = torch.optim.Adam(self.parameters(), lr=cfg.learning_rate)

    def errors(self, images: torch.Tensor) -> torch.Tensor:
        """Mean squared error (n,) of each picture's reconstruction."""
        return ((self.decoder(self.encoder(images)) - images) ** 2).mean(dim=1)

    def fit(self, images: np.ndarray) -> float:
        """Go on learning from pictures (n, pixels), a quarter of them held out; the last error on these."""
        pictures = torch.as_tensor(images[torch.randperm(len(images), generator=self.generator).numpy()])
        held, rest = pictures[: len(pictures) // 4], pictures[len(pictures) // 4 :]
        lowest, since = float("inf"), 0
        for _ in range(self.cfg.epochs):
            for rows in torch.randperm(len(rest), generator=self.generator).split(self.cfg.batch):
                self.optimiser.zero_grad()
                self.errors(rest[rows]).mean().backward()
                self.optimiser.step()
            error = float(self.surprise(held).mean())
            lowest, since = (error, 0) if error < lowest else (lowest, since + 1)
            if since >= self.cfg.patience:
                break
        return float(self.surprise(held).mean())

    @torch.no_grad()
    def encode(self, images: np.ndarray) -> np.ndarray:
        """Codes (n, code) of pictures (n, pixels)."""
        return self.encoder(torch.as_tensor(images)).numpy().astype(float)

    @torch.no_grad()
    def surprise(self, images: np.ndarray) -> np.ndarray:
        """Reconstruction errors (n,) of pictures (n, pixels)."""
        return self.errors(torch.as_tensor(images)).numpy().astype(float)


# ---- emitters -----------------------------------------------------------------------------------------------------


class Elitist(emitters.EmitterBase):
    """An emitter around a rewarded policy: the best mu of mu parents and 2 mu mutants go on."""

    def __init__(self, archive: Any, ancestor: Batch, sigma: float, cfg: Config, rng: np.random.Generator, **limits):
        super().__init__(archive, solution_dim=archive.solution_dim, bounds=None, **limits)
        self.ancestor, self.sigma, self.cfg, self.rng = ancestor, sigma, cfg, rng
        self.members: Batch | None = None
        self.rewards = np.empty((0, cfg.mu))  # of the members, a row a step
        self.record = -np.inf  # best reward that it has put into the archive
        self.most_novel, self.novel = -np.inf, []  # candidates for exploring's archive

    @property
    def improvement(self) -> float:
        return improvement(self.rewards)

    @property
    def stagnant(self) -> bool:
        return stagnant(self.rewards, self.cfg.stagnation)

    def ask(self) -> np.ndarray:
        """mu mutants of the ancestor at first, then two of each member."""
        first = self.members is None
        parents = self.ancestor["solution"] if first else self.members["solution"]
        parents = parents.repeat(self.cfg.mu if first else 2, axis=0)
        moved = parents + self.sigma * self.rng.standard_normal(parents.shape)
        return np.clip(moved, self.lower_bounds, self.upper_bounds)

    def tell(self, solution, objective, measures, add_info=None, **fields) -> None:
        """Keep the best mu, and put those that beat the record into the archive of rewards."""
        told = {"solution": solution, "objective": objective, "measures": measures, **fields}
        everyone = told if self.members is None else join(self.members, told)
        self.members = take(everyone, best(everyone["objective"], self.cfg.mu))
        self.rewards = np.vstack((self.rewards, self.members["objective"]))
        records = told["objective"] > max(self.record, 0)
        if records.any():
            self.archive.add(**take(told, records))
            self.record = float(told["objective"].max())

    def note_novel(self, told: Batch, scores: np.ndarray) -> None:
        """Remember those policies that are more novel than any this emitter made before."""
        rows = scores > self.most_novel
        if rows.any():
            self.novel.append(take(told, rows))
            self.most_novel = float(scores.max())


# ---- the search -----------------------------------------------------------------------------------------------------


class STAX:
    """Population, archives, emitters and autoencoder of one search.

    Raises:
        ValueError: an unknown descriptor, or a size that is not positive.
    """

    def __init__(self, task: Any, cfg: Config, *, seed: int):
        _check(cfg)
        runtime.one_thread()
        self.task, self.cfg, self.rng = task, cfg, np.random.default_rng(seed)
        self.evaluated, self.best, self.phase, self.error = 0, np.zeros(len(task.discs)), "explore", np.nan
        pixels = task.render(np.zeros((1, 2))).size
        generator = torch.Generator().manual_seed(seed)
        self.model = AutoEncoder(pixels, cfg, generator) if cfg.descriptor == "learned" else None
        self.archive, self.rewarded = self._archive(pixels), self._archive(pixels)
        self.grid = archives.GridArchive(
            solution_dim=task.genome_dim, dims=cfg.cells, ranges=task.ranges, epsilon=0, qd_score_offset=task.worst
        )
        self.reachable = task.reachable(cfg.cells)
        self.population: Batch | None = None
        self.candidates: list[tuple[Batch, float]] = []  # rewarded policies not yet followed up, and their sigma
        self.emitters: list[Elitist] = []

    def _archive(self, pixels: int) -> Any:
        fields = {"image": ((pixels,), np.float32), "end": ((2,), float), "rewards": ((len(self.best),), float)}
        return archives.ProximityArchive(
            solution_dim=self.task.genome_dim,
            measure_dim=self.cfg.code if self.model else 2,
            k_neighbors=self.cfg.k_neighbours,
            novelty_threshold=0,  # everything that is offered is taken
            extra_fields=fields,
        )

    def describe(self, batch: Batch) -> np.ndarray:
        """Descriptors (n, d) under the autoencoder as it is now, or the end positions, scaled to -1 to 1."""
        if self.model:
            return self.model.encode(batch["image"])
        low, high = np.array(self.task.ranges).T
        return 2 * (batch["end"] - low) / (high - low) - 1

    def evaluate(self, genomes: np.ndarray) -> Batch:
        """Run policies (n, genome_dim) and describe them."""
        run = self.task.rollout(genomes)
        image = self.task.render(run.ends).reshape(len(genomes), -1)
        batch = {"solution": genomes, "objective": run.rewards.max(axis=1), "image": image}
        batch |= {"end": run.ends, "rewards": run.rewards}
        batch["measures"] = self.describe(batch)
        self.grid.add(genomes, batch["objective"], run.ends)
        self.evaluated += len(genomes)
        self.best = np.maximum(self.best, run.rewards.max(axis=0))
        return batch

    def reference(self, *more: np.ndarray) -> np.ndarray:
        """Descriptors that novelty is measured against: both archives and `more`."""
        return np.concatenate([*more, self.archive.data("measures"), self.rewarded.data("measures")])

    # ---- explore

    def explore(self) -> Iterator[None]:
        """A chunk of generations, then the autoencoder learns."""
        self.phase, until = "explore", min(self.evaluated + self.cfg.chunk, self.cfg.evaluations)
        while self.evaluated < until:
            self.generation()
            yield
        if self.model:
            stored = [d["image"] for d in (self.population, self.archive.data(), self.rewarded.data())]
            self.error = self.model.fit(np.concatenate(stored))
            if self.cfg.reencode:
                self.reencode()

    def generation(self) -> None:
        """Two mutants a parent; the survivors are those with the most novelty or the most surprise."""
        cfg, task = self.cfg, self.task
        if self.population is None:
            first = self.rng.uniform(task.low, task.high, (cfg.population, task.genome_dim))
            self.population = self.evaluate(first)
            self.follow_up(self.population, self.population)
            return
        parents = self.population["solution"].repeat(cfg.children, axis=0)
        moved = np.clip(parents + cfg.sigma * self.rng.standard_normal(parents.shape), task.low, task.high)
        children = self.evaluate(moved[: cfg.evaluations - self.evaluated])
        everyone = join(self.population, children)
        self.follow_up(children, everyone)
        points = everyone["measures"]
        by_novelty = self.model is None or self.rng.random() < 0.5
        scores = (
            novelty(points, self.reference(points), cfg.k_neighbours, 1)
            if by_novelty
            else self.model.surprise(everyone["image"])
        )
        lucky = self.rng.permutation(len(children["solution"]))[: cfg.archived]
        self.archive.add(**take(children, lucky))
        self.population = take(everyone, best(scores, cfg.population))

    def follow_up(self, new: Batch, everyone: Batch) -> None:
        """Make every rewarded policy among the new ones a candidate, and put it into the archive of rewards."""
        rows = np.flatnonzero(new["objective"] > 0)
        if len(rows) == 0 or not self.cfg.exploit:
            return
        for row in rows:
            genome = new["solution"][row]
            others = everyone["solution"][(everyone["solution"] != genome).any(axis=1)]
            sigma = step_size(genome, others, self.cfg.sigma)
            sigma /= np.sqrt(len(genome)) if self.cfg.short_steps else 1
            self.candidates.append((take(new, [row]), sigma))
        self.rewarded.add(**take(new, rows))

    def reencode(self) -> None:
        """Describe everything in store anew: both archives, the population, and what emitters start from."""
        for archive in (self.archive, self.rewarded):
            data = {k: np.array(v) for k, v in archive.data(list(FIELDS), return_type="dict").items()}
            if len(archive):
                archive.clear()
                archive.add(**data | {"measures": self.describe(data)})
        waiting = [ancestor for ancestor, _ in self.candidates] + [e.ancestor for e in self.emitters]
        for batch in (self.population, *waiting):
            batch["measures"] = self.describe(batch)

    # ---- exploit

    def exploit(self) -> Iterator[None]:
        """A chunk of emitter steps: first new emitters show what they gain, at most two thirds, then the best go on."""
        self.phase, start = "exploit", self.evaluated
        self.against = self.reference(self.population["measures"])
        while self.candidates and self.room(start + 2 * self.cfg.chunk // 3):
            emitter = self.next_candidate()
            for _ in range(1 + self.cfg.bootstrap):
                if self.room(self.cfg.evaluations):
                    self.emit(emitter)
                    yield
            if emitter.improvement > 0:
                self.emitters.append(emitter)
        while self.emitters and self.room(start + self.cfg.chunk):
            emitter = self.choose()
            while self.room(start + self.cfg.chunk) and not emitter.stagnant:
                self.emit(emitter)
                yield
            if emitter.stagnant:
                self.retire(emitter)

    def room(self, until: int) -> bool:
        """Whether a step of an emitter still fits."""
        return self.evaluated + 2 * self.cfg.mu <= min(until, self.cfg.evaluations)

    def lonely(self, ancestors: list[Batch]) -> np.ndarray:
        """Novelty (n,) of rewarded policies among the rewarded."""
        points = np.concatenate([a["measures"] for a in ancestors])
        return novelty(points, self.rewarded.data("measures"), self.cfg.k_neighbours, 1)

    def next_candidate(self) -> Elitist:
        """An emitter around the most novel candidate."""
        row = int(self.lonely([ancestor for ancestor, _ in self.candidates]).argmax())
        ancestor, sigma = self.candidates.pop(row)
        limits = {"lower_bounds": self.task.low, "upper_bounds": self.task.high}
        return Elitist(self.rewarded, ancestor, sigma, self.cfg, self.rng, **limits)

    def choose(self) -> Elitist:
        """An emitter of the Pareto front of improvement and novelty, at random."""
        gained = np.array([e.improvement for e in self.emitters])
        front = np.flatnonzero(pareto_front(gained, self.lonely([e.ancestor for e in self.emitters])))
        emitter = self.emitters[int(self.rng.choice(front))]
        emitter.most_novel = float(self.scores(join(emitter.ancestor, *emitter.novel)).max())
        return emitter

    def scores(self, batch: Batch) -> np.ndarray:
        """Novelty (n,) against what exploring held when this chunk began."""
        return novelty(self.describe(batch), self.against, self.cfg.k_neighbours, 0)

    def emit(self, emitter: Elitist) -> None:
        told = self.evaluate(emitter.ask())
        emitter.tell(**told)
        emitter.note_novel(told, self.scores(told))

    def retire(self, emitter: Elitist) -> None:
        """Give some of the novel policies that the emitter met to exploring's archive."""
        self.emitters.remove(emitter)
        if emitter.novel:
            met = join(*emitter.novel)
            lucky = self.rng.permutation(len(met["solution"]))[: self.cfg.archived]
            given = take(met, lucky)
            self.archive.add(**given | {"measures": self.describe(given)})

    # ---- what came out

    @property
    def coverage(self) -> float:
        """Share of the reachable cells of the end grid in which some policy ended."""
        seen = np.zeros(self.reachable.size, bool)
        seen[self.grid.data("index")] = True
        return float(seen[self.reachable.ravel()].mean())

    def metrics(self) -> Metrics:
        numbers = {
            "evaluations": self.evaluated, "coverage": self.coverage, "discs": (self.best > 0).sum(),
            "best": self.best.mean(), "archive": len(self.archive), "emitters": len(self.emitters),
            "candidates": len(self.candidates), "exploiting": self.phase == "exploit", "error": self.error,
            "progress": self.evaluated / self.cfg.evaluations,
        }  # fmt: skip
        return Metrics({k: float(v) for k, v in numbers.items()}, agent=self)

    def repertoire(self) -> Repertoire:
        """The best rewarded policy for each cell of the grid over end positions."""
        data = self.grid.data()
        return Repertoire.of(data["solution"], data["objective"], data["measures"], self.cfg.cells, self.task.ranges)


def train(task: Any, cfg: Config, *, seed: int) -> Iterator[Metrics]:
    """Explore and exploit in turns until `evaluations`; yields after each generation and each emitter step."""
    search = STAX(task, cfg, seed=seed)
    while search.evaluated < cfg.evaluations:
        for _ in search.explore():
            yield search.metrics()
        if search.candidates or search.emitters:
            for _ in search.exploit():
                yield search.metrics()
    yield search.metrics()


def random_search(task: Any, cfg: Config, *, seed: int) -> Iterator[Metrics]:
    """The control: policies drawn uniformly between the limits, as many as `evaluations`; a chunk a yield."""
    search = STAX(task, cfg, seed=seed)
    while search.evaluated < cfg.evaluations:
        n = min(cfg.chunk, cfg.evaluations - search.evaluated)
        search.evaluate(search.rng.uniform(task.low, task.high, (n, task.genome_dim)))
        yield search.metrics()


def _check(cfg: Config) -> None:
    if cfg.descriptor not in ("learned", "given"):
        raise ValueError(f"descriptor is {cfg.descriptor!r}; it must be learned or given")
    for name in ("evaluations", "chunk", "population", "children", "sigma", "k_neighbours", "code", "mu", "stagnation"):
        if not getattr(cfg, name) > 0:
            raise ValueError(f"{name} is {getattr(cfg, name)}; it must be above 0")
