"""What a stranger gets: the lock, Binder's configuration, the wheel, the README's first lines, a cheap import."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK_LINES = [s for s in (ROOT / "requirements.lock").read_text().splitlines() if s and not s.startswith("#")]
LOCK = {canonicalize_name(r.name): r for r in map(Requirement, LOCK_LINES)}

SYSTEMS = {
    "linux": {"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux", "platform_machine": "x86_64"},
    "mac": {"sys_platform": "darwin", "os_name": "posix", "platform_system": "Darwin", "platform_machine": "arm64"},
    "windows": {"sys_platform": "win32", "os_name": "nt", "platform_system": "Windows", "platform_machine": "AMD64"},
}


def pinned(name: str) -> str:
    return next(iter(LOCK[canonicalize_name(name)].specifier)).version


# The lock


def test_every_lock_line_is_one_exact_version():
    line = re.compile(r'[A-Za-z0-9._-]+==[0-9][0-9a-z.]*( ; sys_platform == "\w+")?')
    assert [s for s in LOCK_LINES if not line.fullmatch(s)] == []
    assert len(LOCK) == len(LOCK_LINES), "a package is named twice"


def test_lock_has_no_gpu_packages():
    gpu = re.compile(r"nvidia|cuda|triton|-cu\d\d", re.IGNORECASE)
    assert [s for s in LOCK_LINES if gpu.search(s)] == []


@pytest.mark.parametrize("extra", ["", *PROJECT["optional-dependencies"]])
def test_lock_satisfies_pyproject(extra):
    for wanted in map(Requirement, PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]):
        assert canonicalize_name(wanted.name) in LOCK, f"{wanted.name} is not in requirements.lock; run `make lock`"
        assert wanted.specifier.contains(pinned(wanted.name)), f"{wanted} against {pinned(wanted.name)} in the lock"


@pytest.mark.parametrize("system", SYSTEMS)
def test_lock_is_complete_on(system):
    """What the locked packages ask for is locked too, also on the systems where the lock was not made."""
    missing = set()
    for name in LOCK.keys() - {"torch"}:  # its CUDA build asks for NVIDIA's packages, each at its exact version
        try:
            asked = map(Requirement, requires(name) or [])
        except PackageNotFoundError:  # another system's package
            continue
        env = {**SYSTEMS[system], "extra": ""}
        missing |= {
            f"{r} (for {name})"
            for r in asked
            if canonicalize_name(r.name) not in LOCK and (r.marker is None or r.marker.evaluate(env))
        }
    assert missing == set()


# Binder


def test_binder_has_the_python_and_torch_of_the_lock():
    environment = (ROOT / "binder/environment.yml").read_text()
    made_with = re.search(r"Made with Python (3\.\d+) ", (ROOT / "requirements.lock").read_text())
    assert made_with, "the head of requirements.lock says which Python it was made with"
    assert f"- python={made_with[1]}.*\n" in environment
    assert f"- pytorch={pinned('torch')}=cpu_*\n" in environment
    # Nothing else may be named there: it would be a second place with versions.
    assert len(re.findall(r"^  - \w+=", environment, re.MULTILINE)) == 2


def test_binder_installs_from_the_lock():
    lines = (ROOT / "binder/postBuild").read_text().splitlines()
    assert "grep -v '^torch==' requirements.lock > pinned.txt" in lines
    installs = [s for s in lines if "pip install" in s]
    assert len(installs) == 2
    assert all("--no-deps" in s for s in installs)
    assert installs[0].endswith("-r pinned.txt")
    assert installs[1].endswith("-e .")


@pytest.mark.parametrize("script", ["binder/postBuild", "binder/start", ".ci/run"])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no executable bit")
def test_scripts_are_executable_shell(script):
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True)


# The first commands


def test_readme_begins_with_the_two_commands():
    block = re.search(r"```\w*\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert [s.split("#")[0].strip() for s in block[1].splitlines()] == ["make lab", "make test"]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_lab_opens_the_first_notebook_on_loopback_with_its_token():
    recipe = subprocess.run(
        ["make", "--no-print-directory", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    server = recipe[recipe.index("jupyter-lab") :]
    assert "--ServerApp.ip=127.0.0.1" in server
    assert server.strip().endswith("/lab/tree/notebooks/00_start_here.ipynb")
    assert (ROOT / "notebooks/00_start_here.ipynb").exists()
    assert "token" not in server.lower()


def test_import_is_light():
    """`import kit` loads nothing heavy; each of these comes with the first thing that needs it."""
    heavy = ["torch", "sklearn", "mujoco", "plotly", "stable_baselines3", "k3d", "OpenGL"]
    code = f"import sys, kit; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def tracked_files() -> list[Path]:
    """Files that are in the repository or would be by `git add .`; outside of a checkout, all that an sdist holds."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if shutil.which("git") is not None:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            return [p for name in done.stdout.split("\0") if name and (p := ROOT / name).is_file()]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tops = [ROOT / name for name in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]]
    found = [p for top in tops for p in ([top] if top.is_file() else top.rglob("*")) if p.is_file()]
    return [p for p in found if not {"__pycache__", ".ipynb_checkpoints"} & set(p.parts)]


def test_no_file_names_a_machine_or_a_registry():
    # Written in pieces, so that this file does not match itself.
    folders = ["work", "root", r"home/\w+", "Users/\\w+", r"opt/\w+", r"tmp/\w+"]
    hosts = ["py" + "pi.org", "pythonhosted" + ".org", "download." + "pytorch.org", "conda" + ".anaconda.org"]
    pattern = re.compile(rf"(?<![\w.)}}*-])/(?:{'|'.join(folders)})\b|{'|'.join(map(re.escape, hosts))}".encode())
    found = {}
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content[:8192] and (hit := pattern.search(content)):
            found[str(path.relative_to(ROOT))] = hit[0].decode()
    assert found == {}


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_wheel_holds_the_package_and_its_assets(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = [archive.read(n).decode() for n in names if n.endswith("entry_points.txt")]
    code = {p.relative_to(ROOT).as_posix() for p in (ROOT / "kit").rglob("*.py")}
    assets = {f"kit/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "assets").rglob("*.*") if p.is_file()}
    assert (code | assets | {"kit/py.typed"}) - names == set()
    assert any(re.fullmatch(r"kit/assets/so101/\w+\.xml", n) for n in names)
    assert {n.split("/")[0].split("-")[0] for n in names} == {"kit", "robot_learning_kit"}
    assert "[gymnasium.envs]\nkit = kit.envs:register" in entry_points
    assert "[console_scripts]\nkit = kit.__main__:main" in entry_points


OUTSIDE = """
import pathlib, sys
import gymnasium, kit, kit.envs
target = pathlib.Path(sys.argv[1]).resolve()
assert target in pathlib.Path(kit.__file__).resolve().parents, kit.__file__
for name in kit.envs.TASKS:
    gymnasium.make(name).reset(seed=0)
for name, env in (("arm_reach", "ArmReach"), ("arm_push", "ArmPush"), ("track", "Track")):
    obs, _ = gymnasium.make(f"kit/{env}-v0").reset(seed=0)
    kit.load(name).predict(obs, deterministic=True)
assert not [m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "kit" and str(target) not in m.__file__]
"""


def test_wheel_works_outside_the_repository(wheel, tmp_path):
    """Its environments and checkpoints come from the wheel, not from the editable installation beside it."""
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-P", "-c", OUTSIDE, target],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},  # comes before the editable installation
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
