import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

import kit  # noqa: F401  (registers the environments)
from kit.curricula.space import Space

MIXED = Space(height=Box(0.0, 0.4, (1,)), count=Discrete(5, start=2), walls=MultiBinary((2, 2)))


def test_decode_and_encode_are_inverse_on_a_mixed_space():
    points = MIXED.sample(np.random.default_rng(0), 200)
    tasks = MIXED.decode(points)
    np.testing.assert_allclose(MIXED.encode(tasks), points, atol=1e-12)
    assert {t["count"] for t in tasks} == {2, 3, 4, 5, 6}
    assert all(t["walls"].shape == (2, 2) and 0 <= t["height"][0] <= 0.4 for t in tasks)


def test_scaling_by_hand():
    point = np.array([[0.25, 0.99, 0.0, 1.0, 0.5, 0.49]])
    task = MIXED.decode(point)[0]
    assert task["height"][0] == pytest.approx(0.1)
    assert task["count"] == 6
    assert task["walls"].tolist() == [[0, 1], [1, 0]]
    assert MIXED.snap(point)[0].tolist() == [0.25, 0.9, 0.25, 0.75, 0.75, 0.25]


def test_choices_are_drawn_evenly():
    points = Space(k=Discrete(4)).sample(np.random.default_rng(1), 40_000)
    counts = np.bincount(np.floor(points[:, 0] * 4).astype(int), minlength=4)
    assert np.abs(counts - 10_000).max() < 4 * np.sqrt(40_000 * 0.25 * 0.75)  # four standard deviations


def test_a_discrete_space_lists_its_tasks():
    space = Space(a=Discrete(2), b=MultiDiscrete([3, 2]))
    assert space.count == 12 and len({tuple(p) for p in space.points()}) == 12
    tasks = space.decode(space.points())
    assert tasks[0]["a"] == 0 and tasks[-1]["a"] == 1 and tasks[-1]["b"].tolist() == [2, 1]
    with pytest.raises(ValueError, match="'height' is continuous"):
        _ = MIXED.count


def test_a_large_discrete_space_counts_without_overflow():
    assert Space(walls=MultiBinary(100)).count == 2**100


def test_the_space_of_an_environment_has_its_fields_and_limits():
    env = gym.make("kit/PointMaze-v0")
    space = Space.of(env)
    task = space.decode(np.full((1, 4), 0.5))[0]
    assert set(task) == {"start", "goal"} and task["goal"].shape == (2,)
    assert space.spec() == Space.of(gym.make_vec("kit/PointMaze-v0", num_envs=3)).spec()


def test_the_spec_survives_json_and_tells_spaces_apart():
    assert json.loads(json.dumps(MIXED.spec())) == MIXED.spec()
    assert MIXED.spec() != Space(height=Box(0.0, 0.5, (1,)), count=Discrete(5, start=2), walls=MultiBinary(4)).spec()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "at least one field"),
        ({"x": Box(np.array([1.0]), np.array([1.0]))}, "each low must be below its high"),
        ({"x": Box(-np.inf, 1, (1,))}, "must be finite"),
        ({"x": Box(0, 1, (0,))}, "not empty"),
        ({"x": Dict()}, "is a Dict"),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        Space(**fields)


def test_bad_points_and_tasks():
    with pytest.raises(ValueError, match="6 coordinates"):
        MIXED.snap(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"coordinate 1 of point 0 is nan"):
        MIXED.decode([[0, np.nan, 0, 0, 0, 0]])
    good = MIXED.decode(np.zeros((1, 6)))[0]
    with pytest.raises(ValueError, match="fields height, count, walls"):
        MIXED.encode([{"height": 0.1}])
    with pytest.raises(ValueError, match=r"coordinate 0 of the task is 0\.5; its limits are 0\.0 to 0\.4"):
        MIXED.encode([good | {"height": [0.5]}])
    with pytest.raises(ValueError, match="'walls' has 3 values; expected 4"):
        MIXED.encode([good | {"walls": [0, 1, 0]}])
