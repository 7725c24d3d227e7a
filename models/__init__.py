"""The extractors, a folder each.

`models/<name>/__init__.py` has its `Config` and `add_options` and imports no torch; `models/<name>/extract.py` has
its `Extractor`.
"""

import importlib
from types import ModuleType
from typing import Any

EXTRACTORS = ("i3d", "vggish")


def load(name: str) -> ModuleType:
    """The package of an extractor: `Config`, `add_options`, `weights_wanted` and `MEDIA_SUFFIXES`."""
    return importlib.import_module(f"models.{name}")


def load_extractor(name: str) -> Any:
    """Its `Extractor` class: `Extractor(config, device).extract(path, frames_folder, options)` gives `Features`."""
    return importlib.import_module(f"models.{name}.extract").Extractor
