"""Teachers side by side on CubeWorld, each with a student of its own, as a live picture.

race = Race(["random", "alp_gmm"])
race.begin({"random": (teacher, world), "alp_gmm": (another_teacher, another_world)})
await live.run(race.run(20_000), race)            # or race.start(20_000), which goes on in the background
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from kit.curricula.loop import World, run
from kit.curricula.space import Task
from kit.curricula.teacher import Feedback, Teacher
from kit.curricula.view import CANNOT, DRAWS_PER_S
from kit.curricula.worlds.cube import FULL, CubeWorld
from kit.live.figure import Figure, Shown
from kit.live.style import DASHES, PALETTE, Throttle
from kit.runtime import fast, optional
from kit.types import Metrics

go = optional("plotly.graph_objects")
subplots = optional("plotly.subplots")
ipywidgets = optional("ipywidgets")

RECENT = 150  # tasks shown as dots
CHUNK = 50  # episodes of each teacher in turn
FAST_EPISODES = 200  # of `start` in fast mode
BLOCKED = -10  # what a cube that cannot be learnt is drawn as, beside a competence of 0..100
SHADES = ((0.0, CANNOT), (0.0908, CANNOT), (0.0909, "#f4f7fb"), (1.0, "#0072B2"))

Pairs = Mapping[str, tuple[Teacher, CubeWorld]]


class Watched:
    """A world that remembers the last tasks."""

    def __init__(self, world: World, keep: int = RECENT):
        self.world, self.space = world, world.space
        self.recent: deque[np.ndarray] = deque(maxlen=keep)

    def play(self, tasks: list[Task]) -> list[Feedback]:
        self.recent.extend(task.point for task in tasks)
        return self.world.play(tasks)

    def score(self) -> float:
        return self.world.score()


class Race(Shown):
    """Teachers side by side, each with a two-dimensional CubeWorld of its own.

    Above, a map for each: the student's competence in blue, what cannot be learnt in dark grey, the last 150 tasks as
    dots. Below, the share of cubes mastered. `begin` takes teachers and worlds; then either `live.run(race.run(n),
    race)`, or `race.start(n)`, which goes on in the background.
    """

    def __init__(self, names: Sequence[str], *, title: str = "", height: int = 470):
        if not names:
            raise ValueError("a race needs at least one teacher's name")
        self.names = tuple(names)
        self.pairs: dict[str, tuple[Teacher, CubeWorld]] = {}
        self._worlds: dict[str, Watched] = {}
        self._throttle, self._task = Throttle(DRAWS_PER_S), None
        self._figure = _race_figure(self.names, title, height)
        self._status = ipywidgets.Label("")
        self._widget = self._figure
        self._clear()

    def _clear(self) -> None:
        self.episodes: list[float] = []
        self.mastered: dict[str, list[float]] = {name: [] for name in self.names}

    def begin(self, pairs: Pairs) -> None:
        """New teachers, each with its world; what was there is forgotten.

        Raises:
            ValueError: the names are not those of the race.
        """
        if set(pairs) != set(self.names):
            raise ValueError(f"this race is between {', '.join(self.names)}; given were {', '.join(pairs)}")
        self.stop()
        self.pairs = dict(pairs)
        self._worlds = {name: Watched(world) for name, (_, world) in pairs.items()}
        self._clear()
        self.draw()

    def run(self, episodes: int) -> Iterator[Metrics]:
        """So many episodes of each teacher, 50 at a time in turn. Metrics: `episodes`, `progress`, and by each name the
        share that its student masters; the pairs of teacher and world are the agent."""
        before, worlds = self.episodes[-1] if self.episodes else 0.0, self._worlds
        runs = {name: run(self.pairs[name][0], world, episodes) for name, world in worlds.items()}
        for start in range(0, episodes, CHUNK):
            if self._worlds is not worlds:  # a click on Start began another race
                return
            some = min(CHUNK, episodes - start)
            last = {name: list(islice(steps, some))[-1]["mastered"] for name, steps in runs.items()}
            self.episodes.append(before + start + some)
            for name, share in last.items():
                self.mastered[name].append(share)
            values = {"episodes": self.episodes[-1], "progress": (start + some) / episodes}
            yield Metrics(values | last, agent=self.pairs)

    def push(self, metrics: Any = None) -> None:
        if self._throttle.ready():
            self.draw()

    def flush(self) -> None:
        """What `live.run` calls at its end."""
        self.draw()

    def draw(self) -> None:
        figure = self._figure
        with figure.batch_update():
            for k, name in enumerate(self.names):
                heat, dots, line = figure.data[3 * k : 3 * k + 3]
                world = self.pairs[name][1]
                able = world.learnable[np.ix_(*world.order)]
                heat.z = np.where(able, world.in_task_order, BLOCKED).T
                recent = np.array(self._worlds[name].recent).reshape(-1, world.space.size)
                dots.x, dots.y = (recent[:, a] * world.cfg.bins - 0.5 for a in (0, 1))
                line.x, line.y = self.episodes, [100 * share for share in self.mastered[name]]
                figure.layout.annotations[k].text = f"{name}: {100 * world.score():.0f} %"

    # ---- in the background -----------------------------------------------------------------------------------------

    def start(self, episodes: int) -> None:
        """Go on in the background for so many episodes, while the cells are idle; a few at once in fast mode."""
        self.stop()
        if fast():
            deque(self.run(min(episodes, FAST_EPISODES)), maxlen=0)
            self.draw()
            return
        self._task = asyncio.get_running_loop().create_task(self._go(episodes))

    def stop(self) -> None:
        """End what `start` began; nothing happens otherwise."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _go(self, episodes: int) -> None:
        try:
            for metrics in self.run(episodes):
                self.push(metrics)
                self._status.value = f"{metrics['episodes']:,.0f} episodes"
                await asyncio.sleep(0.005)  # clicks get their turn
            self.draw()
            self._status.value += ", done"
        except Exception as error:  # nobody awaits this task, so it says itself what went wrong
            self._status.value = f"ended by {error!r}"

    def panel(self, make: Callable[[], Pairs], episodes: int) -> Any:
        """The race below two buttons: Start begins with what `make` gives, Stop ends it."""
        start = ipywidgets.Button(description="Start", icon="play", tooltip="New teachers, new students")
        stop = ipywidgets.Button(description="Stop", icon="stop")

        def begin(_: Any) -> None:
            self.begin(make())
            self.start(episodes)

        start.on_click(begin)
        stop.on_click(lambda _: self.stop())
        if not self.pairs:
            self.begin(make())
        return ipywidgets.VBox([ipywidgets.HBox([start, stop, self._status]), self.widget])


def _race_figure(names: Sequence[str], title: str, height: int) -> Any:
    n = len(names)
    specs = [[{} for _ in names], [{"colspan": n}] + [None] * (n - 1)]
    room = {"row_heights": [0.55, 0.45], "horizontal_spacing": 0.02, "vertical_spacing": 0.16}
    figure = Figure(subplots.make_subplots(2, n, specs=specs, subplot_titles=list(names), **room))
    for k, name in enumerate(names):
        heat = go.Heatmap(colorscale=SHADES, zmin=BLOCKED, zmax=FULL, showscale=False, xgap=1, ygap=1, hoverinfo="z")
        dots = go.Scatter(mode="markers", marker={"size": 3.5, "color": "#D55E00"}, showlegend=False, hoverinfo="skip")
        line = go.Scatter(
            name=name,
            mode="lines",
            line={"color": f"#{PALETTE[k % len(PALETTE)]:06x}", "dash": DASHES[k % len(DASHES)]},
        )
        figure.add_trace(heat, row=1, col=k + 1)
        figure.add_trace(dots, row=1, col=k + 1)
        figure.add_trace(line, row=2, col=1)
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 55, "r": 45, "t": 80 if title else 40, "b": 45},
        title={"text": title, "font": {"size": 15}},
        legend={"orientation": "h", "y": 0.4, "x": 0},
    )
    bare = {"showticklabels": False, "showgrid": False, "zeroline": False, "constrain": "domain"}
    for k in range(n):
        figure.update_xaxes(bare, row=1, col=k + 1)
        figure.update_yaxes(bare, scaleanchor=f"x{k + 1}", row=1, col=k + 1)
    figure.update_annotations(font_size=13)
    figure.update_xaxes(title="episodes", row=2)
    figure.update_yaxes(title="cubes mastered [%]", rangemode="tozero", row=2)
    return figure
