"""Pictures of curricula: what they show, and what a click does."""

from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium.spaces import Box

from kit.curricula.loop import run
from kit.curricula.space import Space
from kit.curricula.teacher import RandomTeacher
from kit.curricula.view import ClickGrid, DensityMap, PaintGrid, reachable
from kit.curricula.worlds.cube import CubeWorld


class Slope(RandomTeacher):
    """Denser to the right, and where the third coordinate is in the middle."""

    def density(self, grid):
        return 2 * grid[:, 0] * (grid[:, 2] == 0.5)


def press(grid, column, row):
    """What plotly calls when a cell is clicked."""
    grid._clicked(None, SimpleNamespace(xs=[column], ys=[row]), None)


def test_a_wall_cuts_off_what_lies_behind_it():
    allowed = np.ones((4, 4), bool)
    allowed[2, :] = False
    np.testing.assert_array_equal(reachable(allowed), np.arange(4)[:, None].repeat(4, 1) < 2)
    allowed[2, 1] = True  # a door: only right of it and above is open, as a cube opens from below or the left
    found = reachable(allowed)
    assert found[2].tolist() == [False, True, False, False] and found[3].tolist() == [False, True, True, True]
    assert not reachable(np.arange(16).reshape(4, 4) > 0).any(), "without the corner cube nothing begins"


def test_a_student_learns_exactly_what_is_reachable():
    rng = np.random.default_rng(0)
    for seed in range(3):
        allowed = rng.random((4, 4)) > 0.4
        allowed[0, 0] = True
        world = CubeWorld(learnable=np.pad(allowed, (0, 6)))
        points = np.stack(np.meshgrid(*[np.arange(4) / 10 + 0.05] * 2, indexing="ij"), -1).reshape(-1, 2)
        for _ in range(8):
            for point in points:
                for _ in range(100):
                    world.visit(world.cube(point))
        np.testing.assert_array_equal(world.competence[:4, :4] == 100, reachable(allowed), err_msg=str(seed))


def test_the_density_is_drawn_over_two_coordinates_in_their_units():
    space = Space(a=Box(0, 2, (1,)), b=Box(-1, 1, (1,)), c=Box(0, 1, (1,)))
    picture = DensityMap(Slope(space), size=4, labels=("a [m]", "b [m]"))
    heat = picture.figure.data[0]
    np.testing.assert_allclose(heat.x, [0.25, 0.75, 1.25, 1.75])
    np.testing.assert_allclose(heat.y, [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(heat.z, np.tile([0.25, 0.75, 1.25, 1.75], (4, 1)))
    assert picture.figure.layout.xaxis.title.text == "a [m]"
    assert heat.zmax == 2.0


def test_it_follows_the_teacher_and_knows_whether_it_is_shown():
    picture = DensityMap(RandomTeacher(Space(g=Box(0, 1, (2,)))), size=3)
    assert not picture.shown and (np.array(picture.figure.data[0].z) == 1).all()
    picture.teacher = Slope(Space(g=Box(0, 1, (3,))))
    picture.grid = np.column_stack([picture.grid, np.full(9, 0.5)])
    picture.push()
    picture.flush()
    np.testing.assert_allclose(picture.figure.data[0].z[0], [1 / 3, 1, 5 / 3])
    assert "run this cell" in picture._repr_mimebundle_()["text/plain"] and picture.shown


def test_a_click_on_a_cell_calls_with_column_and_row():
    clicks = []
    grid = ClickGrid((3, 2), clicks.append)
    press(grid, 2, 1)
    grid.click((0, 0))
    assert clicks == [(2, 1), (0, 0)]
    for cell in [(3, 0), (0, 2), (-1, 0)]:
        with pytest.raises(ValueError, match=r"no cell .*3 columns and 2 rows"):
            grid.click(cell)
    ClickGrid((3, 2)).click((0, 0))  # nobody listens


def test_values_lie_as_they_are_looked_at():
    grid = ClickGrid((3, 2), title="before")
    grid.show(np.arange(6).reshape(3, 2) / 10, np.array([["a", "b"], ["c", "d"], ["e", "f"]]))
    heat = grid.widget.data[0]
    np.testing.assert_allclose(heat.z, [[0, 0.2, 0.4], [0.1, 0.3, 0.5]])
    assert np.array(heat.text).tolist() == [["a", "c", "e"], ["b", "d", "f"]]
    grid.title = "after"
    assert grid.widget.layout.title.text == grid.title == "after"


def test_painting():
    corner = np.zeros((3, 3), bool)
    corner[:2, :2] = True
    paint = PaintGrid(3, {"all": np.ones((3, 3)), "corner": corner}, reach=reachable)
    seen = []
    paint.on_change(lambda allowed: seen.append(allowed.copy()))
    press(paint.grid, 0, 1)
    press(paint.grid, 1, 0)
    press(paint.grid, 1, 1)
    assert paint.allowed.sum() == 6 and len(seen) == 3 and not seen[0][0, 1]
    assert paint.reachable.sum() == 1, "the corner cube is walled in"
    text = np.array(paint.grid.widget.data[0].text)
    assert (text == "✕").sum() == 3 and (text == "·").sum() == 5
    press(paint.grid, 1, 1)
    assert paint.allowed[1, 1] and paint.reachable.sum() == 5, "a second click opens the way along the diagonal"
    paint.menu.value = "corner"
    np.testing.assert_array_equal(paint.allowed, corner)
    assert paint.presets["corner"].sum() == 4, "painting leaves the presets alone"


def test_without_a_rule_all_that_is_allowed_can_be_come_to():
    paint = PaintGrid(2, {"all": np.ones((2, 2))})
    paint.toggle((0, 0))
    np.testing.assert_array_equal(paint.reachable, paint.allowed)


def test_a_painted_world_can_be_taught():
    paint = PaintGrid(10, {"stairs": np.eye(10)}, reach=reachable)
    world = CubeWorld(learnable=paint.reachable)
    assert world.learnable.sum() == 10
    for _ in run(RandomTeacher(world.space, seed=0), world, 200):
        pass
    assert world.competence.sum() == world.competence[0, 0] > 0
