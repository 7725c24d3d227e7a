"""What became of the videos of an output folder, in all its runs and shards, by their logs alone."""

import math
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from utils.errors import CannotStartError
from utils.outputs.atomic import saving
from utils.outputs.settings import read_records
from utils.outputs.status_log import read_log
from utils.video_list import absolute

STATES = ("failed", "in part", "done")


class Outcome(NamedTuple):
    """What became of a video: one of `STATES`, by its latest row, and what its last extraction told."""

    state: str
    reason: str = ""  # why it failed, in a word
    message: str = ""  # why it failed, or what is missing
    seconds: float = 0.0
    fps: float | None = None
    missing_seconds: float = 0.0
    time: float = 0.0  # of the extraction, in seconds since 1970
    is_skipped: bool = False  # when it was last looked at


UNKNOWN = Outcome("unknown")


def read_outcomes(folder: Path, feature_type: str, since: float) -> dict[str, Outcome]:
    """Return what became of each video, by its absolute path, from the st_mtime `since` on.

    The latest row of a video decides, whichever log it is in. A video that was skipped because its files were there is
    done. Values that are no numbers count as 0.
    """
    outcomes: dict[str, Outcome] = {}
    for row in read_log(folder, feature_type, with_skipped=True):
        time = _parse_time(row.get("time"))
        if 0 < time < int(since):  # rows have whole seconds
            continue
        path = absolute(row["path"])
        before = outcomes.get(path, UNKNOWN)
        match row:
            case {"status": "ok"}:
                missing = str(row.get("missing") or "")
                seconds, fps, missing_seconds = (_number(row, name) for name in ("seconds", "fps", "missing_seconds"))
                state = "in part" if missing else "done"
                outcomes[path] = Outcome(state, "", missing, seconds, fps or None, missing_seconds, time)
            case {"status": "failed"}:
                reason, message = sys.intern(str(row.get("reason") or "error")), str(row.get("error") or "")
                outcomes[path] = before._replace(state="failed", reason=reason, message=message, is_skipped=False)
            case {"status": "skipped", "outputs": [_, *_]} if before.state in ("unknown", "failed"):
                outcomes[path] = before._replace(state="done", reason="", message="", is_skipped=True)
            case {"status": "skipped"} if before is not UNKNOWN:
                outcomes[path] = before._replace(is_skipped=True)
    return outcomes


class StatusReport(NamedTuple):
    """How many videos are done, failed, for which reasons, and left: None where it is not known which there are."""

    feature_type: str
    output_path: str
    done: int
    failed: int
    reasons: dict[str, int]
    left: int | None
    seconds: float  # of the videos that are done
    hours: float

    def table(self) -> str:
        """Return lines for people to read."""
        length = f"{self.hours:.2f} hours ({self.seconds:.1f} s) of video"
        rows = [("done", self.done, length), ("failed", self.failed, "")]
        rows += [(f"  {reason}", number, "") for reason, number in self.reasons.items()]
        rows += [("left", self.left, "")] if self.left is not None else []
        lines = [f"  {name:16}{number:10}  {text}".rstrip() for name, number, text in rows]
        return "\n".join([f"{self.feature_type} features in {self.output_path}", *lines])


def report_status(folder: Path, feature_type: str, paths: Sequence[str] | None) -> StatusReport:
    """Return what became of the videos at `paths`, or else of all that the logs know.

    Raises CannotStartError where nothing was ever saved.
    """
    with saving(folder, "cannot be read"):
        record = read_records(folder).get(feature_type)
        outcomes = read_outcomes(folder, feature_type, record.since if record else 0.0)
    if record is None and not outcomes:
        raise CannotStartError(f"{folder}: no {feature_type} features were ever saved here; is this the --output_path?")
    wanted = outcomes.keys() if paths is None else set(map(absolute, paths))
    found = [outcomes[path] for path in wanted if path in outcomes]
    reasons = Counter(outcome.reason for outcome in found if outcome.state == "failed")
    seconds = math.fsum(outcome.seconds for outcome in found if outcome.state != "failed")
    failed = reasons.total()
    left = None if paths is None else len(wanted) - len(found)
    by_reason, hours = dict(reasons.most_common()), seconds / 3600
    return StatusReport(feature_type, str(folder), len(found) - failed, failed, by_reason, left, seconds, hours)


def _number(row: dict[str, Any], name: str) -> float:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _parse_time(text: object) -> float:
    """Return a time in seconds since 1970; 0 for what is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0
