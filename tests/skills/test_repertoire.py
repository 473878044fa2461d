"""Repertoires: cells and elites by hand and against pyribs, searches that repeat, files that come back whole."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import KDTree

from kit.checkpoints import DamagedCheckpoint
from kit.envs.arm12 import Arm12, reachable
from kit.skills import repertoire as module
from kit.skills.repertoire import Config, Repertoire, Search, cells_of, elites, train

SMALL = Config(evaluations=1_500, cells=(20, 20))
UNIT = ((0.0, 1.0), (0.0, 1.0))


def run(cfg: Config = SMALL, seed: int = 0, **more) -> Search:
    for metrics in train(Arm12(), cfg, seed=seed, **more):
        agent = metrics.agent
    return agent


# ---- the pieces


def test_cells_by_hand():
    points = np.array([[0, 0], [0.49, 0.99], [0.5, 0], [1, 1], [-3, 7]])
    np.testing.assert_array_equal(cells_of(points, (2, 3), UNIT), [0, 2, 3, 5, 2])


def test_elites_by_hand():
    cells, objectives = np.array([7, 2, 7, 2, 9, 7]), np.array([1.0, 5.0, 3.0, 5.0, -1.0, 3.0])
    np.testing.assert_array_equal(elites(cells, objectives), [1, 2, 4])
    assert len(elites(np.zeros(0, int), np.zeros(0))) == 0


def test_elites_equal_a_dictionary():
    rng = np.random.default_rng(0)
    for _ in range(20):
        cells, objectives = rng.integers(0, 9, 40), rng.integers(0, 5, 40).astype(float)
        kept: dict[int, int] = {}
        for row, cell in enumerate(cells):
            if cell not in kept or objectives[row] > objectives[kept[cell]]:
                kept[cell] = row
        np.testing.assert_array_equal(elites(cells, objectives), [kept[c] for c in sorted(kept)])


def test_cells_and_elites_equal_pyribs():
    rng = np.random.default_rng(1)
    points, objectives = rng.uniform(-1, 1, (5_000, 2)), rng.normal(size=5_000)
    ranges = Arm12.ranges
    archive = module.archives.GridArchive(solution_dim=1, dims=(17, 23), ranges=ranges, epsilon=0)
    np.testing.assert_array_equal(archive.index_of(points), cells_of(points, (17, 23), ranges))
    archive.add(np.arange(5_000.0)[:, None], objectives, points)
    mine = Repertoire.of(np.arange(5_000.0)[:, None], objectives, points, (17, 23), ranges)
    order = np.argsort(archive.data("index"))
    np.testing.assert_array_equal(mine.genomes, archive.data("solution")[order])


# ---- archives and searches


def test_archive_statistics_by_hand():
    """Four solutions in three cells; the worst possible objective is -pi."""
    search = Search(Arm12(), replace(SMALL, cells=(2, 2)), seed=0)
    places = np.array([[0.5, 0.5], [0.6, 0.6], [-0.5, 0.5], [-0.5, -0.5]])
    search.grid.add(np.zeros((4, 12)), np.array([-1.0, -0.5, -2.0, -0.25]), places)
    metrics = search.metrics()
    assert metrics["cells"] == 3 and metrics["best"] == -0.25
    assert metrics["qd_score"] == pytest.approx(3 * np.pi - 0.5 - 2 - 0.25)
    assert search.grid.stats.coverage == 0.75


def test_novelty_archive_equals_scipys_neighbours():
    search = Search(Arm12(), replace(SMALL, method="novelty", novelty_threshold=0.05), seed=0)
    archive, rng = search.scheduler.archive, np.random.default_rng(0)
    archive.add(np.zeros((200, 12)), np.zeros(200), rng.uniform(-1, 1, (200, 2)))
    points = rng.uniform(-1, 1, (50, 2))
    expected = KDTree(archive.data("measures")).query(points, 15)[0].mean(axis=1)
    np.testing.assert_allclose(archive.compute_novelty(points), expected)
    taken = archive.add(np.zeros((50, 12)), np.zeros(50), points)["status"] > 0
    np.testing.assert_array_equal(taken, expected >= 0.05)


@pytest.mark.parametrize("method", module.METHODS)
def test_every_method_fills_cells_that_can_be_reached_with_what_it_says(method):
    search = run(replace(SMALL, method=method))
    found = search.repertoire()
    assert search.evaluated == 1_500 and 20 < len(found) == search.metrics()["cells"]
    objectives, tips = Arm12().evaluate(found.genomes)
    np.testing.assert_allclose(objectives, found.objectives)
    np.testing.assert_allclose(tips, found.descriptors)
    assert (np.abs(found.genomes) <= np.pi).all()
    assert reachable((20, 20)).ravel()[found.cells].all()


@pytest.mark.parametrize("method", module.METHODS)
def test_a_seed_gives_one_search_and_another_a_different_one(method):
    a, b, c = (run(replace(SMALL, method=method), seed).repertoire().genomes for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_elites_never_get_worse():
    before = None
    for metrics in train(Arm12(), SMALL, seed=0):
        grid = metrics.agent.repertoire().grid()
        if before is not None:
            held = ~np.isnan(before)
            assert (grid[held] >= before[held]).all()
        before = grid


def test_map_elites_beats_random_angles():
    cfg = replace(SMALL, evaluations=9_000, cells=(50, 50))
    assert len(run(cfg).repertoire()) > 1.3 * len(run(replace(cfg, method="random")).repertoire())


# ---- keeping and picking


def test_a_saved_repertoire_comes_back_and_the_search_goes_on_the_same(tmp_path):
    found = run().repertoire()
    loaded = Repertoire.load(found.save(tmp_path / "arm", seed=0))
    for field in ("genomes", "objectives", "descriptors"):
        np.testing.assert_array_equal(getattr(found, field), getattr(loaded, field))
    assert (loaded.dims, loaded.ranges) == (found.dims, found.ranges)
    on, again = (run(seed=5, begin=r).repertoire() for r in (found, loaded))
    np.testing.assert_array_equal(on.genomes, again.genomes)
    assert np.isin(found.cells, on.cells).all() and len(on) > len(found)
    assert json.loads((tmp_path / "arm" / "repertoire.json").read_text())["seed"] == 0


def test_files_that_do_not_belong_together(tmp_path):
    run().repertoire().save(tmp_path)
    (tmp_path / "repertoire.safetensors").write_bytes(b"something else")
    with pytest.raises(DamagedCheckpoint, match="not those that its JSON describes"):
        Repertoire.load(tmp_path)
    (tmp_path / "repertoire.json").write_text("{}")
    with pytest.raises(DamagedCheckpoint, match="cannot be read"):
        Repertoire.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no repertoire in"):
        Repertoire.load(tmp_path / "nowhere")


def test_picking_a_cell_gives_the_genome_that_ends_there():
    found = run().repertoire()
    for row in (0, len(found) // 2, len(found) - 1):
        assert found.pick(found.descriptors[row]) == row
        tip = Arm12().evaluate(found.genomes[[found.pick(found.descriptors[row])]])[1]
        assert cells_of(tip, found.dims, found.ranges) == found.cells[row]
    np.testing.assert_array_equal(np.isfinite(found.grid()).ravel().nonzero()[0], found.cells)


def test_picking_where_nothing_is():
    found = Repertoire.of(np.ones((1, 3)), np.zeros(1), np.array([[0.1, 0.1]]), (4, 4), UNIT)
    with pytest.raises(ValueError, match="no elite is in the cell"):
        found.pick([0.9, 0.9])
    assert found.pick([0.9, 0.9], nearest=True) == 0
    with pytest.raises(ValueError, match="outside the grid"):
        found.pick([1.5, 0.5])
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        found.pick([0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "luck"}, "method is 'luck'; it must be one of map_elites"),
        ({"batch": 0}, "batch is 0; it must be above 0"),
        ({"sigma": 0.0}, "sigma is 0.0"),
        ({"cells": (10,)}, "give 2 numbers"),
        ({"cells": (10, 0)}, "1 or more"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        next(train(Arm12(), replace(SMALL, **change), seed=0))


def test_bad_solutions():
    with pytest.raises(ValueError, match="3 genomes, 2 objectives"):
        Repertoire.of(np.ones((3, 1)), np.ones(2), np.ones((3, 2)), (4, 4), UNIT)
    with pytest.raises(ValueError, match="not finite"):
        Repertoire.of(np.ones((1, 1)), np.array([np.nan]), np.ones((1, 2)), (4, 4), UNIT)


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(replace(SMALL, evaluations=300))
