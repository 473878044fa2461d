"""What the particles' picture sends to the browser, and what it refuses."""

import numpy as np
import pytest

from kit.live.particles import Particles

FRAMES = np.arange(12, dtype=float).reshape(3, 2, 2)


def test_a_film_goes_over_as_it_is():
    cloud = Particles(spots=[(1, 0, 0.24)], title="first")
    cloud.show(FRAMES, labels=["a", "b", "c"], groups=np.array([1, 9]), guesses=-FRAMES, title="second")
    sent = cloud.widget
    assert np.array_equal(np.frombuffer(sent.frames, np.float32).reshape(3, 2, 2), FRAMES)
    assert np.array_equal(np.frombuffer(sent.guesses, np.float32).reshape(3, 2, 2), -FRAMES)
    assert list(sent.groups) == [1, 1] and len(sent.palette) == 8  # the ninth colour is the second again
    assert (sent.count, sent.labels, sent.title) == (2, ["a", "b", "c"], "second")
    assert sent.spots == [[1.0, 0.0, 0.24]] and cloud.shown


def test_it_is_announced_when_it_is_shown_with_all_that_it_holds():
    cloud = Particles()
    cloud.show(FRAMES)
    assert cloud.widget.comm is None
    assert cloud.widget.model_id and cloud.widget.comm is not None
    assert cloud.widget.get_state()["count"] == 2


def test_a_film_without_extras_forgets_those_of_the_one_before():
    cloud = Particles(title="kept")
    cloud.show(FRAMES, labels=["a", "b", "c"], guesses=FRAMES)
    cloud.show(FRAMES[:2])
    assert (cloud.widget.guesses, cloud.widget.labels, cloud.widget.title) == (b"", [], "kept")


@pytest.mark.parametrize(
    ("frames", "extras", "message"),
    [
        (FRAMES[0], {}, r"frames have shape \(2, 2\); must be \(T, n, 2\)"),
        (FRAMES[:0], {}, "must be"),
        (np.where(FRAMES == 3, np.nan, FRAMES), {}, "not finite; cut the film"),
        (np.zeros((300, 2000, 2)), {}, "1200000 numbers, above 1000000: show fewer points"),
        (FRAMES, {"labels": ["a"]}, r"1 labels and groups \(2,\) do not fit 3 frames of 2 points"),
        (FRAMES, {"groups": np.zeros(3)}, r"groups \(3,\) do not fit"),
        (FRAMES, {"guesses": FRAMES[:2]}, r"guesses have shape \(2, 2, 2\); must be \(3, 2, 2\)"),
    ],
)
def test_bad_films_change_nothing(frames, extras, message):
    cloud = Particles()
    with pytest.raises(ValueError, match=message):
        cloud.show(frames, **extras)
    assert cloud.widget.frames == b"" and len(cloud.frames[0]) == 0


def test_bad_pictures():
    with pytest.raises(ValueError, match="must be above 0"):
        Particles(reach=0)
    with pytest.raises(ValueError, match="three numbers"):
        Particles(spots=[(1, 0)])
    with pytest.raises(ValueError, match="is not a colour"):
        Particles(colours=["blue"])
