"""Figures reach a browser that comes late, whole."""

import ipywidgets
import numpy as np
import plotly.graph_objects as go
import pytest

from kit import live
from kit.live import Curves


@pytest.fixture
def announced(monkeypatch):
    """The states with which widgets are announced, in order."""
    found = []
    import comm

    make = comm.create_comm
    monkeypatch.setattr(
        comm, "create_comm", lambda **options: found.append(options["data"]["state"]) or make(**options)
    )
    return found


def test_a_figure_is_announced_when_it_is_shown_with_all_that_changed_before(announced):
    figure = live.Figure([go.Scatter()])
    figure.data[0].y = [1, 2, 3]
    figure.update_layout(title="three")
    figure.add_scatter(y=np.arange(4.0))
    assert isinstance(figure, go.FigureWidget) and not announced
    box = ipywidgets.VBox([ipywidgets.HBox([figure]), ipywidgets.IntSlider()])
    state = next(s for s in announced if "_widget_data" in s)
    assert list(state["_widget_data"][0]["y"]) == [1, 2, 3] and len(state["_widget_data"]) == 2
    assert state["_widget_layout"]["title"]["text"] == "three"
    assert f"IPY_MODEL_{figure.model_id}" in box.children[0].get_state()["children"]
    assert sum("_widget_data" in s for s in announced) == 1


def test_a_cells_last_expression_announces_it(announced):
    figure = live.Figure(go.Figure([go.Scatter(y=[4, 5])]))
    bundle = figure._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == figure.model_id
    assert list(announced[-1]["_widget_data"][0]["y"]) == [4, 5]


def test_later_changes_are_sent(monkeypatch):
    figure = live.Figure([go.Scatter(y=[1])])
    assert figure.model_id
    sent = []
    monkeypatch.setattr(figure, "_send", lambda msg, buffers=None: sent.append(msg))
    figure.data[0].y = [7]
    assert any(message["state"].get("_py2js_restyle") for message in sent)


def test_curves_are_complete_when_shown(announced):
    curves = Curves("return", y="return [1]")
    for k in range(10):
        curves.push({"steps": k, "return": k / 2})
    curves.flush()
    ipywidgets.VBox([curves.widget])
    state = next(s for s in announced if "_widget_data" in s)
    assert list(state["_widget_data"][0]["y"])[-1] == 4.5
