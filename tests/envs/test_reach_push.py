"""ReachPush: its words, goals and success, its two approaches, its expert and what that writes."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from kit.data import read_minari, write_minari
from kit.envs import batched, reach_push
from kit.envs.env import BatchEnv
from kit.envs.reach_push import COLOURS, PITCH, STATE, TARGETS, Expert, ReachPush, goal_states, mode_of, modes_of, words
from kit.sim2real import kinematics


@pytest.fixture(scope="module")
def demos():
    return reach_push.demonstrations(1, seed=0)


def fresh(tasks, **options):
    """A task whose simulations have targets and skills (n, 2)."""
    tasks = np.array(tasks, float)
    task = ReachPush(len(tasks), **options)
    rngs = [np.random.default_rng(i) for i in range(len(tasks))]
    task.reset(np.arange(len(tasks)), {"target": tasks[:, :1], "push": tasks[:, 1:]}, rngs)
    return task


def test_gymnasium_checks_it():
    check_env(gym.make("kit/ReachPush-v0").unwrapped, skip_render_check=True)
    for goal, size in (("word", 37), ("state", 32), ("none", 27)):
        assert gym.make("kit/ReachPush-v0", goal=goal).observation_space.shape == (size,)


def test_targets_words_and_goals_by_hand():
    apart = np.linalg.norm(TARGETS[:, None] - TARGETS, axis=2) + np.eye(8)
    assert len(COLOURS) == len(TARGETS) == 8 and apart.min() > 2 * reach_push.PUSH_TOLERANCE
    assert np.linalg.norm(TARGETS - (0.0388353, 0), axis=1) == pytest.approx([0.30] * 8)
    assert words([2, 7], [0, 1]).tolist() == [[0, 0, 1, 0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0, 1, 0, 1]]
    cube = TARGETS[[3, 3]] - [0.1, 0]
    reach, push = goal_states([3, 3], [0, 1], cube)
    assert reach == pytest.approx([*TARGETS[3], 0.05, *cube[0]])
    assert push == pytest.approx([TARGETS[3, 0] - 0.036, TARGETS[3, 1], 0.02, *TARGETS[3]])
    assert mode_of(np.radians([80, 56, 54, 34, 32, 0])).tolist() == [0, 0, -1, -1, 1, 1]
    assert mode_of(PITCH).tolist() == [0, 1] and fresh([[0, 0]]).mode.tolist() == [-1]


def test_what_is_asked_for_stands_at_the_end_of_the_observation():
    for goal, asked in (("word", words([5], [1])), ("state", 4 * goal_states([5], [1], [[0.29, 0.0]]))):
        env = gym.make("kit/ReachPush-v0", goal=goal)
        obs, _ = env.reset(seed=0, options={"task": {"target": [5], "push": [1], "cube": [0.29, 0.0]}})
        assert obs[STATE:] == pytest.approx(asked[0], abs=1e-6)
    state = fresh([[1, 0]])
    obs = state.observe()[0]
    assert obs[15:18] == pytest.approx(4 * state.tool[0], abs=1e-5)
    assert obs[18:20] == pytest.approx(4 * (state.cube[0, :2] - reach_push.CUBE), abs=1e-5)
    assert obs[20:23] == pytest.approx(10 * (state.cube[0] - state.tool[0]), abs=1e-5)


def test_a_cube_looks_alike_after_a_quarter_turn():
    task = fresh([[0, 1]])
    before = task.observe()[0]
    for yaw in (np.pi / 2, -np.pi / 2, np.pi):
        task.qpos[:, task._cube_turn] = [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        assert task.observe()[0] == pytest.approx(before, abs=1e-5)
    task.qpos[:, task._cube_turn] = [np.cos(np.pi / 8), 0, 0, np.sin(np.pi / 8)]
    assert task.observe()[0, 23:25] == pytest.approx([-1, 0], abs=1e-5)


def test_reaching_must_last_a_third_of_a_second(monkeypatch):
    task, away = fresh([[4, 0]]), 0.024
    monkeypatch.setattr(ReachPush, "tool", property(lambda self: np.array([[*TARGETS[4], 0.05 + away]])))
    judged = [task.judge(np.zeros((1, 5))) for _ in range(10)]
    assert [bool(s[0]) for *_, s in judged] == [False] * 9 + [True]
    assert judged[-1][0].tolist() == [1.0] and judged[-1][1].tolist() == [True] and not judged[0][0].any()
    away = 0.026
    assert not task.judge(np.zeros((1, 5)))[2][0]  # and it begins anew
    away = 0.024
    assert not task.judge(np.zeros((1, 5)))[2][0]


def test_pushing_needs_a_cube_that_rests_on_its_own_target():
    task, still = fresh([[4, 1]] * 4), np.zeros((4, 5))
    task.cube[:, :2] = TARGETS[[4, 4, 4, 5]] + [[0.029, 0], [0.031, 0], [0.0, 0], [0, 0]]
    task.qvel[2, task._cube_speed] = [0.03, 0, 0]
    for _ in range(10):
        reward, terminated, success = task.judge(still)
    assert success.tolist() == [True, False, False, False] and reward.tolist() == [1, 0, 0, 0]
    task.cube[3, :2] = [0.6, 0.0]
    reward, terminated, success = task.judge(still)
    assert terminated[3] and not success[3] and not reward[3]  # a lost cube ends the episode


def test_a_new_target_in_a_running_episode():
    env = batched("kit/ReachPush-v0", 2, max_steps=20)
    env.reset(seed=0, options={"task": {"target": [1], "push": [0]}})
    env.set_task(np.array([1]), target=[6])
    assert env.task.target.tolist() == [1, 6] and env.task.observe()[1, STATE + 6] == 1
    assert env.task.markers(1)["goal"][0] == pytest.approx([*TARGETS[6], 0.05])


def test_drawn_tasks_have_the_skill_that_was_chosen():
    for skill, allowed in (("reach", {0}), ("push", {1}), ("both", {0, 1})):
        env = batched("kit/ReachPush-v0", 40, skill=skill)
        env.reset(seed=0)
        assert set(env.current_tasks["push"][:, 0].tolist()) == allowed
        assert len(set(env.current_tasks["target"][:, 0].tolist())) == 8


def test_random_actions_do_nothing_of_the_kind():
    env = batched("kit/ReachPush-v0", 64, max_steps=120)
    env.reset(seed=0)
    rng, done = np.random.default_rng(0), 0
    for _ in range(120):
        done += env.step(rng.uniform(-1, 1, (64, 5)))[4]["success"].sum()
    assert done <= 1


# ---- the expert ---------------------------------------------------------------------------------------------------


def test_inverse_kinematics_meets_point_and_pitch():
    task = fresh([[0, 0]] * 16)
    point = np.column_stack([np.tile(TARGETS, (2, 1)), np.full(16, 0.05)])
    pitch = np.repeat(PITCH, 8)
    q = task.arm(slice(None))[0]
    for _ in range(20):
        q = reach_push.solve(q, point, pitch, task._low, task._high)
    assert kinematics.tool(q) == pytest.approx(point, abs=1e-3)
    assert q[:, 1:4].sum(axis=1) == pytest.approx(pitch, abs=0.01) and not q[:, 4].any()
    assert q[:8, 1:4] != pytest.approx(q[8:, 1:4], abs=0.3)  # two ways to one point


def test_both_approaches_do_every_task(demos):
    asked = demos.observations[demos.ends, STATE:]
    kinds = {(*np.flatnonzero(word), mode) for word, mode in zip(asked, modes_of(demos), strict=True)}
    assert len(demos.ends) == 32 and len(kinds) == 32 and set(modes_of(demos)) == {0, 1}
    assert demos.terminated.sum() == 32 and not demos.truncated.any()
    target, push = asked[:, :8].argmax(axis=1), asked[:, 9]
    wanted = goal_states(target, push, demos.goals[demos.ends, 3:])
    miss = demos.goals[demos.ends] - wanted
    assert np.linalg.norm(miss[push == 0, :3], axis=1).max() < reach_push.REACH_TOLERANCE
    at = np.linalg.norm(demos.goals[demos.ends, 3:] - TARGETS[target], axis=1)
    assert at[push == 1].max() < reach_push.PUSH_TOLERANCE
    assert np.abs(demos.actions).max() <= 1


def test_demonstrations_are_the_same_for_a_seed(demos):
    again = reach_push.demonstrations(1, seed=0)
    assert np.array_equal(again.observations, demos.observations) and np.array_equal(again.actions, demos.actions)
    few = [reach_push.demonstrations(1, seed=seed, skill="reach", goal="none") for seed in (0, 1)]
    assert few[0].obs_dim == STATE and len(few[0].ends) == 16
    assert not np.array_equal(few[0].observations[:50], few[1].observations[:50])


def test_an_episode_played_back_through_the_environment_succeeds(demos):
    env = gym.make("kit/ReachPush-v0").unwrapped
    env.reset(seed=3, options={"task": {"target": [2], "push": [1]}})
    expert, terminated = Expert(env.task, np.array([1]), np.random.default_rng(0)), False
    while not terminated:
        _, reward, terminated, truncated, info = env.step(expert.act()[0])
        assert not truncated
    assert info["success"] and reward == 1 and env.mode.tolist() == [1]


def test_a_single_one_equals_its_place_in_a_batch():
    batch = BatchEnv(ReachPush(3))
    obs, _ = batch.reset(seed=5)
    env = gym.make("kit/ReachPush-v0").unwrapped
    assert np.array_equal(env.reset(seed=7)[0], obs[2])
    actions = np.random.default_rng(0).uniform(-1, 1, (10, 3, 5))
    for a in actions:
        assert np.array_equal(batch.step(a)[0][2], env.step(a[2])[0])


def test_demonstrations_through_minari(demos, tmp_path):
    pytest.importorskip("minari")
    back = read_minari(write_minari(demos, tmp_path, "reach_push-demos-v0"))
    for name in ("observations", "actions", "goals", "terminated", "ends"):
        assert np.array_equal(getattr(back, name), getattr(demos, name))


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_bad_options():
    with pytest.raises(ValueError, match="goal is 'picture'; it must be one of word, state, none"):
        ReachPush(goal="picture")
    with pytest.raises(ValueError, match="skill is 'pull'; it must be reach, push or both"):
        ReachPush(skill="pull")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"target": [2.5]}, "target is 2.5; it must be 0 to 7"),
        ({"push": [0.5]}, "push is 0.5; it must be 0, to reach, or 1, to push"),
        ({"target": [8]}, "'target' is .*8.* limits"),
        ({"start": [0, 0, 0, 0, 0]}, "'start' is .* limits"),
        ({"cube": [0.2, 0.0]}, "'cube' is .* limits"),
    ],
)
def test_bad_tasks_change_nothing(task, message):
    env = gym.make("kit/ReachPush-v0").unwrapped
    before, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.reset(options={"task": task})
    with pytest.raises(ValueError, match=message):
        env.set_task(**task)
    assert np.array_equal(env.task.observe()[0], before)
