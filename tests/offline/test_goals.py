"""GCIQL, HIQL and OTA: closed forms on a chain, then the networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kit.data import Episodes, GoalShares, rows_ahead
from kit.offline import goals
from kit.offline.goals import GCIQL, HIQL, OTA, Config, Learner, chain_advantage, chain_value, sign_accuracy, train


def chain(length=60):
    """One walk along a chain, one cell a step to the right; a state is its position."""
    x = np.arange(length, dtype=float)[None, :, None]
    return Episodes.stack(x, np.ones((1, length - 1, 1)), goals=x)


def walks(seed=0, episodes=40, steps=60):
    """Walkers on a line who turn back at -5 and 5, so that every place is reached from every other."""
    rng = np.random.default_rng(seed)
    x, way = np.zeros((episodes, steps + 1, 1)), rng.choice([-1.0, 1.0], (episodes, 1))
    actions = np.zeros((episodes, steps, 1))
    x[:, 0] = rng.uniform(-5, 5, (episodes, 1))
    for t in range(steps):
        way = np.where(np.abs(x[:, t]) > 4.5, -np.sign(x[:, t]), way)
        actions[:, t] = way
        x[:, t + 1] = x[:, t] + 0.5 * way
    return Episodes.stack(x, actions, goals=x)


SMALL = {"updates": 30, "hidden": (16, 16), "batch_size": 32, "frequencies": 1}


# ---- closed forms -------------------------------------------------------------------------------------------------


def test_the_numbers_of_far_advantages():
    gamma, k = 0.99, 25
    assert chain_advantage(500, gamma, k) == pytest.approx(0.188, abs=5e-4)
    assert chain_advantage(500, gamma, k, n=5) == pytest.approx(1.886, abs=5e-4)
    assert chain_advantage(1000, gamma, k) == pytest.approx(0.0012, abs=5e-5)
    assert chain_advantage(1000, gamma, k, n=5) == pytest.approx(0.69, abs=5e-3)
    weights = goals.awr_weights(torch.tensor([chain_advantage(1000, gamma, k, n) for n in (1, 5)]), 3.0, 100.0)
    assert weights.tolist() == pytest.approx([1.004, 7.9], abs=0.05)
    assert chain_advantage(100, gamma, k) == pytest.approx(10.5, abs=0.05)  # near, options say less
    assert chain_advantage(100, gamma, k, n=5) == pytest.approx(4.2, abs=0.05)


def test_the_sign_of_a_far_advantage_under_noise():
    for distance, one_step, options in ((400, 0.77, 1.00), (800, 0.51, 0.93)):
        assert sign_accuracy(chain_advantage(distance, 0.99, 25), 0.5) == pytest.approx(one_step, abs=0.005)
        assert sign_accuracy(chain_advantage(distance, 0.99, 25, n=5), 0.5) == pytest.approx(options, abs=0.005)
    noise = np.random.default_rng(0).normal(0, 0.5, (2, 200_000))
    tried = np.mean(chain_advantage(400, 0.99, 25) + noise[0] - noise[1] > 0)
    assert sign_accuracy(chain_advantage(400, 0.99, 25), 0.5) == pytest.approx(tried, abs=0.005)


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("expectile", [0.5, 0.7])
def test_the_value_loss_ends_at_the_closed_form_on_a_chain(n, expectile):
    """A table for every state and goal, trained by the very pieces that the networks are trained by."""
    data, length = chain(), 60
    cfg = Config(option_steps=n, expectile=expectile, gamma=0.95)
    rows, goal_rows = (i[np.triu_indices(length)] for i in np.indices((length, length)))  # goals from here on
    later = rows_ahead(data, rows, n, goal_rows)
    reached = torch.from_numpy(rows == goal_rows).double()
    table = torch.zeros((2, length, length), dtype=torch.float64, requires_grad=True)
    for _ in range(250):
        target = table.detach().clone()
        loss = goals.value_loss(
            table[:, rows, goal_rows], target[:, rows, goal_rows], target[:, later, goal_rows], reached, cfg
        )
        (slope,) = torch.autograd.grad(loss, table)
        with torch.no_grad():
            table -= slope * len(rows) / 2 / expectile  # with the larger weight this is a full step
    v = table.detach().numpy()[:, rows, goal_rows]
    np.testing.assert_allclose(v, np.tile(chain_value(goal_rows - rows, cfg.gamma, n), (2, 1)), atol=1e-6)


def test_the_value_loss_equals_a_loop():
    rng, cfg = np.random.default_rng(0), Config(expectile=0.7, gamma=0.9)
    v, v_target, nxt = rng.normal(-3, 2, (3, 2, 8))
    reached = np.array([1.0, 0, 0, 0, 1, 0, 0, 0])
    total = 0.0
    for i in range(8):
        y = [0.0 if reached[i] else -1 + 0.9 * nxt[j, i] for j in range(2)]
        worst = 0.0 if reached[i] else -1 + 0.9 * min(nxt[:, i])
        weight = 0.3 if worst - v_target[:, i].mean() < 0 else 0.7
        total += sum(weight * (y[j] - v[j, i]) ** 2 for j in range(2)) / 8
    loss = goals.value_loss(*(torch.from_numpy(x) for x in (v, v_target, nxt, reached)), cfg)
    assert loss.item() == pytest.approx(total)


def test_regression_is_weighted_and_weights_are_limited():
    weights = goals.awr_weights(torch.tensor([0.0, 1.0, 9.0]), 3.0, 100.0)
    np.testing.assert_allclose(weights, [1, np.exp(3), 100], rtol=1e-6)
    mean, target = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 2.0], [1.0, 0.0]])
    assert goals.regression_loss(mean, target, torch.tensor([2.0, 4.0])).item() == pytest.approx((2 * 5 + 4 * 1) / 4)


def test_waves_of_a_coordinate():
    x = torch.tensor([[0.5]])
    expected = [0.5, np.sin(np.pi / 4), np.sin(np.pi / 2), np.cos(np.pi / 4), np.cos(np.pi / 2)]
    np.testing.assert_allclose(goals.waves(x, 2)[0], expected, atol=1e-6)
    assert goals.waves(torch.zeros(3, 4), 0).shape == (3, 4)


# ---- the networks -------------------------------------------------------------------------------------------------


def test_a_batch_keeps_to_the_episode_and_to_the_goal():
    data = walks()
    batch = Learner(data, replace(OTA, **SMALL, actor_goals=GoalShares(0, 1, 0, geometric=False)), seed=0).sample()
    x = {name: batch[name][:, 0] for name in ("s", "s_next", "s_option", "s_ahead", "w")}  # behind it are the waves
    half = np.ptp(data.observations) / 2
    gap = {name: half * (place - x["s"]).abs().max().item() for name, place in x.items()}
    assert gap["s_next"] <= 0.5 + 1e-5 and gap["s_option"] <= 2.5 + 1e-5
    assert torch.equal(x["w"], x["s_ahead"])
    reached = batch["reached"] == 1
    assert reached.any() and torch.equal(batch["s_option"][reached], batch["s"][reached])  # no option leaves its goal


def test_one_step_hiql_reads_one_value_and_options_a_second():
    data = walks()
    hiql, ota, flat = (Learner(data, replace(c, **SMALL), seed=0).agent for c in (HIQL, OTA, GCIQL))
    s, g = torch.randn(5, 1), torch.randn(5, 1)
    read = hiql.read(s, "obs"), hiql.read(g, "goal")
    assert torch.equal(hiql.value(*read, "high"), hiql.value(*read, "low"))
    assert not torch.equal(ota.value(*read, "high"), ota.value(*read, "low"))
    assert flat.high_policy is None and torch.equal(flat.subgoal(s, g), g)


def test_values_and_policies_learn_a_line():
    data = walks()
    cfg = Config(subgoal_steps=6, updates=400, policies_from=0.4, hidden=(32, 32), frequencies=1, gamma=0.9)
    for metrics in train(data, cfg, seed=0, every=100):
        agent = metrics.agent
    x = np.linspace(-4, 4, 17)
    s, g = (i.reshape(-1, 1) for i in np.meshgrid(x, x))
    v = agent.high_values(s, g)
    assert np.corrcoef(v, -np.abs(s - g)[:, 0])[0, 1] > 0.8
    apart = np.abs(s - g)[:, 0] > 2
    actions, _ = agent.predict(np.hstack([s, g]), deterministic=True)
    assert (np.sign(actions) == np.sign(g - s))[apart].mean() > 0.9


@pytest.mark.parametrize("cfg", [GCIQL, HIQL, OTA])
def test_training_repeats_and_goes_on_from_a_saved_state(cfg):
    data, cfg = walks(), replace(cfg, **SMALL)
    a, b = Learner(data, cfg, seed=0), Learner(data, cfg, seed=0)
    for _ in range(3):
        assert a.update(a.sample()) == b.update(b.sample())
    saved = a.state_dict()
    after = [a.update(a.sample()) for _ in range(3)]
    fresh = Learner(data, cfg, seed=7)
    fresh.load_state_dict(saved)
    assert [fresh.update(fresh.sample()) for _ in range(3)] == after
    obs = np.zeros((4, 2))
    np.testing.assert_array_equal(fresh.agent.predict(obs)[0], a.agent.predict(obs)[0])  # the noise goes on too


def test_training_is_a_generator_that_begins_with_values():
    rows = list(train(walks(), replace(OTA, **SMALL), seed=0, every=10))
    assert [m["updates"] for m in rows] == [10, 20, 30] and rows[-1]["progress"] == 1
    assert "policy_loss" not in rows[0] and {"policy_loss", "high_policy_loss", "high_value_loss"} <= set(rows[-1])


def test_predict_follows_its_observation():
    agent = Learner(walks(), replace(HIQL, **SMALL), seed=0).agent
    one, state = agent.predict(np.zeros(2), state=("kept",), deterministic=True)
    assert one.shape == (1,) and state == ("kept",)
    many, _ = agent.predict(np.zeros((3, 2)), deterministic=True)
    np.testing.assert_allclose(many, np.tile(one, (3, 1)), atol=1e-6)
    assert np.abs(agent.predict(np.zeros((50, 2)))[0]).max() <= 1


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_settings_that_contradict_are_refused():
    for wrong, message in (
        ({"option_steps": 25}, "option_steps is 25 and subgoal_steps 25"),
        ({"option_steps": 0}, "option_steps is 0"),
        ({"option_steps": 5, "hierarchical": False}, "only a high level counts options"),
        ({"expectile": 1.0}, "expectile is 1"),
        ({"gamma": 1.0}, "gamma is 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Config(**wrong)


def test_data_without_goals_and_observations_of_another_size_are_refused():
    with pytest.raises(ValueError, match="no goals"):
        next(train(replace(walks(), goals=None), HIQL, seed=0))
    agent = Learner(walks(), replace(HIQL, **SMALL), seed=0).agent
    with pytest.raises(ValueError, match=r"shape \(3,\); a state and a goal are \(2,\)"):
        agent.predict(np.zeros(3))
