"""Recorded claims as one picture: each effect with its interval, beside the margin that it has to clear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kit.claims.core import Result
from kit.claims.runner import WORDS, show
from kit.live.figure import Figure
from kit.runtime import optional

go = optional("plotly.graph_objects")

LOOKS = {True: ("#0072B2", "circle"), False: ("#D55E00", "square"), None: ("#777777", "diamond")}


def forest(results: Sequence[Result], title: str = "") -> Any:
    """A `kit.live.Figure` with a row a claim.

    Claims measure different things, so each row is scaled by its own largest number; hovering shows the real ones.
    """
    figure = Figure()
    for verdict, (colour, symbol) in LOOKS.items():
        rows = [r for r in results if r["holds"] is verdict]
        if rows:
            figure.add_trace(_effects(rows, WORDS[verdict], colour, symbol))
            figure.add_trace(_margins(rows))
    figure.update_layout(
        template="plotly_white",
        height=160 + 26 * max(len(results), 3),
        margin={"l": 220, "t": 50, "b": 75},
        title=title,
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        xaxis={"title": "effect, scaled row by row [1]", "zeroline": True, "zerolinecolor": "#bbbbbb"},
        yaxis={
            "categoryorder": "array",
            "categoryarray": [r["id"] for r in reversed(results)],
            "range": [-0.6, max(len(results), 1) - 0.4],  # by itself plotly leaves a twentieth free at both ends
        },
    )
    return figure


def _scale(result: Result) -> float:
    effect = result["effect"]
    return max(abs(effect["low"]), abs(effect["high"]), abs(result["margin"]), 1e-12)


def _effects(rows: Sequence[Result], word: str, colour: str, symbol: str) -> Any:
    return go.Scatter(
        x=[r["effect"]["mean"] / _scale(r) for r in rows],
        y=[r["id"] for r in rows],
        mode="markers",
        name=word,
        marker={"color": colour, "symbol": symbol, "size": 10},
        error_x={
            "type": "data",
            "array": [(r["effect"]["high"] - r["effect"]["mean"]) / _scale(r) for r in rows],
            "arrayminus": [(r["effect"]["mean"] - r["effect"]["low"]) / _scale(r) for r in rows],
        },
        hovertext=[show(r).replace("\n", "<br>") for r in rows],
        hoverinfo="text",
    )


def _margins(rows: Sequence[Result]) -> Any:
    return go.Scatter(
        x=[r["margin"] / _scale(r) for r in rows],
        y=[r["id"] for r in rows],
        mode="markers",
        marker={"color": "#000000", "symbol": "x-thin-open", "size": 11},
        showlegend=False,
        hoverinfo="skip",
    )
