"""Prepares the output folder, and finds the videos that are left to do.

A video is done when all its files are there, whole, and made with the settings and weights that the folder's
`settings.json` records. What is saved beside features appears whole, and so is there or not.
"""

import contextlib
import errno
import fcntl
import os
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from utils.errors import CannotStartError, SaveError
from utils.outputs import settings as settings_file
from utils.outputs.atomic import saving, sweep
from utils.outputs.settings import Settings
from utils.outputs.status_log import read_log
from utils.outputs.writers import extra_path, is_saved, output_paths, saved_stems
from utils.results import Row
from utils.video_list import absolute


@dataclass(frozen=True)
class Output:
    """The folder that the features of one type are saved in. Small and picklable."""

    folder: Path
    feature_type: str
    suffixes: tuple[str, ...]
    since: float = 0.0  # the st_mtime that files made with the recorded settings are later than
    extras: tuple[str, ...] = ()  # what is to be there beside the features
    is_told_again: bool = False  # what there is to print of features, also of those that are there

    def is_done(self, stem: str) -> bool:
        """Return True if a video's features are there, all that is to be beside them, and nothing is to be told."""
        return (
            not self.is_told_again
            and self.has_features(stem)
            and all(self.has_extra(stem, extra) for extra in self.extras)
        )

    def has_features(self, stem: str) -> bool:
        """Return True if all of a video's features are there, whole, and of these settings."""
        return is_saved(self.folder, stem, self.suffixes, self.since)

    def has_extra(self, stem: str, extra: str) -> bool:
        """Return True if one of a video's extras is there, and of these settings."""
        path = extra_path(self.folder, stem, extra)
        return path.exists() and path.stat().st_mtime > self.since

    def paths(self, stem: str) -> list[str]:
        """Return the paths of a video's features."""
        return output_paths(self.folder, stem, self.suffixes)

    def check_seen(self) -> None:
        """Raise CannotStartError where the folder is not the prepared one, and SaveError where it cannot be written."""
        record = settings_file.read_records(self.folder).get(self.feature_type)
        if record is None or record.since != self.since:
            problem = "is not the output folder of this run here; it must be reachable under the same path on all nodes"
            raise CannotStartError(f"{self.folder.absolute()} {problem}")
        probe(self.folder)


def prepare(
    folder: Path,
    feature_type: str,
    suffixes: tuple[str, ...],
    settings: Settings,
    stems: Iterable[str],
    overwrite: bool = False,
    dry_run: bool = False,
    extras: tuple[str, ...] = (),
    defaults: Settings | None = None,
) -> Output:
    """Make the folder, check that it can be written to, sweep it, and record the settings.

    With `overwrite`, nothing that is there counts as done. With `dry_run`, nothing is made or changed. `defaults` is as
    for `record`. Raises SettingsError where features of these videos were made with other settings, and SaveError.
    """
    probe(folder, dry_run)
    if not dry_run:
        sweep(folder)
    is_unknown = not overwrite and any(folder.glob("*")) and feature_type not in settings_file.read_records(folder)
    if is_unknown and any(is_saved(folder, stem, suffixes) for stem in stems):
        raise settings_file.refused(folder, feature_type, "some of these videos' files, made nobody knows how")
    record = settings_file.record(folder, feature_type, settings, overwrite, dry_run, defaults)
    return Output(folder, feature_type, suffixes, record.since, extras)


def probe(folder: Path, dry_run: bool = False) -> None:
    """Make a folder and check that it can be written to; with `dry_run`, by its permissions. Raises SaveError."""
    if dry_run:
        there = next(path for path in [folder, *folder.absolute().parents] if os.path.lexists(path))
        code = errno.EACCES if there.is_dir() else errno.ENOTDIR
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise SaveError(str(there), OSError(code, os.strerror(code)))
        return
    with saving(folder, "this folder cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    with saving(folder), tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))  # a full disk may have room for the name alone
        file.flush()
        os.fsync(file.fileno())


def pending_videos(
    paths: Sequence[str],
    stem_of: Callable[[str], str],
    output: Output,
    failed: Set[str],
    report: Callable[[Row], None],
    in_order: bool = False,
) -> Iterator[str | None]:
    """Yield the videos to extract, each just after a look that it is not done; and None where there is none yet.

    Each of the others is reported: those that are done, by whatever program, those whose files are of another video,
    and those whose absolute path is in `failed`. So that work begins at once also with a million videos, those that
    seem done, by the names in the folder, are looked into when all others are handed out. Unless they are to come
    `in_order`, other programs are kept out of the way, which may do the same videos.
    """
    seem_done: list[str] = []
    others: dict[str, str] | None = None
    with contextlib.ExitStack() as stack:
        if not in_order:
            paths = _in_turn(paths, output.folder, stack)
        stems = saved_stems(output.folder, output.suffixes[0])
        for path in paths:
            stem = stem_of(path)
            if failed and absolute(path) in failed:
                report(Row(path, "skipped", None, "it failed in an earlier run (--skip_failed)"))
                yield None
            elif stem in stems:
                seem_done.append(path)
            elif output.has_features(stem):  # as another program may have done it meanwhile
                seem_done.append(path)
                yield None
            else:
                yield path
        del stems  # which can take 100 MB
        for path in seem_done:
            stem = stem_of(path)
            if not output.has_features(stem):
                yield path
                continue
            if others is None:
                others = _find_others(seem_done, stem_of, output)
            row = _row_of_done(path, output.paths(stem), others.get(path))
            if row.status == "skipped" and not output.is_done(stem):
                yield path
            else:
                report(row)
                yield None


def _row_of_done(path: str, files: list[str], other: str | None) -> Row:
    """Return the row of a video that has all its files, if they are not of `other`, a video that is still there."""
    if other is None or not os.path.exists(other) or os.path.realpath(other) == os.path.realpath(path):
        return Row(path, "skipped", outputs=files)
    way_out = "give another --output_path, or both videos in one run"
    return Row(path, "failed", "name_taken", f"{path}: {files[0]} holds the features of {other}; {way_out}")


def _find_others(paths: Sequence[str], stem_of: Callable[[str], str], output: Output) -> dict[str, str]:
    """Return, by the path of a video, the absolute path of another one that its files are of, by the log."""
    others: dict[str, str] = {}
    path_of = {output.paths(stem_of(path))[0]: path for path in paths}
    for row in read_log(output.folder, output.feature_type):
        match row:
            case {"status": "ok", "outputs": [str(file), *_]} if file in path_of:
                path, owner = path_of[file], absolute(row["path"])
                if owner == absolute(path):
                    others.pop(path, None)  # the last row counts
                else:
                    others[path] = owner
    return others


def _in_turn(paths: Sequence[str], folder: Path, stack: contextlib.ExitStack) -> Sequence[str]:
    """Return the paths in an order in which programs that work into one folder at once seldom meet.

    The first program goes from the beginning, the second from the end, others take what comes. Which one this is it
    learns from locks on the first bytes of the settings, held until `stack` is closed. Where there are no locks, all
    go from the beginning.
    """
    with contextlib.suppress(OSError):
        file = stack.enter_context(open(folder / settings_file.FILE_NAME, "r+b"))  # noqa: SIM115
        for offset, turn in enumerate([paths, paths[::-1]]):
            with contextlib.suppress(BlockingIOError, PermissionError):  # another program holds this one
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
                return turn
        return random.sample(paths, len(paths))
    return paths
