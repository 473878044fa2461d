"""Figures in a box reach a browser that comes late."""

import ipywidgets
import plotly.graph_objects as go

from kit import live
from kit.live import Curves


def test_what_changed_after_a_figure_was_made_is_in_its_state():
    figure = go.FigureWidget([go.Scatter()])
    figure.data[0].y = [1, 2, 3]
    figure.update_layout(title="three")
    assert "y" not in figure.get_state()["_widget_data"][0]  # a browser that asks now gets an empty figure
    box = live.column([ipywidgets.HBox([figure]), ipywidgets.IntSlider()], layout={"width": "50%"})
    state = figure.get_state()
    assert list(state["_widget_data"][0]["y"]) == [1, 2, 3] and state["_widget_layout"]["title"]["text"] == "three"
    assert len(box.children) == 2 and box.layout.width == "50%"


def test_curves_are_complete_after_a_flush():
    curves = Curves("return", y="return [1]")
    for k in range(10):
        curves.push({"steps": k, "return": k / 2})
    curves.flush()
    assert list(curves.widget.get_state()["_widget_data"][0]["y"])[-1] == 4.5
