"""Path -> audio samples, streamed, in time with the video's frames."""

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import cast

import av
import numpy as np
import numpy.typing as npt

from utils.errors import MediaError
from utils.media.container import BROADCAST, RESTART_SECONDS, Container, DecodeErrors, cause
from utils.media.decoder import Decoder, MediaReader
from utils.media.options import DecodeOptions

Samples = npt.NDArray[np.int16]
"""(samples, channels)."""

JITTER_SECONDS = Fraction(1, 10)  # that a sound's times may be off before it is corrected, as in FFmpeg's aresample
MAX_SLIP_SECONDS = 0.9 * float(JITTER_SECONDS)  # within which nothing is to be corrected, however it is rounded
RATES_HZ = range(1000, 768_001)  # that a sound is believed to have


class Audio(MediaReader):
    """The sound of a video or an audio file: 16-bit samples at its own rate, `rate_hz`, in time with its frames.

    Iterate over it once, inside `with`: it gives blocks of about a second, of which each has its own number of
    channels. Sample i is heard i / rate_hz seconds after the first frame of the video is shown, or after the sound
    begins where there is no video: silence fills the time before a sound that begins late, and gaps inside it; what
    is heard before is left out. Raises MediaError.
    """

    def __init__(self, path: str, options: DecodeOptions | None = None) -> None:
        self.path = path
        self.num_samples = 0  # given so far
        self._container = Container(path, options or DecodeOptions())
        try:
            stream = self._container.av.streams.best("audio")
            if not isinstance(stream, av.AudioStream):
                raise MediaError("no_audio", f"{path}: no audio stream")
            self._decoder = Decoder(self._container, stream)
            decoded = cast(Iterator[av.AudioFrame], iter(self._decoder))
            first = next(decoded, None)
            if first is None:
                raise MediaError("unreadable", f"{path}: its audio stream holds no sound")
            if first.sample_rate not in RATES_HZ:
                raise MediaError("corrupt", f"{path}: {first.sample_rate} samples a second")
        except BaseException as error:
            self._container.close()
            if isinstance(error, DecodeErrors):
                raise self._corrupt(error) from error
            raise
        self.rate_hz = first.sample_rate
        self._decoded = chain([first], decoded)

    def __iter__(self) -> Iterator[Samples]:
        held: list[Samples] = []
        num_held = 0
        try:
            for samples in self._align():
                if held and (num_held >= self.rate_hz or samples.shape[1] != held[0].shape[1]):
                    yield np.concatenate(held)
                    held, num_held = [], 0
                held.append(samples)
                num_held += len(samples)
        except DecodeErrors as error:
            raise self._corrupt(error) from error
        if held:
            yield np.concatenate(held)

    def _align(self) -> Iterator[Samples]:
        """The decoded samples, with silence or without a beginning where their times say so.

        Where the time jumps back, or the clock starts anew, sound goes on.
        """
        video = self._container.video()
        zero = _to_seconds(video.start_time, video.time_base) if video else None
        can_restart = self._container.av.format.name in BROADCAST
        skew = 0  # samples, of all jumps so far
        begin = math.inf  # seconds, at which sound that has always been in time began
        for frame, samples in self._convert():
            gap = 0
            time = None
            if frame is not None and (frame.time is None or abs(frame.time - begin - self.seconds) > MAX_SLIP_SECONDS):
                time = _to_seconds(frame.pts, frame.time_base)
            if time is not None:
                if zero is not None and not self._container.can_last(zero - time, zero - time):
                    self._decoder.missing.refuse(
                        "corrupt", f"its video begins {float(zero - time):.0f} s after its sound"
                    )
                    zero = None
                zero = time if zero is None else zero
                gap = round((time - zero) * self.rate_hz) - skew - self.num_samples
                ahead = Fraction(gap, self.rate_hz)
                if self.num_samples and abs(ahead) <= JITTER_SECONDS:
                    gap = 0
                elif (self.num_samples and gap < 0) or (can_restart and ahead > RESTART_SECONDS):
                    skew += gap
                    gap = 0
                elif not self._container.can_last(ahead, time - zero):
                    self._decoder.missing.refuse("corrupt", f"its time jumps by {float(ahead):.0f} s")
                    skew += gap
                    gap = 0
                begin = float(zero) + skew / self.rate_hz
            for start in range(0, gap, self.rate_hz):
                yield self._count(np.zeros((min(self.rate_hz, gap - start), samples.shape[1]), np.int16))
            yield self._count(samples[max(0, -gap) :])

    def _convert(self) -> Iterator[tuple[av.AudioFrame | None, Samples]]:
        """The decoded samples at one rate, with the frame that they begin, if they do."""
        convert, before = av.AudioResampler(), None
        for frame in self._decoded:
            form = frame.format.name, frame.layout.name, frame.sample_rate
            if form != before:
                convert, before = av.AudioResampler("s16", frame.layout, self.rate_hz), form
            of_samples: av.AudioFrame | None = frame
            for converted in convert.resample(frame):
                num_channels = converted.layout.nb_channels
                samples = np.frombuffer(converted.planes[0], np.int16, converted.samples * num_channels)
                yield of_samples, samples.reshape(-1, num_channels)
                of_samples = None

    @property
    def seconds(self) -> float:
        """The length of what was given so far."""
        return self.num_samples / self.rate_hz

    def _count(self, samples: Samples) -> Samples:
        self.num_samples += len(samples)
        return samples

    def _corrupt(self, error: BaseException) -> MediaError:
        return MediaError("corrupt", f"{self.path}: decoding its sound failed: {cause(error)}")


def _to_seconds(time: int | None, time_base: Fraction | None) -> Fraction | None:
    """A time in units of `time_base`, both of which the file may not tell, in seconds."""
    if time is None or time_base is None:
        return None
    return time * time_base
