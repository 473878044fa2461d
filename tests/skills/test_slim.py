"""SLIM: what scaling a reward does to the actor, silence, contact with PPO's own pieces, then that it learns."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

import kit
from kit import checkpoints
from kit.envs import make_task
from kit.envs.env import SingleEnv
from kit.rl import ppo
from kit.skills import pushing, slim
from kit.skills.skill import circle
from kit.types import Policy

TINY = slim.Config(total_steps=2048, num_envs=16, n_steps=32, batch_size=256, n_epochs=2, hidden=(32, 32), max_steps=20)


# ---- several critics against one sum -----------------------------------------------------------------------------


def actor_gradient(critics: str, scale: tuple[float, float, float], *, heard: bool) -> np.ndarray:
    """The actor's gradient on one rollout of a random policy, its rewards multiplied by `scale`; critics start at 0.

    The rewards are the world's own, or, with `heard`, noise in which all three are equally loud.
    """
    cfg = replace(TINY, critics=critics)
    env = pushing.make_env("kit/PlanarPush-v0", 16, max_steps=20)
    agent = slim.MultiCritic(12, -np.ones(2), np.ones(2), cfg, torch.Generator().manual_seed(0))
    collector, rng = slim.Collector(env, 0), np.random.default_rng(0)
    plain = collector._step

    def step(agent):
        x = plain(agent)
        terms = rng.normal(size=(16, 3)) if heard else x["terms"]
        return x | {"terms": (terms * scale).astype(np.float32)}

    collector._step = step
    rollout = collector.collect(agent, cfg)
    slim.loss(agent, rollout, cfg)[0].backward()
    assert (rollout["terms"].std(dim=0) > 0).all(), "every reward is heard, or the test says nothing"
    return torch.cat([p.grad.flatten() for p in [*agent.actor.parameters(), agent.log_std]]).numpy()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


SCALES = [(100, 1, 1), (1, 100, 1), (1, 1, 100)]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("heard", [False, True])
def test_a_hundredfold_reward_leaves_the_actor_of_several_critics_alone(scale, heard):
    before, after = (actor_gradient("multi", s, heard=heard) for s in ((1, 1, 1), scale))
    assert cosine(before, after) > 0.999
    assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), rel=1e-3)


@pytest.mark.parametrize("scale", SCALES)
def test_and_turns_the_actor_of_one_summed_critic(scale):
    """Where no reward is the loudest already, else scaling that one changes little."""
    before, after = (actor_gradient("summed", s, heard=True) for s in ((1, 1, 1), scale))
    assert cosine(before, after) < 0.9


def test_scaling_a_reward_changes_nothing_in_a_whole_training():
    """Not even the last bit, as the factor is a power of two: critics, too, count in units of their returns."""

    def actor(factor: float) -> np.ndarray:
        env = pushing.make_env("kit/PlanarPush-v0", 16, max_steps=20, unit=0.04 / factor)
        agent = kit.run(slim.train(env, TINY, seed=0))
        return agent.actor[0].weight.detach().numpy()

    np.testing.assert_array_equal(actor(1.0), actor(64.0))


# ---- the pieces --------------------------------------------------------------------------------------------------


def test_normalise_by_hand():
    """Mean 3, spread 2: over everything, not row by row."""
    np.testing.assert_allclose(slim.normalise(np.array([[1.0, 5.0], [1.0, 5.0]]), 1e-6), [[-1, 1], [-1, 1]])
    np.testing.assert_array_equal(slim.normalise(np.full((3, 2), 7.0), 1e-6), np.zeros((3, 2)))


def test_a_silent_term_is_left_out_and_not_blown_up():
    loud, silent = np.array([[1.0, -1.0]]), np.full((1, 2), 1e-9) * [[1, -1]]
    np.testing.assert_allclose(slim.combine(np.stack((loud, silent)), (2.0, 5.0), 1e-6), 2 * loud)
    np.testing.assert_array_equal(slim.combine(silent[None], (1.0,), 1e-6), np.zeros((1, 2)))


def test_combine_weights_what_is_normalised():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 4))
    got = slim.combine(np.stack((3 + a, 100 * b)), (1.0, 0.5), 1e-6)
    np.testing.assert_allclose(got, (a - a.mean()) / a.std() + 0.5 * (b - b.mean()) / b.std())


def test_merge_by_hand():
    terms = np.array([[[1.0, 2.0, -1.0]]])
    np.testing.assert_allclose(slim.merge(terms, (1, 1, 0.5)), [[[2.5]]])
    np.testing.assert_allclose(slim.merge(terms, (2, 0.5, 4)), [[[-1.0]]])


def test_each_critic_has_its_own_gae():
    """The combined advantage of a rollout is what ppo.gae gives for each reward, normalised and weighted."""
    env = pushing.make_env("kit/PlanarPush-v0", 16, max_steps=20)
    agent = slim.MultiCritic(12, -np.ones(2), np.ones(2), TINY, torch.Generator().manual_seed(0))
    seen = []
    original = ppo.gae
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo, "gae", lambda *a: seen.append((a[0].copy(), original(*a))) or seen[-1][1])
        rollout = slim.Collector(env, 0).collect(agent, TINY)
    terms = rollout["terms"].reshape(32, 16, 3).numpy()
    for k, (rewards, _) in enumerate(seen):
        np.testing.assert_array_equal(rewards, terms[..., k])
    expected = sum(w * (a - a.mean()) / a.std() for w, (_, a) in zip(TINY.weights, seen, strict=True) if a.std() > 0)
    np.testing.assert_allclose(rollout["advantages"].numpy(), expected.ravel(), atol=1e-5)


def test_new_units_keep_what_the_critics_say():
    agent = slim.MultiCritic(12, -np.ones(2), np.ones(2), TINY, torch.Generator().manual_seed(0))
    obs = torch.randn(50, 12, generator=torch.Generator().manual_seed(1))
    agent.rescale(torch.ones(4, 3), 1e-6)
    for critic in agent.critics.values():
        torch.nn.init.normal_(critic[-1].weight, generator=torch.Generator().manual_seed(2))
    before = agent.value(obs)
    assert before.std(dim=0).min() > 0.1
    agent.rescale(torch.tensor([[500.0, 0.01, 0.0]]), 1e-6)
    torch.testing.assert_close(agent.value(obs), before, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(agent.scale, torch.tensor([50.9, 0.901, 1.0]))


# ---- skills as tasks ---------------------------------------------------------------------------------------------


def test_rewards_by_hand():
    """A skill to the right; the tip moves, does not touch, comes nearer; then it pushes."""
    task = pushing.SkillTask(make_task("kit/PlanarPush-v0"))
    given = {"puck": [[0.05, 0.3]], "goal": [[-0.1, 0.3]], "tip": [[-0.05, 0.3]], "skill": [[1.0, 0.0]]}
    task.reset(np.array([0]), {k: np.array(v) for k, v in given.items()}, [np.random.default_rng(0)])
    inner = task.task

    def move(tip, speed):
        def step(actions):
            from kit.envs.planar_push import push

            inner.tip, inner.speed = np.array([tip]), np.array([speed])
            inner.puck = push(inner.puck, inner.tip)

        inner.step = step
        task.step(np.zeros((1, 2)))
        return [task.terms[name].item() for name in pushing.NAMES]

    np.testing.assert_allclose(move((-0.01, 0.3), 0.4), [0, 1, 0], atol=1e-12)  # 4 cm nearer: one radius
    np.testing.assert_allclose(move((0.03, 0.3), 0.6), [1, 0, -1], atol=1e-12)  # it pushed 4 cm, from touch to touch,
    np.testing.assert_allclose(task.travel, [[0.04, 0.0]], atol=1e-12)  # and was too fast


@pytest.mark.parametrize("env_id", ["kit/PlanarPush-v0", "kit/ArmPush-v0"])
def test_a_skill_task_hides_the_goal_and_shows_the_skill(env_id):
    env = pushing.make_env(env_id, 2)
    goals = np.array([[0.2, 0.35], [-0.2, 0.25]]) if "Planar" in env_id else np.array([[0.2, 0.1], [0.35, -0.1]])
    fixed = {"puck": (0.0, 0.3), "tip": (0.1, 0.4)} if "Planar" in env_id else {"cube": (0.25, 0.0)}
    seen = [env.reset(seed=[3, 3], options={"task": fixed | {"goal": g, "skill": (0.6, 0.8)}})[0][0] for g in goals]
    np.testing.assert_array_equal(*seen)
    np.testing.assert_allclose(seen[0][-2:], [0.6, 0.8], atol=1e-6)


@pytest.mark.parametrize("env_id", ["kit/PlanarPush-v0", "kit/ArmPush-v0"])
def test_the_view_reads_a_state_as_it_is(env_id):
    from kit.envs import batched

    env = batched(env_id, 4)
    env.reset(seed=0)
    for a in np.random.default_rng(0).uniform(-1, 1, (15, *env.action_space.shape)):
        env.step(a)
    view = pushing.view_of(env.task)
    state, goal = view.read(env.task.observe())
    np.testing.assert_allclose(state[:, :2], view.puck(env.task), atol=0.004)  # the SO-101's tool is 2 mm off its plane
    np.testing.assert_allclose(state[:, 2:], view.tool(env.task)[:, :2], atol=0.004)
    np.testing.assert_allclose(goal, env.task.goal, atol=0.004)


def test_a_batch_equals_single_environments():
    actions = np.random.default_rng(0).uniform(-1, 1, (15, 3, 2))
    batch = pushing.make_env("kit/PlanarPush-v0", 3, max_steps=6)
    history = [batch.reset(seed=4)[0], *(batch.step(a)[0] for a in actions)]
    for i in range(3):
        env = SingleEnv(pushing.SkillTask(make_task("kit/PlanarPush-v0"), max_steps=6))
        obs, _ = env.reset(seed=4 + i)
        np.testing.assert_array_equal(history[0][i], obs)
        for t, a in enumerate(actions):
            obs, _, terminated, truncated, _ = env.step(a[i])
            obs = env.reset()[0] if terminated or truncated else obs
            np.testing.assert_array_equal(history[t + 1][i], obs)


# ---- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skill", "message"),
    [
        ((1.0, 1.0), "skill 0 has norm 1.414; this policy takes norm 1"),
        ((0.0, 0.0), "norm 0; this policy takes norm 1"),
        ((1.0, 0.0, 0.0), r"'skill' has shape \(3,\)"),
        ((np.nan, 1.0), "'skill' is .*nan"),
    ],
)
def test_bad_skills_are_named_and_change_nothing(skill, message):
    env = pushing.make_env("kit/PlanarPush-v0", 1)
    obs, _ = env.reset(seed=0)
    for try_it in (lambda: env.reset(options={"task": {"skill": skill}}), lambda: env.set_task(skill=skill)):
        with pytest.raises(ValueError, match=message):
            try_it()
        np.testing.assert_array_equal(env.task.observe(), obs)


def test_bad_skills_to_play_are_named():
    env = pushing.make_env("kit/PlanarPush-v0", 4)
    with pytest.raises(ValueError, match="skill 0 has norm 2"):
        pushing.play(None, env, 2 * circle(4), seed=0)
    with pytest.raises(ValueError, match=r"shape \(4, 3\)"):
        pushing.play(None, env, np.ones((4, 3)), seed=0)


def test_other_bad_input():
    with pytest.raises(ValueError, match=r"critics is 'sum'.*multi, summed"):
        slim.Config(critics="sum")
    with pytest.raises(ValueError, match=r"weights is \(1.0, 1.0\)"):
        slim.Config(weights=(1.0, 1.0))
    with pytest.raises(ValueError, match=r"weights is .*-1"):
        slim.Config(weights=(1.0, 1.0, -1.0))
    with pytest.raises(ValueError, match=r"no skills for PointMaze; there are for PlanarPush, ArmPush"):
        pushing.make_env("kit/PointMaze-v0", 1)


# ---- training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("critics", slim.CRITICS)
def test_training_is_deterministic_and_seeds_differ(critics):
    def weights(seed: int) -> np.ndarray:
        env = pushing.make_env("kit/PlanarPush-v0", 16, max_steps=20)
        agent = kit.run(slim.train(env, replace(TINY, critics=critics, total_steps=1024), seed=seed))
        return agent.actor[0].weight.detach().numpy()

    np.testing.assert_array_equal(weights(0), weights(0))
    assert not np.array_equal(weights(0), weights(1))


def test_metrics_show_every_reward():
    env = pushing.make_env("kit/PlanarPush-v0", 16, max_steps=20)
    (metrics,) = itertools.islice(slim.train(env, TINY, seed=0), 1)
    assert set(pushing.NAMES) <= set(metrics) and {f"value_loss_{n}" for n in pushing.NAMES} <= set(metrics)
    assert metrics["safety"] < 0 and metrics.agent.names == pushing.NAMES


def test_it_works_on_the_arm():
    env = pushing.make_env("kit/ArmPush-v0", 8, max_steps=10)
    agent = kit.run(slim.train(env, replace(TINY, total_steps=512, n_steps=16), seed=0))
    assert agent.predict(env.reset(seed=0)[0])[0].shape == (8, 5)


def test_a_saved_policy_acts_as_the_agent(tmp_path):
    env = pushing.make_env("kit/PlanarPush-v0", 16, max_steps=20)
    agent = kit.run(slim.train(env, replace(TINY, total_steps=1024), seed=0))
    checkpoints.save(agent.policy(), tmp_path / "skills", env="kit/PlanarPush-v0")
    loaded = kit.load(tmp_path / "skills")
    assert isinstance(loaded, Policy)
    obs, _ = env.reset(seed=1)
    np.testing.assert_allclose(
        loaded.predict(obs, deterministic=True)[0], agent.predict(obs, deterministic=True)[0], atol=1e-6
    )
    with pytest.raises(ValueError, match=r"takes \(12,\)"):
        loaded.predict(obs[:, :-1])


def test_a_restored_agent_goes_on_identically():
    """Weights, units and Adam's moments are all there is to an agent."""
    env = pushing.make_env("kit/PlanarPush-v0", 16, max_steps=20)
    agent = kit.run(slim.train(env, replace(TINY, total_steps=1024), seed=0))
    twin = slim.MultiCritic(12, -np.ones(2), np.ones(2), TINY, torch.Generator().manual_seed(9))
    twin.load_state_dict(agent.state_dict())
    obs = torch.randn(20, 12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(twin.value(obs), agent.value(obs), rtol=0, atol=0)
    assert agent.scale.min() > 0, "units were learned, and restored"
    torch.testing.assert_close(twin.actor(obs), agent.actor(obs), rtol=0, atol=0)


def test_rollouts_count_cells_by_hand():
    """Cells of 4 cm around the start: one to the right, one up-right; a puck that stayed counts nothing."""
    travel = np.zeros((3, 2, 2))
    travel[1:, 0] = [[0.03, 0.0], [0.05, 0.03]]
    unsafe = np.array([[True, False], [False, False], [False, False]])
    running = np.array([[True, True], [True, True], [True, False]])
    played = pushing.Rollouts(circle(2), travel, unsafe, running)
    assert played.cells(0.04) == 2 and played.violations == pytest.approx(1 / 5)


def test_it_learns_to_push_where_it_is_told():
    """Random skills leave the puck; after a short training it goes along them."""
    test = pushing.make_env("kit/PlanarPush-v0", 64)
    skills = circle(64)
    cfg = slim.Config(total_steps=64_000)
    untrained = slim.MultiCritic(12, -np.ones(2), np.ones(2), cfg, torch.Generator().manual_seed(0))
    agent = kit.run(slim.train(pushing.make_env("kit/PlanarPush-v0", 64), cfg, seed=0))

    def along(policy) -> float:
        played = pushing.play(policy, test, skills, seed=99)
        return float((played.travel[-1] * skills).sum(axis=1).mean())

    assert along(untrained) < 0.01 and along(agent.policy()) > 0.02


def test_making_what_is_shipped(tmp_path, monkeypatch):
    monkeypatch.setitem(slim.RECIPES, "skills_planar", ("kit/PlanarPush-v0", replace(TINY, total_steps=512)))
    agent = kit.run(slim.make("skills_planar", seed=3, out=tmp_path / "skills"))
    loaded = kit.load(tmp_path / "skills")
    assert (loaded.card["env"], loaded.card["seed"], loaded.card["steps"]) == ("kit/PlanarPush-v0", 3, 512)
    obs = np.zeros((1, 12), np.float32)
    np.testing.assert_allclose(loaded.mean(obs), agent.policy().mean(obs))
    with pytest.raises(ValueError, match=r"'skills_leg'; there are skills_planar, skills_arm"):
        next(slim.make("skills_leg", seed=0, out=tmp_path))


def test_the_shipped_skills_push_where_they_are_told():
    policy, skills = kit.load("skills_planar"), circle(32)
    played = pushing.play(policy, pushing.make_env("kit/PlanarPush-v0", 32), skills, seed=3)
    along = (played.travel[-1] * skills).sum(axis=1)
    assert along.mean() > 0.2 and (along > 0).mean() > 0.8


def test_the_shipped_arm_skills_push_the_cube_safely():
    policy, skills = kit.load("skills_arm"), circle(24)
    played = pushing.play(policy, pushing.make_env("kit/ArmPush-v0", 24), skills, seed=3)
    along = (played.travel[-1] * skills).sum(axis=1)
    assert along.mean() > 0.03 and played.violations < 0.05
