"""Every benchmark runs, at a size at which its numbers mean nothing; no time decides a test."""

import json
import math

import numpy as np
import pytest

from kit import bench
from kit.__main__ import main
from kit.bench import blocks, bus, env_throughput, import_time, loop, pixels, sysid, teacher_speed, time_to_reach
from kit.bench.plain_reach import PlainReach
from kit.bench.vectors import ENV_ID, PEERS, kit_env, make_peer
from kit.envs import single

REQUIRED = ("name", "ours", "peer", "ratio", "unit", "compared")


def check(result, name):
    """The result of a benchmark has its fields, finite positive numbers, and survives JSON."""
    assert set(REQUIRED) <= set(result) and result["name"] == name
    assert all(math.isfinite(result[k]) and result[k] > 0 for k in ("ours", "peer", "ratio"))
    assert json.loads(json.dumps(result)) == result
    text = bench.describe(result)
    assert text.startswith(name) and result["compared"] in text and "{" not in text


def test_env_throughput_with_one_peer_of_each_kind():
    peers = ["gym_async/kit", "sb3_subproc/plain", "gym_sync/plain", "sb3_dummy/kit"]
    result = env_throughput.measure(rounds=2, block_s=0.01, num_envs=3, peers=peers)
    check(result, "env_throughput")
    assert set(result["contestants"]) == {"kit batch", "raw batch", *peers} and result["peer_name"] in peers
    assert result["of_raw"] > 0 and result["of_raw_best_quarter"] > 0 and result["ratio_best_quarter"] > 0


def test_time_to_reach_capped_at_once():
    result = time_to_reach.measure([3], cap_s=0.0, episodes=2, num_envs=16, contestants=["batched", "subproc"])
    check(result, "time_to_reach")
    assert result["steps"]["batched"] == result["steps"]["subproc"] == [512], "stopped after the first update"
    assert result["capped"] == ["batched, seed 3", "subproc, seed 3"]


def test_import_time_and_that_import_kit_is_light():
    result = import_time.measure(runs=1)
    check(result, "import_time")
    assert result["heavy"] == []


def test_teacher_speed_with_one_refit():
    result = teacher_speed.measure(seeds=[0], episodes=300)
    check(result, "teacher_speed")
    assert len(result["seconds"]) == len(result["mastered"]) == 2


def test_sysid_with_a_quarter_of_the_recording():
    result = sysid.measure(seeds=[0], seconds=3.0)
    check(result, "sysid")


def test_bus_with_a_few_calls():
    check(bus.measure(rounds=1, calls=10, hz=100.0), "bus")


def test_loop_for_a_second():
    check(loop.measure(seconds=1.0), "loop")


def test_pixels():
    check(pixels.measure(rounds=1, block_s=0.0), "pixels")


def test_the_command_lists_all_benchmarks_and_names_them_for_an_unknown_one(capsys):
    assert main(["bench"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(bench.NAMES)
    assert main(["bench", "warp_speed"]) == 2
    assert "warp_speed" in (error := capsys.readouterr().err) and "env_throughput" in error
    with pytest.raises(ValueError, match=r"'warp_speed'.*time_to_reach"):
        bench.measure("warp_speed")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_hand_written_env_is_the_kits_to_the_number(seed):
    ours, plain = single(ENV_ID), PlainReach()
    rng = np.random.default_rng(seed)
    a, b = ours.reset(seed=seed)[0], plain.reset(seed=seed)[0]
    np.testing.assert_allclose(b, a, atol=1e-6)
    for _ in range(30):
        action = rng.uniform(-1.2, 1.2, 5).astype(np.float32)
        a, b = ours.step(action), plain.step(action)
        np.testing.assert_allclose(b[0], a[0], atol=1e-6)
        assert b[1] == pytest.approx(a[1], abs=1e-6) and a[2:4] == b[2:4]
        assert a[4]["success"] == b[4]["success"]
    ours.close()


def test_the_hand_written_env_ends_and_succeeds_as_the_kits():
    ours, plain = single(ENV_ID), PlainReach()
    ours.reset(seed=0)
    plain.reset(seed=0)
    goal = ours.tool[0] + (0.004, 0, 0)  # inside the tolerance, and where gravity lets the arm stay
    ours.set_task(goal=goal)
    plain._goal = goal.tolist()
    for step in range(1, 91):
        a, b = ours.step(np.zeros(5)), plain.step(np.zeros(5))
        assert b[1] == pytest.approx(a[1], abs=1e-6) and a[2:4] == b[2:4] and a[4]["success"] == b[4]["success"]
        assert a[3] == (step == 90)
    ours.close()


@pytest.mark.parametrize("peer", [p for p in PEERS if p.startswith(("gym_sync", "sb3_dummy"))])
def test_peers_restart_at_spread_times(peer):
    vector = make_peer(peer, 3)
    vector.reset()
    ends = []
    for step in range(1, 91):
        done = vector.step(np.zeros((3, 5), np.float32))[2 if peer.startswith("sb3") else 3]
        ends += [(step, i) for i in np.flatnonzero(done).tolist()]
    vector.close()
    assert ends == [(30, 2), (60, 1), (90, 0)]


def test_staggering_concerns_the_first_episode_only():
    env = kit_env(60)
    for length in (30, 90):
        env.reset()
        assert [env.step(np.zeros(5))[3] for _ in range(length)].index(True) == length - 1
    env.close()


def test_blocks_take_turns_and_best_quarter_is_of_the_fastest():
    order = []
    contestants = [blocks.Contestant(n, lambda n=n: order.append(n), units=5) for n in "abc"]
    speeds = blocks.interleave(contestants, rounds=3, block_s=0.0)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert all(s.shape == (3,) and (s > 0).all() for s in speeds.values())
    assert blocks.best_quarter(np.array([1.0, 8.0, 2.0, 3.0, 6.0, 4.0, 1.0, 1.0])) == 7.0
    assert blocks.paired_ratio(np.array([2.0, 9.0, 4.0]), np.array([1.0, 3.0, 1.0])) == 3.0
