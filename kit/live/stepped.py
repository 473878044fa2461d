"""What moves in steps beside the reader: at its own pace, while a cell waits, or in the background while none does.

Whoever has `step` and `fps` gets `play`, `start`, `stop` and `catch_up` from here. Look first at `Stepped.play`.
"""

from __future__ import annotations

import asyncio
import time

from kit.live.runner import StopPause, display_below
from kit.runtime import fast

CATCH_UP = 6  # steps at most at once, so that a slow trainer does not wait for its picture
FAST_STEPS = 3


class Stepped:
    """A subclass sets `fps` and gives `step`, `shown` and `widget`."""

    fps: float  # steps a second
    _task: asyncio.Task | None = None
    _caught_up: float | None = None  # when `catch_up` was called last [s]

    def step(self) -> None:
        raise NotImplementedError

    def catch_up(self) -> None:
        """As many steps as the clock has gone on since the last call, at least one; none while `start` plays."""
        if self._task is not None:
            return
        now = time.perf_counter()
        due = 0 if self._caught_up is None else (now - self._caught_up) * self.fps
        self._caught_up = now
        for _ in range(min(max(int(due), 1), CATCH_UP)):
            self.step()

    async def play(self, seconds: float) -> None:
        """Play for `seconds`, or until Stop, with sliders and clicks alive; a few steps at once in fast mode."""
        if fast():
            return self._few_steps()
        panel = StopPause()
        display_below(panel.widget, *([] if self.shown else [self]))
        start = time.perf_counter()
        while not panel.stopped and (elapsed := time.perf_counter() - start) < seconds:
            panel.show(elapsed / seconds, f"{elapsed:.0f} of {seconds:.0f} s")
            await self._step_in_time(paused=panel.paused)
        panel.finish("stopped" if panel.stopped else "done")

    def start(self) -> None:
        """Go on playing in the background, while the cells are idle, until `stop`."""
        self.stop()
        if fast():
            return self._few_steps()
        self._task = asyncio.get_running_loop().create_task(self._forever())
        self._task.add_done_callback(_report)

    def stop(self) -> None:
        """End what `start` began; nothing happens otherwise."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _forever(self) -> None:
        while True:
            await self._step_in_time()

    async def _step_in_time(self, paused: bool = False) -> None:
        """One step, then sleep for what is left of its frame."""
        began = time.perf_counter()
        if not paused:
            self.step()
        await asyncio.sleep(max(1 / self.fps - (time.perf_counter() - began), 0.001))

    def _few_steps(self) -> None:
        for _ in range(FAST_STEPS):
            self.step()


def _report(task: asyncio.Task) -> None:
    """A background task's error would stay unseen until the task is collected."""
    if not task.cancelled() and task.exception() is not None:
        print(f"the live rollout ended: {task.exception()!r}")
