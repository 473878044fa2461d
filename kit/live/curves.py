"""Live learning curves: one trace a name, extended in place."""

from __future__ import annotations

import math
from collections.abc import Mapping

from kit.live.figure import Figure
from kit.live.style import DASHES, PALETTE, Throttle
from kit.runtime import optional

go = optional("plotly.graph_objects")

DRAWS_PER_S = 5  # a figure resends its data at each draw
MAX_POINTS = 1_000  # a trace; beyond, it is thinned for the eye. `x` and `y` keep everything


class Curves:
    """Curves named after metrics: `Curves("return", "success", title="PPO", y="return [1]")`.

    `x` names the metric of the horizontal axis, or, where that is missing, the number of the push; both axis titles
    should carry their units. The data is in `xs[name]` and `ys[name]`, lists of floats. At most 5 draws a second.

    Raises:
        ValueError: no name was given, or one twice.
    """

    def __init__(self, *names: str, title: str = "", x: str = "steps", y: str = "value", height: int = 300):
        if not names or len(set(names)) != len(names):
            raise ValueError(f"Curves needs different names of metrics, at least one, not {names}")
        self.x = x
        self.xs: dict[str, list[float]] = {name: [] for name in names}
        self.ys: dict[str, list[float]] = {name: [] for name in names}
        self.shown = False
        self.pushes = 0
        self._throttle = Throttle(DRAWS_PER_S)
        traces = [go.Scatter(name=name, mode="lines", line=_line(k)) for k, name in enumerate(names)]
        self._figure = Figure(traces, _layout(title, x, y, height))

    def push(self, metrics: Mapping[str, float]) -> None:
        """Append a point to each curve that `metrics` has a finite value for."""
        self.pushes += 1
        x = float(metrics.get(self.x, self.pushes))
        for name in self.ys:
            value = metrics.get(name)
            if value is not None and math.isfinite(value):
                self.xs[name].append(x)
                self.ys[name].append(float(value))
        if self._throttle.ready():
            self.flush()

    def flush(self) -> None:
        """Draw what was pushed; `live.run` does it at the end."""
        with self._figure.batch_update():
            for trace in self._figure.data:
                trace.x, trace.y = _thin(self.xs[trace.name]), _thin(self.ys[trace.name])

    @property
    def widget(self) -> Figure:
        """The figure, to lay out with other widgets."""
        self.shown = True
        return self._figure

    def _repr_mimebundle_(self, **kwargs) -> dict:
        bundle = self.widget._repr_mimebundle_(**kwargs)
        bundle = dict(bundle[0] if isinstance(bundle, tuple) else bundle or {})
        return bundle | {"text/plain": repr(self)}

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.4g}" if values else f"{name} –" for name, values in self.ys.items())
        return f"<Curves: {last}>"


def _line(k: int) -> dict:
    return {"color": f"#{PALETTE[k % len(PALETTE)]:06x}", "dash": DASHES[k % len(DASHES)], "width": 2}


def _layout(title: str, x: str, y: str, height: int) -> dict:
    axis = {"showgrid": True, "gridcolor": "#e3e6ea", "zeroline": False}
    return {
        "title": {"text": title, "font": {"size": 15}},
        "height": height,
        "margin": {"l": 60, "r": 20, "t": 40 if title else 20, "b": 45},
        "template": "plotly_white",
        "xaxis": axis | {"title": {"text": x}},
        "yaxis": axis | {"title": {"text": y}},
        "showlegend": True,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    }


def _thin(values: list[float]) -> list[float]:
    """At most about MAX_POINTS of `values`, evenly taken, the last one included."""
    stride = len(values) // MAX_POINTS + 1
    return values[::-1][::stride][::-1]
