"""A cloud of points on its way, played by the reader's browser: every point draws a trail that fades behind it.

    cloud = Particles(spots=[(1, 0, 0.24)])
    cloud.show(frames, labels=["sigma 80", ...])            # frames (T, n, 2); a film of its own from then on

The frames go to the browser once and are played there, so they move while the kernel is busy. Look at `Particles.show`
first, then at `draw` in `particles.js`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kit.live.figure import Shown
from kit.live.style import Color, packed
from kit.runtime import optional

anywidget = optional("anywidget")
from traitlets import Bool, Bytes, Float, Int, List, Unicode  # noqa: E402  (it comes with anywidget)

MAX_NUMBERS = 1_000_000  # of a film, 4 MB on their way to the browser
COLOURS = (0x0072B2, 0xD55E00, 0x56B4E9, 0xE69F00, 0x009E73, 0xCC79A7, 0x332288, 0x999933)  # light and dark by turns


class Cloud(anywidget.AnyWidget):
    """The browser's half: `frames` and `guesses` are (T, count, 2) float32 as bytes, `groups` (count,) uint8.

    As `kit.live.Figure`, it announces itself when it is first shown, with all that it holds: what is sent while a page
    still loads the script may be lost.
    """

    _esm = Path(__file__).with_name("particles.js")
    _css = Path(__file__).with_name("particles.css")
    frames = Bytes(b"").tag(sync=True)
    guesses = Bytes(b"").tag(sync=True)
    groups = Bytes(b"").tag(sync=True)
    count = Int(0).tag(sync=True)
    labels = List(Unicode()).tag(sync=True)
    palette = List(Unicode()).tag(sync=True)
    spots = List(List(Float())).tag(sync=True)
    names = List(Unicode()).tag(sync=True)
    title = Unicode().tag(sync=True)
    reach = Float(2.0).tag(sync=True)
    size = Int(380).tag(sync=True)
    seconds = Float(4.0).tag(sync=True)
    loop = Bool(True).tag(sync=True)

    def open(self) -> None:
        """ipywidgets calls this at the start of the widget's life; it waits until `model_id` is asked for."""

    @property
    def model_id(self) -> str:
        if self.comm is None:
            super().open()
        return self.comm.comm_id

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> Any:
        assert self.model_id  # announced by now
        return super()._repr_mimebundle_(*args, **kwargs)


class Particles(Shown):
    """A square picture, `size` [px] wide, of what lies within `reach` of the origin; a film takes `seconds`.

    `spots` are circles (x, y, radius) drawn below the points, `names` those of the two axes. `frames` (T, n, 2) are the
    points that were shown last.

    Raises:
        ValueError: reach, size or seconds is not above 0, or a spot is not three numbers.
    """

    def __init__(
        self,
        *,
        title: str = "",
        spots: Sequence[Sequence[float]] = (),
        names: tuple[str, str] = ("x1 [1]", "x2 [1]"),
        colours: Sequence[Color] = COLOURS,
        reach: float = 2.0,
        size: int = 380,
        seconds: float = 4.0,
        loop: bool = True,
    ):
        if not min(reach, size, seconds) > 0:
            raise ValueError(f"reach {reach}, size {size} and seconds {seconds} must be above 0")
        spots = [[float(number) for number in spot] for spot in spots]
        if any(len(spot) != 3 for spot in spots):
            raise ValueError("a spot is three numbers, x, y and its radius")
        self.frames = np.zeros((1, 0, 2), np.float32)
        palette = [f"#{packed(colour):06x}" for colour in colours]
        look = {"spots": spots, "names": list(names), "palette": palette, "reach": float(reach), "size": size}
        self._widget = Cloud(title=title, seconds=float(seconds), loop=loop, **look)

    def show(
        self,
        frames: np.ndarray,
        *,
        labels: Sequence[str] = (),
        groups: np.ndarray | None = None,
        guesses: np.ndarray | None = None,
        title: str | None = None,
    ) -> None:
        """Play a film from its beginning: `frames` (T, n, 2), evenly spaced in time, with a label each.

        `groups` (n,) are whole numbers that choose colours; `guesses`, like frames, are drawn as small crosses.

        Raises:
            ValueError: shapes that do not fit, numbers that are not finite, or too many of them.
        """
        frames = _checked(frames, "frames")
        T, n = frames.shape[:2]
        guesses = np.zeros(0, np.float32) if guesses is None else _checked(guesses, "guesses", frames.shape)
        groups = np.zeros(n, int) if groups is None else np.asarray(groups)
        if groups.shape != (n,) or len(labels) not in (0, T):
            raise ValueError(f"{len(labels)} labels and groups {groups.shape} do not fit {T} frames of {n} points")
        self.frames = frames
        with self._widget.hold_sync():
            self._widget.count, self._widget.labels = n, [str(label) for label in labels]
            self._widget.groups = (groups % len(self._widget.palette)).astype(np.uint8).tobytes()
            self._widget.title = self._widget.title if title is None else title
            self._widget.guesses, self._widget.frames = guesses.tobytes(), frames.tobytes()


def _checked(frames: np.ndarray, what: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    frames = np.ascontiguousarray(frames, np.float32)
    if frames.ndim != 3 or frames.shape[2] != 2 or not len(frames) or (shape and frames.shape != shape):
        raise ValueError(f"{what} have shape {frames.shape}; must be {shape or '(T, n, 2)'}")
    if frames.size > MAX_NUMBERS:
        raise ValueError(f"{what} have {frames.size} numbers, above {MAX_NUMBERS}: show fewer points or fewer steps")
    if not np.isfinite(frames).all():
        raise ValueError(f"{what} are not finite; cut the film where it breaks")
    return frames
