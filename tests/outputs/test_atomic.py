"""Files that appear whole or not at all, and what a killed program leaves of them."""

import contextlib
import errno
import fcntl
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers.oracles import REPOSITORY
from utils.errors import SaveError
from utils.outputs.atomic import OTHERS_SECONDS, PART, locked, sweep, whole_file

LONG_NAME = "n" * 251 + ".npy"  # 255 bytes is the most that file systems take


def write(path: Path, text: str) -> None:
    with whole_file(path) as file:
        file.write(text.encode())


def begun(block: str) -> "subprocess.Popen[str]":
    """Start a program that enters a `with` block, writes "new" if it is for a file, and stays until it gets a line."""
    code = f"""
from pathlib import Path
from utils.outputs.atomic import locked, whole_file
with {block} as out:
    if out: out.write(b"new"); out.flush()
    print("begun", flush=True)
    input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def writer(path: Path) -> "subprocess.Popen[str]":
    return begun(f"whole_file(Path({str(path)!r}))")


# Whole or not there


@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_appears_when_it_is_written_and_not_before(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "new folder" / "below" / "a b.npy"
    if old is not None:
        write(path, old)
    process = writer(path)
    assert path.read_text() == old if old is not None else not path.exists()
    process.communicate("go on\n")
    assert process.returncode == 0
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_what_was_there_and_passes_as_it_is(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a.npy").write_text("old")
    with pytest.raises(error), whole_file(tmp_path / "a.npy") as file:  # noqa: PT012
        file.write(b"new")
        raise error
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("name", [LONG_NAME, "n" * 255, "\udcff\udcfe.npy", "-a\n'b\".npy"])
def test_any_name_that_the_file_system_takes_can_be_written_under(tmp_path: Path, name: str) -> None:
    with whole_file(tmp_path / name) as file:
        file.write(b"text")
        assert [PART.fullmatch(part) is not None for part in os.listdir(tmp_path)] == [True]
    assert (tmp_path / name).read_text() == "text"
    (tmp_path / "plain").touch()
    assert (tmp_path / name).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_many_that_write_the_same_at_once_all_succeed_while_others_sweep(tmp_path: Path) -> None:
    def write_often(text: str) -> None:
        for _ in range(20):
            write(tmp_path / "a.npy", text)
            sweep(tmp_path)

    texts = [str(i) * 1000 for i in range(8)]
    with ThreadPoolExecutor(len(texts)) as pool:
        assert list(pool.map(write_often, texts)) == [None] * len(texts)
    assert (tmp_path / "a.npy").read_text() in texts
    assert list(tmp_path.iterdir()) == [tmp_path / "a.npy"]


@pytest.mark.parametrize("has_links", [True, False])
def test_of_files_that_do_not_replace_the_first_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:
        monkeypatch.setattr(os, "link", broken(errno.EPERM))
    path = tmp_path / "a.json"
    with whole_file(path, replaces=False) as slow:
        slow.write(b"slow")
        for text in ("first", "second"):
            with whole_file(path, replaces=False) as file:
                file.write(text.encode())
            assert path.read_text() == "first"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


# Errors of the system


def broken(code: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("code", "reason"), [(errno.ENOSPC, "disk_full"), (errno.EDQUOT, "disk_full"), (errno.EACCES, "cannot_save")]
)
@pytest.mark.parametrize("step", ["os.mkdir", "builtins.open", "os.fsync", "os.replace"])
def test_an_error_of_the_system_names_the_file_and_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int, reason: str
) -> None:
    path = tmp_path / "below" / "a.npy"
    with monkeypatch.context() as patch:
        patch.setattr(step, broken(code))
        with pytest.raises(SaveError) as caught:
            write(path, "new")
    error = caught.value
    assert error.reason == reason
    assert f"{path}: cannot be written: {os.strerror(code)}" in str(error)
    assert not path.parent.exists() or list(path.parent.iterdir()) == []
    passed_on = pickle.loads(pickle.dumps(error))  # from a worker to the parent
    assert (type(passed_on), passed_on.reason, str(passed_on)) == (SaveError, reason, str(error))


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


# What killed programs leave


def test_what_a_killed_program_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    living, killed = writer(tmp_path / "a.npy"), writer(tmp_path / "b.npy")
    killed.kill()
    killed.communicate()
    living.send_signal(signal.SIGSTOP)  # it lives, though
    assert len(list(tmp_path.iterdir())) == 2
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    living.send_signal(signal.SIGCONT)
    living.communicate("go on\n")
    assert living.returncode == 0
    assert (tmp_path / "a.npy").read_text() == "new"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.npy"]


def test_what_another_machine_writes_stays_though_its_lock_is_not_seen_and_goes_when_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on network file systems whose locks each machine keeps to itself."""
    process = writer(tmp_path / "a.npy")
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    nodename = os.uname().nodename
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(os, "uname", lambda: SimpleNamespace(nodename=f"not {nodename}"))
        sweep(tmp_path)
        (part,) = tmp_path.iterdir()
        os.utime(part, (time.time() - OTHERS_SECONDS + 60,) * 2)
        sweep(tmp_path)
        assert part.exists()
    process.communicate("go on\n")
    assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
    killed = writer(tmp_path / "b.npy")
    killed.kill()
    killed.communicate()
    (part,) = tmp_path.glob(".*")
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename=f"not {nodename}"))
    os.utime(part, (time.time() - OTHERS_SECONDS - 60,) * 2)
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_only_our_own_temporaries_directly_in_the_folder_are_swept(tmp_path: Path) -> None:
    ours = ".0123456789abcdef.part"
    others = ["a.npy", "weights.pt.part", ".a.npy.123.part", ".0123456789ABCDEF.part", f"{ours}2", f"a{ours}"]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / ours).touch()
    (tmp_path / ".aaaaaaaaaaaaaaaa.part").symlink_to(tmp_path / "below")
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / ours).touch()
    os.utime(tmp_path / ours, (0, 0))
    for folder in (tmp_path, tmp_path / "missing", tmp_path / "a.npy"):
        sweep(folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_where_there_are_no_locks_all_works_and_nothing_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / ".0123456789abcdef.part"
    part.touch()
    monkeypatch.setattr(fcntl, "flock", broken(errno.ENOLCK))
    with locked(tmp_path):
        write(tmp_path / "a.npy", "text")
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a.npy", part.name}


# The lock of a folder


def test_a_program_that_is_killed_or_fails_leaves_no_lock(tmp_path: Path) -> None:
    process = begun(f"locked(Path({str(tmp_path)!r}))")
    is_mine = threading.Event()

    def wait_for_it() -> None:
        with contextlib.suppress(OSError), locked(tmp_path):
            raise OSError
        with locked(tmp_path), locked(tmp_path / "missing"):
            is_mine.set()

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    assert not is_mine.wait(0.2)
    process.kill()
    process.communicate()
    thread.join(30)
    assert is_mine.is_set()
