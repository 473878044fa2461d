"""Episodes as whole arrays, goals drawn in hindsight, and Minari datasets in a folder of your choosing.

    rows      s_0 s_1 .. s_T | s_0 s_1 .. s_T' | ..      one row an observation, episode after episode
    actions   a_0 a_1 ..  0  | a_0 a_1 ..   0  | ..      a_t leads to the next row; an episode's last row has none

    goal of s_t:   s_t itself, or s_t+k later in its episode (k ~ Geometric(1 - gamma), or uniform), or any s

A goal is a row that somebody once reached, so every logged step has rewards for many goals: 0 at the goal, else -1
(hindsight experience replay, Andrychowicz et al. 2017). The shares 0.2 / 0.5 / 0.3 are those of OGBench (Park et al.
2025). Look at `Episodes` first, then at `sample_goals` and `rows_ahead`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kit import runtime

LEAST_STEPS = 2  # of an episode: with one step there is no goal further away than the next state


@dataclass(frozen=True)
class Episodes:
    """Logged episodes; R rows, E episodes. Float arrays are kept as float32.

    Raises:
        ValueError: no episode, an episode of fewer than two steps, shapes that do not fit, or a value that is not
            finite; the message names the array, and the row or episode.
    """

    observations: np.ndarray  # (R, obs_dim)
    actions: np.ndarray  # (R, act_dim); zeros in the last row of an episode
    terminated: np.ndarray  # (R,) bool: the step from this row ended the task
    truncated: np.ndarray  # (R,) bool: the step from this row was the last one recorded
    ends: np.ndarray  # (E,) the row of each episode's last observation, ascending
    goals: np.ndarray | None = None  # (R, goal_dim) the goal that each row achieves; None: a dataset without goals

    def __post_init__(self) -> None:
        for name in ("observations", "actions", "goals"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _matrix(name, getattr(self, name)))
        for name, kind in (("terminated", bool), ("truncated", bool), ("ends", np.int64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), kind))
        self._check()

    def _check(self) -> None:
        rows = len(self.observations)
        if not rows or not len(self.ends):
            raise ValueError(f"the dataset is empty: {rows} rows, {len(self.ends)} episodes; at least one is needed")
        for name, array in vars(self).items():
            if name != "ends" and array is not None and len(array) != rows:
                raise ValueError(f"{name} has {len(array)} rows and observations {rows}; they must be equal")
        lengths = np.diff(self.ends, prepend=-1) - 1
        if self.ends[-1] != rows - 1:
            raise ValueError(f"the last episode ends at row {self.ends[-1]}; it must be the last row, {rows - 1}")
        if lengths.min() < LEAST_STEPS:
            episode = int(lengths.argmin())
            raise ValueError(
                f"episode {episode} has {lengths[episode]} step(s); hindsight goals need at least {LEAST_STEPS}. "
                "Leave such episodes out"
            )
        for name in ("observations", "actions", "goals"):
            array = getattr(self, name)
            if array is not None and not np.isfinite(array).all():
                row = int(np.argmin(np.isfinite(array).all(axis=1)))
                raise ValueError(f"{name} holds {array[row]} in row {row}; a dataset must be finite")

    @classmethod
    def stack(
        cls,
        observations: np.ndarray,
        actions: np.ndarray,
        goals: np.ndarray | None = None,
        terminated: np.ndarray | None = None,
    ) -> Episodes:
        """Episodes of one length: observations (E, T + 1, obs_dim), actions (E, T, act_dim), goals (E, T + 1, goal_dim)
        and whether each episode's last step terminated (E,), by default not: then it was truncated."""
        observations, actions = np.asarray(observations), np.asarray(actions)
        if (
            not 3 == observations.ndim == actions.ndim
            or len(observations) != len(actions)
            or (observations.shape[1] != actions.shape[1] + 1)
        ):
            raise ValueError(
                f"observations are {observations.shape} and actions {actions.shape}; expected (E, T + 1, obs_dim) "
                "and (E, T, act_dim)"
            )
        episodes, rows = observations.shape[:2]
        last = np.zeros((episodes, rows), bool)
        last[:, -2:-1] = True
        done = np.zeros(episodes, bool) if terminated is None else np.asarray(terminated, bool)

        def flat(x: np.ndarray) -> np.ndarray:
            return x.reshape(episodes * rows, x.shape[-1])

        return cls(
            flat(observations),
            flat(np.pad(actions, ((0, 0), (0, 1), (0, 0)))),
            (last & done[:, None]).ravel(),
            (last & ~done[:, None]).ravel(),
            np.arange(1, episodes + 1) * rows - 1,
            None if goals is None else flat(np.asarray(goals)),
        )

    def __len__(self) -> int:
        """Rows, which are observations."""
        return len(self.observations)

    @property
    def obs_dim(self) -> int:
        return self.observations.shape[1]

    @property
    def act_dim(self) -> int:
        return self.actions.shape[1]

    @cached_property
    def last(self) -> np.ndarray:
        """The last row of each row's episode, (R,)."""
        return np.repeat(self.ends, np.diff(self.ends, prepend=-1))

    @cached_property
    def steps(self) -> np.ndarray:
        """Rows from which a step was taken, (R - E,): all but the episodes' last."""
        return np.setdiff1d(np.arange(len(self)), self.ends, assume_unique=True)

    def with_goals(self, goals: np.ndarray | None = None) -> Episodes:
        """The same episodes with goals (R, goal_dim); by default an observation is a goal as it stands."""
        return replace(self, goals=self.observations if goals is None else goals)

    def require(self, *, obs_dim: int | None = None, act_dim: int | None = None, goal_dim: int | None = None) -> None:
        """Check that the data suit a method: sizes that are not None, and goals if `goal_dim` is given (0: any size).

        Raises:
            ValueError: a size is another one, or there are no goals.
        """
        for name, wanted in (("obs_dim", obs_dim), ("act_dim", act_dim)):
            if wanted is not None and getattr(self, name) != wanted:
                raise ValueError(f"this dataset has {name} {getattr(self, name)}; {wanted} is needed")
        if goal_dim is None:
            return
        if self.goals is None:
            raise ValueError(
                "this dataset has no goals; name what a goal is: data.with_goals(data.observations[:, :2])"
            )
        if goal_dim not in (0, self.goals.shape[1]):
            raise ValueError(f"this dataset has goals of size {self.goals.shape[1]}; {goal_dim} is needed")


def _matrix(name: str, values: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(values, np.float32)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; expected (rows, size)")
    return array


FIELDS = tuple(Episodes.__dataclass_fields__)


def join(parts: Sequence[Episodes]) -> Episodes:
    """Several sets of episodes as one."""
    if not parts:
        raise ValueError("the dataset is empty: there is nothing to join")
    if len({part.goals is None for part in parts}) > 1:
        raise ValueError("some of these datasets have goals and some have none; give all of them goals")
    shift = np.cumsum([0, *(len(part) for part in parts[:-1])])
    columns = {name: [getattr(part, name) for part in parts] for name in vars(parts[0]) if name in FIELDS}
    columns["ends"] = [part.ends + by for part, by in zip(parts, shift, strict=True)]
    return Episodes(**{k: None if v[0] is None else np.concatenate(v) for k, v in columns.items()})


# ---- goals in hindsight -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GoalShares:
    """Where goals come from; the defaults are OGBench's for values."""

    current: float = 0.2  # share: the row itself, so that the value at the goal is learnt
    trajectory: float = 0.5  # share: later in the row's episode
    random: float = 0.3  # share: any row of the dataset
    gamma: float = 0.99  # of the geometric distribution of trajectory goals [a step]; its mean is 1 / (1 - gamma)
    geometric: bool = True  # False: uniform over the rest of the episode, OGBench's choice for actors

    def __post_init__(self) -> None:
        shares = (self.current, self.trajectory, self.random)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
            raise ValueError(f"goal shares are {shares}; they must not be negative and must sum to 1")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma is {self.gamma}; it must be at least 0 and below 1")


def sample_steps(data: Episodes, n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows (n,) from which a step was taken, uniform, with replacement."""
    return data.steps[rng.integers(len(data.steps), size=n)]


def sample_goals(data: Episodes, rows: np.ndarray, shares: GoalShares, rng: np.random.Generator) -> np.ndarray:
    """The goals' rows (n,) for rows (n,); the goals themselves are `data.goals[...]`.

    Raises:
        ValueError: the dataset has no goals.
    """
    data.require(goal_dim=0)
    n, last = len(rows), data.last[rows]
    if shares.geometric:
        later = np.minimum(rows + rng.geometric(1 - shares.gamma, n), last)
    else:
        later = np.minimum(rows + 1 + (rng.random(n) * (last - rows)).astype(int), last)
    anywhere = rng.integers(len(data), size=n)
    u = rng.random(n)
    return np.where(u < shares.current, rows, np.where(u < shares.current + shares.trajectory, later, anywhere))


def rows_ahead(data: Episodes, rows: np.ndarray, n: int, goal_rows: np.ndarray | None = None) -> np.ndarray:
    """The rows n steps later, but not beyond the episode's end, nor beyond a goal that lies ahead in it."""
    ahead = np.minimum(rows + n, data.last[rows])
    if goal_rows is None:
        return ahead
    on_the_way = (goal_rows >= rows) & (goal_rows <= data.last[rows])
    return np.where(on_the_way, np.minimum(ahead, goal_rows), ahead)


# ---- Minari -------------------------------------------------------------------------------------------------------


def write_minari(data: Episodes, root: str | Path, name: str) -> Path:
    """Write the Minari dataset `root/name`, for instance "point_maze-large-v0", from whole arrays; returns its folder.

    Nothing is put into the home folder and nothing is downloaded. Other programs read it with Minari's own
    `load_dataset(name)` once MINARI_DATASETS_PATH is `root`. Goals become `achieved_goal`; rewards are zeros.

    Raises:
        FileExistsError: there is such a dataset already.
        MissingExtra: Minari or pyarrow is not installed.
    """
    minari = runtime.optional("minari")
    from minari.dataset.minari_storage import MinariStorage

    folder = Path(root) / name
    if folder.exists():
        raise FileExistsError(f"there is a dataset {folder} already; choose another name or remove it")
    part = folder.with_name(f".{folder.name}.{os.getpid()}")  # a killed run leaves no half of a dataset under the name
    (part / "data").mkdir(parents=True)
    storage = MinariStorage.new(part / "data", *_spaces(data), data_format="arrow")
    _write_episodes(data, part / "data")
    storage.update_metadata({
        "dataset_id": name, "minari_version": minari.__version__,
        "total_episodes": len(data.ends), "total_steps": len(data.steps), "dataset_size": storage.get_size(),
    })  # fmt: skip
    os.replace(part, folder)
    return folder


def _observed(data: Episodes) -> dict[str, np.ndarray]:
    return {"observation": data.observations} if data.goals is None else {
        "achieved_goal": data.goals, "observation": data.observations}  # fmt: skip


def _spaces(data: Episodes) -> tuple[Any, Any]:
    """The spaces of observations and actions, as Minari keeps them."""
    from gymnasium import spaces

    boxes = {k: spaces.Box(-np.inf, np.inf, v.shape[1:], np.float32) for k, v in _observed(data).items()}
    action_space = spaces.Box(-np.inf, np.inf, (data.act_dim,), np.float32)
    return boxes["observation"] if data.goals is None else spaces.Dict(boxes), action_space


def _write_episodes(data: Episodes, folder: Path) -> None:
    """One file an episode, each a slice of one table: Minari's own writer turns every step into an object first."""
    pa = runtime.optional("pyarrow")
    lists = {k: pa.FixedSizeListArray.from_arrays(v.ravel(), v.shape[1]) for k, v in _observed(data).items()}
    both = pa.StructArray.from_arrays(list(lists.values()), names=list(lists))
    table = pa.RecordBatch.from_pydict({
        "observations": lists["observation"] if data.goals is None else both,
        "actions": pa.FixedSizeListArray.from_arrays(data.actions.ravel(), data.act_dim),
        "rewards": np.zeros(len(data)),
        "terminations": data.terminated,
        "truncations": data.truncated,
    })  # fmt: skip
    starts = np.r_[0, data.ends[:-1] + 1]
    for i, (start, end) in enumerate(zip(starts, data.ends, strict=True)):
        (folder / str(i)).mkdir()
        path = str(folder / str(i) / "part-0.arrow")
        with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_batch(table.slice(start, end + 1 - start))
        (folder / str(i) / "metadata.json").write_text(json.dumps({"id": i, "total_steps": int(end - start)}))


def read_minari(folder: str | Path) -> Episodes:
    """The Minari dataset in a folder, as whole arrays. Without `achieved_goal` in its observations it has no goals.

    Raises:
        FileNotFoundError: the folder holds no Minari dataset.
        ValueError: the episodes are not fit to learn from; see `Episodes`.
    """
    runtime.optional("minari")
    from minari import MinariDataset

    path = Path(folder) / "data"
    if not (path / "metadata.json").exists():
        raise FileNotFoundError(f"{folder} holds no Minari dataset; a dataset is a folder with data/metadata.json")
    columns: dict[str, list[np.ndarray]] = {name: [] for name in FIELDS if name != "ends"}
    for episode in MinariDataset(path).iterate_episodes():
        seen = episode.observations if isinstance(episode.observations, dict) else {"observation": episode.observations}
        columns["observations"].append(seen["observation"])
        columns["goals"].append(seen.get("achieved_goal"))
        columns["actions"].append(np.pad(episode.actions, ((0, 1), (0, 0))))
        columns["terminated"].append(np.pad(episode.terminations, (0, 1)))
        columns["truncated"].append(np.pad(episode.truncations, (0, 1)))
    lengths = [len(rows) for rows in columns["observations"]]
    if not lengths:
        raise ValueError(f"the dataset {folder} is empty; at least one episode is needed")
    if columns["goals"][0] is None:
        columns.pop("goals")
    return Episodes(**{k: np.concatenate(v) for k, v in columns.items()}, ends=np.cumsum(lengths) - 1)
