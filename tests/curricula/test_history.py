"""The memory of tasks and returns against a list."""

import numpy as np
import pytest

from kit.curricula.history import History


@pytest.mark.parametrize("limit", [None, 7, 100])
def test_it_holds_what_a_list_holds(limit):
    rng, history, told = np.random.default_rng(0), History(3, limit), []
    for i in range(500):
        told.append((rng.random(3), float(i)))
        history.add(*told[-1])
        kept = told if limit is None else told[-limit:]
        assert len(history) == len(kept)
        np.testing.assert_array_equal(history.points, [point for point, _ in kept])
        np.testing.assert_array_equal(history.returns, [ret for _, ret in kept])


def test_forget_drops_the_oldest_and_of_gives_a_copy_back():
    history = History(2, 5)
    for i in range(8):
        history.add(np.full(2, i), i)
    history.forget(2)
    assert history.returns.tolist() == [5, 6, 7]
    again = History.of(**history.memory(), size=2, limit=5)
    for h in (history, again):
        h.add(np.zeros(2), 8.0)
    np.testing.assert_array_equal(again.points, history.points)
    assert again.returns.tolist() == history.returns.tolist() == [5, 6, 7, 8]


def test_an_empty_one_has_its_width():
    assert History(3).points.shape == (0, 3) and History.of(**History(3).memory(), size=3).points.shape == (0, 3)
