"""A control loop's clock: sleep until absolute times, count the steps that came late, and show the rate.

    step k is due at  t_0 + k / hz            so that a late step does not move the ones after it
    miss:  a step comes more than 5 ms after it was due
    worst second:  n / (longest time that n steps in a row took),  n = hz rounded

Look first at `Rate.wait`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

MISS = 0.005  # lateness that counts as a miss [s]


class Report(NamedTuple):
    """Of the steps so far; the rates are NaN until there is something to count."""

    now: float  # of the last five steps [Hz]
    mean: float  # of all steps [Hz]
    worst_second: float  # [Hz]
    steps: int
    misses: int
    latest: float  # the largest lateness [s]

    def __str__(self) -> str:
        rates = f"{self.now:.1f} Hz now, {self.mean:.1f} mean, {self.worst_second:.1f} in the worst second"
        return f"{rates}; {self.misses} of {self.steps} steps missed, the latest by {1000 * self.latest:.1f} ms"


class Rate:
    """Call `wait` at the start of each step. `now` and `sleep` are the clock; a step more than a period late starts the
    count of due times anew, since a burst of steps to catch up would be unsafe on an arm.

    Raises:
        ValueError: a rate that is not positive.
    """

    def __init__(
        self,
        hz: float = 30.0,
        *,
        now: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ):
        if not 0 < hz < float("inf"):
            raise ValueError(f"hz is {hz}; it must be positive and finite")
        self.hz, self._now, self._sleep = hz, now, sleep
        self.restart()

    def restart(self) -> None:
        """Forget all steps, for instance when a new episode starts."""
        self._due: float | None = None
        self._first = self._last = 0.0
        self._recent: deque[float] = deque(maxlen=max(round(self.hz), 5) + 1)
        self._longest = 0.0
        self.steps, self.misses, self.latest = 0, 0, 0.0

    def wait(self) -> float:
        """Sleep until the next step is due; return by how much it is late [s]."""
        if self._due is None:
            self._due = self._first = self._now()
        else:
            self._due += 1 / self.hz
        while (left := self._due - self._now()) > 0:
            self._sleep(left)
        self._last = self._now()
        late = self._last - self._due
        self._count(late)
        if late > 1 / self.hz:
            self._due = self._last
        return late

    def _count(self, late: float) -> None:
        self.steps += 1
        self.misses += late > MISS
        self.latest = max(self.latest, late)
        self._recent.append(self._last)
        window = max(round(self.hz), 1)
        if len(self._recent) > window:
            self._longest = max(self._longest, self._last - self._recent[-1 - window])

    def report(self) -> Report:
        def rate(count: int, seconds: float) -> float:
            return count / seconds if count > 0 and seconds > 0 else float("nan")

        few = list(self._recent)[-6:]
        return Report(
            now=rate(len(few) - 1, few[-1] - few[0]) if few else float("nan"),
            mean=rate(self.steps - 1, self._last - self._first),
            worst_second=rate(max(round(self.hz), 1), self._longest),
            steps=self.steps,
            misses=self.misses,
            latest=self.latest,
        )

    def check(self, expected: float, tolerance: float = 0.1) -> None:
        """
        Raises:
            ValueError: the mean rate is further from `expected` [Hz] than `tolerance` allows (a share).
        """
        mean = self.report().mean
        if not abs(mean - expected) <= tolerance * expected:
            raise ValueError(
                f"the loop runs at {mean:.1f} Hz, but the policy was trained at {expected:g} Hz; make the loop's work "
                "shorter, or train at the rate that it reaches"
            )
