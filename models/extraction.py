"""The job: what a worker does with one video, from its path to saved features. Imports no torch."""

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import models
from models.base import Classifier, Config, Extractor
from utils.devices import CPU
from utils.errors import BrokenWorkerError, CannotStartError
from utils.media.options import DecodeOptions
from utils.memory import keep_freed_memory
from utils.outputs import writers
from utils.outputs.resume import Output
from utils.outputs.status_report import UNKNOWN, Outcome, read_outcomes
from utils.report import Report, warning_only
from utils.results import Arrays, Predictions, Row, Span
from utils.video_list import absolute, stem_of
from utils.weights.download import fingerprint, obtain
from utils.workers.process import ExtractVideo

if TYPE_CHECKING:
    from utils.report.sketch import Sketch

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

    report: Report | None = None
    """The report, if videos have pages in it."""

    num_threads: int | None = None
    """Of each worker; by default its share of the cores."""

    fingerprints: Mapping[str, object] = field(default_factory=dict)
    """What tells the weights apart."""

    given_config: Config | None = None
    """The config before weights were found, of which each node of a cluster makes its own."""

    def __call__(self, device: str) -> ExtractVideo:
        # Threads that wait for each other sleep, so that other work on the cores costs no more than its share.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # A GPU's memory that is free in pieces serves videos of other sizes. PYTORCH_CUDA_ALLOC_CONF goes before this.
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
        import torch  # which reads both

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
        try:
            config, fingerprints = with_weights(self.given_config or self.config)
        except ValueError as error:
            raise CannotStartError(str(error)) from error
        if fingerprints != self.fingerprints:
            raise CannotStartError(f"weights differ between nodes: here {fingerprints}, elsewhere {self.fingerprints}")
        if self.output is not None:
            self.output.check_seen()
        return dataclasses.replace(self, config=config, devices=(device,), num_threads=num_threads)

    def find_done(self, path: str) -> Row | None:
        """Return the row of a video that is done already."""
        if self.output is None or not self.output.is_done(stem := self.stem(path)):
            return None
        return Row(path, "skipped", outputs=self.output.paths(stem))

    def _extract(self, extractor: Extractor, path: str, on_open: Callable[[float], None]) -> Row:
        """Extract the features of one video and save or describe them. Raises ExtractionError."""
        from torch import AcceleratorError

        stem = self.stem(path)
        if self.output and (self.output.extras or self.output.is_told_again) and self.output.has_features(stem):
            row = self._add_extras(extractor, path, stem)
            if row is not None:
                return row
        sketch = self._begin_sketch(stem)
        scratch = Path(self.output.paths(stem)[0]).parent if self.output else None
        decode = dataclasses.replace(self.decode, on_open=on_open, sketch=sketch, scratch=scratch)
        try:
            features = extractor.extract(path, decode, frames_folder(self.config, stem))
        except AcceleratorError as error:  # after which a GPU does nothing more for this process
            raise BrokenWorkerError(str(error)) from error
        extras = self.output.extras if self.output else ()
        predictions = self._predict(extractor, features.arrays, extras)
        row = Row(
            path,
            "ok",
            seconds=features.seconds,
            missing=features.missing,
            missing_seconds=features.missing_seconds,
            fps=features.fps,
            report=self._tell(predictions, features.spans),
        )
        if self.output is None:
            report = "\n".join(filter(None, [writers.describe(path, features), row.report]))
            return dataclasses.replace(row, report=report)
        if row.report:
            row = dataclasses.replace(row, report=f"{path}\n{row.report}")
        outputs = writers.save_numpy(features, self.output.folder, stem, self.output.files)
        self._save_extras(extras, predictions, features.spans, stem)
        if self.report and sketch is not None:
            predict = extractor.predict if isinstance(extractor, Classifier) else None
            with warning_only(path):
                from utils.report.page import add_page  # Jinja2 and Pillow

                add_page(self.report, stem, path, features, sketch, predict, self.output.files)
        return dataclasses.replace(row, outputs=outputs)

    def _begin_sketch(self, stem: str) -> "Sketch | None":
        if self.report is None or not self.report.has_room(stem):
            return None
        from utils.report.sketch import Sketch  # which imports torch

        return Sketch(*self.config.sketch_sizes)

    def _add_extras(self, extractor: Extractor, path: str, stem: str) -> Row | None:
        """Save and tell what lacks of a video's saved features. None where the times of rows are needed, and lost."""
        assert self.output is not None
        arrays = writers.load_numpy(self.output.folder, stem, self.output.files)
        known = _outcomes(self.output).get(absolute(path), UNKNOWN)
        spans = self.config.spans(len(next(iter(arrays.values()))), known.seconds, known.fps)
        lacking = [extra for extra in self.output.extras if not self.output.has_extra(stem, extra)]
        if lacking and spans is None:
            return None
        predictions = self._predict(extractor, arrays, lacking)
        self._save_extras(lacking, predictions, spans or [], stem)
        told = self._tell(predictions, spans)
        return Row(path, "skipped", outputs=self.output.paths(stem), report=f"{path}\n{told}" if told else "")

    def _predict(self, extractor: Extractor, arrays: Arrays, extras: Container[str]) -> Predictions | None:
        """Return what features resemble, if that is to be told, or saved among `extras`."""
        if not self.config.shows_predictions and "predictions" not in extras:
            return None
        assert isinstance(extractor, Classifier)
        return extractor.predict(arrays)

    def _tell(self, predictions: Predictions | None, spans: list[Span] | None) -> str:
        """Return what features resemble, for people to read, if that is asked for."""
        if predictions is None or not self.config.shows_predictions:
            return ""
        return writers.describe_predictions(predictions, spans)

    def _save_extras(
        self, extras: Container[str], predictions: Predictions | None, spans: list[Span], stem: str
    ) -> None:
        assert self.output is not None
        if "timestamps" in extras:
            writers.save_timestamps(spans, self.output.folder, stem)
        if "predictions" in extras:
            assert predictions is not None
            writers.save_predictions(predictions, spans, self.output.folder, stem)


@functools.cache
def _outcomes(output: Output) -> dict[str, Outcome]:
    return read_outcomes(output.folder, output.feature_type, output.since)


def frames_folder(config: Config, stem: str) -> Path | None:
    """Return where the scaled frames of a video are written to, if they are."""
    return Path(config.frames_path, f"{stem}_frames") if config.frames_path else None


def with_weights(config: Config, dry_run: bool = False) -> tuple[Config, dict[str, object]]:
    """Return the config with the paths of its weights, downloaded and verified if need be, and what tells them apart.

    With `dry_run` nothing is written, and weights that would have to be downloaded are left out. Raises WeightsError.
    """
    wanted = config.weights_wanted()
    fingerprints: dict[str, object] = {}
    if config.weights == "random":
        log.warning(UNTRAINED)
        fingerprints = dict.fromkeys(wanted, "random")
        wanted = {name: (file, given) for name, (file, given) in wanted.items() if given is not None}
    paths = obtain(wanted, dry_run)
    fingerprints |= {name: fingerprint(*wanted[name]) for name in paths}
    return dataclasses.replace(config, **{name: str(path) for name, path in paths.items()}), fingerprints
