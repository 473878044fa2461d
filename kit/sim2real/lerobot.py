"""LeRobot's dataset format v3.0, written and read with pyarrow alone: what was recorded here trains there, and back.

    export(load("runs/reach"), "datasets/reach")        # the first load is `episodes.load`
    episodes = lerobot.load("datasets/reach")

    meta/info.json                                 rate, features, counts, where files lie
    meta/stats.json                                min max mean std count q01 q10 q50 q90 q99 of every feature
    meta/tasks.parquet                             task (the index, as pandas keeps it) -> task_index
    meta/episodes/chunk-000/file-000.parquet       a row for each episode: its frames, its files, its own statistics
    data/chunk-000/file-000.parquet                a row for each frame; timestamp = frame_index / fps

State and action become float32, as LeRobot keeps them; extra columns stay float64. Pictures are PNGs inside the data
files (the dtype "image"); videos are not read. How an episode ended is in three columns more of the episodes' table.
Quantiles are exact, where LeRobot's own are estimates. Look first at `features_of`, then at `rows_of`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kit import runtime
from kit.sim2real.episodes import Episode

log = logging.getLogger(__name__)
VERSION = "v3.0"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
INDICES = ("frame_index", "episode_index", "index", "task_index")
PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins
QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
NEEDED = ("episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index", "data/chunk_index",
          "data/file_index")  # fmt: skip


class BadDataset(ValueError):
    """A folder is no LeRobot dataset that can be read here; the message names the file and what to do."""


# ---- features ---------------------------------------------------------------------------------------------------


def features_of(episode: Episode) -> dict[str, dict[str, Any]]:
    """What `info.json` says of each column.

    Raises:
        ValueError: a name has a slash, or is one of LeRobot's own.
    """
    vectors = {STATE: episode.names, ACTION: episode.action_names}
    found = {key: _feature("float32", [len(names)], list(names)) for key, names in vectors.items()}
    for camera, frames in episode.pictures.items():
        found[IMAGES + camera] = _feature("image", list(frames.shape[1:]), ["height", "width", "channels"])
    own = {"timestamp": _feature("float32", [1], None), **{key: _feature("int64", [1], None) for key in INDICES}}
    if taken := [name for name in episode.extra if name in found or name in own]:
        raise ValueError(f"extra column {taken[0]!r} has a name that LeRobot gives to something else; rename it")
    found |= {name: _feature("float64", [1], None) for name in episode.extra} | own
    check_names(found, "the episodes")
    return found


def _feature(dtype: str, shape: list[int], names: list[str] | None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "names": names}


def check_names(features: Mapping[str, Any], where: str) -> None:
    """
    Raises:
        ValueError: LeRobot separates parts of its own names by slashes, so that features must have none.
    """
    if bad := [name for name in features if "/" in name]:
        raise BadDataset(f"{where}: feature {bad[0]!r} has a slash in its name, which LeRobot forbids; rename it")


def rows_of(episode: Episode, number: int, start: int, task: int) -> dict[str, np.ndarray]:
    """The columns (n, ...) of one episode, which is the dataset's `number`th and begins at frame `start`."""
    n = len(episode)
    return {
        STATE: np.asarray(episode.observations, np.float32),
        ACTION: np.asarray(episode.actions, np.float32),
        **{IMAGES + camera: frames for camera, frames in episode.pictures.items()},
        **{name: np.asarray(values, np.float64) for name, values in episode.extra.items()},
        "timestamp": (np.arange(n) / episode.fps).astype(np.float32),
        "frame_index": np.arange(n),
        "episode_index": np.full(n, number),
        "index": np.arange(start, start + n),
        "task_index": np.full(n, task),
    }


# ---- pictures ---------------------------------------------------------------------------------------------------


def png(picture: np.ndarray) -> bytes:
    """A picture (H, W, 3) uint8 as PNG, every row less the one above it (filter 2), modulo 256."""
    height, width, _ = picture.shape
    rows = np.diff(picture, axis=0, prepend=np.uint8(0)).reshape(height, -1)
    packed = zlib.compress(np.insert(rows, 0, 2, axis=1).tobytes(), 4)
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT": packed, b"IEND": b""}
    sums = {kind: struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts.items()}
    chunks = [struct.pack(">I", len(data)) + kind + data + sums[kind] for kind, data in parts.items()]
    return PNG + b"".join(chunks)


def unpng(data: bytes) -> np.ndarray:
    """The picture (H, W, 3) uint8 of a PNG; one that `png` did not write needs Pillow.

    Raises:
        ImportError: Pillow is needed and not installed.
    """
    if data.startswith(PNG) and data[24:29] == b"\x08\x02\x00\x00\x00" and data[37:41] == b"IDAT":
        width, height = struct.unpack(">II", data[16:24])
        (size,) = struct.unpack(">I", data[33:37])
        rows = np.frombuffer(zlib.decompressobj().decompress(data[41 : 41 + size]), np.uint8)
        if rows.size == height * (3 * width + 1) and (rows[:: 3 * width + 1] == 2).all():
            differences = rows.reshape(height, -1)[:, 1:].reshape(height, width, 3)
            return np.cumsum(differences, axis=0, dtype=np.uint8)
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ImportError("these pictures were written by another program; pip install pillow to read them") from error
    import io

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


# ---- statistics -------------------------------------------------------------------------------------------------


def stats_of(values: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics over the frames of a column (n,) or (n, d); each has shape (1,) or (d,)."""
    values = np.asarray(values, np.float64).reshape(len(values), -1)
    found = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    return (
        found | {"count": np.array([len(values)])} | dict(zip(_keys(), np.quantile(values, QUANTILES, 0), strict=True))
    )


def _keys() -> list[str]:
    return [f"q{round(100 * q):02d}" for q in QUANTILES]


def counts_of(pictures: np.ndarray) -> np.ndarray:
    """How often each channel has each brightness, (3, 256)."""
    counts = np.zeros((3, 256), np.int64)
    for picture in pictures:
        counts += [np.bincount(picture[..., c].ravel(), minlength=256) for c in range(3)]
    return counts


def picture_stats(counts: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Statistics over all pixels of n pictures from `counts_of`; brightness is 0 to 1, shapes are (3, 1, 1)."""
    level, share = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
    mean = share @ level
    rank = np.cumsum(counts, axis=1)
    found = {
        "min": level[(counts > 0).argmax(axis=1)],
        "max": level[255 - (counts[:, ::-1] > 0).argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(share @ level**2 - mean**2, 0)),
        **{k: level[(rank >= q * rank[:, -1:]).argmax(axis=1)] for k, q in zip(_keys(), QUANTILES, strict=True)},
    }
    return {name: value.reshape(3, 1, 1) for name, value in found.items()} | {"count": np.array([n])}


class Statistics:
    """Of each episode, and of all of them together. A column of four axes holds pictures."""

    def __init__(self) -> None:
        self.frames = 0
        self._counts: dict[str, np.ndarray] = {}
        self._numbers: dict[str, list[np.ndarray]] = {}

    def add(self, rows: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
        """The statistics of one episode's columns."""
        n, found = len(rows["index"]), {}
        for key, values in rows.items():
            if values.ndim == 4:
                counts = counts_of(values)
                self._counts[key] = self._counts.get(key, 0) + counts
                found[key] = picture_stats(counts, n)
            else:
                self._numbers.setdefault(key, []).append(values)
                found[key] = stats_of(values)
        self.frames += n
        return found

    def total(self) -> dict[str, dict[str, np.ndarray]]:
        numbers = {key: stats_of(np.concatenate(parts)) for key, parts in self._numbers.items()}
        return numbers | {key: picture_stats(counts, self.frames) for key, counts in self._counts.items()}


# ---- writing ----------------------------------------------------------------------------------------------------


Place = tuple[int, int]  # chunk and file


class _Files:
    """Tables one after the other into files of a limited size, and files into chunks of a limited number."""

    def __init__(self, root: Path, template: str, limit_mb: float, per_chunk: int):
        self.root, self.template, self.limit, self.per_chunk = root, template, limit_mb * 2**20, per_chunk
        self.number, self.size, self.there, self.writer = 0, 0, None, None

    def place(self, size: int) -> Place:
        """Where a table of so many bytes goes."""
        if self.size and self.size + size > self.limit:
            self.number, self.size = self.number + 1, 0
        self.size += size
        return divmod(self.number, self.per_chunk)

    def write(self, table: Any, place: Place) -> None:
        """As one row group, into the file where the last one went or into a new one."""
        if place != self.there:
            self.close()
            path = self.root / self.template.format(chunk_index=place[0], file_index=place[1])
            path.parent.mkdir(parents=True, exist_ok=True)
            self.writer = runtime.optional("pyarrow.parquet").ParquetWriter(path, table.schema)
            self.there = place
        self.writer.write_table(table, row_group_size=len(table))

    def close(self) -> None:
        """Write the footer, without which a Parquet file cannot be read."""
        if self.writer is not None:
            self.writer.close()


def _column(values: np.ndarray, feature: Mapping[str, Any]) -> Any:
    pa = runtime.optional("pyarrow")
    if feature["dtype"] == "image":
        cells = [{"bytes": png(picture), "path": f"frame-{i:06d}.png"} for i, picture in enumerate(values)]
        return pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    flat = pa.array(np.ravel(values))
    return flat if feature["shape"] == [1] else pa.FixedSizeListArray.from_arrays(flat, feature["shape"][0])


def export(
    episodes: Sequence[Episode],
    folder: str | Path,
    *,
    chunks_size: int = 1000,
    data_files_size_in_mb: float = 100,
) -> Path:
    """Write a LeRobot dataset. It appears as a whole or not at all; what is there already is never touched.

    Raises:
        FileExistsError: there is something at `folder`.
        ValueError: no episodes, one without frames, or episodes that are not alike; nothing is written.
    """
    folder, episodes = Path(folder), list(episodes)
    features = _check(episodes)
    if chunks_size < 1 or data_files_size_in_mb <= 0:
        raise ValueError(f"chunks_size {chunks_size} or data_files_size_in_mb {data_files_size_in_mb} is not positive")
    if folder.exists():
        raise FileExistsError(f"{folder} exists; give another folder, or remove that one first")
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        _write(episodes, features, part, chunks_size, data_files_size_in_mb)
        os.rename(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return folder


def _check(episodes: Sequence[Episode]) -> dict[str, dict[str, Any]]:
    if not episodes:
        raise ValueError("there are no episodes to export")
    first = episodes[0]
    features = features_of(first)
    for i, episode in enumerate(episodes):
        if not len(episode):
            raise ValueError(f"episode {i} has no frames; leave it out: [e for e in episodes if len(e)]")
        if features_of(episode) != features or (episode.fps, episode.robot_type) != (first.fps, first.robot_type):
            raise ValueError(f"episode {i} differs from the first in rate, robot, names or pictures; export it apart")
    if first.fps != int(first.fps):
        raise ValueError(f"LeRobot keeps whole frames a second, and these have {first.fps}")
    return features


def _write(episodes: Sequence[Episode], features: dict[str, Any], root: Path, per_chunk: int, limit_mb: float) -> None:
    pa = runtime.optional("pyarrow")
    tasks = {task: i for i, task in enumerate(dict.fromkeys(e.task for e in episodes))}
    data, about = (_Files(root, name, limit_mb, per_chunk) for name in (DATA, EPISODES))
    statistics, start, abouts = Statistics(), 0, {}
    for number, episode in enumerate(episodes):
        rows = rows_of(episode, number, start, tasks[episode.task])
        table = pa.table({key: _column(rows[key], feature) for key, feature in features.items()})
        place = data.place(table.nbytes)
        data.write(table, place)
        columns = _episode_columns(_episode_row(episode, number, start, place), statistics.add(rows))
        here = about.place(sum(column.nbytes for column in columns.values()))
        columns |= {"meta/episodes/chunk_index": pa.array([here[0]]), "meta/episodes/file_index": pa.array([here[1]])}
        abouts.setdefault(here, []).append(pa.table(columns))
        start += len(episode)
    for here, tables in abouts.items():
        about.write(pa.concat_tables(tables), here)
    data.close()
    about.close()
    _write_tasks(tasks, root)
    stats = {key: {name: v.tolist() for name, v in found.items()} for key, found in statistics.total().items()}
    _write_json(stats, root / "meta/stats.json")
    info = {
        "codebase_version": VERSION, "robot_type": episodes[0].robot_type, "fps": int(episodes[0].fps),
        "total_episodes": len(episodes), "total_frames": start, "total_tasks": len(tasks), "chunks_size": per_chunk,
        "data_files_size_in_mb": limit_mb, "video_files_size_in_mb": 200, "data_path": DATA, "video_path": None,
        "splits": {"train": f"0:{len(episodes)}"}, "features": features,
    }  # fmt: skip
    _write_json(info, root / "meta/info.json")


def _episode_row(episode: Episode, number: int, start: int, place: Place) -> dict[str, Any]:
    return {
        "episode_index": number, "tasks": [episode.task], "length": len(episode),
        "data/chunk_index": place[0], "data/file_index": place[1],
        "dataset_from_index": start, "dataset_to_index": start + len(episode),
        "success": episode.success, "reason": episode.reason, "finished": episode.finished,
    }  # fmt: skip


def _episode_columns(row: dict[str, Any], stats: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    pa = runtime.optional("pyarrow")
    columns = {key: pa.array([value], pa.bool_() if key == "success" else None) for key, value in row.items()}
    for feature, found in stats.items():
        columns |= {f"stats/{feature}/{name}": pa.array([value.tolist()]) for name, value in found.items()}
    return columns


def _write_tasks(tasks: Mapping[str, int], root: Path) -> None:
    """The table that pandas would have written for a frame with the index `task` and the column `task_index`."""
    pa, pq = runtime.optional("pyarrow"), runtime.optional("pyarrow.parquet")
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    about = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_kind, "metadata": None}
            for name, (kind, numpy_kind) in kinds.items()
        ],
    }
    table = pa.table({"task_index": pa.array(list(tasks.values()), pa.int64()), "task": pa.array(list(tasks))})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(about)}), root / "meta/tasks.parquet")


def _write_json(value: Any, path: Path) -> None:
    path.write_text(json.dumps(value, indent=4, ensure_ascii=False, allow_nan=False), encoding="utf-8")


# ---- reading ----------------------------------------------------------------------------------------------------


def load(folder: str | Path) -> list[Episode]:
    """The episodes of a LeRobot dataset v3.0. Videos, texts and vectors other than state and action are left out, and
    named in a warning.

    Raises:
        FileNotFoundError: a file of the dataset is missing.
        BadDataset: another version, a damaged file, or missing columns.
    """
    folder = Path(folder)
    info = _info(folder)
    features = info["features"]
    tasks = _read_tasks(folder / "meta/tasks.parquet")
    paths = sorted((folder / "meta/episodes").glob("*/*.parquet"))
    if not paths:
        raise FileNotFoundError(f"{folder}/meta/episodes has no Parquet file; copy the whole dataset")
    rows = [row for path in paths for row in _table(path, NEEDED, ("success", "reason", "finished")).to_pylist()]
    rows.sort(key=lambda row: row["episode_index"])
    wanted = {
        key for key in features if key in (STATE, ACTION, *INDICES) or _kind(features[key]) in ("number", "image")
    }
    if left := sorted(set(features) - wanted):
        log.warning("%s: %s left out", folder, ", ".join(f"{key} ({features[key]['dtype']})" for key in left))
    columns = {key: features[key] for key in features if key in wanted}
    return list(_episodes(folder, info, columns, rows, tasks))


def _info(folder: Path) -> dict[str, Any]:
    path = folder / "meta/info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        version = info["codebase_version"]
    except FileNotFoundError:
        raise FileNotFoundError(f"no LeRobot dataset at {folder}: it has no meta/info.json") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BadDataset(f"{path} cannot be read ({error!r}); copy the dataset anew") from error
    if version != VERSION:
        raise BadDataset(
            f"{path} says codebase_version {version!r}, and this kit reads {VERSION!r}. LeRobot converts older "
            "datasets: python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id=NAME"
        )
    if missing := [key for key in ("fps", "features", "data_path") if key not in info]:
        raise BadDataset(f"{path} lacks {', '.join(missing)}; copy the dataset anew")
    check_names(info["features"], str(path))
    if missing := [key for key in (STATE, ACTION) if key not in info["features"]]:
        raise BadDataset(f"{path} has no feature {', '.join(missing)}; the kit's episodes need both")
    return info


def _kind(feature: Mapping[str, Any]) -> str:
    if feature["dtype"] in ("image", "video", "string"):
        return feature["dtype"]
    return "number" if list(feature["shape"]) == [1] else "vector"


def _table(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Any:
    """A Parquet file's columns, all of which it must have."""
    pa, pq = runtime.optional("pyarrow"), runtime.optional("pyarrow.parquet")
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; copy the whole dataset")
    try:
        with pq.ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            if missing := [name for name in columns if name not in there]:
                raise BadDataset(
                    f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(sorted(there)[:12])}. It does "
                    "not fit meta/info.json: copy or make the dataset anew"
                )
            return file.read([*columns, *(name for name in optional if name in there)])
    except (pa.ArrowException, OSError) as error:
        raise BadDataset(
            f"{path} is no whole Parquet file ({error}): its writer was stopped before its end, or a copy broke off. "
            "Copy it anew; a LeRobot recording needs dataset.finalize() at its end"
        ) from error


def _read_tasks(path: Path) -> dict[int, str]:
    table = _table(path, ("task_index",), ("task", "__index_level_0__"))
    if len(table.column_names) < 2:
        raise BadDataset(f"{path} lacks the column task; copy the dataset anew")
    names = table[next(name for name in table.column_names if name != "task_index")].to_pylist()
    return dict(zip(table["task_index"].to_pylist(), names, strict=True))


def _episodes(
    folder: Path, info: Mapping[str, Any], columns: Mapping[str, Any], rows: list[dict[str, Any]], tasks: dict[int, str]
) -> Iterator[Episode]:
    open_path, table, first = None, None, 0
    for row in rows:
        path = folder / info["data_path"].format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
        if path != open_path:
            open_path, table = path, _table(path, list(columns))
            first = table["index"][0].as_py() if len(table) else 0
        part = table.slice(row["dataset_from_index"] - first, row["length"])
        if len(part) != row["length"] or set(part["episode_index"].to_pylist()) - {row["episode_index"]}:
            raise BadDataset(
                f"{path} does not hold the {row['length']} frames of episode {row['episode_index']} where "
                "meta/episodes says they are; copy the dataset anew"
            )
        yield _episode(path, part, info, columns, row, tasks)


def _episode(
    path: Path,
    part: Any,
    info: Mapping[str, Any],
    columns: Mapping[str, Any],
    row: dict[str, Any],
    tasks: dict[int, str],
) -> Episode:
    features = info["features"]
    numbers = [k for k in columns if _kind(columns[k]) == "number" and k not in (STATE, ACTION, "timestamp", *INDICES)]
    images = [k for k in columns if _kind(columns[k]) == "image"]
    task = part["task_index"][0].as_py() if len(part) else None
    try:
        return Episode(
            _matrix(part[STATE], features[STATE]), _matrix(part[ACTION], features[ACTION]),
            _names(STATE, features[STATE]), _names(ACTION, features[ACTION]),
            extra={k: part[k].to_numpy().astype(np.float64) for k in numbers},
            pictures={k.removeprefix(IMAGES): _pictures(part[k]) for k in images},
            fps=float(info["fps"]), robot_type=info.get("robot_type") or "", task=tasks.get(task, ""),
            success=row.get("success"), reason=row.get("reason") or "", finished=row.get("finished", True),
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, OSError, zlib.error) as error:
        raise BadDataset(f"{path}: episode {row['episode_index']} does not fit meta/info.json: {error}") from error


def _matrix(column: Any, feature: Mapping[str, Any]) -> np.ndarray:
    """A column of vectors, or of numbers where they have one part, as (n, d) float32."""
    flat = column.combine_chunks()
    values = flat.flatten() if hasattr(flat, "flatten") and feature["shape"][0] > 1 else flat
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float32).reshape(len(column), feature["shape"][0])


def _pictures(column: Any) -> np.ndarray:
    return np.stack([unpng(cell["bytes"]) for cell in column.to_pylist()])


def _names(key: str, feature: Mapping[str, Any]) -> tuple[str, ...]:
    """LeRobot's names are a list, a dictionary of lists, or absent."""
    names = feature.get("names")
    if isinstance(names, Mapping):
        names = [name for group in names.values() for name in group]
    return tuple(names or [f"{key}.{i}" for i in range(feature["shape"][0])])
