"""Verdicts against closed forms; the runner against kills, processes and a cluster that loses a worker."""

import json
import os

import numpy as np
import pytest
from scipy import stats as scipy_stats
from toy_claims import NOISY, WATCHED

from kit import claims
from kit.__main__ import main
from kit.claims import runner
from kit.claims.core import Claim, verdict


def comparable(result: dict) -> dict:
    return {k: v for k, v in result.items() if k not in ("seconds", "commit")}


def test_verdict_equals_scipys_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 8), rng.normal(0, 1, 8)
    judged, interval = verdict(a, b), scipy_stats.ttest_rel(a, b).confidence_interval(0.95)
    assert judged.effect == pytest.approx((a - b).mean())
    assert (judged.low, judged.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(("shift", "holds"), [(3.0, True), (-3.0, False), (1.0, None)])
def test_holds_fails_or_unclear(shift, holds):
    noise = np.array([-0.4, -0.2, 0.0, 0.2, 0.4])
    assert verdict(noise + shift, np.zeros(5), margin=1.0).holds is holds
    assert verdict(-(noise + shift), np.zeros(5), margin=1.0, more_is_better=False).holds is holds


def test_equal_differences_make_the_interval_a_point():
    judged = verdict(np.full(5, 10.0), np.full(5, 1.0), margin=9.0)
    assert judged.low == judged.high == 9.0 and judged.holds is None, "on the margin is neither above nor below"
    assert verdict(np.full(5, 10.0), np.full(5, 1.0), margin=8.99).holds is True


def test_a_true_null_is_rarely_called():
    rng = np.random.default_rng(1)
    called = [verdict(*rng.normal(size=(2, 6))).holds is not None for _ in range(1000)]
    assert 0.02 < np.mean(called) < 0.08


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: verdict(np.zeros(4), np.zeros(4)), "4 seeds.*at least 5"),
        (lambda: verdict(np.zeros(5), np.zeros(6)), "one shape"),
        (lambda: verdict(np.full(5, np.nan), np.zeros(5)), "not finite"),
        (lambda: claims.get("nothing"), "no claim is called 'nothing'"),
        (lambda: claims.run(NOISY, seeds=3), "--seeds is 3"),
        (lambda: claims.run(NOISY, jobs=0), "--jobs is 0"),
        (lambda: claims.run(NOISY, budget="lazy"), "'lazy'"),
        (lambda: Claim("x", (1,), "", ("a",), "m", lambda *a: {}), "two or more"),
        (lambda: Claim("x", (1,), "", ("a", "b"), "m", lambda *a: {}, cost="free"), "free"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_pairing_finds_what_the_noise_hides(tmp_path):
    result = claims.run(NOISY, seeds=6, folder=tmp_path)
    assert result["holds"] is True and result["effect"]["n"] == 6
    assert 0.8 < result["effect"]["low"] < 1 < result["effect"]["high"] < 1.2
    assert json.loads((tmp_path / "toy.noisy.json").read_text()) == result
    assert [p.name for p in tmp_path.iterdir()] == ["toy.noisy.json"]
    assert "holds" in claims.show(result)


def test_other_seeds_and_the_fast_budget(tmp_path):
    result = claims.run(NOISY, first_seed=100, budget="fast", folder=tmp_path)
    assert result["seeds"] == [100, 101, 102, 103, 104] and result["budget"] == "fast"
    assert all(m["fast"] == 1 for m in result["values"]["better"].values())


@pytest.fixture
def trace(tmp_path, monkeypatch):
    folder = tmp_path / "trace"
    folder.mkdir()
    monkeypatch.setenv("KIT_TEST_TRACE", str(folder))
    return folder


def test_a_killed_run_keeps_its_seeds_and_ends_the_same(tmp_path, trace):
    unbroken = claims.run(WATCHED, folder=tmp_path / "a")
    (trace / "calls").unlink()
    (trace / "die at 3").touch()
    with pytest.raises(KeyboardInterrupt):
        claims.run(WATCHED, folder=tmp_path / "b")
    assert not (tmp_path / "b" / "toy.watched.json").exists()
    with (tmp_path / "b" / ".toy.watched.jsonl").open("a") as file:
        file.write('{"arm": "better", "se')  # killed in the middle of a line
    (trace / "die at 3").unlink()
    (trace / "calls").unlink()
    resumed = claims.run(WATCHED, folder=tmp_path / "b")
    assert (trace / "calls").read_text().split("\n")[:-1] == ["better 3", "worse 3", "better 4", "worse 4"]
    assert comparable(resumed) == comparable(unbroken)


def test_finished_seeds_of_other_code_do_not_count(tmp_path, trace, monkeypatch):
    (trace / "die at 3").touch()
    with pytest.raises(KeyboardInterrupt):
        claims.run(WATCHED, folder=tmp_path)
    (trace / "die at 3").unlink()
    (trace / "calls").unlink()
    claims.run(WATCHED, folder=tmp_path, budget="fast")
    assert len((trace / "calls").read_text().split()) == 2 * 10


def test_two_processes_give_what_one_gives(tmp_path):
    one, two = claims.run(NOISY, folder=tmp_path / "a"), claims.run(NOISY, folder=tmp_path / "b", jobs=2)
    assert comparable(one) == comparable(two)


def test_a_cluster_that_loses_a_worker_loses_no_seed(tmp_path, trace):
    import distributed

    (trace / "slow").touch()
    kills = []

    def kill_one(outcome):
        if not kills:
            kills.append(next(iter(cluster.workers.values())).pid)
            os.kill(kills[0], 9)

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1")
        result = claims.run(WATCHED, seeds=6, folder=tmp_path, dask=cluster.scheduler_address, on_done=kill_one)
    assert len(kills) == 1
    assert comparable(result) == comparable(claims.run(WATCHED, seeds=6, folder=tmp_path / "here"))


def test_no_cluster_there(tmp_path):
    with pytest.raises(OSError, match=r"127\.0\.0\.1:1"):
        claims.run(NOISY, folder=tmp_path, dask="tcp://127.0.0.1:1")


def test_command_line(tmp_path, capsys, monkeypatch):
    import toy_claims

    from kit.claims import core

    monkeypatch.setattr(core, "MODULES", ("toy_claims",))
    core._registry.cache_clear()
    try:
        out = ["--out", str(tmp_path)]
        assert main(["claims", *out]) == 0 and "not run" in capsys.readouterr().out
        assert main(["claims", "run", "toy.noisy", *out]) == 0
        assert "holds" in capsys.readouterr().out
        assert main(["claims", "--json", *out]) == 0
        row = next(r for r in json.loads(capsys.readouterr().out) if r["id"] == "toy.noisy")
        assert row["holds"] is True and row["seeds"] == 5 and row["interval"][0] > toy_claims.NOISY.margin
        assert main(["claims", "run", *out]) == 2 and "toy.watched" in capsys.readouterr().err
        assert main(["claims", "run", "toy.nothing", *out]) == 2
    finally:
        core._registry.cache_clear()


def test_every_recorded_result_is_of_a_claim_and_keeps_its_verdict():
    for path in sorted(runner.results_folder().glob("*.json")):
        result = json.loads(path.read_text())
        claim = claims.get(result["id"])
        assert path.stem == claim.id and result["budget"] == "full" and len(result["seeds"]) >= 5
        columns = [[m[claim.metric] for m in result["values"][arm].values()] for arm in claim.arms[:2]]
        assert verdict(*map(np.array, columns), claim.margin, claim.more_is_better).holds is result["holds"]


def test_every_recorded_result_says_what_its_claim_says():
    """A result keeps the words and the margin that it was judged by; whoever changes one changes both."""
    for path in sorted(runner.results_folder().glob("*.json")):
        result = json.loads(path.read_text())
        claim = claims.get(result["id"])
        words = {"statement": claim.statement, "margin_source": claim.source, "tried": claim.tried}
        said = words | {"margin": claim.margin, "arms": list(claim.arms), "metric": claim.metric}
        assert {name: result[name] for name in said} == said, claim.id
        assert result["holds"] is True or claim.tried, f"{claim.id} does not hold; say what was tried"
