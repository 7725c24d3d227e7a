"""Lists of videos as people write them, folders and globs, and names for outputs that do not collide."""

import itertools
import os
import random
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from utils.outputs.atomic import whole_file
from utils.video_list import (
    MOST_STEM_BYTES,
    VIDEO_SUFFIXES,
    Shard,
    distinct,
    expand,
    explain_missing,
    find_videos,
    read_list,
    stem_of,
    unique_stems,
)

# Lists


def listed(folder: Path, content: bytes) -> list[str]:
    (folder / "list.txt").write_bytes(content)
    return read_list(str(folder / "list.txt"))


LISTS: list[tuple[bytes, list[str]]] = [
    (b"a.mp4\nb c.mp4\n", ["a.mp4", "b c.mp4"]),
    (b"a.mp4\r\nb c.mp4\r\n", ["a.mp4", "b c.mp4"]),
    (b"a.mp4\rb c.mp4\r", ["a.mp4", "b c.mp4"]),
    (b"\xef\xbb\xbfa.mp4\nb c.mp4", ["a.mp4", "b c.mp4"]),
    (b"\n\na.mp4\n\n  b c.mp4 \t\n\n", ["a.mp4", "b c.mp4"]),
    (b"\xff\xfe" + "a.mp4\r\nb c.mp4\r\n".encode("utf-16-le"), ["a.mp4", "b c.mp4"]),
    (b"\xfe\xff" + "a.mp4\nb c.mp4".encode("utf-16-be"), ["a.mp4", "b c.mp4"]),
    (b"'a.mp4'\n \"b c.mp4\" \n", ["a.mp4", "b c.mp4"]),
    (b"# all of them\na.mp4\n  # and\nb c.mp4\n#", ["a.mp4", "b c.mp4"]),
    (b"a.mp4\n''\n\"\"\nb c.mp4\n", ["a.mp4", "b c.mp4"]),
    (b"~/a b.mp4\n'~/a b.mp4'", ["/home/somebody/a b.mp4"] * 2),
    (b"\xff.mp4\n\xe9.mp4\n", ["\udcff.mp4", "\udce9.mp4"]),
    (b"\xff\xfe\x00\xd8.\0a\0v\0i\0", ["\ud800.avi"]),
    (b"' a.mp4 '\n'#1.mp4'\n", [" a.mp4 ", "#1.mp4"]),
    (b"'a.mp4\na.mp4'\n'a.mp4\"\nit's\n\"", ["'a.mp4", "a.mp4'", "'a.mp4\"", "it's", '"']),
    (b"a #1.mp4\na~.mp4\n~no such user/a", ["a #1.mp4", "a~.mp4", "~no such user/a"]),
]


@pytest.mark.parametrize(("content", "paths"), LISTS)
def test_a_list_is_read_as_people_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, paths: list[str]
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert listed(tmp_path, content) == paths


@pytest.mark.parametrize("name", ["'a.mp4'", '"a.mp4"', "#a.mp4", "~"])
def test_what_exists_as_it_is_written_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert listed(tmp_path, f"b.mp4\n{name}\n".encode()) != ["b.mp4", name]
    (tmp_path / name).touch()
    assert listed(tmp_path, f"b.mp4\n{name}\n".encode()) == ["b.mp4", name]


def test_a_list_may_be_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    content = b"\xff\xfe" + "".join(f"{i}.mp4\n" for i in range(100_000)).encode("utf-16-le")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
    writer.start()
    assert read_list(str(tmp_path / "pipe")) == [f"{i}.mp4" for i in range(100_000)]
    writer.join()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *((content, "no video") for content in (b"", b"\n  \n", b"# none yet\n", b"\xef\xbb\xbf", b"\xff\xfe")),
        (b"a.mp4\n" * 100_000 + b"\0", "no text"),
        (b"\xff\xfe" + "a\0b".encode("utf-16-le"), "no text"),
        (b"\xff\xfea", "no text"),
    ],
)
def test_a_list_that_names_nothing_or_is_no_text_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, content)


def test_a_video_in_place_of_a_list_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    os.truncate(tmp_path / "a.mp4", 1 << 40)
    with pytest.raises(ValueError, match="no text"):
        read_list(str(tmp_path / "a.mp4"))


# Shards


@pytest.mark.parametrize("num_videos", [0, 1, 7, 8, 9, 100])
def test_shards_are_even_and_keep_the_order_and_each_video_is_in_one(num_videos: int) -> None:
    videos = [f"{i}.mp4" for i in range(num_videos)]
    shards = [Shard(number, 8).of(videos) for number in range(1, 9)]
    assert sorted(itertools.chain(*shards)) == sorted(videos)
    assert all(videos.index(a) < videos.index(b) for shard in shards for a, b in itertools.pairwise(shard))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert Shard(1, 1).of(videos) == videos


# Folders and globs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with media and other things below it."""
    names = ["b.mp4", "B.MKV", "a 1.mp4", "notes.txt", "mp4", "raw.dat", "RAW.DAT", ".hidden.mp4", "sub/c.webm"]
    names += ["sub/c.wav", "sub/deep/b.mp4", "sub/.git/d.mp4", "empty/notes.txt", "[x]/a[1].mp4", "[x]/a1.mp4"]
    for name in names:
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f.mp4").touch()
    (tmp_path / "videos" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "videos" / "gone.mp4").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path / "videos")
    return tmp_path / "videos"


BELOW = ["B.MKV", "[x]/a1.mp4", "[x]/a[1].mp4", "a 1.mp4", "b.mp4", "gone.mp4", "sub/c.webm", "sub/deep/b.mp4"]


@pytest.mark.parametrize(
    ("path", "files"),
    [
        (".", [f"./{name}" for name in BELOW]),
        ("sub/", ["sub/c.webm", "sub/deep/b.mp4"]),
        ("sub/../sub/deep", ["sub/../sub/deep/b.mp4"]),
        ("sub/.git", ["sub/.git/d.mp4"]),
        ("link", ["link/f.mp4"]),
        ("[x]", ["[x]/a1.mp4", "[x]/a[1].mp4"]),
        ("*.mp4", ["a 1.mp4", "b.mp4", "gone.mp4"]),
        ("./?.mp4", ["./b.mp4"]),
        ("[!a]*.mp4", ["b.mp4", "gone.mp4"]),
        ("*.dat", ["raw.dat"]),
        ("*.DAT", ["RAW.DAT"]),
        (".h*", [".hidden.mp4"]),
        ("s*", ["sub/c.webm", "sub/deep/b.mp4"]),
        ("s*/*/b.mp4", ["sub/deep/b.mp4"]),
        ("l*/*", ["link/f.mp4"]),
        ("**/b.mp4", ["b.mp4", "sub/deep/b.mp4"]),
        ("sub/**", ["sub/c.webm", "sub/deep/b.mp4"]),
        ("[[]x]/*", ["[x]/a1.mp4", "[x]/a[1].mp4"]),
        *((path, [path]) for path in ("empty", "notes.txt", "no such folder", "", "a\0b", "[x]/a[1].mp4")),
        *((path, [path]) for path in ("r*", "empt[y]", "m*4", "../v*/mp[4]", "no such folder/*.mp4")),
        *((path, [path]) for path in ("a\0b/*.mp4", "\ud800*")),
    ],
)
def test_folders_and_globs_are_the_media_below_them_and_what_means_none_stays(
    folder: Path, path: str, files: list[str]
) -> None:
    assert expand(["x.mp4", path, "a.mp4"], VIDEO_SUFFIXES) == ["x.mp4", *files, "a.mp4"]


@pytest.mark.parametrize(("path", "files"), [("sub", ["sub"]), (".", ["./b.mp4", "./sub"]), ("s*", ["sub"])])
def test_a_folder_that_cannot_be_read_stays_beside_the_media(
    folder: Path, monkeypatch: pytest.MonkeyPatch, path: str, files: list[str]
) -> None:
    scandir = os.scandir

    def refuse(path: str = ".") -> object:  # also to root
        if os.path.abspath(path) == str(folder / "sub"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = expand([path], VIDEO_SUFFIXES)
    assert set(files) <= set(found)
    assert not any(file.endswith(".webm") for file in found)


def test_files_that_are_named_one_by_one_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> bool:
        raise AssertionError("the file system is asked")

    for name in ("isdir", "exists", "lexists"):
        monkeypatch.setattr(os.path, name, ask)
    assert expand(["/v/a.mp4", "b.MKV"], VIDEO_SUFFIXES) == ["/v/a.mp4", "b.MKV"]


def test_a_missing_file_is_told_from_urls_and_patterns() -> None:
    for url in ("https://example.org/a.mp4", "s3://bucket/a.mp4"):
        assert explain_missing(url) == "URLs are not taken; download it first"
    assert explain_missing("videos/*.mp4") == "the pattern matched nothing"
    for path in ("videos/a.mp4", "concat:a.mp4|b.mp4"):
        assert explain_missing(path) is None


# Names of outputs


def stems_of(paths: Sequence[str]) -> dict[str, str]:
    """Return what the outputs of all videos are called after."""
    stems = unique_stems(paths)
    return {path: stems.get(path) or stem_of(path) for path in paths}


def test_each_file_comes_once_in_the_order_of_the_list() -> None:
    paths = ["b.mp4", "a.mp4", "./b.mp4", "x/../a.mp4", "c.mp4", os.path.abspath("c.mp4"), "c.mp4/", ".//c.mp4"]
    assert distinct(paths) == ["b.mp4", "a.mp4", "c.mp4"]
    for other in ("//v/a.mp4", "/v//a.mp4", "/v/./a.mp4", "/../v/a.mp4", "/v/w/../a.mp4", "/v/a.mp4/"):
        assert distinct(["/v/a.mp4", other]) == ["/v/a.mp4"]
        assert distinct([other, "/v/a.mp4"]) == [other]


@pytest.mark.parametrize(
    ("paths", "stems"),
    [
        (["/v/a.b.mp4", "c/", "v/d.mp4/.", "v/w/.."], ["a.b", "c", "d", "v"]),
        ([".mp4", "\udcff.mp4", "a\0b\ud800.mp4"], [".mp4", "\udcff", "a\0b\ud800"]),
        (["/v/a/x.mp4", "/v/b/x.mp4", "/v/b/x.mkv", "/v/y.mp4"], ["a/x", "b/x.mp4", "b/x.mkv", "y"]),
        (["/w/z.mp4", "/w/z.webm"], ["z.mp4", "z.webm"]),
        (["/x.mp4", "/a/x.mp4"], ["x", "a/x"]),
        (["/v/ab/x.mp4", "/v/ac/x.mp4"], ["ab/x", "ac/x"]),
        (["/v/a/x.mp4", "/v/a b/x.mp4", "/v/a/c/x.mp4"], ["a/x", "a b/x", "a/c/x"]),
        (["/v/x", "/v/x.mp4", "/v/x/x.mp4"], ["x", "x.mp4", "x/x"]),
        (["/v/a/...mp4", "/v/b/...mp4"], ["a/...mp4", "b/...mp4"]),
    ],
)
def test_outputs_are_called_after_the_video_and_its_folders_if_need_be(paths: list[str], stems: list[str]) -> None:
    assert list(stems_of(paths).values()) == stems


LONG = ["é" * 110, "😀" * 55, *("y" * length for length in (215, 216, 230, 250)), "\udcff" * 240]
LONG += ["\ud800" * 100, "\udced\udca0\udc80" * 100]  # the same bytes, in as far as the first has any
NAMES = ["x", "x.mp4", "x.mp4.mp4", ".mp4", "...mp4", "x.", "-x", " ", "\udcff", "\ud800", "a\0b", *LONG]
ENDINGS = ["", ".mp4", ".mkv", ".MP4"]
FOLDERS = ["", "/", "//", "/v", "/v/x", "/v/x.mp4", "v", "v/..", "../v", "./v//x", "/v/..", "/" + "z" * 250]


@pytest.mark.parametrize("seed", range(30))
def test_whatever_the_videos_no_two_have_the_same_outputs(seed: int) -> None:
    chance = random.Random(seed)
    everything = [f"{os.path.join(*parts[:2])}{parts[2]}" for parts in itertools.product(FOLDERS, NAMES, ENDINGS)]
    paths = distinct(chance.sample(everything, 10 ** chance.randint(0, 2) + seed))
    for _ in range(4):  # with videos that are named as the outputs of others were
        stems = stems_of(paths)
        assert len({os.path.normpath(f"{stem}_rgb.npy") for stem in stems.values()}) == len(paths)
        for stem in stems.values():
            assert not os.path.isabs(stem)
            assert ".." not in Path(stem).parts
            assert len(os.path.basename(stem).encode(errors="replace")) <= MOST_STEM_BYTES
        in_another_order = chance.sample(paths, len(paths))
        assert stems_of(in_another_order) == stems
        paths = distinct([*paths, *(f"/v/{stems[path]}.mp4" for path in in_another_order[:5])])


@pytest.mark.parametrize(
    ("name", "num_kept"),
    [("y" * 215, 215), ("y" * 216, 198), ("é" * 107, 107), ("é" * 108, 99), ("a" + "é" * 108, 99), ("😀" * 60, 49)],
)
def test_a_stem_that_is_too_long_is_cut_between_two_characters(tmp_path: Path, name: str, num_kept: int) -> None:
    stem = stem_of(f"/v/{name}.mp4")
    assert re.fullmatch(name[:num_kept] + ("" if num_kept == len(name) else "-[0-9a-f]{16}"), stem)
    with whole_file(tmp_path / f"{stem}_vggish.npy") as file:
        file.write(b"rows")
    assert os.listdir(tmp_path) == [f"{stem}_vggish.npy"]


def test_many_videos_are_listed_and_named_in_seconds(tmp_path: Path) -> None:
    lines = [f"/data/{i:07d}/namesake.mp4" for i in range(50_000)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    start = time.process_time()
    paths = find_videos(None, str(tmp_path / "list.txt"), VIDEO_SUFFIXES)
    assert list(unique_stems(paths).values()) == [f"{i:07d}/namesake" for i in range(50_000)]
    assert time.process_time() - start < 2
    assert paths == lines
