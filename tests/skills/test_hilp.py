"""HILP: the loss against definitions, the corridor against its closed form, prompts, the frozen policy, bad data."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from kit import bench, checkpoints
from kit.bench import hilp_updates
from kit.data import Episodes
from kit.envs.grid_maze import GridMaze, pairwise
from kit.envs.point_maze import PointMaze
from kit.offline import goals
from kit.skills import goal_cloning, hilp, maze_world, prompts
from kit.skills.hilp import GRID, HILP, Config, expectile_weights, latent_distance, temporal_loss, train
from kit.types import Policy, ZeroShot

SMALL = Config(dim=3, hidden=(8, 8), batch=16, steps=5, skill_steps=5)


def line(episodes=30, steps=40, seed=0):
    """A point on a line from -5 to 5 that moves by half of its action."""
    rng = np.random.default_rng(seed)
    x, a = np.zeros((episodes, steps + 1, 1)), rng.uniform(-1, 1, (episodes, steps, 1))
    x[:, 0] = rng.uniform(-5, 5, (episodes, 1))
    for t in range(steps):
        x[:, t + 1] = np.clip(x[:, t] + 0.5 * a[:, t], -5, 5)
    return Episodes.stack(x, a, goals=x)


@pytest.fixture(scope="module")
def taught():
    """Map and skills of the line, after a few seconds."""
    cfg = Config(dim=2, gamma=0.95, hidden=(32, 32), batch=128, steps=700, skill_steps=500, ema=0.02, sharpness=1.0)
    *_, last = train(line(), cfg, seed=0)
    return last.agent


# ---- the pieces ---------------------------------------------------------------------------------------------------


def test_temporal_loss_by_hand():
    """Two values, three transitions: one better than believed, one worse, and one that is at the goal."""
    value = torch.tensor([[-4.0, -2.0, -1.0], [-3.0, -2.0, -2.0]])
    here = torch.tensor([[-4.0, -2.0, -1.0], [-3.0, -2.0, 0.0]])
    after = torch.tensor([[-2.0, -4.0, -9.0], [-4.0, -6.0, -9.0]])
    at_goal = torch.tensor([0.0, 0.0, 1.0])
    # q = -1 + min / 2: -3, -4, 0; A = q + 3.5, q + 2, q + 1/2; targets -2, -3, 0 and -3, -4, 0; tau 0.9.
    weights = np.array([0.9, 0.1, 0.9])
    errors = np.array([[-2 + 4, -3 + 2, 0 + 1], [-3 + 3, -4 + 2, 0 + 2]])
    expected = (weights * errors**2).mean(axis=1).sum()
    assert temporal_loss(value, here, after, at_goal, 0.5, 0.9).item() == pytest.approx(expected)


def test_the_loss_is_that_of_two_goal_conditioned_values():
    """With V = -||phi(s) - phi(g)|| in its place, this is the expectile loss of GCIQL, HIQL and OTA."""
    v, here, after = -torch.rand(3, 2, 50, generator=torch.Generator().manual_seed(0))
    reached = (torch.arange(50) % 7 == 0).float()
    cfg = goals.Config(expectile=0.8, gamma=0.9)
    theirs = goals.value_loss(v, here, after, reached, cfg)
    assert temporal_loss(v, here, after, reached, 0.9, 0.8).item() == pytest.approx(theirs.item(), rel=1e-6)


def test_exact_distances_are_a_fixed_point():
    """Where every step is the best one, exact distances leave nothing to learn."""
    maze, gamma = GridMaze.make("corridor"), 0.9
    exact = -torch.as_tensor(maze.discounted(gamma), dtype=torch.float32).expand(2, 20, 20)
    s, g = np.triu_indices(20, 1)  # all steps to the right, towards goals on the right
    loss = temporal_loss(exact[:, s, g], exact[:, s, g], exact[:, s + 1, g], torch.zeros(len(s)), gamma, 0.95)
    assert loss.item() < 1e-10


def test_expectile_weights_and_distance():
    np.testing.assert_allclose(expectile_weights(torch.tensor([-1.0, 0.0, 2.0]), 0.95), [0.05, 0.95, 0.95], rtol=1e-6)
    x = torch.tensor([[3.0, 4.0], [1.0, 1.0]], requires_grad=True)
    distance = latent_distance(x, torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    np.testing.assert_allclose(distance.detach(), [5.0, 1e-3])
    distance.sum().backward()
    assert torch.isfinite(x.grad).all(), "the root has a gradient at zero, too"


def test_progress_along_z_is_a_linear_reward():
    """sum gamma^t (phi_t+1 - phi_t) z = (1 - gamma) sum gamma^t phi_t+1 z - phi_0 z, whatever happens."""
    rng, gamma = np.random.default_rng(0), 0.9
    phi = np.cumsum(rng.normal(size=(3000, 4)) * 0.99 ** np.arange(3000)[:, None], axis=0)
    z, discount = rng.normal(size=4), gamma ** np.arange(2999)
    progress = (discount * ((phi[1:] - phi[:-1]) @ z)).sum()
    assert progress == pytest.approx((1 - gamma) * (discount * (phi[1:] @ z)).sum() - phi[0] @ z)


# ---- maps ---------------------------------------------------------------------------------------------------------


def test_on_a_corridor_the_map_is_the_closed_form():
    """(1 - gamma^d) / (1 - gamma) within 15 %, in the right order. Fewer and longer steps than `GRID` takes."""
    maze = GridMaze.make("corridor")
    data = maze.walk(400, 100, np.random.default_rng(0))
    cfg = replace(GRID, steps=2500, ema=0.02, learning_rate=1e-2, batch=256)
    *_, last = train(data, cfg, seed=0, states=maze.size)
    found, exact = pairwise(last.agent.points()), maze.discounted(cfg.gamma)
    pairs = ~np.eye(20, dtype=bool)
    assert np.mean(np.abs(found - exact)[pairs] / exact[pairs]) < 0.15
    assert spearmanr(found[0], exact[0])[0] == 1.0, "from the end every state has another distance"
    ties = spearmanr(exact[pairs] + 1e-9 * np.random.default_rng(0).random(380), exact[pairs])[0]
    assert spearmanr(found[pairs], exact[pairs])[0] > ties - 1e-3, "as good as equal distances allow"
    assert maze.greedy_success(found).all()


def test_a_map_of_a_line_is_ordered(taught):
    policy = taught.policy()
    x = np.linspace(-4.5, 4.5, 10)[:, None]
    distance = policy.distance(np.repeat(x, 10, axis=0), np.tile(x, (10, 1))).reshape(10, 10)
    assert spearmanr(distance[0], x[:, 0])[0] > 0.95
    assert np.corrcoef(distance.ravel(), np.abs(x - x.T).ravel())[0, 1] > 0.9


def test_the_frozen_policy_moves_along_its_direction(taught):
    policy = taught.policy()
    s, g = np.array([[-3.0], [-1.0], [1.0], [3.0]]), np.array([[3.0], [-3.0], [4.0], [-1.0]])
    action, _ = prompts.Toward(policy).predict(np.concatenate((s, g), axis=1), deterministic=True)
    np.testing.assert_array_equal(np.sign(action), np.sign(g - s))
    x = np.linspace(-5, 5, 40)[:, None]
    right = policy.z_from_reward(x, x[:, 0])
    assert policy.predict(np.r_[0.0, right], deterministic=True)[0] > 0.1, "a reward that grows to the right"
    shown = policy.z_from_states(np.linspace(4, -4, 9)[:, None])
    assert policy.predict(np.r_[0.0, shown], deterministic=True)[0] < -0.1, "a demonstration to the left"


def test_the_frozen_policy_is_the_trained_one(taught, tmp_path):
    policy = taught.policy()
    assert isinstance(policy, ZeroShot) and isinstance(policy, Policy)
    x = np.linspace(-5, 5, 7)[:, None]
    inside = torch.as_tensor((x - taught.shift) / taught.scale, dtype=torch.float32)
    np.testing.assert_allclose(policy.phi(x), taught.map.phi(inside), atol=1e-4)
    z = prompts.unit(np.random.default_rng(0).normal(size=(7, 2))).astype(np.float32)
    with torch.no_grad():
        actor = taught.skills.actor(torch.cat((inside, torch.as_tensor(z)), dim=1))[0].clamp(-1, 1)
    np.testing.assert_allclose(policy.predict(np.c_[x, z], deterministic=True)[0], actor, atol=1e-4)
    checkpoints.save(policy, tmp_path / "line", kind="hilbert")
    again = checkpoints.load(tmp_path / "line")
    np.testing.assert_array_equal(again.phi(x), policy.phi(x))
    np.testing.assert_array_equal(
        again.predict(np.c_[x, z], deterministic=True)[0], policy.predict(np.c_[x, z], deterministic=True)[0]
    )


# ---- prompts ------------------------------------------------------------------------------------------------------


def test_prompts_by_hand():
    np.testing.assert_allclose(prompts.z_from_goal(np.array([1.0, 1.0]), np.array([4.0, 5.0])), [0.6, 0.8])
    np.testing.assert_allclose(prompts.z_from_goal(np.zeros((2, 2)), np.zeros((2, 2))), [[1, 0], [1, 0]])
    phi = np.random.default_rng(0).normal(size=(50, 3)) + 7
    z = prompts.z_from_reward(phi, (phi - phi.mean(0)) @ np.array([3.0, 0, 4]))
    np.testing.assert_allclose(z, [0.6, 0, 0.8], atol=1e-12)
    np.testing.assert_allclose(prompts.z_from_states(np.array([[0.0, 0], [9, 9], [0, 2]])), [0, 1])


def test_wandering_changes_its_direction_now_and_then(taught):
    walker = prompts.Wander(taught.policy(), hold=3, seed=0)
    seen, state = [], None
    for _ in range(7):
        _, state = walker.predict(np.zeros((2, 2)), state, np.zeros(2, bool))
        seen.append(state[0].copy())
    same = [bool((a == b).all()) for a, b in itertools.pairwise(seen)]
    assert same == [True, True, False, True, True, False]


# ---- training -----------------------------------------------------------------------------------------------------


def test_seeds_decide_and_zero_is_a_seed():
    def points(seed):
        *_, last = train(line(), SMALL, seed=seed)
        assert last["progress"] == 1.0
        return last.agent.points()

    np.testing.assert_array_equal(points(0), points(0))
    assert not np.array_equal(points(0), points(1))


def test_a_restored_agent_goes_on_as_if_nothing_had_happened():
    first, second = HILP(line(), SMALL, seed=0), HILP(line(), SMALL, seed=99)
    for _ in range(3):
        first.update_map(), first.update_skills()
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        assert first.update_map() == second.update_map() and first.update_skills() == second.update_skills()


def test_goal_cloning_learns_the_way_on_a_line():
    cfg = goal_cloning.Config(gamma=0.8, steps=300, batch=128, hidden=(32, 32), sharpness=1.0)
    *_, last = goal_cloning.train(line(), cfg, seed=0)
    action, _ = last.agent.predict(np.array([[-3.0, 0.0], [3.0, 0.0]]), deterministic=True)
    assert action[0, 0] > 0.05 and action[1, 0] < -0.05
    drawn, _ = last.agent.predict(np.tile([-3.0, 0.0], (4000, 1)))
    assert np.std(drawn) > 0.1 > np.ptp(action[0]), "the actions of an aimless walk are wide"


def test_walks_and_far_tasks_of_the_maze():
    data = maze_world.random_walk("medium", episodes=6, decisions=30, seed=0)
    assert len(data) == 6 * 31 and not PointMaze(maze="medium").blocked(data.observations.astype(float)).any()
    np.testing.assert_array_equal(maze_world.random_walk("medium", 6, 30, seed=0).observations, data.observations)
    tasks = maze_world.far_tasks("medium", 8, 20, np.random.default_rng(0))
    cells, distance = maze_world.cell_distances("medium")
    at = {tuple(c): i for i, c in enumerate(cells)}
    ends = [[at[tuple(c)] for c in PointMaze(maze="medium").cell(tasks[k])] for k in ("start", "goal")]
    assert distance[ends[0], ends[1]].min() >= 8
    with pytest.raises(ValueError, match="no two cells of the medium maze are 99 steps apart; the farthest are 11"):
        maze_world.far_tasks("medium", 99, 1, np.random.default_rng(0))


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_bad_data_is_named_at_once():
    data = line()
    with pytest.raises(ValueError, match="this dataset has no goals"):
        next(train(replace(data, goals=None), SMALL, seed=0))
    with pytest.raises(ValueError, match="goals of size 2; 1 is needed"):
        next(train(data.with_goals(np.zeros((len(data), 2))), SMALL, seed=0))
    with pytest.raises(ValueError, match=r"observations holds \[nan\] in row 0"):
        Episodes.stack(np.full((1, 4, 1), np.nan), np.zeros((1, 3, 1)))
    with pytest.raises(ValueError, match=r"1 step\(s\); hindsight goals need at least 2"):
        Episodes.stack(np.zeros((1, 2, 1)), np.zeros((1, 1, 1)))
    with pytest.raises(ValueError, match="the dataset is empty"):
        Episodes.stack(np.zeros((0, 4, 1)), np.zeros((0, 3, 1)))
    with pytest.raises(ValueError, match="the data hold states -5 to 5; a table of 4 has 0 to 3"):
        whole = line().observations.round().clip(-5, 5)
        HILP(replace(data, observations=whole, goals=whole), SMALL, seed=0, states=4)
    with pytest.raises(ValueError, match="this dataset has obs_dim 2; 1 is needed"):
        HILP(maze_world.random_walk(episodes=2, decisions=3, seed=0), SMALL, seed=0, states=4)
    with pytest.raises(ValueError, match="this dataset has no goals"):
        next(goal_cloning.train(replace(data, goals=None), seed=0))


def test_bad_prompts_are_named(taught):
    policy = taught.policy()
    with pytest.raises(ValueError, match=r"shape \(3, 2\); this map takes \(..., 1\)"):
        policy.phi(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"not finite: \[nan\]"):
        policy.z_from_goal(np.zeros((1, 1)), np.full((1, 1), np.nan))
    with pytest.raises(ValueError, match="skill has norm 2; this policy takes norm 1"):
        policy.predict(np.array([0.0, 2.0, 0.0]))
    with pytest.raises(ValueError, match=r"observation has shape \(4,\); this policy takes \(3,\)"):
        policy.predict(np.zeros(4))
    with pytest.raises(ValueError, match=r"there are 3 states and rewards of shape \(2,\)"):
        policy.z_from_reward(np.zeros((3, 1)), np.zeros(2))
    with pytest.raises(ValueError, match="equal rewards ask for nothing"):
        policy.z_from_reward(np.zeros((3, 1)), np.ones(3))
    with pytest.raises(ValueError, match=r"a demonstration of 1 state\(s\) has no direction"):
        policy.z_from_states(np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"\[state, goal\] has 2"):
        prompts.Toward(policy).predict(np.zeros((1, 3)))


def test_a_goal_in_a_wall_is_refused():
    tasks = {"start": np.zeros((1, 2)), "goal": np.array([[8.0, 0.0]])}
    with pytest.raises(ValueError, match=r"goal \[8. 0.\] touches a wall of the medium maze, cell \[1 3\]"):
        maze_world.judge(None, "medium", tasks, max_steps=5, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expectile": 1.0}, "expectile is 1.0; it lies strictly between 0 and 1"),
        ({"gamma": 1.0}, "gamma is 1.0"),
        ({"trajectory": 1.5}, "trajectory 1.5"),
        ({"dim": 0}, "dim 0"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        replace(hilp.Config(), **change)


def test_the_benchmark_runs_and_its_peer_learns_the_same():
    found = hilp_updates.run(rounds=2, block_s=0.02, cfg=SMALL, episodes=3)
    assert bench.describe(found).startswith("hilp_updates: ratio") and found["ratio"] > 0
    assert set(found["speeds"]) == {"ours", "peer", "ours_map", "ours_skills", "peer_map", "peer_skills"}
    ours, peer = HILP(line(), SMALL, seed=0), hilp_updates.Plain(line(), SMALL, seed=0)
    triples = [
        (linear, w, b, i)
        for nets, pair in ((ours.map.net, peer.phi), (ours.map.target, peer.phi_target))
        for i, net in enumerate(pair)
        for linear, w, b in zip(net[::2], nets.weights, nets.biases, strict=True)
    ]
    with torch.no_grad():
        for linear, w, b, i in triples:
            linear.weight.copy_(w[i].T), linear.bias.copy_(b[i, 0])
    ours.update_map(), peer.update_map()
    for linear, w, b, i in triples[: len(triples) // 2]:  # the same weights and batch: the same gradients
        np.testing.assert_allclose(linear.weight.grad, w.grad[i].T, atol=1e-6)
        np.testing.assert_allclose(linear.bias.grad, b.grad[i, 0], atol=1e-6)
