"""ALP-GMM: its progress by brute force, its sampler and schedule, then that it teaches."""

from functools import partial

import numpy as np
import pytest
from gymnasium.spaces import Discrete
from teacher_contract import (
    CHOICES,
    SPACE,
    bad_feedback_changes_nothing,
    density_integrates_to_one,
    density_is_the_share_of_every_choice,
    goes_on_identically,
    late_and_lost_feedback,
    needs_a_space,
    play,
    seeds_differ_and_repeat,
    skill,
    text,
)

from kit.curricula import alp_gmm
from kit.curricula.alp_gmm import ALPGMM, Config
from kit.curricula.gmm import Mixture
from kit.curricula.loop import run
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback, RandomTeacher
from kit.curricula.worlds.cube import CubeWorld


def make(seed, **settings):
    return ALPGMM(SPACE, Config(**settings), seed=seed)


def brute_progress(points, returns, limit=None):
    """|r - r'| of every episode, r' of the nearest earlier one and of the latest among the nearest; 0 for six."""
    progress = []
    for i, (point, ret) in enumerate(zip(points, returns, strict=True)):
        earlier = range(max(0, i - limit) if limit else 0, i)
        if i <= 5:
            progress.append(0.0)
            continue
        _, nearest = min((sum((points[j] - point) ** 2), -j) for j in earlier)
        progress.append(abs(ret - returns[-nearest]))
    return progress


def test_progress_by_hand():
    points = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5], [0.5, 0.5]])
    returns = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.9])
    assert alp_gmm.absolute_learning_progress(np.array([0.9, 0.1]), 0.7, points, returns) == pytest.approx(0.6)
    assert alp_gmm.absolute_learning_progress(np.array([0.5, 0.5]), 0.7, points, returns) == pytest.approx(0.2), (
        "against the latest of the nearest, and absolute"
    )
    assert alp_gmm.absolute_learning_progress(np.array([0.9, 0.1]), 0.7, points[:5], returns[:5]) == 0


@pytest.mark.parametrize("limit", [None, 40])
@pytest.mark.parametrize("space", [SPACE, Space(x=Discrete(4), y=Discrete(3))])
def test_every_row_has_the_progress_that_brute_force_finds(space, limit):
    """With twelve discrete tasks most nearest neighbours are the same task, played many times."""
    teacher = ALPGMM(space, Config(fit_rate=300, history=limit), seed=0)
    rng, returns = np.random.default_rng(1), []
    points = play(teacher, 299, ret=lambda *_: returns.append(rng.normal()) or returns[-1])
    rows = np.array(teacher.rows)
    np.testing.assert_array_equal(rows[:, :-1], points)
    np.testing.assert_allclose(rows[:, -1], brute_progress(points, returns, limit), atol=1e-12)


def test_it_fits_the_last_tasks_every_so_many_and_tries_all_sizes(monkeypatch):
    fits, fit = [], alp_gmm.fit
    monkeypatch.setattr(alp_gmm, "fit", lambda rows, ks, rng: fits.append((rows, list(ks))) or fit(rows, ks, rng))
    teacher = make(0, fit_rate=50)
    points = play(teacher, 149)
    assert len(fits) == 2 and fits[0][1] == list(range(2, 11)), "the largest size is tried too"
    np.testing.assert_array_equal(fits[1][0][:, :2], points[50:100])
    assert len(teacher.rows) == 49


def test_a_patched_piece_is_used(monkeypatch):
    monkeypatch.setattr(alp_gmm, "absolute_learning_progress", lambda *_: 0.25)
    monkeypatch.setattr(alp_gmm, "sample", lambda mixture, n, rng: np.full((n, 2), 0.75))
    teacher = make(0, fit_rate=20, random_share=0.0)
    play(teacher, 20)
    assert teacher.mixture.means[:, -1] == pytest.approx(0.25)
    assert teacher.ask()[0].point.tolist() == [0.75, 0.75]


def test_components_are_drawn_by_their_mean_progress():
    means = np.array([[0.2, 0.2, 0.1], [0.8, 0.8, 0.3], [0.5, 0.5, -0.1]])
    mixture = Mixture(np.array([0.9, 0.05, 0.05]), means, np.tile(1e-4 * np.eye(3), (3, 1, 1)))
    drawn = alp_gmm.sample(mixture, 8000, np.random.default_rng(0))
    assert drawn.shape == (8000, 2)
    low, high = (drawn[:, 0] < 0.4).mean(), (drawn[:, 0] > 0.6).mean()
    assert low + high == 1 and low == pytest.approx(0.25, abs=0.015), "not by their weight in the mixture"


def test_a_fifth_of_tasks_stays_uniform_and_all_tasks_stay_in_the_cube():
    teacher = make(0)
    play(teacher, 250)
    spot = np.array([[1.1, 0.5, 0.5]])
    teacher.mixture = Mixture(np.ones(1), spot, np.diag([1e-6, 1e-6, 1e-6])[None])
    points = np.array([task.point for task in teacher.ask(8000)])
    uniform = points[:, 0] < 1
    assert uniform.mean() == pytest.approx(0.2, abs=0.02)
    assert points[uniform].mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.03)
    assert np.unique(points[~uniform, 0]).tolist() == [1.0]


def test_units_change_nothing():
    """Returns of another scale with their range, on tasks of another scale, give the same curriculum."""
    scaled = ALPGMM(SPACE, Config(return_range=(-100.0, 300.0)), seed=0)
    one = play(make(0), 600)
    two = play(scaled, 600, ret=lambda point, time: 400 * skill(point, time) - 100)
    np.testing.assert_allclose(one, two, atol=1e-9)


def test_density_is_that_of_the_tasks():
    teacher = make(0, fit_rate=100)
    assert (density_integrates_to_one(teacher) == 1).all()
    play(teacher, 400)
    density = density_integrates_to_one(teacher)
    assert density.max() > 2 and density.min() == pytest.approx(0.2, abs=0.2)
    points = np.array([task.point for task in teacher.ask(20_000)])
    inside = points[((points > 0) & (points < 1)).all(axis=1)]
    left = density.reshape(400, 400)[:, :200].mean() / 2
    assert (inside[:, 0] < 0.5).mean() == pytest.approx(left, abs=0.05)


def test_density_of_choices():
    teacher = ALPGMM(CHOICES, Config(fit_rate=100), seed=0)
    play(teacher, 300)
    density_is_the_share_of_every_choice(teacher)


def test_restore_goes_on_identically():
    goes_on_identically(make)
    goes_on_identically(partial(make, history=100, fit_rate=60))
    goes_on_identically(make, before=10, after=300)


def test_seed_0_is_a_seed():
    seeds_differ_and_repeat(make)


def test_feedback_may_be_bad_late_or_lost():
    bad_feedback_changes_nothing(make)
    late_and_lost_feedback(partial(make, fit_rate=100))


def test_it_needs_a_space():
    needs_a_space(ALPGMM())


def test_a_state_of_another_space_changes_nothing():
    teacher = make(0)
    play(teacher, 20)
    before = text(teacher.state_dict())
    with pytest.raises(ValueError, match="this state belongs to the space"):
        teacher.load_state_dict(ALPGMM(Space(z=Discrete(3)), seed=0).state_dict())
    assert text(teacher.state_dict()) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k_min": 5, "k_max": 4}, "k_min is 5, k_max 4"),
        ({"fit_rate": 9}, "fit_rate 9"),
        ({"random_share": 1.2}, "random_share is 1.2"),
        ({"history": 3}, "history is 3"),
        ({"return_range": (1.0, 1.0)}, "return_range is"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_it_masters_more_than_uniform_tasks():
    def mastered(teacher):
        world = CubeWorld()
        return [m["mastered"] for m in run(teacher(world.space, seed=0), world, 5_000, batch=5)][-1]

    assert mastered(ALPGMM) >= 0.03 > mastered(RandomTeacher)


def test_a_refit_in_the_middle_of_a_batch_uses_what_was_told_so_far():
    teacher = make(0, fit_rate=10)
    tasks = teacher.ask(15)
    teacher.tell(Feedback(task.id, float(i)) for i, task in enumerate(tasks))
    assert teacher.mixture is not None and len(teacher.rows) == 5
