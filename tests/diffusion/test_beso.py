"""BESO: what the transformer sees, what acting costs, and that batches, resuming and saving change nothing."""

import dataclasses
import json
from collections import deque
from unittest.mock import patch

import numpy as np
import pytest
import torch

from kit import checkpoints
from kit.data import Episodes
from kit.diffusion import beso, goal_policy, goals
from kit.diffusion.fit import FitConfig
from kit.diffusion.samplers import METHODS, Counter

SMALL = beso.Config(window=3, goal="word", hindsight="final", width=16, layers=2, heads=2, fit=FitConfig(steps=6))
WORDS = np.eye(3, dtype=np.float32)


def fork(n=30, steps=8, seed=0):
    """From the origin straight to one of three ends, with a goal that says which: observations and actions (.., 2)."""
    rng = np.random.default_rng(seed)
    which = np.resize(np.arange(3), n)
    actions = np.stack([1 + 0.1 * rng.normal(size=(n, steps)), np.repeat(which[:, None] - 1.0, steps, axis=1)], axis=2)
    observations = np.concatenate((np.zeros((n, 1, 2)), np.cumsum(actions, axis=1)), axis=1)
    observations += 0.01 * rng.normal(size=observations.shape)
    return Episodes.stack(observations, actions, np.repeat(WORDS[which][:, None], steps + 1, axis=1))


def untrained(cfg=SMALL, seed=0):
    agent = beso.Learner(fork(), cfg, seed=seed).agent
    with torch.no_grad():
        agent.net.out.weight.mul_(3)  # so that everything that comes in is seen in what comes out
    return agent


def states(n=4, seed=1):
    return np.random.default_rng(seed).uniform(-1, 8, (n, 2)).astype(np.float32)


def seen(agent, n, seed=2):
    """A condition and noisy actions as the network gets them."""
    g = torch.Generator().manual_seed(seed)
    k = agent.cfg.window
    free = torch.zeros(n, dtype=torch.bool)
    words = torch.from_numpy(WORDS[np.resize(np.arange(3), n)])
    return torch.randn(n, k, 2, generator=g), {
        "obs": torch.randn(n, k, 2, generator=g), "goal": words, "free": free}  # fmt: skip


# ---- what the network sees ----------------------------------------------------------------------------------------


def test_tokens_are_sigma_goal_then_states_and_actions_by_turns():
    mark = lambda first, n: torch.arange(first, first + n, dtype=torch.float32)[None, :, None]  # noqa: E731
    tokens = beso.interleave(mark(0, 1)[:, 0], mark(10, 2), mark(20, 3), mark(30, 3))
    assert tokens[0, :, 0].tolist() == [0, 10, 11, 20, 30, 21, 31, 22, 32]
    assert beso.action_tokens(tokens, 3)[0, :, 0].tolist() == [30, 31, 32]


def test_an_action_sees_its_state_and_what_came_before_but_nothing_later():
    agent = untrained()
    x, cond = seen(agent, 2)
    before = agent.net(x, torch.zeros(2), cond)
    for name, slot in (("obs", 0), ("x", 0), ("obs", 1), ("x", 2)):
        moved, other = x.clone(), {k: v.clone() for k, v in cond.items()}
        (moved if name == "x" else other["obs"])[:, slot] += 1
        after = agent.net(moved, torch.zeros(2), other)
        assert ((after - before).abs().amax(dim=(0, 2)) > 1e-6).tolist() == [s >= slot for s in range(3)]
    assert ((agent.net(x, torch.ones(2), cond) - before).abs().amax(dim=2) > 1e-6).all()  # sigma reaches all


def test_the_goal_is_lost_by_whole_samples():
    agent = untrained()
    x, cond = seen(agent, 6)
    free = torch.tensor([True, False] * 3)
    some = agent.net(x, torch.zeros(6), cond | {"free": free})
    none = agent.net(x, torch.zeros(6), goal_policy.without_goal(cond))
    full = agent.net(x, torch.zeros(6), cond)
    assert torch.allclose(some[free], none[free], atol=1e-6) and torch.allclose(some[~free], full[~free], atol=1e-6)
    other = cond | {"goal": cond["goal"].roll(1, dims=0), "free": free}
    moved = (agent.net(x, torch.zeros(6), other) - some).abs().amax(dim=(1, 2))
    assert (moved[free] < 1e-6).all() and (moved[~free] > 1e-4).all()


def test_the_loss_drops_whole_samples_at_the_share_asked_for_and_trains_the_null_token():
    learner, asked = beso.Learner(fork(), dataclasses.replace(SMALL, goal_dropout=0.25), seed=0), []

    def note(n, share, generator):
        asked.append((n, share))
        return goals.whole(n, share, generator)

    with patch.object(beso, "whole", note):
        learner.loss(64, np.random.default_rng(0), torch.Generator().manual_seed(0)).backward()
    assert asked == [(64, 0.25)] and learner.fit.network.goal.null.grad.abs().sum() > 0


def test_training_windows_lie_inside_their_episodes():
    learner = beso.Learner(fork(), SMALL, seed=0)
    with patch.object(learner.windows, "at", wraps=learner.windows.at) as at:
        learner.loss(500, np.random.default_rng(0), torch.Generator().manual_seed(0))
    rows = at.call_args.args[0]
    place = rows - learner.windows.first[rows]
    assert place.min() == SMALL.window - 1 and place.max() == 7 and learner.windows.at(rows).real.all()


def test_the_loss_is_edm_s():
    learner = beso.Learner(fork(), SMALL, seed=0)
    with patch.object(learner.denoiser, "net", lambda x, time, cond: torch.zeros_like(x)):
        levels = torch.full((4,), 0.5)
        with patch.object(beso, "log_logistic", lambda n, *args, **kwargs: levels[:n]):
            found = learner.loss(4, np.random.default_rng(0), torch.Generator().manual_seed(0)).item()
            rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
            with patch.object(learner.denoiser, "loss", side_effect=lambda *a: a[0]) as called:
                learner.loss(4, rng, generator)
    clean, sigma, noise, _ = called.call_args.args
    # F = 0 and sigma = sd: D = x / 2, w = 2 / sd^2
    assert found == pytest.approx((8 * ((clean + 0.5 * noise) / 2 - clean) ** 2).mean().item(), rel=1e-5)
    assert torch.equal(sigma, levels)


# ---- the window ---------------------------------------------------------------------------------------------------


def test_a_full_window_loses_its_oldest_row():
    window = np.arange(6.0).reshape(2, 3, 1)
    slid = goal_policy.slide(window, np.array([3, 2]))
    assert slid[0, :2, 0].tolist() == [1, 2] and slid[1, :, 0].tolist() == [3, 4, 5]


def test_sampling_starts_from_past_actions_and_noise_in_the_present_slot():
    past = torch.arange(1.0, 7).reshape(2, 3, 1)
    x = goal_policy.lay(past, torch.tensor([0, 2]), torch.tensor([[0.5], [-0.5]]), 2.0)
    assert x[:, :, 0].tolist() == [[1.0, 0, 0], [4, 5, -1]]


def test_acting_keeps_states_and_denoised_actions():
    agent, state, acted, shown = untrained().ask(WORDS[0]), None, [], []
    for t in range(5):
        obs = states(2, seed=t)
        action, state = agent.predict(obs, state)
        acted.append(agent.scalers["action"].scale(action))
        shown.append(agent.scalers["obs"].scale(obs))
        window, actions, filled = state
        n = min(t + 1, 3)
        assert filled.tolist() == [n, n]
        assert np.allclose(window[:, :n], np.stack(shown[-n:], axis=1))
        assert np.allclose(actions[:, :n], np.stack(acted[-n:], axis=1), atol=1e-6)


def test_earlier_slots_hold_past_actions_when_the_next_is_drawn():
    agent, given = untrained().ask(WORDS[0]).using(seed=3), []
    agent.denoiser = Counter(agent.denoiser)
    inner = agent.denoiser.denoiser
    agent.denoiser.denoiser = lambda x, sigma, cond: given.append((x.clone(), cond)) or inner(x, sigma, cond)
    first, state = agent.predict(states(2))
    agent.predict(states(2, seed=2), state)
    x, cond = given[3]  # the first call of the second step, both branches
    assert np.allclose(x[:2, 0], agent.scalers["action"].scale(first), atol=1e-6)
    assert np.allclose(cond["obs"][:2, 0], agent.scalers["obs"].scale(states(2)), atol=1e-6)
    noise = np.random.default_rng(3).standard_normal((4, 2), dtype=np.float32)[2:]
    assert np.allclose(x[:2, 1], noise, atol=1e-6) and (x[:2, 2] == 0).all()


def test_rows_of_a_batch_restart_alone():
    agent = untrained().ask(WORDS[1])
    _, state = agent.predict(states(3))
    _, state = agent.predict(states(3, seed=2), state)
    again, new = agent.predict(states(3, seed=3), state, np.array([False, True, False]), deterministic=True)
    going, old = agent.predict(states(3, seed=3), state, np.zeros(3, bool), deterministic=True)
    fresh, _ = agent.predict(states(3, seed=3), deterministic=True)
    assert np.allclose(again[1], fresh[1], atol=1e-5) and np.allclose(again[[0, 2]], going[[0, 2]], atol=1e-5)
    assert np.abs(again[1] - going[1]).max() > 1e-4
    assert new[2].tolist() == [3, 1, 3] and old[2].tolist() == [3, 3, 3]


def test_a_state_is_not_changed_by_acting_on_it():
    agent = untrained().ask(WORDS[1])
    _, state = agent.predict(states(3))
    kept = tuple(x.copy() for x in state)
    agent.predict(states(3, seed=2), state, np.array([True, False, False]))
    assert all(np.array_equal(a, b) for a, b in zip(state, kept, strict=True))


def test_a_row_acts_as_it_would_alone():
    agent, obs = untrained().ask(WORDS[2]), states(1)
    alone, _ = agent.predict(obs[0], deterministic=True)
    batch, _ = agent.predict(np.concatenate((obs, states(5, seed=4))), deterministic=True)
    assert alone.shape == (2,) and np.allclose(batch[0], alone, atol=1e-5)


# ---- goals and guidance -------------------------------------------------------------------------------------------


def calls(agent, n=4):
    agent.denoiser = Counter(agent.denoiser)
    action, _ = agent.predict(states(n), deterministic=True)
    return action, (agent.denoiser.calls, agent.denoiser.rows)


@pytest.mark.parametrize(("guidance", "rows"), [(0, 4), (1, 4), (2, 8), (0.5, 8)])
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_each_level_costs_one_call_and_guidance_twice_the_rows(guidance, rows, steps):
    _, cost = calls(untrained().ask(WORDS[0]).using(guidance=guidance, steps=steps))
    assert cost == (steps, steps * rows)


def test_no_guidance_is_no_goal_and_guidance_one_is_the_goal_alone():
    agent = untrained()
    nothing, cost = calls(agent.ask(None))
    assert cost == (3, 12)
    assert np.array_equal(nothing, calls(agent.ask(WORDS[0]).using(guidance=0))[0])
    asked = [calls(agent.ask(WORDS[0]).using(guidance=g))[0] for g in (1, 1 + 1e-9, 2)]
    assert np.allclose(asked[0], asked[1], atol=1e-5)
    assert np.abs(asked[0] - nothing).max() > 1e-4 and np.abs(asked[0] - asked[2]).max() > 1e-4


def test_a_goal_in_the_observation_is_the_goal_asked_for():
    agent, rows = untrained(), WORDS[[2, 0, 1, 1]]
    observed, _ = agent.predict(np.concatenate((states(4), rows), axis=1), deterministic=True)
    asked, _ = agent.ask(rows).predict(states(4), deterministic=True)
    assert np.array_equal(observed, asked)
    assert agent.obs_dim == 5 and agent.ask(rows).obs_dim == agent.ask(None).obs_dim == 2
    assert np.abs(agent.ask(rows[::-1].copy()).predict(states(4), deterministic=True)[0] - asked).max() > 1e-4


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_sampler_acts(method):
    agent = untrained().ask(WORDS[0]).using(method=method, steps=4, seed=1)
    action, _ = agent.predict(states(3))
    same, _ = agent.using(seed=1).predict(states(3))
    assert np.isfinite(action).all() and np.array_equal(action, same)


def test_state_goals_and_paths_are_scaled_and_drawn_in_hindsight():
    for kind, shape in (("state", (3,)), ("path", (5, 3))):
        cfg = dataclasses.replace(SMALL, goal=kind, hindsight="geometric", path_points=5)
        agent = deque(beso.train(fork(), cfg, seed=0), maxlen=1).pop().agent
        goal = np.full(shape, 0.5, np.float32)
        action, _ = agent.ask(goal).predict(states(2))
        assert action.shape == (2, 2) and torch.equal(agent.ask(goal).goal, torch.zeros(1, goal.size))


# ---- training -----------------------------------------------------------------------------------------------------


def weights(agent):
    return torch.cat([p.flatten() for p in agent.net.parameters()])


def test_the_same_seed_trains_the_same_network():
    one, two, other = (weights(deque(beso.train(fork(), SMALL, seed=s), maxlen=1).pop().agent) for s in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_training_resumes_as_if_it_had_not_stopped():
    through, first = (beso.Learner(fork(), SMALL, seed=0) for _ in range(2))
    for _ in range(6):
        through.fit.step()
    for _ in range(3):
        first.fit.step()
    second = beso.Learner(fork(), SMALL, seed=7)
    second.fit.load_state_dict(first.fit.state_dict())
    assert [m["step"] for m in second.fit.run(second.agent)] == [6]
    assert torch.equal(weights(second.agent), weights(through.agent))


def test_a_saved_policy_acts_the_same(tmp_path):
    agent = deque(beso.train(fork(), SMALL, seed=0), maxlen=1).pop().agent
    loaded = checkpoints.load(beso.save(agent, tmp_path / "fork", name="fork"))
    assert loaded.card["name"] == "fork" and loaded.cfg == agent.cfg
    for one, two in ((agent, loaded), (agent.ask(WORDS[1]).using(steps=5), loaded.ask(WORDS[1]).using(steps=5))):
        obs = states(4) if one.obs_dim == 2 else np.concatenate((states(4), WORDS[[0, 1, 2, 0]]), axis=1)
        assert np.array_equal(one.predict(obs, deterministic=True)[0], two.predict(obs, deterministic=True)[0])


def test_a_card_that_does_not_fit_its_tensors_is_a_damaged_checkpoint(tmp_path):
    folder = beso.save(beso.Learner(fork(), SMALL, seed=0).agent, tmp_path / "fork")
    card = json.loads((folder / "policy.json").read_text())
    for wrong in ({"goal_size": 4}, {"config": {"width": 16}}):
        (folder / "policy.json").write_text(json.dumps(card | wrong))
        with pytest.raises(checkpoints.DamagedCheckpoint, match="'fork' is not a whole beso policy"):
            checkpoints.load(folder)


def test_it_learns_to_go_where_it_is_asked():
    cfg = dataclasses.replace(SMALL, fit=FitConfig(steps=150, batch_size=64, learning_rate=3e-3, ema=0.98))
    agent = deque(beso.train(fork(), cfg, seed=0), maxlen=1).pop().agent
    asked = np.resize(np.arange(3), 60)
    end = {}
    for guidance in (0, 1):
        policy, here, state = (
            agent.ask(WORDS[asked]).using(guidance=guidance, seed=0),
            np.zeros((60, 2), np.float32),
            None,
        )
        for _ in range(8):
            action, state = policy.predict(here, state)
            here = here + action
        end[guidance] = np.clip(np.round(here[:, 1] / 8) + 1, 0, 2)
    assert (end[1] == asked).mean() > 0.9 and (end[0] == asked).mean() < 0.6
    assert len(np.unique(end[0])) == 3


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_levels_that_were_not_trained_are_refused():
    agent = untrained()
    for changed in ({"sigma_max": 80.0}, {"sigma_min": 0.01}):
        with pytest.raises(ValueError, match=r"was trained for, 0\.05 to 1"):
            agent.using(**changed)
    with pytest.raises(ValueError, match="unknown sampler 'euler2'"):
        agent.using(method="euler2")
    with pytest.raises(ValueError, match="unknown schedule 'cosine'"):
        agent.using(schedule="cosine")
    with pytest.raises(ValueError, match="at least 1 step"):
        agent.using(steps=0)
    assert agent.sampling == goal_policy.Sampling()


def test_a_goal_of_the_wrong_kind_is_refused():
    agent = untrained()
    with pytest.raises(ValueError, match="a word is one-hot"):
        agent.ask([0.2, 0.3, 0.5])
    with pytest.raises(ValueError, match=r"a word is \(B, 3\)"):
        agent.ask(np.ones(4))
    with pytest.raises(ValueError, match="a word is one-hot"):
        agent.predict(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="2 goals were asked for, and there are 4 observations"):
        agent.ask(WORDS[:2]).predict(states(4))


def test_observations_and_states_that_do_not_fit_are_refused():
    agent = untrained().ask(WORDS[0])
    with pytest.raises(ValueError, match=r"shape \(4, 3\); this policy takes \(2,\) or \(n, 2\)"):
        agent.predict(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="the observation is not finite"):
        agent.predict(np.array([0.0, np.nan]))
    _, state = agent.predict(states(4))
    with pytest.raises(ValueError, match="the state is that of 4 rows, and there are 3 observations"):
        agent.predict(states(3), state)


def test_data_and_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="fewer than the window's 9"):
        beso.Learner(fork(), dataclasses.replace(SMALL, window=9), seed=0)
    with pytest.raises(ValueError, match="no goals"):
        beso.Learner(dataclasses.replace(fork(), goals=None), SMALL, seed=0)
    with pytest.raises(ValueError, match="a word is one-hot"):
        learner = beso.Learner(fork().with_goals(), SMALL, seed=0)
        learner.loss(8, np.random.default_rng(0), torch.Generator())
    with pytest.raises(ValueError, match="goal is 'sketch'"):
        beso.Config(goal="sketch")
    with pytest.raises(ValueError, match="window 0"):
        beso.Config(window=0)
    with pytest.raises(ValueError, match="leaves what the network was trained for"):
        beso.Config(sigma_max=0.5)
