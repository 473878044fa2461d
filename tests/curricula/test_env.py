import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv

import kit  # noqa: F401
from kit.curricula.env import CurriculumEnv
from kit.curricula.evaluate import Report, cvar, evaluate, held_out
from kit.curricula.sb3 import TeacherCallback, scores
from kit.curricula.space import Space
from kit.curricula.teacher import Feedback, RandomTeacher
from kit.rl.sb3 import BatchVecEnv

SHORT = {"max_steps": 12}


class OpenCells(RandomTeacher):
    """Uniform over starts and goals in the free cells of the maze; remembers what it was told."""

    needs = frozenset({"ret"})
    free = ((1, 1), (1, 2), (2, 2), (5, 6), (6, 6))  # row, column

    def start(self):
        self.told: list[Feedback] = []

    def propose(self, n):
        cells = np.array(self.free)[self.rng.integers(len(self.free), size=(n, 2))]
        xy = 4.0 * (cells[..., ::-1] - 1.0)
        return self.space.encode([{"start": a, "goal": b} for a, b in xy])

    def learn(self, point, feedback, note):
        self.told.append(feedback)


def maze(n=None):
    return gym.make("kit/PointMaze-v0", **SHORT) if n is None else gym.make_vec("kit/PointMaze-v0", num_envs=n, **SHORT)


def test_a_single_environment_runs_the_teachers_tasks_and_tells_their_returns():
    teacher = OpenCells(seed=0)
    env = CurriculumEnv(maze(), teacher)
    for episode in range(6):
        obs, info = env.reset(seed=episode)
        assert info["task_id"] == env.task.id
        np.testing.assert_allclose(obs[2:], env.task.values["goal"], atol=1e-5)
        total, done = 0.0, False
        while not done:
            _, reward, terminated, truncated, info = env.step(env.action_space.sample())
            total, done = total + reward, terminated or truncated
        assert teacher.told[-1].task_id == info["task_id"] and teacher.told[-1].ret == total
    assert [fb.task_id for fb in teacher.told] == list(range(6))


def test_a_seed_is_never_a_task():
    tasks = []
    for seed in (0, 1):
        env = CurriculumEnv(maze(), OpenCells(seed=0))
        env.reset(seed=seed)
        tasks.append(env.task.point)
    assert np.array_equal(*tasks)


def test_an_abandoned_episode_is_dropped_and_an_own_task_is_nobodys():
    teacher = OpenCells(seed=0)
    env = CurriculumEnv(maze(), teacher)
    env.reset(seed=0)
    env.reset()
    assert [o["id"] for o in teacher.state_dict()["open"]] == [1]
    _, info = env.reset(options={"task": {"start": (0.0, 0.0), "goal": (4.0, 0.0)}})
    assert info["task_id"] == -1 and teacher.state_dict()["open"] == []
    for _ in range(SHORT["max_steps"]):
        env.step(np.zeros(2, np.float32))
    assert teacher.told == []


def test_a_batch_runs_the_teachers_tasks_and_tells_their_returns():
    teacher = OpenCells(seed=0)
    envs = CurriculumEnv(maze(4), teacher)
    _, info = envs.reset(seed=0)
    assert info["task_id"].tolist() == [0, 1, 2, 3]
    rng, returns, expected = np.random.default_rng(0), np.zeros(4), {}
    for _ in range(60):
        _, reward, terminated, truncated, info = envs.step(rng.uniform(-1, 1, (4, 2)))
        returns += reward
        for i in np.flatnonzero(terminated | truncated):
            expected[int(info["final_info"]["task_id"][i])] = returns[i]
            returns[i] = 0
    assert len(teacher.told) >= 16
    assert {fb.task_id: fb.ret for fb in teacher.told} == expected
    assert len(teacher.state_dict()["open"]) == 4  # only the running ones


def test_a_masked_reset_drops_only_the_tasks_it_ends():
    teacher = OpenCells(seed=0)
    envs = CurriculumEnv(maze(3), teacher)
    envs.reset(seed=0)
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    assert sorted(o["id"] for o in teacher.state_dict()["open"]) == [0, 2, 3]


def test_a_teacher_of_another_space_is_refused():
    with pytest.raises(ValueError, match="the teacher's space is"):
        CurriculumEnv(maze(), RandomTeacher(Space(x=Box(0, 1, (4,))), seed=0))


# ---- Stable-Baselines3 ---------------------------------------------------------------------------------------------


def test_scores_by_hand():
    # gamma 0.5, lambda 1: A_t is the discounted return minus the value
    found = scores(np.array([0.0, 1.0]), np.array([1.0, 0.2]), last_value=0.0, gamma=0.5, lam=1.0)
    assert found == pytest.approx({"value": 1.0, "mean_value": 0.6, "pvl": 0.4, "abs_advantage": (0.5 + 0.8) / 2})
    cut = scores(np.array([0.0, 1.0]), np.array([1.0, 0.2]), last_value=2.0, gamma=0.5, lam=1.0)
    assert cut["pvl"] == pytest.approx((0.0 + 1.8) / 2) and cut["abs_advantage"] == pytest.approx((0.0 + 1.8) / 2)


class WantsScores(OpenCells):
    needs = frozenset({"ret", "value", "mean_value", "pvl", "abs_advantage", "success", "length"})


@pytest.mark.parametrize("batched", [True, False])
def test_the_callback_scores_whole_episodes(batched):
    teacher = WantsScores(seed=0)
    if batched:
        envs = BatchVecEnv(CurriculumEnv(maze(4), teacher, tell=False))
    else:
        envs = DummyVecEnv([lambda: CurriculumEnv(maze(), teacher, tell=False)])
    model = PPO("MlpPolicy", envs, n_steps=25, batch_size=25, n_epochs=1, seed=0, device="cpu")  # 25 is not 12 or 24
    model.learn(200, callback=TeacherCallback(teacher))
    assert len(teacher.told) >= 12
    assert all(fb.length <= 12 and fb.ret in (0.0, 1.0) and fb.success == (fb.ret == 1.0) for fb in teacher.told)
    assert all(fb.abs_advantage >= fb.pvl >= 0 for fb in teacher.told)


def test_the_callback_drops_episodes_that_were_cut_short():
    teacher = WantsScores(seed=0)
    envs = BatchVecEnv(CurriculumEnv(maze(4), teacher, tell=False), stagger=True)
    model = PPO("MlpPolicy", envs, n_steps=24, batch_size=24, n_epochs=1, seed=0, device="cpu")
    model.learn(96, callback=TeacherCallback(teacher))
    assert all(fb.length == 12 or fb.success for fb in teacher.told)
    assert not any(fb.task_id in (1, 2, 3) and not fb.success for fb in teacher.told)  # staggered starts
    assert len(teacher.state_dict()["open"]) == 4


def test_an_off_policy_model_gives_returns():
    teacher = OpenCells(seed=0)
    envs = BatchVecEnv(CurriculumEnv(maze(2), teacher, tell=False))
    model = SAC("MlpPolicy", envs, learning_starts=1000, buffer_size=1000, seed=0, device="cpu")
    model.learn(100, callback=TeacherCallback(teacher))
    assert len(teacher.told) >= 8 and all(fb.value is None for fb in teacher.told)


# ---- evaluation ----------------------------------------------------------------------------------------------------


def test_cvar_by_hand():
    pick = np.array([0.9, 0.1, 0.5, 0.2])
    report = np.array([1.0, 0.6, 0.0, 0.8])
    assert cvar(pick, report, 0.5) == pytest.approx(0.7)  # levels 1 and 3
    assert cvar(pick, report, 0.25) == pytest.approx(0.6)
    assert cvar(pick, report, 0.01) == pytest.approx(0.6)  # at least one level
    assert cvar(pick, report, 1.0) == pytest.approx(report.mean())


def test_cvar_with_one_evaluation_takes_bad_luck_for_weakness():
    rng = np.random.default_rng(0)
    first, second = rng.binomial(10, 0.9, (2, 10_000)) / 10  # every level is equally hard
    assert cvar(first, second) == pytest.approx(0.9, abs=0.02)
    assert cvar(first, first) < 0.7


@pytest.mark.parametrize(
    ("pick", "report", "share", "message"),
    [
        ([0.1], [0.1, 0.2], 0.05, "shapes"),
        ([], [], 0.05, "shapes"),
        ([0.1, np.nan], [0.1, 0.2], 0.05, "not finite"),
        ([0.1, 0.2], [0.1, 0.2], 0.0, "share is 0.0"),
    ],
)
def test_cvar_of_bad_input(pick, report, share, message):
    with pytest.raises(ValueError, match=message):
        cvar(np.array(pick), np.array(report), share)


class Walks:
    """Straight to the goal."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.clip(5 * (observation[:, 2:] - observation[:, :2]), -1, 1), state


def test_evaluate_plays_each_task_twice_and_leaves_the_teacher_alone():
    teacher = OpenCells(seed=0)
    envs = CurriculumEnv(gym.make_vec("kit/PointMaze-v0", num_envs=2, max_steps=60), teacher)
    near = {"start": (0.0, 0.0), "goal": (4.0, 0.0)}  # the next cell, straight ahead
    far = {"start": (0.0, 0.0), "goal": (20.0, 20.0)}
    report = evaluate(Walks(), envs, [near, far, near], seed=0)
    assert isinstance(report, Report) and report.mastered.tolist() == [True, False, True]
    assert report.first.tolist() == report.second.tolist() == [1.0, 0.0, 1.0]
    assert report.share.value == pytest.approx(2 / 3) and report.worst == 0.0
    assert report.percentiles[50] == 1.0
    assert teacher.told == [] and envs.unwrapped.task_source is not None
    with pytest.raises(ValueError, match="no tasks"):
        evaluate(Walks(), envs, [], seed=0)


def test_held_out_tasks_are_fixed_by_their_seed():
    space = Space.of(maze())
    one, same, other = (held_out(space, 5, seed=s) for s in (0, 0, 1))
    assert all(np.array_equal(a["goal"], b["goal"]) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0]["goal"], other[0]["goal"])
