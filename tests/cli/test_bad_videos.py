"""Videos and sounds that cannot be used, and odd names, as a user meets them: docs/faults.md.

There is one large run of each feature type, over a folder of good and bad files, and one of some good files alone.
"""

import contextlib
import ctypes
import os
import re
import shutil
import socket
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.clips import Frame, remuxed, write_clip
from tests.helpers.program import I3D, VGGISH, Run, ended, run_program, saving, start
from tests.helpers.sounds import chord, noise, sound_of, write_sound, write_wav

NUM_FRAMES = 10  # of which I3D makes one feature of a stack of 9
RATE_HZ = 16_000
STRANGE_NAMES = ["two  blanks", 'it\'s "q"', "new\nline", "co:lon", "%03d", "-i", "back\\slash", "\udcff\udcfe"]
NO_MEDIA = {
    "empty": b"",
    "text": b"no video at all\n" * 100,
    "page": b"<!DOCTYPE html><html></html>",
    "nulls": bytes(5000),
}
SPOILED = ("exact.mkv", "plain.mp4", "a/x.mkv")
LIBC = ctypes.CDLL(None)


def bound_by_permissions() -> None:
    """Called in a program to be: takes from root the right to read and write everything."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        LIBC.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


# Making files


def random_frames(num_frames: int = NUM_FRAMES, width: int = 64, height: int = 48, seed: int = 0) -> list[Frame]:
    return list(np.random.default_rng(seed).integers(0, 256, (num_frames, height, width, 3), np.uint8))


def lossless(path: Path, frames: list[Frame]) -> Path:
    return write_clip(path, frames, codec="ffv1", pixel_format="bgr0")


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


def make_videos(folder: Path) -> None:
    """Videos that have features."""
    plain = write_clip(folder / "plain.mp4", random_frames(), codec="mpeg4")
    for name in STRANGE_NAMES[1::3]:
        shutil.copy(plain, folder / f"{name}.mp4")
    lossless(folder / "exact.mkv", random_frames())
    for seed, name in enumerate(("x.mp4", "x.mkv", "a/x.mkv", "b/x.mkv"), start=10):
        (folder / name).parent.mkdir(exist_ok=True)
        write_clip(folder / name, random_frames(seed=seed), codec="mpeg4")


def make_bad_videos(folder: Path, port: int) -> dict[str, str]:
    """Files that have no features; gives the reason for each. Nothing is to ask for something at that port."""
    at_end = write_clip(folder.parent / "whole.mp4", random_frames())
    in_front = remuxed(at_end, folder.parent / "whole in front.mp4", movflags="faststart")
    assert in_front.read_bytes().index(b"moov") < in_front.read_bytes().index(b"mdat")
    cut_off(at_end, folder / "cut, index at the end.mp4")
    cut_off(in_front, folder / "cut, index in front.mp4")
    cut_off(remuxed(at_end, folder.parent / "whole.mkv"), folder / "cut.mkv")
    overwritten(at_end, folder / "overwritten.mp4")
    lossless(folder / "thin.mkv", random_frames(1, 4000, 2))
    header = b"GIF89a" + struct.pack("<HH", 15_000, 15_000) + bytes(3)
    (folder / "huge.gif").write_bytes(header + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0;")
    (folder / "playlist.mp4").write_text(
        f"#EXTM3U\n#EXTINF:1,\n{folder}/plain.mp4\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n"
    )
    (folder / "joined.mp4").write_text(f"ffconcat version 1.0\nfile '{folder}/plain.mp4'\n")
    return {
        "cut, index at the end.mp4": "unreadable",
        "cut, index in front.mp4": "truncated",
        "cut.mkv": "truncated",
        "overwritten.mp4": "corrupt",
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
    write_wav(folder / "plain.wav", chord(2, RATE_HZ), RATE_HZ)
    write_wav(folder / "other.wav", noise(2, RATE_HZ), RATE_HZ)
    for name in STRANGE_NAMES:
        shutil.copy(folder / "plain.wav", folder / f"{name}.wav")
    for seed, name in enumerate(("x.wav", "x.mka", "a/x.wav", "b/x.wav"), start=10):
        (folder / name).parent.mkdir(exist_ok=True)
        write_wav(folder / name, sound_of(seed), RATE_HZ)


def make_bad_sounds(folder: Path) -> dict[str, str]:
    """Files that have no features; gives the reason for each."""
    write_wav(folder / "short.wav", chord(0.5, RATE_HZ), RATE_HZ)
    at_end = write_sound(folder.parent / "whole sound.mp4", chord(2, RATE_HZ), RATE_HZ, "aac", picture_ms=0)
    cut_off(at_end, folder / "cut, index at the end.mp4")
    cut_off(remuxed(at_end, folder.parent / "front.mp4", movflags="faststart"), folder / "cut, index in front.mp4")
    cut_off(folder / "plain.wav", folder / "cut.wav")
    overwritten(
        write_sound(folder.parent / "whole.mp3", chord(2, RATE_HZ), RATE_HZ, "libmp3lame"), folder / "overwritten.mp3"
    )
    return {
        "short.wav": "too_short",
        "cut, index at the end.mp4": "unreadable",
        "cut, index in front.mp4": "truncated",
        "cut.wav": "truncated",
        "overwritten.mp3": "corrupt",
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
            videos: make_bad_videos(videos, port) | {f"{sounds}/other.wav": "no_video"},
            sounds: make_bad_sounds(sounds) | {f"{videos}/exact.mkv": "no_audio"},
        }
        others = {str(top / "missing.mp4"): "not_found", str(top / "hollow"): "not_a_file"}
        others |= {
            f"concat:{videos}/plain.mp4|{videos}/joined.mkv": "not_found",
            f"http://127.0.0.1:{port}/a.mp4": "not_found",
        }
        given: dict[Path, list[object]] = {}
        processes = {}
        for options, folder in ((I3D, videos), (VGGISH, sounds)):
            reasons[folder] = {str(folder / name): reason for name, reason in reasons[folder].items()} | others
            more = [path for path in reasons[folder] if not path.startswith(f"{folder}/")]
            given[folder] = [*options, "--video_paths", folder, *more]
            debugging = [*saving(top / f"of {folder.name}"), "--log_level", "debug"]
            some = [path for path in sorted(good[folder]) if re.search("/(plain|exact|x)", path)]
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
    """The videos once more, with --allow_partial, after three of their outputs were spoiled; and the sounds, after one
    of them was mended.
    """
    videos, sounds = large["i3d"], large["vggish"]
    os.truncate(videos.output / "exact_rgb.npy", len(videos.everything.files["exact_rgb.npy"]) // 2)
    (videos.output / "plain_rgb.npy").write_text("no features")
    (videos.output / "a/x_rgb.npy").unlink()
    allowing = [*videos.arguments, *saving(videos.output), "--allow_partial"]
    write_wav(sounds.media / "text.wav", sound_of(5), RATE_HZ)
    processes = (
        start(*allowing, preexec_fn=bound_by_permissions),
        start(*sounds.arguments, *saving(sounds.output), preexec_fn=bound_by_permissions),
    )
    return {
        name: ended(process, large[name].output, len(large[name].everything.rows))
        for name, process in zip(("i3d", "vggish"), processes, strict=True)
    }


@pytest.fixture(scope="module")
def partial(again: dict[str, Run]) -> Run:
    return again["i3d"]


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
    assert len(either.good_ones.files) >= 5
    assert either.good_ones.files.items() <= either.everything.files.items()


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


def test_row_07_a_sound_too_short_for_a_feature_is_told_its_length(sounds: Run) -> None:
    row = sounds.row("short.wav")
    assert row["reason"] == "too_short"
    assert "0.500 s of sound, and VGGish needs 0.975 s" in row["error"]


def test_row_12_a_size_that_cannot_be_is_named(videos: Run) -> None:
    assert videos.row("thin.mkv")["reason"] == "bad_size"
    assert "4000x2 would be scaled to 448000x224" in videos.row("thin.mkv")["error"]


def test_row_13_frames_above_the_limit_are_refused(videos: Run) -> None:
    row = videos.row("huge.gif")
    assert row["reason"] == "too_large"
    assert f"one over {2**26} pixels (--max_pixels)" in row["error"]


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


def test_row_28_a_second_run_does_what_is_not_done_in_the_same_way(large: dict[str, Large], partial: Run) -> None:
    first, media = large["i3d"].everything, large["i3d"].media
    spoiled = {str(media / name) for name in SPOILED}
    assert spoiled <= partial.paths("ok")
    assert partial.paths("skipped") == large["i3d"].good - spoiled
    assert first.files.items() <= partial.files.items()
    reasons = {path: reason for path, reason in large["i3d"].reasons.items() if reason not in ("truncated", "corrupt")}
    assert {row["path"]: row["reason"] for row in partial.rows if row["status"] == "failed"} == reasons


def test_row_30_a_run_with_other_settings_is_refused_and_changes_nothing(large: dict[str, Large], partial: Run) -> None:
    output = large["i3d"].output
    before = {path: path.read_bytes() for path in output.rglob("*.*") if path.is_file()}
    run = run_program(*large["i3d"].arguments, *saving(output), "--stack_size", 10)
    assert run.status == 3
    assert "stack_size was 9 and is 10" in run.stderr
    assert "--overwrite" in run.stderr
    assert {path: path.read_bytes() for path in output.rglob("*.*") if path.is_file()} == before


def test_the_same_command_does_what_failed_once_it_is_mended(large: dict[str, Large], again: dict[str, Run]) -> None:
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
    third = run_program(*large["vggish"].arguments, "--skip_failed", output=large["vggish"].output)
    assert third.status == 0
    assert third.paths("skipped") == {row["path"] for row in again["vggish"].rows}
    left_out = {row["path"] for row in third.rows if row["error"] == "it failed in an earlier run (--skip_failed)"}
    assert left_out == again["vggish"].paths("failed")
    assert third.files == again["vggish"].files
