"""Benchmarks: each measures ours and a peer in turn in one run, and gives their ratio.

    python -m kit bench                  # the names
    python -m kit bench env_throughput   # one of them, to read; with --json, one JSON object

A module here holds one benchmark: its `measure()` returns a flat dictionary with `name`, `ours`, `peer`, `ratio` (above
1 means that ours is better), `unit`, `compared`, and what else it found. `kit.bench.blocks` has the interleaved timing
that they share, `kit.bench.fresh` the fresh process that they run in. No test depends on a time.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

NAMES = {
    "env_throughput": "batched ArmReach against vector environments of Gymnasium and SB3, and the raw batch; 3 minutes",
    "time_to_reach": "wall time of PPO to 95 % on ArmReach, beside SubprocVecEnv and DummyVecEnv; 20 minutes",
    "import_time": "`import kit`, beside `import gymnasium`; 30 seconds",
    "scene_fps": "frames/s of the live scene drawn in a browser, against K3D's own way; 2 minutes",
    "teacher_speed": "20,000 episodes of ALP-GMM, beside a plain scikit-learn refit loop; 3 minutes",
    "bus": "milliseconds to observe and act on a virtual SO-101 over its port, beside the vendor's SDK; 2 minutes",
    "loop": "deadlines of a 30 Hz loop with the reach policy on a virtual SO-101, beside a bare loop; 2 minutes",
    "sysid": "five hidden parameters of an arm from 12 s of motion, beside scipy's least squares; 1 minute",
    "pixels": "64x64 wrist camera images on one core, against MuJoCo's renderer as it comes; 30 seconds",
    "sac_updates": "updates/s of the readable SAC, beside Stable-Baselines3's; 2 minutes",
    "hilp_updates": "value and policy steps/s of HILP on a maze, beside the same updates written plainly; 3 minutes",
    "denoise": "DDIM's overhead a step beside diffusers' loop, and milliseconds of whole plans; 3 minutes",
}
HEAD = ("name", "ours", "peer", "peer_name", "ratio", "unit", "compared")  # what `describe` puts in its first lines


def measure(name: str) -> dict[str, Any]:
    """Run a benchmark at its full size; JSON can hold the result.

    Raises:
        ValueError: no such benchmark; the message lists the names.
    """
    if name not in NAMES:
        raise ValueError(f"unknown benchmark {name!r}; there are {', '.join(NAMES)}")
    return import_module(f"kit.bench.{name}").measure()


def describe(result: dict[str, Any]) -> str:
    """A result as a few lines to read: the comparison, then whatever else was found."""
    peer = f" ({result['peer_name']})" if "peer_name" in result else ""
    lines = [
        f"{result['name']}: ratio {_text(result['ratio'])}, above 1 means that ours is better",
        f"  ours  {_text(result['ours'])} {result['unit']}",
        f"  peer  {_text(result['peer'])} {result['unit']}{peer}",
        f"  {result['compared']}",
    ]
    rest = {k: v for k, v in result.items() if k not in HEAD}
    width = max(map(len, rest), default=0)
    for key, value in rest.items():
        rows = value.items() if isinstance(value, dict) else ()
        lines.append(f"  {key:{width}}  {_text(value)}".rstrip())
        lines += [f"    {name:{max(map(len, value))}}  {_text(row, nested=True)}" for name, row in rows]
    return "\n".join(lines)


def _text(value: Any, nested: bool = False) -> str:
    """A number to three or four digits, a list or an inner dictionary on one line, nothing for an outer one."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items()) if nested else ""
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
