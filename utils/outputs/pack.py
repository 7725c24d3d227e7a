"""The features of an output folder in one HDF5 file, beside those of others. Needs h5py."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import numpy.typing as npt

from utils.errors import CannotStartError, SettingsError
from utils.outputs.atomic import saving, sweep, whole_file
from utils.outputs.files import STEM, FileOptions, Files, fill_template
from utils.outputs.settings import FILE_NAME, read_records
from utils.outputs.writers import find_stems, is_saved


class _ErrorKeeper:
    """A file for HDF5 that keeps the first error for later, because HDF5 crashes where it cannot write."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: BaseException | None = None

    def keep(self, error: BaseException) -> None:
        self._error = self._error or error

    def check(self) -> None:
        """Raise the first error."""
        if self._error is not None:
            raise self._error

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self._file, name)(*arguments)
        except OSError as error:
            self.keep(error)
            return 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._call, name)


def find_files(folder: Path, feature_type: str, suffixes: Sequence[str], given: FileOptions) -> tuple[Files, float]:
    """Return which files a folder has for some of the suffixes, by its settings, and the st_mtime they are later than.

    Raises CannotStartError where there are none, and ValueError where options are given that they were not made with.
    """
    record = read_records(folder).get(feature_type)
    if record is None:
        raise CannotStartError(f"{folder}: no {feature_type} features were ever saved here; is this the --output_path?")
    defaults = Files(feature_type, tuple(suffixes))
    settings: dict[str, Any] = {name: record.settings.get(name, value) for name, value in defaults.settings.items()}
    names = record.files or defaults.names
    try:
        options = FileOptions(**settings | {"concatenate": bool(settings["concatenate"])})
        joined = settings["concatenate"]
        streams = joined if isinstance(joined, list) else [suffix for suffix in suffixes if suffix in names]
        files = Files(feature_type, tuple(streams), max(map(len, names.values())), options)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{folder / FILE_NAME} cannot be read: {error}") from error
    for name in given.given:
        if getattr(given, name) != getattr(options, name):
            raise ValueError(f"--{name}: the {feature_type} features in {folder} were not saved so")
    if not streams:
        raise CannotStartError(f"{folder}: no features of {' and '.join(suffixes)} were ever saved here")
    return files, record.since


def pack(path: Path, folder: Path, files: Files, since: float, key: str) -> tuple[int, int, int]:
    """Put the features of all videos that are whole into the HDF5 file at `path`, in addition to what it holds.

    Returns how many videos these are, how many of them are new or have changed, and how many others are not whole. The
    names of datasets are made from the template `key`; bytes of a video's name that are no UTF-8 become `\\udcff` and
    the like. Raises ValueError for a key that names two datasets the same, and CannotStartError and SaveError. The file
    appears whole or not at all, and what it holds already stays.
    """
    num_files = {suffix: len(names) for suffix, names in files.names.items()}
    keys = list(itertools.chain(*fill_template("--key", key, num_files).values()))
    stems = find_stems(folder, files)
    if len({_text(stem) for stem in stems}) < len(stems):
        raise CannotStartError(f"{folder}: two videos have names that are the same in UTF-8")
    whole = [stem for stem in stems if is_saved(folder, stem, files, since)]
    if not whole:
        raise CannotStartError(f"{folder}: no video has whole {files.feature_type} features here")
    path = Path(os.path.realpath(path))  # of a link, the file is replaced
    with saving(path):
        before = _identity(path)
    if before is not None and not path.is_file():
        raise CannotStartError(f"{path}: this is no file; name another one")
    sweep(path.parent)
    names = ([_text(key.replace(STEM, stem)) for key in keys] for stem in whole)
    videos = zip(names, (files.paths(folder, stem) for stem in whole), strict=True)
    with whole_file(path) as part, ThreadPoolExecutor(1) as thread:  # to which no Ctrl-C comes
        if before is not None:
            with open(path, "rb") as file:
                shutil.copyfileobj(file, part)
        target = _ErrorKeeper(part)
        try:
            num_new = thread.submit(_add, target, before is None, path, videos, files.feature_type).result()
        except KeyboardInterrupt as error:
            target.keep(error)
            raise
        except (CannotStartError, OSError, RuntimeError, KeyError, ValueError) as error:
            target.check()
            if before is None or isinstance(error, CannotStartError):
                raise
            raise CannotStartError(f"{path}: not a whole HDF5 file ({error}); move it away, or name another") from error
        target.check()
        if _identity(path) != before:
            raise CannotStartError(f"{path}: another program has changed it meanwhile; run again")
    return len(whole), num_new, len(stems) - len(whole)


def _add(
    target: _ErrorKeeper, is_new: bool, path: Path, videos: Iterable[tuple[list[str], list[str]]], feature_type: str
) -> int:
    """Add the features of videos, given as names of datasets and files; return how many have something new."""
    num_new = 0
    with h5py.File(target, "w" if is_new else "r+") as hdf5:
        for names, saved in videos:
            arrays = [np.load(file, mmap_mode="r", allow_pickle=False) for file in saved]
            new = [_put(path, hdf5, *pair, feature_type) for pair in zip(names, arrays, strict=True)]
            num_new += any(new)
            target.check()
    return num_new


def _put(path: Path, hdf5: Any, key: str, rows: npt.NDArray[Any], feature_type: str) -> bool:
    """Make a dataset, in place of one of the same feature type; return False where an equal one is there.

    Raises CannotStartError where something else is.
    """
    place, (*groups, name) = hdf5, key.split("/")
    for part, kind in [*((group, h5py.Group) for group in groups), (name, h5py.Dataset)]:
        link = place.get(part, getlink=True)
        # Links to other files are not followed: nothing else is to be written to.
        if link is not None and not (isinstance(link, h5py.HardLink) and isinstance(place[part], kind)):
            problem = f"{key} cannot be added, as {part} is no {kind.__name__.lower()} there"
            raise CannotStartError(f"{path}: {problem}; give another --key")
        if kind is h5py.Group:
            place = place.require_group(part)
    if name in place:
        there = place[name]
        is_alike = there.shape == rows.shape and there.dtype == rows.dtype
        if is_alike and np.array_equal(there[()], rows, equal_nan=True):
            return False
        if there.attrs.get("feature_type") != feature_type:
            raise CannotStartError(f"{path}: {key} is there and holds something else; give another --key")
        del place[name]
    place.create_dataset(name, data=rows).attrs["feature_type"] = feature_type
    return True


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file does; None where there is none."""
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def _text(name: str) -> str:
    """Return a name without lone surrogates, which HDF5 does not take."""
    return name.encode("utf-8", "backslashreplace").decode()
