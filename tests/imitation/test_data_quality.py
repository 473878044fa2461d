"""Data quality: every measure where its value is known, then the point mass and its expert."""

from __future__ import annotations

import numpy as np
import pytest

from kit.imitation import data_quality as dq
from kit.imitation.data_quality import World

# ---- demonstrations ---------------------------------------------------------------------------------------------


def test_balls_by_brute_force():
    points = np.random.default_rng(0).normal(size=(40, 2))
    expected = np.linalg.norm(points[:, None] - points, axis=2) <= 0.7
    np.testing.assert_array_equal(dq.balls(points, 0.7).toarray(), expected)


def test_ball_variance_by_brute_force():
    rng = np.random.default_rng(1)
    points, values = rng.normal(size=(50, 2)), 1e3 + rng.normal(size=(50, 3))
    near = np.linalg.norm(points[:, None] - points, axis=2) <= 0.6
    expected = [values[row].var(axis=0, ddof=1).sum() for row in near if row.sum() > 1]
    assert dq.ball_variance(points, values, 0.6) == pytest.approx(np.mean(expected), rel=1e-9)


def test_action_variance_is_that_of_the_expert_where_states_agree():
    """Two states, far apart: in one the expert is certain, in the other he goes left or right."""
    states = np.repeat([[0.0], [10.0]], 100, axis=0)
    actions = np.concatenate((np.full(100, 0.3), np.tile([-1.0, 1.0], 50)))[:, None]
    assert dq.action_variance(states, actions, 1.0) == pytest.approx((0 + 100 / 99) / 2)


def test_transition_diversity_is_the_systems_noise():
    rng = np.random.default_rng(2)
    states, actions = rng.integers(3, size=(3000, 2)) * 5.0, rng.integers(2, size=(3000, 1)) * 5.0
    after = states + actions + 0.2 * rng.normal(size=states.shape)
    assert dq.transition_diversity(states, actions, after, 0.5) == pytest.approx(2 * 0.2**2, rel=0.08)
    assert dq.transition_diversity(states, actions, states + actions, 0.5) == pytest.approx(0, abs=1e-12)


def test_state_similarity_of_clusters():
    """k clusters of n rows: n - 1 of the k n - 1 others are near."""
    states = np.repeat(np.arange(4.0)[:, None] * 10, 6, axis=0)
    assert dq.state_similarity(states, 1.0) == pytest.approx(5 / 23)
    assert dq.state_similarity(np.zeros((9, 2)), 0.1) == 1


# ---- generated rows, and rare decisions -------------------------------------------------------------------------


def test_memorisation_is_one_for_copies_and_a_half_for_new_draws():
    rng = np.random.default_rng(3)
    training, held_out, new = rng.normal(size=(3, 1500, 2))
    assert dq.memorisation(training[:500], training, held_out) == 1
    assert dq.memorisation(new, training, held_out) == pytest.approx(0.5, abs=0.03)
    assert dq.memorisation(new + 50, training, held_out) == 0
    assert dq.memorisation(training[:9], training, training) == 0.5, "ties count half"


def test_memorisation_by_brute_force():
    rng = np.random.default_rng(4)
    generated, training, held_out = rng.normal(size=(20, 2)), rng.normal(size=(30, 2)), rng.normal(size=(25, 2))
    own = np.linalg.norm(generated[:, None] - training, axis=2).min(axis=1)
    real = np.linalg.norm(held_out[:, None] - training, axis=2).min(axis=1)
    np.testing.assert_allclose(dq.nearest(generated, training), own)
    assert dq.memorisation(generated, training, held_out) == pytest.approx((own[:, None] < real).mean())


def test_frequency_averaged_score():
    assert dq.frequency_averaged_score([1, 2, 4, 8], [5.0] * 4, best=5.0) == pytest.approx(1)
    assert dq.frequency_averaged_score([1, 3], [1.0, 0.0]) == pytest.approx(0.5)
    assert dq.frequency_averaged_score([1, 2, 4], [1.0, 0.6, 0.2]) == pytest.approx((0.8 + 0.8) / 3)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: dq.state_similarity(np.zeros((3, 1)), 0.0), "radius is 0.0"),
        (lambda: dq.state_similarity(np.zeros((1, 1)), 1.0), "two are needed"),
        (lambda: dq.state_similarity(np.zeros(3), 1.0), r"points has shape \(3,\)"),
        (lambda: dq.state_similarity(np.array([[0.0], [np.nan]]), 1.0), "points holds nan"),
        (lambda: dq.action_variance(np.arange(3.0)[:, None], np.zeros((3, 1)), 0.1), "choose a larger radius"),
        (lambda: dq.frequency_averaged_score([1, 1], [0, 0]), "ascending"),
        (lambda: dq.frequency_averaged_score([1, 2], [0, 0], best=0.0), "best is 0.0"),
        (lambda: World(action_noise=-1.0), "noise is -1.0"),
        (lambda: World(below=1.5), "below is 1.5"),
        (lambda: World(transitions=5), "transitions is 5"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()


# ---- the point mass ---------------------------------------------------------------------------------------------


def test_the_expert_arrives_and_keeps_clear_of_the_pillar():
    assert dq.success(dq.expert, World(), 200, seed=0) == 1
    assert dq.success(dq.expert, World(system_noise=0.03), 200, seed=0) > 0.98
    assert dq.success(lambda s: dq.limit((dq.GOAL - s) / dq.STEP), World(), 200, seed=0) == 0, "straight hits it"
    assert dq.success(lambda s: dq.expert(s, below=True), World(), 200, seed=0) == 1
    states = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    np.testing.assert_array_equal(dq.expert(states, below=True)[:, 1], -dq.expert(states * [1, -1])[:, 1])
    assert np.linalg.norm(dq.expert(states), axis=1).max() <= 1 + 1e-9


@pytest.mark.parametrize("world", [World(), World(action_noise=0.6), World(system_noise=0.05)])
def test_demonstrations_hold_so_many_transitions_that_obey_the_world(world):
    data, again = dq.demonstrate(world, seed=0), dq.demonstrate(world, seed=0)
    np.testing.assert_array_equal(data.observations, again.observations)
    assert 0 <= world.transitions - len(data.steps) <= 1, "a rest of one step is no episode"
    s, a, after = data.observations[data.steps], data.actions[data.steps], data.observations[data.steps + 1]
    error = after - s - dq.STEP * a
    assert error.std() == pytest.approx(world.system_noise, rel=0.1, abs=1e-6)
    assert not (data.terminated & data.truncated).any()


def test_the_measures_tell_the_kinds_of_noise_apart():
    still, noisy, system = (
        dq.quality(dq.demonstrate(world, seed=0), 0.1)
        for world in (World(), World(action_noise=0.6), World(system_noise=0.03))
    )
    assert noisy["action_variance"] > 5 * max(still["action_variance"], system["action_variance"])
    assert system["transition_diversity"] == pytest.approx(2 * 0.03**2, rel=0.25)
    assert max(still["transition_diversity"], noisy["transition_diversity"]) < 0.02 * system["transition_diversity"]
    assert noisy["state_similarity"] < system["state_similarity"] < still["state_similarity"]


def test_an_expert_who_takes_both_sides_covers_more_and_contradicts_himself():
    one, both = (dq.quality(dq.demonstrate(World(below=share), seed=0), 0.1) for share in (0.0, 0.5))
    assert both["action_variance"] > 5 * one["action_variance"]
    assert both["state_similarity"] < one["state_similarity"]
