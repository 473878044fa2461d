"""Share of deadlines that a 30 Hz loop keeps within 5 ms: the reach policy on a virtual SO-101 in another process.

The loop is `kit.sim2real.deploy.rollout` with `kit.sim2real.rate.Rate`, which sleeps until absolute times. The peer is
the same robot and policy in the loop that first comes to mind, and that LeRobot has: after each step sleep for what is
left of the period. Its small overhead adds up, so it falls behind the clock; its deadlines are counted alike, from
absolute times, and `rates` shows how fast each really ran. The arm answers with a wire's delays, 2 to 6 ms, as by USB.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from kit.bench import bus, fresh
from kit.envs.so101 import CONTROL_HZ
from kit.sim2real.rate import MISS

ASKED = 0.999
GOALS = ((0.25, 0.10, 0.12), (0.20, -0.15, 0.20), (0.30, 0.0, 0.08), (0.15, 0.18, 0.15))  # in turn [m]
GOAL_S = 3.0  # for so long each [s]


def measure(seconds: float = 60.0) -> dict[str, Any]:
    """Each loop runs for `seconds`, one after the other."""
    return fresh.call(run, seconds=seconds)


def run(seconds: float) -> dict[str, Any]:
    """Measure in this process."""
    import kit
    from kit.sim2real.deploy import Reach, rollout

    with bus.served_arm() as port:
        with_rate, controller = bus.connect(port), Reach(kit.load("arm_reach"), GOALS[0])
        late: list[float] = []

        def on_step(step: Any) -> None:
            late.append(step.late)
            lead_about(controller, step.number)

        report = rollout(with_rate, controller, seconds=seconds, on_step=on_step)
        if report.halted:
            raise RuntimeError(f"the arm halted: {report.halted}")
        with_rate.disconnect()
        robot = bus.connect(port)
        starts, work = sleeping_loop(robot, Reach(kit.load("arm_reach"), GOALS[0]), report.frames)
        robot.disconnect()
    behind = starts - starts[0] - np.arange(len(starts)) / CONTROL_HZ
    return result(np.array(late), behind, work, report, float((len(starts) - 1) / (starts[-1] - starts[0])))


def lead_about(controller: Any, number: int) -> None:
    """A new goal every few seconds, so that the arm goes on moving."""
    if (number + 1) % round(GOAL_S * CONTROL_HZ) == 0:
        controller.goal = GOALS[(number + 1) // round(GOAL_S * CONTROL_HZ) % len(GOALS)]


def sleeping_loop(robot: Any, controller: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """When each step began and how long its work took, (count,) [s]."""
    starts, work = np.zeros(count), np.zeros(count)
    controller.reset(robot.get_observation())
    for number in range(count):
        starts[number] = start = time.perf_counter()
        controller.told(robot.send_action(controller(robot.get_observation())))
        lead_about(controller, number)
        work[number] = time.perf_counter() - start
        time.sleep(max(1 / CONTROL_HZ - (time.perf_counter() - start), 0.0))
    return starts, work


def result(late: np.ndarray, behind: np.ndarray, work: np.ndarray, report: Any, peer_rate: float) -> dict[str, Any]:
    ours, peer = float((late <= MISS).mean()), float((behind <= MISS).mean())
    return {
        "name": "loop",
        "ours": ours,
        "peer": peer,
        "peer_name": "sleeping for what is left",
        "ratio": ours / peer,
        "unit": "of deadlines kept within 5 ms",
        "compared": f"{CONTROL_HZ:g} Hz for {len(late) / CONTROL_HZ:.0f} s, the reach policy on a virtual arm in "
        "another process: sleeping until absolute times against sleeping for what is left of each period",
        "asked": ASKED,
        "reached": ours >= ASKED,
        "steps": len(late),
        "misses": report.rate.misses,
        "latest_ms": 1000 * report.rate.latest,
        "worst_second_hz": report.rate.worst_second,
        "rates": {"Rate": {"mean_hz": report.rate.mean}, "sleeping for what is left": {"mean_hz": peer_rate}},
        "work_ms": bus.summary(1000 * work),  # of the 33.3 ms that a step has
    }
