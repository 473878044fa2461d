"""The study's policies as checkpoints."""

import numpy as np
import pytest

import kit
from kit.rl import ppo
from kit.sim2real.transfer import study
from kit.sim2real.transfer.twin import NOMINAL

TINY = study.Config(ppo=ppo.Config(total_steps=512, n_steps=16, n_epochs=1), num_envs=16)


@pytest.mark.parametrize("name", ["naive", "history"])
def test_a_shipped_policy_is_the_one_that_was_trained(name, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "EPISODES", 8)
    policy = kit.load(study.ship(name, 3, tmp_path / "mine", TINY))
    *_, last = study.train(name, TINY, seed=3)
    env = study.make(name, TINY, 4, NOMINAL)
    obs, _ = env.reset(seed=0)
    found, wanted = (p.predict(obs, deterministic=True)[0] for p in (policy, last.agent))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    card = policy.card
    assert (card["name"], card["recipe"], card["seed"], card["steps"]) == ("mine", name, 3, 512)
    assert card["judged"] == pytest.approx(study.judge(name, last.agent, TINY, seed=3), abs=1e-3)
    assert card.get("env") == ("kit/ArmReach-v0" if name == "naive" else None)


def test_what_trains_nothing_is_not_shipped(tmp_path):
    with pytest.raises(ValueError, match="'ik' trains nothing"):
        study.ship("ik", 0, tmp_path, TINY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["reach_naive", "reach_latency"])
def test_shipped_policies_do_what_their_card_says(name):
    policy = kit.load(name)
    card = policy.card
    assert card["seed"] >= 1000  # not one of those on record
    found = study.judge(card["recipe"], policy, seed=card["seed"])
    assert found["twin"] == pytest.approx(card["judged"]["twin"], abs=0.03)
    assert found["nominal"] == pytest.approx(card["judged"]["nominal"], abs=0.03)
