"""Files and folders that appear whole or not at all, and what a killed program leaves of them."""

import errno
import fcntl
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.oracles import REPOSITORY
from tests.helpers.processes import wait_until
from utils.errors import SaveError
from utils.outputs import atomic as files
from utils.outputs.atomic import locked, sweep, whole_file, whole_folder

LONG_NAME = "n" * 251 + ".npy"  # 255 bytes is the most that file systems take


def fill(path: Path, text: str) -> None:
    """Put a whole file, or a whole folder with one file in it, at `path`."""
    if path.suffix:
        with whole_file(path) as file:
            file.write(text.encode())
    else:
        with whole_folder(path) as folder:
            (folder / "text").write_text(text)


def text_at(path: Path) -> str:
    return (path if path.suffix else path / "text").read_text()


def program(code: str) -> "subprocess.Popen[str]":
    """A program that has run as far as where it prints a line."""
    code = "from pathlib import Path; from utils.files import *\n" + code
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def writer(path: Path) -> "subprocess.Popen[str]":
    """A program that has begun to write a file or folder at `path`, and goes on once it gets a line."""
    return program(f"""
with {"whole_file" if path.suffix else "whole_folder"}(Path({str(path)!r})) as out:
    {"out.write(b'new'); out.flush()" if path.suffix else "(out / 'text').write_text('new')"}
    print("begun", flush=True)
    input()
""")


both = pytest.mark.parametrize("name", ["a b.npy", "a b"], ids=["file", "folder"])


# Whole or not there


@both
@pytest.mark.parametrize("old", [None, "old"])
def test_it_appears_when_it_is_written_and_not_before(tmp_path: Path, name: str, old: str | None) -> None:
    path = tmp_path / "new folder" / "below" / name
    if old is not None:
        fill(path, old)
    process = writer(path)
    assert text_at(path) == old if old is not None else not path.exists()
    process.communicate("go on\n")
    assert process.returncode == 0
    assert text_at(path) == "new"
    assert list(path.parent.iterdir()) == [path]


@both
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_what_was_there_and_passes_as_it_is(
    tmp_path: Path, name: str, error: type[BaseException]
) -> None:
    fill(tmp_path / name, "old")
    with pytest.raises(error):  # noqa: PT012
        if name == "a b":
            with whole_folder(tmp_path / name) as folder:
                (folder / "text").write_text("new")
                raise error
        with whole_file(tmp_path / name) as file:
            file.write(b"new")
            raise error
    assert text_at(tmp_path / name) == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_what_appears_has_the_permissions_of_any_other_new_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").touch()
    (tmp_path / "plain").mkdir()
    fill(tmp_path / "whole.txt", "")
    fill(tmp_path / "whole", "")
    for suffix in ("", ".txt"):
        plain, whole = (tmp_path / (name + suffix) for name in ("plain", "whole"))
        assert plain.stat().st_mode == whole.stat().st_mode


@pytest.mark.parametrize("name", [LONG_NAME, "n" * 255, "\udcff\udcfe.npy", "-a\n'b\".npy"])
def test_any_name_that_the_file_system_takes_can_be_written_under(tmp_path: Path, name: str) -> None:
    fill(tmp_path / name, "text")
    assert text_at(tmp_path / name) == "text"


def test_temporaries_have_short_names(tmp_path: Path) -> None:
    with whole_file(tmp_path / LONG_NAME), whole_folder(tmp_path / ("n" * 255)):
        assert [len(name) <= 40 and name.endswith(".part") for name in os.listdir(tmp_path)] == [True, True]


@both
def test_many_that_write_the_same_at_once_all_succeed(tmp_path: Path, name: str) -> None:
    texts = [str(i) * 1000 for i in range(8)]
    errors: list[BaseException] = []

    def write(text: str) -> None:
        try:
            for _ in range(20):
                fill(tmp_path / name, text)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert text_at(tmp_path / name) in texts
    assert list(tmp_path.iterdir()) == [tmp_path / name]


# Errors of the system


def broken(code: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EFBIG, "disk_full"),
        (errno.EACCES, "cannot_save"),
        (errno.EROFS, "cannot_save"),
        (errno.EIO, "cannot_save"),
    ],
)
@pytest.mark.parametrize("step", ["mkdir", "open", "fsync", "replace"])
def test_an_error_of_the_system_names_the_file_and_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int, reason: str
) -> None:
    path = tmp_path / "below" / "a.npy"
    with monkeypatch.context() as patch:
        patch.setattr(os, step, broken(code))
        with pytest.raises(SaveError) as caught:
            fill(path, "new")
    error = caught.value
    assert (error.reason, error.errno) == (reason, code)
    assert str(path) in str(error)
    assert os.strerror(code) in str(error)
    assert isinstance(error.__cause__, OSError)
    assert not path.parent.exists() or list(path.parent.iterdir()) == []


def test_an_error_in_the_block_is_one_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"a\.npy: cannot be written: 3 requested"), whole_file(tmp_path / "a.npy"):
        raise OSError("3 requested and 2 written")
    with pytest.raises(SaveError, match="frames: cannot be written: No space"), whole_folder(tmp_path / "frames"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_a_file_in_a_folder_keeps_that_files_name(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    with pytest.raises(SaveError, match=r"1\.png: cannot be written: no"), whole_folder(frames) as folder:  # noqa: SIM117
        with whole_file(folder / "1.png"):
            raise OSError("no")


@pytest.mark.parametrize("num_values", [1000, 1100, 100_000], ids=["fits not by a header", "small", "large"])
def test_an_array_that_finds_no_room_is_never_short_but_an_error(tmp_path: Path, num_values: int) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
        with pytest.raises(SaveError) as caught, whole_file(tmp_path / "a.npy") as file:
            np.save(file, np.zeros(num_values))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.reason == "disk_full"
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_a_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "frames").write_text("mine")
    with pytest.raises(SaveError, match="Not a directory"):
        fill(tmp_path / "frames", "new")
    with pytest.raises(SaveError, match=r"exists|Not a directory"):
        fill(tmp_path / "frames" / "a.npy", "new")
    assert (tmp_path / "frames").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / "frames"]


def test_a_save_error_passes_between_processes(tmp_path: Path) -> None:
    error = pickle.loads(pickle.dumps(SaveError(str(tmp_path), OSError(errno.ENOSPC, "No space"))))
    assert (type(error), error.reason, error.errno) == (SaveError, "disk_full", errno.ENOSPC)
    assert str(error) == str(SaveError(str(tmp_path), OSError(errno.ENOSPC, "No space")))


# What killed programs leave


@both
def test_what_a_killed_program_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path, name: str) -> None:
    living, killed = writer(tmp_path / name), writer(tmp_path / f"other {name}")
    killed.kill()
    killed.communicate()
    assert len(list(tmp_path.iterdir())) == 2
    assert sweep(tmp_path) == 1
    assert sweep(tmp_path) == 0
    living.communicate("go on\n")
    assert living.returncode == 0
    assert text_at(tmp_path / name) == "new"
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_a_stopped_program_is_a_living_one(tmp_path: Path) -> None:
    process = writer(tmp_path / "a.npy")
    process.send_signal(signal.SIGSTOP)
    assert sweep(tmp_path) == 0
    process.send_signal(signal.SIGCONT)
    process.communicate("go on\n")
    assert text_at(tmp_path / "a.npy") == "new"


def test_only_our_own_temporaries_directly_in_the_folder_are_swept(tmp_path: Path) -> None:
    ours = ".0123456789abcdef.part"
    others = ["a.npy", "weights.pt.part", ".a.npy.123.part", ".0123456789ABCDEF.part", f"{ours}2", f"a{ours}"]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / ours).touch()
    (tmp_path / ".aaaaaaaaaaaaaaaa.part").symlink_to(tmp_path / "below")
    (tmp_path / ".bbbbbbbbbbbbbbbb.part").symlink_to(tmp_path / "a.npy")
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / ours).touch()
    assert sweep(tmp_path) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_not_there_has_nothing_to_sweep(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert sweep(tmp_path / "missing") == 0
    assert sweep(tmp_path / "file") == 0


def test_one_that_cannot_be_swept_does_not_keep_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [tmp_path / f".{i:016x}.part" for i in range(3)]
    for part in parts:
        part.touch()
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path: broken(errno.EPERM)() if path == parts[1] else unlink(path))
    assert sweep(tmp_path) == 2
    assert list(tmp_path.iterdir()) == [parts[1]]


@both
@pytest.mark.parametrize("moment", ["before it is opened", "before it is locked"])
def test_a_temporary_that_is_swept_before_its_lock_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, moment: str
) -> None:
    swept: list[Path] = []
    real_open, real_flock = os.open, fcntl.flock

    def sweep_once() -> None:
        if not swept:
            swept.extend(tmp_path.iterdir())
            swept[0].rmdir() if swept[0].is_dir() else swept[0].unlink()

    def open_late(path: Path, flags: int, *mode: int) -> int:
        if not flags & os.O_CREAT:
            sweep_once()
        return real_open(path, flags, *mode)

    def lock_late(descriptor: int, operation: int) -> None:
        sweep_once()
        real_flock(descriptor, operation)

    if moment == "before it is opened":
        monkeypatch.setattr(os, "open", open_late)
    else:
        monkeypatch.setattr(fcntl, "flock", lock_late)
    fill(tmp_path / name, "new")
    assert [files.PART.fullmatch(part.name) is not None for part in swept] == [True]
    assert text_at(tmp_path / name) == "new"
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_sweeping_all_the_time_harms_no_writer(tmp_path: Path) -> None:
    is_over = threading.Event()

    def keep_sweeping() -> None:
        while not is_over.is_set():
            sweep(tmp_path)

    thread = threading.Thread(target=keep_sweeping)
    thread.start()
    try:
        for i in range(100):
            fill(tmp_path / f"{i}.npy", "text")
            fill(tmp_path / f"{i}", "text")
    finally:
        is_over.set()
        thread.join()
    assert len(list(tmp_path.iterdir())) == 200


def test_where_there_are_no_locks_all_works_and_nothing_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / ".0123456789abcdef.part"
    part.touch()
    monkeypatch.setattr(fcntl, "flock", broken(errno.ENOLCK))
    with locked(tmp_path):
        fill(tmp_path / "a.npy", "text")
        fill(tmp_path / "a", "text")
    assert sweep(tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.npy", "a", part.name}


# The lock of a folder


def test_a_locked_folder_is_one_programs_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    processes = [
        program(f"""
number = Path({str(tmp_path)!r}, "number")
print("begun", flush=True)
input()
for _ in range(200):
    with locked(number.parent):
        number.write_text(str(int(number.read_text()) + 1))
""")
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go on\n")
        process.stdin.flush()
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "number").read_text() == "600"


def test_a_program_that_is_killed_leaves_no_lock(tmp_path: Path) -> None:
    process = program(f"""
with locked(Path({str(tmp_path)!r})):
    print("begun", flush=True)
    input()
""")
    is_mine = threading.Event()

    def wait_for_it() -> None:
        with locked(tmp_path):
            is_mine.set()

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    assert not is_mine.wait(0.2)
    process.kill()
    process.communicate()
    wait_until(is_mine.is_set)
    thread.join()


def test_an_error_under_the_lock_passes_and_frees_it(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        for _ in range(2):
            with pytest.raises(OSError, match="mine"), locked(folder):
                raise OSError("mine")


def test_names_of_temporaries_are_what_a_sweep_looks_for(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a.npy"), whole_folder(tmp_path / "a"):
        assert all(files.PART.fullmatch(path.name) for path in tmp_path.iterdir())
