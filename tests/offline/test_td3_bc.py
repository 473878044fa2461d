"""TD3+BC: its pieces by hand, all but its new term against Stable-Baselines3's TD3, then that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from stable_baselines3 import TD3

from kit.offline import pendulum, td3_bc
from kit.offline.rows import Rows
from kit.types import Policy

SMALL = td3_bc.Config(updates=20, batch_size=32, hidden=(16, 16))


def torch_rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bandit(n: int = 400, seed: int = 0) -> Rows:
    """One step: the reward is highest at a = s / 2; logged actions are uniform."""
    rng = np.random.default_rng(seed)
    s, a = rng.uniform(-1, 1, (n, 1)), rng.uniform(-1, 1, (n, 1))
    return Rows(s, a, -((a - s / 2) ** 2)[:, 0], s, np.ones(n))


# ---- pieces -------------------------------------------------------------------------------------------------------


def test_smooth_by_hand():
    actions, noise = torch.tensor([[0.0, 0.9, -0.9, 0.2]]), torch.tensor([[0.1, 0.4, -3.0, 3.0]])
    torch.testing.assert_close(td3_bc.smooth(actions, noise, 0.5), torch.tensor([[0.1, 1.0, -1.0, 0.7]]))


def test_critic_target_by_hand():
    next_q = torch.tensor([[3.0, 4.0], [2.0, 5.0]])
    y = td3_bc.critic_target(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0]), next_q, 0.9)
    torch.testing.assert_close(y, torch.tensor([2.8, 1.0]))


def test_critic_loss_by_hand():
    assert td3_bc.critic_loss(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([0.0, 1.0])).item() == 1 + 0.5


def test_actor_loss_by_hand():
    q, actions = torch.tensor([-1.0, -3.0]), torch.tensor([[0.5, 0.0], [0.0, 0.0]])
    logged = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    # lambda = 2.5 / 2; -lambda mean q = 2.5; cloning (0.25 + 1) / 4
    assert td3_bc.actor_loss(q, actions, logged, 2.5).item() == pytest.approx(2.5 + 1.25 / 4)
    assert td3_bc.actor_loss(q, actions, logged, 0.0).item() == pytest.approx(1.25 / 4), "cloning alone"


def test_lambda_undoes_the_scale_and_has_no_gradient():
    q = torch.tensor([-1.0, -3.0, 2.0], requires_grad=True)
    a = torch.zeros(3, 1)
    loss, scaled = (td3_bc.actor_loss(k * q, a, a, 2.5) for k in (1.0, 50.0))
    assert loss.item() == pytest.approx(scaled.item())
    loss.backward()
    torch.testing.assert_close(q.grad, torch.full((3,), -2.5 / 2.0 / 3))


# ---- against Stable-Baselines3 ------------------------------------------------------------------------------------


def members(ensemble, of) -> list[torch.Tensor]:
    """Network by network, layer by layer, as (out, in) and (out,), SB3's order."""
    pairs = list(zip(ensemble.weights, ensemble.biases, strict=True))
    return [x for k in range(len(ensemble.weights[0])) for w, b in pairs for x in (of(w)[k].T, of(b)[k, 0])]


def test_without_cloning_weights_stay_sb3s(monkeypatch):
    rows = pendulum.shipped().take(np.arange(300, 364))
    cfg = td3_bc.Config(hidden=(16, 16), learning_rate=3e-4, policy_every=2, gamma=0.95, tau=0.02)
    learner = td3_bc.Learner(rows, [-2], [2], cfg, seed=0)
    model = TD3(
        "MlpPolicy", "Pendulum-v1", learning_rate=3e-4, gamma=0.95, tau=0.02, policy_delay=2,
        policy_kwargs={"net_arch": [16, 16]}, seed=0, device="cpu",
    )  # fmt: skip
    pairs = {"actor": "actor", "actor_target": "slow_actor", "critic": "critic", "critic_target": "slow_critic"}
    for theirs, ours in pairs.items():
        for p, value in zip(
            getattr(model, theirs).parameters(), members(getattr(learner.agent, ours), lambda x: x.data), strict=True
        ):
            p.data.copy_(value)
    model._setup_learn(100)
    obs, after = (learner.agent.standard(torch.from_numpy(x)) for x in (rows.obs, rows.next_obs))
    a, r = torch.from_numpy(rows.actions), torch.from_numpy(rows.reward)
    ends = (torch.arange(64) % 5 == 0).float()  # some rows terminate
    batch = {"obs": obs, "actions": a, "reward": r, "next_obs": after, "terminated": ends}
    data = type("Data", (), {
        "observations": obs, "actions": a, "rewards": r[:, None], "next_observations": after, "dones": ends[:, None],
        "discounts": None,
    })  # fmt: skip
    model.replay_buffer.sample = lambda *_, **__: data
    noises = [torch.randn(64, 1, generator=torch_rng(k)) * 3 for k in range(6)]  # some beyond the clip
    theirs, ours = iter(noises), iter(noises)
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, mean, std: self.copy_(std * next(theirs)))
    monkeypatch.setattr(td3_bc, "gaussian", lambda *_: next(ours))
    monkeypatch.setattr(td3_bc, "actor_loss", lambda q, *_: -q.mean())
    for _ in range(6):
        learner.update(batch)
    model.train(6, 64)
    for theirs, ours in pairs.items():
        values = members(getattr(learner.agent, ours), lambda x: x.data)
        for p, value in zip(getattr(model, theirs).parameters(), values, strict=True):
            torch.testing.assert_close(value, p.data, atol=1e-6, rtol=1e-4)


# ---- state --------------------------------------------------------------------------------------------------------


def test_the_actors_update_leaves_the_critics():
    learner = td3_bc.Learner(bandit(), [-1], [1], SMALL, seed=0)
    before = [p.clone() for p in learner.agent.critic.parameters()]
    learner._update_actor(learner.sample())
    assert all(torch.equal(a, b) for a, b in zip(before, learner.agent.critic.parameters(), strict=True))


def test_training_repeats_and_resumes():
    rows = bandit()
    a, b = (list(td3_bc.train(rows, SMALL, seed=0))[-1] for _ in range(2))
    assert dict(a) == dict(b)
    assert dict(a) != dict(list(td3_bc.train(rows, SMALL, seed=1))[-1])
    first = td3_bc.Learner(rows, [-1], [1], SMALL, seed=0)
    for _ in range(5):
        first.update(first.sample())
    second = td3_bc.Learner(rows, [-1], [1], SMALL, seed=9)
    second.load_state_dict(first.state_dict())
    for _ in range(5):
        assert first.update(first.sample()) == second.update(second.sample())


def test_predict_is_sb3s():
    agent = td3_bc.Learner(bandit(), [-1], [3], SMALL, seed=0).agent
    assert isinstance(agent, Policy)
    one, _ = agent.predict(np.array([0.3]))
    many, state = agent.predict(np.array([[0.3], [0.5]]))
    assert one.shape == (1,) and many.shape == (2, 1) and state is None
    np.testing.assert_allclose(many[0], one, atol=1e-6)
    raw = agent.act(agent.standard(torch.tensor([[0.3]]))).item()
    assert one[0] == pytest.approx(1 + 2 * raw, abs=1e-6), "-1..1 is -1..3"
    with pytest.raises(ValueError, match=r"observation has shape \(2,\); this policy takes \(1,\)"):
        agent.predict(np.zeros(2))


def test_it_learns_a_bandit_where_cloning_does_not():
    rows, s = bandit(1000), np.linspace(-0.9, 0.9, 50)[:, None]
    errors = []
    for alpha in (2.5, 0.0):
        cfg = td3_bc.Config(updates=400, batch_size=128, hidden=(32, 32), alpha=alpha)
        *_, last = td3_bc.train(rows, cfg, seed=0)
        actions, _ = last.agent.predict(s)
        errors.append(np.abs(actions - s / 2).mean())
    assert errors[0] < 0.1 < 0.18 < errors[1], "cloning uniform actions gives about 0 everywhere"


def test_bad_input_is_named():
    for change, message in (
        ({"gamma": 1.0}, r"gamma is 1\.0; .* below 1"),
        ({"alpha": -1.0}, r"alpha is -1\.0"),
        ({"batch_size": 0}, "batch_size is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(SMALL, **change)
    with pytest.raises(ValueError, match="low has 3 numbers; these rows have 1"):
        td3_bc.Learner(bandit(), [-1] * 3, [1] * 3, SMALL, seed=0)
