"""The benchmark of SAC runs, at a size at which its numbers mean nothing."""

import json
import math

from kit import bench
from kit.bench import sac_updates


def test_sac_updates_with_a_small_network():
    result = sac_updates.measure(rounds=1, block_s=0.0, sizes=[(8, 8), (16,)])
    assert result["name"] == "sac_updates" and set(result["ratios"]) == {"8x8", "16"}
    assert all(math.isfinite(result[k]) and result[k] > 0 for k in ("ours", "peer", "ratio"))
    assert result["ratio"] == result["ratios"]["8x8"] and json.loads(json.dumps(result)) == result
    assert bench.describe(result).startswith("sac_updates") and len(result["contestants"]) == 4
