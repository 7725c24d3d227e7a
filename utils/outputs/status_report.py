"""What became of the videos of an output folder, in all its runs and shards, by their logs alone."""

import math
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from utils.errors import CannotStartError
from utils.outputs.atomic import saving
from utils.outputs.settings import read_records
from utils.outputs.status_log import read_log
from utils.video_list import absolute


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

    The latest row of a video decides, whichever log it is in. A video that was skipped because its files were there is
    done. Rows from before an overwriting do not count. Raises CannotStartError where nothing was ever saved.
    """
    # By absolute path: the seconds of a video that is done, why one failed, None for one that is left.
    outcomes: dict[str, float | str | None] = dict.fromkeys(map(absolute, paths or ()))
    with saving(folder, "cannot be read"):
        record = read_records(folder).get(feature_type)
        since = datetime.fromtimestamp(int(record.since), UTC).isoformat() if record else ""  # rows have whole seconds
        is_used = record is not None
        for row in read_log(folder, feature_type, with_skipped=True):
            is_used = True
            path = absolute(row["path"])
            if str(row.get("time", since)) < since or (paths is not None and path not in outcomes):
                continue
            match row:
                case {"status": "ok", "seconds": int() | float() as seconds}:
                    outcomes[path] = float(seconds)
                case {"status": "failed"}:
                    outcomes[path] = sys.intern(str(row.get("reason")))
                case {"status": "skipped", "outputs": [_, *_]} if not isinstance(outcomes.get(path), float):
                    outcomes[path] = 0.0
    if not is_used:
        raise CannotStartError(f"{folder}: no {feature_type} features were ever saved here; is this the --output_path?")
    seconds_done = [outcome for outcome in outcomes.values() if isinstance(outcome, float)]
    seconds = math.fsum(seconds_done)
    reasons = Counter(outcome for outcome in outcomes.values() if isinstance(outcome, str))
    done, failed = len(seconds_done), reasons.total()
    left = None if paths is None else len(outcomes) - done - failed
    by_reason = dict(reasons.most_common())
    return StatusReport(feature_type, str(folder), done, failed, by_reason, left, seconds, seconds / 3600)
