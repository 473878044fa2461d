"""Environments: one vectorised `Task` each, as a Gymnasium environment and a Gymnasium vector environment.

    env = gym.make("kit/ArmReach-v0")
    envs = gym.make_vec("kit/ArmReach-v0", num_envs=64)

`import kit` registers them. Gymnasium before 1.4 also finds them by itself, through an entry point; later versions load
no entry points, but take the module in the name: `gym.make("kit:kit/ArmReach-v0")`.
"""

from importlib import import_module

# id -> (module, class of the Task)
TASKS = {
    "kit/ArmReach-v0": ("kit.envs.arm_reach", "ArmReach"),
    "kit/ArmPush-v0": ("kit.envs.arm_push", "ArmPush"),
    "kit/PointMaze-v0": ("kit.envs.point_maze", "PointMaze"),
    "kit/PlanarPush-v0": ("kit.envs.planar_push", "PlanarPush"),
    "kit/PointDisc-v0": ("kit.envs.point_disc", "PointDisc"),
    "kit/Avoid-v0": ("kit.envs.avoid", "Avoid"),
    "kit/PushT-v0": ("kit.envs.push_t", "PushT"),
    "kit/ReachPush-v0": ("kit.envs.reach_push", "ReachPush"),
    "kit/Track-v0": ("kit.envs.track", "Track"),
}


def make_task(env_id: str, num_envs: int = 1, **kwargs):
    """The bare `Task` behind an environment."""
    if env_id not in TASKS:
        raise ValueError(f"unknown environment {env_id!r}; the kit has {', '.join(TASKS)}")
    module, name = TASKS[env_id]
    return getattr(import_module(module), name)(num_envs, **kwargs)


def single(env_id: str, render_mode: str | None = None, **kwargs):
    from kit.envs.env import SingleEnv

    return SingleEnv(make_task(env_id, 1, **kwargs), render_mode)


def batched(env_id: str, num_envs: int = 1, render_mode: str | None = None, **kwargs):
    from kit.envs.env import BatchEnv

    return BatchEnv(make_task(env_id, num_envs, **kwargs), render_mode)


def register() -> None:
    """Register the kit's environments with Gymnasium (its entry point calls this)."""
    import gymnasium as gym

    for env_id in TASKS:
        if env_id not in gym.registry:
            gym.register(
                env_id,
                entry_point="kit.envs:single",
                vector_entry_point="kit.envs:batched",
                kwargs={"env_id": env_id},
            )
