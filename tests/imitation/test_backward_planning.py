"""Backward planning: times and chains by hand, who is trained by what, then a line with two ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kit.claims import backward
from kit.data import Episodes
from kit.diffusion.fit import FitConfig
from kit.imitation import backward_planning
from kit.imitation.backward_planning import ORDERS, Agent, Config, Learner, attend, jumps, offsets, train, unroll, waves

SMALL = Config(hidden=(16,), width=8, frequencies=1, fit=FitConfig(steps=20, batch_size=16, warm_up=5))


def line(episodes=40, seed=0):
    """Walkers on a line who go, by 0.5 a step, to -10 or to 10, whichever their word says."""
    rng, parts = np.random.default_rng(seed), []
    for _ in range(episodes):
        word, x = rng.integers(2), rng.uniform(-8, 8)
        end, places = (-10.0, 10.0)[word], [x]
        while abs(end - places[-1]) > 0.25:
            places.append(places[-1] + np.sign(end - places[-1]) * 0.5)
        parts.append((np.array(places)[:, None], np.eye(2)[word], np.sign(end)))
    ends = np.cumsum([len(p) for p, _, _ in parts]) - 1
    seen = np.concatenate([p for p, _, _ in parts]).astype(np.float32)
    words = np.concatenate([np.tile(w, (len(p), 1)) for p, w, _ in parts])
    actions = np.concatenate([np.full((len(p), 1), a) for p, _, a in parts])
    last = np.zeros(len(seen), bool)
    last[ends - 1] = True
    return Episodes(np.column_stack([seen, words]), actions, last, np.zeros_like(last), ends, seen)


# ---- by hand ------------------------------------------------------------------------------------------------------


def test_where_subgoals_lie():
    assert offsets(np.array([40, 10, 1]), 3, 0.5).tolist() == [[40, 20, 10, 5], [10, 5, 3, 2], [1, 1, 1, 1]]
    assert offsets(np.array([100]), 2, 0.25).tolist() == [[100, 25, 7]]
    assert jumps(np.array([60, 10]), 3, 25).tolist() == [[25, 50, 60], [10, 10, 10]]


@pytest.mark.parametrize("ratio", [0.5, 0.25])
def test_backward_shrinks_an_error_and_forward_stretches_it(ratio):
    """On a straight line each order knows its step exactly, and only the first subgoal is wrong, by e."""
    z, end, n, e = torch.tensor([[3.0]]), torch.tensor([[11.0]]), 3, 0.1
    true = z + (end - z) * ratio ** torch.arange(n + 1)[None, :, None]
    back = unroll(end + e, lambda w: z + ratio * (w - z), n) - true
    there = unroll(true[:, -1] + e, lambda w: z + (w - z) / ratio, n).flip(1) - true
    powers = e * ratio ** torch.arange(n + 1)
    assert back[0, :, 0].tolist() == pytest.approx(powers.tolist(), abs=1e-5)
    assert there[0, :, 0].flip(0).tolist() == pytest.approx((e / ratio ** torch.arange(n + 1)).tolist(), abs=1e-4)


def test_a_chain_goes_on_from_what_it_is_given():
    given = torch.tensor([[[10.0], [20.0], [30.0]]])
    assert unroll(torch.tensor([[1.0]]), lambda w: w + 1, 2).flatten().tolist() == [1, 2, 3]
    assert unroll(torch.tensor([[1.0]]), lambda w: w + 1, 2, given).flatten().tolist() == [1, 11, 21]


def test_attention_by_hand():
    keys = torch.tensor([[[0.0, 0.0], [2.0, 0.0]]])
    values = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    answer, weights = attend(torch.tensor([np.sqrt(2) * np.log(3) / 2, 5.0], dtype=torch.float32), keys, values)
    assert weights[0].tolist() == pytest.approx([0.25, 0.75]) and answer[0].tolist() == pytest.approx([0.25, 0.75])
    assert attend(torch.zeros(2), keys, values)[0][0].tolist() == pytest.approx([0.5, 0.5])


def test_waves_by_hand():
    seen = waves(torch.tensor([[[0.5, -1.0]]]), 2)
    angles = np.pi / 2 * np.array([0.5, 1.0, -1.0, -2.0])
    assert seen.shape == (1, 1, 10)
    assert seen[0, 0].tolist() == pytest.approx([0.5, -1.0, *np.sin(angles), *np.cos(angles)], abs=1e-6)


class Fixed(torch.nn.Module):
    """A network that says what a function of its input says."""

    def __init__(self, says):
        super().__init__()
        self.says = says

    def forward(self, x):
        return self.says(x)


def test_both_orders_lay_a_plan_out_with_the_end_first():
    data, plans = line(4), {}
    for order in ("backward", "forward"):
        agent = Agent(data, replace(SMALL, order=order, frequencies=0), seed=0)
        agent.first, agent.between = Fixed(lambda x: 0 * x[:, :1] + 8), Fixed(lambda x: x[:, -1:] + 1)
        plans[order] = agent.plan(torch.zeros(1, 1), torch.zeros(1, 2)).flatten().tolist()
    assert plans == {"backward": [8, 9, 10], "forward": [10, 9, 8]}


# ---- what is trained on what --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["backward", "forward", "fixed"])
def test_targets_are_where_the_walk_was_that_much_later(order, monkeypatch):
    learner, seen = Learner(line(), replace(SMALL, order=order, own=0.0, noise=0.0, jump=7), seed=0), {}
    monkeypatch.setattr(Agent, "loss", lambda self, o, targets, a, given: seen.update(o=o, w=targets, g=given))
    rng = np.random.default_rng(0)
    learner.batch_loss(200, rng, torch.Generator())
    z, word = seen["o"][:, 0].numpy().astype(float), seen["o"][:, 2].numpy()
    left = np.round((np.where(word > 0, 10, -10) - z) / np.where(word > 0, 0.5, -0.5)).astype(int)
    ahead = jumps(left, 3, 7) if order == "fixed" else offsets(left, 2, 0.5)
    places = z[:, None] + np.where(word > 0, 0.5, -0.5)[:, None] * ahead
    found = seen["w"][..., 0] * learner.network.scale + learner.network.middle
    assert found.numpy() == pytest.approx(places, abs=0.01)
    assert torch.equal(seen["g"], seen["w"].flip(1) if order == "forward" else seen["w"])


def test_the_coin_and_the_noise(monkeypatch):
    given = []
    monkeypatch.setattr(Agent, "loss", lambda self, o, targets, a, g: given.append((targets, g)))
    learner, generator = Learner(line(), SMALL, seed=0), torch.Generator().manual_seed(0)
    for _ in range(400):
        learner.batch_loss(16, learner.rng, generator)
    own = np.mean([g is None for _, g in given])
    off = torch.cat([g - w for w, g in given if g is not None])
    assert own == pytest.approx(0.5, abs=0.08) and off.std().item() == pytest.approx(0.1, abs=0.005)


def test_the_planner_is_trained_through_its_own_chain_and_not_by_the_policy():
    data = line(4)
    agent, rows = Agent(data, SMALL, seed=0), torch.from_numpy(data.observations[:8])
    targets = torch.zeros(8, 3, 1)

    def slope(actions, targets):
        agent.zero_grad()
        agent.loss(rows, targets, actions, None).backward()
        return [p.grad.clone() for p in (*agent.first.parameters(), *agent.between.parameters())]

    one, other = slope(torch.zeros(8, 1), targets), slope(torch.ones(8, 1), targets)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    targets[:, 2] = 1  # only the last subgoal of the chain is asked for something else, and the first link feels it
    moved = slope(torch.zeros(8, 1), targets)
    assert not torch.equal(one[0], moved[0])


def test_orders_have_networks_of_one_size():
    data = line(4)
    size = {
        order: sum(p.numel() for p in Agent(data, replace(SMALL, order=order), seed=0).parameters()) for order in ORDERS
    }
    assert size["backward"] == size["forward"] and size["fixed"] < size["parallel"] < size["backward"]
    a, b = (Agent(data, replace(SMALL, order=order), seed=0).state_dict() for order in ("backward", "forward"))
    assert all(torch.equal(a[k], b[k]) for k in a)


# ---- it learns ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walker():
    cfg = Config(hidden=(32, 32), frequencies=2, fit=FitConfig(steps=300, batch_size=64, learning_rate=3e-3))
    *_, last = train(line(), cfg, seed=0)
    return last.agent


def test_a_plan_on_the_line(walker):
    obs = np.array([[-6.0, 0.0, 1.0], [2.0, 1.0, 0.0], [5.0, 0.0, 1.0]])
    end = np.array([10.0, -10.0, 10.0])
    expected = obs[:, :1] + (end - obs[:, 0])[:, None] * 0.5 ** np.arange(3)
    assert walker.subgoals(obs)[..., 0] == pytest.approx(expected, abs=0.8)
    action, _ = walker.predict(obs)
    assert action[:, 0] == pytest.approx([1.0, -1.0, 1.0], abs=0.2)
    assert walker.predict(obs[0])[0].shape == (1,) and np.abs(walker.predict(100 * obs)[0]).max() <= 1


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_trains_and_is_the_same_for_a_seed(order):
    data, cfg = line(6), replace(SMALL, order=order)
    runs = [[m["loss"] for m in train(data, cfg, seed=seed, every=5)] for seed in (0, 0, 1)]
    assert len(runs[0]) == 4 and runs[0] == runs[1] != runs[2] and np.isfinite(runs[0]).all()


def test_a_restored_run_goes_on_identically():
    data = line(6)
    one, other = Learner(data, SMALL, seed=0), Learner(data, SMALL, seed=5)
    for _ in range(4):
        one.step()
    other.load_state_dict(one.state_dict())
    assert [one.step() for _ in range(4)] == [other.step() for _ in range(4)]
    obs = data.observations[:3]
    assert np.array_equal(one.agent.subgoals(obs), other.agent.subgoals(obs))


# ---- the claims' world --------------------------------------------------------------------------------------------


def test_demonstrations_end_in_the_cell_that_the_word_names():
    data = backward.demonstrations(6, (0, 0), "medium")
    policy = backward.Worded(None, "medium")
    assert data.obs_dim == 2 + policy.oracle.grid.size and data.terminated.sum() == len(data.ends) == 6
    words = data.observations[data.ends, 2:].argmax(axis=1)
    assert np.array_equal(policy.oracle.state(data.goals[data.ends]), words)
    assert (data.observations[:, 2:].sum(axis=1) == 1).all() and not data.truncated.any()
    read = policy.read(data.goals[data.ends], policy.oracle.centres[words])
    assert np.array_equal(read.astype(np.float32), data.observations[data.ends])
    again = backward.demonstrations(6, (0, 0), "medium")
    assert np.array_equal(again.observations, data.observations)


def test_a_fixed_planner_is_read_between_its_jumps():
    class Jumper:
        cfg = Config(order="fixed", jump=10)

        def subgoals(self, observations):
            return observations[:, None, :2] + np.array([3.0, 0.0])

    places = backward.places_ahead(Jumper(), np.zeros((2, 5)), np.array([[25, 10, 5], [30, 1, 0]]))
    assert places[..., 0] == pytest.approx(np.array([[7.5, 3.0, 1.5], [9.0, 0.3, 0.0]]))


# ---- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": "sideways"}, "order is 'sideways'; it must be one of backward, forward"),
        ({"ratio": 1.0}, "ratio is 1.0; it lies strictly between 0 and 1"),
        ({"subgoals": -1}, "subgoals is -1 and jump 25; need at least 0 and 1"),
        ({"own": 1.5}, "own is 1.5 and noise 0.1; need a probability"),
        ({"noise": float("nan")}, "noise nan"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)


def test_bad_data_and_observations():
    data = line(4)
    with pytest.raises(ValueError, match="no goals"):
        next(train(replace(data, goals=None), SMALL, seed=0))
    with pytest.raises(ValueError, match=r"first 1 columns of the observations are not the goals; put latents first"):
        next(train(data.with_goals(data.goals + 1), SMALL, seed=0))
    agent = Agent(data, SMALL, seed=0)
    with pytest.raises(ValueError, match=r"observation has shape \(4,\); state and instruction are \(3,\)"):
        agent.predict(np.zeros(4))
    with pytest.raises(ValueError, match="a flat agent makes no plans"):
        Agent(data, replace(SMALL, order="flat"), seed=0).subgoals(data.observations[:1])
    assert backward_planning.check(data) is None
