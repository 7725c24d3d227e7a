"""The protocols of an extractor, and the options that several share. Imports no torch.

An extractor is a folder `models/<name>/`: its `__init__.py` has the frozen dataclass `Config`, whose fields are its
options, and its `extract.py` the class `Extractor`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from utils.devices import DEFAULT_PRECISION, PRECISIONS, precision_on
from utils.media.options import DecodeOptions
from utils.option import option
from utils.stacks import stacks
from utils.weights.published import WeightsFile

if TYPE_CHECKING:
    from utils.results import Arrays, Features, Predictions, Span

WantedWeights = Mapping[str, tuple[WeightsFile, str | None]]
"""By the option that overrides its place, each file of weights and the path that is given for it, if any."""


class Config(Protocol):
    """The options of an extractor; a frozen dataclass made of the groups below. Raises ValueError for wrong values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    title: ClassVar[str]
    """Its name for people."""

    summary: ClassVar[str]
    """One line for `main.py --help`."""

    media_suffixes: ClassVar[frozenset[str]]
    """Of the files that a folder or a pattern stands for."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The ends of the names of a video's feature files."""

    @property
    def settings(self) -> dict[str, object]:
        """The options that features depend on, by name; weights are told apart by their hashes."""

    @property
    def frames_path(self) -> str | None:
        """The folder that scaled frames are written to, for people to look at."""

    @property
    def weights(self) -> str:
        """`pretrained` or `random`."""

    def weights_wanted(self) -> WantedWeights:
        """Return the weights that the features need."""

    def check_devices(self, devices: Sequence[str]) -> None:
        """Raise ValueError where a device cannot do what the options ask for."""

    @property
    def extras(self) -> tuple[str, ...]:
        """What is to be saved beside the features, of `utils.outputs.writers.EXTRAS`."""

    def spans(self, num_rows: int, seconds: float, fps: float | None) -> "list[Span] | None":
        """Return the time of each row of features of a video of so many seconds and frames a second, where known.

        None where that does not tell it.
        """

    def describe_saved(self, path: str, outputs: Sequence[str]) -> str:
        """Return what there is to print of a video whose features lie in `outputs`, in the order of `suffixes`."""


class Extractor(Protocol):
    """The networks on one device, which `num_sharing` workers share."""

    def __init__(self, config: Config, device: str, num_sharing: int = 1) -> None: ...

    def extract(self, path: str, options: DecodeOptions, frames_folder: Path | None = None) -> "Features":
        """Return the features of one video; its scaled frames are also written to `frames_folder`, if given."""


@runtime_checkable
class Classifier(Protocol):
    """An extractor that can tell what its features resemble."""

    def predict(self, arrays: "Arrays") -> "Predictions":
        """Return how likely each class is in each row of features as it gives them."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The base of the groups of options, and so of every Config."""

    title: ClassVar[str]
    """Of the group, in the help."""

    def __post_init__(self) -> None:
        """Raise ValueError for values that cannot be."""

    @property
    def settings(self) -> dict[str, object]:
        recorded = [field.name for field in dataclasses.fields(self) if field.metadata["changes_features"]]
        return {name: getattr(self, name) for name in recorded}

    @property
    def frames_path(self) -> str | None:
        return None

    def check_devices(self, devices: Sequence[str]) -> None:
        pass

    @property
    def extras(self) -> tuple[str, ...]:
        return ()

    def spans(self, num_rows: int, seconds: float, fps: float | None) -> "list[Span] | None":
        return None

    def describe_saved(self, path: str, outputs: Sequence[str]) -> str:
        return ""


@dataclass(frozen=True, kw_only=True)
class StackOptions(Options):
    """For extractors of stacks of frames."""

    title = "stacks of frames"
    min_stack_size: ClassVar[int] = 1
    num_frames_after: ClassVar[int] = 0  # that a stack needs besides its own

    stack_size: int = option(64, "frames a feature is made of", metavar="N", changes_features=True)
    step_size: int = option(64, "frames from one stack's start to the next one's", metavar="N", changes_features=True)
    tail: str = option(
        "cycle",
        "make the frames that no full stack holds one more stack, repeated cyclically; or drop them",
        choices=("cycle", "drop"),
        changes_features=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stack_size < self.min_stack_size:
            raise ValueError(f"--stack_size {self.stack_size}: must be at least {self.min_stack_size} frames")
        if self.step_size < 1:
            raise ValueError(f"--step_size {self.step_size}: must be at least 1 frame")

    def spans(self, num_rows: int, seconds: float, fps: float | None) -> "list[Span] | None":
        if fps is None:
            return None
        rate = Fraction(fps).limit_denominator(10**6)  # the fraction that it was
        frames = range(round(seconds * rate))
        found = [
            stack.span(self.stack_size, rate)
            for stack in stacks(frames, self.stack_size + self.num_frames_after, self.step_size, self.tail == "cycle")
        ]
        return found if len(found) == num_rows else None


@dataclass(frozen=True, kw_only=True)
class FrameOptions(Options):
    """For extractors of frames."""

    title = "frames"
    crop_size: ClassVar[int] = 1  # pixels that the network sees

    extraction_fps: float | None = option(
        None, "frames a second (default: the video's own rate)", type=float, metavar="FPS", changes_features=True
    )
    min_side_size: int = option(256, "pixels that the smaller side is scaled to", metavar="N", changes_features=True)
    keep_frames: bool = option(False, "also write the scaled frames to <tmp_path>/<video>_frames, as PNG")
    tmp_path: str = option("./tmp", "where --keep_frames writes to", metavar="FOLDER")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_side_size < self.crop_size:
            raise ValueError(
                f"--min_side_size {self.min_side_size}: the network sees a crop of {self.crop_size} pixels"
            )
        if self.extraction_fps is not None and not (math.isfinite(self.extraction_fps) and self.extraction_fps > 0):
            raise ValueError(f"--extraction_fps {self.extraction_fps}: must be a number of frames above 0")

    @property
    def frames_path(self) -> str | None:
        return self.tmp_path if self.keep_frames else None


@dataclass(frozen=True, kw_only=True)
class PrecisionOptions(Options):
    """For extractors with networks."""

    title = "precision and memory"

    precision: str | None = option(
        None,
        "what the networks compute in (default: {cpu} on CPUs, {cuda} on GPUs)".format(**DEFAULT_PRECISION),
        choices=sorted({precision for precisions in PRECISIONS.values() for precision in precisions}),
        changes_features=True,
    )
    batch_size: int | None = option(
        None,
        "frames, or patches of sound, that go through a network at once (default: as suits)",
        type=int,
        metavar="N",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"--batch_size {self.batch_size}: must be at least 1")

    @property
    def settings(self) -> dict[str, object]:
        return super().settings | {"precision": self.precision or "default"}

    def check_devices(self, devices: Sequence[str]) -> None:
        super().check_devices(devices)
        for device in devices:
            precision_on(device, self.precision)


@dataclass(frozen=True, kw_only=True)
class WeightsOptions(Options):
    """For extractors with weights; they say which, in `weights_wanted`."""

    title = "weights"
    network_paths: ClassVar[tuple[str, ...]] = ()  # the options that name checkpoints of networks

    weights: str = option(
        "pretrained",
        "published weights, downloaded at first use; or untrained ones, to try the program out",
        choices=("pretrained", "random"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.network_paths:
            if self.weights == "random" and getattr(self, name) is not None:
                raise ValueError(f"--{name} does not go with --weights random")

    def weights_wanted(self) -> WantedWeights:
        return {}
