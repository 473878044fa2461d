"""Planning over frozen skills: the search against brute force and by hand, the model, the contract, bad input."""

import itertools

import numpy as np
import pytest

from kit.envs import batched
from kit.rollout import evaluate
from kit.skills import pushing
from kit.skills import skill_planning as sp
from kit.skills.skill import circle
from kit.types import Policy

CROSS = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0]])


def walk(state: np.ndarray, options: np.ndarray) -> np.ndarray:
    """A puck that goes one step along its option."""
    return state + options


def brute_force(step, state, goal, options, holds) -> int:
    costs = {}
    for sequence in itertools.product(range(len(options)), repeat=len(holds)):
        x, cost = state, 0.0
        for option, hold in zip(sequence, holds, strict=True):
            for _ in range(hold):
                x = step(x[None], options[option][None])[0]
                cost += np.linalg.norm(x[:2] - goal)
        costs[sequence] = cost
    return min(costs, key=costs.get)[0]


@pytest.mark.parametrize(
    ("state", "goal", "holds", "best"),
    [
        ((0, 0), (3, 0), (1,), 0),  # to the right
        ((0, 0), (0, -2), (1, 1), 3),  # down
        ((1, 1), (1, 1), (1, 3), 4),  # there already: nothing
        ((0, 0), (0.4, 0), (1,), 4),  # a whole step would overshoot to 0.6: nothing
        ((0, 0), (0.6, 0), (1,), 0),  # 0.4 is nearer than 0.6
        ((0, 0), (0.6, 0), (2,), 4),  # but held for two steps it costs 0.4 + 1.4, and nothing costs 0.6 + 0.6
    ],
)
def test_search_by_hand(state, goal, holds, best):
    found = sp.search(walk, np.array([state], float), np.array([goal], float), CROSS, holds)
    assert found.tolist() == [best]


def test_search_equals_brute_force_in_a_crooked_world():
    rng = np.random.default_rng(0)
    bend = rng.normal(size=(4, 2))

    def step(state, options):
        return state + 0.3 * np.tanh(state @ bend @ np.ones((2, 4))) + np.tile(options, 2) * [1, 1, 0.5, -0.5]

    state, goal, options = rng.normal(size=(12, 4)), rng.normal(size=(12, 2)), rng.normal(size=(4, 2))
    for holds in ((1,), (2,), (1, 3), (1, 2, 1)):
        expected = [brute_force(step, s, g, options, holds) for s, g in zip(state, goal, strict=True)]
        assert sp.search(step, state, goal, options, holds).tolist() == expected


TINY = sp.Config(segments=1200, epochs=15)


class Towards:
    """A "skill" that pushes nothing: it moves the joints by z, so that what a segment does is known."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return 0.3 * np.asarray(observation)[..., -2:], state


def test_measure_sees_what_a_skill_does():
    env = pushing.make_env("kit/PlanarPush-v0", 16)
    before, skills, after = sp.measure(Towards(), env, TINY, seed=0)
    assert len(before) == len(skills) == len(after) and 1000 < len(before) <= 1200, "less what an episode's end cut"
    np.testing.assert_allclose(np.linalg.norm(skills, axis=1), 1, atol=1e-6)
    moved = np.linalg.norm(after[:, 2:] - before[:, 2:], axis=1)
    assert 0 < np.median(moved) < 2 * 0.1 * 0.3 * 1.5 * 2 * 0.6, "two steps of at most 0.045 rad in both joints"
    still = np.linalg.norm(before[:, :2] - before[:, 2:], axis=1) > 0.2
    np.testing.assert_array_equal(after[still, :2], before[still, :2], err_msg="a puck out of reach stays")


def test_the_model_learns_a_known_map_and_nothing_moves_nothing():
    rng = np.random.default_rng(0)
    before, skills = rng.uniform(-0.2, 0.2, (3000, 4)), circle(3000)
    after = before + 0.05 * np.concatenate((skills, skills), axis=1)
    model = sp.SkillModel(0.04).fit(before, skills, after, TINY, seed=0)
    assert np.abs(model(before, skills) - after).max() < 0.01
    np.testing.assert_array_equal(model(before, np.zeros((3000, 2))), before)


def make_planner(step=None, task=None) -> sp.SkillPlanner:
    env = task or batched("kit/PlanarPush-v0", 3).task
    return sp.SkillPlanner(Towards(), step or (lambda s, z: s + 0.02 * np.tile(z, 2)), env)


def test_the_planner_keeps_its_queue_in_the_state():
    env = batched("kit/PlanarPush-v0", 3)
    obs, _ = env.reset(seed=0)
    planner = make_planner(task=env.task)
    assert isinstance(planner, Policy)
    asked = []
    plan = planner.plan
    planner.plan = lambda state, goal: asked.append(len(goal)) or plan(state, goal)
    action, state = planner.predict(obs, None, np.ones(3, bool))
    assert action.shape == (3, 2) and asked == [3]
    _, state = planner.predict(obs, state, np.zeros(3, bool))
    assert asked == [3], "two steps for one plan"
    _, state = planner.predict(obs, state, np.zeros(3, bool))
    assert asked == [3, 3]
    planner.predict(obs, state, np.array([True, False, False]))
    assert asked == [3, 3, 1], "an episode that starts is planned anew, the others go on"
    one, _ = planner.predict(obs[0], None, np.ones(1, bool))
    np.testing.assert_allclose(one, action[0])


def test_doing_nothing_is_no_action():
    planner = make_planner(step=lambda s, z: s + 5.0 * np.tile(z, 2))  # every option overshoots
    obs = batched("kit/PlanarPush-v0", 3).reset(seed=0)[0]
    np.testing.assert_array_equal(planner.predict(obs, None, np.ones(3, bool))[0], np.zeros((3, 2)))


def test_planning_is_deterministic():
    env = pushing.make_env("kit/PlanarPush-v0", 8)
    runs = []
    for _ in range(2):
        model = sp.learn(Towards(), env, TINY, seed=3)
        task = batched("kit/PlanarPush-v0", 5, max_steps=10)
        runs.append(evaluate(sp.SkillPlanner(Towards(), model, task.task, TINY), task, seed=1).returns)
    np.testing.assert_array_equal(*runs)


@pytest.mark.parametrize("goal", [(0.7, 0.0), (np.nan, 0.3)])
def test_a_goal_out_of_reach_is_named(goal):
    with pytest.raises(ValueError, match=rf"goal \[\s*{goal[0]}.*out of reach.* 0\.66 m"):
        make_planner().plan(np.zeros((1, 4)), np.array([goal]))


def test_other_bad_input():
    with pytest.raises(ValueError, match="at least 1"):
        sp.Config(holds=())
    with pytest.raises(ValueError, match="at least 1"):
        sp.Config(steps=0)
    with pytest.raises(RuntimeError, match="call fit first"):
        sp.SkillModel(0.04)(np.zeros((1, 4)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="no skills for PointMaze"):
        make_planner(task=batched("kit/PointMaze-v0", 1).task)
