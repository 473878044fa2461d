"""Mazes to look at in a notebook: side by side with a student in each, and one whose walls can be clicked.

    strip = MazeStrip(4)
    strip.show(levels, paths=walk(world.student, levels, seed=0))     # then strip.at(t), or playable(strip)

Rows go down, as in the text of a level. `S` is a green open square, `G` an orange star, the student a vermillion disc.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kit.curricula.view import CANNOT, ClickGrid
from kit.curricula.worlds.mazes import CELLS, PLACE, SIZE, WIDE, Levels, shortest
from kit.curricula.worlds.wall_grid import Game, Student
from kit.live.figure import Figure, Shown
from kit.live.style import Throttle
from kit.runtime import optional

go = optional("plotly.graph_objects")
ipywidgets = optional("ipywidgets")

FRAMES_PER_S = 8
PITCH = SIZE + 3  # columns from one maze to the next: a border on both sides, and a gap
FREE = "#f4f7fb"


def walk(student: Student, levels: Levels, *, seed: int) -> np.ndarray:
    """Cells (T + 1, n) where the student is after each step of an episode; it stays where the episode ends.

    Nothing of the student changes.
    """
    rng, game = np.random.default_rng(seed), Game(levels, student.cfg)
    places = [game.place.copy()]
    while len(game.rows):
        game.move(student.act(game.look(), rng)[0])
        places.append(game.place.copy())
    cell = np.zeros(WIDE * WIDE, int)
    cell[PLACE] = np.arange(CELLS)
    return cell[np.array(places)]


def captions(levels: Levels) -> list[str]:
    """Walls and shortest path of each level, in words."""
    paths = ["no way" if np.isinf(d) else f"path {d:.0f}" for d in shortest(levels)]
    return [f"{walls} walls, {path}" for walls, path in zip(levels.walls.sum(axis=1), paths, strict=True)]


def picture(levels: Levels) -> np.ndarray:
    """Walls 1 and free cells 0 of n mazes side by side with their borders, (9, 10 n - 1); nan between mazes."""
    bordered = np.pad(levels.walls.reshape(-1, SIZE, SIZE), ((0, 0), (1, 1), (1, 1)), constant_values=True)
    spaced = np.pad(bordered.astype(float), ((0, 0), (0, 0), (0, 1)), constant_values=np.nan)
    return np.concatenate(list(spaced), axis=1)[:, :-1]


def where(cells: np.ndarray, maze: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """Column and row in the strip of cells of the mazes with these numbers."""
    row, column = np.divmod(cells, SIZE)
    return maze * PITCH + column, row


class MazeStrip(Shown):
    """n mazes in a row. `show` draws levels, `at(t)` puts the students where they are after t steps of `paths`."""

    def __init__(self, n: int, *, title: str = "", size: int = 136):
        self.n, self.paths = n, np.zeros((1, n), int)
        line = {"mode": "lines", "line": {"color": "#0072B2", "width": 2}, "name": "its way"}
        looks = {
            "start": ("square-open", "#009E73", 13),
            "goal": ("star", "#E69F00", 12),
            "student": ("circle", "#D55E00", 9),
        }
        marks = [
            go.Scatter(mode="markers", name=name, marker={"symbol": symbol, "color": colour, "size": width})
            for name, (symbol, colour, width) in looks.items()
        ]
        heat = go.Heatmap(
            x0=-1, y0=-1, zmin=0, zmax=1, showscale=False, colorscale=((0, FREE), (1, CANNOT)), hoverinfo="skip"
        )
        self._widget = Figure([heat, go.Scatter(line), *marks])
        hidden = {"visible": False, "fixedrange": True}
        self._widget.update_layout(
            template="plotly_white",
            width=size * n + 40,
            height=size + 125,
            margin={"l": 20, "r": 20, "t": 80, "b": 45},
            title={"text": title, "font": {"size": 15}, "y": 0.97, "yanchor": "top"},
            xaxis=hidden | {"range": [-1.6, PITCH * n - 1.4]},
            yaxis=hidden | {"range": [SIZE + 0.6, -1.6], "scaleanchor": "x"},
            legend={"orientation": "h", "y": 0, "yanchor": "top", "x": 0.5, "xanchor": "center"},
        )

    @property
    def title(self) -> str:
        return self._widget.layout.title.text

    @title.setter
    def title(self, text: str) -> None:
        self._widget.layout.title.text = text

    @property
    def steps(self) -> int:
        """After which all students have stopped."""
        return len(self.paths) - 1

    def show(self, levels: Levels, words: Sequence[str] | None = None, paths: np.ndarray | None = None) -> None:
        """Draw n levels with `words` above each (default: walls and path), students at the start of `paths` (T + 1, n).

        Raises:
            ValueError: there are not n levels.
        """
        if len(levels) != self.n:
            raise ValueError(f"{len(levels)} levels for a strip of {self.n}; give {self.n}")
        self.paths = levels.start[None] if paths is None else np.asarray(paths)
        z, each = picture(levels).astype(object), np.arange(self.n)
        z[np.isnan(z.astype(float))] = None
        words, look = captions(levels) if words is None else words, {"showarrow": False, "font": {"size": 11}}
        notes = [
            look | {"x": PITCH * i + SIZE // 2, "y": -1.7, "yanchor": "bottom", "text": text}
            for i, text in enumerate(words)
        ]
        with self._widget.batch_update():
            self._widget.data[0].z = z
            self._widget.layout.annotations = notes
            for trace, cells in zip(self._widget.data[2:4], (levels.start, levels.goal), strict=True):
                trace.x, trace.y = where(cells, each)
            self.at(0)

    def at(self, t: int) -> None:
        """Every student after t steps, or at its end."""
        way, each = self.paths[: min(t, self.steps) + 1], np.arange(self.n)
        x, y = where(way, each)
        gap = np.full((1, self.n), None)
        trails = [np.concatenate([a.astype(object), gap]).T.ravel() for a in (x, y)]  # None lifts the pen
        with self._widget.batch_update():
            self._widget.data[1].x, self._widget.data[1].y = trails
            self._widget.data[4].x, self._widget.data[4].y = x[-1], y[-1]


class LiveMazes(MazeStrip):
    """A strip in which the student walks while it trains: `live.run(training, mazes)` pushes.

    `choose()` gives the next n levels, whenever all students of the last ones have stopped.
    """

    def __init__(self, student: Student, choose: Callable[[], Levels], n: int, *, stride: int = 2, **look: Any):
        super().__init__(n, **look)
        self.student, self.choose, self.stride = student, choose, stride
        self.t, self.rounds, self._throttle = 0, 0, Throttle(FRAMES_PER_S)
        self.next_round()

    def next_round(self) -> None:
        levels = self.choose()
        self.t, self.rounds = 0, self.rounds + 1
        self.show(levels, paths=walk(self.student, levels, seed=self.rounds))

    def push(self, metrics: Any = None) -> None:
        if not self._throttle.ready():
            return
        if self.t >= self.steps:
            self.next_round()
        else:
            self.t += self.stride
            self.at(self.t)

    def flush(self) -> None:
        """What `live.run` calls at its end: new levels, at the end of their walks."""
        self.next_round()
        self.t = self.steps
        self.at(self.t)


def playable(strip: MazeStrip, *, steps: int, interval_ms: int = 150) -> Any:
    """The strip below a play button and a slider of `steps` steps, as a widget."""
    play = ipywidgets.Play(min=0, max=steps, interval=interval_ms, description="play")
    slider = ipywidgets.IntSlider(min=0, max=steps, description="step")
    ipywidgets.jslink((play, "value"), (slider, "value"))
    slider.observe(lambda change: strip.at(change["new"]), "value")
    return ipywidgets.VBox([ipywidgets.HBox([play, slider]), strip.widget])


class MazeEditor(Shown):
    """One level; a click on a cell builds a wall or takes it away. `levels` (n = 1) is what stands.

    `on_change(levels)` is called with it, and returns the title.
    """

    def __init__(self, level: Levels, on_change: Callable[[Levels], str]):
        self._on_change = on_change
        self.grid = ClickGrid((SIZE, SIZE), self.toggle, colorscale=((0, FREE), (1, CANNOT)), height=400)
        self._widget = self.grid.widget
        self._widget.update_layout(xaxis={"visible": False}, yaxis={"visible": False})
        self._widget.update_traces(textfont={"size": 18}, hovertemplate="click<extra></extra>")
        self.set(level)

    def toggle(self, cell: tuple[int, int]) -> None:
        """A click on a cell (column, row from below). Start and goal stay free."""
        column, up = cell
        i = (SIZE - 1 - up) * SIZE + column
        walls = self.levels.walls.copy()
        walls[0, i] = not walls[0, i] and i not in (self.levels.start[0], self.levels.goal[0])
        self.set(Levels(walls, self.levels.start, self.levels.goal))

    def set(self, level: Levels) -> None:
        self.levels = level
        text = np.full(CELLS, "", dtype=object)
        text[level.walls[0]], text[level.start[0]], text[level.goal[0]] = "#", "S", "G"
        values = level.walls[0].astype(float)
        self.grid.show(*(a.reshape(SIZE, SIZE)[::-1].T for a in (values, text)))
        self.grid.title = self._on_change(level)
