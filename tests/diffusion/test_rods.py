"""Rods in a picture: what is stepped is what is drawn and counted, and a change takes effect at once."""

import asyncio

import numpy as np
import pytest

from kit.diffusion.rods import Rods, draw_paths, empty
from kit.envs import avoid
from kit.types import Metrics


class Toy:
    """Follows the way of one mode; notes what it was asked for and which rows started anew."""

    def __init__(self, mode=0):
        self.points, self.asked, self.starts, self.settings = avoid.path(mode), [], [], {}

    def ask(self, word):
        self.asked.append(word)
        return self

    def using(self, **sampling):
        if sampling.get("steps") == 0:
            raise ValueError("at least 1 step")
        self.settings = sampling
        return self

    def predict(self, obs, state, starts):
        self.starts.append(starts.copy())
        return np.array([avoid.follow(self.points, row[:2]) for row in obs]), (np.arange(len(obs)),)


def test_rods_are_drawn_where_they_are_and_start_anew_when_they_left():
    agent = Toy(mode=0)
    rods = Rods(3, agent, exit=0, title="toy")
    for _ in range(100):
        rods.step()
    rods.draw(force=True)
    markers = rods.widget.data[2]
    np.testing.assert_allclose(np.stack([markers.x, markers.y], 1), rods._obs[:, 2:])
    assert rods.left.tolist() == [3, 0, 0] and rods.touched == 0
    assert agent.starts[0].all() and sum(s.any() for s in agent.starts) == 2  # the first step, and one restart
    assert all(len(trail) < 100 for trail in rods._trails)
    assert "asked for exit 0: left by 3/0/0, touched 0" in rods.widget.layout.title.text


def test_a_change_takes_effect_and_counts_anew():
    agent = Toy()
    rods = Rods(2, agent)
    rods.step()
    rods.left[:] = 4
    rods.change(exit=2, guidance=0.5)
    rods.step()
    assert agent.asked[-1].tolist() == [0, 0, 1] and agent.settings == {"guidance": 0.5} and rods.left.sum() == 0
    rods.change(exit=-1, steps=5)
    rods.step()
    assert agent.asked[-1] is None and agent.settings == {"guidance": 0.5, "steps": 5}
    with pytest.raises(ValueError, match="at least 1 step"):
        rods.change(exit=1, steps=0)
    assert rods.exit == -1 and rods.sampling == {"guidance": 0.5, "steps": 5}


def test_touching_a_pillar_is_counted():
    rods = Rods(1, Toy())
    rods.agent.points = np.stack([np.full(50, 0.5), np.linspace(-0.28, 0.4, 50)], axis=1)
    for _ in range(40):
        rods.step()
    assert rods.touched >= 1 and rods.left.sum() == 0


def test_it_takes_the_agent_that_is_being_trained():
    rods, agent = Rods(2), Toy()
    rods.step()  # without an agent nothing moves
    rods.push(Metrics({}, agent=agent))
    assert rods.agent is agent and len(agent.starts) >= 1


def test_paths_are_drawn_by_exit():
    figure, paths = empty("paths"), [np.zeros((2, 2)), np.ones((3, 2)), np.ones((2, 2))]
    for _ in range(2):  # drawing again replaces
        draw_paths(figure, paths, np.array([1, -1, 1]))
        assert [trace.name for trace in figure.data[1:]] == ["asked for nothing", "asked for exit 1"]
        assert len(figure.data[2].x) == 6 and figure.data[2].x[2] is None
    draw_paths(figure, paths[:1], np.array([2]), "left by")
    assert [trace.name for trace in figure.data[1:]] == ["left by exit 2"]


def test_they_go_on_in_the_background_until_stopped(monkeypatch):
    monkeypatch.delenv("KIT_FAST", raising=False)

    async def watch():
        rods = Rods(1, Toy(), fps=1000)
        rods.start()
        while len(rods.agent.starts) < 5:
            await asyncio.sleep(0.001)
        rods.stop()
        await asyncio.sleep(0.02)
        seen = len(rods.agent.starts)
        await asyncio.sleep(0.05)
        return seen, len(rods.agent.starts)

    seen, later = asyncio.run(asyncio.wait_for(watch(), 60))
    assert seen == later >= 5
