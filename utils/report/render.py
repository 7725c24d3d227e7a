"""Templates -> pages that open from the disk, and in which no name of a file is ever run.

Jinja2 escapes all that is filled in. A page loads nothing but pictures and videos from files, and runs nothing but the
script whose hash its content security policy names. Its data is base64 or JSON without `<`.
"""

import base64
import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from utils.outputs.atomic import whole_file

TEMPLATES = Path(__file__).parent / "templates"


def write_html(path: Path, template: str, script: str, **values: Any) -> None:
    """Fill in a template, with a script of the same folder, and write it. Raises SaveError."""
    style, code = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", script))
    policy = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src 'self' file:; media-src 'self' file:; "
    policy += f"style-src {_hash(style)}; script-src {_hash(code)}"
    page = _environment().get_template(template)
    text = page.render(policy=policy, style=Markup(style), script=Markup(code), **values)
    with whole_file(path) as file:
        file.write(text.encode(errors="replace"))


def url(path: str | Path, folder: str | Path) -> str:
    """Return the relative URL of a file, whatever bytes its name is made of, for a page in `folder`."""
    return quote(os.fsencode(os.path.relpath(os.path.abspath(path), os.path.abspath(folder))))


def shown(text: object) -> str:
    """Return a text with the bytes that are no text, lone surrogates, spelt out as in \\xff."""
    try:
        return os.fsencode(str(text)).decode(errors="backslashreplace")
    except UnicodeEncodeError:  # of a log that somebody else wrote
        return str(text).encode(errors="backslashreplace").decode()


def clock(seconds: float, digits: int = 0) -> str:
    """Return a time as 1:02:03, with decimals if asked."""
    units = round(seconds * 10**digits)
    whole, part = divmod(units, 10**digits)
    minutes, rest = divmod(whole, 60)
    text = f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
    return f"{text}.{part:0{digits}d}" if digits else text


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    environment.filters |= {"shown": shown, "clock": clock}
    return environment


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
