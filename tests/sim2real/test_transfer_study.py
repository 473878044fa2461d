import dataclasses

import numpy as np
import pytest
import torch

from kit.rl import ppo
from kit.sim2real.motor import Gap
from kit.sim2real.transfer import caps, study
from kit.sim2real.transfer.twin import FIELDS, NOMINAL, TWIN_A, numbers

TINY = study.Config(ppo=ppo.Config(total_steps=512, n_steps=16, n_epochs=1), num_envs=16)


# ---- CAPS ---------------------------------------------------------------------------------------------------------


def test_penalty_by_hand():
    mean = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    later = torch.tensor([[3.0, 4.0], [5.0, 5.0]])  # 5 away; the second row's episode ended
    nearby = torch.tensor([[0.0, 1.0], [1.0, 3.0]])  # 1 and 3 away
    cfg = caps.Config(temporal=2.0, spatial=10.0)
    found = caps.penalty(mean, later, nearby, torch.tensor([0.0, 1.0]), cfg)
    assert found.item() == pytest.approx(2.0 * 5 / 2 + 10.0 * 2)


def test_smoothness_of_one_sine_is_its_amplitude_and_frequency():
    t = np.arange(90) / 30
    actions = 0.4 * np.sin(2 * np.pi * 5 * t)[:, None, None]  # 15 whole periods
    np.testing.assert_allclose(caps.smoothness(actions, 30.0), 2 / (90 * 30) * 0.4 * 5, rtol=1e-9)
    np.testing.assert_allclose(caps.smoothness(np.full((90, 3, 2), 7.0), 30.0), 0, atol=1e-12)


def test_caps_makes_a_trembling_network_smoother():
    torch.manual_seed(0)
    cfg = ppo.Config()
    agent = ppo.ActorCritic(3, -np.ones(2), np.ones(2), cfg, torch.Generator().manual_seed(0))
    with torch.no_grad():
        agent.actor[-1].weight *= 100
    obs = torch.randn(256, 3)
    with torch.no_grad():
        actions, log_probs = agent.sample(obs)
    batch = {
        "obs": obs, "next_obs": obs + 0.3 * torch.randn(256, 3), "ended": torch.zeros(256), "actions": actions,
        "log_probs": log_probs, "advantages": torch.zeros(256), "returns": agent.value(obs).detach(),
    }  # fmt: skip
    loss = caps.objective(caps.Config(temporal=1.0, spatial=1.0), seed=0)
    optimiser = torch.optim.Adam(agent.actor.parameters(), lr=1e-3)
    rough = []
    for _ in range(50):
        total, info = loss(agent, batch, cfg)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        rough.append(info["roughness"])
    assert rough[-1] < 0.5 * rough[0]


# ---- the study ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["naive", "history", "adr", "residual", "caps"])
def test_recipes_train_and_are_judged_in_both_arms(name):
    found = study.run(name, TINY, seed=0)
    assert 0 <= found["nominal"] <= 1 and 0 <= found["twin"] <= 1
    assert found["gap"] == found["nominal"] - found["twin"]


def test_a_recipe_is_the_same_on_the_same_seed():
    def weights(seed):
        *_, last = study.train("history", TINY, seed=seed)
        return torch.cat([p.flatten() for p in last.agent.parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_the_judges_tasks_depend_on_the_seed_alone(monkeypatch):
    monkeypatch.setattr(study, "EPISODES", 20)
    still = study.Still(5)
    assert study.judge("ik", still, seed=1) == study.judge("ik", still, seed=1)
    envs = [study.make(name, TINY, 3, TWIN_A) for name in ("naive", "history", "residual")]
    goals = []
    for env in envs:
        env.reset(seed=study.DRAW_SEED)
        goals.append(env.task.goal.copy())
    np.testing.assert_array_equal(goals[0], goals[1])
    np.testing.assert_array_equal(goals[0], goals[2])


def test_nobody_but_the_oracle_is_told_of_the_twin():
    for name, recipe in study.RECIPES.items():
        assert (recipe.gap == TWIN_A) == (name == "oracle")


def test_the_prior_holds_nominal_and_the_twin():
    low, high = (numbers(gap) for gap in study.PRIOR)
    for gap in (NOMINAL, TWIN_A):
        assert (low <= numbers(gap)).all() and (numbers(gap) <= high).all()


def test_scale_stretches_a_range_about_nominal():
    low, high = study.scale((Gap(stiffness=0.8), Gap(stiffness=1.1, payload=0.2)), 2.0)
    assert (low.stiffness, high.stiffness, high.payload) == pytest.approx((0.6, 1.2, 0.4))
    assert study.scale(study.PRIOR, 0.0) == (NOMINAL, NOMINAL)
    assert numbers(study.scale(study.PRIOR, 5.0)[0])[FIELDS.index("coulomb")] == 0


def test_adr_starts_at_nominal():
    space = study.adr_space(study.PRIOR)
    values = space.decode(np.array([study.adr_start(study.PRIOR)]))[0]
    for name, value in values.items():
        assert float(np.squeeze(value)) == pytest.approx(getattr(NOMINAL, name), abs=1e-9)


def test_bad_input():
    with pytest.raises(ValueError, match=r"no recipe is called 'magic'; there are naive"):
        study.recipe("magic")
    with pytest.raises(ValueError, match=r"'identified' trains in an identified arm; give its gap="):
        next(study.train("identified", TINY, seed=0))
    wide = dataclasses.replace(TINY, num_envs=8)
    with pytest.raises(ValueError, match="range of coulomb is empty"):
        next(study.train("naive", wide, seed=0, gap=(Gap(coulomb=0.2), Gap())))
