"""Arrays that are written as they are computed, and what becomes of their files."""

import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.oracles import REPOSITORY
from utils.errors import SaveError
from utils.outputs import writers
from utils.outputs.atomic import PART, sweep
from utils.outputs.files import FileOptions, Files
from utils.outputs.growing import Rows, adopt_file, growing_array
from utils.results import Features

ROWS = np.random.default_rng(0).normal(0, 9, (23, 2, 6, 5)).astype(np.float16)


def grown(folder: Path | None, rows: Rows = ROWS) -> Rows:
    with growing_array(folder) as array:
        for block in np.split(rows, [4, 4, 5, 19]):
            array.append(block)
        return array.finish()


FLOW = Files("flow", ("flow_pwc",))


def parts(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if PART.fullmatch(name)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("num_rows", [1, 9, 10, 1000])
def test_the_file_is_to_the_byte_what_numpy_saves(dtype: type, num_rows: int, tmp_path: Path) -> None:
    rows: Rows = np.arange(num_rows * 12, dtype=dtype).reshape(num_rows, 2, 3, 2)
    with growing_array(tmp_path / "new") as array:
        for row in rows[:, ::-1]:
            array.append(row[None])
        found = array.finish()
    assert (found == rows[:, ::-1]).all()
    assert adopt_file(found, tmp_path / "new" / "a.npy")
    np.save(tmp_path / "b.npy", np.ascontiguousarray(rows[:, ::-1]))
    assert (tmp_path / "new" / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_a_video_is_done_when_its_array_has_its_name_and_not_before(tmp_path: Path) -> None:
    rows = grown(tmp_path)
    assert len(parts(tmp_path)) == 1
    assert not writers.is_saved(tmp_path, "a b", FLOW)
    features = Features({"flow_pwc": rows}, [(i, i + 1.0) for i in range(23)], 24.0)
    assert writers.save_numpy(features, tmp_path, "a b", FLOW) == [str(tmp_path / "a b_flow_pwc.npy")]
    assert writers.is_saved(tmp_path, "a b", FLOW)
    assert os.listdir(tmp_path) == ["a b_flow_pwc.npy"]
    assert (np.load(tmp_path / "a b_flow_pwc.npy") == ROWS).all()
    assert (rows == ROWS).all(), "it can be read on"
    with open(tmp_path / "a b_flow_pwc.npy", "ab") as file:
        file.write(b"more")
    assert not writers.is_saved(tmp_path, "a b", FLOW)


@pytest.mark.parametrize("change", [lambda rows: rows[2:], lambda rows: rows + 1, lambda rows: rows.astype(np.float32)])
def test_what_is_made_of_an_array_is_saved_as_it_is(change: object, tmp_path: Path) -> None:
    assert callable(change)
    rows, expected = change(grown(tmp_path / "parts")), change(ROWS)
    writers.save_numpy(Features({"flow": rows}, [], 1.0), tmp_path, "a", Files("flow", ("flow",)))
    saved = np.load(tmp_path / "a_flow.npy")
    assert saved.dtype == expected.dtype
    assert (saved == expected).all()


def test_another_type_is_written_row_by_row_and_nothing_else_is_left(tmp_path: Path) -> None:
    rows = grown(tmp_path)
    files = Files("flow", ("flow_pwc",), options=FileOptions(dtype="float32"))
    writers.save_numpy(Features({"flow_pwc": rows}, [], 1.0), tmp_path, "a", files)
    assert os.listdir(tmp_path) == ["a_flow_pwc.npy"]
    saved = np.load(tmp_path / "a_flow_pwc.npy")
    assert saved.dtype == np.float32
    assert (saved == ROWS.astype(np.float32)).all()


def test_a_sweep_leaves_an_array_that_is_still_to_be_named(tmp_path: Path) -> None:
    rows = grown(tmp_path)
    sweep(tmp_path)
    assert len(parts(tmp_path)) == 1
    del rows
    gc.collect()
    sweep(tmp_path)
    assert os.listdir(tmp_path) == []


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), growing_array(tmp_path) as array:  # noqa: PT012
        array.append(ROWS)
        raise RuntimeError("out of memory")
    assert os.listdir(tmp_path) == []


def test_without_a_folder_the_file_has_no_name_and_goes_with_the_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = grown(None)
    assert os.listdir(tmp_path) == []
    assert (rows == ROWS).all()
    rows[0] = 1  # as of any array
    assert not adopt_file(rows, tmp_path / "a.npy")


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(SaveError) as caught, growing_array(tmp_path) as array:  # noqa: PT012
            for _ in range(100):
                array.append(ROWS)
            array.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.reason == "disk_full"
    assert f"{tmp_path}: cannot be written: File too large" in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("step", ["os.fsync", "os.replace"])
def test_an_array_that_cannot_be_named_leaves_nothing(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    rows = grown(tmp_path)
    monkeypatch.setattr(step, fail)
    with pytest.raises(SaveError, match=r"a\.npy: cannot be written"):
        adopt_file(rows, tmp_path / "a.npy")
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from utils.outputs.growing import growing_array
with growing_array(Path(sys.argv[1])) as array:
    array.append(np.zeros((4, 2, 99, 99), np.float16))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_program_has_written_counts_as_nothing_and_is_swept(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(parts(tmp_path)) == len(os.listdir(tmp_path)) == 1
    sweep(tmp_path)
    assert os.listdir(tmp_path) == []


def test_memory_does_not_grow_with_the_rows_nor_to_describe_them(tmp_path: Path) -> None:
    block = np.ones((8, 2, 64, 64), np.float16)  # 131 kB
    tracemalloc.start()
    try:
        with growing_array(tmp_path) as array:
            for _ in range(100):
                array.append(block)
            rows = array.finish()
        text = writers.describe("a.mp4", Features({"flow": rows}, [(i, i + 1.0) for i in range(800)], 801.0))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * block.nbytes
    assert "flow (800, 2, 64, 64) float16, mean 1.0000, largest 1.0000" in text
    assert "    0.00 -     1.00 s  means   1.0000   1.0000" in text
