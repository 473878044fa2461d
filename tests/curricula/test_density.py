"""Densities against the samples of what they describe, in spaces of numbers, of choices and of both."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from kit.curricula import density
from kit.curricula.space import Space

NUMBERS = Space(x=Box(0.0, 1.0, (2,)))
CHOICES = Space(x=Discrete(4), y=Discrete(3))
BOTH = Space(x=Discrete(4), y=Box(0.0, 1.0, (1,)))
LOW, HIGH = np.array([0.1, 0.2]), np.array([0.6, 0.9])
MEAN, COV = np.array([0.25, 0.8]), np.array([[0.03, -0.02], [-0.02, 0.05]])
CELLS = (4, 3)


def shares(space, points):
    """Share of points (n, 2) in each of 4 times 3 cells, after snapping."""
    bins = (space.snap(points) * CELLS).astype(int).clip(0, [3, 2])
    return np.bincount(np.ravel_multi_index(tuple(bins.T), CELLS), minlength=12) / len(points)


def integral(space, function):
    """Of a density over each of the cells, (12,)."""
    if space.discrete:
        return function(space, space.points()) / space.count
    fine = [CELLS[0] if space.choices[0] else 240, 240]
    middles = (np.stack(np.meshgrid(*(np.arange(n) for n in fine), indexing="ij"), axis=-1).reshape(-1, 2) + 0.5) / fine
    bins = (middles * CELLS).astype(int)
    total = np.bincount(np.ravel_multi_index(tuple(bins.T), CELLS), function(space, middles), minlength=12)
    return total / len(middles)


@pytest.mark.parametrize("space", [NUMBERS, CHOICES, BOTH])
def test_uniform_in_a_box(space):
    drawn = shares(space, np.random.default_rng(0).uniform(LOW, HIGH, (40_000, 2)))
    np.testing.assert_allclose(integral(space, lambda s, p: density.uniform(s, p, LOW, HIGH)), drawn, atol=0.01)


def test_a_box_without_width_is_one_choice():
    for x, chosen in ((0.3, 1), (0.25, 1), (0.0, 0), (1.0, 3)):
        low, high = np.array([x, 0.0]), np.array([x, 1.0])
        by_x = density.uniform(CHOICES, CHOICES.points(), low, high).reshape(4, 3)
        expected = np.zeros((4, 3))
        expected[chosen] = 4
        np.testing.assert_allclose(by_x, expected)


@pytest.mark.parametrize("space", [NUMBERS, CHOICES, BOTH])
def test_near_a_task_in_a_box(space):
    """Along a number what would be clipped is drawn anew instead: that is its density inside."""
    rng, mean = np.random.default_rng(0), np.array([0.2, 0.85])
    drawn = rng.normal(mean, 0.1, (80_000, 2))
    inside = ((drawn >= LOW) & (drawn <= HIGH)) | (space.choices > 0)
    drawn = drawn[inside.all(axis=1)].clip(LOW, HIGH - 1e-9)
    found = integral(space, lambda s, p: density.near(s, p, mean, 0.1, LOW, HIGH))
    np.testing.assert_allclose(found, shares(space, drawn), atol=0.01)


@pytest.mark.parametrize("space", [NUMBERS, CHOICES])
def test_a_gaussian(space):
    drawn = np.random.default_rng(0).multivariate_normal(MEAN, COV, 80_000)
    if not space.discrete:
        drawn = drawn[((drawn >= 0) & (drawn <= 1)).all(axis=1)]
    found = integral(space, lambda s, p: density.gaussian(s, p, MEAN, COV))
    np.testing.assert_allclose(found, shares(space, drawn), atol=0.01)


def test_a_gaussian_over_three_choices_and_over_one():
    for d in (1, 3):
        space = Space(**{f"x{i}": Discrete(3) for i in range(d)})
        found = density.gaussian(space, space.points(), np.full(d, 0.4), 0.04 * np.eye(d) + 0.02)
        assert found.shape == (3**d,) and found.mean() == pytest.approx(1, abs=0.001)
