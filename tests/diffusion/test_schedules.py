"""Schedules: their ends, their formulas, and refusals that are not silent."""

import math

import pytest
import torch

from kit.diffusion import schedules


@pytest.mark.parametrize("name", schedules.NAMES)
def test_levels_fall_from_the_largest_to_the_least_and_then_to_none(name):
    levels = schedules.make(name, 7, 0.02, 80.0)
    assert len(levels) == 8 and levels[-1] == 0 and (levels[:-1] > levels[1:]).all()
    assert levels[0].item() == pytest.approx(80) and levels[6].item() == pytest.approx(0.02)


def test_levels_in_between_by_hand():
    assert schedules.make("linear", 3, 1.0, 3.0).tolist() == pytest.approx([3, 2, 1, 0])
    assert schedules.make("exponential", 3, 0.01, 1.0).tolist() == pytest.approx([1, 0.1, 0.01, 0])
    assert schedules.make("karras", 3, 1.0, 9.0, rho=2.0).tolist() == pytest.approx([9, 4, 1, 0])  # ((3 + 1) / 2)^2
    assert schedules.make("karras", 1, 0.1, 1.0).tolist() == pytest.approx([1, 0])


def test_the_squared_cosine_is_that_of_the_paper_where_nothing_is_cut():
    found = schedules.squared_cosine(100)
    f = [math.cos((t / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(101)]
    assert found[:90].tolist() == pytest.approx([f[t + 1] / f[0] for t in range(90)], rel=1e-9)
    assert (found[1:] / found[:-1]).min() >= 0.001 - 1e-9 and found[-1] > 0


def test_sigma_of_alpha_bar():
    alpha_bar = torch.tensor([0.5, 0.2], dtype=torch.float64)
    assert schedules.to_sigma(alpha_bar).tolist() == pytest.approx([1, 2])


def test_visited_times():
    assert schedules.spaced(100, 4).tolist() == [99, 74, 49, 24]
    assert schedules.spaced(100, 1).tolist() == [99]
    assert schedules.spaced(100, 4, "leading").tolist() == [75, 50, 25, 0]
    assert schedules.spaced(10, 10).tolist() == schedules.spaced(10, 10, "leading").tolist() == list(range(9, -1, -1))
    for n in range(1, 101):
        times = schedules.spaced(100, n)
        assert len(times) == n and (times[:-1] > times[1:]).all() and times[0] == 99 and times[-1] >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cosine", 3, 0.1, 1.0), "unknown schedule 'cosine'; there are karras, exponential, linear"),
        (("karras", 0, 0.1, 1.0), "n is 0; a schedule has at least 1 step"),
        (("karras", 3, 0.0, 1.0), "sigma_min 0.0 and sigma_max 1.0 must rise from above 0"),
        (("karras", 3, 2.0, 1.0), "must rise"),
        (("linear", 3, 0.1, math.inf), "be finite"),
    ],
)
def test_bad_schedules(arguments, message):
    with pytest.raises(ValueError, match=message):
        schedules.make(*arguments)


def test_more_steps_than_times_and_a_single_leading_step_are_refused():
    with pytest.raises(ValueError, match="101 steps were asked for; a schedule of 100 times has 1 to 100"):
        schedules.spaced(100, 101)
    with pytest.raises(ValueError, match="gives back the noise"):
        schedules.spaced(100, 1, "leading")
    with pytest.raises(ValueError, match="it must be trailing or leading"):
        schedules.spaced(100, 5, "linspace")
    with pytest.raises(ValueError, match="at least 1 is needed"):
        schedules.squared_cosine(0)
