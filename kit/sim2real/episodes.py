"""Recording what an arm saw and did, so that a program that is killed loses at most the frame being written.

    rec = Recorder("runs/reach")                       # makes the folder, or adds to one with the same names and rate
    rec.start(task="reach the cube")
    rec.add(observation, action, human=1.0)            # once a control step, at `fps`; extra columns are up to you
    rec.end(success=True)
    episodes = load("runs/reach")                      # also those that broke off: `episode.finished` is False

A folder holds `recording.json` (names, rate, sizes) and for each episode a file of JSON lines: a head, one line a
frame, and a last line when it has ended. Pictures lie beside it, raw, one after the other. A line without its end is
a torn frame: it is dropped, and said so. What was written survives the end of the program, but not a power cut. Look
first at `Recorder.add`, then at `load`; `kit.sim2real.lerobot` makes a LeRobot dataset of the result.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kit.checkpoints import write_whole
from kit.sim2real.units import KEYS

log = logging.getLogger(__name__)
FORMAT = 1


class DamagedRecording(ValueError):
    """A recording's files cannot be read, or do not belong together."""


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode of n frames. `observations` (n, d) and `actions` (n, k) have the units of the arm: degrees, percent.

    Raises:
        ValueError: the arrays' sizes do not fit each other or the names.
    """

    observations: np.ndarray
    actions: np.ndarray
    names: tuple[str, ...] = KEYS  # of the columns of `observations`
    action_names: tuple[str, ...] = KEYS
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)  # further columns (n,), by name
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)  # (n, H, W, 3) uint8, by camera
    fps: float = 30.0  # [Hz]
    robot_type: str = "so101"
    task: str = ""
    success: bool | None = None  # None: nobody said
    reason: str = ""  # why it ended
    finished: bool = True  # False: it broke off
    torn: int = 0  # frames that were only partly on disk, and dropped

    def __post_init__(self) -> None:
        for label, array, names in (
            ("observations", self.observations, self.names),
            ("actions", self.actions, self.action_names),
        ):
            if np.shape(array) != (len(self), len(names)):
                raise ValueError(f"{label} have shape {np.shape(array)}; {len(self)} frames of {names} are wanted")
        for name, column in self.extra.items():
            if np.shape(column) != (len(self),):
                raise ValueError(f"extra column {name!r} has shape {np.shape(column)}; ({len(self)},) is wanted")
        for camera, frames in self.pictures.items():
            _picture_shape(camera, frames[0] if len(self) else np.zeros((1, 1, 3), np.uint8))
            if len(frames) != len(self):
                raise ValueError(f"there are {len(frames)} pictures of {camera!r} for {len(self)} frames")

    def __len__(self) -> int:
        return len(self.actions)


# ---- the pieces -------------------------------------------------------------------------------------------------


def check_name(name: str) -> None:
    """
    Raises:
        ValueError: neither a file nor a LeRobot dataset could have a column of this name.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[\w.\- ]+", name):
        raise ValueError(f"{name!r} cannot be a column's name: use letters, digits, and . _ - (no slash)")


def numbers(values: Mapping[str, Any], names: Sequence[str], label: str) -> list[float]:
    """The values in the order of the names.

    Raises:
        ValueError: one is missing, or is no finite number.
    """
    if missing := [name for name in names if name not in values]:
        raise ValueError(f"the {label} lacks {', '.join(missing)}; this recording has {', '.join(names)}")
    try:
        found = [float(values[name]) for name in names]
    except (TypeError, ValueError) as error:
        raise ValueError(f"the {label} {dict(values)} holds something that is no number: {error}") from error
    if not np.isfinite(found).all():
        raise ValueError(f"the {label} is {dict(zip(names, found, strict=True))}; only finite numbers are recorded")
    return found


def _picture_shape(camera: str, picture: Any) -> tuple[int, ...]:
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3 or not array.size:
        raise ValueError(f"{camera!r} is {array.dtype} {array.shape}; a picture is uint8 (height, width, 3)")
    return array.shape


def whole_lines(data: bytes) -> tuple[list[bytes], bool]:
    """The lines that have their end, and whether there is a torn one after them."""
    *lines, rest = data.split(b"\n")
    return lines, bool(rest)


# ---- writing ----------------------------------------------------------------------------------------------------


class _Appended:
    """A file that only grows, by whole pieces: where one does not fit on the disk, none of it stays."""

    def __init__(self, path: Path):
        self.file: BinaryIO = open(path, "xb", buffering=0)  # noqa: SIM115
        self.size = 0

    def append(self, data: bytes) -> None:
        try:
            written = self.file.write(data)
            if written != len(data):
                raise OSError(f"{self.file.name}: only {written} of {len(data)} bytes could be written; is it full?")
        except OSError:
            self.file.truncate(self.size)
            self.file.seek(self.size)
            raise
        self.size += len(data)


class Recorder:
    """Writes episodes into a folder as they happen. `names` are the observation's numbers; `action_names` default to
    the same. Which extra columns and pictures there are, the folder's first frame decides for all that follow.

    Raises:
        ValueError: the folder was recorded with other names, another rate or another robot.
        DamagedRecording: the folder's description cannot be read.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        fps: float = 30.0,
        robot_type: str = "so101",
        names: Sequence[str] = KEYS,
        action_names: Sequence[str] | None = None,
    ):
        if not 0 < fps < float("inf"):
            raise ValueError(f"fps is {fps}; it must be positive and finite")
        for name in (*names, *(action_names or ())):
            check_name(name)
        self.folder = Path(folder)
        self.about: dict[str, Any] = {
            "format": FORMAT, "fps": float(fps), "robot_type": robot_type, "names": list(names),
            "action_names": list(names if action_names is None else action_names), "extra": None, "pictures": None,
        }  # fmt: skip
        self._lines: _Appended | None = None
        self._pictures: dict[str, _Appended] = {}
        self.frames = 0  # of the episode that is being recorded
        self._join()

    def _join(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "recording.json").exists():
            self._describe()
            return
        found = _about(self.folder)
        for key in ("fps", "robot_type", "names", "action_names"):
            if found[key] != self.about[key]:
                raise ValueError(
                    f"{self.folder} was recorded with {key} {found[key]}, and this is {self.about[key]}: use another "
                    "folder, since the episodes of one must be alike"
                )
        self.about = found

    def _describe(self) -> None:
        write_whole(self.folder / "recording.json", json.dumps(self.about, indent=1).encode())

    @property
    def recording(self) -> bool:
        return self._lines is not None

    def start(self, task: str = "") -> int:
        """Begin an episode; returns its number in the folder.

        Raises:
            RuntimeError: one is being recorded already.
        """
        if self.recording:
            raise RuntimeError("an episode is being recorded; end() or discard() it first")
        number = 1 + max((number for number, _ in _files(self.folder)), default=-1)
        self._path = self.folder / f"episode-{number:06d}.jsonl"
        self._lines, self.frames = _Appended(self._path), 0
        self._lines.append(_line({"task": str(task)}))
        return number

    def add(self, observation: Mapping[str, Any], action: Mapping[str, Any], **extra: float) -> None:
        """Write a frame. Whatever the observation has besides `names` must be a picture, (height, width, 3) uint8.

        Raises:
            RuntimeError: no episode is being recorded.
            ValueError: a number is missing or not finite, or other extra columns or pictures than in the first frame.
            OSError: the disk is full.
            Nothing was written then.
        """
        if self._lines is None:
            raise RuntimeError("no episode is being recorded; call start() first")
        if unknown := [name for name in action if name not in self.about["action_names"]]:
            raise ValueError(f"the action has {', '.join(unknown)}, which this recording does not know")
        frame = {
            "o": numbers(observation, self.about["names"], "observation"),
            "a": numbers(action, self.about["action_names"], "action"),
        }
        columns = dict(zip(extra, numbers(extra, list(extra), "frame's extra columns"), strict=True))
        shots = {name: np.asarray(value) for name, value in observation.items() if name not in self.about["names"]}
        self._check_columns(list(extra), {camera: list(_picture_shape(camera, s)) for camera, s in shots.items()})
        frame["x"] = [columns[name] for name in self.about["extra"]]
        for camera, shot in shots.items():  # before the line: a frame whose line is there is whole
            self._picture_file(camera).append(shot.tobytes())
        self._lines.append(_line(frame))
        self.frames += 1

    def _check_columns(self, extra: list[str], pictures: dict[str, list[int]]) -> None:
        if self.about["extra"] is None:
            for name in (*extra, *pictures):
                check_name(name)
            self.about |= {"extra": extra, "pictures": pictures}
            self._describe()
        if set(extra) != set(self.about["extra"]):
            raise ValueError(f"extra columns {extra}; the first frame in {self.folder} had {self.about['extra']}")
        if pictures != self.about["pictures"]:
            raise ValueError(f"pictures {pictures}; the first frame in {self.folder} had {self.about['pictures']}")

    def _picture_file(self, camera: str) -> _Appended:
        if camera not in self._pictures:
            self._pictures[camera] = _Appended(_raw(self._path, camera))
        file = self._pictures[camera]
        whole = self.frames * int(np.prod(self.about["pictures"][camera]))
        if file.size != whole:  # the line of this picture's frame could not be written
            file.file.truncate(whole)
            file.file.seek(whole)
            file.size = whole
        return file

    def end(self, success: bool | None = None, reason: str = "") -> None:
        """
        Raises:
            RuntimeError: no episode is being recorded.
        """
        if self._lines is None:
            raise RuntimeError("no episode is being recorded; call start() first")
        success = None if success is None else bool(success)
        self._lines.append(_line({"success": success, "reason": str(reason), "frames": self.frames}))
        self.close()

    def discard(self) -> None:
        """Delete the episode that is being recorded."""
        if self.recording:
            paths = [self._path, *(_raw(self._path, camera) for camera in self._pictures)]
            self.close()
            for path in paths:
                path.unlink()

    def close(self) -> None:
        """Stop writing; an episode that has not ended stays, as one that broke off."""
        for file in (self._lines, *self._pictures.values()):
            if file is not None:
                file.file.close()
        self._lines, self._pictures = None, {}

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _raw(lines: Path, camera: str) -> Path:
    return lines.with_name(f"{lines.stem}.{camera}.u8")


# ---- reading ----------------------------------------------------------------------------------------------------


def _files(folder: Path) -> list[tuple[int, Path]]:
    found = [(re.fullmatch(r"episode-(\d+)\.jsonl", path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in found if match)


def _about(folder: Path) -> dict[str, Any]:
    path = folder / "recording.json"
    try:
        about = json.loads(path.read_text())
        if about["format"] != FORMAT:
            raise DamagedRecording(f"{path} has format {about['format']}; this kit reads {FORMAT}")
        return {key: about[key] for key in (
            "format", "fps", "robot_type", "names", "action_names", "extra", "pictures"
        )}  # fmt: skip
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise DamagedRecording(f"{path} cannot be read ({error!r}); it should describe the recording") from error


def load(folder: str | Path) -> list[Episode]:
    """All episodes in the order in which they were recorded. Pictures stay on disk until they are looked at.

    Raises:
        FileNotFoundError: no recording there.
        DamagedRecording: something is broken other than the end of an episode that broke off.
    """
    folder = Path(folder)
    if not (folder / "recording.json").exists():
        raise FileNotFoundError(f"no recording at {folder}: it has no recording.json, which a Recorder makes")
    about = _about(folder)
    return [_load(path, about) for _, path in _files(folder)]


def _load(path: Path, about: dict[str, Any]) -> Episode:
    lines, torn = whole_lines(path.read_bytes())
    try:
        head, *frames = [json.loads(line) for line in lines] or [{"task": ""}]
        end = frames.pop() if frames and "frames" in frames[-1] else None
        widths = {"o": len(about["names"]), "a": len(about["action_names"]), "x": len(about["extra"] or [])}
        rows = {k: np.array([f[k] for f in frames], float).reshape(len(frames), w) for k, w in widths.items()}
        task = head["task"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRecording(f"{path} is damaged before its end ({error!r}); move it elsewhere") from error
    shots = {camera: _shots(_raw(path, camera), shape) for camera, shape in (about["pictures"] or {}).items()}
    n = min([len(frames), *map(len, shots.values())])
    if end is not None and (torn or end["frames"] != n):
        raise DamagedRecording(f"{path} ended with {end['frames']} frames, and {n} are there; move it elsewhere")
    if end is None:
        log.warning("%s broke off after %d frames%s", path, n, "; a torn one is dropped" if torn else "")
    return Episode(
        rows["o"][:n], rows["a"][:n], tuple(about["names"]), tuple(about["action_names"]),
        extra=dict(zip(about["extra"] or [], rows["x"][:n].T, strict=True)),
        pictures={camera: frames[:n] for camera, frames in shots.items()},
        fps=about["fps"], robot_type=about["robot_type"], task=task, finished=end is not None,
        success=end["success"] if end else None, reason=end["reason"] if end else "it broke off",
        torn=int(torn) + len(frames) - n,
    )  # fmt: skip


def _shots(path: Path, shape: Sequence[int]) -> np.ndarray:
    """Whole pictures (n, H, W, 3), read when they are used."""
    count = path.stat().st_size // int(np.prod(shape)) if path.exists() else 0
    return np.memmap(path, np.uint8, "r", shape=(count, *shape)) if count else np.zeros((0, *shape), np.uint8)
