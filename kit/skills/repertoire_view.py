"""A repertoire to look at: a map that fills while a search runs, and a click that shows the behaviour of a cell.

page = RepertoireMap(task.ranges, title="Arms")      # `live.run(training, page)` keeps it up to date
page.on_pick(lambda x, y: ...)                       # a click on a filled cell
page.draw(path)                                      # a line through points (T, 2) on top
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kit.live.figure import Figure, Shown
from kit.live.style import Throttle
from kit.runtime import optional
from kit.skills.repertoire import Repertoire

go = optional("plotly.graph_objects")

DRAWS_PER_S = 2  # a draw resends the whole map
BLUES = ((0.0, "#a9cbe0"), (0.5, "#0072B2"), (1.0, "#00263d"))  # for values that are mostly 0


def as_z(grid: np.ndarray) -> list[list[float | None]]:
    """What a plotly heat map wants of values (nx, ny) with NaN for nothing: rows of y, None for nothing."""
    return [[None if np.isnan(v) else round(float(v), 3) for v in row] for row in grid.T]


class RepertoireMap(Shown):
    """A grid over two descriptors, coloured by objective; `floor` where there is nothing, `walls` black.

    `marks` are places to name, name -> (x, y). `colours` is a plotly colour scale.
    """

    def __init__(
        self,
        ranges: tuple[tuple[float, float], tuple[float, float]],
        *,
        title: str = "",
        names: tuple[str, str] = ("x", "y"),
        unit: str = "objective",
        limits: tuple[float | None, float | None] = (None, None),
        walls: np.ndarray | None = None,
        marks: Mapping[str, tuple[float, float]] | None = None,
        colours: Any = "Cividis",
        floor: str = "#e4e7ea",
        size: int = 470,
    ):
        self.ranges, self.title = ranges, title
        self._throttle, self._picked = Throttle(DRAWS_PER_S), lambda x, y: None
        figure = go.Figure(
            [
                self._heat(unit, limits, colours),
                self._walls(walls),
                go.Scatter(mode="lines+markers", line={"color": "#D55E00", "width": 3}, marker={"size": 5}),
                go.Scatter(mode="markers", marker={"color": "#D55E00", "size": 13, "symbol": "circle-open"}),
                self._marks(marks or {}),
            ]
        )
        axis = {"showgrid": False, "zeroline": False, "constrain": "domain"}
        figure.update_layout(
            template="plotly_white",
            plot_bgcolor=floor,
            width=size + 110,
            height=size,
            showlegend=False,
            margin={"l": 60, "r": 20, "t": 60, "b": 50},
            title={"text": title, "font": {"size": 15}},
            xaxis=axis | {"range": list(ranges[0]), "title": names[0]},
            yaxis=axis | {"range": list(ranges[1]), "title": names[1], "scaleanchor": "x"},
        )
        self._widget = figure

    @property
    def widget(self) -> Any:
        """The figure; it becomes a widget when it is first asked for, so that what was drawn before is not lost."""
        if not self.shown:
            self._widget, self.shown = Figure(self._widget), True
            self._widget.data[0].on_click(self._click)
        return self._widget

    def _heat(self, unit: str, limits: tuple[float | None, float | None], colours: Any) -> Any:
        bar = {"title": {"text": unit, "side": "right"}}
        return go.Heatmap(zmin=limits[0], zmax=limits[1], colorscale=colours, colorbar=bar, name="elite")

    def _walls(self, walls: np.ndarray | None) -> Any:
        z = [] if walls is None else as_z(np.where(walls, 1.0, np.nan))
        at = {} if walls is None else self._axes(walls.shape)
        black = ((0, "#333333"), (1, "#333333"))
        return go.Heatmap(z=z, colorscale=black, showscale=False, hoverinfo="skip", **at)

    def _marks(self, marks: Mapping[str, tuple[float, float]]) -> Any:
        x, y = zip(*marks.values(), strict=True) if marks else ((), ())
        look = {"symbol": "star", "size": 13, "color": "#E69F00", "line": {"color": "#000000", "width": 1}}
        return go.Scatter(
            x=x, y=y, mode="markers+text", text=list(marks), textposition="top center", marker=look, hoverinfo="skip"
        )

    def _axes(self, shape: tuple[int, ...]) -> dict[str, float]:
        """Where the first cell's centre lies, and how far it is to the next."""
        (x, x_end), (y, y_end) = self.ranges
        dx, dy = (x_end - x) / shape[0], (y_end - y) / shape[1]
        return {"x0": x + dx / 2, "dx": dx, "y0": y + dy / 2, "dy": dy}

    def show(self, grid: np.ndarray, words: str = "") -> None:
        """Values (nx, ny) on the grid, NaN for nothing; `words` stand behind the title."""
        with self._widget.batch_update():
            self._widget.data[0].update(z=as_z(grid), **self._axes(grid.shape))
            self._widget.layout.title.text = f"{self.title}: {words}" if self.title and words else self.title or words

    def repertoire(self, found: Repertoire) -> None:
        """Show a repertoire."""
        self.show(found.grid(), f"{len(found):,} elites")

    def push(self, metrics: Any) -> None:
        """What `live.run` calls: the repertoire of the metrics' agent, at most twice a second."""
        self._last = metrics
        if self._throttle.ready():
            self.flush()

    def flush(self) -> None:
        found, n = self._last.agent.repertoire(), self._last["evaluations"]
        self.show(found.grid(), f"{len(found):,} elites after {n:,.0f} tries")

    def draw(self, path: np.ndarray, end: np.ndarray | None = None) -> None:
        """A line through points (T, 2), and a ring around `end` (2,), by default the last point."""
        x, y = path[-1] if end is None else end
        with self._widget.batch_update():
            self._widget.data[2].x, self._widget.data[2].y = path.T
            self._widget.data[3].x, self._widget.data[3].y = [x], [y]

    def say(self, words: str) -> None:
        """Put `words` behind the title."""
        self._widget.layout.title.text = f"{self.title}: {words}" if self.title else words

    def on_pick(self, picked: Callable[[float, float], None]) -> None:
        """Call `picked(x, y)` with the centre of a filled cell that is clicked."""
        self._picked = picked

    def _click(self, trace: Any, points: Any, state: Any) -> None:
        if points.xs:
            self._picked(float(points.xs[0]), float(points.ys[0]))
