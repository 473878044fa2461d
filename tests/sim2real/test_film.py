"""FiLM: with gamma = beta = 0 it is the plain network, the arms see what they should, export, a little learning."""

import dataclasses

import numpy as np
import pytest
import torch

import kit
from kit import checkpoints
from kit.nets import FilmPolicy, MlpPolicy
from kit.rl import ppo
from kit.sim2real.people import film, quad

TINY = film.Config(
    num_envs=8, ppo=dataclasses.replace(film.PPO, total_steps=512, n_steps=32, batch_size=128, n_epochs=2)
)
SIZES = (13, 64, 64, 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stirred(network: film.FiLMNetwork) -> film.FiLMNetwork:
    """With random gamma and beta, as after training."""
    with torch.no_grad():
        for p in network.film.parameters():
            p += 0.3 * torch.randn(p.shape, generator=generator(5))
    return network


def test_without_gamma_and_beta_it_is_the_plain_network():
    network = film.FiLMNetwork(SIZES, 0.5, 32, generator())
    plain = ppo.network((12, 64, 64, 2), 0.5, generator())
    obs = torch.randn(20, 13, generator=generator(1))
    torch.testing.assert_close(network(obs), plain(obs[:, :-1]), rtol=0, atol=0)
    assert all((x == 0).all() for x in network.film(obs[:, -1:]))


def test_the_layer_by_hand():
    h, gamma, beta = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -1.0]), torch.tensor([0.0, 3.0])
    torch.testing.assert_close(film.modulate(h, gamma, beta), torch.tensor([3.0, 3.0]))


def test_the_whole_network_by_hand():
    network = stirred(film.FiLMNetwork((3, 4, 1), 1.0, 5, generator()))
    w = {k: v.numpy() for k, v in network.state_dict().items()}
    s, c = np.array([0.3, -0.7]), np.array([0.4])
    generated = w["film.conditioner.2.weight"] @ np.tanh(
        w["film.conditioner.0.weight"] @ c + w["film.conditioner.0.bias"]
    )
    gamma, beta = np.split(generated + w["film.conditioner.2.bias"], 2)
    h = (1 + gamma) * np.tanh(w["trunk.0.weight"] @ s + w["trunk.0.bias"]) + beta
    expected = w["trunk.2.weight"] @ h + w["trunk.2.bias"]
    found = network(torch.tensor([[*s, *c]], dtype=torch.float32)).detach().numpy()[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradients_reach_the_conditioner_from_the_start():
    network = film.FiLMNetwork(SIZES, 0.5, 32, generator())
    network(torch.randn(20, 13, generator=generator(1))).square().sum().backward()
    assert network.film.conditioner[-1].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("arm", "sees"), [("film", True), ("concat", True), ("blind", False)])
def test_who_is_told_the_users_parameter(arm, sees):
    agent = film.ARMS[arm](TINY)(13, -np.ones(2), np.ones(2), TINY.ppo, generator())
    if arm == "film":
        stirred(agent.actor), stirred(agent.critic)
    obs = torch.randn(6, 13, generator=generator(2))
    other = obs.clone()
    other[:, -1] += 1
    for network in (agent.actor, agent.critic):
        assert torch.equal(network(obs), network(other)) != sees


def test_all_parameters_are_trained():
    agent = film.ARMS["film"](TINY)(13, -np.ones(2), np.ones(2), TINY.ppo, generator())
    named = dict(agent.named_parameters())
    assert sum("film.conditioner" in k for k in named) == 8
    after = kit.run(film.train(TINY, seed=0))
    assert all((dict(after.named_parameters())[k] != v).any() for k, v in named.items() if k.endswith("2.weight"))


def test_every_episode_draws_its_own_limit_and_a_specialist_has_one():
    for cfg, few in ((TINY, False), (film.specialist(TINY, 3.0), True)):
        seen: list[np.ndarray] = []
        original = quad.Quad.reset

        def spy(self, ids, given, rngs, seen=seen, original=original):
            seen.append(given["limit"].ravel())
            return original(self, ids, given, rngs)

        quad.Quad.reset = spy
        try:
            kit.run(film.train(cfg, seed=0))
        finally:
            quad.Quad.reset = original
        drawn = np.concatenate(seen)
        assert (np.unique(drawn) == [3.0]).all() if few else len(np.unique(drawn)) == len(drawn)
        assert drawn.min() >= quad.LIMITS[0] and drawn.max() <= quad.LIMITS[1]


def test_the_limit_is_retuned_in_flight_if_asked_for():
    actions = np.zeros((8, 2))
    changed = []
    for retune in (0.0, 5.0):
        env = film.RetunedEnv(dataclasses.replace(TINY, retune=retune), seed=0)
        env.reset(seed=0)
        limits = [env.step(actions) and env.task.limit.copy() for _ in range(10)]  # 0.4 s, no episode ends
        changed.append((np.diff(limits, axis=0) != 0).mean())
        np.testing.assert_array_equal(env.current_tasks["limit"][:, 0], env.task.limit)
    assert changed[0] == 0 and 0.05 < changed[1] < 0.4  # 0.2 expected


def test_training_is_deterministic():
    a, b, other = (kit.run(film.train(TINY, seed=s)) for s in (0, 0, 1))
    for k, v in a.state_dict().items():
        assert torch.equal(v, b.state_dict()[k])
    assert not torch.equal(a.actor.trunk[0].weight, other.actor.trunk[0].weight)


def test_the_exported_policy_acts_alike_and_survives_saving(tmp_path):
    agent = kit.run(film.train(TINY, seed=0))
    stirred(agent.actor)
    policy = film.export(agent)
    obs = np.random.default_rng(0).normal(size=(50, 13)).astype(np.float32)
    np.testing.assert_allclose(
        policy.predict(obs, deterministic=True)[0], agent.predict(obs, deterministic=True)[0], atol=1e-5
    )
    assert policy.obs_dim == 13 and policy.c_dim == 1
    checkpoints.save(policy, tmp_path / "p", kind="film")
    card, tensors = checkpoints.read(tmp_path / "p")
    again = FilmPolicy(tensors, low=np.array(card["action_low"]), high=np.array(card["action_high"]))
    assert card["kind"] == "film" and set(again.weights) == set(policy.weights)
    np.testing.assert_array_equal(again.predict(obs, deterministic=True)[0], policy.predict(obs, deterministic=True)[0])
    with pytest.raises(ValueError, match=r"\(50, 12\).*takes \(13,\)"):
        policy.predict(obs[:, :12])


def test_a_film_policy_without_modulation_is_a_plain_one():
    rng = np.random.default_rng(0)
    weights = {"0.weight": rng.normal(size=(5, 3)), "0.bias": rng.normal(size=5), "1.weight": rng.normal(size=(2, 5)),
               "1.bias": rng.normal(size=2), "log_std": np.zeros(2)}  # fmt: skip
    none = {"film.0.weight": rng.normal(size=(4, 1)), "film.0.bias": rng.normal(size=4),
            "film.1.weight": np.zeros((10, 4)), "film.1.bias": np.zeros(10)}  # fmt: skip
    limits = {"low": -9 * np.ones(2), "high": 9 * np.ones(2)}
    obs = rng.normal(size=(7, 4))
    np.testing.assert_array_equal(
        FilmPolicy(weights | none, **limits).predict(obs, deterministic=True)[0],
        MlpPolicy(weights, **limits).predict(obs[:, :3], deterministic=True)[0],
    )


def test_bad_input():
    with pytest.raises(ValueError, match=r"arm is 'loud'.*film, concat, blind"):
        next(film.train(TINY, seed=0, arm="loud"))
    with pytest.raises(ValueError, match=r"Sequential.*only a FiLMNetwork"):
        film.export(kit.run(film.train(TINY, seed=0, arm="concat")))


def test_the_shipped_policy_does_what_its_card_says_and_can_be_retuned_in_flight():
    policy = film.shipped()
    told = policy.card["gates_passed_in_10_s"]
    found = quad.gates_passed(policy, [float(c) for c in told], starts=16, seed=2).mean(axis=1)
    np.testing.assert_allclose(found, list(told.values()), rtol=0.15)
    assert (np.diff(found) > 0).all(), "more thrust, more gates"
    waves = [quad.fly(policy, lambda t: 3.25 + 1.25 * np.sin(t), seconds=8, seed=s) for s in range(3)]
    assert not any(flight.crashed for flight in waves)


def test_it_learns_to_pass_gates():
    settings = dataclasses.replace(film.PPO, total_steps=100_000, batch_size=512)
    cfg = film.Config(num_envs=64, ppo=settings)
    before = kit.run(film.train(dataclasses.replace(cfg, ppo=TINY.ppo), seed=0))
    after = kit.run(film.train(cfg, seed=0))
    passed = [quad.gates_passed(agent, (2.0, 3.0, 4.0), starts=8).mean() for agent in (before, after)]
    assert passed[1] > 1 + passed[0]


def test_the_shipped_policy_loads_by_its_name():
    policy = kit.load("quad")
    assert isinstance(policy, FilmPolicy) and policy.obs_dim == film.shipped().obs_dim
