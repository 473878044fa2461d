"""The trainer: rewards are relabelled when sampled, it is restorable, and a fan opens; skills are checked."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import kit
from kit import checkpoints
from kit.envs.env import BatchEnv
from kit.envs.point_disc import STEP, PointDisc
from kit.rl import sac
from kit.skills import apt, csd, diayn, lsd, metra, rnd, trainer
from kit.skills.skill import check_skill, circle, directional_reward, one_hot, sphere
from kit.types import Policy

SMALL = trainer.Config(epochs=4, updates=3, random_epochs=1, sac=trainer.small_sac(hidden=(16, 16), batch_size=32))
METHODS = (diayn, lsd, csd, metra, rnd, apt)


def disc(n: int = 3, steps: int = 8, **kwargs) -> BatchEnv:
    return BatchEnv(PointDisc(n, max_steps=steps, **kwargs))


# ---- skills ---------------------------------------------------------------------------------------------------------


def test_drawn_skills_have_norm_one_and_pass_the_check():
    rng = np.random.default_rng(0)
    for z in (one_hot(20, 5, rng), sphere(20, 5, rng)):
        assert check_skill(z, 5).dtype == np.float32
    assert abs(sphere(4000, 2, rng).mean(0)).max() < 0.05, "uniform directions"
    np.testing.assert_allclose(circle(4), [[1, 0], [0, 1], [-1, 0], [0, -1]], atol=1e-7)


def test_a_skill_of_the_wrong_size_or_norm_is_named():
    with pytest.raises(ValueError, match=r"skill has shape \(3,\); this policy takes \(2,\)"):
        check_skill([1, 0, 0], 2)
    with pytest.raises(ValueError, match=r"skill has norm 2; this policy takes norm 1"):
        check_skill([2.0, 0], 2)
    with pytest.raises(ValueError, match=r"skill 1 has norm 0.5; this policy takes norm 1"):
        check_skill([[1.0, 0], [0.5, 0]], 2)
    with pytest.raises(ValueError, match="norm nan"):
        check_skill([np.nan, 0.0], 2)
    with pytest.raises(ValueError, match="takes norm 4"):
        check_skill(np.ones(4), 4, norm=4.0)
    check_skill(np.ones(16), 16, norm=4.0)
    check_skill(np.zeros((3, 0)), 0)


def test_directional_reward_by_hand():
    phi, phi2 = np.array([[0.0, 1.0]]), np.array([[2.0, 0.0]])
    assert directional_reward(phi, phi2, np.array([[0.6, 0.8]])) == pytest.approx(1.2 - 0.8)


# ---- relabelling -----------------------------------------------------------------------------------------------------


class Scaled:
    """A method whose reward is `scale`; it learns by doubling it."""

    dim, norm = 1, 1.0

    def __init__(self):
        self.scale = 1.0

    def make(self, obs_dim, generator):
        return self

    def sample_skill(self, n, rng):
        return rng.choice([-1.0, 1.0], (n, 1)).astype(np.float32)

    def reward(self, s, z, s2):
        return np.full(len(s), self.scale)

    def update(self, batch):
        assert "reward" not in batch, "rewards are not stored"
        self.scale *= 2
        return {}

    def state_dict(self):
        return {"scale": self.scale}

    def load_state_dict(self, state):
        self.scale = state["scale"]


def test_rewards_are_those_of_the_method_as_it_is_when_sampled():
    run = trainer.Trainer(disc(), replace(SMALL, method=Scaled()), 0)
    run.collect(random=True)
    assert set(run.replay.fields) == {"obs", "actions", "next_obs", "terminated", "skill"}
    seen = [run.update()["reward"] for _ in range(3)]
    assert seen == [2.0, 4.0, 8.0], "the same stored transitions, three times, after each lesson"


def test_relabelled_batches_carry_the_skill_and_go_on_bootstrapping():
    run = trainer.Trainer(disc(), replace(SMALL, method=Scaled()), 0)
    run.collect(random=True)
    batch = run.replay.sample(200, np.random.default_rng(0))
    out = trainer.relabel(batch, run.method)
    torch.testing.assert_close(out["obs"], torch.cat([batch["obs"], batch["skill"]], 1))
    torch.testing.assert_close(out["next_obs"][:, 2:], out["obs"][:, 2:], msg="the skill lasts")
    assert out["terminated"].sum() == 0, "the end of an episode is a time limit"
    step = (batch["next_obs"] - batch["obs"]).norm(dim=1)
    assert step.max() <= STEP + 1e-6, "no transition leads from an episode's end to the next one's start"


def test_a_skill_lasts_an_episode_and_a_new_one_starts_with_the_next():
    rng, method = np.random.default_rng(0), metra.Config().make(2, torch.Generator())
    z = method.sample_skill(4, rng)
    kept = trainer.redraw(z, np.array([False, True, False, True]), method, rng)
    np.testing.assert_array_equal(kept[[0, 2]], z[[0, 2]])
    assert (kept[[1, 3]] != z[[1, 3]]).all() and trainer.redraw(z, np.zeros(4, bool), method, rng) is z
    run = trainer.Trainer(disc(3, 8), SMALL, 0)
    run.collect(random=True)
    skills = run.replay.rows()["skill"].reshape(8, 3, 2)
    np.testing.assert_array_equal(skills, np.broadcast_to(skills[0], skills.shape))


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", METHODS)
def test_every_method_trains_and_acts(module):
    cfg = replace(SMALL, method=module.Config(), epochs=3)
    rows = list(trainer.train(disc(), cfg, seed=0))
    agent = rows[-1].agent
    assert [m["steps"] for m in rows] == [24, 48, 72] and rows[-1]["progress"] == 1
    assert all(np.isfinite(v) for m in rows for v in m.values()) and "critic_loss" in rows[-1]
    z = agent.method.sample_skill(3, np.random.default_rng(0))
    path = trainer.trails(agent, disc(), z)
    assert isinstance(agent, Policy) and path.shape == (9, 3, 2)
    np.testing.assert_array_equal(path[0], np.zeros((3, 2)))
    assert np.linalg.norm(np.diff(path, axis=0), axis=-1).max() <= STEP + 1e-6


def test_the_agent_names_a_wrong_skill():
    agent = kit.run(trainer.train(disc(), SMALL, seed=0))
    with pytest.raises(ValueError, match=r"skill has shape \(3,\)"):
        agent.predict(np.zeros(5))
    with pytest.raises(ValueError, match="skill 0 has norm 0"):
        agent.predict(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="2 skills for 3 simulations"):
        trainer.trails(agent, disc(3), circle(2))


@pytest.mark.parametrize("module", METHODS)
def test_training_is_deterministic_and_restorable(module):
    cfg = replace(SMALL, method=module.Config())
    whole, first, rest = (trainer.Trainer(disc(), cfg, seed) for seed in (0, 0, 1))
    whole.epoch(), whole.epoch(), first.epoch(), first.epoch()
    rest.load_state_dict(first.state_dict())
    expected = [whole.epoch() for _ in range(2)]
    assert expected == [first.epoch() for _ in range(2)] == [rest.epoch() for _ in range(2)]


def test_seeds_differ():
    ends = [list(trainer.train(disc(), SMALL, seed=seed))[-1]["displacement"] for seed in (0, 1)]
    assert ends[0] != ends[1]


def test_metras_fan_opens_and_its_return_stays_below_one_a_step():
    """A short run: further than noise goes, in different directions, and never more than 1 a step."""
    cfg = trainer.Config(epochs=16, updates=30, sac=trainer.small_sac(batch_size=128))
    agent = kit.run(trainer.train(disc(8, 30), cfg, seed=0))
    z = circle(16)
    path = trainer.trails(agent, disc(16, 30), z)
    ends = path[-1] - path[0]
    share = np.linalg.norm(ends, axis=1) / (30 * STEP)
    rewards = np.stack([agent.method.reward(path[t], z, path[t + 1]) for t in range(30)])
    assert share.mean() > 0.6 and rewards.mean() > 0.2
    assert rewards.sum(axis=0).max() <= 1.1 * 30, "the constraint, summed over an episode"
    directions = np.unique(np.round(np.arctan2(*ends.T) / (np.pi / 4)))
    assert len(directions) >= 4


def test_an_exported_policy_takes_the_mean_action(tmp_path):
    agent = kit.run(trainer.train(disc(), SMALL, seed=0))
    rows = np.concatenate([np.random.default_rng(0).normal(size=(6, 2)), circle(6)], axis=1).astype(np.float32)
    trainer.save(agent, tmp_path / "fan", env="kit/PointDisc-v0")
    policy = checkpoints.load(tmp_path / "fan")
    ours, theirs = agent.predict(rows, deterministic=True)[0], policy.predict(rows)[0]
    assert policy.card["skill_dim"] == 2 and policy.card["skill_norm"] == 1.0
    np.testing.assert_allclose(policy.predict(rows)[0], theirs, err_msg="no noise")
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="epochs is 2; it must exceed random_epochs, 2"):
        trainer.Config(epochs=2)
    policy = sac.Agent(4, -np.ones(2), np.ones(2), sac.Config(), torch.Generator())
    relu = trainer.SkillAgent(policy, metra.Config().make(2, torch.Generator()), 2)
    with pytest.raises(ValueError, match="only tanh policies"):
        relu.export()
