"""Recordings: what is written is read back, also after kill -9, a torn frame and a full disk."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from kit.sim2real import episodes as ep
from kit.sim2real.episodes import DamagedRecording, Episode, Recorder, load
from kit.sim2real.units import KEYS


def observation(i):
    return {key: i + 0.1 * j for j, key in enumerate(KEYS)}


def record(folder, frames=5, **end):
    """A recorder after one whole episode in which frame i holds i, i + 0.1, ..."""
    rec = Recorder(folder)
    rec.start(task="reach")
    for i in range(frames):
        rec.add(observation(i), observation(i + 1), human=float(i == 2))
    rec.end(**end)
    return rec


def test_what_was_recorded_is_read_back_exactly(tmp_path):
    record(tmp_path, success=True, reason="there")
    (episode,) = load(tmp_path)
    np.testing.assert_array_equal(episode.observations, [list(observation(i).values()) for i in range(5)])
    np.testing.assert_array_equal(episode.actions, [list(observation(i + 1).values()) for i in range(5)])
    np.testing.assert_array_equal(episode.extra["human"], [0, 0, 1, 0, 0])
    assert len(episode) == 5 and episode.names == episode.action_names == KEYS
    assert (episode.fps, episode.robot_type, episode.task) == (30.0, "so101", "reach")
    assert (episode.success, episode.reason, episode.finished, episode.torn) == (True, "there", True, 0)


@pytest.mark.parametrize("success", [True, False, None])
def test_success_has_three_values(tmp_path, success):
    record(tmp_path, success=success)
    assert load(tmp_path)[0].success is success


def test_a_numpy_bool_and_numbers_of_numpy_are_recorded(tmp_path):
    rec = Recorder(tmp_path)
    rec.start()
    rec.add({k: np.float32(0.5) for k in KEYS}, {k: np.float64(1) for k in KEYS}, step=np.int64(3))
    rec.end(success=np.True_)
    assert load(tmp_path)[0].success is True and load(tmp_path)[0].extra["step"] == [3]


def test_a_second_recorder_appends_and_the_order_is_kept(tmp_path):
    record(tmp_path, frames=2)
    record(tmp_path, frames=3)
    assert [len(e) for e in load(tmp_path)] == [2, 3]


def test_frames_are_on_disk_at_once(tmp_path):
    rec = Recorder(tmp_path)
    assert rec.start() == 0
    for i in range(3):
        rec.add(observation(i), observation(i))
        assert len(load(tmp_path)[0]) == rec.frames == i + 1
    assert not load(tmp_path)[0].finished


def test_pictures_lie_beside_the_numbers(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, 6, 8, 3), np.uint8)
    rec = Recorder(tmp_path)
    for _ in range(2):
        rec.start()
        for i, picture in enumerate(pictures):
            rec.add(observation(i) | {"wrist": picture}, observation(i))
        rec.end()
    for episode in load(tmp_path):
        np.testing.assert_array_equal(episode.pictures["wrist"], pictures)
        assert list(episode.observations[2]) == list(observation(2).values())


def test_a_discarded_episode_is_gone(tmp_path):
    rec = record(tmp_path)
    before = sorted(tmp_path.iterdir())
    rec.start()
    rec.add(observation(0), observation(0), human=0.0)
    rec.discard()
    assert sorted(tmp_path.iterdir()) == before and not rec.recording and rec.start() == 1


def test_an_episode_without_frames_is_an_episode(tmp_path):
    rec = Recorder(tmp_path)
    rec.start("halted at once")
    rec.end(success=False, reason="no supply")
    (episode,) = load(tmp_path)
    assert len(episode) == 0 and episode.finished and episode.reason == "no supply"


# ---- what breaks off --------------------------------------------------------------------------------------------

VICTIM = """
import sys, numpy as np
from kit.sim2real.episodes import Recorder
from kit.sim2real.units import KEYS
rec = Recorder(sys.argv[1])
rec.start("a whole one"); rec.add(dict.fromkeys(KEYS, 7.0) | {"top": np.zeros((48, 64, 3), np.uint8)},
                                  dict.fromkeys(KEYS, 7.0)); rec.end(success=True)
rec.start("killed")
i = 0
while True:
    rec.add(dict.fromkeys(KEYS, float(i)) | {"top": np.full((48, 64, 3), i % 256, np.uint8)}, dict.fromkeys(KEYS, -i))
    i += 1
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_kill_9_in_the_middle_loses_at_most_one_frame(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", VICTIM, str(tmp_path)])
    last = tmp_path / "episode-000001.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (last.exists() and last.stat().st_size > 20_000):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(timeout=10) == -signal.SIGKILL
    lines = last.read_bytes().count(b"\n") - 1
    whole, broken = load(tmp_path)
    assert whole.finished and whole.success and len(whole) == 1
    assert not broken.finished and broken.success is None and "broke off" in broken.reason
    assert len(broken) == lines > 100
    np.testing.assert_array_equal(broken.observations, np.arange(lines)[:, None] * np.ones(6))
    np.testing.assert_array_equal(broken.actions, -broken.observations)
    np.testing.assert_array_equal(broken.pictures["top"][:, 0, 0, 0], np.arange(lines) % 256)
    assert Recorder(tmp_path).start() == 2  # and the folder goes on


@pytest.mark.parametrize("bytes_left", range(-150, 0, 7))
def test_a_torn_frame_is_dropped_and_said_so(tmp_path, bytes_left, caplog):
    record(tmp_path)
    path = tmp_path / "episode-000000.jsonl"
    data = path.read_bytes()
    end = len(data.split(b"\n")[-2]) + 1  # of the last line, which says that the episode ended
    path.write_bytes(data[: bytes_left - end])
    (episode,) = load(tmp_path)
    whole = data[: bytes_left - end].count(b"\n") - 1
    assert len(episode) == whole < 5 and episode.torn in (0, 1) and not episode.finished
    assert ("a torn one is dropped" in caplog.text) == (episode.torn == 1)
    assert f"broke off after {len(episode)} frames" in caplog.text


def test_a_picture_without_its_frame_is_no_frame(tmp_path):
    rec = Recorder(tmp_path)
    rec.start()
    for i in range(3):
        rec.add(observation(i) | {"top": np.full((2, 2, 3), i, np.uint8)}, observation(i))
    rec.close()
    with open(tmp_path / "episode-000000.top.u8", "ab") as file:
        file.write(b"1234567")
    assert len(load(tmp_path)[0].pictures["top"]) == len(load(tmp_path)[0]) == 3
    (tmp_path / "episode-000000.top.u8").write_bytes(bytes(30))  # after a power cut: two and a half pictures
    assert len(load(tmp_path)[0]) == 2 and load(tmp_path)[0].torn == 1


class Full:
    """A disk with room for a few bytes more."""

    def __init__(self, file, room):
        self.file, self.room, self.name = file, room, file.name

    def write(self, data):
        written = self.file.write(data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_frame_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path):
    shot = {"top": np.full((2, 2, 3), 5, np.uint8)}
    rec = Recorder(tmp_path)
    rec.start()
    rec.add(observation(0) | shot, observation(0))
    real = rec._lines.file
    rec._lines.file = Full(real, 20)
    with pytest.raises(OSError, match=r"only 20 of .* bytes"):
        rec.add(observation(1) | shot, observation(1))
    rec._lines.file = real  # somebody made room
    rec.add(observation(2) | {"top": np.full((2, 2, 3), 6, np.uint8)}, observation(2))
    rec.end(success=False)
    (episode,) = load(tmp_path)
    np.testing.assert_array_equal(episode.observations[:, 0], [0, 2])
    np.testing.assert_array_equal(episode.pictures["top"][:, 0, 0, 0], [5, 6])


def test_leaving_the_block_leaves_a_broken_off_episode(tmp_path):
    with pytest.raises(KeyboardInterrupt), Recorder(tmp_path) as rec:
        rec.start()
        rec.add(observation(0), observation(0))
        raise KeyboardInterrupt
    assert not rec.recording and not load(tmp_path)[0].finished


# ---- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (dict(fps=15.0), r"fps 30\.0, and this is 15\.0: use another folder"),
        (dict(names=("a.pos",)), r"names \['shoulder_pan\.pos'.*and this is \['a\.pos'\]"),
        (dict(action_names=("a.pos",)), "action_names"),
        (dict(robot_type="koch"), "robot_type so101, and this is koch"),
    ],
)
def test_another_recording_s_folder_is_refused(tmp_path, other, message):
    record(tmp_path)
    with pytest.raises(ValueError, match=message):
        Recorder(tmp_path, **other)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (dict(observation={"elbow_flex.pos": 1.0}), "the observation lacks shoulder_pan.pos, .*gripper.pos"),
        (dict(action={}), "the action lacks shoulder_pan.pos"),
        (dict(action=observation(0) | {"tail.pos": 1.0}), "tail.pos, which this recording does not know"),
        (dict(observation=observation(0) | {"elbow_flex.pos": float("nan")}), "'elbow_flex.pos': nan.*only finite"),
        (dict(observation=observation(0) | {"elbow_flex.pos": "x"}), "no number"),
        (
            dict(observation=observation(0) | {"top": np.zeros((2, 2))}),
            r"'top' is float64 \(2, 2\); a picture is uint8",
        ),
        (dict(human=float("inf")), "'human': inf"),
        (dict(other=1.0), r"extra columns \['other'\]; the first frame .* had \['human'\]"),
        (dict(observation=observation(0) | {"top": np.zeros((2, 2, 3), np.uint8)}, human=0.0), "pictures .*had {}"),
    ],
)
def test_a_bad_frame_is_not_written(tmp_path, frame, message):
    rec = record(tmp_path)
    rec.start()
    rec.add(observation(0), observation(0), human=0.0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        rec.add(**{"observation": observation(1), "action": observation(1)} | frame)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before and rec.frames == 1


def test_a_column_with_a_slash_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'a/b' cannot be a column's name.*no slash"):
        Recorder(tmp_path, names=("a/b",))
    rec = Recorder(tmp_path)
    rec.start()
    with pytest.raises(ValueError, match="no slash"):
        rec.add(observation(0) | {"../top": np.zeros((2, 2, 3), np.uint8)}, observation(0))
    rec.add(observation(0), observation(0))  # what was refused has decided nothing


def test_the_order_of_calls_is_checked(tmp_path):
    rec = Recorder(tmp_path)
    for call in (lambda: rec.add(observation(0), observation(0)), rec.end):
        with pytest.raises(RuntimeError, match=r"call start\(\) first"):
            call()
    rec.start()
    with pytest.raises(RuntimeError, match="is being recorded"):
        rec.start()
    with pytest.raises(ValueError, match="fps is 0"):
        Recorder(tmp_path / "x", fps=0)


def test_damage_before_the_end_is_not_passed_over(tmp_path):
    record(tmp_path)
    path = tmp_path / "episode-000000.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"o"', b'"0"', 1))
    with pytest.raises(DamagedRecording, match=r"episode-000000.jsonl is damaged"):
        load(tmp_path)
    lines = whole.split(b"\n")
    path.write_bytes(b"\n".join(lines[:2] + lines[3:]))
    with pytest.raises(DamagedRecording, match="ended with 5 frames, and 4 are there"):
        load(tmp_path)


def test_no_recording_and_a_damaged_description(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no recording\.json"):
        load(tmp_path)
    about = tmp_path / "recording.json"
    about.write_text("{")
    for call in (load, Recorder):
        with pytest.raises(DamagedRecording, match=r"recording\.json cannot be read"):
            call(tmp_path)
    record(tmp_path / "b")
    about.write_text(json.dumps(json.loads((tmp_path / "b" / "recording.json").read_text()) | {"format": 9}))
    with pytest.raises(DamagedRecording, match="format 9; this kit reads 1"):
        load(tmp_path)


def test_episodes_made_by_hand_are_checked():
    with pytest.raises(ValueError, match=r"observations have shape \(3, 6\); 2 frames"):
        Episode(np.zeros((3, 6)), np.zeros((2, 6)))
    with pytest.raises(ValueError, match=r"'who' has shape \(3,\)"):
        Episode(np.zeros((2, 6)), np.zeros((2, 6)), extra={"who": np.zeros(3)})
    with pytest.raises(ValueError, match="1 pictures of 'top' for 2 frames"):
        Episode(np.zeros((2, 6)), np.zeros((2, 6)), pictures={"top": np.zeros((1, 4, 4, 3), np.uint8)})
    assert ep.whole_lines(b"a\nb\nc") == ([b"a", b"b"], True)
