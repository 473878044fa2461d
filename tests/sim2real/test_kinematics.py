import mujoco
import numpy as np
import pytest

from kit.envs import so101, workspace
from kit.sim2real import kinematics

POSES = {  # angles [rad] -> tool [m], of the published model file
    (0, 0, 0, 0, 0): (0.39136, -0.00001, 0.22647),
    (0.5, 0, 0, 0, 0): (0.34820, -0.16902, 0.22647),
    (0, 0.5, 0, 0, 0): (0.40460, -0.00001, 0.05858),
    (0, 0, 0.5, 0, 0): (0.35406, -0.00001, 0.08579),
    (0, 0, 0, 0.5, 0): (0.36808, -0.00001, 0.15110),
    (0, 0, 0, 0, 0.5): (0.39136, -0.00382, 0.22736),
    (0.3, -0.4, 0.6, -0.5, 0.7): (0.32347, -0.09343, 0.25066),
    (0, -1.57, 1.57, 0.75, 0): (0.20271, -0.00001, 0.03557),
}


@pytest.fixture(scope="module")
def model():
    return so101.make_spec(scene="so101").compile()


def random_poses(model, n=50):
    low, high = model.jnt_range.T
    return np.random.default_rng(0).uniform(low, high, (n, 6))


@pytest.mark.parametrize("pose", POSES)
def test_tool_is_where_the_published_model_has_it(pose):
    np.testing.assert_allclose(kinematics.tool(np.array([pose]))[0], POSES[pose], atol=1e-5)


def test_tool_and_jacobian_equal_mujocos(model):
    data = mujoco.MjData(model)
    poses = random_poses(model)
    points, jacobians = kinematics.jacobian(poses)
    for q, point, j in zip(poses, points, jacobians, strict=True):
        data.qpos[:] = q
        mujoco.mj_forward(model, data)
        expected = np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, data, expected, None, model.site(so101.TOOL).id)
        np.testing.assert_allclose(point, data.site(so101.TOOL).xpos, atol=1e-12)
        np.testing.assert_allclose(j, expected[:, :5], atol=1e-12)


def test_solve_comes_back_to_points_that_poses_reach(model):
    low, high = model.jnt_range[:5].T
    rng = np.random.default_rng(1)
    inner = workspace.free_poses()[rng.integers(100, size=60)]
    poses = np.column_stack((rng.uniform(-1.5, 1.5, 60), inner, np.zeros(60)))
    goals = kinematics.tool(poses)
    found = kinematics.solve(np.clip(poses + rng.normal(0, 0.2, poses.shape), low, high), goals, low=low, high=high)
    assert (found >= low).all() and (found <= high).all()
    np.testing.assert_allclose(kinematics.tool(found), goals, atol=1e-3)


def test_solve_stays_finite_out_of_reach(model):
    low, high = model.jnt_range[:5].T
    found = kinematics.solve(np.zeros((1, 5)), np.array([[2.0, 0, 0]]), low=low, high=high)
    assert np.isfinite(found).all()
    assert np.linalg.norm(kinematics.tool(found)) > 0.38  # stretched towards it
