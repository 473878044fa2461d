"""A fan of skills that opens while they are learned: the path of an episode of each, drawn from above.

    fan = SkillFan(circle(16), BatchEnv(PointDisc(16)))
    agent = await live.run(trainer.train(env, cfg, seed=0), fan)

Each path ends in its skill's number. Look at `SkillFan.push`.
"""

from __future__ import annotations

import numpy as np

from kit.envs.env import BatchEnv
from kit.envs.point_disc import STEP
from kit.live.figure import Figure
from kit.live.style import PALETTE, Throttle
from kit.runtime import optional
from kit.skills.trainer import trails
from kit.types import Metrics

go = optional("plotly.graph_objects")

DRAWS_PER_S = 2  # an episode of each skill is played for every draw


class SkillFan:
    """A figure with `push(metrics)`, for `live.run`. `paths` (max_steps + 1, n, 2) are those drawn last.

    `skills` (n, dim) go with `env`, an environment of n simulations whose first two numbers are the position. A dotted
    circle marks how far an episode can lead.

    Raises:
        ValueError: the numbers of skills and simulations differ.
    """

    def __init__(self, skills: np.ndarray, env: BatchEnv, *, title: str = "", height: int = 460):
        if len(skills) != env.unwrapped.num_envs:
            raise ValueError(f"{len(skills)} skills for {env.unwrapped.num_envs} simulations; give one each")
        self.skills, self.env, self.shown = skills, env.unwrapped, False
        self.title, self.reach = title, STEP * self.env.task.max_steps
        self.paths = np.zeros((1, len(skills), 2))
        self._throttle = Throttle(DRAWS_PER_S)
        self._agent = None
        self._figure = Figure(self._empty(height))

    def _empty(self, height: int) -> go.Figure:
        angle = np.linspace(0, 2 * np.pi, 90)
        edge = {"color": "#888888", "dash": "dot", "width": 1}
        figure = go.Figure(go.Scatter(x=self.reach * np.cos(angle), y=self.reach * np.sin(angle), line=edge))
        for k in range(len(self.skills)):
            colour = f"#{PALETTE[k % len(PALETTE)]:06x}"
            figure.add_scatter(mode="lines+text", line={"color": colour, "width": 2}, textposition="top center")
        axis = {"range": [-1.15 * self.reach, 1.15 * self.reach], "zeroline": False}
        figure.update_layout(template="plotly_white", height=height, width=height + 40, showlegend=False)
        figure.update_layout(title={"text": self.title, "font": {"size": 15}}, margin={"t": 45, "b": 45, "l": 55})
        figure.update_xaxes(title="x [1]", **axis)
        return figure.update_yaxes(title="y [1]", scaleanchor="x", **axis)

    def push(self, metrics: Metrics) -> None:
        """Play and draw what the agent does now, at most twice a second."""
        self._agent = metrics.agent
        if self._throttle.ready():
            self.draw(self._agent)

    def flush(self) -> None:
        """Draw the last agent; `live.run` does it at the end."""
        if self._agent is not None:
            self.draw(self._agent)

    def draw(self, agent) -> None:
        """Play an episode of each skill without noise, and draw it."""
        self.show(trails(agent, self.env, self.skills)[..., :2])

    def show(self, paths: np.ndarray) -> None:
        """Draw paths (steps, n, 2)."""
        self.paths = paths
        share = np.linalg.norm(paths[-1] - paths[0], axis=1).mean() / self.reach
        with self._figure.batch_update():
            for k, trace in enumerate(self._figure.data[1:]):
                trace.x, trace.y = paths[:, k, 0].tolist(), paths[:, k, 1].tolist()
                trace.text = [""] * (len(paths) - 1) + [str(k)]
            self._figure.layout.title.text = f"{self.title}: {100 * share:.0f} % of the way out"

    @property
    def widget(self) -> Figure:
        """The figure, to lay out with other widgets."""
        self.shown = True
        return self._figure

    def _repr_mimebundle_(self, **kwargs):
        return self.widget._repr_mimebundle_(**kwargs)
