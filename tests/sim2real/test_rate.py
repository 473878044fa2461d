"""The loop's clock, on a clock of its own."""

import math

import pytest

from kit.sim2real.rate import Rate


class Clock:
    def __init__(self):
        self.time, self.slept = 0.0, []

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.time += seconds


def loop(hz=10.0):
    clock = Clock()
    return Rate(hz, now=clock.now, sleep=clock.sleep), clock


def test_steps_are_due_at_absolute_times():
    rate, clock = loop()
    starts = []
    for work in (0.03, 0.07, 0.0, 0.099, 0.01):
        assert rate.wait() == pytest.approx(0.0, abs=1e-12)
        starts.append(clock.time)
        clock.time += work
    assert starts == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert clock.slept == pytest.approx([0.07, 0.03, 0.1, 0.001])
    assert rate.report().mean == pytest.approx(10.0) and rate.report().misses == 0


def test_a_short_delay_does_not_move_the_steps_after_it_and_only_more_than_5_ms_is_a_miss():
    rate, clock = loop()
    rate.wait()
    clock.time += 0.104
    assert rate.wait() == pytest.approx(0.004)
    clock.time += 0.106
    assert rate.wait() == pytest.approx(0.01)
    rate.wait()
    assert clock.time == pytest.approx(0.3)
    report = rate.report()
    assert (report.steps, report.misses) == (4, 1) and report.latest == pytest.approx(0.01)


def test_after_a_long_pause_there_is_no_burst_of_steps():
    rate, clock = loop()
    rate.wait()
    clock.time += 1.0
    assert rate.wait() == pytest.approx(0.9)
    rate.wait()
    assert clock.time == pytest.approx(1.1)


def test_rate_now_mean_and_worst_second():
    rate, clock = loop()
    for k in range(41):
        rate.wait()
        clock.time += 0.2 if 15 <= k < 20 else 0.0
    report = rate.report()
    assert report.now == pytest.approx(10.0)
    assert report.mean == pytest.approx(40 / 4.5)  # five periods took 0.2 s
    assert report.worst_second == pytest.approx(10 / 1.5)
    assert "10.0 Hz now, 8.9 mean, 6.7 in the worst second; 5 of 41 steps missed" in str(report)
    rate.check(9.0)
    with pytest.raises(ValueError, match=r"the loop runs at 8.9 Hz, but the policy was trained at 30 Hz"):
        rate.check(30.0)
    rate.restart()
    assert rate.report().steps == 0 and math.isnan(rate.report().worst_second)


def test_without_steps_there_is_nothing_to_report_or_to_approve():
    rate, _ = loop()
    assert math.isnan(rate.report().mean)
    with pytest.raises(ValueError, match="the loop runs at nan Hz"):
        rate.check(10.0)
    for hz in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"hz is {hz}"):
            Rate(hz)
