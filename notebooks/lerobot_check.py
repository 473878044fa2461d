"""Check the kit against LeRobot itself: its own SO-101 client on an arm's port, and its own reader on a dataset.

    python -m kit robot --calibrated                      # in the kit's environment; prints a port
    python lerobot_check.py --port /dev/pts/3             # in LeRobot's (Python 3.12), see lerobot.md
    python lerobot_check.py --dataset datasets/reach

It needs nothing of the kit. The arm moves by 5 degrees and back. On a metal arm clear the table first, and give the
`--id` under which it was calibrated; it drops when the torque goes off at the end, as it does with LeRobot.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

GAINS = {"P_Coefficient": 16, "I_Coefficient": 0, "D_Coefficient": 32}  # what LeRobot writes
JOINT, STEP = "wrist_flex", 5.0  # [deg]
MISSING = """LeRobot is not installed in this Python ({python}). It wants Python 3.12 or later, in its own environment:
    python3.12 -m venv lerobot && lerobot/bin/pip install "lerobot[feetech,dataset]"
    lerobot/bin/python {script} --help"""


class Checks:
    """Prints each check, and counts those that failed."""

    def __init__(self) -> None:
        self.failed = 0

    def __call__(self, what: str, good: bool, seen: object = "") -> None:
        self.failed, seen = self.failed + (not good), str(seen)
        print(f"{'ok    ' if good else 'FAILED'}  {what}{f': {seen}' if seen else ''}", flush=True)


def make_follower(port: str, arm_id: str, keep: bool):
    """LeRobot's follower. Without a calibration file the servos' own calibration is taken; LeRobot would ask for it."""
    from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig

    robot = SO101Follower(SO101FollowerConfig(port=port, id=arm_id))
    if not robot.calibration:
        robot.bus.connect()
        robot.calibration = robot.bus.calibration = robot.bus.read_calibration()
        robot.bus.disconnect(disable_torque=False)
        if keep:
            robot._save_calibration()
            print(f"        the servos' calibration is now in {robot.calibration_fpath}")
    return robot


def registers(robot, name: str) -> dict[str, int]:
    return {motor: robot.bus.read(name, motor, normalize=False) for motor in robot.bus.motors}


def check_robot(port: str, arm_id: str, seconds: float, keep: bool, check: Checks) -> None:
    """Connect, observe, act, disconnect, and look at what is left in the servos."""
    robot = make_follower(port, arm_id, keep)
    robot.connect(calibrate=False)
    check("the servos hold LeRobot's calibration", robot.is_calibrated, robot.calibration_fpath.name)
    start = robot.get_observation()
    check("an observation has six joints", len(start) == 6, {k: round(v, 1) for k, v in start.items()})
    key = f"{JOINT}.pos"
    away = STEP if start[key] < 0 else -STEP
    for goal in (start[key] + away, start[key]):
        took = move(robot, start | {key: goal}, seconds)
        here = robot.get_observation()[key]
        check(f"{JOINT} goes to {goal:.1f} degrees", abs(here - goal) < 0.8 * STEP, f"{here:.1f}")
    check("observation and action took", took < 1 / 30, f"{1000 * took:.2f} ms, the middle of {int(30 * seconds)}")
    robot.disconnect()
    check("disconnected", not robot.is_connected)
    robot.bus.connect()
    for name, wanted in (GAINS | {"Torque_Enable": 0}).items():
        found = registers(robot, name)
        check(f"{name} is {wanted} in all six servos afterwards", set(found.values()) == {wanted}, found)
    robot.bus.disconnect(disable_torque=False)


def move(robot, goal: dict[str, float], seconds: float) -> float:
    """Send a goal at 30 Hz; the median time of an observation and an action [s]."""
    took = []
    for _ in range(int(30 * seconds)):
        begin = time.perf_counter()
        robot.get_observation()
        robot.send_action(goal)
        took.append(time.perf_counter() - begin)
        time.sleep(max(1 / 30 - took[-1], 0))
    return sorted(took)[len(took) // 2]


def check_dataset(folder: Path, check: Checks) -> None:
    """Load it as LeRobot does, and compare each frame with the numbers that the files claim."""
    import numpy as np
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    info = json.loads((folder / "meta/info.json").read_text(encoding="utf-8"))
    dataset = LeRobotDataset(f"local/{folder.name}", root=folder)
    check("frames", len(dataset) == info["total_frames"], len(dataset))
    check("episodes", dataset.num_episodes == info["total_episodes"], dataset.num_episodes)
    check("features", set(dataset.features) == set(info["features"]), ", ".join(dataset.features))
    columns = dataset.hf_dataset.with_format("numpy")
    late = np.abs(columns["timestamp"][:] - np.asarray(columns["frame_index"][:]) / dataset.fps).max()
    check("timestamps are frame_index / fps", late < 1e-4, f"{late:.1e} s off at most")
    state = np.asarray(columns["observation.state"][:])
    mean = np.asarray(dataset.meta.stats["observation.state"]["mean"])
    check("stats.json has the mean of the states", np.allclose(state.mean(axis=0), mean, atol=1e-3), mean.round(2))
    last = dataset[len(dataset) - 1]
    check("the last frame has a task", isinstance(last["task"], str), repr(last["task"]))
    for key in dataset.meta.camera_keys:
        height, width, _ = info["features"][key]["shape"]
        check(f"{key} is a picture", tuple(last[key].shape) == (3, height, width), tuple(last[key].shape))
    steps = {"action": [0.0, 1 / dataset.fps]}
    ahead = LeRobotDataset(f"local/{folder.name}", root=folder, episodes=[0], delta_timestamps=steps)
    check(
        "actions ahead, for action chunks", tuple(ahead[0]["action"].shape[:1]) == (2,), tuple(ahead[0]["action"].shape)
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Exit status: 0 all is well, "
        "1 a check failed, 2 LeRobot is not installed."
    )  # fmt: skip
    parser.add_argument("--port", help="of a follower arm: what `python -m kit robot` prints, or /dev/ttyACM0")
    parser.add_argument("--id", default="kit_check", help="LeRobot's name of the arm, for its calibration file")
    parser.add_argument("--keep-calibration", action="store_true", help="store the servos' calibration under --id, so "
                        "that LeRobot's own commands do not ask for one")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=1.5, help="for each of the two moves")
    parser.add_argument("--dataset", type=Path, help="folder of an exported dataset")
    args = parser.parse_args(argv)
    if args.port is None and args.dataset is None:
        parser.error("give --port, --dataset, or both")
    try:
        import lerobot
    except ModuleNotFoundError:
        print(MISSING.format(python=sys.version.split()[0], script=Path(__file__).name), file=sys.stderr)
        return 2
    print(f"LeRobot {getattr(lerobot, '__version__', '(version unknown)')}, Python {sys.version.split()[0]}")
    check = Checks()
    if args.port is not None:
        check_robot(args.port, args.id, args.seconds, args.keep_calibration, check)
    if args.dataset is not None:
        check_dataset(args.dataset, check)
    print(f"{check.failed} checks failed" if check.failed else "all is well")
    return int(check.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
