"""What the features in an output folder were made with, so that features of two kinds never mix in one folder."""

import json
from collections.abc import Mapping
from pathlib import Path

from utils.files import whole_file

FILE_NAME = "settings.json"

Settings = dict[str, object]


class SettingsError(Exception):
    """The output folder's features and the asked-for ones do not go together; the message says why not."""


def recorded(folder: Path, feature_type: str) -> Settings:
    """What features of that type in `folder` were made with; empty where nothing is known."""
    return _read(folder).get(feature_type, {})


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """What changed, for people to read; settings that only one of both knows, as of another stream, did not."""
    return ", ".join(
        f"{name} was {before[name]} and is {value}" for name, value in now.items() if before.get(name, value) != value
    )


def record(folder: Path, feature_type: str, settings: Settings) -> None:
    """Write down what features of that type in `folder` are made with."""
    every = _read(folder)
    if every.get(feature_type) == settings:
        return
    every[feature_type] = settings
    with whole_file(folder / FILE_NAME) as file:
        file.write((json.dumps(every, indent=2) + "\n").encode())


def _read(folder: Path) -> dict[str, Settings]:
    path = folder / FILE_NAME
    try:
        every = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise SettingsError(f"{path} cannot be read: {error}. Delete it, or give another --output_path") from error
    if not isinstance(every, dict) or not all(isinstance(settings, dict) for settings in every.values()):
        raise SettingsError(f"{path} holds no settings. Delete it, or give another --output_path")
    return every
