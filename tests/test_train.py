"""`kit train`: determinism, resuming, bad input, and the command line."""

import dataclasses
import json

import numpy as np
import pytest

import kit
from kit import runtime, train
from kit.__main__ import main
from kit.rl import sb3

SMALL = sb3.Config(total_steps=512, num_envs=4, n_steps=16, batch_size=32, n_epochs=2)


def weights(folder) -> dict[str, np.ndarray]:
    return kit.load(folder).weights


def test_training_is_deterministic(tmp_path):
    for name in ("a", "b"):
        kit.run(train.train("arm_reach", seed=3, out=tmp_path / name, config=SMALL))
    for k, v in weights(tmp_path / "a").items():
        np.testing.assert_array_equal(v, weights(tmp_path / "b")[k])
    kit.run(train.train("arm_reach", seed=4, out=tmp_path / "c", config=SMALL))
    assert not np.array_equal(weights(tmp_path / "a")["0.weight"], weights(tmp_path / "c")["0.weight"])


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    run = train.train("arm_reach", seed=0, out=tmp_path, config=SMALL)
    for metrics in run:
        if metrics["steps"] == 256:
            next(run)  # the update
            break
    before = {k: v.clone() for k, v in metrics.agent.policy.state_dict().items()}
    moments = metrics.agent.policy.optimizer.state_dict()["state"]
    run.close()
    assert json.loads((tmp_path / "policy.json").read_text())["steps"] == 256

    model = sb3.make(train.batched("kit/ArmReach-v0", 4), SMALL, seed=0)
    facts = {"name": "arm_reach", "seed": 0, "config": dataclasses.asdict(SMALL)}
    train.resume(model, tmp_path, facts)
    for k, v in model.policy.state_dict().items():
        np.testing.assert_array_equal(v.numpy(), before[k].numpy())
    for i, state in model.policy.optimizer.state_dict()["state"].items():
        for k, v in state.items():
            np.testing.assert_array_equal(v.numpy(), moments[i][k].numpy())

    steps = [m["steps"] for m in train.train("arm_reach", seed=0, out=tmp_path, config=SMALL)]
    assert steps[0] == 320 and steps[-1] == 512
    assert list(train.train("arm_reach", seed=0, out=tmp_path, config=SMALL)) == [], "finished: nothing left to do"


def test_a_folder_of_another_run_is_refused(tmp_path):
    kit.run(train.train("arm_reach", seed=0, out=tmp_path, config=SMALL))
    with pytest.raises(ValueError, match="another seed"):
        next(train.train("arm_reach", seed=1, out=tmp_path, config=SMALL))
    with pytest.raises(ValueError, match="another config"):
        next(train.train("arm_reach", seed=0, out=tmp_path, config=dataclasses.replace(SMALL, gamma=0.9)))
    blob = (tmp_path / "resume.safetensors").read_bytes()
    (tmp_path / "resume.safetensors").write_bytes(blob[:-1])
    with pytest.raises(ValueError, match="does not match"):
        next(train.train("arm_reach", seed=0, out=tmp_path, config=SMALL))


def test_bad_names_and_seeds():
    with pytest.raises(ValueError, match=r"'arm_dance'.*arm_reach"):
        next(train.train("arm_dance", seed=0))
    with pytest.raises(ValueError, match="held-out"):
        next(train.train("arm_reach", seed=train.HELD_OUT))


def test_command_line(tmp_path, capsys):
    assert main(["train"]) == 0 and "arm_push" in capsys.readouterr().out
    fields = ["--total-steps", "256", "--num-envs", "4", "--n-steps", "16", "--batch-size", "32"]
    assert main(["train", "arm_reach", "--seed", "2", "--out", str(tmp_path / "run"), *fields]) == 0
    assert "success 0" in capsys.readouterr().out
    card = kit.load(tmp_path / "run").card
    assert (card["steps"], card["seed"], card["config"]["total_steps"]) == (256, 2, 256)
    assert card["success"]["episodes"] == 200
    assert main(["train", "arm_reach"]) == 2 and "--out" in capsys.readouterr().err
    assert main(["train", "arm_dance", "--out", "x"]) == 2 and "arm_reach" in capsys.readouterr().err
    assert main(["bench"]) == 0 and "env_throughput" in capsys.readouterr().out
    assert main(["bench", "nothing"]) == 2


def test_skills_are_made_by_their_own_modules(tmp_path, monkeypatch, capsys):
    from kit.skills import slim

    small = dataclasses.replace(slim.Config(), total_steps=512, num_envs=4, n_steps=16, batch_size=32, hidden=(8, 8))
    monkeypatch.setitem(slim.RECIPES, "skills_planar", ("kit/PlanarPush-v0", small))
    out = tmp_path / "skills"
    assert main(["train", "skills_planar", "--seed", "3", "--out", str(out)]) == 0
    assert kit.load(out).card["seed"] == 3 and "saved in" in capsys.readouterr().out
    assert main(["train", "skills_planar", "--out", str(out)]) == 2
    assert "holds a checkpoint already" in capsys.readouterr().err
    assert main(["train", "skills_planar", "--out", str(tmp_path / "b"), "--config.gamma", "0.9"]) == 2
    assert "takes --seed and --out FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("name", train.MODULES)
def test_what_modules_make_ships_and_is_small(name):
    folder = runtime.asset_root() / "checkpoints" / name
    assert kit.load(name).card["name"] == name
    assert sum(f.stat().st_size for f in folder.iterdir()) < 3_000_000
