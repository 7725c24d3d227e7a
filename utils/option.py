"""A command-line option as a field of a dataclass, so that its default is written once."""

import dataclasses
from typing import Any


def option(default: Any, text: str, *, changes_features: bool = False, **arguments: Any) -> Any:
    """Return a dataclass field that is an option `--<field's name>`: its help, and more of argparse's `arguments`.

    `changes_features` says that features depend on it, so that an output folder keeps to one value.
    """
    if isinstance(default, bool):
        arguments["action"] = "store_true"
    elif isinstance(default, int | float):
        arguments.setdefault("type", type(default))
    metadata = {"changes_features": changes_features, "arguments": arguments | {"help": text}}
    return dataclasses.field(default=default, metadata=metadata)
