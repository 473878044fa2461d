"""Mazes in a notebook: what is drawn where, the student's steps, and clicks."""

import numpy as np
import pytest

from kit.curricula import maze_view
from kit.curricula.maze_view import PITCH, LiveMazes, MazeEditor, MazeStrip
from kit.curricula.worlds.mazes import MAZES, SIZE, Levels
from kit.curricula.worlds.wall_grid import Config, Student

TWO = Levels.parse(
    "S.G.... ....... ....... ....... ....... ....... .......",
    ".#..... #...... ....... ...S... ....... ....... ......G",
)


class Walker:
    """Goes right, and says that it is a student."""

    cfg = Config(limit=5)

    def act(self, obs, rng):
        return np.ones(len(obs), int), None


def test_the_picture_has_walls_borders_and_gaps():
    z = maze_view.picture(TWO)
    assert z.shape == (9, 2 * PITCH - 1)
    assert np.isnan(z[:, 9]).all() and np.isnan(z).sum() == 9
    np.testing.assert_array_equal(z[1:-1, 1:8], 0)
    assert z[1, PITCH + 2] == z[2, PITCH + 1] == 1, "row 0 column 1 and row 1 column 0, behind the border"
    assert np.nansum(z) == 2 * (9 * 9 - 49) + 2


def test_captions():
    shut = Levels.parse("S#..... ##..... ....... ....... ....... ....... ......G")
    assert maze_view.captions(TWO) == ["0 walls, path 2", "2 walls, path 6"]
    assert maze_view.captions(shut) == ["3 walls, no way"]


def test_a_walk_ends_at_the_goal_or_goes_on_to_the_deadline():
    places = maze_view.walk(Walker(), TWO, seed=0)
    np.testing.assert_array_equal(places[:, 0], [0, 1, 2, 2, 2, 2])
    np.testing.assert_array_equal(places[:, 1], [24, 25, 26, 27, 27, 27])


def test_a_walk_changes_nothing_of_the_student():
    student = Student(Config(limit=8), seed=0)
    before = student.rng.bit_generator.state
    first, again = (maze_view.walk(student, TWO, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert student.rng.bit_generator.state == before and student.steps == 0


def test_the_strip_puts_students_in_their_mazes():
    strip = MazeStrip(2)
    strip.show(TWO, paths=maze_view.walk(Walker(), TWO, seed=0))
    trail, start, goal, student = strip.widget.data[1:]
    assert list(start.x) == [0, PITCH + 3] and list(start.y) == [0, 3]
    assert list(goal.x) == [2, PITCH + 6] and list(goal.y) == [0, 6]
    assert list(student.x) == [0, PITCH + 3] and strip.steps == 5
    strip.at(1)
    assert list(student.x) == [1, PITCH + 4] and list(student.y) == [0, 3]
    assert list(trail.x) == [0, 1, None, PITCH + 3, PITCH + 4, None]
    strip.at(99)
    assert list(student.x) == [2, PITCH + 6]
    assert None in strip.widget.data[0].z[0] and strip.widget.layout.annotations[1].text == "2 walls, path 6"


def test_too_few_levels_are_refused():
    with pytest.raises(ValueError, match="2 levels for a strip of 3"):
        MazeStrip(3).show(TWO)


def test_live_mazes_walk_and_then_take_new_levels(monkeypatch):
    monkeypatch.setattr(maze_view, "FRAMES_PER_S", 1e9)
    asked = []
    mazes = LiveMazes(Walker(), lambda: asked.append(1) or TWO, 2)
    for _ in range(3):
        mazes.push()
    assert mazes.t == 6 >= mazes.steps and len(asked) == 1
    mazes.push()
    assert mazes.t == 0 and len(asked) == 2
    mazes.flush()
    assert list(mazes.widget.data[4].x) == [2, PITCH + 6] and len(asked) == 3


def test_the_slider_moves_the_students():
    strip = MazeStrip(2)
    strip.show(TWO, paths=maze_view.walk(Walker(), TWO, seed=0))
    slider = maze_view.playable(strip, steps=5).children[0].children[1]
    slider.value = 2
    assert list(strip.widget.data[4].x) == [2, PITCH + 5]


def test_a_click_builds_a_wall_and_takes_it_away():
    seen = []
    editor = MazeEditor(Levels.parse(MAZES["detour"]), lambda levels: seen.append(levels) or f"{len(seen)} seen")
    assert editor.grid.title == "1 seen" and not editor.levels.walls[0, SIZE + 3]
    editor.grid.click((3, SIZE - 2))  # column 3 of the second row from above
    assert editor.levels.walls[0, SIZE + 3] and seen[-1].walls.sum() == seen[0].walls.sum() + 1
    editor.grid.click((3, SIZE - 2))
    np.testing.assert_array_equal(editor.levels.walls, seen[0].walls)
    editor.grid.click((2, SIZE - 2))
    assert not editor.levels.walls[0, SIZE + 2], "the start stays free"
    assert np.asarray(editor.widget.data[0].text)[SIZE - 2, 2] == "S"
