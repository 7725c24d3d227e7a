"""The output folder: made ready at the start of a run, and asked what is done already.

A video is done when its whole set of files is there, each of the size its header tells, made with the settings and
weights that the folder's `settings.json` records. To begin at once also on a list of a million videos, names alone
sort out what is to be done; what seems to be done is looked into while the workers work.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.errors import NameTakenError, SettingsError
from utils.outputs import status_log as status
from utils.outputs import writers as sinks
from utils.outputs.atomic import locked, saving, sweep
from utils.outputs.settings import Settings, differences, record, recorded, since
from utils.results import Row

MANY = 1000  # videos, from which on listing a folder is faster than asking for each file
PROBE_BYTES = 4096


@dataclass(frozen=True)
class Output:
    """Where the features of one type are kept, and since when files there are of the recorded settings.

    Small and picklable: the workers ask it too, because another program may have done a video meanwhile.
    """

    folder: Path
    feature_type: str
    suffixes: tuple[str, ...]
    since: float = 0.0

    def is_done(self, stem: str) -> bool:
        """Whether all of a video's files are there, whole, of as many rows, and of these settings."""
        return sinks.is_saved(self.folder, stem, self.suffixes, self.since)

    def files(self, stem: str) -> list[str]:
        """Where a video's features are kept."""
        return [str(sinks.file_of(self.folder, stem, suffix)) for suffix in self.suffixes]

    def check_owner(self, path: str, stem: str) -> None:
        """Raise NameTakenError where the files called after a video are those of another one, which is still there."""
        other = status.owner(self.folder, self.feature_type, self.files(stem)[0])
        if other is not None and os.path.exists(other) and not _is_same(path, other):
            raise NameTakenError(
                f"{path}: {self.files(stem)[0]} holds the features of {other}; give another --output_path, or both "
                "videos in one run"
            )


def prepare(
    folder: Path,
    feature_type: str,
    suffixes: tuple[str, ...],
    settings: Settings,
    stems: Iterable[str],
    overwrite: bool = False,
) -> Output:
    """Make the folder, see that it can be written to, sweep it, and record the settings.

    With `overwrite` nothing that is there counts as done. Raises SettingsError where features of these videos were
    made otherwise, and SaveError.
    """
    probe(folder)
    sweep(folder)
    with locked(folder):
        before = recorded(folder, feature_type)
    changed = differences(before, settings)
    if not before and not overwrite and any(_have_files(folder, suffixes, stems, are_many=True)):
        changed = "some of these videos' files, made nobody knows how"
    if changed and not overwrite:
        raise SettingsError(
            f"{folder} holds other {feature_type} features: {changed}. Give another --output_path, or --overwrite to "
            "extract anew"
        )
    record(folder, feature_type, settings, anew=overwrite)
    return Output(folder, feature_type, suffixes, since(folder, feature_type))


def probe(folder: Path) -> None:
    """Make a folder and see that it can be written to. Raises SaveError."""
    with saving(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())


def pending_videos(
    paths: Sequence[str],
    stem_of: Callable[[str], str],
    output: Output,
    failed: frozenset[str] | set[str],
    report: Callable[[Row], None],
) -> Iterator[str | None]:
    """The paths that are to be done, first those of which that is sure; a row for each that is done already.

    Those whose absolute path is in `failed` are left out, too.
    """
    seems_done = []
    have_files = _have_files(output.folder, output.suffixes, map(stem_of, paths), len(paths) > MANY)
    for path, has_files in zip(paths, have_files, strict=True):
        if failed and os.path.abspath(path) in failed:
            report(Row(path, "skipped", None, "it failed in an earlier run (--skip_failed)"))
        elif has_files:
            seems_done.append(path)
        else:
            yield path
    owners = status.owners(output.folder, output.feature_type) if seems_done else {}
    for path in seems_done:
        found = _looked_into(path, stem_of(path), output, owners)
        if isinstance(found, Row):
            report(found)
            yield None
        else:
            yield found


def _looked_into(path: str, stem: str, output: Output, owners: Mapping[int, int]) -> str | Row:
    """What becomes of a video that has files: it is done, or to be done, or cannot be."""
    if not output.is_done(stem):
        return path
    files = output.files(stem)
    absolute = hash(os.path.abspath(path))
    if owners.get(hash(files[0]), absolute) != absolute:
        try:
            output.check_owner(path, stem)
        except NameTakenError as error:
            return Row(path, "failed", error.reason, str(error))
    return Row(path, "skipped", outputs=files)


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):
        return False


def _have_files(folder: Path, suffixes: Sequence[str], stems: Iterable[str], are_many: bool) -> Iterator[bool]:
    """Whether there are files of the names of a video's, for each of the videos.

    Hashes of names take a third of their memory. Where two are the same, a video only seems to have files.
    """
    there = {hash(entry.name) for entry in os.scandir(folder)} if are_many else None
    for stem in stems:
        names = [f"{stem}_{suffix}.npy" for suffix in suffixes]
        if there is not None and "/" not in stem:
            yield all(hash(name) in there for name in names)
        else:
            yield all(os.path.exists(os.path.join(folder, name)) for name in names)
