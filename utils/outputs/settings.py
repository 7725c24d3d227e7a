"""What the features in an output folder were made with, so that features of two kinds never mix in one folder."""

import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from utils.errors import SettingsError
from utils.outputs.atomic import locked, whole_file

FILE_NAME = "settings.json"
MAX_TICK_SECONDS = 3.0  # the coarsest file times, FAT's, are 2 s apart

Settings = dict[str, object]


class _Entry(NamedTuple):
    """What features of one type are made with, and from when on: files of an earlier time are not of them."""

    since: float
    settings: Settings


def recorded(folder: Path, feature_type: str) -> Settings:
    """What features of that type in `folder` were made with; empty where nothing is known."""
    entry = _read(folder).get(feature_type)
    return entry.settings if entry else {}


def since(folder: Path, feature_type: str) -> float:
    """The earliest st_mtime of files that were made with what is recorded; 0 where nothing is known."""
    entry = _read(folder).get(feature_type)
    return entry.since if entry else 0.0


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """What changed, for people to read; settings that only one of both knows, as of another stream, did not."""
    return ", ".join(
        f"{name} was {before[name]} and is {value}" for name, value in now.items() if before.get(name, value) != value
    )


def record(folder: Path, feature_type: str, settings: Settings, anew: bool = False) -> None:
    """Write down what features of that type in `folder` are made with from now on, besides what is recorded already.

    With `anew` nothing that was made before counts any longer: neither its files nor its settings. Raises
    SettingsError and OSError.
    """
    with locked(folder):
        every = _read(folder)
        before = every.get(feature_type)
        if before is None or anew:
            after = _Entry(_now(folder), settings)
        else:
            after = _Entry(before.since, before.settings | settings)
        if after == before:
            return
        every[feature_type] = after
        shown = {name: entry._asdict() for name, entry in every.items()}
        with whole_file(folder / FILE_NAME) as file:
            file.write((json.dumps(shown, indent=2) + "\n").encode())


def _now(folder: Path) -> float:
    """The time as files in `folder` are stamped, later than all that are there, no later than any to come.

    It waits for the next tick of the file system's clock, which may be another machine's: mostly milliseconds.
    """
    give_up = time.monotonic() + MAX_TICK_SECONDS
    with tempfile.TemporaryFile(dir=folder) as file:
        first = now = os.fstat(file.fileno()).st_mtime
        while now <= first and time.monotonic() < give_up:
            time.sleep(0.001)
            os.utime(file.fileno())
            now = os.fstat(file.fileno()).st_mtime
    return now


def _read(folder: Path) -> dict[str, _Entry]:
    path = folder / FILE_NAME
    try:
        every = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise SettingsError(f"{path} cannot be read: {error}. Delete it, or give another --output_path") from error
    unusable = SettingsError(f"{path} holds no settings. Delete it, or give another --output_path")
    if not isinstance(every, dict):
        raise unusable
    entries = {}
    for feature_type, entry in every.items():
        match entry:
            case {"since": int() | float() as start, "settings": dict() as settings}:
                entries[feature_type] = _Entry(start, settings)
            case dict() if "settings" not in entry:  # of before there was a `since`
                entries[feature_type] = _Entry(0.0, entry)
            case _:
                raise unusable
    return entries
