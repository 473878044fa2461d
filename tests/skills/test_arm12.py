"""The twelve-joint arm against hand-made poses, a loop, and its reachable cells against geometry."""

import numpy as np
import pytest

from kit.envs import arm12


def test_hand_made_poses():
    straight, up, curl = np.zeros(12), np.zeros(12), np.zeros(12)
    up[0] = np.pi / 2
    curl[6] = np.pi  # folded back on itself half way
    tips = arm12.tip(np.stack((straight, up, curl)))
    np.testing.assert_allclose(tips, [[1, 0], [0, 1], [0, 0]], atol=1e-12)


def test_a_regular_polygon_comes_back_to_its_base():
    np.testing.assert_allclose(arm12.tip(np.full((1, 12), np.pi / 6)), 0, atol=1e-12)


def test_forward_kinematics_equals_a_chain_of_rotations():
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, (40, 12))
    for row, found in zip(angles, arm12.joints(angles), strict=True):
        frame = np.eye(3)
        for k, theta in enumerate(row):
            c, s = np.cos(theta), np.sin(theta)
            frame = (
                frame @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 1 / 12], [0, 1, 0], [0, 0, 1]])
            )
            np.testing.assert_allclose(found[k + 1], frame[:2, 2], atol=1e-12)
    np.testing.assert_allclose(arm12.joints(angles)[:, -1], arm12.tip(angles), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(np.diff(arm12.joints(angles), axis=1), axis=-1), 1 / 12)


def test_reachable_cells_are_those_that_meet_the_disc():
    cells = arm12.reachable((100, 100))
    assert cells.sum() == 8024
    assert np.array_equal(cells, cells[::-1]) and np.array_equal(cells, cells.T)
    inside = np.linspace(0, 1, 21)[:-1]  # points of each cell, dense
    for i, j in ((0, 50), (0, 40), (14, 15), (10, 20), (99, 99), (85, 85), (13, 16)):
        x, y = (-1 + 0.02 * (k + inside) for k in (i, j))
        x, y = (np.append(v, v[0] + 0.02) for v in (x, y))
        assert cells[i, j] == (x[:, None] ** 2 + y[None] ** 2 < 1).any()


def test_no_tip_lies_in_a_cell_that_is_not_reachable():
    rng = np.random.default_rng(1)
    angles = rng.normal(0, 0.15, (20_000, 12))
    angles[:, 0] = rng.uniform(-np.pi, np.pi, 20_000)  # nearly straight arms, in all directions
    index = np.floor((arm12.tip(angles) + 1) * 50).astype(int)
    assert arm12.reachable()[index[:, 0], index[:, 1]].all()


def test_objective_and_descriptor():
    bend = np.r_[np.full(6, 0.3), np.full(6, -0.3)]
    objective, tip = arm12.Arm12().evaluate(np.stack((np.full(12, 0.2), bend)))
    np.testing.assert_allclose(objective, [0, -0.3], atol=1e-12)
    np.testing.assert_allclose(tip, arm12.tip(np.stack((np.full(12, 0.2), bend))))
    widest = np.r_[np.full(6, np.pi), np.full(6, -np.pi)]
    assert arm12.Arm12().evaluate(widest[None])[0] == pytest.approx(arm12.Arm12.worst)


@pytest.mark.parametrize(
    ("angles", "message"),
    [
        (np.zeros((3, 11)), r"shape \(3, 11\); expected \(n, 12\)"),
        (np.zeros(12), r"shape \(12,\)"),
        (np.where(np.arange(24).reshape(2, 12) == 15, np.nan, 0.0), "arm 1 has an angle that is not finite"),
    ],
)
def test_bad_angles(angles, message):
    with pytest.raises(ValueError, match=message):
        arm12.Arm12().evaluate(angles)
    with pytest.raises(ValueError, match=message):
        arm12.joints(angles)


def test_a_grid_without_cells():
    with pytest.raises(ValueError, match="at least 1"):
        arm12.reachable((0, 5))
