"""The base of the readers of video and of audio: a file that is open for as long as `with` lasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from utils.errors import MediaError
from utils.media.container import Container, DecodeErrors, cause
from utils.media.decoder import Decoder


class MediaReader:
    """A file that is open until the end of `with`."""

    path: str
    _container: Container
    _decoder: Decoder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        try:
            with self._failing_as_corrupt():
                yield
        except BaseException:
            self._container.close()
            raise

    @contextmanager
    def _failing_as_corrupt(self) -> Iterator[None]:
        try:
            yield
        except DecodeErrors as error:
            raise MediaError("corrupt", f"{self.path}: decoding failed: {cause(error)}") from error

    @property
    def missing(self) -> str:
        """The seconds that could not be read and why, for people to read; empty where nothing is wrong."""
        return str(self._decoder.missing)

    @property
    def missing_seconds(self) -> float:
        return self._decoder.missing.seconds
