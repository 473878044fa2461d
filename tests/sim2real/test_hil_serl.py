"""HIL-SERL: when the person takes over, what goes to which buffer, and that help is needed less and less."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kit.envs.env import SingleEnv
from kit.rl import sac
from kit.sim2real.people import hil_serl, peg
from kit.sim2real.people.hil_serl import Buffers, Config, Operator, Person

TINY = Config(steps=60, demos=1, starts=30, every=20, sac=replace(Config().sac, batch_size=16, hidden=(16, 16)))


def observe(x=0.0, z=10.0, theta=0.0, blocked=0.0) -> np.ndarray:
    """In mm and rad."""
    return np.array([x / 10, z / 10, theta * 10, 0, blocked, 0], np.float32)


# ---- the person -------------------------------------------------------------------------------------------------


def test_steps_left_by_hand():
    """At half speed 1 mm a step: 6 mm aside, then 15 + 15 mm down."""
    assert hil_serl.steps_left(np.array([6e-3, 15e-3, 0.05]), 0.5) == pytest.approx(6 + 30)
    assert hil_serl.steps_left(np.array([0, 0, 0.2]), 0.5) == pytest.approx(8 + 15)
    assert hil_serl.steps_left(np.array([0, -0.02, 0]), 0.5) == 0


def test_a_robot_as_fast_as_the_person_is_left_alone():
    person = Person(alpha=0.8, gamma=0.97)
    most = np.log(0.8) / np.log(0.97)  # 7.3 steps
    assert not hil_serl.falls_behind(20, 30, 10, person)
    assert not hil_serl.falls_behind(20 + most - 0.01, 30, 10, person)
    assert hil_serl.falls_behind(20 + most + 0.01, 30, 10, person)


def watched(observations, person=None) -> list[bool]:
    operator = Operator(person or Person(patience=4, hold=3), np.random.default_rng(0))
    return [operator.watch(o) for o in observations]


def test_the_person_takes_over_a_robot_that_goes_nowhere_and_gives_it_back():
    still = [observe(x=5)] * 18
    held = watched(still, Person(patience=4, hold=3, alpha=0.95))
    assert held == [False] * 4 + [True] * 3 + [False] * 4 + [True] * 6 + [False], "longer the second time"


def test_the_person_leaves_a_robot_alone_that_gets_on():
    assert not any(watched([observe(z=15 - i) for i in range(20)]))


def test_the_operator_finds_the_hole_by_feel_and_is_slower_than_the_robot_could_be():
    found = hil_serl.evaluate_person(Person(), seed=1, episodes=20)
    assert found["success"] >= 0.8 and 3 < found["cycle_s"] < 10
    sharp = hil_serl.evaluate_person(Person(sight_m=0, sight_rad=0, shake=0), seed=1, episodes=20)
    assert sharp["success"] == 1 and sharp["cycle_s"] < found["cycle_s"]


def test_the_operator_looks_again_after_the_edge():
    operator = Operator(Person(shake=0), np.random.default_rng(0))
    operator._seen = np.zeros(2)
    before = operator._seen
    down = operator.action(observe(z=2))
    assert down[1] == pytest.approx(-0.5), "aligned: down at half speed"
    up = operator.action(observe(z=0, blocked=-0.5))
    assert up[1] > 0 and not np.array_equal(before, operator._seen)


# ---- the buffers --------------------------------------------------------------------------------------------------


def row(value: float) -> dict[str, np.ndarray]:
    vectors = {"obs": np.full((1, 6), value), "next_obs": np.full((1, 6), value), "actions": np.zeros((1, 3))}
    return vectors | {"terminated": np.zeros(1), "reward": np.zeros(1)}


def test_an_intervention_goes_to_both_buffers():
    buffers = Buffers(6, 3, sac.Config())
    buffers.add(row(1), human=True, demo=True)
    buffers.add(row(2), human=False)
    buffers.add(row(3), human=True)
    own, human = buffers.own.rows(), buffers.human.rows()
    assert own["obs"][:, 0].tolist() == [2, 3] and own["by_human"].tolist() == [0, 1]
    assert human["obs"][:, 0].tolist() == [1, 3] and human["by_human"].tolist() == [1, 1]


def test_half_of_a_batch_is_human():
    buffers = Buffers(6, 3, sac.Config())
    buffers.add(row(1), human=True, demo=True)
    buffers.add(row(2), human=False)
    batch = buffers.sample(256, np.random.default_rng(0))
    assert (batch["obs"][:, 0] == 1).sum() == 128


def test_demonstrations_are_whole_episodes_or_so_many_transitions():
    cfg = Config()
    data = hil_serl.shown(cfg, 130, seed=0).rows()
    assert len(data["reward"]) == 130 and (data["by_human"] == 1).all()
    ends = np.flatnonzero(data["terminated"])
    assert len(ends) >= 1 and (data["reward"][ends] == 1).all() and data["reward"].sum() == len(ends)
    env, buffers = SingleEnv(peg.Peg()), Buffers(6, 3, cfg.sac)
    env.reset(seed=0)
    hil_serl.demonstrate(env, Operator(Person(), np.random.default_rng(0)), buffers, episodes=2)
    rows = buffers.human.rows()
    joined = np.abs(rows["obs"][1:] - rows["next_obs"][:-1]).max(axis=1) < 1e-6
    assert (~joined).sum() == 1 and len(buffers.own) == 0


# ---- training -----------------------------------------------------------------------------------------------------


def last(cfg: Config, seed: int):
    *_, metrics = hil_serl.train(cfg, seed=seed)
    return metrics


def test_training_is_deterministic_and_seeds_differ():
    one, again, other = last(TINY, 0), last(TINY, 0), last(TINY, 1)
    assert dict(one) == dict(again) and dict(one) != dict(other)
    assert torch.equal(one.agent.actor.weights[0], again.agent.actor.weights[0])


def test_every_step_is_accounted_for():
    metrics = last(TINY, 0)
    own, human = metrics.agent.buffers.own.rows(), metrics.agent.buffers.human.rows()
    assert metrics["steps"] == 60 == len(own["reward"])
    assert metrics["human_steps"] == len(human["reward"]) > own["by_human"].sum() > 0
    assert metrics["held"] == pytest.approx(own["by_human"].mean())


def test_without_a_person_nobody_takes_over():
    metrics = last(replace(TINY, interventions=False, demos=0), 0)
    assert metrics["held"] == 0 == metrics["human_steps"] and len(metrics.agent.buffers.own) == 60


def test_it_learns_with_the_person_beside():
    """The first two minutes; a whole run takes ten. Help becomes rarer, and episodes shorter."""
    small = replace(Config().sac, batch_size=64, hidden=(32, 32))
    seen = list(hil_serl.train(replace(Config(), steps=1200, sac=small), seed=0))
    early, late = seen[len(seen) // 2 - 1], seen[-1]
    assert late["held"] < early["held"] - 0.05
    assert late["cycle_s"] < early["cycle_s"] - 0.5 and late["success"] > early["success"]


def test_cloning_copies_the_person():
    cfg = Config(person=Person(sight_m=0, sight_rad=0, shake=0))
    data = hil_serl.shown(cfg, 300, seed=0)
    agent = hil_serl.clone(data, cfg.sac, seed=0, steps=600)
    rows = data.rows()
    error = np.square(agent.predict(rows["obs"], deterministic=True)[0] - rows["actions"]).mean()
    assert error < 0.25 * np.var(rows["actions"], axis=0).mean()
    with pytest.raises(ValueError, match="empty"):
        hil_serl.clone(Buffers(6, 3, cfg.sac).human, cfg.sac, seed=0, steps=1)


def test_evaluation_counts_a_failure_as_the_whole_time():
    class Still:
        def predict(self, obs, state=None, episode_start=None, deterministic=False):
            return np.zeros((len(obs), 3)), state

    found = hil_serl.evaluate(Still(), seed=0, episodes=3)
    assert found["success"] == 0 and np.isnan(found["cycle_s"]) and found["episode_s"] == 10.0
