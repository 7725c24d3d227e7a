"""The protocols of an extractor. Imports no torch.

An extractor is a folder `models/<name>/`: its `__init__.py` has the frozen dataclass `Config`, whose fields are its
options, and its `extract.py` the class `Extractor`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from utils.media.options import DecodeOptions
from utils.weights.published import PublishedWeights

if TYPE_CHECKING:
    from utils.results import Arrays, Features, Predictions, Span

WantedWeights = Mapping[str, tuple[PublishedWeights, str | None]]
"""By the option that overrides its place, each file of weights and the path that is given for it, if any."""


class Config(Protocol):
    """The options of an extractor; a frozen dataclass, made of the groups in `models/options.py`.

    Raises ValueError for wrong values.
    """

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

    has_maps: ClassVar[bool]
    """Its rows are pictures (C, H, W), which are neither joined nor transposed."""

    @property
    def num_crops(self) -> int:
        """Of each row: with one its arrays are (N, D), with more (N, crops, D)."""

    @property
    def settings(self) -> dict[str, object]:
        """The options that features depend on, by name; weights are told apart by their hashes."""

    @property
    def default_settings(self) -> dict[str, object]:
        """The settings that a folder was made with which does not record them: those of before they were options."""

    @property
    def frames_path(self) -> str | None:
        """The folder that scaled frames are written to, for people to look at."""

    @property
    def weights(self) -> str:
        """`pretrained` or `random`."""

    @property
    def answer(self) -> str | None:
        """What is printed in place of a run, where the options only ask. Raises ValueError."""

    def weights_wanted(self) -> WantedWeights:
        """Return the weights that the features need."""

    def check_devices(self, devices: Sequence[str]) -> None:
        """Raise ValueError where a device, if there are any, cannot do what the options ask for."""

    @property
    def extras(self) -> tuple[str, ...]:
        """What is to be saved beside the features, of `utils.outputs.writers.EXTRAS`."""

    def spans(self, num_rows: int, seconds: float, fps: float | None) -> "list[Span] | None":
        """Return the time of each row of features of a video of so many seconds and frames a second, where known.

        None where that does not tell it.
        """

    @property
    def shows_predictions(self) -> bool:
        """What features resemble is printed: the extractor is a `Classifier`."""

    @property
    def sketch_sizes(self) -> tuple[int, int, int]:
        """For the report's pictures: frames of a stack, from one to the next, and pixels that are seen of a frame.

        The first is 1 where the middle frame is that of the step, the last where the whole frame is seen.
        """


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
