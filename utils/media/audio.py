"""Path -> audio samples, streamed, in time with the video's frames."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import cast

import av
import numpy as np
import numpy.typing as npt

from utils.errors import MediaError
from utils.media.container import BROADCAST, RESTART_SECONDS, Container
from utils.media.decoder import Decoder
from utils.media.options import DecodeOptions
from utils.media.reader import MediaReader

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
        self._zero: Fraction | None = None  # seconds, of the file's clock, at which sample 0 is heard
        self._container = Container(path, options or DecodeOptions())
        with self._closing_on_failure():
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
        self.rate_hz = first.sample_rate
        self._decoded = chain([first], decoded)

    @property
    def seconds(self) -> float:
        """The length of what was given so far."""
        return self.num_samples / self.rate_hz

    def __iter__(self) -> Iterator[Samples]:
        held: list[Samples] = []
        num_held = 0
        with self._failing_as_corrupt():
            for samples in self._align():
                if held and (num_held >= self.rate_hz or samples.shape[1] != held[0].shape[1]):
                    yield np.concatenate(held)
                    held, num_held = [], 0
                held.append(samples)
                num_held += len(samples)
                self.num_samples += len(samples)
        if held:
            yield np.concatenate(held)

    def _align(self) -> Iterator[Samples]:
        """Yield the decoded samples, with silence or without a beginning where their times say so."""
        for frame, samples in self._convert():
            gap = 0 if frame is None else self._measure_gap(frame)
            for start in range(0, gap, self.rate_hz):
                yield np.zeros((min(self.rate_hz, gap - start), samples.shape[1]), np.int16)
            yield samples[max(0, -gap) :]

    def _measure_gap(self, frame: av.AudioFrame) -> int:
        """Return how many samples of silence precede a frame; below 0, how many at its beginning are left out.

        Where the time jumps back, or the clock starts anew, sound goes on.
        """
        if frame.pts is None or frame.time is None or frame.time_base is None:
            return 0
        if self._zero is not None and abs(frame.time - float(self._zero) - self.seconds) <= MAX_SLIP_SECONDS:
            return 0
        time = frame.pts * frame.time_base
        if self._zero is None:
            self._zero = self._find_zero(time)
        gap = round((time - self._zero) * self.rate_hz) - self.num_samples
        ahead = Fraction(gap, self.rate_hz)
        if self.num_samples and abs(ahead) <= JITTER_SECONDS:
            return 0
        is_back = self.num_samples and gap < 0
        has_restarted = ahead > RESTART_SECONDS and self._container.av.format.name in BROADCAST
        if not is_back and not has_restarted:
            if self._container.allows_gap(ahead, time - self._zero):
                return gap
            self._decoder.missing.refuse("corrupt", f"its time jumps by {float(ahead):.0f} s")
        self._zero += ahead
        return 0

    def _find_zero(self, begin: Fraction) -> Fraction:
        """Return when the video begins, in seconds; `begin`, that of the sound, where there is none."""
        video = self._container.video()
        if video is None or video.start_time is None or video.time_base is None:
            return begin
        zero = video.start_time * video.time_base
        early = zero - begin
        if self._container.allows_gap(early, early):
            return zero
        self._decoder.missing.refuse("corrupt", f"its video begins {float(early):.0f} s after its sound")
        return begin

    def _convert(self) -> Iterator[tuple[av.AudioFrame | None, Samples]]:
        """Yield the decoded samples at one rate, with the frame that they begin, if they do."""
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
