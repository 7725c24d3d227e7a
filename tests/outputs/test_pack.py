"""Features in one HDF5 file: what is in it afterwards, and what stays as it was."""

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
import pytest

import models
from models import recipes
from models.tell import tell_pack
from tests.cli.test_disturbed_runs import limit_file_size
from tests.helpers.program import VGGISH, run_program
from tests.helpers.sounds import chord, write_wav
from utils import cli
from utils.errors import CannotStartError, SaveError
from utils.outputs.files import FileOptions, Files
from utils.outputs.pack import find_files, pack
from utils.outputs.resume import prepare
from utils.outputs.writers import save_numpy
from utils.results import Features

I3D = Files("i3d", ("rgb", "flow"))
VGG = Files("vggish", ("vggish",))


def save(folder: Path, stem: str, files: Files = I3D, value: float = 0.0) -> None:
    """Save features of a video as a run does it: rows that tell the video and the stream."""
    prepare(folder, files, {}, [])
    time.sleep(0.02)  # the clock of file systems ticks each 1 to 10 ms
    shape = (2, 4) if files.num_crops == 1 else (2, files.num_crops, 4)
    arrays = {name: np.full(shape, value + len(stem) + len(name) / 10, np.float32) for name in files.streams}
    save_numpy(Features(arrays, [], 1.0), folder, stem, files)


def pack_all(path: Path, folder: Path, files: Files = I3D, key: str = "{stem}/{suffix}") -> tuple[int, int, int]:
    found, since = find_files(folder, files.feature_type, files.streams, FileOptions())
    return pack(path, folder, found, since, key)


def contents(path: Path) -> dict[str, object]:
    """All datasets of a file, by their names."""
    found: dict[str, object] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, it: found.update({name: it[()].tolist()} if isinstance(it, h5py.Dataset) else {}))
    return found


def rows(value: float) -> list[list[float]]:
    return [[float(np.float32(value))] * 4] * 2


def test_two_runs_and_two_types_end_in_one_file_to_which_videos_are_added(tmp_path: Path) -> None:
    path, sights, sounds = tmp_path / "new" / "all.h5", tmp_path / "sights", tmp_path / "sounds"
    save(sights, "a")
    save(sights, "x/bb")
    key = "{stem}/i3d_features/{suffix}"
    assert pack_all(path, sights, key=key) == (2, 2, 0)
    expected = {"a/i3d_features/rgb": rows(1.3), "a/i3d_features/flow": rows(1.4)}
    expected |= {"x/bb/i3d_features/rgb": rows(4.3), "x/bb/i3d_features/flow": rows(4.4)}
    assert contents(path) == expected
    save(sounds, "a", VGG)
    assert pack_all(path, sounds, VGG, "{stem}_vggish_features") == (1, 1, 0)
    expected["a_vggish_features"] = rows(1.6)
    assert contents(path) == expected
    save(sights, "ccc")
    save(sights, "a", value=5)
    assert pack_all(path, sights, key=key) == (3, 2, 0)
    assert pack_all(path, sights, key=key) == (3, 0, 0)
    expected |= {"a/i3d_features/rgb": rows(6.3), "a/i3d_features/flow": rows(6.4)}
    assert contents(path) == expected | {"ccc/i3d_features/rgb": rows(3.3), "ccc/i3d_features/flow": rows(3.4)}
    assert [file.name for file in path.parent.iterdir()] == ["all.h5"]


def test_what_is_packed_is_what_the_folder_records(tmp_path: Path) -> None:
    options = FileOptions(output_name="{suffix}/{stem}_{crop}", transpose=True, dtype="float16")
    files = Files("i3d", ("rgb", "flow"), 3, options)
    save(tmp_path, "a", files)
    key = "{suffix}/{stem}{crop}"
    assert pack_all(tmp_path / "a.h5", tmp_path, key=key) == (1, 1, 0)
    with h5py.File(tmp_path / "a.h5") as file:
        assert sorted(file["rgb"]) == ["a0", "a1", "a2"]
        assert file["flow/a2"].shape == (4, 2)
        assert file["flow/a2"].dtype == np.float16
    found, _ = find_files(tmp_path, "i3d", ("rgb", "flow"), FileOptions(transpose=True))
    assert found == files
    with pytest.raises(ValueError, match=r"--concatenate: the i3d features in .* were not saved so"):
        find_files(tmp_path, "i3d", ("rgb", "flow"), FileOptions(concatenate=True))
    for wrong, message in [
        ("{suffix}/{stem}", "of one video two are rgb/{stem}"),
        ("{stem}/{crop}", "of one video two are {stem}/0"),
        ("{crop}{stem}{suffix}", None),
    ]:
        if message is None:
            assert pack_all(tmp_path / "b.h5", tmp_path, key=wrong) == (1, 1, 0)
        else:
            with pytest.raises(ValueError, match=r"^--key .*") as error:
                pack_all(tmp_path / "b.h5", tmp_path, key=wrong)
            assert message in str(error.value)


def test_streams_that_were_joined_are_one_dataset_and_those_there_are_packed(tmp_path: Path) -> None:
    joined = Files("i3d", ("rgb", "flow"), options=FileOptions(concatenate=True, output_name="{stem}"))
    save(tmp_path / "joined", "a", joined)
    assert pack_all(tmp_path / "a.h5", tmp_path / "joined", key="{stem}") == (1, 1, 0)
    assert contents(tmp_path / "a.h5") == {"a": [[*rows(1.3)[0], *rows(1.4)[0]]] * 2}
    save(tmp_path / "rgb", "a", Files("i3d", ("rgb",)))
    assert pack_all(tmp_path / "b.h5", tmp_path / "rgb", key="{stem}") == (1, 1, 0), "of both, which are the default"
    with pytest.raises(CannotStartError, match="no features of flow were ever saved here"):
        pack_all(tmp_path / "b.h5", tmp_path / "rgb", Files("i3d", ("flow",)))


def test_only_whole_features_of_the_settings_recorded_are_packed(tmp_path: Path) -> None:
    save(tmp_path, "old")
    prepare(tmp_path, I3D, {}, [], overwrite=True)
    with pytest.raises(CannotStartError, match="no video has whole i3d features here"):
        pack_all(tmp_path / "a.h5", tmp_path)
    for stem in ("a", "cut", "alone"):
        save(tmp_path, stem)
    os.truncate(tmp_path / "cut_flow.npy", 100)
    (tmp_path / "alone_flow.npy").unlink()
    assert pack_all(tmp_path / "a.h5", tmp_path) == (1, 1, 3)
    assert contents(tmp_path / "a.h5").keys() == {"a/rgb", "a/flow"}
    with pytest.raises(CannotStartError, match="no vggish features were ever saved here"):
        pack_all(tmp_path / "a.h5", tmp_path, VGG)


def test_a_folder_of_before_names_were_recorded_has_the_default_ones(tmp_path: Path) -> None:
    save(tmp_path, "a", VGG)
    (tmp_path / "settings.json").write_text('{"vggish": {"since": 0, "settings": {}}}')
    assert pack_all(tmp_path / "a.h5", tmp_path, VGG) == (1, 1, 0)


def test_names_of_any_letters_are_keys(tmp_path: Path) -> None:
    stems = ["q\"uote's", "new\nline", "ä 漢", "\udcff\udc80", "...", "a b/c"]
    for stem in stems:
        save(tmp_path, stem, VGG, value=stems.index(stem))
    assert pack_all(tmp_path / "a.h5", tmp_path, VGG, "{stem}/v") == (6, 6, 0)
    names = [stem.replace("\udcff\udc80", "\\udcff\\udc80") for stem in stems]
    assert contents(tmp_path / "a.h5").keys() == {f"{name}/v" for name in names}
    assert pack_all(tmp_path / "b.h5", tmp_path, VGG, "\udcfe/{stem}") == (6, 6, 0)
    assert contents(tmp_path / "b.h5").keys() == {f"\\udcfe/{name}" for name in names}
    save(tmp_path, "\\udcff\\udc80", VGG)
    with pytest.raises(CannotStartError, match="two videos have names that are the same in UTF-8"):
        pack_all(tmp_path / "a.h5", tmp_path, VGG, "{stem}/v")


def other_file(path: Path, kind: str) -> None:
    with h5py.File(path, "w") as file:
        if kind == "group":
            file["a/vggish/x"] = [1]
        elif kind == "dataset above":
            file["a"] = [1]
        elif kind == "other dataset":
            file["a/vggish"] = [1]
        elif kind == "link to another file":
            file["a"] = h5py.ExternalLink(str(path.with_name("other.h5")), "/")
        else:
            file["b"] = [1]
    if kind == "cut":
        os.truncate(path, path.stat().st_size - 1)
    elif kind == "text":
        path.write_text("no HDF5 at all" * 100)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("group", "a/vggish cannot be added, as vggish is no dataset there"),
        ("dataset above", "a/vggish cannot be added, as a is no group there"),
        ("other dataset", "a/vggish is there and holds something else"),
        ("link to another file", "a/vggish cannot be added, as a is no group there"),
        ("cut", "not a whole HDF5 file .*truncated"),
        ("text", "not a whole HDF5 file .*signature"),
    ],
)
def test_a_file_that_cannot_be_added_to_stays_as_it_is(tmp_path: Path, kind: str, message: str) -> None:
    save(tmp_path, "a", VGG)
    path = tmp_path / "a.h5"
    other_file(tmp_path / "other.h5", "fine")
    other_file(path, kind)
    before = {file: file.read_bytes() for file in tmp_path.glob("*")}
    with pytest.raises(CannotStartError, match=f"^{path}: {message}"):
        pack_all(path, tmp_path, VGG)
    assert {file: file.read_bytes() for file in tmp_path.glob("*")} == before


def test_what_cannot_be_a_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, "a", VGG)
    with pytest.raises(CannotStartError, match="this is no file"):
        pack_all(tmp_path, tmp_path, VGG)
    with pytest.raises(SaveError, match="Not a directory"):
        pack_all(tmp_path / "a_vggish.npy" / "a.h5", tmp_path, VGG)
    arguments = ["--feature_type", "vggish", "--output_path", str(tmp_path), "--pack", str(tmp_path / "a.h5")]
    command = cli.parse(arguments, {"vggish": models.load_config("vggish")}, recipes)
    monkeypatch.delitem(sys.modules, "utils.outputs.pack")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(CannotStartError, match=r'--pack needs h5py: pip install "h5py'):
        tell_pack(command)


def test_a_link_stays_one_and_what_another_program_adds_meanwhile_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, "a", VGG)
    other_file(tmp_path / "file.h5", "fine")
    (tmp_path / "link.h5").symlink_to("file.h5")
    assert pack_all(tmp_path / "link.h5", tmp_path, VGG) == (1, 1, 0)
    assert contents(tmp_path / "file.h5").keys() == {"a/vggish", "b"}
    assert (tmp_path / "link.h5").is_symlink()

    def copy_early(source: BinaryIO, target: BinaryIO) -> None:
        target.write(source.read())
        other_file(tmp_path / "file.h5", "group")

    save(tmp_path, "a", VGG, value=1)
    monkeypatch.setattr("shutil.copyfileobj", copy_early)
    with pytest.raises(CannotStartError, match="another program has changed it meanwhile; run again"):
        pack_all(tmp_path / "file.h5", tmp_path, VGG)
    monkeypatch.undo()
    assert contents(tmp_path / "file.h5").keys() == {"a/vggish/x"}


def test_a_ctrl_c_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> bool:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.2)
        return True

    for stem in "abc":
        save(tmp_path, stem, VGG)
    other_file(tmp_path / "a.h5", "fine")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr("utils.outputs.pack._put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack_all(tmp_path / "a.h5", tmp_path, VGG)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_the_program_packs_what_it_saved_and_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    for name, seconds in (("a", 2.0), ("b", 3.0)):
        write_wav(tmp_path / f"{name}.wav", chord(seconds, 16_000), 16_000)
    output = tmp_path / "output"
    options = ["--transpose", "--output_name", "{suffix}/{stem}"]
    made = run_program(*VGGISH, "--video_paths", tmp_path, *options, "--save_timestamps", "--report", output=output)
    assert made.status == 2, "names of timestamps, below a folder, are not told from those of features"
    made = run_program(*VGGISH, "--video_paths", tmp_path, *options, "--report", output=output)
    assert made.status == 0, made.stderr
    assert set(made.files) == {"vggish/a.npy", "vggish/b.npy"}
    (page,) = (output / "report").rglob("a/page.html")
    assert re.search('<span class="name">vggish/a.npy</span> is 128 . 2 \\(float32', page.read_text())
    again = run_program(*VGGISH, "--video_paths", tmp_path, *options, output=output)
    assert again.paths("skipped") == {str(tmp_path / "a.wav"), str(tmp_path / "b.wav")}
    refused = run_program(*VGGISH, "--video_paths", tmp_path, "--output_name", "{suffix}/{stem}", output=output)
    assert (refused.status, len(refused.stderr.splitlines())) == (3, 2), "beside the warning of untrained networks"
    assert "holds other vggish features: transpose was True and is False" in refused.stderr
    sights = [
        "--feature_type",
        "i3d",
        "--weights",
        "random",
        "--device_ids",
        "cpu",
        "--video_paths",
        tmp_path / "a.mp4",
    ]
    collides = run_program(*sights, "--output_name", "{suffix}/{stem}", "--dry_run", output=output)
    assert collides.status == 0, collides.stderr
    collides = run_program(*sights, "--output_name", "{stem}", "--concatenate", "--dry_run", output=output)
    assert collides.status == 2
    assert "of two videos vggish/{stem}.npy and {stem}.npy can be the same" in collides.stderr

    path = tmp_path / "all.h5"
    command = ["--feature_type", "vggish", "--output_path", output, "--pack", path]
    packed = run_program(*command)
    assert (packed.status, packed.stderr) == (0, "")
    assert packed.stdout == f"{path}: vggish features of 2 videos, new or changed: 2\n"
    with h5py.File(path) as file:
        for stem in "ab":
            assert (file[f"{stem}/vggish"][()] == np.load(output / "vggish" / f"{stem}.npy")).all()
    before = path.read_bytes()
    for size in (len(before), len(before) + 500, len(before) + 1500):
        full = run_program(*command, "--key", "{stem}/other", preexec_fn=lambda size=size: limit_file_size(size))
        assert full.status == 3
        assert f"{path}: cannot be written: File too large. Make room for it" in full.stderr
        assert len(full.stderr.splitlines()) == 1
        assert path.read_bytes() == before
    assert run_program(*command, "--key", "{suffix}").status == 2
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
