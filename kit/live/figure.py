"""A plotly figure that reaches the browser whole, and what a page needs to know of any picture.

plotly's own FigureWidget announces itself while it is still empty, and sends what it holds, and every later change, in
messages of their own. Where the browser is busy, and plotly's code takes seconds to load there, it may draw the empty
figure and miss the rest. This one announces itself when it is first shown, or put into a box, with all that it holds.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from kit.runtime import optional

go = optional("plotly.graph_objects")


class Figure(go.FigureWidget):
    """plotly's FigureWidget, in all but when it is announced."""

    def open(self) -> None:
        """ipywidgets calls this at the start of the figure's life; it waits until `model_id` is asked for."""

    @property
    def model_id(self) -> str:
        if self.comm is None:
            self._widget_layout, self._widget_data = deepcopy(self._layout_obj._props), deepcopy(self._data)
            super().open()
        return self.comm.comm_id

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> dict:
        assert self.model_id  # announced by now
        return super()._repr_mimebundle_(*args, **kwargs)


class Shown:
    """What `live.run` and a page need to know of a picture; `widget` is the picture."""

    shown = False  # whether the page has it

    @property
    def widget(self) -> Any:
        self.shown = True
        return self._widget

    def _repr_mimebundle_(self, **kwargs: Any) -> dict:
        bundle = self.widget._repr_mimebundle_(**kwargs)
        bundle = dict(bundle[0] if isinstance(bundle, tuple) else bundle or {})
        return bundle | {"text/plain": f"<{type(self).__name__}; run this cell in Jupyter to see it>"}
