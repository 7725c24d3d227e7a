"""The errors that the program knows: why a video fails, and why a run cannot start."""

import errno

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ExtractionError(Exception):
    """A video fails with it. The message is for people: it names the file, the value and the way out."""

    reason = "error"  # one word for status rows
    retry_alone = False  # whether the video may work when it is tried again while its device does nothing else
    stops_run = False  # whether every other video would fail with it, too


class MediaError(ExtractionError):
    """A file cannot be used."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[1])


class OutOfMemoryError(ExtractionError):
    """A video does not fit into the memory of its device, in batches of half the size either."""

    reason = "out_of_memory"
    retry_alone = True


class OverflowingError(ExtractionError):
    """Numbers became too large for the precision that a network computes in."""

    reason = "overflow"


class SaveError(ExtractionError):
    """An output cannot be written."""

    stops_run = True

    def __init__(self, path: str, cause: OSError, problem: str = "cannot be written") -> None:
        super().__init__(path, cause, problem)
        self.reason = "disk_full" if cause.errno in NO_SPACE else "cannot_save"

    def __str__(self) -> str:
        way_out = "Make room for it" if self.reason == "disk_full" else "Mend that, or choose another folder"
        path, cause, problem = self.args
        return f"{path}: {problem}: {cause.strerror or cause}. {way_out}, and run again"


class BrokenWorkerError(ExtractionError):
    """A worker cannot go on, as when its GPU is in an error state: it ends, and its video is tried once more."""

    reason = "crashed"
    retry_alone = True


class CannotStartError(Exception):
    """The program cannot start, or no worker can; the message says why, and the way out."""


class WeightsError(CannotStartError):
    """Weights cannot be had or are not what they should be."""


class UnreachableError(WeightsError):
    """Weights cannot be downloaded for want of a network: no server could be connected to at all."""


class SettingsError(CannotStartError):
    """The features in the output folder and those that are asked for do not go together."""


class CollisionError(SettingsError):
    """Files in the output folder, and those that are asked for, can be called the same."""
