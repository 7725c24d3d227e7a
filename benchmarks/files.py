"""The video and the sound that is measured with."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, FPS = 340, 256, 25
SOUND_RATE_HZ = 44_100
ENCODED_SECONDS = 300  # of a sound; what is longer repeats them
PACKET_SAMPLES = 1024  # of AAC


def write_clip(path: Path, num_frames: int, width: int, height: int) -> None:
    """A texture that drifts and a disc that crosses it, H.264."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) * (HEIGHT / height)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for t in range(num_frames):
            texture = np.sin((x + 2.5 * t) / 7) * np.cos((y - 1.2 * t) / 11) + np.sin((x + y + t) / 23)
            disc = np.hypot(x - (60 + 9 * t) % WIDTH, y - 128) < 30
            frame = np.clip(128 + 45 * np.where(disc, 1.5, texture), 0, 255).astype(np.uint8)
            picture = av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, axis=2), format="rgb24")
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))


def write_sound(path: Path, seconds: int) -> None:
    """Noise that swells, stereo AAC."""
    times = np.arange(min(seconds, ENCODED_SECONDS) * SOUND_RATE_HZ) / SOUND_RATE_HZ
    loudness = 0.03 * (1 + np.sin(2 * np.pi * 0.7 * times)).astype(np.float32)
    samples = np.random.default_rng(0).standard_normal((2, len(times)), np.float32) * loudness
    unit = Fraction(1, SOUND_RATE_HZ)
    with av.open(str(path), "w") as output:
        track = output.add_stream("aac", rate=SOUND_RATE_HZ, layout="stereo")
        sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        sound.sample_rate, sound.time_base, sound.pts = SOUND_RATE_HZ, unit, 0
        packets = [bytes(packet) for packet in [*track.encode(sound), *track.encode(None)]]
        for i in range(-(-seconds * SOUND_RATE_HZ // PACKET_SAMPLES)):
            packet = av.Packet(packets[i % len(packets)])
            packet.stream, packet.time_base = track, unit
            packet.pts = packet.dts = i * PACKET_SAMPLES
            packet.duration = PACKET_SAMPLES
            output.mux(packet)
