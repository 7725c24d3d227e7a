"""Records what the features in an output folder were made with, so that features of two kinds never mix in it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from utils.errors import SettingsError
from utils.outputs.atomic import locked, whole_file

FILE_NAME = "settings.json"

Settings = dict[str, object]


class Record(NamedTuple):
    """The settings of one feature type, and the st_mtime that files made with them are later than."""

    since: float
    settings: Settings


def recorded(folder: Path, feature_type: str) -> Record | None:
    """Return the record of a feature type, if there is one. Raises SettingsError where it cannot be read."""
    return _read(folder).get(feature_type)


def record(folder: Path, feature_type: str, settings: Settings, overwrite: bool = False) -> Record:
    """Write down what features of that type are made with from now on, in addition to what is recorded already.

    With `overwrite`, files and settings of before do not count any longer; nor do files of the same tick of the file
    system's clock: at worst, one is made twice. Raises SettingsError, also where other settings are recorded, and
    SaveError.
    """
    with locked(folder):
        records = _read(folder)
        before = records.get(feature_type)
        if before is not None and not overwrite:
            if changes := differences(before.settings, settings):
                raise refused(folder, feature_type, changes)
            settings = before.settings | settings
            if settings == before.settings:
                return before
        with whole_file(folder / FILE_NAME) as file:
            now = os.fstat(file.fileno()).st_mtime  # by the file system's clock, which may be another machine's
            since = now if before is None or overwrite else before.since
            records[feature_type] = Record(since, settings)
            shown = {name: entry._asdict() for name, entry in records.items()}
            file.write((json.dumps(shown, indent=2) + "\n").encode())
    return records[feature_type]


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """Name the settings that changed. One that only one of both has, as of another stream, did not."""
    return ", ".join(
        f"{name} was {before[name]} and is {value}" for name, value in now.items() if before.get(name, value) != value
    )


def refused(folder: Path, feature_type: str, reason: str) -> SettingsError:
    """Return the error for a folder with features that must not be mixed with those asked for."""
    return SettingsError(
        f"{folder} holds other {feature_type} features: {reason}. Give another --output_path, or --overwrite to "
        "extract anew"
    )


def _read(folder: Path) -> dict[str, Record]:
    path = folder / FILE_NAME
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise SettingsError(f"{path} cannot be read: {error}. Delete it, or give another --output_path") from error
    records = {}
    for feature_type, entry in entries.items() if isinstance(entries, dict) else [("", None)]:
        match entry:
            case {"since": int() | float() as since, "settings": dict() as settings}:
                records[feature_type] = Record(since, settings)
            case dict() if "settings" not in entry:  # of the first versions, which kept no `since`
                records[feature_type] = Record(0.0, entry)
            case _:
                raise SettingsError(f"{path} holds no settings. Delete it, or give another --output_path")
    return records
