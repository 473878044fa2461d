"""The readable SAC: its pieces against definitions and Stable-Baselines3, its buffer, then that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC

import kit
from kit.envs import batched
from kit.rl import sac, sb3
from kit.rl.replay import Replay, half_and_half
from kit.types import Policy


def torch_rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- pieces -------------------------------------------------------------------------------------------------------


def test_squash_is_tanh_with_the_density_of_a_change_of_variables():
    g = torch_rng()
    mean, log_std, noise = (torch.randn(9, 2, generator=g, dtype=torch.float64) * 0.7 for _ in range(3))
    actions, log_probs = sac.squash(mean, log_std, noise)
    normal = torch.distributions.Normal(mean, log_std.exp())
    exact = torch.distributions.TransformedDistribution(normal, torch.distributions.TanhTransform(cache_size=1))
    torch.testing.assert_close(actions, torch.tanh(mean + log_std.exp() * noise))
    torch.testing.assert_close(log_probs, exact.log_prob(actions).sum(-1), atol=1e-4, rtol=1e-4)


def test_critic_target_by_hand():
    next_q = torch.tensor([[3.0, 4.0], [2.0, 5.0]])
    y = sac.critic_target(
        torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0]), next_q, torch.tensor([-2.0, 9.0]), 0.5, 0.9
    )
    torch.testing.assert_close(y, torch.tensor([1 + 0.9 * (2 + 0.5 * 2), 1.0]))


def test_losses_by_hand():
    assert sac.critic_loss(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([0.0, 0.0])).item() == 0.5 * 2.5
    assert sac.actor_loss(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 0.0]), 0.5).item() == (1 - 1 + 0 - 3) / 2
    log_alpha = torch.tensor(0.0, requires_grad=True)
    sac.temperature_loss(log_alpha, torch.tensor([4.0, 2.0]), -1.0).backward()  # entropy -3, wanted -1
    assert log_alpha.grad.item() == -2.0, "descending raises alpha while entropy is too low"


def test_ensemble_is_that_many_separate_networks():
    both = sac.Ensemble(2, (3, 8, 8, 2), "tanh", True, torch_rng())
    for p in both.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=torch_rng(1))
    x = torch.randn(5, 3, generator=torch_rng(2))
    for k in range(2):
        h = x
        for i in range(3):
            h = h @ both.weights[i][k] + both.biases[i][k]
            if i < 2:
                h = torch.nn.functional.layer_norm(h, (8,), both.scales[i][k, 0], both.shifts[i][k, 0]).tanh()
        torch.testing.assert_close(both(x)[k], h)


# ---- against Stable-Baselines3 ----------------------------------------------------------------------------------


def copy_layers(ensemble: sac.Ensemble, members: list[list[torch.nn.Module]]) -> None:
    """Weights of SB3's networks; a last layer given as two is put side by side."""
    for k, modules in enumerate(members):
        for i, layers in enumerate([m if isinstance(m, list) else [m] for m in modules]):
            ensemble.weights[i].data[k] = torch.cat([m.weight.data.T for m in layers], dim=1)
            ensemble.biases[i].data[k, 0] = torch.cat([m.bias.data for m in layers])


def linear(net) -> list[torch.nn.Linear]:
    return [m for m in net if isinstance(m, torch.nn.Linear)]


def sb3_and_ours(learning_rate: float) -> tuple[SAC, sac.Learner]:
    model = SAC(
        "MlpPolicy", sb3.BatchVecEnv(batched("kit/ArmReach-v0", 4, max_steps=7)), learning_rate=learning_rate,
        learning_starts=50, seed=0, policy_kwargs={"net_arch": [32, 32]}, ent_coef="auto_0.3", gamma=0.95,
    )  # fmt: skip
    cfg = sac.Config(hidden=(32, 32), learning_rate=learning_rate, alpha=0.3, gamma=0.95)
    agent = sac.Agent(24, -np.ones(5), np.ones(5), cfg, torch_rng())
    copy_layers(agent.actor, [[*linear(model.actor.latent_pi), [model.actor.mu, model.actor.log_std]]])
    for ours, theirs in ((agent.critics, model.critic), (agent.targets, model.critic_target)):
        copy_layers(ours["reward"], [linear(q) for q in theirs.q_networks])
    return model, sac.Learner(agent, cfg)


def fill(model: SAC) -> dict[str, torch.Tensor]:
    """Some experience for SB3's buffer, and one batch of it under our names."""
    _, callback = model._setup_learn(10_000)
    model.collect_rollouts(
        model.env, callback, sb3_train_freq(), model.replay_buffer, learning_starts=50, action_noise=None
    )
    data = model.replay_buffer.sample(64)
    model.replay_buffer.sample = lambda *_, **__: data
    names = {"obs": "observations", "actions": "actions", "next_obs": "next_observations"}
    batch = {ours: getattr(data, theirs) for ours, theirs in names.items()}
    return batch | {"reward": data.rewards[:, 0], "terminated": data.dones[:, 0]}


def sb3_train_freq():
    from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

    return TrainFreq(30, TrainFrequencyUnit.STEP)


def gradients(model: SAC) -> dict[str, list]:
    """SB3's gradients at the moment of each optimiser's step."""
    seen = {}

    def watch(name, module, optimiser):
        step = optimiser.step

        def recorded(*args, **kwargs):
            seen[name] = [p.grad.clone() for p in module]
            return step(*args, **kwargs)

        optimiser.step = recorded

    watch("critic", list(model.critic.parameters()), model.critic.optimizer)
    watch("actor", list(model.actor.parameters()), model.actor.optimizer)
    watch("alpha", [model.log_ent_coef], model.ent_coef_optimizer)
    return seen


def patch_noise(monkeypatch, model, learner, updates: int) -> None:
    """SB3 draws for the present states first, we for the next ones; each gets the same numbers for the same states."""
    pairs = [(torch.randn(64, 5, generator=torch_rng(2 * k)), torch.randn(64, 5, generator=torch_rng(2 * k + 1)))
             for k in range(updates)]  # fmt: skip
    theirs = iter([noise for now, after in pairs for noise in (now, after)])
    ours = iter([noise for now, after in pairs for noise in (after, now)])
    monkeypatch.setattr("torch.distributions.normal._standard_normal", lambda *_, **__: next(theirs))
    monkeypatch.setattr(sac, "gaussian", lambda *_: next(ours))


def ours_in_sb3s_shape(ensemble: sac.Ensemble, of) -> list[torch.Tensor]:
    """Weights or gradients, network by network, layer by layer, as (out, in) and (out,)."""
    members = range(len(ensemble.weights[0]))
    pairs = list(zip(ensemble.weights, ensemble.biases, strict=True))
    return [x for k in members for w, b in pairs for x in (of(w)[k].T, of(b)[k, 0])]


def split_heads(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """SB3's actor has two last layers; their order there is latent layers, mean, log standard deviation."""
    *body, weight, bias = tensors
    return [*body, weight[:5], bias[:5], weight[5:], bias[5:]]


def test_losses_and_gradients_equal_sb3s(monkeypatch):
    model, learner = sb3_and_ours(learning_rate=0.0)  # so that all three losses are at the same weights
    batch = fill(model)
    assert batch["terminated"].sum() < 64, "some bootstrap"
    seen = gradients(model)
    patch_noise(monkeypatch, model, learner, 1)
    info = learner.update(batch)
    model.train(1, 64)
    logged = model.logger.name_to_value
    for ours, theirs in (("critic_loss", "critic_loss"), ("actor_loss", "actor_loss"), ("alpha", "ent_coef")):
        assert info[ours] == pytest.approx(logged[f"train/{theirs}"], abs=1e-6, rel=1e-6), ours
    agent = learner.agent
    found = {
        "critic": ours_in_sb3s_shape(agent.critics["reward"], lambda p: p.grad),
        "actor": split_heads(ours_in_sb3s_shape(agent.actor, lambda p: p.grad)),
        "alpha": [agent.log_alpha.grad.reshape(1)],
    }
    for part, values in found.items():
        assert max(g.abs().max().item() for g in values) > 1e-3, f"{part} has a gradient to compare"
        for ours, theirs in zip(values, seen[part], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_weights_stay_sb3s_over_updates(monkeypatch):
    model, learner = sb3_and_ours(learning_rate=3e-4)
    batch = fill(model)
    patch_noise(monkeypatch, model, learner, 5)
    for _ in range(5):
        learner.update(batch)
    model.train(5, 64)
    agent = learner.agent
    theirs = {k: list(getattr(model, k).parameters()) for k in ("actor", "critic", "critic_target")}
    ours = {
        "actor": split_heads(ours_in_sb3s_shape(agent.actor, lambda p: p.data)),
        "critic": ours_in_sb3s_shape(agent.critics["reward"], lambda p: p.data),
        "critic_target": ours_in_sb3s_shape(agent.targets["reward"], lambda p: p.data),
    }
    for part, values in ours.items():
        for mine, other in zip(values, theirs[part], strict=True):
            torch.testing.assert_close(mine, other.data, atol=2e-5, rtol=1e-4)
    assert agent.log_alpha.item() == pytest.approx(model.log_ent_coef.item(), abs=1e-6)


# ---- buffer -------------------------------------------------------------------------------------------------------


def rows(n: int, start: int = 0) -> dict[str, np.ndarray]:
    x = np.arange(start, start + n, dtype=np.float32)
    return {"obs": np.stack([x, x], 1), "reward": x}


def test_replay_forgets_the_oldest():
    replay = Replay(4, {"obs": (2,), "reward": ()})
    replay.add(**rows(3))
    replay.add(**rows(3, start=3))
    assert len(replay) == 4 and set(replay.rows()["reward"]) == {2, 3, 4, 5}
    batch = replay.sample(50, np.random.default_rng(0))
    assert batch["obs"].shape == (50, 2) and set(batch["reward"].tolist()) == {2, 3, 4, 5}
    torch.testing.assert_close(batch["obs"][:, 0], batch["reward"], msg="fields stay together")


def test_replay_refuses_and_stays_as_it_is():
    replay = Replay(4, {"obs": (2,), "reward": ()})
    replay.add(**rows(2))
    with pytest.raises(ValueError, match="must be finite"):
        replay.add(obs=np.zeros((1, 2)), reward=np.array([np.nan]))
    with pytest.raises(ValueError, match=r"obs has shape \(1, 3\); expected \(1, 2\)"):
        replay.add(obs=np.zeros((1, 3)), reward=np.zeros(1))
    with pytest.raises(ValueError, match="has the fields obs, reward"):
        replay.add(obs=np.zeros((1, 2)))
    assert len(replay) == 2
    with pytest.raises(ValueError, match="empty"):
        Replay(4, {"obs": (2,)}).sample(1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="capacity is 0"):
        Replay(0, {"obs": (2,)})


def test_half_of_a_batch_is_prior_data():
    own, prior = (Replay(10, {"obs": (2,), "reward": ()}) for _ in range(2))
    own.add(**rows(5))
    rng = np.random.default_rng(0)
    assert (half_and_half(own, prior, 8, rng)["reward"] < 5).all(), "nothing to mix in yet"
    prior.add(**rows(5, start=100))
    assert (half_and_half(own, prior, 9, rng)["reward"] >= 100).sum() == 4


# ---- the loop -----------------------------------------------------------------------------------------------------


class OneStep:
    """A batch with a known answer: reward -(a - 0.5)^2, every episode a single step."""

    num_envs = 16
    single_observation_space, single_action_space = spaces.Box(0, 1, (1,)), spaces.Box(-2, 2, (1,))

    @property
    def unwrapped(self):
        return self

    def reset(self, seed=None):
        return np.ones((16, 1), np.float32), {}

    def step(self, actions):
        ended, none = np.ones(16, bool), np.zeros(16, bool)
        info = {"final_obs": np.zeros((16, 1), np.float32), "final_info": {"success": none}}
        return np.ones((16, 1), np.float32), -((actions[:, 0] - 0.5) ** 2), ended, none, info


SMALL = sac.Config(
    total_steps=2400, learning_starts=480, batch_size=64, utd=0.125, learning_rate=1e-2, alpha=0.1, target_entropy=-3.0,
    hidden=(32, 32),
)  # fmt: skip


@pytest.mark.parametrize("cfg", [SMALL, replace(SMALL, layer_norm=True, activation="tanh", actor_every=2, utd=0.25)])
def test_it_finds_the_best_action_of_a_known_problem(cfg):
    agent = kit.run(sac.train(OneStep(), cfg, seed=0))
    action, _ = agent.predict(np.ones((1, 1), np.float32), deterministic=True)
    assert isinstance(agent, Policy)
    assert action[0, 0] == pytest.approx(0.5, abs=0.1)


def test_prior_data_teach_before_the_own_do():
    """Own experience is hidden from the reward; the prior data are not."""

    class Blind(OneStep):
        def step(self, actions):
            obs, _, *rest = super().step(actions)
            return obs, np.full(16, -0.5), *rest

    rng, prior = np.random.default_rng(0), sac.replay_for(1, 1, SMALL)
    actions = rng.uniform(-1, 1, (500, 1))
    same = {"obs": np.ones((500, 1)), "next_obs": np.ones((500, 1)), "terminated": np.ones(500)}
    prior.add(**same, actions=actions, reward=3 - 3 * np.square(2 * actions[:, 0] + 1))
    agent = kit.run(sac.train(Blind(), SMALL, seed=0, prior=prior))
    action, _ = agent.predict(np.ones(1, np.float32), deterministic=True)
    assert action.shape == (1,) and action[0] == pytest.approx(-1.0, abs=0.2), "in the space's units"


def random_batch(cfg: sac.Config, seed: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    replay = sac.replay_for(3, 2, cfg)
    fields = {k: rng.normal(size=(64, *v.shape[1:])) for k, v in replay.fields.items()}
    replay.add(**fields | {"actions": np.tanh(fields["actions"]), "terminated": rng.random(64) < 0.2})
    return replay.sample(32, rng)


def learner_of(cfg: sac.Config, seed: int = 0) -> sac.Learner:
    return sac.Learner(sac.Agent(3, -np.ones(2), np.ones(2), cfg, torch_rng(seed)), cfg)


def test_each_named_critic_learns_its_own_reward_and_the_actor_their_sum():
    cfg = sac.Config(critics=("reward", "reach"), gamma=0.0, learning_rate=1e-2)
    learner, batch = learner_of(cfg), random_batch(cfg, 0)
    for _ in range(200):
        learner.update(batch, actor=False)
    for name in cfg.critics:
        values = learner.agent.q(name, batch["obs"], batch["actions"]).mean(0)
        assert torch.corrcoef(torch.stack([values, batch[name]]))[0, 1] > 0.9
    learner.update(batch)
    actions, log_probs = learner.agent.sample(batch["obs"])
    before = learner.agent.actor.weights[0].detach().clone()
    learner.update(batch)
    assert not torch.equal(before, learner.agent.actor.weights[0]) and log_probs.shape == (32,) == actions.shape[:1]


def test_an_update_of_critics_alone_leaves_actor_and_temperature():
    cfg = sac.Config()
    learner, batch = learner_of(cfg), random_batch(cfg, 0)
    before = {k: v.clone() for k, v in learner.agent.state_dict().items()}
    learner.update(batch, actor=False)
    changed = {k.split(".")[0] for k, v in learner.agent.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"critics", "targets"}


def test_a_restored_learner_goes_on_identically():
    cfg = sac.Config(layer_norm=True)
    one, other, batch = learner_of(cfg, 0), learner_of(cfg, 1), random_batch(cfg, 0)
    for _ in range(3):
        one.update(batch)
    other.load_state_dict(one.state_dict())
    assert one.update(batch) == other.update(batch) and one.update(batch) == other.update(batch)


def test_a_restored_buffer_goes_on_identically():
    one, other = (Replay(4, {"obs": (2,), "reward": ()}) for _ in range(2))
    one.add(**rows(6))
    other.load_state_dict(one.state_dict())
    for replay in (one, other):
        replay.add(**rows(1, start=50))
    np.testing.assert_array_equal(one.rows()["reward"], other.rows()["reward"])


def test_training_is_deterministic_and_seeds_differ():
    def weights(seed: int) -> np.ndarray:
        cfg = sac.Config(total_steps=200, learning_starts=100, batch_size=32, utd=0.1)
        agent = kit.run(sac.train(batched("kit/ArmReach-v0", 4), cfg, seed=seed))
        return agent.actor.weights[0].detach().numpy()

    np.testing.assert_array_equal(weights(0), weights(0))
    assert not np.array_equal(weights(0), weights(1))


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="activation is 'elu'"):
        sac.Config(activation="elu")
    with pytest.raises(ValueError, match="utd is 0"):
        sac.Config(utd=0)
    with pytest.raises(ValueError, match="knows only 'reward'"):
        next(sac.train(OneStep(), sac.Config(critics=("a",)), seed=0))
