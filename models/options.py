"""The options that several extractors share, in groups of which a Config is made. Imports no torch."""

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, TypeVar

from models.base import WantedWeights
from utils.crops import SETS, TEN, crop_names
from utils.devices import DEFAULT_PRECISION, PRECISIONS, precision_on
from utils.option import option
from utils.stacks import Stack, centered_stacks, stacks

if TYPE_CHECKING:
    from utils.results import Span

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The base of the groups of options, and so of every Config."""

    title: ClassVar[str]
    """Of the group, in the help."""

    required: ClassVar[tuple[str, ...]] = ()
    """The options that have no default, in whose fields it is None: what only tells, as --status, works without."""

    has_maps: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raise ValueError for values that cannot be."""

    @property
    def num_crops(self) -> int:
        return 1

    @property
    def settings(self) -> dict[str, object]:
        recorded = [field.name for field in dataclasses.fields(self) if field.metadata["changes_features"]]
        return {name: getattr(self, name) for name in recorded}

    @property
    def default_settings(self) -> dict[str, object]:
        return type(self)(**{name: getattr(self, name) for name in self.required}).settings

    @property
    def frames_path(self) -> str | None:
        return None

    @property
    def answer(self) -> str | None:
        return None

    def check_devices(self, devices: Sequence[str]) -> None:
        for name in self.required if devices else ():
            if getattr(self, name) is None:
                raise ValueError(f"--{name} is needed")

    @property
    def extras(self) -> tuple[str, ...]:
        return ()

    @property
    def shows_predictions(self) -> bool:
        return False

    @property
    def sketch_sizes(self) -> tuple[int, int, int]:
        return 1, 1, 1

    def spans(self, num_rows: int, seconds: float, fps: float | None) -> "list[Span] | None":
        return None


@dataclass(frozen=True, kw_only=True)
class FrameOptions(Options):
    """For extractors of frames, or of stacks of them."""

    title = "frames"

    extraction_fps: float | None = option(
        None, "frames a second (default: the video's own rate)", type=float, metavar="FPS", changes_features=True
    )
    keep_frames: bool = option(False, "also write the frames to <tmp_path>/<video>_frames, as PNG")
    tmp_path: str = option("./tmp", "where --keep_frames writes to", metavar="FOLDER")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.extraction_fps is not None and not (math.isfinite(self.extraction_fps) and self.extraction_fps > 0):
            raise ValueError(f"--extraction_fps {self.extraction_fps}: must be a number of frames above 0")

    @property
    def frames_path(self) -> str | None:
        return self.tmp_path if self.keep_frames else None

    @property
    def num_frames(self) -> int:
        """How many frames a row of features is of."""
        return 1

    @property
    def num_frames_needed(self) -> int:
        """How many frames a video needs to have for a row, if tails are dropped."""
        return self.num_frames

    def stacks(self, frames: Iterable[Item]) -> Iterator[Stack[Item]]:
        """Return the frames that the rows of features are computed from, for each of them."""
        return stacks(frames, 1, 1, cycle_tail=False)

    def spans(self, num_rows: int, seconds: float, fps: float | None) -> "list[Span] | None":
        if fps is None:
            return None
        rate = Fraction(fps).limit_denominator(10**6)  # the fraction that it was
        found = [stack.span(self.num_frames, rate) for stack in self.stacks(range(round(seconds * rate)))]
        return found if len(found) == num_rows else None


@dataclass(frozen=True, kw_only=True)
class StackOptions(FrameOptions):
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
    align: str = option(
        "start",
        "start: a stack starts every step_size frames; center: one is centred on every step_size-th frame",
        choices=("start", "center"),
        changes_features=True,
    )
    edge: str | None = option(
        None,
        "with --align center, beyond both ends of the video: its end frames again, without motion, or zeros in place "
        "of what the network sees (default: repeat)",
        choices=("repeat", "zero"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stack_size < self.min_stack_size:
            raise ValueError(f"--stack_size {self.stack_size}: must be at least {self.min_stack_size} frames")
        if self.step_size < 1:
            raise ValueError(f"--step_size {self.step_size}: must be at least 1 frame")
        if self.align == "center" and self.tail != "cycle":
            raise ValueError(f"--tail {self.tail}: with --align center there is no tail")
        if self.align != "center" and self.edge is not None:
            raise ValueError(f"--edge {self.edge}: only with --align center do stacks reach beyond the video")

    @property
    def settings(self) -> dict[str, object]:
        return super().settings | ({"edge": self.edge or "repeat"} if self.align == "center" else {})

    @property
    def num_frames(self) -> int:
        return self.stack_size

    @property
    def num_frames_needed(self) -> int:
        return self.stack_size + self.num_frames_after

    def stacks(self, frames: Iterable[Item]) -> Iterator[Stack[Item]]:
        if self.align == "center":
            return centered_stacks(frames, self.num_frames_needed, self.step_size, self.stack_size // 2)
        return stacks(frames, self.num_frames_needed, self.step_size, self.tail == "cycle")

    @property
    def sketch_sizes(self) -> tuple[int, int, int]:
        return 1 if self.align == "center" else self.stack_size, self.step_size, super().sketch_sizes[2]


@dataclass(frozen=True, kw_only=True)
class SizeOptions(Options):
    """For extractors of frames that are scaled to a size of the user's."""

    title = "size of frames"
    crop_size: ClassVar[int] = 1  # pixels that the network sees

    min_side_size: int = option(256, "pixels that the smaller side is scaled to", metavar="N", changes_features=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_side_size < self.crop_size:
            raise ValueError(
                f"--min_side_size {self.min_side_size}: the network sees a crop of {self.crop_size} pixels"
            )

    @property
    def sketch_sizes(self) -> tuple[int, int, int]:
        return *super().sketch_sizes[:2], self.crop_size


@dataclass(frozen=True, kw_only=True)
class CropOptions(Options):
    """For extractors of crops of frames."""

    title = "crops of frames"

    crops: tuple[str, ...] = option(
        ("center",),
        "what the network sees of a frame: the center, five or ten (torchvision's, in its order), or any of c, tl, tr, "
        "bl and br, with m before it mirrored; of several, a row of features has one each (default: center)",
        choices=(*SETS, *TEN),
        nargs="+",
        metavar="CROP",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        crop_names(self.crops)

    @property
    def crop_names(self) -> tuple[str, ...]:
        """The crops, one by one."""
        return crop_names(self.crops)

    @property
    def num_crops(self) -> int:
        return len(self.crop_names)

    @property
    def settings(self) -> dict[str, object]:
        return super().settings | {"crops": " ".join(self.crop_names)}


@dataclass(frozen=True, kw_only=True)
class ClassOptions(Options):
    """For extractors whose networks know the Kinetics classes."""

    title = "Kinetics classes"

    show_kinetics_pred: bool = option(False, "print the five likeliest Kinetics classes of each stack")
    save_predictions: bool = option(False, "also save the five likeliest Kinetics classes, as <video>_predictions.csv")
    kinetics_class_labels: str | None = option(
        None, "class names, one a line, in place of torchvision's", metavar="TXT"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        labels = self.kinetics_class_labels
        is_used = self.show_kinetics_pred or self.save_predictions
        if is_used and labels is not None and not os.path.isfile(labels):
            raise ValueError(f"--kinetics_class_labels: no such file: {labels}")

    @property
    def extras(self) -> tuple[str, ...]:
        return (*super().extras, "predictions") if self.save_predictions else super().extras

    @property
    def shows_predictions(self) -> bool:
        return self.show_kinetics_pred


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
