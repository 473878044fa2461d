"""Curricula to look at in a notebook: where a teacher plays, and grids that can be clicked.

    density = DensityMap(teacher)                          # `live.run(training, density)` keeps it up to date
    grid = PaintGrid(10, {"a wall": mask})                 # a click forbids a cell; grid.allowed (10, 10)

Cells and points have the first coordinate to the right and the second upward. `kit.curricula.race` shows teachers side
by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kit.curricula.teacher import Teacher
from kit.curricula.worlds.cube import lower_neighbours
from kit.live.figure import Figure, Shown
from kit.live.style import Throttle
from kit.runtime import optional

go = optional("plotly.graph_objects")
ipywidgets = optional("ipywidgets")

DRAWS_PER_S = 4  # a figure resends its data at each draw
BLUES = ((0.0, "#f4f7fb"), (1.0, "#0072B2"))
CANNOT, OUT_OF_REACH = "#4a4a4a", "#b9b9b9"
Cell = tuple[int, int]


def reachable(allowed: np.ndarray) -> np.ndarray:
    """Which cubes of a CubeWorld a student can come to learn, where only those in `allowed` can be learnt at all.

    A cube opens from a lower neighbour, so a wall may cut off what lies behind it. Both are bool, of one shape.
    """
    found = np.zeros_like(allowed)
    for cube in np.ndindex(allowed.shape):  # lower neighbours come first
        found[cube] = allowed[cube] and (not any(cube) or any(found[lower] for lower in lower_neighbours(cube)))
    return found


class DensityMap(Shown):
    """Heat map of `teacher.density` over two coordinates of its space, in their units; the others are in the middle.

    `labels` are the titles of the two axes, `figure` is the plotly figure. `push(metrics)` redraws it at most
    four times a second, `draw` at once.
    """

    def __init__(
        self,
        teacher: Teacher,
        *,
        axes: tuple[int, int] = (0, 1),
        labels: tuple[str, str] = ("first coordinate", "second coordinate"),
        title: str = "Where the teacher plays",
        size: int = 30,
        height: int = 380,
    ):
        self.teacher, self.size, self._throttle = teacher, size, Throttle(DRAWS_PER_S)
        middle = (np.arange(size) + 0.5) / size
        self.grid = np.full((size * size, teacher.space.size), 0.5)
        self.grid[:, axes] = np.stack(np.meshgrid(middle, middle, indexing="ij"), axis=-1).reshape(-1, 2)
        low, high = teacher.space.low, teacher.space.high
        x, y = (low[a] + middle * (high[a] - low[a]) for a in axes)
        bar = {"title": {"text": "density<br>(uniform: 1)"}, "thickness": 14}
        heat = go.Heatmap(x=x, y=y, colorscale=BLUES, zmin=0, colorbar=bar, hovertemplate="%{z:.2f}<extra></extra>")
        self.figure = self._widget = Figure(heat)
        self.figure.update_layout(
            template="plotly_white",
            height=height,
            width=height + 130,
            margin={"l": 60, "r": 10, "t": 45, "b": 50},
            title={"text": title, "font": {"size": 15}},
            xaxis={"title": labels[0]},
            yaxis={"title": labels[1]},
            showlegend=False,
        )
        self.draw()

    def push(self, metrics: Any = None) -> None:
        if self._throttle.ready():
            self.draw()

    def flush(self) -> None:
        """What `live.run` calls at its end."""
        self.draw()

    def draw(self) -> None:
        density = self.teacher.density(self.grid).reshape(self.size, self.size).T
        with self.figure.batch_update():
            self.figure.data[0].z = density
            self.figure.data[0].zmax = max(float(density.max()), 2.0)


# ---- grids that can be clicked -------------------------------------------------------------------------------------


class ClickGrid(Shown):
    """A heat map of values (n, m) in 0..1, with a text (n, m) in each cell, that calls `callback(cell)` for a click."""

    def __init__(
        self,
        shape: tuple[int, int],
        callback: Callable[[Cell], Any] | None = None,
        *,
        title: str = "",
        labels: tuple[str, str] = ("", ""),
        colorscale: Sequence = BLUES,
        height: int = 380,
    ):
        self.shape, self.callback = shape, callback
        heat = go.Heatmap(
            z=np.zeros(shape[::-1]),
            zmin=0,
            zmax=1,
            showscale=False,
            colorscale=colorscale,
            xgap=2,
            ygap=2,
            texttemplate="%{text}",
            hovertemplate="column %{x}, row %{y}<extra></extra>",
        )
        self._widget = Figure(heat)
        self._widget.update_layout(
            template="plotly_white",
            height=height,
            width=height,
            margin={"l": 50, "r": 10, "t": 45, "b": 50},
            title={"text": title, "font": {"size": 15}},
            xaxis={"title": labels[0], "showgrid": False, "dtick": 1, "fixedrange": True},
            yaxis={"title": labels[1], "showgrid": False, "dtick": 1, "fixedrange": True},
        )
        self._widget.data[0].on_click(self._clicked)

    @property
    def title(self) -> str:
        return self._widget.layout.title.text

    @title.setter
    def title(self, text: str) -> None:
        self._widget.layout.title.text = text

    def show(self, values: np.ndarray, text: np.ndarray | None = None) -> None:
        """Values (n, m) in 0..1, and what is written in the cells."""
        with self._widget.batch_update():
            self._widget.data[0].z = np.asarray(values, float).T
            self._widget.data[0].text = np.full(self.shape[::-1], "") if text is None else np.asarray(text).T

    def click(self, cell: Cell) -> None:
        """What a click on a cell does.

        Raises:
            ValueError: there is no such cell.
        """
        if not all(0 <= i < n for i, n in zip(cell, self.shape, strict=True)):
            raise ValueError(f"there is no cell {cell}; the grid has {self.shape[0]} columns and {self.shape[1]} rows")
        if self.callback is not None:
            self.callback(cell)

    def _clicked(self, trace: Any, points: Any, state: Any) -> None:
        for x, y in zip(points.xs, points.ys, strict=True):
            self.click((int(x), int(y)))


class PaintGrid(Shown):
    """A square of cells of which a click forbids one, or allows it again, with a menu of masks to begin from.

    `allowed` (n, n) is bool. `presets` maps a name to a mask. `reach(allowed)` says which of the allowed cells can be
    come to; the others are shown in light grey. `on_change(callback)` is called with `allowed`.
    """

    def __init__(
        self,
        n: int,
        presets: Mapping[str, np.ndarray],
        *,
        reach: Callable[[np.ndarray], np.ndarray] | None = None,
        title: str = "Click a cell to make it impossible",
        labels: tuple[str, str] = ("first coordinate", "second coordinate"),
    ):
        self.presets = {name: np.array(mask, bool).reshape(n, n) for name, mask in presets.items()}
        self._reach, self._callbacks = reach, []
        scale = ((0.0, "#f4f7fb"), (0.5, OUT_OF_REACH), (1.0, CANNOT))
        self.grid = ClickGrid((n, n), self.toggle, title=title, labels=labels, colorscale=scale)
        self.menu = ipywidgets.Dropdown(options=list(self.presets), description="begin from")
        self.menu.observe(lambda change: self.set(self.presets[change["new"]]), "value")
        self._widget = ipywidgets.VBox([self.menu, self.grid.widget])
        self.set(next(iter(self.presets.values())))

    def on_change(self, callback: Callable[[np.ndarray], Any]) -> None:
        self._callbacks.append(callback)

    def toggle(self, cell: Cell) -> None:
        """Forbid a cell, or allow it again."""
        allowed = self.allowed.copy()
        allowed[cell] = not allowed[cell]
        self.set(allowed)

    def set(self, allowed: np.ndarray) -> None:
        """Take a whole mask (n, n)."""
        self.allowed = np.array(allowed, bool).reshape(self.grid.shape)
        cut_off = self.allowed & ~self.reachable
        self.grid.show(
            np.where(self.allowed, 0.5 * cut_off, 1.0), np.where(self.allowed, np.where(cut_off, "·", ""), "✕")
        )
        for callback in self._callbacks:
            callback(self.allowed)

    @property
    def reachable(self) -> np.ndarray:
        """The allowed cells (n, n) that can be come to."""
        return self.allowed if self._reach is None else self._reach(self.allowed)
