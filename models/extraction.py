"""What workers do: a job is pickled to them, and in each becomes the work on one device. Imports no torch."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import models
from utils.devices import CPU
from utils.media.options import DecodeOptions
from utils.memory import keep_freed_memory
from utils.video_list import stem_of

if TYPE_CHECKING:
    from utils.outputs.resume import Output
    from utils.workers.pool import Done


@dataclass(frozen=True)
class Job:
    """What workers do: a job, called with a device, loads the networks and gives the function for one video."""

    feature_type: str
    config: Any
    decode_options: DecodeOptions
    frames_path: str | None
    stems: Mapping[str, str]
    num_threads: int
    output: "Output | None" = None

    def __call__(self, device: str) -> "Work":
        # Threads that wait for each other sleep, so that other work on the cores costs no more than its share.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded
        import torch

        from utils.errors import CannotStartError, WeightsError

        torch.set_num_threads(self.num_threads)
        if device == CPU:
            keep_freed_memory()
        try:
            return Work(self, models.load_extractor(self.feature_type)(self.config, device))
        except (WeightsError, ValueError) as error:
            raise CannotStartError(str(error)) from error

    def stem(self, path: str) -> str:
        """What the outputs of a video are called after, below the output path."""
        return self.stems.get(path) or stem_of(path)


@dataclass(frozen=True)
class Work:
    """Extracts the features of one video, and saves or describes them."""

    job: Job
    extractor: Any

    def __call__(self, path: str, opened: Callable[[float], None]) -> "Done | None":
        """Raises what the video fails with; gives None where another program has done it meanwhile."""
        from torch import AcceleratorError

        from utils.errors import BrokenWorkerError

        stem, output = self.job.stem(path), self.job.output
        if output is not None and output.is_done(stem):
            output.check_owner(path, stem)
            return None
        try:
            return self._extract(path, stem, opened)
        except AcceleratorError as error:  # after which a GPU does nothing more for this process
            raise BrokenWorkerError(str(error)) from error

    def _extract(self, path: str, stem: str, opened: Callable[[float], None]) -> "Done":
        from utils.outputs import writers as sinks
        from utils.workers.pool import Done

        frames_folder = Path(self.job.frames_path, f"{stem}_frames") if self.job.frames_path else None
        decode_options = dataclasses.replace(self.job.decode_options, on_open=opened)
        features = self.extractor.extract(path, frames_folder, decode_options)
        if self.job.output is None:
            report = "\n".join(filter(None, [sinks.text_of(path, features), features.report]))
            return Done([], features.seconds, report, features.missing)
        outputs = sinks.save_numpy(features, self.job.output.folder, stem)
        return Done(
            outputs, features.seconds, f"{path}\n{features.report}" if features.report else "", features.missing
        )
