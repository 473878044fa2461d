"""The benchmark of denoising runs, at a size at which its numbers mean nothing; no time decides a test."""

import json
import math

import pytest

from kit import bench
from kit.bench import denoise


def test_the_loops_agree_and_all_policies_plan():
    result = denoise.measure(rounds=2, block_s=0.01, widths=(16, 24, 32))
    assert result["name"] == "denoise" and json.loads(json.dumps(result)) == result
    assert all(math.isfinite(result[k]) and result[k] > 0 for k in ("ours", "peer", "ratio"))
    assert {"U-Net, torch", "U-Net, NumPy", "U-Net, ONNX Runtime", "MLP, NumPy", "BESO, 3 steps, torch"} <= set(
        result["milliseconds"]
    )
    assert result["parameters"]["U-Net, torch"] < 750_000
    text = bench.describe(result)
    assert text.startswith("denoise") and "{" not in text
    assert "denoise" in bench.NAMES


def test_a_peer_that_disagrees_is_noticed(monkeypatch):
    def other(net, x, cond):
        return lambda: x

    monkeypatch.setattr(denoise, "peer", other)
    with pytest.raises(AssertionError):
        denoise.loops(None)
