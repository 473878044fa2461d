"""Live rollouts in a notebook: a 3-D scene, a player, curves, panels, and a runner that keeps the page alive.

    scene = Scene(model)                     # any MjModel; the last expression of a cell shows it
    curves = Curves("return", y="return per episode")
    agent = await run(ppo.train(env, cfg, seed=0), scene, curves, max_s=60)

Everything is drawn by the reader's browser: no server graphics, no port, nothing fetched.
"""

from importlib import import_module
from importlib.util import find_spec

from kit.runtime import optional

for _module in ("anywidget", "ipywidgets", "k3d", "plotly"):
    if find_spec(_module) is None:
        optional(_module)  # raises, naming the extra

_LAZY = {
    "Scene": "scene",
    "Recording": "player",
    "Player": "player",
    "Curves": "curves",
    "Figure": "figure",
    "GoalPicker": "controls",
    "JointSliders": "controls",
    "LiveRollout": "rollout",
    "run": "runner",
}
__all__ = list(_LAZY)


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(import_module(f"kit.live.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'kit.live' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
