"""Sounds, and files made of them."""

import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.stream import Disposition

Audio = npt.NDArray[np.int16]
"""(samples, channels)."""


def noise(seconds: float, rate_hz: int, channels: int = 1) -> Audio:
    """White noise (samples, channels) at a third of full scale."""
    rng = np.random.default_rng(7)
    return rng.integers(-10_000, 10_000, (round(seconds * rate_hz), channels), dtype=np.int16)


def chirp(seconds: float, rate_hz: int) -> npt.NDArray[np.float64]:
    """A sine (samples,) of half of full scale that rises from 20 Hz to half the rate."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return 0.5 * np.sin(2 * np.pi * (20 * t + (rate_hz / 2 - 20) / (2 * seconds) * t**2))


def chord(seconds: float, rate_hz: int, channels: int = 1) -> Audio:
    """Five sines that swell twice a second, (samples, channels): what every codec keeps well."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = sum(np.sin(2 * np.pi * hz * t + hz) for hz in (220, 440, 660, 1100, 1760))
    mono = tones / 5 * (0.6 + 0.4 * np.sin(2 * np.pi * 2 * t))
    return np.repeat((20_000 * mono).astype(np.int16)[:, None], channels, axis=1)


def sound_of(seed: int, seconds: float = 2.0, rate_hz: int = 16_000) -> Audio:
    """A chord that is the seed's own."""
    return np.roll(chord(seconds, rate_hz), 1000 * seed) // np.int16(1 + seed)


def write_sound(
    path: Path,
    samples: Audio,
    rate_hz: int,
    codec: str,
    times_ms: Iterable[int] = (0,),
    picture_ms: int | None = None,
    cover: bool = False,
    container_format: str | None = None,
) -> Path:
    """Encode sound (samples, channels), its parts of equal length heard from each of `times_ms` on.

    A second of small black frames goes with it from `picture_ms` on, or a cover picture.
    """
    times = list(times_ms)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
    with av.open(str(path), "w", format=container_format) as output:
        video = None
        if picture_ms is not None or cover:
            video = output.add_stream("mjpeg" if cover else "libvpx" if path.suffix == ".webm" else "mpeg4", rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p" if cover else "yuv420p"
            video.codec_context.time_base = Fraction(1, 25)
            if cover:
                video.disposition = Disposition.attached_pic
        track = output.add_stream(codec, rate=rate_hz, layout=layout)
        assert isinstance(track, av.AudioStream)
        if video is not None:
            for i in range(1 if cover else 25):
                frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = round((picture_ms or 0) / 40) + i, Fraction(1, 25)
                output.mux(video.encode(frame))
            output.mux(video.encode(None))
        convert = av.AudioResampler(track.codec_context.format, layout, rate_hz, track.codec_context.frame_size)
        for time_ms, part in zip(times, np.split(samples, len(times)), strict=True):
            block = av.AudioFrame.from_ndarray(np.ascontiguousarray(part.reshape(1, -1)), format="s16", layout=layout)
            block.sample_rate, block.time_base, block.pts = rate_hz, Fraction(1, rate_hz), time_ms * rate_hz // 1000
            for ready in convert.resample(block):
                output.mux(track.encode(ready))
        for ready in convert.resample(None):
            output.mux(track.encode(ready))
        output.mux(track.encode(None))
    return path


def write_wav(path: Path, samples: Audio, rate_hz: int) -> Path:
    """16-bit PCM, written without FFmpeg."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return path
