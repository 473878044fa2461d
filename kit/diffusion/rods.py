"""Rods on their way between the pillars of `kit/Avoid-v0`, seen from above, while their policy can be changed.

    rods = Rods(9, kit.load("beso_avoid"))
    rods.start()                                 # until rods.stop(); rods.change(exit=2, guidance=0.0) at any time

Every rod that leaves or touches a pillar starts anew, and its row of the policy's state with it. Look at `Rods.step`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kit.diffusion.beso import Agent
from kit.envs import avoid, batched
from kit.live.figure import Figure, Shown
from kit.live.stepped import Stepped
from kit.live.style import Throttle
from kit.runtime import optional
from kit.types import Metrics

go = optional("plotly.graph_objects")

COLOURS = ("#0072B2", "#D55E00", "#009E73")  # of the exits
DASHES = ("solid", "dash", "dot")
DRAWS_PER_S = 12


def empty(title: str = "", height: int = 540) -> Figure:
    """The world from above, without rods: pillars, the start and the three exits."""
    figure = Figure()
    places = [(x, y, r) for xs, y, r in zip(avoid.ROWS, avoid.ROW_Y, avoid.PILLAR, strict=True) for x in xs]
    for x, y, r in places:
        figure.add_shape(type="circle", x0=x - r, x1=x + r, y0=y - r, y1=y + r, fillcolor="#666a70", line_width=0)
    edges = (avoid.LOW[0], *avoid.EXITS, avoid.HIGH[0])
    for k in range(3):
        at = {"x0": edges[k], "x1": edges[k + 1], "y0": avoid.DONE_Y, "y1": avoid.HIGH[1]}
        figure.add_shape(type="rect", fillcolor=COLOURS[k], opacity=0.25, line_width=0, **at)
        middle = (edges[k] + edges[k + 1]) / 2
        figure.add_annotation(x=middle, y=(avoid.DONE_Y + avoid.HIGH[1]) / 2, text=f"exit {k}", showarrow=False)
    start = {"x": [avoid.START[0]], "y": [avoid.START[1]], "text": ["start"], "textposition": "bottom center"}
    figure.add_scatter(mode="markers+text", marker={"symbol": "x", "color": "#333333"}, showlegend=False, **start)
    figure.update_layout(template="plotly_white", height=height, width=int(0.8 * height) + 90, title=title)
    figure.update_layout(margin={"t": 70, "b": 95, "l": 60, "r": 10}, legend={"orientation": "h", "y": -0.2})
    figure.update_xaxes(title="x [m]", range=[avoid.LOW[0], avoid.HIGH[0]], zeroline=False)
    figure.update_yaxes(title="y [m]", range=[avoid.LOW[1], avoid.HIGH[1]], zeroline=False, scaleanchor="x")
    return figure


def exit_name(exit: int) -> str:
    return f"exit {exit}" if exit >= 0 else "nothing"


def joined(paths: list[np.ndarray]) -> tuple[list, list]:
    """Several paths (T, 2) as one line with gaps."""
    x = [v for path in paths for v in (*path[:, 0].tolist(), None)]
    return x, [v for path in paths for v in (*path[:, 1].tolist(), None)]


def draw_paths(figure: Figure, paths: list[np.ndarray], exits: np.ndarray, words: str = "asked for") -> None:
    """Replace what `figure`, an `empty` one, shows by paths (T, 2), coloured and dashed by the exit (n,) each was asked
    for, or whatever else `words` say; -1, nothing, is grey."""
    figure.data = figure.data[:1]
    for k in sorted(set(np.asarray(exits).tolist())):
        x, y = joined([path for path, e in zip(paths, exits, strict=True) if e == k])
        line = {"color": COLOURS[k], "dash": DASHES[k]} if k >= 0 else {"color": "#888888"}
        name = f"{words} {exit_name(k)}"
        figure.add_scatter(x=x, y=y, mode="lines", line={**line, "width": 1.5}, name=name, hoverinfo="skip")


class Rods(Stepped, Shown):
    """`n` rods, all asked for one `exit`, or for nothing (-1), stepped `fps` times a second.

    Pass it to `live.run(generator, rods)` to watch a policy learn, `await rods.play(20)`, or `rods.start()`. `left` and
    `touched` count the ends of episodes since the last `change`.
    """

    def __init__(self, n: int, agent: Agent | None = None, *, exit: int = 0, title: str = "", fps: float = 20):
        self.env, self.agent, self.exit, self.title, self.fps = batched("kit/Avoid-v0", n), agent, exit, title, fps
        self.sampling: dict[str, Any] = {}
        self._widget, self._throttle = empty(title), Throttle(DRAWS_PER_S)
        self._widget.add_scatter(mode="lines", line={"width": 1.5}, hoverinfo="skip", showlegend=False)
        self._widget.add_scatter(mode="markers", marker={"size": 9}, hoverinfo="skip", showlegend=False)
        self._obs, _ = self.env.reset(seed=0)
        self._state, self._starts = None, np.ones(n, bool)
        self._trails: list[list[np.ndarray]] = [[row[2:]] for row in self._obs]
        self.change()

    def change(self, *, exit: int | None = None, **sampling: Any) -> None:
        """Another exit, or other `beso.Sampling`, from the next step on; the rods go on from where they are.

        Raises:
            ValueError: see `Agent.using`; nothing has changed.
        """
        if self.agent is not None:
            self.agent.using(**self.sampling | sampling)
        self.exit, self.sampling = self.exit if exit is None else exit, self.sampling | sampling
        self.left, self.touched = np.zeros(3, int), 0
        self.draw(force=True)

    def step(self) -> None:
        """One step of all rods."""
        if self.agent is None:
            return
        word = np.eye(3, dtype=np.float32)[self.exit] if self.exit >= 0 else None
        policy = self.agent.ask(word).using(**self.sampling)
        actions, self._state = policy.predict(self._obs, self._state, self._starts)
        self._obs, _, terminated, truncated, info = self.env.step(actions)
        self._starts = terminated | truncated
        for i, row in enumerate(self._obs):
            self._trails[i] = [row[2:]] if self._starts[i] else [*self._trails[i], row[2:]]
        if self._starts.any():
            self._count(info["final_obs"][terminated], info["final_info"]["success"][terminated])
        self.draw()

    def _count(self, last: np.ndarray, success: np.ndarray) -> None:
        self.left += np.bincount(np.searchsorted(avoid.EXITS, last[success, 2], side="right"), minlength=3)
        self.touched += int((~success).sum())

    def draw(self, *, force: bool = False) -> None:
        """Bring the picture up to date, at most 12 times a second unless `force`."""
        if not (self._throttle.ready() or force):
            return
        colour = COLOURS[self.exit] if self.exit >= 0 else "#777777"
        ends = f"left by {'/'.join(map(str, self.left))}, touched {self.touched}"
        with self._widget.batch_update():
            trail, rods = self._widget.data[1:]
            trail.x, trail.y = joined([np.array(t) for t in self._trails])
            rods.x, rods.y = self._obs[:, 2].tolist(), self._obs[:, 3].tolist()
            trail.line.color = rods.marker.color = colour
            self._widget.layout.title.text = f"{self.title}<br><sub>asked for {exit_name(self.exit)}: {ends}</sub>"

    def push(self, metrics: Metrics) -> None:
        """What `live.run` calls: take the agent, and catch up with the clock by a few steps."""
        self.agent = metrics.agent
        self.catch_up()
