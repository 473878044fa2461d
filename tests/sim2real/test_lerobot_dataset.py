"""LeRobot's dataset format v3.0: the layout point by point, the way back, limits of size, and what is refused."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kit.sim2real import calibration, lerobot
from kit.sim2real.bus import Lockstep, virtual_arm
from kit.sim2real.client import ServoClient
from kit.sim2real.episodes import Episode
from kit.sim2real.lerobot import BadDataset, export, load
from kit.sim2real.units import KEYS

DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
ARMS = ("follower0", "leader1")
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def make(n, rng, task="reach", pictures=False, **options):
    shots = {"top": rng.integers(0, 256, (n, 6, 8, 3), np.uint8)} if pictures else {}
    extra = {"human": rng.integers(0, 2, n).astype(float), "at": 1e6 + rng.normal(size=n)}
    numbers = rng.normal(0, 40, (2, n, 6))
    return Episode(*numbers, extra=extra, pictures=shots, task=task, **options)


@pytest.fixture
def three():
    rng = np.random.default_rng(0)
    endings = dict(success=True, reason="there"), dict(success=False), dict(finished=False, reason="it broke off")
    return [make(4 + i, rng, task, True, **end) for i, (task, end) in enumerate(zip("aba", endings, strict=True))]


@pytest.fixture
def folder(three, tmp_path):
    return export(three, tmp_path / "set")


def read(path):
    return json.loads(path.read_text())


# ---- the layout -------------------------------------------------------------------------------------------------


def test_the_files_are_those_of_the_format(folder):
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == {"meta/info.json", "meta/stats.json", "meta/tasks.parquet", EPISODES, DATA}
    assert [p.name for p in folder.parent.iterdir()] == ["set"]  # nothing is left beside it


def test_info_names_version_rate_counts_paths_and_features(folder):
    info = read(folder / "meta/info.json")
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0", "robot_type": "so101", "fps": 30, "total_episodes": 3, "total_frames": 15,
        "total_tasks": 2, "chunks_size": 1000, "data_files_size_in_mb": 100, "video_files_size_in_mb": 200,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet", "video_path": None,
        "splits": {"train": "0:3"},
    }  # fmt: skip
    assert isinstance(info["fps"], int)
    for key in ("observation.state", "action"):
        assert features.pop(key) == {"dtype": "float32", "shape": [6], "names": list(KEYS)}
    picture = {"dtype": "image", "shape": [6, 8, 3], "names": ["height", "width", "channels"]}
    assert features.pop("observation.images.top") == picture
    assert features.pop("timestamp") == {"dtype": "float32", "shape": [1], "names": None}
    for key in ("frame_index", "episode_index", "index", "task_index"):
        assert features.pop(key) == {"dtype": "int64", "shape": [1], "names": None}
    assert features == {k: {"dtype": "float64", "shape": [1], "names": None} for k in ("human", "at")}


def test_the_data_file_has_fixed_lists_and_an_image_struct(folder, three):
    table = pq.read_table(folder / DATA)
    kinds = {name: str(kind) for name, kind in zip(table.column_names, table.schema.types, strict=True)}
    assert kinds["action"] == kinds["observation.state"] == "fixed_size_list<element: float>[6]"
    assert kinds["observation.images.top"] == "struct<bytes: binary, path: string>"
    assert kinds["timestamp"] == "float"
    assert {kinds[key] for key in ("frame_index", "episode_index", "index", "task_index")} == {"int64"}
    assert pq.read_metadata(folder / DATA).num_row_groups == 3  # one an episode
    frame_index = np.concatenate([np.arange(len(e)) for e in three])
    np.testing.assert_array_equal(table["frame_index"], frame_index)
    np.testing.assert_array_equal(table["timestamp"].to_numpy(), (frame_index / 30).astype(np.float32))
    np.testing.assert_array_equal(table["index"], np.arange(15))
    np.testing.assert_array_equal(table["episode_index"], np.repeat([0, 1, 2], [4, 5, 6]))
    np.testing.assert_array_equal(table["task_index"], np.repeat([0, 1, 0], [4, 5, 6]))


def test_tasks_come_back_as_pandas_index(folder):
    frame = pytest.importorskip("pandas").read_parquet(folder / "meta/tasks.parquet")
    assert frame.index.name == "task" and list(frame.index) == ["a", "b"]
    assert list(frame.columns) == ["task_index"] and frame.task_index.dtype == np.int64
    assert int(frame.loc["b"].task_index) == 1


def test_the_episodes_table_says_where_each_one_is(folder):
    table = pq.read_table(folder / EPISODES)
    rows = table.drop([n for n in table.column_names if n.startswith("stats/")]).to_pylist()
    assert rows[1] == {
        "episode_index": 1, "tasks": ["b"], "length": 5, "data/chunk_index": 0, "data/file_index": 0,
        "dataset_from_index": 4, "dataset_to_index": 9, "success": False, "reason": "", "finished": True,
        "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
    }  # fmt: skip
    assert [(r["dataset_from_index"], r["dataset_to_index"], r["success"]) for r in rows] == [
        (0, 4, True), (4, 9, False), (9, 15, None)
    ]  # fmt: skip


NAMES = ["count", "max", "mean", "min", "q01", "q10", "q50", "q90", "q99", "std"]


def test_statistics_of_each_episode_and_of_all(folder, three):
    stats, rows = read(folder / "meta/stats.json"), pq.read_table(folder / EPISODES)
    assert set(stats) == set(read(folder / "meta/info.json")["features"])
    states = [e.observations.astype(np.float32).astype(float) for e in three]
    for found, values in (
        (stats["observation.state"], np.concatenate(states)),
        ({n: rows[f"stats/observation.state/{n}"][1].as_py() for n in NAMES}, states[1]),
    ):
        assert sorted(found) == NAMES and found["count"] == [len(values)]
        for name in ("min", "max", "mean", "std"):
            np.testing.assert_allclose(found[name], getattr(values, name)(axis=0), rtol=1e-12)
        for q in (1, 10, 50, 90, 99):
            np.testing.assert_allclose(found[f"q{q:02d}"], np.percentile(values, q, axis=0), rtol=1e-12)
    assert np.shape(stats["timestamp"]["mean"]) == (1,) and stats["index"]["max"] == [14]


def test_statistics_of_pictures_are_per_channel_and_of_brightness_one(folder, three):
    stats = read(folder / "meta/stats.json")["observation.images.top"]
    pixels = np.concatenate([e.pictures["top"] for e in three]).reshape(-1, 3) / 255
    assert stats["count"] == [15] and np.shape(stats["mean"]) == np.shape(stats["q50"]) == (3, 1, 1)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(np.ravel(stats[name]), getattr(pixels, name)(axis=0), rtol=1e-9)
    for q in (1, 10, 50, 90, 99):
        expected = np.percentile(pixels, q, axis=0, method="inverted_cdf")
        np.testing.assert_allclose(np.ravel(stats[f"q{q:02d}"]), expected, atol=1e-12)


def test_a_new_file_begins_where_one_would_become_too_large(three, tmp_path):
    plain = [dataclasses.replace(e, pictures={}) for e in [*three, *three]]  # a frame has 100 bytes
    folder = export(plain, tmp_path / "set", data_files_size_in_mb=1000 / 2**20, chunks_size=2)
    files = sorted((folder / "meta/episodes").rglob("*.parquet"))  # a row there has more than 1000 bytes
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    places = [(row["data/chunk_index"], row["data/file_index"]) for row in rows]
    assert places == [(0, 0), (0, 0), (0, 1), (0, 1), (1, 0), (1, 1)]  # 4 + 5, 6 + 4, 5 and 6 frames
    names = [f"chunk-{row['meta/episodes/chunk_index']:03d}/file-{row['meta/episodes/file_index']:03d}" for row in rows]
    assert names == [str(path.relative_to(folder / "meta/episodes"))[:-8] for path in files] and len(set(names)) == 6
    assert len(list((folder / "data").rglob("*.parquet"))) == 4
    for before, after in zip(plain, load(folder), strict=True):
        np.testing.assert_array_equal(after.actions, before.actions.astype(np.float32))


# ---- the way back -----------------------------------------------------------------------------------------------


def test_what_was_exported_is_loaded_exactly(folder, three):
    found = load(folder)
    assert len(found) == 3
    for before, after in zip(three, found, strict=True):
        np.testing.assert_array_equal(after.observations, before.observations.astype(np.float32))
        np.testing.assert_array_equal(after.actions, before.actions.astype(np.float32))
        np.testing.assert_array_equal(after.pictures["top"], before.pictures["top"])
        for name in ("human", "at"):
            np.testing.assert_array_equal(after.extra[name], before.extra[name])
        for name in ("names", "action_names", "fps", "robot_type", "task", "success", "reason", "finished"):
            assert getattr(after, name) == getattr(before, name), name


def test_exporting_what_was_loaded_gives_the_same_files(folder, tmp_path):
    again = export(load(folder), tmp_path / "again")
    for path in (p for p in folder.rglob("*") if p.is_file()):
        assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path.name


def test_vectors_of_one_number_are_stored_as_numbers(tmp_path):
    one = Episode(np.arange(3.0)[:, None], -np.arange(3.0)[:, None], ("a.pos",), ("a.pos",))
    folder = export([one], tmp_path / "set")
    assert str(pq.read_schema(folder / DATA).field("action").type) == "float"
    np.testing.assert_array_equal(load(folder)[0].actions, one.actions)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 7, 3), (48, 64, 3)])
def test_a_picture_survives_and_any_reader_can_read_it(shape):
    picture = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    data = lerobot.png(picture)
    np.testing.assert_array_equal(lerobot.unpng(data), picture)
    image = pytest.importorskip("PIL.Image")
    import io

    np.testing.assert_array_equal(np.asarray(image.open(io.BytesIO(data))), picture)
    other = io.BytesIO()
    image.fromarray(picture).save(other, "PNG")  # with filters of its own choice
    np.testing.assert_array_equal(lerobot.unpng(other.getvalue()), picture)


def test_a_dataset_of_lerobot_with_more_in_it_is_read_as_far_as_it_goes(folder, caplog):
    info = read(folder / "meta/info.json")
    names = {"motors": list(KEYS)}  # as older recordings have it
    info["features"]["action"]["names"] = names
    info["features"]["observation.state"]["names"] = None
    info["features"]["observation.images.side"] = {"dtype": "video", "shape": [4, 4, 3], "names": None}
    info["features"]["observation.force"] = {"dtype": "float32", "shape": [3], "names": None}
    (folder / "meta/info.json").write_text(json.dumps(info))
    table = pq.read_table(folder / EPISODES)
    pq.write_table(table.drop(["success", "reason", "finished"]), folder / EPISODES)
    episode = load(folder)[2]
    assert episode.action_names == KEYS and episode.names[0] == "observation.state.0"
    assert (episode.success, episode.reason, episode.finished) == (None, "", True)
    assert "observation.force (float32), observation.images.side (video) left out" in caplog.text


# ---- all or nothing ---------------------------------------------------------------------------------------------


def test_an_export_that_fails_leaves_nothing(three, tmp_path, monkeypatch):
    monkeypatch.setattr(lerobot, "_write_json", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        export(three, tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_touched(folder, three):
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with pytest.raises(FileExistsError, match="set exists; give another folder"):
        export(three, folder)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: [], "no episodes"),
        (lambda e: [e[0], Episode(np.zeros((0, 6)), np.zeros((0, 6)))], r"episode 1 has no frames; leave it out: \[e "),
        (lambda e: [e[0], dataclasses.replace(e[1], fps=15.0)], "episode 1 differs from the first in rate"),
        (lambda e: [e[0], dataclasses.replace(e[1], extra={})], "episode 1 differs"),
        (lambda e: [dataclasses.replace(e[0], fps=12.5)], r"whole frames a second, and these have 12\.5"),
        (lambda e: [dataclasses.replace(e[0], extra={"a/b": np.zeros(4)})], "feature 'a/b' has a slash"),
        (lambda e: [dataclasses.replace(e[0], extra={"index": np.zeros(4)})], "'index' has a name that LeRobot gives"),
        (
            lambda e: [dataclasses.replace(e[0], extra={"action": np.zeros(4)})],
            "'action' has a name that LeRobot gives",
        ),
    ],
)
def test_episodes_that_make_no_dataset_are_refused(three, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        export(change(three), tmp_path / "set")
    assert not list(tmp_path.iterdir())


# ---- bad datasets -----------------------------------------------------------------------------------------------


def other_version(folder):
    info = read(folder / "meta/info.json")
    (folder / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v2.1"}))


def slash(folder):
    info = read(folder / "meta/info.json")
    info["features"]["observation/state"] = info["features"]["action"]
    (folder / "meta/info.json").write_text(json.dumps(info))


def no_action(folder):
    info = read(folder / "meta/info.json")
    del info["features"]["action"]
    (folder / "meta/info.json").write_text(json.dumps(info))


def cut(path):
    def damage(folder):
        (folder / path).write_bytes((folder / path).read_bytes()[:-20])

    return damage


def lose_column(path, column):
    def damage(folder):
        pq.write_table(pq.read_table(folder / path).drop([column]), folder / path)

    return damage


def lose_rows(folder):
    pq.write_table(pq.read_table(folder / DATA).slice(0, 12), folder / DATA)


def narrow(folder):
    info = read(folder / "meta/info.json")
    info["features"]["action"] |= {"shape": [5], "names": list(KEYS[:5])}
    (folder / "meta/info.json").write_text(json.dumps(info))


def spoil_a_picture(folder):
    table = pq.read_table(folder / DATA)
    cells = table["observation.images.top"].to_pylist()
    cells[3]["bytes"] = cells[3]["bytes"][:60] + b"rubbish" + cells[3]["bytes"][67:]
    column = pa.array(cells, table.schema.field("observation.images.top").type)
    index = table.column_names.index("observation.images.top")
    pq.write_table(table.set_column(index, "observation.images.top", column), folder / DATA)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (spoil_a_picture, r"file-000\.parquet: episode 0 does not fit meta/info\.json.*decompress"),
        (
            other_version,
            r"info\.json says codebase_version 'v2\.1', and this kit reads 'v3\.0'.*convert_dataset_v21_to_v30",
        ),
        (slash, r"info\.json: feature 'observation/state' has a slash in its name.*rename it"),
        (no_action, r"info\.json has no feature action"),
        (cut(DATA), r"data/chunk-000/file-000\.parquet is no whole Parquet file.*finalize\(\)"),
        (cut(EPISODES), r"meta/episodes/chunk-000/file-000\.parquet is no whole Parquet file"),
        (cut("meta/tasks.parquet"), r"tasks\.parquet is no whole Parquet file"),
        (cut("meta/info.json"), r"info\.json cannot be read"),
        (lose_column(DATA, "action"), r"data/chunk-000/file-000\.parquet lacks the columns action; it has"),
        (lose_column(EPISODES, "length"), r"meta/episodes.* lacks the columns length"),
        (lose_column("meta/tasks.parquet", "task"), r"tasks\.parquet lacks the column task"),
        (lose_rows, r"file-000\.parquet does not hold the 6 frames of episode 2"),
        (narrow, r"file-000\.parquet: episode 0 does not fit meta/info\.json"),
    ],
)
def test_a_bad_dataset_is_refused_with_the_file_and_the_fix(folder, damage, message):
    damage(folder)
    with pytest.raises(BadDataset, match=message):
        load(folder)


@pytest.mark.parametrize("path", ["meta/info.json", "meta/tasks.parquet", DATA, EPISODES])
def test_a_missing_file_is_named(folder, path):
    (folder / path).unlink()
    with pytest.raises(FileNotFoundError, match=path.split("/")[-1] if path != EPISODES else "meta/episodes"):
        load(folder)


# ---- the page, and the script for a computer with LeRobot -------------------------------------------------------


@pytest.fixture
def page():
    return re.findall(r"```python\n(.*?)```", (NOTEBOOKS / "lerobot.md").read_text(), re.DOTALL)


def test_the_page_copies_calibrations_to_where_lerobot_looks(page, tmp_path, monkeypatch):
    buses = {f"ports/{name}": virtual_arm(seed=k, calibrated=True, clock=Lockstep()) for k, name in enumerate(ARMS)}
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path))
    monkeypatch.setattr("kit.sim2real.client.ServoClient", lambda port: ServoClient(buses[port]))
    exec(page[0], {})
    for folder, bus in zip(("robots/so_follower", "teleoperators/so_leader"), buses.values(), strict=True):
        assert calibration.load(tmp_path / folder / "virtual.json") == calibration.parse(bus.arm.calibration)


def test_the_page_s_recording_becomes_a_dataset(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(page[1], {})
    (episode,) = load("datasets/lift")
    assert len(episode) == 60 and episode.success and episode.task == "lift the wrist"
    wrist = episode.observations[:, KEYS.index("wrist_flex.pos")]
    assert wrist[0] > 40 and abs(wrist[-1]) < 6 and np.allclose(episode.actions[-1][3], 0, atol=1)


def run_check(*arguments, **environment):
    command = [sys.executable, str(NOTEBOOKS / "lerobot_check.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=60)


def test_the_check_script_explains_itself_without_lerobot(tmp_path):
    done = run_check("--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("--port", "--dataset", "python -m kit robot"))
    assert run_check().returncode == 2
    shutil.copy(NOTEBOOKS / "lerobot_check.py", tmp_path)  # beside nothing of the kit
    if subprocess.run([sys.executable, "-c", "import lerobot"], capture_output=True).returncode:
        done = run_check("--dataset", str(tmp_path))
        assert done.returncode == 2 and "LeRobot is not installed" in done.stderr and "pip install" in done.stderr
