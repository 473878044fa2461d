"""Track: its geometry, its rules, what its task box holds, and that one simulation is like another."""

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import kit  # noqa: F401  (registers the environments)
from kit import runtime
from kit.envs import make_task, track

ID = "kit/Track-v0"
FLAT = {"stump": (0.0,), "gap": (0.0,)}
HARD = {"stump": (0.3,), "gap": (0.8,)}
AHEAD = np.array([1.0, 0.0, 0.0])


def at(env, sim: int = 0, **state: float) -> None:
    """Put one simulation of a single env or a batch at x, z or pitch."""
    for name, value in state.items():
        env.task.qpos[sim, ("x", "z", "pitch").index(name)] = value


def single(task: dict, **kwargs):
    env = gym.make(ID, **kwargs).unwrapped
    env.reset(seed=0, options={"task": task})
    return env


# ---- the course -------------------------------------------------------------------------------------------------


def test_a_course_by_hand():
    edges, length = track.course(np.array([0.8, 0.0]))
    np.testing.assert_allclose(edges[0], [[2, 2.2], [4.2, 5.0], [7, 7.2], [9.2, 10]])
    np.testing.assert_allclose(edges[1], [[2, 2.2], [4.2, 4.2], [6.2, 6.4], [8.4, 8.4]])
    np.testing.assert_allclose(length, [12.0, 10.4])
    np.testing.assert_allclose(track.levels(np.array([0.3])), [[0.3, -track.DEPTH, 0.3, -track.DEPTH]])


def test_the_scan_averages_the_ground_over_each_cell():
    edges, _ = track.course(np.array([0.8]))
    x = np.array([[1.0, 1.9, 2.1, 2.4, 4.0, 4.4, 4.6, 5.1]])
    scan = track.height_scan(x, edges, track.levels(np.array([0.3])))
    np.testing.assert_allclose(scan, [[0, 0.15, 0.1, 0, -0.25, -0.5, -0.4]], atol=1e-12)


@pytest.mark.parametrize("task", [FLAT, HARD, {"stump": (0.11,), "gap": (1.13,)}])
def test_the_boxes_of_the_model_are_the_ground_that_the_scan_sees(task):
    env = single(task)
    edges, level = env.edges, env.level
    beside = np.sort(np.concatenate([edges.ravel() - 1e-6, edges.ravel() + 1e-6, np.arange(-0.9, env.length[0], 0.37)]))
    ground = mujoco.MjvOption().geomgroup
    ground[:] = 1
    for x in beside:
        narrow = np.array([[x - 1e-9, x + 1e-9]])
        hit = np.zeros(1, np.int32)
        depth = mujoco.mj_ray(env.model, env.data, [x, 0.3, 5.0], [0, 0, -1.0], ground, 1, -1, hit)
        seen = track.height_scan(narrow, edges, level)[0, 0]
        assert (5.0 - depth if hit[0] >= 0 else -track.DEPTH) == pytest.approx(seen, abs=1e-6), x


def test_the_state_holds_the_scan_around_the_torso():
    env = single(HARD)
    at(env, x=1.6)
    scan = env.observe()[0, 14:] / 4
    # cells of 0.15 m from 0.45 m behind: the stump at 2.0 to 2.2 fills 0.05 m of one, all of the next
    np.testing.assert_allclose(scan[:8], [0, 0, 0, 0, 0, 0.1, 0.3, 0], atol=1e-6)
    assert len(scan) == 16 and (scan[8:] == 0).all()


def test_a_wheels_clearance_is_over_the_ground_below_it():
    env = single(HARD)
    at(env, x=2.1 - 0.22, z=1.0)  # the front wheel over the stump, the rear one over the flat
    env.task.qpos[0, [3, 5]] = 0.1
    env.task.qpos[0, 2] = 0.0
    env.task.settle(np.zeros(1, int))
    np.testing.assert_allclose(env.observe()[0, 11:13] / 4, [1.0 - 0.3 - 0.3, 1.0 - 0.3], atol=1e-6)


# ---- the task box -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.5, 0.75, 0.99])
def test_the_impossible_share_of_the_box_lies_outside_the_feasible_one(share):
    wide = make_task(ID, impossible=share).task_space.fields
    volume = np.prod([track.FEASIBLE[k] / b.high[0] for k, b in wide.items()])
    assert volume == pytest.approx(1 - share)
    assert all(b.low[0] == 0 and b.high[0] >= track.FEASIBLE[k] - 1e-12 for k, b in wide.items())


def test_the_highest_stump_stands_on_the_ground():
    env = single({"stump": (4.0,), "gap": (0.0,)}, impossible=0.99)
    sizes = env.model.geom_size[-5:]
    assert (env.mocap_pos[0, :, 2] - sizes[:, 2] < 0).all()


@pytest.mark.parametrize("share", [-0.1, 1.0, 2, np.nan])
def test_a_bad_impossible_share_is_named(share):
    with pytest.raises(ValueError, match=f"impossible is {share}"):
        make_task(ID, impossible=share)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"height": (0.1,)}, "unknown task field 'height'.*stump, gap"),
        ({"stump": (5.0,)}, "'stump' is .*5.* limits"),
        ({"gap": (-0.1,)}, "'gap' is .*limits"),
        ({"gap": (np.nan,)}, "'gap' is .*nan"),
        ({"gap": (0.1, 0.2)}, r"shape \(2,\)"),
    ],
)
def test_bad_tasks_are_named_and_change_nothing(task, message):
    env = single(HARD)
    before = env.observe().copy(), env.mocap_pos.copy()
    with pytest.raises(ValueError, match=message):
        env.reset(options={"task": task})
    np.testing.assert_array_equal(env.observe(), before[0])
    np.testing.assert_array_equal(env.mocap_pos, before[1])
    with pytest.raises(ValueError, match="reset with it"):
        env.set_task(gap=(0.5,))


# ---- the rules --------------------------------------------------------------------------------------------------


def test_thirty_hertz_and_the_checkers_of_gymnasium_and_sb3():
    assert make_task(ID).fps == pytest.approx(30)
    check_env(gym.make(ID).unwrapped, skip_render_check=True)
    sb3_check_env(gym.make(ID))


def test_full_speed_covers_flat_ground_and_the_return_is_the_share():
    n = 50
    env = gym.make_vec(ID, num_envs=n)
    env.reset(seed=0, options={"task": FLAT})
    returns, done = np.zeros(n), np.zeros(n, bool)
    for _ in range(env.task.max_steps):
        _, reward, terminated, truncated, info = env.step(np.tile(AHEAD, (n, 1)))
        returns += np.where(done, 0, reward)
        ended = (terminated | truncated) & ~done
        assert info.get("final_info", info)["success"][ended].all() and terminated[ended].all()
        done |= ended
        if done.all():
            break
    assert done.all()
    np.testing.assert_allclose(returns, 1.0)


@pytest.mark.parametrize("task", [{"stump": (0.3,), "gap": (0.0,)}, {"stump": (0.0,), "gap": (1.0,)}])
def test_full_speed_alone_stops_at_an_obstacle(task):
    env = single(task)
    for _ in range(env.max_steps):
        *_, terminated, truncated, info = env.step(AHEAD)
        if terminated or truncated:
            break
    first = env.edges[0, 0 if task["stump"][0] else 1]
    assert terminated and not info["success"]
    assert first[0] - 0.5 < env.progress[0] * env.length[0] < first[1] + 0.3


@pytest.mark.parametrize("policy", ["nothing", "random"])
def test_doing_nothing_and_random_actions_fail(policy):
    n = 300
    env = gym.make_vec(ID, num_envs=n)
    env.reset(seed=0)
    rng, ended, success, returns = np.random.default_rng(0), np.zeros(n, bool), np.zeros(n, bool), np.zeros(n)
    while not ended.all():
        actions = rng.uniform(-1, 1, (n, 3)) if policy == "random" else np.zeros((n, 3))
        _, reward, terminated, truncated, info = env.step(actions)
        returns += np.where(ended, 0, reward)
        done = (terminated | truncated) & ~ended
        success |= done & info.get("final_info", info)["success"]
        ended |= done
    assert success.mean() < 0.01 and returns.min() >= 0 and returns.max() < 0.5


@pytest.mark.parametrize(
    ("state", "ends"),
    [
        ({}, False),
        ({"z": -0.3, "x": 4.6}, True),  # in the first gap
        ({"z": 2.0, "pitch": 1.3}, True),
        ({"z": 2.0, "pitch": -1.3}, True),
        ({"z": 2.0, "pitch": 1.0}, False),
        ({"x": -1.2}, True),
    ],
)
def test_what_ends_an_episode(state, ends):
    env = single(HARD)
    at(env, **state)
    *_, terminated, truncated, info = env.step(np.zeros(3))
    assert terminated == ends and not truncated and not info["success"] and not info["physics_error"]


def test_two_seconds_without_headway_end_an_episode():
    env = single(FLAT)
    at(env, x=0.5)
    env.step(AHEAD)
    start = env.progress.copy()
    at(env, x=-0.5)
    for t in range(track.PATIENCE):
        obs, *_, terminated, truncated, _ = env.step(np.zeros(3))
        assert obs[13] == pytest.approx(1 - (t + 1) / track.PATIENCE)
        assert terminated == (t == track.PATIENCE - 1) and not truncated
    assert env.progress == start


def test_success_is_nine_tenths_and_the_end_of_the_course_ends_it():
    env = single(HARD)
    length = env.length[0]
    for share, succeeds, ends in [(0.89, False, False), (0.91, True, False), (0.5, True, False), (1.01, True, True)]:
        at(env, x=share * length, z=1.0)
        *_, terminated, _, info = env.step(np.zeros(3))
        assert (info["success"], terminated) == (succeeds, ends)
    assert env.progress[0] == 1.0


# ---- one simulation like another ----------------------------------------------------------------------------------


@pytest.mark.parametrize("nthread", [1, 2])
def test_simulation_i_of_a_batch_equals_the_single_env_seeded_s_plus_i(nthread):
    n, steps, seed = 5, 150, 17
    batch = gym.make_vec(ID, num_envs=n, max_steps=70, impossible=0.5, nthread=nthread)
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, n, 3))
    actions[..., 0] = np.abs(actions[..., 0])  # ahead, so that obstacles are met
    obs, _ = batch.reset(seed=seed)
    history = [(obs, None, None, None)] + [batch.step(a)[:4] for a in actions]
    for i in range(n):
        env = gym.make(ID, max_steps=70, impossible=0.5)
        obs, _ = env.reset(seed=seed + i)
        np.testing.assert_array_equal(history[0][0][i], obs)
        for t in range(steps):
            obs, reward, terminated, truncated, _ = env.step(actions[t, i])
            if terminated or truncated:
                obs, _ = env.reset()
            np.testing.assert_array_equal(history[t + 1][0][i], obs)
            assert (history[t + 1][1][i], history[t + 1][2][i], history[t + 1][3][i]) == (reward, terminated, truncated)
    assert any(h[2].any() for h in history[1:]) or any(h[3].any() for h in history[1:])


def test_resetting_one_simulation_leaves_the_others_and_their_ground_alone():
    env = gym.make_vec(ID, num_envs=3)
    env.reset(seed=0)
    before = env.step(np.tile(AHEAD, (3, 1)))[0]
    ground = env.task.mocap_pos.copy()
    after, _ = env.reset(options={"reset_mask": np.array([False, True, False]), "task": HARD})
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    np.testing.assert_array_equal(env.task.mocap_pos[[0, 2]], ground[[0, 2]])
    np.testing.assert_allclose(env.task.mocap_pos[1, 3:, 0], [2.1, 7.1])


@pytest.mark.parametrize("poison", [np.nan, 1e20])
def test_broken_physics_ends_that_episode_and_no_other(poison):
    def run(break_it: bool):
        env = gym.make_vec(ID, num_envs=3)
        env.reset(seed=0)
        for t in range(6):
            if t == 3 and break_it:
                env.task.qvel[1, 0] = poison
            yield env.step(np.tile(AHEAD, (3, 1)))

    for t, (healthy, broken) in enumerate(zip(run(False), run(True), strict=True)):
        np.testing.assert_array_equal(healthy[0][[0, 2]], broken[0][[0, 2]])
        assert np.isfinite(broken[0]).all() and np.isfinite(broken[1]).all()
        error = broken[4].get("final_info", broken[4])["physics_error"]
        assert error.tolist() == [False, t == 3, False]
        assert broken[2].tolist() == [False, t == 3, False] and not broken[3].any()


@pytest.mark.skipif(runtime.gl() is None, reason="no off-screen OpenGL")
def test_a_picture_shows_this_simulations_course():
    env = gym.make_vec(ID, num_envs=2, render_mode="rgb_array")
    env.reset(seed=0, options={"task": [FLAT, HARD]})
    for sim in (0, 1):
        at(env, sim, x=1.5, z=0.4, pitch=0.0)
    flat, hard = env.render()
    orange = [((p[..., 0] > 150) & (p[..., 2] < 60)).sum() for p in (flat, hard)]
    assert flat.shape == (320, 640, 3) and orange[1] > 2 * orange[0] + 500
    env.close()
