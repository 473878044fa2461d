"""Widgets in a column, whose figures are complete whenever the browser comes to draw them.

plotly's FigureWidget sends the browser what it holds when it is made, and every change after that; the page takes a
second to load plotly's code, and what changes before that is lost. A figure which is a cell's last expression sends
itself once more for that reason; one inside a box does not, and stays blank on a busy computer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kit.runtime import optional

go, ipywidgets = optional("plotly.graph_objects"), optional("ipywidgets")


def column(widgets: Iterable[Any], **options: Any) -> Any:
    """ipywidgets' VBox of widgets, or of boxes of widgets, with every FigureWidget in it as it is now."""
    box = ipywidgets.VBox(list(widgets), **options)
    send_again(box)
    return box


def send_again(widget: Any) -> None:
    """Give a page that has not drawn the figures in `widget` yet the whole of each."""
    if isinstance(widget, go.FigureWidget):
        widget._repr_mimebundle_()  # what plotly does when it shows a figure
    for child in getattr(widget, "children", ()):
        send_again(child)
