"""All environments: the contracts of Gymnasium and SB3, batch against single, tasks, autoreset, bad input."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import kit  # noqa: F401  (registers the environments)
from kit.envs import TASKS, make_task
from kit.envs.physics import Randomize

IDS = list(TASKS)
EVERYTHING = Randomize(friction=(0.5, 2), damping=(0.5, 2), mass=(0.8, 1.2), gain=(0.8, 1.2), delay=(0.0, 0.05))


def actions_for(env_id: str, steps: int, n: int, seed: int = 0) -> np.ndarray:
    shape = make_task(env_id).action_space.shape
    return np.random.default_rng(seed).uniform(-1, 1, (steps, n, *shape))


@pytest.mark.parametrize("env_id", IDS)
def test_checkers_of_gymnasium_and_sb3(env_id):
    check_env(gym.make(env_id).unwrapped, skip_render_check=True)
    sb3_check_env(gym.make(env_id))


@pytest.mark.parametrize("env_id", IDS)
def test_specs_survive_json(env_id):
    spec = gym.envs.registration.EnvSpec.from_json(gym.spec(env_id).to_json())
    assert gym.make(spec).reset(seed=0)[0].shape == gym.make(env_id).observation_space.shape


@pytest.mark.parametrize("nthread", [1, 2])
@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("kit/ArmReach-v0", {}),
        ("kit/ArmReach-v0", {"randomize": EVERYTHING}),
        ("kit/ArmReach-v0", {"servo": "stiff", "randomize": Randomize(gain=(0.5, 2))}),
        ("kit/ArmPush-v0", {}),
        ("kit/ArmPush-v0", {"randomize": EVERYTHING}),
        ("kit/PointMaze-v0", {}),
    ],
)
def test_simulation_i_of_a_batch_equals_the_single_env_seeded_s_plus_i(env_id, kwargs, nthread):
    n, steps, seed = 5, 25, 17
    if env_id != "kit/PointMaze-v0":
        kwargs = kwargs | {"nthread": nthread}
    batch = gym.make_vec(env_id, num_envs=n, max_steps=10, **kwargs)  # short, so that restarts are compared too
    actions = actions_for(env_id, steps, n)
    obs, _ = batch.reset(seed=seed)
    history = [(obs, None, None, None)] + [batch.step(a)[:4] for a in actions]
    for i in range(n):
        env = gym.make(env_id, max_steps=10, **kwargs)
        obs, _ = env.reset(seed=seed + i)
        np.testing.assert_array_equal(history[0][0][i], obs)
        for t in range(steps):
            obs, reward, terminated, truncated, _ = env.step(actions[t, i])
            if terminated or truncated:
                obs, _ = env.reset()
            np.testing.assert_array_equal(history[t + 1][0][i], obs)
            assert (history[t + 1][1][i], history[t + 1][2][i], history[t + 1][3][i]) == (reward, terminated, truncated)


def test_simulations_with_randomised_physics_differ():
    task = make_task("kit/ArmReach-v0", 3, randomize=EVERYTHING)
    rngs = [np.random.default_rng(i) for i in range(3)]
    task.reset(np.arange(3), {}, rngs)
    assert {k: v.shape for k, v in task.physics.items()} == {
        "friction": (3, 6),
        "damping": (3, 6),
        "mass": (3, 7),
        "gain": (3, 6),
        "delay": (3, 1),
    }
    model, nominal = task.batch.get_model(1), task.model
    np.testing.assert_allclose(model.dof_frictionloss, nominal.dof_frictionloss * task.physics["friction"][1])
    np.testing.assert_allclose(model.dof_damping, nominal.dof_damping * task.physics["damping"][1])
    np.testing.assert_allclose(model.body_mass[1:], nominal.body_mass[1:] * task.physics["mass"][1])
    np.testing.assert_allclose(model.body_inertia[1:], nominal.body_inertia[1:] * task.physics["mass"][1][:, None])
    np.testing.assert_allclose(model.actuator_gainprm[:, 4], nominal.actuator_gainprm[:, 4] * task.physics["gain"][1])
    np.testing.assert_allclose(model.actuator_delay, np.full(6, task.physics["delay"][1]))
    assert len(np.unique(task.physics["delay"])) == 3


def test_a_delayed_command_arrives_late():
    def first_motion(delay: float) -> int:
        env = gym.make("kit/ArmReach-v0", randomize=Randomize(delay=(delay, delay + 1e-9))).unwrapped
        env.reset(seed=0, options={"task": {"start": [0, -0.9, 1, 0.7, 0], "goal": [0.3, 0, 0.2]}})
        for t in range(10):
            env.step([1, 0, 0, 0, 0])
            if env.qvel[0, 0] > 0.05:
                return t
        return 10

    assert first_motion(0.0) == 0 and first_motion(0.1) == 3  # three control steps of 1/30 s


@pytest.mark.parametrize("field", ["friction", "damping", "mass", "gain", "delay"])
@pytest.mark.parametrize("value", [(2, 1), (-1, 1), (0, np.inf), (np.nan, 1)])
def test_randomize_names_the_bad_range(field, value):
    with pytest.raises(ValueError, match=field):
        Randomize(**{field: value})


# ---- tasks ------------------------------------------------------------------------------------------------------

TASK = {
    "kit/ArmReach-v0": {"goal": (0.25, 0.05, 0.15)},
    "kit/ArmPush-v0": {"cube": (0.2, 0.0), "goal": (0.35, 0.05)},
    "kit/PointMaze-v0": {"start": (0.0, 0.0), "goal": (4.0, 12.0)},
    "kit/PlanarPush-v0": {"puck": (0.1, 0.25), "goal": (-0.1, 0.25)},
    "kit/PointDisc-v0": {"start": (1.0, 0.5)},
    "kit/Avoid-v0": {"exit": (1.0,)},
    "kit/PushT-v0": {"block": (0.25, 0.3, 1.0), "pusher": (0.1, 0.1)},
    "kit/ReachPush-v0": {"target": (3.0,), "push": (1.0,)},
    "kit/Track-v0": {"gap": (0.5,), "stump": (0.2,)},
}


@pytest.mark.parametrize("env_id", IDS)
def test_tasks_enter_by_reset_options(env_id):
    task = TASK[env_id]
    env = gym.make(env_id).unwrapped
    _, info = env.reset(seed=0, options={"task": task | {"task_id": 7}})
    assert info["task_id"] == 7
    for name, value in task.items():
        np.testing.assert_allclose(env.current_task[name], value)
    batch = gym.make_vec(env_id, num_envs=3)
    batch.reset(seed=0, options={"task": [task | {"task_id": k} for k in (5, 6, 7)]})
    for name, value in task.items():
        np.testing.assert_allclose(batch.current_tasks[name], [value] * 3)
    assert batch.step(np.zeros(batch.action_space.shape))[4]["task_id"].tolist() == [5, 6, 7]


@pytest.mark.parametrize("env_id", IDS)
def test_reset_mask_leaves_the_others_alone(env_id):
    env = gym.make_vec(env_id, num_envs=3)
    env.reset(seed=0)
    for a in actions_for(env_id, 3, 3):
        before = env.step(a)[0]
    after, _ = env.reset(options={"reset_mask": np.array([False, True, False]), "task": TASK[env_id]})
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert not np.array_equal(after[1], before[1])
    for name, value in TASK[env_id].items():
        np.testing.assert_allclose(env.current_tasks[name][1], value)


@pytest.mark.parametrize("env_id", IDS)
def test_same_step_autoreset_takes_tasks_from_the_source(env_id):
    env = gym.make_vec(env_id, num_envs=4, max_steps=5)
    asked = []

    def source(ids):
        asked.append(ids.tolist())
        return [TASK[env_id] | {"task_id": 100 + int(i)} for i in ids]

    env.reset(seed=0)
    env.episodes.elapsed[:] = [0, 3, 0, 3]
    env.task_source = source
    action = np.full(env.action_space.shape, 0.3)
    env.step(action)
    obs, _, terminated, truncated, info = env.step(action)
    assert truncated.tolist() == [False, True, False, True] and not terminated.any()
    assert asked == [[1, 3]]
    assert info["_final_obs"].tolist() == truncated.tolist()
    assert not np.array_equal(info["final_obs"][1], obs[1]), "the observation is the new episode's first"
    np.testing.assert_array_equal(info["final_obs"][0], obs[0])
    assert info["final_info"]["task_id"][[1, 3]].tolist() == [-1, -1]
    assert env.step(action)[4]["task_id"].tolist() == [-1, 101, -1, 103]
    for name, value in TASK[env_id].items():
        np.testing.assert_allclose(env.current_tasks[name][1], value)


@pytest.mark.parametrize("env_id", IDS)
def test_drawn_tasks_lie_in_their_space_and_scale_to_the_unit_cube(env_id):
    env = gym.make_vec(env_id, num_envs=50)
    env.reset(seed=3)
    space, tasks = env.task.task_space, env.current_tasks
    space.check(tasks, 50)
    unit = space.encode(tasks)
    assert unit.shape == (50, space.size) and unit.min() >= 0 and unit.max() <= 1
    for name, values in space.decode(unit).items():
        np.testing.assert_allclose(values, tasks[name], atol=1e-12)


@pytest.mark.parametrize("env_id", IDS)
def test_only_live_fields_can_change_in_a_running_episode(env_id):
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    for name in env.live_fields:
        env.set_task(**{name: TASK[env_id][name]})
        np.testing.assert_allclose(env.current_task[name], TASK[env_id][name])
    for other in set(env.task_space.fields) - set(env.live_fields):
        with pytest.raises(ValueError, match="reset with it"):
            env.set_task(**{other: env.current_task[other]})


# ---- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", IDS)
def test_bad_actions_are_named_and_change_nothing(env_id):
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    size = env.action_space.shape[0]
    before = env.task.observe().copy()
    bad = np.zeros(size)
    bad[1] = np.nan
    with pytest.raises(ValueError, match=r"action\[1\] is nan"):
        env.step(bad)
    with pytest.raises(ValueError, match=rf"\({size + 1},\).*takes \({size},\)"):
        env.step(np.zeros(size + 1))
    batch = gym.make_vec(env_id, num_envs=2)
    batch.reset(seed=0)
    with pytest.raises(ValueError, match="shape"):
        batch.step(np.zeros(size))
    np.testing.assert_array_equal(env.task.observe(), before)


@pytest.mark.parametrize("env_id", IDS)
def test_bad_tasks_are_named_and_change_nothing(env_id):
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    before = env.current_task
    name, value = next(reversed(TASK[env_id].items()))
    for task, message in [
        ({"colour": (1, 2)}, f"unknown task field 'colour'.*{name}"),
        ({name: np.full(len(value), 99.0)}, rf"'{name}' is .*99.* limits"),
        ({name: np.full(len(value), np.nan)}, f"'{name}' is .*nan"),
        ({name: (*value, 0.0)}, rf"shape \({len(value) + 1},\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            env.reset(options={"task": task})
    with pytest.raises(ValueError, match="unknown reset option 'tasks'"):
        env.reset(options={"tasks": {}})
    for name, value in before.items():
        np.testing.assert_array_equal(env.current_task[name], value)


def test_other_bad_input_of_batches():
    env = gym.make_vec("kit/PointMaze-v0", num_envs=3)
    with pytest.raises(RuntimeError, match="reset first"):
        env.step(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="2 seeds for 3"):
        env.reset(seed=[1, 2])
    with pytest.raises(ValueError, match="reset_mask"):
        env.reset(options={"reset_mask": np.ones(2, bool)})
    with pytest.raises(ValueError, match="2 tasks for 3"):
        env.reset(options={"task": [{}, {}]})
    with pytest.raises(ValueError, match="same fields"):
        env.reset(options={"task": [{}, {}, {"goal": (0.0, 0.0)}]})
    with pytest.raises(ValueError, match="num_envs is 0"):
        make_task("kit/PointMaze-v0", 0)
    with pytest.raises(ValueError, match="unknown environment"):
        make_task("kit/Nothing-v0")


def test_goals_out_of_reach_or_in_a_wall():
    arm = gym.make("kit/ArmReach-v0").unwrapped
    with pytest.raises(ValueError, match="out of the arm's reach"):
        arm.reset(seed=0, options={"task": {"goal": (0.05, 0.0, 0.05)}})  # inside the base
    maze = gym.make("kit/PointMaze-v0").unwrapped
    with pytest.raises(ValueError, match="touches a wall of the medium maze"):
        maze.reset(seed=0, options={"task": {"goal": (8.0, 0.0)}})


# ---- physics that breaks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ["kit/ArmReach-v0", "kit/ArmPush-v0"])
@pytest.mark.parametrize("poison", [np.nan, 1e20])
def test_broken_physics_ends_that_episode_and_no_other(env_id, poison):
    def run(break_it: bool):
        env = gym.make_vec(env_id, num_envs=3)
        env.reset(seed=0)
        for t, a in enumerate(actions_for(env_id, 6, 3)):
            if t == 3 and break_it:
                env.task.qvel[1, 0] = poison
            yield env.step(a)

    for t, (healthy, broken) in enumerate(zip(run(False), run(True), strict=True)):
        np.testing.assert_array_equal(healthy[0][[0, 2]], broken[0][[0, 2]])
        assert np.isfinite(broken[0]).all() and np.isfinite(broken[1]).all()
        error = broken[4].get("final_info", broken[4])["physics_error"]
        assert error.tolist() == [False, t == 3, False]
        assert broken[2].tolist() == [False, t == 3, False] and not broken[3].any()
        if t == 3:
            assert np.isfinite(broken[4]["final_obs"]).all()


# ---- what the tasks promise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("env_id", "limit"), [("kit/ArmReach-v0", 0.01), ("kit/ArmPush-v0", 0.02)])
@pytest.mark.parametrize("policy", ["nothing", "random"])
def test_doing_nothing_and_random_actions_fail(env_id, limit, policy):
    n = 300
    env = gym.make_vec(env_id, num_envs=n)
    env.reset(seed=0)
    for actions in actions_for(env_id, env.task.max_steps, n):
        *_, info = env.step(actions if policy == "random" else 0 * actions)
        if "final_info" in info:
            ended = info["_final_info"]
    assert ended.all() or env_id == "kit/ArmPush-v0"
    assert info["final_info"]["success"].mean() < limit


def test_every_env_is_truncated_at_its_time_limit_and_not_terminated():
    env = gym.make("kit/ArmReach-v0")
    env.reset(seed=0)
    for t in range(90):
        *_, terminated, truncated, _ = env.step(np.zeros(5))
        assert not terminated and truncated == (t == 89)
