"""What can go wrong, and what the program does then, as a user sees it: docs/faults.md.

The rows are the 35 of the list of faults that the program was made against. For most of them there is one large run
of each feature type, over a folder of good, odd and damaged files, and one of some good files alone.
"""

import contextlib
import ctypes
import io
import json
import os
import random
import re
import resource
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from models.extraction import Job, Work
from tests.helpers.clips import Frame, remuxed, set_display_matrix, skip_frames, write_clip
from tests.helpers.oracles import REPOSITORY, Array
from tests.helpers.processes import is_running, running_in, wait_until, workers_of
from tests.helpers.sounds import Audio, chord, write_sound, write_wav
from tests.helpers.sounds import noise as white_noise
from utils.errors import OutOfMemoryError
from utils.media.options import DecodeOptions
from utils.memory import retry_with_half_batch
from utils.workers import pool as workers

I3D: list[object] = ["--feature_type", "i3d", "--streams", "rgb", "--stack_size", 9, "--step_size", 9]
I3D += ["--min_side_size", 224, "--weights", "random", "--device_ids", "cpu"]
VGGISH: list[object] = ["--feature_type", "vggish", "--weights", "random", "--device_ids", "cpu"]
NUM_FRAMES = 10  # of which I3D makes one feature of a stack of 9
RATE_HZ = 16_000
STRANGE_NAMES = ["two  blanks", 'it\'s "q"', "new\nline", "co:lon", "%03d", "-i", "back\\slash", "\udcff\udcfe"]
TEMPORARY = re.compile(r"\..*\.part|tmp.*")

CUT_VIDEOS, CUT_SOUNDS = ("mkv", "ts", "flv", "avi", "webm", "gif"), ("wav", "mp3", "ogg", "avi", "webm")
OVERWRITTEN_VIDEOS, OVERWRITTEN_SOUNDS = ("mp4", "mkv", "flv"), ("mp3", "m4a")

Row = dict[str, Any]


# Running the program


@dataclass(frozen=True)
class Run:
    """What a run that has ended said, gave and left in its output folder; its own rows of the log only."""

    status: int
    stdout: str
    stderr: str
    output: Path | None
    rows: list[Row]
    files: dict[str, bytes]

    def row(self, path: object) -> Row:
        """The one row of a video, named by the end of its path."""
        (row,) = (row for row in self.rows if row["path"] == str(path) or row["path"].endswith(f"/{path}"))
        return row

    def features(self, path: object) -> Array:
        row = self.row(path)
        assert row["status"] in ("ok", "skipped"), row["error"]
        assert self.output is not None
        (output,) = row["outputs"]
        array: Array = np.load(io.BytesIO(self.files[str(Path(output).relative_to(self.output))]))
        return array

    def paths(self, status: str) -> set[str]:
        return {row["path"] for row in self.rows if row["status"] == status}


def start(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    return launch([sys.executable, str(REPOSITORY / "main.py"), *map(str, arguments)], **options)


def launch(command: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
    """A program in a process group of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, start_new_session=True, **pipes | options)


def ended(process: "subprocess.Popen[str]", output: Path | None = None, num_rows_before: int = 0) -> Run:
    """Waits until a program ends, and sees that it leaves no process and no temporary file."""
    stdout, stderr = process.communicate(timeout=300)
    wait_until(lambda: not running_in(process.pid), seconds=10)
    assert "Traceback" not in stderr
    if output is None:
        return Run(process.returncode, stdout, stderr, None, [], {})
    assert temporaries(output) == []
    files = {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*.npy")}
    return Run(process.returncode, stdout, stderr, output, rows_of(output)[num_rows_before:], files)


def run(*arguments: object, output: Path, **options: Any) -> Run:
    num_rows_before = len(rows_of(output))
    return ended(start(*arguments, *saving(output), **options), output, num_rows_before)


def refused(*arguments: object) -> Run:
    """A run that ends before there is any work."""
    return ended(start(*arguments))


def saving(output: Path) -> list[object]:
    return ["--on_extraction", "save_numpy", "--output_path", output]


def rows_of(output: Path) -> list[Row]:
    log = output / "status.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if TEMPORARY.fullmatch(path.name)]


def lines_until(process: "subprocess.Popen[str]", text: str) -> str:
    """What the program says on stderr, up to a line with that text."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if text in line:
            return said
    raise AssertionError(f"the program ended without saying {text!r}: {said}")


def bound_by_permissions() -> None:
    """Called in a program to be: takes from root the right to read and write everything."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        LIBC.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


LIBC = ctypes.CDLL(None)


# Making files


def noise(num_frames: int = NUM_FRAMES, width: int = 64, height: int = 48, seed: int = 0) -> list[Frame]:
    return list(np.random.default_rng(seed).integers(0, 256, (num_frames, height, width, 3), np.uint8))


def blocks(num_frames: int = NUM_FRAMES, seed: int = 0) -> list[Frame]:
    """Frames (48, 64, 3) of squares of random grays, which every codec keeps well."""
    grays = np.random.default_rng(seed).integers(0, 256, (num_frames, 3, 4, 1), np.uint8)
    return list(grays.repeat(16, axis=1).repeat(16, axis=2).repeat(3, axis=3))


def lossless(path: Path, frames: Sequence[Frame], pixel_format: str = "bgr0", **options: Any) -> Path:
    return write_clip(path, frames, codec="ffv1", pixel_format=pixel_format, **options)


def raw(path: Path, frames: Sequence[Frame]) -> Path:
    """Frames as they are, in mov."""
    return write_clip(path, frames, codec="rawvideo", pixel_format="rgb24")


def sound_of(seed: int, seconds: float = 2.0) -> Audio:
    """A chord that is the seed's own."""
    return np.roll(chord(seconds, RATE_HZ), 1000 * seed) // np.int16(1 + seed)


def cut_off(source: Path, path: Path, fraction: float = 0.6) -> None:
    """The beginning of a file, up to the middle of a packet."""
    data = source.read_bytes()
    path.write_bytes(data[: round(fraction * len(data)) // 188 * 188 + 100])


def overwritten(source: Path, path: Path) -> None:
    """A file with garbage in its middle third."""
    data = bytearray(source.read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = np.random.default_rng(1).bytes(third)
    path.write_bytes(data)


NO_MEDIA = {
    "empty": b"",
    "text": b"no video at all\n" * 100,
    "page": b"<!DOCTYPE html><html></html>",
    "nulls": bytes(5000),
}


def make_videos(folder: Path) -> None:
    """Videos that have features, odd as they may be."""
    plain = write_clip(folder / "plain.mp4", blocks())
    for ending in ("mkv", "mov", "ts", "flv", "h264"):
        remuxed(plain, folder / f"as {ending}.{ending}")
    mpeg4 = write_clip(folder / "mpeg4.avi", blocks(), codec="mpeg4")
    remuxed(mpeg4, folder / "mpeg4 too.mkv")
    write_clip(folder / "vp8.webm", blocks(), codec="libvpx")
    write_clip(folder / "vp9.webm", blocks(), codec="libvpx-vp9")
    write_clip(folder / "palette.gif", blocks(), codec="gif", pixel_format="gray")
    write_clip(folder / "interlaced.mkv", blocks(), codec="mpeg4", interlaced=True)
    for name in STRANGE_NAMES[1::3]:
        shutil.copy(plain, folder / f"{name}.mp4")

    frames = blocks()
    lossless(folder / "exact.mkv", frames)
    lossless(folder / "negative.mkv", [255 - frame for frame in frames])
    lossless(folder / "alpha.mkv", frames, "bgra")
    lossless(folder / "ten bits.mkv", frames, "yuv420p10le")
    lossless(folder / "gray.mkv", frames, "gray")
    lossless(folder / "five frames.mkv", frames[:5])
    lossless(folder / "five frames twice.mkv", frames[:5] * 2)
    lossless(folder / "one frame.mkv", frames[:1])
    lossless(folder / "one frame often.mkv", frames[:1] * NUM_FRAMES)
    lossless(folder / "a pause.mkv", frames, times_ms=[0, 40, 80, *range(400, 680, 40)])
    lossless(folder / "a time twice.mkv", frames, times_ms=[0, 40, 80, 120, 120, *range(160, 360, 40)])
    lossless(folder / "odd.mkv", noise(width=321, height=243))
    lossless(folder / "dot.mkv", noise(width=1, height=1))
    raw(folder / "upright.mov", frames)
    raw(folder / "turned.mov", [frame.transpose(1, 0, 2)[::-1].copy() for frame in frames])
    set_display_matrix(folder / "turned.mov", 0, 1, -1, 0)
    raw(folder / "edited.mov", [*blocks(3, seed=2), *frames])
    skip_frames(folder / "edited.mov", 3, 3 + NUM_FRAMES)
    for seed, name in enumerate(("x.mp4", "x.mkv", "a/x.mkv", "b/x.mkv"), start=10):
        (folder / name).parent.mkdir(exist_ok=True)
        write_clip(folder / name, blocks(seed=seed), codec="mpeg4")


def make_damaged_videos(folder: Path, port: int) -> dict[str, str]:
    """Files that have no features; gives the reason for each. Nothing is to ask for something at that port."""
    at_end = write_clip(folder.parent / "whole.mp4", noise())
    in_front = remuxed(at_end, folder.parent / "whole in front.mp4", movflags="faststart")
    assert in_front.read_bytes().index(b"moov") < in_front.read_bytes().index(b"mdat")
    cut_off(at_end, folder / "cut, index at the end.mp4")
    cut_off(in_front, folder / "cut, index in front.mp4")
    cut_off(remuxed(at_end, folder.parent / "whole.mkv"), folder / "cut mkv.mkv")
    cut_off(remuxed(at_end, folder.parent / "whole.ts"), folder / "cut ts.ts")
    cut_off(remuxed(at_end, folder.parent / "whole.flv"), folder / "cut flv.flv")
    cut_off(
        write_clip(folder.parent / "whole.avi", noise(), codec="mjpeg", pixel_format="yuvj420p"), folder / "cut avi.avi"
    )
    cut_off(folder / "vp9.webm", folder / "cut webm.webm")
    cut_off(folder / "palette.gif", folder / "cut gif.gif")
    overwritten(at_end, folder / "overwritten mp4.mp4")
    overwritten(folder.parent / "whole.mkv", folder / "overwritten mkv.mkv")
    overwritten(folder.parent / "whole.flv", folder / "overwritten flv.flv")
    lossless(folder / "thin.mkv", noise(1, 4000, 2))
    header = b"GIF89a" + struct.pack("<HH", 15_000, 15_000) + bytes(3)
    (folder / "huge.gif").write_bytes(header + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0;")
    (folder / "playlist.mp4").write_text(
        f"#EXTM3U\n#EXTINF:1,\n{folder}/plain.mp4\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n"
    )
    (folder / "joined.mp4").write_text(f"ffconcat version 1.0\nfile '{folder}/plain.mp4'\n")
    return {
        "cut, index at the end.mp4": "unreadable",
        "cut, index in front.mp4": "truncated",
        **{f"cut {ending}.{ending}": "truncated" for ending in CUT_VIDEOS},
        **{f"overwritten {ending}.{ending}": "corrupt" for ending in OVERWRITTEN_VIDEOS},
        "thin.mkv": "bad_size",
        "huge.gif": "too_large",
        "playlist.mp4": "unreadable",
        "joined.mp4": "unreadable",
        **make_no_media(folder, "mp4"),
    }


def make_no_media(folder: Path, ending: str) -> dict[str, str]:
    """What is no media file, or none that can be opened; gives the reason for each."""
    for name, content in NO_MEDIA.items():
        (folder / f"{name}.{ending}").write_bytes(content)
    os.mkfifo(folder / f"fifo.{ending}")
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(folder):  # for the names of sockets must be short
        made.bind(f"socket.{ending}")
    (folder / f"forbidden.{ending}").write_bytes(b"secret")
    (folder / f"forbidden.{ending}").chmod(0)
    (folder / f"nowhere.{ending}").symlink_to("nothing")
    return {
        **{f"{name}.{ending}": "unreadable" for name in NO_MEDIA},
        f"fifo.{ending}": "not_a_file",
        f"socket.{ending}": "not_a_file",
        f"forbidden.{ending}": "no_permission",
        f"nowhere.{ending}": "not_found",
    }


def make_sounds(folder: Path) -> None:
    """Sounds that have features."""
    plain = chord(2, RATE_HZ)
    write_wav(folder / "plain.wav", plain, RATE_HZ)
    write_wav(folder / "other.wav", white_noise(2, RATE_HZ), RATE_HZ)
    write_sound(folder / "as flac.flac", plain, RATE_HZ, "flac")
    for ending in ("mkv", "mov", "avi"):
        write_sound(folder / f"as {ending}.{ending}", plain, RATE_HZ, "pcm_s16le", picture_ms=0)
    write_sound(folder / "lossy mp3.mp3", plain, RATE_HZ, "libmp3lame")
    write_sound(folder / "lossy m4a.m4a", plain, RATE_HZ, "aac")
    write_sound(folder / "lossy mp4.mp4", plain, RATE_HZ, "aac", picture_ms=0)
    write_sound(folder / "lossy ts.ts", plain, RATE_HZ, "aac", picture_ms=0)
    write_sound(folder / "lossy ogg.ogg", chord(2, 48_000), 48_000, "libopus")
    write_sound(folder / "lossy webm.webm", chord(2, 48_000), 48_000, "libopus", picture_ms=0)
    for name in STRANGE_NAMES:
        shutil.copy(folder / "plain.wav", folder / f"{name}.wav")
    for seed, name in enumerate(("x.wav", "x.mka", "a/x.wav", "b/x.wav"), start=10):
        (folder / name).parent.mkdir(exist_ok=True)
        write_wav(folder / name, sound_of(seed), RATE_HZ)


def make_damaged_sounds(folder: Path) -> dict[str, str]:
    """Files that have no features; gives the reason for each."""
    write_wav(folder / "short.wav", chord(0.5, RATE_HZ), RATE_HZ)
    at_end = write_sound(folder.parent / "whole.mp4", chord(2, RATE_HZ), RATE_HZ, "aac", picture_ms=0)
    cut_off(at_end, folder / "cut, index at the end.mp4")
    in_front = remuxed(at_end, folder.parent / "whole in front.mp4", movflags="faststart")
    cut_off(in_front, folder / "cut, index in front.mp4")
    cut_off(folder / "plain.wav", folder / "cut wav.wav")
    cut_off(folder / "lossy mp3.mp3", folder / "cut mp3.mp3")
    cut_off(folder / "lossy ogg.ogg", folder / "cut ogg.ogg")
    cut_off(folder / "as avi.avi", folder / "cut avi.avi")
    cut_off(folder / "lossy webm.webm", folder / "cut webm.webm")
    for ending in OVERWRITTEN_SOUNDS:
        overwritten(next(folder.glob(f"*.{ending}")), folder / f"overwritten {ending}.{ending}")
    return {
        "short.wav": "too_short",
        "cut, index at the end.mp4": "unreadable",
        "cut, index in front.mp4": "truncated",
        **{f"cut {ending}.{ending}": "truncated" for ending in CUT_SOUNDS},
        **{f"overwritten {ending}.{ending}": "corrupt" for ending in OVERWRITTEN_SOUNDS},
        **make_no_media(folder, "wav"),
    }


# One large run of each feature type


@dataclass(frozen=True)
class Large:
    """A run over all files of a folder and some more, one over the good ones, and what is to come of them."""

    arguments: list[object]
    output: Path
    media: Path
    everything: Run
    good_ones: Run
    good: set[str]
    reasons: dict[str, str]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Large]:
    """By feature type."""
    top = tmp_path_factory.mktemp("large")
    videos, sounds = top / "videos", top / "sounds"
    for folder in (videos, sounds, top / "hollow"):
        folder.mkdir()
    make_videos(videos)
    make_sounds(sounds)
    good = {folder: {str(path) for path in folder.rglob("*.*")} for folder in (videos, sounds)}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        reasons = {
            videos: make_damaged_videos(videos, port) | {f"{sounds}/other.wav": "no_video"},
            sounds: make_damaged_sounds(sounds) | {f"{videos}/exact.mkv": "no_audio"},
        }
        others = {str(top / "missing.mp4"): "not_found", str(top / "hollow"): "not_a_file"}
        others |= {
            f"concat:{videos}/as mov.mov|{videos}/joined.mkv": "not_found",
            f"http://127.0.0.1:{port}/a.mp4": "not_found",
        }
        given: dict[Path, list[object]] = {}
        processes = {}
        for options, folder in ((I3D, videos), (VGGISH, sounds)):
            reasons[folder] = {str(folder / name): reason for name, reason in reasons[folder].items()} | others
            more = [path for path in reasons[folder] if not path.startswith(f"{folder}/")]
            given[folder] = [*options, "--video_paths", folder, *more]
            debugging = [*saving(top / f"of {folder.name}"), "--log_level", "debug"]
            some = [path for path in sorted(good[folder]) if re.search("/(plain|exact|edited|vp9|x|lossy)", path)]
            alone = [*options, *saving(top / f"good {folder.name}"), "--video_paths", *some]
            processes[folder] = (
                start(*given[folder], *debugging, preexec_fn=bound_by_permissions),
                start(*alone),
            )
        runs = {
            folder: (ended(both[0], top / f"of {folder.name}"), ended(both[1], top / f"good {folder.name}"))
            for folder, both in processes.items()
        }
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()  # nobody asked for what a playlist or a path names
    return {
        name: Large(given[folder], top / f"of {folder.name}", folder, *runs[folder], good[folder], reasons[folder])
        for name, folder in (("i3d", videos), ("vggish", sounds))
    }


@pytest.fixture(scope="module")
def videos(large: dict[str, Large]) -> Run:
    return large["i3d"].everything


@pytest.fixture(scope="module")
def sounds(large: dict[str, Large]) -> Run:
    return large["vggish"].everything


@pytest.fixture(params=["i3d", "vggish"])
def either(request: pytest.FixtureRequest, large: dict[str, Large]) -> Large:
    return large[request.param]


@pytest.fixture(scope="module")
def again(large: dict[str, Large]) -> dict[str, Run]:
    """The videos once more, with --allow_partial, after three of their outputs were spoiled; and the sounds, as the
    first run tells, after one of them was mended."""
    videos, sounds = large["i3d"], large["vggish"]
    os.truncate(videos.output / "exact_rgb.npy", len(videos.everything.files["exact_rgb.npy"]) // 2)
    (videos.output / "negative_rgb.npy").write_text("no features")
    (videos.output / "odd_rgb.npy").unlink()
    allowing = [*videos.arguments, *saving(videos.output), "--allow_partial"]
    write_wav(sounds.media / "text.wav", sound_of(5), RATE_HZ)
    told = re.search("^To try the failed videos again: (.*)$", sounds.everything.stderr, re.MULTILINE)
    assert told is not None
    processes = (
        start(*allowing, preexec_fn=bound_by_permissions),
        launch(shlex.split(told[1]), preexec_fn=bound_by_permissions),
    )
    return {
        name: ended(process, large[name].output, len(large[name].everything.rows))
        for name, process in zip(("i3d", "vggish"), processes, strict=True)
    }


@pytest.fixture(scope="module")
def partial(again: dict[str, Run]) -> Run:
    return again["i3d"]


def are_alike(run: Run, name: str, like: str, unlike: str) -> bool:
    """Whether the features of a file are ten times as close to another one's as a third one's are."""
    features, alike, different = (run.features(path) for path in (name, like, unlike))
    return bool(np.linalg.norm(features - alike) < np.linalg.norm(different - alike) / 10)


def reasons_of(run: Run, names: Iterable[str]) -> set[str]:
    return {run.row(name)["reason"] for name in names}


def test_every_path_has_one_row_that_says_what_became_of_it(either: Large) -> None:
    rows = either.everything.rows
    assert Counter(row["path"] for row in rows) == Counter([*either.good, *either.reasons])
    assert {row["path"]: row["reason"] for row in rows if row["status"] == "failed"} == either.reasons
    assert either.everything.paths("ok") == either.good
    for row in rows:
        assert (row["error"] is None) == (row["status"] == "ok")
        assert bool(row["outputs"]) == (row["seconds"] > 0) == (row["status"] == "ok")


def test_the_summary_counts_the_rows_and_the_exit_status_tells_of_failures(either: Large) -> None:
    run = either.everything
    counts = Counter(row["status"] for row in run.rows)
    reasons = Counter(either.reasons.values())
    assert run.status == 1
    assert f"{counts['ok']} done (" in run.stderr
    assert f" 0 skipped, {counts['failed']} failed (" in run.stderr
    for reason, number in reasons.items():
        assert re.search(rf"failed \(.*\b{reason}: {number}\b", run.stderr)
    assert run.stdout == ""
    assert either.good_ones.status == 0
    assert "failed (" not in either.good_ones.stderr


def test_good_files_have_the_same_features_to_the_bit_as_without_the_bad_ones(either: Large) -> None:
    assert len(either.everything.files) == len(either.good)
    assert len(either.good_ones.files) >= 8
    assert either.good_ones.files.items() <= either.everything.files.items()


def test_features_are_numbers_in_rows_as_long_as_the_networks_make_them(either: Large) -> None:
    for path in either.good:
        rows = either.everything.features(path)
        assert rows.shape == (rows.shape[0], 1024 if "videos" in path else 128)
        assert np.isfinite(rows).all()
        assert rows.std() > 0


def test_debugging_messages_tell_more_and_show_that_nothing_is_tried_twice(either: Large) -> None:
    for path in [*either.good, *either.reasons]:
        shown = path.encode(errors="backslashreplace").decode()
        assert either.everything.stderr.count(f"cpu takes {shown}\n") == 1
    assert "done: " in either.everything.stderr
    assert "takes" not in either.good_ones.stderr
    assert "done: " not in either.good_ones.stderr


def test_row_01_an_mp4_cut_off_before_its_index_is_unreadable(videos: Run, sounds: Run) -> None:
    for run in (videos, sounds):
        row = run.row("cut, index at the end.mp4")
        assert row["reason"] == "unreadable"
        assert "not a media file that can be read" in row["error"]


def test_row_02_a_file_whose_data_ends_early_is_truncated_unless_partial_is_allowed(
    videos: Run, sounds: Run, partial: Run
) -> None:
    for run in (videos, sounds):
        row = run.row("cut, index in front.mp4")
        assert row["reason"] == "truncated"
        assert "the file ends before the place that it says; --allow_partial extracts" in row["error"]
    row = partial.row("cut, index in front.mp4")
    assert (row["status"], row["reason"], row["error"]) == ("ok", None, None)
    assert re.search(r"\b[1-9] of its 10 packets are there", row["missing"])
    assert 0 < row["seconds"] < NUM_FRAMES / 25
    assert partial.features("cut, index in front.mp4").shape == (1, 1024)
    assert f"{row['path']}: extracted in part: {row['missing']}" in partial.stderr


@pytest.mark.parametrize("ending", CUT_VIDEOS)
def test_row_02_other_containers_are_found_to_be_truncated_too(ending: str, videos: Run, partial: Run) -> None:
    name = f"cut {ending}.{ending}"
    assert videos.row(name)["reason"] == "truncated"
    row = partial.row(name)
    assert row["status"] == "ok"
    assert row["missing"]
    assert 0 < row["seconds"] < NUM_FRAMES / 25


@pytest.mark.parametrize("ending", CUT_SOUNDS)
def test_row_02_sounds_are_found_to_be_truncated_too(ending: str, sounds: Run) -> None:
    assert sounds.row(f"cut {ending}.{ending}")["reason"] == "truncated"


def test_row_03_a_file_that_is_overwritten_inside_is_corrupt_unless_partial_is_allowed(
    videos: Run, sounds: Run, partial: Run
) -> None:
    names = [f"overwritten {ending}.{ending}" for ending in OVERWRITTEN_VIDEOS]
    assert reasons_of(videos, names) == {"corrupt"}
    assert reasons_of(sounds, [f"overwritten {ending}.{ending}" for ending in OVERWRITTEN_SOUNDS]) == {"corrupt"}
    for name in names:
        row = partial.row(name)
        assert row["status"] == "ok"
        assert re.search("cannot be decoded|damaged|unreadable", row["missing"])


def test_row_04_what_is_no_media_is_unreadable(videos: Run, sounds: Run) -> None:
    assert reasons_of(videos, [f"{name}.mp4" for name in NO_MEDIA]) == {"unreadable"}
    assert reasons_of(sounds, [f"{name}.wav" for name in NO_MEDIA]) == {"unreadable"}


def test_row_05_a_sound_has_no_video_and_yet_sound(videos: Run, sounds: Run, large: dict[str, Large]) -> None:
    path = large["vggish"].media / "other.wav"
    assert videos.row(path)["reason"] == "no_video"
    assert sounds.row(path)["status"] == "ok"


def test_row_06_a_silent_video_has_no_audio_and_yet_frames(videos: Run, sounds: Run, large: dict[str, Large]) -> None:
    path = large["i3d"].media / "exact.mkv"
    assert sounds.row(path)["reason"] == "no_audio"
    assert videos.row(path)["status"] == "ok"


def test_row_07_a_sound_too_short_for_a_feature_is_told_its_length(sounds: Run) -> None:
    row = sounds.row("short.wav")
    assert row["reason"] == "too_short"
    assert "0.500 s of sound, and VGGish needs 0.975 s" in row["error"]


def test_row_08_fewer_frames_than_a_stack_are_cycled(videos: Run) -> None:
    assert (videos.features("five frames.mkv") == videos.features("five frames twice.mkv")).all()
    assert videos.row("five frames.mkv")["seconds"] == pytest.approx(5 / 25)


def test_row_09_one_frame_is_cycled(videos: Run) -> None:
    assert (videos.features("one frame.mkv") == videos.features("one frame often.mkv")).all()
    assert (videos.features("one frame.mkv") != videos.features("five frames.mkv")).any()


def test_row_10_frames_are_paced_by_their_times(videos: Run) -> None:
    """From 0 to 640 ms, at 25 frames a second: 17 frames, a stack and a tail."""
    assert videos.row("a pause.mkv")["seconds"] == pytest.approx(17 / 25)
    assert videos.features("a pause.mkv").shape == (2, 1024)


def test_row_10_a_time_that_does_not_grow_and_none_at_all_lose_no_frame(videos: Run) -> None:
    assert (videos.features("a time twice.mkv") == videos.features("exact.mkv")).all()
    assert (videos.features("as h264.h264") == videos.features("plain.mp4")).all()


def test_row_11_a_display_rotation_is_applied(videos: Run) -> None:
    assert (videos.features("turned.mov") == videos.features("upright.mov")).all()


def test_row_12_odd_sizes_work_and_one_that_cannot_is_named(videos: Run) -> None:
    assert videos.features("odd.mkv").shape == videos.features("dot.mkv").shape == (1, 1024)
    assert videos.row("thin.mkv")["reason"] == "bad_size"
    assert "4000x2 would be scaled to 448000x224" in videos.row("thin.mkv")["error"]


def test_row_13_frames_above_the_limit_are_refused(videos: Run) -> None:
    row = videos.row("huge.gif")
    assert row["reason"] == "too_large"
    assert f"one over {2**26} pixels (--max_pixels)" in row["error"]


def test_row_14_alpha_is_dropped_and_other_pixels_become_colours_of_8_bits(videos: Run) -> None:
    assert (videos.features("alpha.mkv") == videos.features("exact.mkv")).all()
    for name in ("gray.mkv", "ten bits.mkv", "interlaced.mkv"):
        assert are_alike(videos, name, "exact.mkv", "negative.mkv")


def test_row_15_the_same_packets_have_the_same_features_in_any_container(videos: Run) -> None:
    for ending in ("mkv", "mov", "ts", "flv", "h264"):
        assert (videos.features(f"as {ending}.{ending}") == videos.features("plain.mp4")).all()
    assert (videos.features("mpeg4 too.mkv") == videos.features("mpeg4.avi")).all()


@pytest.mark.parametrize("name", ["plain.mp4", "mpeg4.avi", "vp8.webm", "vp9.webm", "palette.gif"])
def test_row_15_other_codecs_of_the_same_frames_have_features_close_by(name: str, videos: Run) -> None:
    assert are_alike(videos, name, "exact.mkv", "negative.mkv")


def test_row_15_the_same_sound_has_the_same_features_in_any_container(sounds: Run) -> None:
    for ending in ("flac", "mkv", "mov", "avi"):
        assert (sounds.features(f"as {ending}.{ending}") == sounds.features("plain.wav")).all()
    for ending in ("mp3", "m4a", "mp4", "ts", "ogg", "webm"):
        assert are_alike(sounds, f"lossy {ending}.{ending}", "plain.wav", "other.wav")


def test_row_16_edit_lists_are_honoured(videos: Run) -> None:
    assert videos.row("edited.mov")["seconds"] == pytest.approx(NUM_FRAMES / 25)
    assert (videos.features("edited.mov") == videos.features("upright.mov")).all()


def test_row_17_any_name_works(videos: Run, sounds: Run) -> None:
    for name in STRANGE_NAMES:
        assert (sounds.features(f"{name}.wav") == sounds.features("plain.wav")).all()
        assert f"{name}_vggish.npy" in sounds.files
    for name in STRANGE_NAMES[1::3]:
        assert (videos.features(f"{name}.mp4") == videos.features("plain.mp4")).all()


def test_row_18_videos_of_one_name_keep_their_folders_and_if_need_be_their_endings(large: dict[str, Large]) -> None:
    for feature_type, suffix, endings in (("i3d", "rgb", ("mp4", "mkv")), ("vggish", "vggish", ("wav", "mka"))):
        run, media = large[feature_type].everything, large[feature_type].media
        first, second = endings
        stems = {f"x.{first}": f"x.{first}", f"x.{second}": f"x.{second}"}
        stems |= {f"{folder}/x.{second if suffix == 'rgb' else first}": f"{folder}/x" for folder in ("a", "b")}
        for name, stem in stems.items():
            (output,) = run.row(media / name)["outputs"]
            assert output.endswith(f"/of {media.name}/{stem}_{suffix}.npy")
        assert len({run.features(media / name).tobytes() for name in stems}) == 4


def test_row_19_what_is_no_file_that_may_be_read_is_told_before_it_is_opened(either: Large) -> None:
    ending = "mp4" if either.media.name == "videos" else "wav"
    run = either.everything
    assert reasons_of(run, [f"fifo.{ending}", f"socket.{ending}", "hollow"]) == {"not_a_file"}
    assert reasons_of(run, ["missing.mp4", f"nowhere.{ending}"]) == {"not_found"}
    assert reasons_of(run, [f"forbidden.{ending}"]) == {"no_permission"}


def test_row_20_playlists_and_urls_are_refused(videos: Run) -> None:
    """And lead nowhere, as is seen where the run is."""
    assert reasons_of(videos, ["playlist.mp4", "joined.mp4"]) == {"unreadable"}
    urls = [row for row in videos.rows if row["path"].startswith(("http:", "concat:"))]
    assert [row["reason"] for row in urls] == ["not_found", "not_found"]


# Runs that are disturbed


@pytest.fixture(scope="module")
def long_sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute, which takes a worker a second or more."""
    return write_wav(tmp_path_factory.mktemp("long") / "long.wav", chord(30, RATE_HZ), RATE_HZ)


def write_sounds(folder: Path, number: int, seconds: float = 2.0) -> list[Path]:
    return [write_wav(folder / f"{i}.wav", sound_of(i, seconds), RATE_HZ) for i in range(number)]


def limit_file_size(num_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def test_row_21_a_disk_that_fills_up_stops_the_run_which_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """What a full disk says, a limit of 4500 bytes to a file says too: of eight rows of features, 4224, and no more."""
    first, _, last = write_sounds(tmp_path, 3)
    second = write_wav(tmp_path / "large.wav", chord(10, RATE_HZ), RATE_HZ)
    output = tmp_path / "output"
    command = [*VGGISH, "--video_paths", first, second, last]
    stopped = run(*command, output=output, preexec_fn=lambda: limit_file_size(4500))
    assert stopped.status == 1
    assert [row["reason"] for row in stopped.rows] == [None, "disk_full"]
    assert f"{output}/large_vggish.npy: cannot be written: File too large. Make room for it" in stopped.stderr
    assert "1 done (2.0 s of video), 0 skipped, 1 failed (disk_full: 1), 1 not done" in stopped.stderr
    assert stopped.files.keys() == {"0_vggish.npy"}
    again = run(*command, output=output)
    assert again.status == 0
    assert again.paths("ok") == {str(second), str(last)}
    assert again.paths("skipped") == {str(first)}
    assert again.files.keys() == {f"{name}_vggish.npy" for name in ("0", "large", "2")}
    assert stopped.files.items() <= again.files.items()


@pytest.mark.parametrize("obstacle", ["a file", "no permission", "a full disk"])
def test_row_21_an_output_folder_that_cannot_be_written_to_is_told_at_the_start(tmp_path: Path, obstacle: str) -> None:
    output = tmp_path / "output"
    with contextlib.ExitStack() as stack:
        if obstacle == "a file":
            output.write_text("in the way")
        else:
            output.mkdir(mode=0o500)
        if obstacle == "a full disk":
            stack.enter_context(full_disk(output))
        command = [*VGGISH, "--video_paths", tmp_path / "any.wav", *saving(output)]
        run = ended(start(*command, preexec_fn=bound_by_permissions))
    words = {"a file": "File exists", "no permission": "Permission denied", "a full disk": "No space left on device"}
    assert run.status == 3
    assert re.search(f"cannot start: {output}.*: cannot be written: {words[obstacle]}", run.stderr)
    assert "Extracting" not in run.stderr


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """A small disk at a folder, and full; skips the test where none can be made."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        with contextlib.suppress(OSError), open(folder / "ballast", "wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_row_22_a_video_whose_worker_is_killed_is_tried_once_more(tmp_path: Path, long_sound: Path) -> None:
    once, twice = (tmp_path / f"{name}.wav" for name in ("killed once", "killed twice"))
    for path in (once, twice):
        shutil.copy(long_sound, path)
    good = write_sounds(tmp_path, 1)
    output = tmp_path / "output"
    kills = {str(once): 1, str(twice): 2}
    process = start(*VGGISH, "--video_paths", once, twice, *good, *saving(output), "--log_level", "debug")
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        taken = line.partition("cpu takes ")[2].rstrip("\n")
        if kills.get(taken):
            kills[taken] -= 1
            (worker,) = workers_of(process.pid)
            os.kill(worker, signal.SIGKILL)
    run = ended(process, output)
    assert run.status == 1
    assert {row["path"]: (row["status"], row["reason"]) for row in run.rows} == {
        str(once): ("ok", None),
        str(twice): ("failed", "crashed"),
        str(good[0]): ("ok", None),
    }
    assert "the worker was killed by SIGKILL, 2 times on this video" in run.row(twice)["error"]
    for path in (once, twice):
        assert said.count(f"{path}: the worker was killed by SIGKILL; trying this video once more") == 1
    assert run.files.keys() == {"killed once_vggish.npy", "0_vggish.npy"}


def test_row_23_workers_that_crash_at_start_end_the_run_at_the_third(tmp_path: Path) -> None:
    command = [*VGGISH, "--video_paths", *write_sounds(tmp_path, 2), *saving(tmp_path / "output")]
    process = start(*command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
    crashed: set[int] = set()
    while process.poll() is None:
        for worker in workers_of(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGSEGV)
                crashed.add(worker)
        time.sleep(0.02)
    run = ended(process, tmp_path / "output")
    assert run.status == 3
    assert "cannot start: workers on cpu die at start: the last was killed by SIGSEGV" in run.stderr
    assert len(crashed) == 3
    assert run.rows == []


class Hungry:
    """An extractor whose memory suffices for batches of that size only, or for none."""

    def __init__(self, enough: int = 0) -> None:
        self.enough = enough
        self.sizes: list[int] = []

    def extract(self, path: str, frames_folder: Path | None, options: DecodeOptions) -> NoReturn:
        retry_with_half_batch(self._work, 32)
        raise AssertionError("there was memory enough")

    def _work(self, size: int) -> str:
        self.sizes.append(size)
        if size > self.enough:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return "features"


def start_hungry(device: str) -> Work:
    return Work(Job("vggish", None, DecodeOptions(), None, {}, 1), Hungry())


def test_row_24_a_batch_that_memory_does_not_suffice_for_is_halved_once() -> None:
    modest, hungry = Hungry(enough=16), Hungry()
    assert retry_with_half_batch(modest._work, 32) == "features"
    with pytest.raises(OutOfMemoryError) as caught:
        retry_with_half_batch(hungry._work, 32)
    assert modest.sizes == hungry.sizes == [32, 16]
    assert caught.value.reason == "out_of_memory"


def test_row_24_a_video_that_fits_in_no_batch_fails_alone() -> None:
    rows = list(workers.run(start_hungry, ["cpu"], ["a.mp4", "b.mp4"]))
    assert [(row.path, row.reason) for row in rows] == [("a.mp4", "out_of_memory"), ("b.mp4", "out_of_memory")]
    assert "CUDA out of memory" in (rows[0].error or "")


def test_row_25_a_video_that_takes_too_long_fails_and_quiet_says_no_more_than_that(
    tmp_path: Path, long_sound: Path
) -> None:
    quiet = run(
        *VGGISH, "--video_paths", long_sound, "--timeout_per_video", 0.01, "--quiet", output=tmp_path / "output"
    )
    assert quiet.status == 1
    (row,) = quiet.rows
    assert row["reason"] == "timeout"
    assert quiet.files == {}
    assert quiet.stdout == ""
    failure, *warnings = sorted(quiet.stderr.splitlines(), key=lambda line: "WARNING" in line)
    assert failure.startswith(f"failed (timeout): {long_sound}: not done after 0")
    assert len(warnings) == 2
    assert all("UNTRAINED" in warning for warning in warnings)


def test_row_26_an_interrupt_lets_the_video_in_hand_end(tmp_path: Path, long_sound: Path) -> None:
    output = tmp_path / "output"
    others = write_sounds(tmp_path, 3)
    process = start(*VGGISH, "--video_paths", long_sound, *others, *saving(output), "--log_level", "debug")
    lines_until(process, "cpu takes")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    run = ended(process, output)
    assert run.status == 130
    assert run.paths("ok") == {row["path"] for row in run.rows} == {str(long_sound)}
    assert "Interrupted: 1 done (30.0 s of video), 0 skipped, 0 failed, 3 not done" in run.stderr
    assert run.files.keys() == {"long_vggish.npy"}


def test_row_26_a_termination_drops_it(tmp_path: Path, long_sound: Path) -> None:
    process = start(*VGGISH, "--video_paths", long_sound, *saving(tmp_path), "--log_level", "debug")
    lines_until(process, "cpu takes")
    os.killpg(process.pid, signal.SIGTERM)
    run = ended(process, tmp_path)
    assert run.status == 130
    assert "Interrupted: 0 done" in run.stderr
    assert run.rows == []
    assert run.files == {}


def test_row_27_workers_end_when_the_program_is_killed(tmp_path: Path, long_sound: Path) -> None:
    process = start(*VGGISH, "--video_paths", long_sound, *saving(tmp_path), "--log_level", "debug")
    lines_until(process, "cpu takes")
    found = workers_of(process.pid)
    process.kill()
    wait_until(lambda: not any(map(is_running, found)), seconds=10)
    assert len(found) == 1
    run = ended(process, tmp_path)
    assert run.status == -signal.SIGKILL
    assert run.rows == []
    assert run.files == {}


def test_row_28_a_second_run_does_what_is_not_done_in_the_same_way(large: dict[str, Large], partial: Run) -> None:
    first, media = large["i3d"].everything, large["i3d"].media
    spoiled = {str(media / f"{name}.mkv") for name in ("exact", "negative", "odd")}
    assert spoiled <= partial.paths("ok")
    assert partial.paths("skipped") == large["i3d"].good - spoiled
    assert first.files.items() <= partial.files.items()
    reasons = {path: reason for path, reason in large["i3d"].reasons.items() if reason not in ("truncated", "corrupt")}
    assert {row["path"]: row["reason"] for row in partial.rows if row["status"] == "failed"} == reasons


@pytest.mark.slow
def test_row_28_after_kills_at_any_moment_the_files_are_those_of_one_clean_run(tmp_path: Path) -> None:
    """Two programs at a time, killed while they start and while they work."""
    command = [*VGGISH, "--video_paths", *write_sounds(tmp_path, 96, 1.0)]
    clean = run(*command, output=tmp_path / "clean")
    output = tmp_path / "output"
    killed: list[int] = []

    def num_saved() -> int:
        return len(list(output.glob("*.npy")))

    def kill_ten(chance: random.Random) -> None:
        for number in range(10):
            before = num_saved()
            process = start(*command, *saving(output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if number % 3:
                wait_until(lambda: num_saved() > before or process.poll() is not None, 60)  # noqa: B023
            time.sleep(chance.uniform(0, 0.3 if number % 3 else 3))
            process.kill()
            if process.wait() == -signal.SIGKILL:
                killed.append(process.pid)

    lanes = [threading.Thread(target=kill_ten, args=(random.Random(seed),)) for seed in range(2)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    assert len(killed) == 20
    wait_until(lambda: not any(map(running_in, killed)), seconds=10)
    last = run(*command, output=output)
    assert last.status == 0
    assert last.files == clean.files


def test_row_29_outputs_that_are_not_whole_are_made_again(large: dict[str, Large], partial: Run) -> None:
    for name in ("exact", "negative", "odd"):
        assert partial.row(f"{name}.mkv")["status"] == "ok"
        assert partial.files[f"{name}_rgb.npy"] == large["i3d"].everything.files[f"{name}_rgb.npy"]


def test_row_30_a_run_with_other_settings_is_refused_and_changes_nothing(large: dict[str, Large], partial: Run) -> None:
    output = large["i3d"].output
    before = {path: path.read_bytes() for path in output.rglob("*.*") if path.is_file()}
    run = refused(*large["i3d"].arguments, *saving(output), "--stack_size", 10)
    assert run.status == 3
    assert "stack_size was 9 and is 10" in run.stderr
    assert "--overwrite" in run.stderr
    assert {path: path.read_bytes() for path in output.rglob("*.*") if path.is_file()} == before


@pytest.fixture(scope="module")
def two_at_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Run]]:
    """Some sounds, and two programs at work on a list of them, as editors on Windows write lists, with repetitions."""
    folder = tmp_path_factory.mktemp("two at once")
    sounds = [*write_sounds(folder, 6), write_wav(folder / "-i.wav", sound_of(6), RATE_HZ)]
    names = [path.name for path in sounds]
    lines = ["", *names, "  ", f'"{names[0]}"', str(sounds[1]), "./2.wav", "# no video", *names]
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    output = folder / "output"
    command = [*VGGISH, "--file_with_video_paths", "list.txt", *saving(output)]
    processes = [start(*command, cwd=folder) for _ in range(2)]
    return sounds, [ended(process, output) for process in processes]


def test_row_31_two_programs_in_one_folder_do_all_videos_between_them(
    two_at_once: tuple[list[Path], list[Run]],
) -> None:
    sounds, runs = two_at_once
    assert [run.status for run in runs] == [0, 0]
    rows = runs[1].rows  # of both programs
    assert Counter(row["path"] for row in rows) == {path.name: 2 for path in sounds}
    assert runs[1].paths("ok") == {path.name for path in sounds}
    assert {row["status"] for row in rows} <= {"ok", "skipped"}
    assert runs[1].files.keys() == {f"{path.stem}_vggish.npy" for path in sounds}
    assert len(set(runs[1].files.values())) == len(sounds)


def test_row_34_a_list_with_a_byte_order_mark_and_empty_and_repeated_lines_is_read_right(
    two_at_once: tuple[list[Path], list[Run]],
) -> None:
    sounds, runs = two_at_once
    for run in runs:
        assert f"Extracting vggish features of {len(sounds)} videos" in run.stderr
    assert {row["path"] for row in runs[1].rows} == {path.name for path in sounds}


def test_row_34_a_million_videos_are_begun_with_in_seconds_and_little_memory(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("".join(f"/no/such/folder/video {i:07d}.mp4\n" for i in range(1_000_000)))
    begin = time.monotonic()
    process = start(*VGGISH, "--file_with_video_paths", tmp_path / "list.txt", *saving(tmp_path / "output"))
    lines_until(process, "features of 1000000 videos on cpu")
    seconds = time.monotonic() - begin
    status = Path(f"/proc/{process.pid}/status").read_text()
    process.terminate()
    run = ended(process, tmp_path / "output")
    assert run.status == 130
    peak = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert peak is not None
    assert seconds < 30
    assert int(peak[1]) < 500_000


@pytest.mark.parametrize("content", [None, b"PK\x03\x04 cut off"])
def test_row_32_weights_that_cannot_be_loaded_are_told_once_and_nothing_is_begun(
    tmp_path: Path, content: bytes | None
) -> None:
    checkpoint = tmp_path / "mine.pt"
    if content is not None:
        checkpoint.write_bytes(content)
    (sound,) = write_sounds(tmp_path, 1)
    output = tmp_path / "output"
    command = ["--feature_type", "vggish", "--device_ids", "cpu", "--vggish_model_path", checkpoint]
    stopped = run(*command, "--video_paths", sound, output=output)
    assert stopped.status == 3
    assert stopped.stderr.count("cannot start") == 1
    assert str(checkpoint) in stopped.stderr
    assert stopped.rows == []
    assert stopped.files == {}


@pytest.mark.parametrize(
    ("ids", "message"), [(["4096"], "4096: no such GPU here; there is .*cpu"), (["0", "0"], "0 is given twice")]
)
def test_row_33_devices_that_are_not_there_are_told_and_nothing_is_done_without_them(
    ids: list[str], message: str
) -> None:
    run = refused("--feature_type", "vggish", "--weights", "random", "--video_paths", "a.wav", "--device_ids", *ids)
    assert run.status == 2
    assert len(run.stderr.splitlines()) == 1
    assert re.search(message, run.stderr)


def test_row_35_when_nobody_reads_on_the_work_goes_on(tmp_path: Path) -> None:
    process = start(*VGGISH, "--video_paths", *write_sounds(tmp_path, 4))
    assert process.stdout is not None
    assert process.stdout.readline() == f"{tmp_path}/0.wav: 2.00 s\n"
    process.stdout.close()  # as `| head -1` does
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.wait(timeout=60) == 0
    assert "4 done (8.0 s of video), 0 skipped, 0 failed" in said
    assert "Broken" not in said
    wait_until(lambda: not running_in(process.pid), seconds=10)


# What else a user meets


def test_the_command_that_is_told_does_what_failed_once_it_is_mended(
    large: dict[str, Large], again: dict[str, Run]
) -> None:
    first, second, media = large["vggish"].everything, again["vggish"], large["vggish"].media
    assert second.status == 1
    assert second.paths("ok") == {str(media / "text.wav")}
    assert second.paths("skipped") == large["vggish"].good
    assert second.paths("failed") == first.paths("failed") - {str(media / "text.wav")}
    assert second.files.items() >= first.files.items()
    assert second.features("text.wav").shape == (2, 128)


def test_what_failed_before_can_be_skipped_and_is_no_failure_then(
    large: dict[str, Large], again: dict[str, Run]
) -> None:
    third = run(*large["vggish"].arguments, "--skip_failed", output=large["vggish"].output)
    assert third.status == 0
    assert third.paths("skipped") == {row["path"] for row in again["vggish"].rows}
    left_out = {row["path"] for row in third.rows if row["error"] == "it failed in an earlier run (--skip_failed)"}
    assert left_out == again["vggish"].paths("failed")
    assert third.files == again["vggish"].files


def test_a_glob_means_the_media_that_match(large: dict[str, Large], again: dict[str, Run]) -> None:
    media = large["vggish"].media
    globs = [media / "lossy*.m*", media / "**" / "as ????.*", media / "it's*"]
    globbed = run(*VGGISH, "--video_paths", *globs, output=large["vggish"].output)
    assert globbed.status == 0
    names = ["lossy m4a.m4a", "lossy mp3.mp3", "lossy mp4.mp4", "as flac.flac", 'it\'s "q".wav']
    assert [row["path"] for row in globbed.rows] == [str(media / name) for name in names]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--max_pixels", "0"),
        ("--max_pixels", "many"),
        ("--timeout_per_video", "0"),
        ("--timeout_per_video", "nan"),
        ("--timeout_per_video", "soon"),
        ("--log_level", "loud"),
    ],
)
def test_values_that_cannot_be_are_told_in_a_line(option: str, value: str) -> None:
    run = refused(*VGGISH, "--video_paths", "a.wav", option, value)
    assert run.status == 2
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1
    assert option in run.stderr
    assert value in run.stderr
