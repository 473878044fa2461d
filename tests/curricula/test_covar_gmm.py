"""Covar-GMM: what it fits and how it weighs, then that it teaches."""

from functools import partial

import numpy as np
import pytest
from teacher_contract import (
    SPACE,
    bad_feedback_changes_nothing,
    density_integrates_to_one,
    goes_on_identically,
    late_and_lost_feedback,
    needs_a_space,
    play,
    seeds_differ_and_repeat,
)

from kit.curricula import alp_gmm, covar_gmm
from kit.curricula.covar_gmm import Config, CovarGMM
from kit.curricula.gmm import Mixture
from kit.curricula.loop import run
from kit.curricula.worlds.cube import CubeWorld


def make(seed, **settings):
    return CovarGMM(SPACE, Config(**settings), seed=seed)


def two_components(first, second):
    """Components at 0.2 and 0.8 whose covariances of time and return are these."""
    covs = np.tile(0.01 * np.eye(4), (2, 1, 1))
    for cov, covariance in zip(covs, (first, second), strict=True):
        cov[2, 3] = cov[3, 2] = covariance
    return Mixture(np.ones(2) / 2, np.array([[0.2, 0.2, 0.5, 0.5], [0.8, 0.8, 0.5, 0.5]]), covs)


def test_rows_hold_task_time_in_the_window_and_return():
    teacher = make(0, fit_rate=50)
    points = play(teacher, 70, ret=lambda point, time: time / 10)
    np.testing.assert_allclose(np.array(teacher.rows), [[*points[50 + i], i / 50, (50 + i) / 10] for i in range(20)])


def test_components_are_weighed_by_the_covariance_of_time_and_return():
    mixture = two_components(0.002, -0.006)
    assert covar_gmm.component_weights(mixture).tolist() == [0.002, 0]
    assert covar_gmm.component_weights(mixture, absolute=True).tolist() == [0.002, 0.006]
    drawn = covar_gmm.sample(mixture, 4000, np.random.default_rng(0), absolute=True)
    assert drawn.shape == (4000, 2) and (drawn[:, 0] < 0.5).mean() == pytest.approx(0.25, abs=0.02)


def test_the_teacher_draws_where_returns_rise():
    """Two clusters of tasks: at one returns rise within the window, at the other they fall."""
    rng = np.random.default_rng(0)
    for absolute, share in ((False, 0.05), (True, 0.5)):
        teacher = make(0, fit_rate=100, random_share=0.0, k_max=3, absolute=absolute)
        teacher.propose = lambda n: np.array([[0.2, 0.2], [0.8, 0.8]])[rng.integers(2, size=n)] + rng.normal(0, 0.02, 2)
        play(teacher, 100, ret=lambda point, time: time / 100 if point[0] < 0.5 else 1 - time / 100)
        del teacher.propose
        falling = np.mean([task.point[0] > 0.5 for task in teacher.ask(2000)])
        assert falling == pytest.approx(share, abs=0.15)


def test_density_is_that_of_the_tasks():
    teacher = make(0, fit_rate=100)
    play(teacher, 300)
    density_integrates_to_one(teacher)
    teacher.mixture = two_components(0.003, 0.001)
    density = density_integrates_to_one(teacher).reshape(400, 400)
    share = 0.2 / 2 + 0.8 * 0.75
    assert density[:, :200].mean() / 2 == pytest.approx(share, abs=0.01)


def test_restore_goes_on_identically():
    goes_on_identically(make)
    goes_on_identically(partial(make, fit_rate=60, absolute=True))


def test_seed_0_is_a_seed():
    seeds_differ_and_repeat(make)


def test_feedback_may_be_bad_late_or_lost():
    bad_feedback_changes_nothing(make)
    late_and_lost_feedback(partial(make, fit_rate=100))


def test_it_needs_a_space():
    needs_a_space(CovarGMM())


def test_another_mixtures_state_is_refused():
    with pytest.raises(ValueError, match="state of a ALPGMM, not of a CovarGMM"):
        make(0).load_state_dict(alp_gmm.ALPGMM(SPACE, seed=0).state_dict())


def test_it_masters_more_than_uniform_tasks_can():
    world = CubeWorld()
    assert [m["mastered"] for m in run(CovarGMM(world.space, seed=0), world, 5_000, batch=5)][-1] >= 0.07
