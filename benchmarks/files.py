"""The files that are measured with, and how their features compare."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT, FPS = 340, 256, 25
SOUND_RATE_HZ = 44_100
ENCODED_SECONDS = 300  # of a sound; a longer one repeats them
PACKET_SAMPLES = 1024  # of AAC


def write_clip(path: Path, num_frames: int, width: int = WIDTH, height: int = HEIGHT, num_times: int = 1) -> None:
    """Write a texture that drifts and a disc that crosses it, H.264; all of it so many times, encoded once."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) * (HEIGHT / height)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        packets: list[av.Packet[Any]] = []
        for t in range(num_frames):
            texture = np.sin((x + 2.5 * t) / 7) * np.cos((y - 1.2 * t) / 11) + np.sin((x + y + t) / 23)
            disc = np.hypot(x - (60 + 9 * t) % WIDTH, y - 128) < 30
            grey = np.clip(128 + 45 * np.where(disc, 1.5, texture), 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.repeat(grey[..., None], 3, axis=2), format="rgb24")
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for i in range(num_times):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.stream, copy.time_base, copy.is_keyframe = stream, packet.time_base, packet.is_keyframe
                assert packet.pts is not None
                assert packet.dts is not None
                copy.pts, copy.dts = packet.pts + i * num_frames, packet.dts + i * num_frames
                output.mux(copy)


def write_sound(path: Path, seconds: int) -> None:
    """Write noise that swells, stereo AAC."""
    times = np.arange(min(seconds, ENCODED_SECONDS) * SOUND_RATE_HZ) / SOUND_RATE_HZ
    loudness = 0.03 * (1 + np.sin(2 * np.pi * 0.7 * times)).astype(np.float32)
    samples = np.random.default_rng(0).standard_normal((2, len(times)), np.float32) * loudness
    unit = Fraction(1, SOUND_RATE_HZ)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=SOUND_RATE_HZ, layout="stereo")
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.time_base, frame.pts = SOUND_RATE_HZ, unit, 0
        packets = [bytes(packet) for packet in [*stream.encode(frame), *stream.encode(None)]]
        for i in range(-(-seconds * SOUND_RATE_HZ // PACKET_SAMPLES)):
            packet = av.Packet(packets[i % len(packets)])
            packet.stream, packet.time_base = stream, unit
            packet.pts = packet.dts = i * PACKET_SAMPLES
            packet.duration = PACKET_SAMPLES
            output.mux(packet)


def least_cosine(ours: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Return the least cosine between rows of the same index; both are (N, D)."""
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((ours * expected).sum(axis=1) / lengths).min())
