"""Successor features and forward-backward representations: tables first, then the learner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kit.envs.grid_maze import GridMaze
from kit.skills import successor
from kit.skills.successor import Config, Learner, greedy_actions, successor_matrix, tabular_fb, train
from kit.types import ZeroShot

GAMMA = 0.95
SMALL = Config(dim=6, hidden=(16, 16), batch_size=32, updates=20, gamma=0.9)


@pytest.fixture(scope="module")
def rooms():
    return GridMaze.make("four rooms")


@pytest.fixture(scope="module")
def walk():
    return GridMaze.make("corridor").walk(20, 30, np.random.default_rng(0))


# ---- tables -------------------------------------------------------------------------------------------------------


def test_the_successor_matrix_is_the_inverse_and_counts_the_present(rooms):
    rng = np.random.default_rng(0)
    policy = rng.dirichlet(np.ones(4), size=rooms.size)
    M = successor_matrix(rooms.grid.next_state, policy, GAMMA)
    of_states = np.einsum("sa,sax->sx", policy, M)
    np.testing.assert_allclose(of_states, rooms.successor(GAMMA, policy), atol=1e-9)  # (I - gamma P_pi)^-1
    np.testing.assert_allclose(M.sum(axis=2), 1 / (1 - GAMMA))
    direct = np.eye(rooms.size)[:, None] + GAMMA * of_states[rooms.grid.next_state]
    np.testing.assert_allclose(M, direct, atol=1e-9)
    assert (M[np.arange(rooms.size), :, np.arange(rooms.size)] >= 1).all()  # t = 0 counts


def optimal_values(next_state, rewards):
    """V* (S, n) of rewards (S, n) by value iteration."""
    best = np.zeros(rewards.shape)
    for _ in range(600):
        best = rewards + GAMMA * best[next_state].max(axis=1)
    return best


def test_tabular_fb_is_optimal_for_every_one_hot_reward(rooms):
    best = optimal_values(rooms.grid.next_state, np.eye(rooms.size))
    for goal in range(rooms.size):
        reward = np.eye(rooms.size)[goal]
        F = tabular_fb(rooms.grid.next_state, reward, GAMMA)
        actions = greedy_actions(F, reward)
        M = successor_matrix(rooms.grid.next_state, np.eye(4)[actions], GAMMA)
        np.testing.assert_allclose(F, M, atol=1e-9)  # F is M of its own policy
        value = (F @ reward)[np.arange(rooms.size), actions]
        np.testing.assert_allclose(value, best[:, goal], atol=1e-9)
        waits = 1 if (rooms.grid.next_state[goal] == goal).any() else 2  # only a wall lets one stay; else out and back
        np.testing.assert_allclose(value, GAMMA ** rooms.distances[:, goal] / (1 - GAMMA**waits), atol=1e-9)


def test_tabular_fb_is_optimal_for_a_dense_reward(rooms):
    reward = np.random.default_rng(1).normal(size=rooms.size)
    F = tabular_fb(rooms.grid.next_state, reward, GAMMA)
    best = optimal_values(rooms.grid.next_state, reward[:, None])
    np.testing.assert_allclose((F @ reward).max(axis=1), best[:, 0], atol=1e-9)


def world(size=6, seed=0):
    """A random deterministic world with a random policy and a random distribution of states."""
    rng = np.random.default_rng(seed)
    return rng.integers(size, size=(size, 4)), rng.integers(4, size=size), rng.dirichlet(5 * np.ones(size))


def test_the_loss_ends_at_the_matrix_inverse_in_a_table():
    """D = S and B(x) = e_x / rho(x): steps along the loss's gradient lead F B rho to (I - gamma P_pi)^-1."""
    next_state, actions, rho = world()
    size, gamma = len(rho), 0.9
    weights, B = torch.from_numpy(rho), torch.from_numpy(np.diag(1 / rho))
    s, a = (torch.from_numpy(i.ravel()) for i in np.indices((size, 4)))
    s2 = torch.from_numpy(next_state)[s, a]
    F = torch.zeros((size, 4, size), dtype=torch.float64, requires_grad=True)
    for _ in range(300):
        f_next = F.detach()[s2, torch.from_numpy(actions)[s2]]
        loss = successor.fb_loss(F[s, a], f_next, B, B, weights, s, gamma)
        (slope,) = torch.autograd.grad(loss, F)
        with torch.no_grad():
            F -= len(s) * weights * slope  # the loss's curvature along axis x is 1 / rho(x), over the mean of all rows
    measured = (F @ (B * weights[:, None]).T).detach().numpy()
    M = successor_matrix(next_state, np.eye(4)[actions], gamma)
    np.testing.assert_allclose(measured, M, atol=1e-8)
    policy = np.eye(4)[actions]
    transition = np.zeros((size, size))
    transition[np.arange(size), next_state[np.arange(size), actions]] = 1
    of_states = np.einsum("sa,sax->sx", policy, measured)
    np.testing.assert_allclose(of_states, np.linalg.inv(np.eye(size) - gamma * transition), atol=1e-8)


def test_the_loss_equals_a_loop_over_pairs():
    rng = np.random.default_rng(2)
    f, f_next = rng.normal(size=(2, 5, 3))
    B, B_target = rng.normal(size=(2, 7, 3))
    rho, s = rng.dirichlet(np.ones(7)), rng.integers(7, size=5)
    expected = 0.0
    for i in range(5):
        expected += sum(rho[x] * (f[i] @ B[x] - 0.9 * f_next[i] @ B_target[x]) ** 2 / 2 for x in range(7)) / 5
        expected -= f[i] @ B[s[i]] / 5
    loss = successor.fb_loss(*(torch.from_numpy(x) for x in (f, f_next, B, B_target, rho, s)), 0.9)
    assert loss.item() == pytest.approx(expected)


def test_the_orthogonality_loss_is_least_at_the_identity():
    rho = torch.full((4,), 0.25, dtype=torch.float64)
    B = 2 * torch.eye(4, dtype=torch.float64)  # E B B' = I
    assert successor.ortho_loss(B, rho).item() == pytest.approx(-2)  # - D / 2
    for scale in (0.9, 1.1):
        assert successor.ortho_loss(scale * B, rho) > -2


def test_the_laplacian_basis_is_orthonormal_and_slow(rooms):
    data = rooms.walk(200, 100, np.random.default_rng(0))
    phi = successor.laplacian_basis(data, rooms.size, 5)
    s, s2 = (data.observations[rows, 0].astype(int) for rows in (data.steps, data.steps + 1))
    both = np.bincount(np.concatenate([s, s2]), minlength=rooms.size) / (2 * len(s))
    np.testing.assert_allclose(phi.T @ (both[:, None] * phi), np.eye(5), atol=1e-9)
    change = ((phi[s2] - phi[s]) ** 2).mean(axis=0)
    assert (np.diff(change) > -1e-9).all() and change[0] == pytest.approx(0, abs=1e-9)  # slowest first: a constant


# ---- learning -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("basis", ["learned", "laplacian"])
def test_goals_are_reached_without_having_been_rewards(basis):
    maze = GridMaze.make("corridor")
    cfg = Config(basis=basis, dim=20, hidden=(128,), updates=600, gamma=0.9)
    for metrics in train(maze.walk(100, 50, np.random.default_rng(0)), cfg, seed=0, every=300):
        agent = metrics.agent
    shares = []
    for goal in (0, 9, 19):
        reward = np.eye(maze.size)[goal]
        actions = agent.policy(agent.z_from_reward(np.arange(maze.size), reward))
        shares.append(successor.optimal_share(maze.grid.next_state, actions, reward, cfg.gamma))
    assert np.mean(shares) > 0.6  # 0.2 before training


@pytest.mark.parametrize("basis", ["learned", "laplacian"])
def test_training_repeats_and_goes_on_from_a_saved_state(walk, basis):
    cfg = replace(SMALL, basis=basis)
    a, b = Learner(walk, cfg, seed=0), Learner(walk, cfg, seed=0)
    for _ in range(3):
        assert a.update(a.sample()) == b.update(b.sample())
    saved = a.state_dict()
    after = [a.update(a.sample()) for _ in range(3)]
    fresh = Learner(walk, cfg, seed=5)
    fresh.load_state_dict(saved)
    assert [fresh.update(fresh.sample()) for _ in range(3)] == after


def test_given_features_stay_as_they_are(walk):
    learner = Learner(walk, replace(SMALL, basis="laplacian"), seed=0)
    before = learner.agent.B.clone()
    for _ in range(3):
        learner.update(learner.sample())
    assert torch.equal(before, learner.agent.B)


# ---- prompts ------------------------------------------------------------------------------------------------------


def test_prompts_agree_where_they_say_the_same(walk):
    agent = Learner(walk, SMALL, seed=0).agent
    assert isinstance(agent, ZeroShot)
    goal, size = 7, agent.size
    z = agent.z_from_goal(np.array([0]), np.array([goal]))
    assert z.shape == (1, 6) and np.linalg.norm(z) == pytest.approx(6**0.5)
    np.testing.assert_allclose(agent.z_from_states(np.array([goal, goal])), z[0], rtol=1e-5)
    np.testing.assert_allclose(agent.z_from_reward(np.arange(size), np.eye(size)[goal]), z[0], rtol=1e-5)
    np.testing.assert_allclose(agent.z_from_reward(np.arange(size), 9 * np.eye(size)[goal]), z[0], rtol=1e-5)


def test_predict_is_greedy_in_the_skill_of_its_observation(walk):
    agent = Learner(walk, SMALL, seed=0).agent
    z = agent.z_from_goal(None, np.array([3, 12]))
    obs = np.concatenate([np.repeat(np.arange(agent.size), 2)[:, None], np.tile(z, (agent.size, 1))], axis=1)
    actions, state = agent.predict(obs, state=("kept",))
    assert state == ("kept",)
    for i in (0, 1):
        np.testing.assert_array_equal(actions[i::2], agent.policy(z[i]))
    assert agent.predict(obs[4])[0] == actions[4]


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_skills_states_and_settings_that_do_not_fit_are_refused(walk):
    agent = Learner(walk, SMALL, seed=0).agent
    z = agent.z_from_goal(None, np.array([3]))[0]
    with pytest.raises(ValueError, match=r"skill has shape \(5,\); this policy takes \(6,\)"):
        agent.policy(z[:5])
    with pytest.raises(ValueError, match=r"norm 4.899; this policy takes norm 2.449"):
        agent.policy(2 * z)
    with pytest.raises(ValueError, match=r"state \[20\] is none of 0..19; walls have no number"):
        agent.z_from_goal(None, np.array([20]))
    with pytest.raises(ValueError, match="asks for nothing"):
        agent.z_from_reward(np.arange(20), np.zeros(20))
    with pytest.raises(ValueError, match=r"rewards have shape \(3,\)"):
        agent.z_from_reward(np.arange(20), np.zeros(3))
    for wrong, message in (({"basis": "x"}, "basis is 'x'"), ({"gamma": 1.0}, "gamma is 1"), ({"dim": 0}, "dim is 0")):
        with pytest.raises(ValueError, match=message):
            Config(**wrong)


def test_data_of_another_size_are_refused():
    from kit.data import Episodes

    data = Episodes.stack(np.zeros((2, 4, 2)), np.zeros((2, 3, 1)))
    with pytest.raises(ValueError, match="obs_dim 2; 1 is needed"):
        next(train(data, SMALL, seed=0))
    with pytest.raises(ValueError, match="dim is 30, but there are only 20 states"):
        next(train(GridMaze.make("corridor").walk(20, 30, np.random.default_rng(0)), replace(SMALL, dim=30), seed=0))
