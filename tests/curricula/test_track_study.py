import dataclasses

import numpy as np
import pytest

from kit import runtime
from kit.curricula import track_study
from kit.curricula.track_study import PPO, Config, feasible_share, held_out, master, mastered_often, train, uniform_in
from kit.envs.track import FEASIBLE

SMALL = Config(ppo=dataclasses.replace(PPO, total_steps=2_048, num_envs=16, n_steps=32, batch_size=256, n_epochs=1))


class DoesNothing:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.zeros((len(observation), 3), np.float32), state


@pytest.mark.parametrize("name", track_study.TEACHERS)
def test_every_teacher_trains_the_same_student(name):
    rows = list(train(name, SMALL, seed=0))
    assert rows[-1]["steps"] == 2_048 and rows[-1]["progress"] == 1
    assert all(0 <= row["feasible"] <= 1 for row in rows)


def test_a_run_repeats_from_its_seed():
    first, again, other = (list(train("alp_gmm", SMALL, seed=seed))[-1] for seed in (0, 0, 1))
    weights = [row.agent.policy.state_dict()["action_net.weight"].numpy() for row in (first, again, other)]
    assert np.array_equal(weights[0], weights[1]) and not np.array_equal(weights[0], weights[2])


def test_an_unknown_teacher():
    with pytest.raises(ValueError, match="no teacher is called 'oracel'; there are random"):
        track_study.make_teacher("oracel", 0)


def test_feasible_share_by_hand():
    stump, gap = FEASIBLE.values()
    tasks = {"stump": np.array([[0], [stump], [2 * stump], [stump]]), "gap": np.array([[0], [gap], [0], [2 * gap]])}
    assert feasible_share(tasks) == 0.5


def test_specialists_train_inside_their_part():
    box = {"stump": (0.7, 1.0), "gap": (0.0, 0.5)}
    tasks = uniform_in(box, np.random.default_rng(0))(np.arange(1000))
    for name, (low, high) in box.items():
        values = tasks[name] / FEASIBLE[name]
        assert values.shape == (1000, 1) and low <= values.min() < low + 0.02 and high - 0.02 < values.max() <= high


def test_held_out_tasks_are_possible_and_nobody_masters_them_by_standing_still():
    tasks = held_out()
    assert len(tasks) == track_study.TASKS and len({tuple(t.values()) for t in tasks}) == len(tasks)
    assert all(0 <= task[name] <= FEASIBLE[name] for task in tasks for name in FEASIBLE)
    report = master(DoesNothing(), tasks[:4])
    assert report.share.value == 0 and report.first.max() < 0.5
    assert mastered_often(DoesNothing(), tasks[:2]).tolist() == [0, 0]


def test_the_held_out_set_says_who_vouches_for_each_task():
    import json

    made = json.loads(runtime.asset("track", "held_out.json").read_text())
    assert len(made["specialist"]) == len(made["tasks"]) and set(made["specialist"]) <= set(
        range(len(made["mastered_by_each"]))
    )
    assert made["mastered_by_any"] >= track_study.TASKS and made["needed"] / made["tries"] > 0.5
