"""The job: what a worker does with one video, from its path to saved features. Imports no torch."""

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import models
from models.base import Config, Extractor
from utils.devices import CPU
from utils.errors import BrokenWorkerError, CannotStartError
from utils.media.options import DecodeOptions
from utils.memory import keep_freed_memory
from utils.outputs import writers
from utils.outputs.resume import Output
from utils.results import Row
from utils.video_list import stem_of
from utils.weights.download import fingerprint, obtain
from utils.workers.process import ExtractVideo

UNTRAINED = "WARNING: --weights random: the networks are UNTRAINED, and these features mean NOTHING"

log = logging.getLogger("video_features")


@dataclass(frozen=True)
class Job:
    """Called with a device, in a worker, it loads the networks and returns the function that extracts one video."""

    feature_type: str
    config: Config
    decode: DecodeOptions
    stems: Mapping[str, str]
    """By path, what the outputs of videos are called that share their name with another one."""

    output: Output | None
    """The output folder, if features are saved."""

    devices: tuple[str, ...]
    """One for each worker."""

    num_threads: int | None = None
    """Of each worker; by default its share of the cores."""

    fingerprints: Mapping[str, object] = field(default_factory=dict)
    """What tells the weights apart."""

    def __call__(self, device: str) -> ExtractVideo:
        # Threads that wait for each other sleep, so that other work on the cores costs no more than its share.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded
        import torch

        torch.set_num_threads(self.num_threads or max(1, len(os.sched_getaffinity(0)) // len(self.devices)))
        if device == CPU:
            keep_freed_memory()
        try:
            extractor = models.load_extractor(self.feature_type)(self.config, device, self.devices.count(device))
        except ValueError as error:
            raise CannotStartError(str(error)) from error
        return functools.partial(self._extract, extractor)

    def stem(self, path: str) -> str:
        """Return what the outputs of a video are called after, below the output path."""
        return self.stems.get(path) or stem_of(path)

    def on_node(self, device: str, num_threads: int) -> "Job":
        """Return the job of a slot of a cluster, with the weights of the slot's node.

        Raises CannotStartError and SaveError where this node lacks what the job needs.
        """
        config, fingerprints = with_weights(self.config)
        if fingerprints != self.fingerprints:
            raise CannotStartError(f"weights differ between nodes: here {fingerprints}, elsewhere {self.fingerprints}")
        if self.output is not None:
            self.output.check_seen()
        return dataclasses.replace(self, config=config, devices=(device,), num_threads=num_threads)

    def find_done(self, path: str) -> Row | None:
        """Return the row of a video that is done already."""
        if self.output is None or not self.output.is_done(stem := self.stem(path)):
            return None
        outputs = self.output.paths(stem)
        return Row(path, "skipped", outputs=outputs, report=self.config.describe_saved(path, outputs))

    def _extract(self, extractor: Extractor, path: str, on_open: Callable[[float], None]) -> Row:
        """Extract the features of one video and save or describe them. Raises ExtractionError."""
        from torch import AcceleratorError

        stem = self.stem(path)
        decode = dataclasses.replace(self.decode, on_open=on_open)
        try:
            features = extractor.extract(path, decode, frames_folder(self.config, stem))
        except AcceleratorError as error:  # after which a GPU does nothing more for this process
            raise BrokenWorkerError(str(error)) from error
        row = Row(
            path,
            "ok",
            seconds=features.seconds,
            missing=features.missing,
            missing_seconds=features.missing_seconds,
            report=f"{path}\n{features.report}" if features.report else "",
        )
        if self.output is None:
            report = "\n".join(filter(None, [writers.describe(path, features), features.report]))
            return dataclasses.replace(row, report=report)
        return dataclasses.replace(row, outputs=writers.save_numpy(features, self.output.folder, stem))


def frames_folder(config: Config, stem: str) -> Path | None:
    """Return where the scaled frames of a video are written to, if they are."""
    return Path(config.frames_path, f"{stem}_frames") if config.frames_path else None


def with_weights(config: Config) -> tuple[Config, dict[str, object]]:
    """Return the config with the paths of its weights, downloaded and verified if need be, and what tells them apart.

    Raises WeightsError.
    """
    wanted = config.weights_wanted()
    fingerprints: dict[str, object] = {}
    if config.weights == "random":
        log.warning(UNTRAINED)
        fingerprints = dict.fromkeys(wanted, "random")
        wanted = {name: (file, given) for name, (file, given) in wanted.items() if given is not None}
    paths = obtain(wanted)
    fingerprints |= {name: fingerprint(file, given) for name, (file, given) in wanted.items()}
    return dataclasses.replace(config, **{name: str(path) for name, path in paths.items()}), fingerprints
