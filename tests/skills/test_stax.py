"""STAX: its pieces against other libraries and by hand, descriptors that do not go stale, budgets, and it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree
from sklearn.neighbors import NearestNeighbors

from kit.envs.deceptive_point import DeceptivePoint
from kit.skills import stax

SMALL = stax.Config(evaluations=900, chunk=300, population=30, epochs=5, cells=(32, 32))


def run(cfg: stax.Config = SMALL, seed: int = 0) -> stax.STAX:
    for metrics in stax.train(DeceptivePoint(), cfg, seed=seed):
        agent = metrics.agent
    return agent


# ---- the pieces


@pytest.mark.parametrize("skip", [0, 1])
def test_novelty_equals_scikit_learns_and_scipys_neighbours(skip):
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(60, 4))
    points = reference[:20] if skip else rng.normal(size=(20, 4))
    found = stax.novelty(points, reference, 15, skip)
    distances, _ = NearestNeighbors(n_neighbors=15 + skip).fit(reference).kneighbors(points)
    np.testing.assert_allclose(found, distances[:, skip:].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(found, KDTree(reference).query(points, 15 + skip)[0][:, skip:].mean(axis=1))


def test_novelty_equals_the_archives():
    rng = np.random.default_rng(1)
    archive = stax.archives.ProximityArchive(solution_dim=2, measure_dim=3, k_neighbors=15, novelty_threshold=0)
    archive.add(rng.normal(size=(40, 2)), np.zeros(40), reference := rng.normal(size=(40, 3)))
    points = rng.normal(size=(9, 3))
    np.testing.assert_allclose(stax.novelty(points, reference, 15, 0), archive.compute_novelty(points))


def test_novelty_with_few_or_no_others():
    points = np.array([[0.0], [1.0], [3.0]])
    np.testing.assert_allclose(stax.novelty(points, points, 15, 1), [2, 1.5, 2.5])
    assert (stax.novelty(points, np.zeros((0, 1)), 15, 0) == np.inf).all()
    assert (stax.novelty(points[:1], points[:1], 15, 1) == np.inf).all()


def test_improvement_by_hand():
    assert stax.improvement(
        np.array([[0, 0], [0, 0.3], [0.3, 0.6], [9, 9], [1, 1], [1, 1], [1, 0.4]])
    ) == pytest.approx(0.7)
    assert stax.improvement(np.ones((3, 6))) == 0


def test_pareto_front_by_hand_and_by_a_loop():
    np.testing.assert_array_equal(
        stax.pareto_front(np.array([1.0, 2, 3, 2, 3]), np.array([3.0, 2, 1, 1, 1])), [True, True, True, False, True]
    )
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 6, (2, 50))
    for i, found in enumerate(stax.pareto_front(a, b)):
        beaten = any(a[j] >= a[i] and b[j] >= b[i] and (a[j] > a[i] or b[j] > b[i]) for j in range(50))
        assert found != beaten


def test_step_size_is_a_third_of_the_way_to_the_nearest_genome():
    others = np.array([[3.0, 4.0], [0.0, 6.0]])
    assert stax.step_size(np.zeros(2), others, 0.2) == pytest.approx(5 / 3)
    assert stax.step_size(np.zeros(2), np.zeros((1, 2)), 0.2) == 0.2


def test_stagnation():
    rewards = np.array([[0.1], [0.5], [0.5], [0.4]])
    assert stax.stagnant(rewards, 2) and not stax.stagnant(rewards, 3) and not stax.stagnant(rewards, 4)


# ---- descriptors


def test_the_autoencoder_learns_and_its_codes_tell_places_apart():
    task, rng = DeceptivePoint(), np.random.default_rng(0)
    cells = np.argwhere(task.free)
    ends = cells[rng.integers(0, len(cells), 500)] + rng.uniform(0, 1, (500, 2))
    images = task.render(ends).reshape(len(ends), -1)
    model = stax.AutoEncoder(256, stax.Config(epochs=60), torch.Generator().manual_seed(0))
    before = model.surprise(images).mean()
    error = model.fit(images)
    assert error < 0.1 * before and error < 1.2 * model.surprise(images).mean()
    code = model.encode(images)
    gap = np.linalg.norm(ends - ends[KDTree(code).query(code, 2)[1][:, 1]], axis=1)
    assert np.median(gap) < 0.5, "the nearest code belongs to a neighbouring place [cells]"


def test_an_autoencoder_without_epochs_stays_as_it_is():
    model = stax.AutoEncoder(8, stax.Config(epochs=0), torch.Generator().manual_seed(0))
    images = np.random.default_rng(0).random((20, 8), np.float32)
    before = model.encode(images)
    assert np.isfinite(model.fit(images))
    np.testing.assert_array_equal(before, model.encode(images))


def everything(agent: stax.STAX) -> list[stax.Batch]:
    stored = [agent.archive.data(list(stax.FIELDS), return_type="dict"), agent.population]
    stored += [agent.rewarded.data(list(stax.FIELDS), return_type="dict")]
    return stored + [a for a, _ in agent.candidates] + [e.ancestor for e in agent.emitters]


def explored(cfg: stax.Config, seed: int = 1) -> stax.STAX:
    """After two rounds; in the last the autoencoder has learned. A reward is put at the start, so that it is found."""
    task = DeceptivePoint()
    task.centres = task.centres.copy()
    task.centres[0] = task.origin + 1
    agent = stax.STAX(task, cfg, seed=seed)
    for phase in (agent.explore, agent.exploit, agent.explore):
        for _ in phase():
            pass
    assert len(agent.archive) and len(agent.rewarded) and agent.candidates
    return agent


def test_after_each_fit_every_stored_descriptor_is_the_new_encoders():
    agent = explored(SMALL)
    for batch in everything(agent):
        np.testing.assert_allclose(batch["measures"], agent.model.encode(batch["image"]), atol=1e-5)


def test_without_reencoding_descriptors_go_stale():
    """The test above can fail: this search is the same but for the re-encoding."""
    agent = explored(replace(SMALL, reencode=False))
    stale = agent.archive.data(list(stax.FIELDS), return_type="dict")
    gap = np.abs(stale["measures"] - agent.model.encode(stale["image"])).mean()
    assert gap > 0.1 * np.abs(stale["measures"]).mean()


def test_reencoding_keeps_everything_else_and_the_archive_answers_with_the_new_descriptors():
    agent = explored(SMALL)
    before = [{k: np.array(v) for k, v in b.items()} for b in everything(agent)]
    with torch.no_grad():
        for parameter in agent.model.encoder.parameters():
            parameter *= 1.5
    agent.reencode()
    for old, new in zip(before, everything(agent), strict=True):
        assert not np.allclose(old["measures"], new["measures"])
        for field in set(stax.FIELDS) - {"measures"}:
            np.testing.assert_array_equal(old[field], new[field])
    points = agent.population["measures"][:5]
    new = agent.archive.data("measures")
    np.testing.assert_allclose(agent.archive.compute_novelty(points), stax.novelty(points, new, 15, 0))


# ---- the search


def test_the_budget_is_kept_and_phases_take_turns():
    phases = []
    for metrics in stax.train(DeceptivePoint(), replace(SMALL, evaluations=2_000), seed=0):
        phases.append((metrics["exploiting"], metrics["evaluations"]))
    assert phases[-1][1] == 2_000 == metrics["progress"] * 2_000
    assert {p for p, _ in phases} == {0.0, 1.0}
    first = next(n for p, n in phases if p)
    assert first > SMALL.chunk, "exploring comes first"


def test_emitters_keep_the_best_and_hand_on_records_and_novel_policies():
    agent = explored(SMALL)
    ancestor = max((a for a, _ in agent.candidates), key=lambda a: a["objective"][0])
    limits = {"lower_bounds": agent.task.low, "upper_bounds": agent.task.high}
    emitter = stax.Elitist(agent.rewarded, ancestor, 0.02, SMALL, np.random.default_rng(0), **limits)
    agent.against = agent.reference(agent.population["measures"])
    assert emitter.ask().shape == (6, agent.task.genome_dim)
    stored, lowest = len(agent.rewarded), []
    for _ in range(6):
        agent.emit(emitter)
        lowest.append(emitter.rewards[-1].min())
    assert emitter.ask().shape == (12, agent.task.genome_dim)
    assert (np.diff(lowest) >= 0).all() and emitter.rewards.shape == (6, 6)
    assert emitter.record == emitter.rewards.max() == agent.rewarded.data("objective")[stored:].max()
    archived = len(agent.archive)
    agent.emitters = [emitter]
    agent.retire(emitter)
    assert agent.emitters == [] and archived < len(agent.archive) <= archived + SMALL.archived


def test_only_what_improves_is_kept():
    agent = explored(SMALL)
    for _ in agent.exploit():
        pass
    assert all(e.improvement > 0 for e in agent.emitters)


def test_novelty_search_is_the_same_program_without_the_learned_parts():
    agent = run(replace(SMALL, descriptor="given", exploit=False))
    assert agent.model is None and not agent.candidates and len(agent.rewarded) == 0
    np.testing.assert_allclose(agent.population["measures"], agent.population["end"] / 8 - 1)


def test_a_seed_gives_one_search_and_another_a_different_one():
    a, b, c = run(seed=0), run(seed=0), run(seed=1)
    np.testing.assert_array_equal(a.population["solution"], b.population["solution"])
    np.testing.assert_array_equal(a.grid.data("solution"), b.grid.data("solution"))
    assert a.coverage == b.coverage and not np.array_equal(a.population["solution"], c.population["solution"])


def test_coverage_counts_reachable_cells():
    agent = stax.STAX(DeceptivePoint(), replace(SMALL, descriptor="given"), seed=0)
    assert agent.coverage == 0
    agent.evaluate(np.zeros((3, agent.task.genome_dim)))
    assert agent.coverage == 1 / agent.task.reachable((32, 32)).sum()


def test_the_repertoire_holds_what_it_says(tmp_path):
    agent = run()
    found = stax.Repertoire.load(agent.repertoire().save(tmp_path / "maze", seed=0))
    objective, ends = agent.task.evaluate(found.genomes)
    np.testing.assert_allclose(ends, found.descriptors, atol=1e-9)
    np.testing.assert_allclose(objective, found.objectives, atol=1e-9)


def test_random_search_spends_the_same_budget():
    rows = list(stax.random_search(DeceptivePoint(), SMALL, seed=0))
    assert rows[-1]["evaluations"] == 900 and rows[0]["coverage"] < rows[-1]["coverage"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"descriptor": "guessed"}, "descriptor is 'guessed'; it must be learned or given"),
        ({"population": 0}, "population is 0; it must be above 0"),
        ({"sigma": -1.0}, "sigma is -1.0"),
        ({"mu": 0}, "mu is 0"),
        ({"cells": (50, 50)}, "multiple of 16"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        stax.STAX(DeceptivePoint(), replace(SMALL, **change), seed=0)


def test_it_covers_more_than_random_search_by_far():
    cfg = stax.Config(evaluations=4_000, epochs=20)
    learned = run(cfg).coverage
    control = list(stax.random_search(DeceptivePoint(), cfg, seed=0))[-1]["coverage"]
    assert learned > 1.1 * control
