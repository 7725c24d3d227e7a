"""Records what the features in an output folder were made with, so that features of two kinds never mix in it."""

import itertools
import json
import math
import os
from pathlib import Path
from typing import NamedTuple, TypeGuard

from utils.errors import CollisionError, SettingsError
from utils.outputs.atomic import locked, whole_file
from utils.outputs.files import STEM, Names, check_apart

FILE_NAME = "settings.json"

Settings = dict[str, object]


class Record(NamedTuple):
    """The settings of one feature type, the st_mtime that files made with them are later than, and their names."""

    since: float
    settings: Settings
    files: Names = {}  # noqa: RUF012, which nobody changes


def record(
    folder: Path,
    feature_type: str,
    settings: Settings,
    overwrite: bool = False,
    dry_run: bool = False,
    defaults: Settings | None = None,
    files: Names | None = None,
) -> Record:
    """Write down what features of that type are made with from now on, in addition to what is recorded already.

    With `overwrite`, files and settings of before do not count any longer; nor do files of the same tick of the file
    system's clock: at worst, one is made twice. With `dry_run` nothing is written. What was recorded before there
    was some option counts as made with its value in `defaults`. Raises SettingsError, also where other settings are
    recorded, CollisionError where `files` can be called as others are, and SaveError.
    """
    with locked(folder):
        while True:  # what is written is read again: where there are no locks, another program may have been faster
            is_first = not (folder / FILE_NAME).exists()
            records = read_records(folder)
            before = None if overwrite else records.get(feature_type)
            if before is not None:
                known = (defaults or {}) | before.settings
                # One that only one of both has, as of another stream, did not change.
                changes = [
                    f"{name} was {known[name]} and is {value}"
                    for name, value in settings.items()
                    if known.get(name, value) != value
                ]
                if changes:
                    raise refused(folder, feature_type, ", ".join(changes))
                settings = before.settings | settings
            after = Record(math.inf, settings, dict(files or {}))
            if before is not None:
                after = before._replace(settings=settings, files={**before.files, **after.files})
            _check_names(folder, records | {feature_type: after})
            if dry_run or after == before:
                return after
            with whole_file(folder / FILE_NAME, replaces=not is_first) as file:
                now = os.fstat(file.fileno()).st_mtime  # by the file system's clock, which may be another machine's
                records[feature_type] = after if before is not None else after._replace(since=now)
                shown = {name: entry._asdict() for name, entry in records.items()}
                file.write((json.dumps(shown, indent=2) + "\n").encode())
            overwrite = False


def read_records(folder: Path) -> dict[str, Record]:
    """Return the records in a folder by feature type. Raises SettingsError where they cannot be read."""
    path = folder / FILE_NAME
    records = {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        for feature_type, entry in entries.items() if isinstance(entries, dict) else [("any type", None)]:
            match entry:
                case {"since": int() | float() as since, "settings": dict() as settings, **more} if _are_names(
                    files := more.get("files", {})
                ):
                    records[feature_type] = Record(since, settings, files)
                case dict() if "settings" not in entry:  # of the first versions, which kept no `since`
                    records[feature_type] = Record(0.0, entry)
                case _:
                    raise ValueError(f"no settings of {feature_type}")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise SettingsError(f"{path} cannot be read: {error}. Delete it, or give another --output_path") from error
    return records


def _are_names(files: object) -> TypeGuard[Names]:
    return isinstance(files, dict) and all(
        isinstance(names, list) and names and all(isinstance(name, str) and name.count(STEM) == 1 for name in names)
        for names in files.values()
    )


def _check_names(folder: Path, records: dict[str, Record]) -> None:
    """Raise CollisionError where two files, of any features in a folder, can be called the same."""
    try:
        names = (names for record in records.values() for names in record.files.values())
        check_apart(f"--output_name: in {folder}", itertools.chain(*names))
    except ValueError as error:
        raise CollisionError(f"{error}, or give another --output_path") from error


def refused(folder: Path, feature_type: str, reason: str) -> SettingsError:
    """Return the error for a folder with features that must not be mixed with those asked for."""
    return SettingsError(
        f"{folder} holds other {feature_type} features: {reason}. Give another --output_path, or --overwrite to "
        "extract anew"
    )
