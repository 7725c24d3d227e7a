"""Running the program as a user does, and what it leaves."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.oracles import REPOSITORY, Array
from tests.helpers.processes import running_in, wait_until

I3D: list[object] = ["--feature_type", "i3d", "--streams", "rgb", "--stack_size", 9, "--step_size", 9]
I3D += ["--min_side_size", 224, "--weights", "random", "--device_ids", "cpu"]
VGGISH: list[object] = ["--feature_type", "vggish", "--weights", "random", "--device_ids", "cpu"]
TEMPORARY = re.compile(r"\..*\.part|tmp.*")

LogRow = dict[str, Any]
"""A line of status.jsonl."""


@dataclass(frozen=True)
class Run:
    """What a run that has ended said, gave and left in its output folder; its own rows of the log only."""

    status: int
    stdout: str
    stderr: str
    output: Path | None
    rows: list[LogRow]
    files: dict[str, bytes]

    def row(self, path: object) -> LogRow:
        """The one row of a video, named by the end of its path."""
        (row,) = (row for row in self.rows if row["path"] == str(path) or row["path"].endswith(f"/{path}"))
        return row

    def features(self, path: object) -> Array:
        row = self.row(path)
        assert row["status"] in ("ok", "skipped"), row["error"]
        assert self.output is not None
        (output,) = row["outputs"]
        array: Array = np.load(io.BytesIO(self.files[str(Path(output).relative_to(self.output))]))
        return array

    def paths(self, status: str) -> set[str]:
        return {row["path"] for row in self.rows if row["status"] == status}


def start(*arguments: object, repository: Path = REPOSITORY, **options: Any) -> "subprocess.Popen[str]":
    """The program in a process group of its own."""
    return launch([sys.executable, str(repository / "main.py"), *map(str, arguments)], **options)


def launch(command: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, start_new_session=True, **pipes | options)


def ended(process: "subprocess.Popen[str]", output: Path | None = None, num_rows_before: int = 0) -> Run:
    """Waits until a program ends, and sees that it leaves no process and no temporary file."""
    stdout, stderr = process.communicate(timeout=300)
    wait_until(lambda: not running_in(process.pid), seconds=10)
    assert "Traceback" not in stderr, stderr
    if output is None:
        return Run(process.returncode, stdout, stderr, None, [], {})
    assert [path for path in output.rglob("*") if TEMPORARY.fullmatch(path.name)] == []
    files = {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*.npy")}
    return Run(process.returncode, stdout, stderr, output, rows_of(output)[num_rows_before:], files)


def run_program(*arguments: object, output: Path | None = None, **options: Any) -> Run:
    """The run of a command, which saves to `output` if that is given."""
    num_rows_before = len(rows_of(output)) if output else 0
    return ended(start(*arguments, *(saving(output) if output else []), **options), output, num_rows_before)


def saving(output: Path) -> list[object]:
    return ["--on_extraction", "save_numpy", "--output_path", output]


def rows_of(output: Path) -> list[LogRow]:
    log = output / "status.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def lines_until(process: "subprocess.Popen[str]", text: str) -> str:
    """What the program says on stderr, up to a line with that text."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if text in line:
            return said
    raise AssertionError(f"the program ended without saying {text!r}: {said}")
