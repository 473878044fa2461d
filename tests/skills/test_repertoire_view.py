"""The map of a repertoire: what is drawn is what is there, before it becomes a widget and after, and clicks arrive."""

from types import SimpleNamespace

import numpy as np
import pytest

from kit.envs.arm12 import Arm12
from kit.envs.deceptive_point import DeceptivePoint
from kit.skills import repertoire
from kit.skills.repertoire_view import RepertoireMap, as_z


def small() -> repertoire.Repertoire:
    descriptors = np.array([[-0.9, -0.9], [-0.9, 0.9], [0.1, -0.9]])
    return repertoire.Repertoire.of(np.zeros((3, 12)), np.array([1.0, 2.0, 3.0]), descriptors, (4, 2), Arm12.ranges)


def test_nothing_is_none_and_rows_are_y():
    assert as_z(small().grid()) == [[1.0, None, 3.0, None], [2.0, None, None, None]]


@pytest.mark.parametrize("early", [True, False])
def test_cells_lie_where_their_descriptors_are(early):
    page = RepertoireMap(Arm12.ranges, title="arms")
    if not early:
        assert page.widget is page.widget
    page.repertoire(small())
    page.draw(np.array([[0.0, 0.0], [0.5, 0.5]]))
    figure = page.widget
    heat = figure.data[0]
    assert (heat.x0, heat.dx, heat.y0, heat.dy) == (-0.75, 0.5, -0.5, 1.0)
    assert [list(row) for row in heat.z] == as_z(small().grid())
    assert figure.layout.title.text == "arms: 3 elites"
    assert tuple(figure.data[3].x) == (0.5,)


def test_a_click_gives_the_cell():
    page, seen = RepertoireMap(Arm12.ranges), []
    page.on_pick(lambda x, y: seen.append((x, y)))
    page._click(page.widget.data[0], SimpleNamespace(xs=[0.25], ys=[-0.5]), None)
    page._click(page.widget.data[0], SimpleNamespace(xs=[], ys=[]), None)
    assert seen == [(0.25, -0.5)]


def test_walls_cover_the_map():
    maze = DeceptivePoint()
    page = RepertoireMap(maze.ranges, walls=maze.walls, marks={"A": tuple(maze.centres[0])})
    walls = page.widget.data[1]
    assert (walls.x0, walls.dx) == (0.5, 1.0)
    assert sum(v is not None for row in walls.z for v in row) == maze.walls.sum()
    assert page.widget.data[4].text == ("A",)


def test_a_search_pushes_what_it_has():
    page = RepertoireMap(Arm12.ranges, title="arms")
    for metrics in repertoire.train(Arm12(), repertoire.Config(evaluations=600, cells=(10, 10)), seed=0):
        page.push(metrics)
    page.flush()
    found = metrics.agent.repertoire()
    assert page.widget.layout.title.text == f"arms: {len(found)} elites after 600 tries"
    assert [list(row) for row in page.widget.data[0].z] == as_z(found.grid())
