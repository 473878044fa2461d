"""Where code meets the machine: budgets, seeds, threads, graphics, assets, optional extras.

Two budgets exist. `full` is what a reader waits for; `fast` is what continuous integration runs, chosen by the
environment variable `KIT_FAST=1`. Code never asks which one it is in: it asks `budget(full, fast)` for a number.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from kit.types import Metrics

T = TypeVar("T")

# The extra that brings a package in, for the message when it is absent.
EXTRAS = {
    "k3d": "notebooks",
    "anywidget": "notebooks",
    "ipywidgets": "notebooks",
    "plotly": "notebooks",
    "jupyterlab": "notebooks",
    "scservo_sdk": "robot",
    "serial": "robot",
    "onnx": "robot",
    "onnxruntime": "robot",
    "ribs": "qd",
    "minari": "data",
    "pyarrow": "data",
    "PIL": "robot",
    "nbgrader": "teach",
    "distributed": "scale",
    "playwright": "dev",
}


class MissingExtra(ImportError):
    """An optional dependency is not installed; the message names the command that installs it."""


def fast() -> bool:
    """Whether the fast budget is in force (`KIT_FAST` set to anything but `0` or nothing)."""
    return os.environ.get("KIT_FAST", "0") not in ("", "0")


def budget(full: T, fast_: T) -> T:
    """The first value for a reader, the second under `KIT_FAST=1`; prints which it chose."""
    chosen = fast_ if fast() else full
    print(f"budget: {chosen} ({'fast' if fast() else 'full'})")
    return chosen


def optional(module: str) -> ModuleType:
    """Import an optional dependency.

    Raises:
        MissingExtra: it is not installed; the message names the extra and the command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        root = module.split(".")[0]
        if e.name is None or e.name.split(".")[0] != root:
            raise
        extra = EXTRAS.get(root, "notebooks")
        raise MissingExtra(
            f'{root!r} is not installed; it comes with the extra {extra!r}: pip install "robot-learning-kit[{extra}]"'
        ) from e


def asset(*parts: str) -> Path:
    """The path of a file under `assets/`, in a checkout or inside an installed wheel.

    Raises:
        FileNotFoundError: there is no such file; the message lists what lies beside it.
    """
    path = asset_root().joinpath(*parts)
    if not path.exists():
        beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        raise FileNotFoundError(f"no asset {'/'.join(parts)!r}; beside it there are {beside}")
    return path


@functools.cache
def asset_root() -> Path:
    package = Path(__file__).resolve().parent
    for root in (package / "assets", package.parent / "assets"):
        if root.is_dir():
            return root
    raise FileNotFoundError(f"the kit's assets are missing beside {package}; reinstall robot-learning-kit")


def one_thread() -> None:
    """One torch thread a process: with two, small networks on a busy machine get up to a hundred times slower."""
    import torch

    torch.set_num_threads(1)


def cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@functools.cache
def gl() -> str | None:
    """The off-screen OpenGL back end that works here (`egl`, `osmesa`, `cgl`, `wgl`), or None.

    `MUJOCO_GL` decides if the user has set it. Tried in a child process, because a wrong guess can end the process.
    """
    native = {"darwin": "cgl", "win32": "wgl"}.get(sys.platform)
    wanted = os.environ.get("MUJOCO_GL")
    probe = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8).render()"
    for backend in [wanted] if wanted else [native] if native else ["egl", "osmesa"]:
        env = dict(os.environ, MUJOCO_GL=backend)
        done = subprocess.run([sys.executable, "-c", probe], env=env, capture_output=True, timeout=60)
        if done.returncode == 0:
            return backend
    return None


def require_gl() -> str:
    """Make MuJoCo draw with the back end that works, and return its name.

    Raises:
        RuntimeError: none works; the message names what to install. State observations need no graphics.
    """
    backend = gl()
    if backend is None:
        tried = os.environ.get("MUJOCO_GL", "egl, osmesa")
        raise RuntimeError(
            f"no off-screen OpenGL works here (MUJOCO_GL tried: {tried}), and camera images need one. On Debian or "
            "Ubuntu: apt-get install libegl1 libgl1-mesa-dri, then unset MUJOCO_GL. State observations need none."
        )
    if sys.platform == "linux" and backend != os.environ.get("MUJOCO_GL"):
        # MuJoCo reads MUJOCO_GL once, when it is imported, which may have been long ago: choose again.
        from mujoco.rendering.classic import gl_context

        gl_context.GLContext = importlib.import_module(f"mujoco.{backend}").GLContext
        os.environ["MUJOCO_GL"] = backend  # for child processes
    return backend


def info() -> dict[str, Any]:
    """Print and return what a bug report needs: version, budget, graphics, threads."""
    from kit import __version__

    facts = {
        "kit": __version__,
        "python": sys.version.split()[0],
        "budget": "fast" if fast() else "full",
        "cores": cpus(),
        "torch_threads": 1,
        "graphics": os.environ.get("MUJOCO_GL", "not set"),
    }
    one_thread()
    print(" · ".join(f"{k} {v}" for k, v in facts.items()))
    return facts


def run(generator: Iterable[Metrics], *, max_s: float | None = None, desc: str = "training") -> Any:
    """Run a training generator to its end, or for at most `max_s` seconds, with a progress bar.

    A generator whose metrics carry `progress` (0 to 1) gets a bar with an end. Ctrl-C stops the training and keeps
    the agent as it is. Returns the agent of the last metrics, or None if there were none.
    """
    from tqdm.auto import tqdm

    agent, start, shown = None, time.perf_counter(), 0.0
    with tqdm(total=1.0, desc=desc, disable=None, bar_format="{desc}: {percentage:3.0f}%|{bar}|{postfix}") as bar:
        try:
            for metrics in generator:
                agent = metrics.agent
                progress = min(metrics.get("progress", 0.0), 1.0)
                bar.update(max(progress - shown, 0.0))
                shown = max(progress, shown)
                bar.set_postfix({k: f"{v:.3g}" for k, v in metrics.items() if k != "progress"}, refresh=False)
                if max_s is not None and time.perf_counter() - start > max_s:
                    break
        except KeyboardInterrupt:
            tqdm.write(f"{desc} stopped; the agent is kept as it is")
        finally:
            close = getattr(generator, "close", None)
            if close is not None:
                close()
    return agent
