"""Small videos with sound, in every container, and copies of them into others without coding them anew."""

import struct
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt

from tests.helpers.sounds import chord

WIDTH, HEIGHT, FPS = 96, 64, 25
RATE_HZ = 48_000


class Kind(NamedTuple):
    """How a recording is written: codecs, where there is picture and sound, and options of FFmpeg's."""

    suffix: str
    video: str | None = None
    audio: str | None = None
    coding: Mapping[str, str] = {}
    muxing: Mapping[str, str] = {}
    pixel_format: str = "yuv420p"
    rate_hz: int = RATE_HZ


X264 = {"preset": "veryfast", "g": "6"}
VPX = {"deadline": "realtime", "cpu-used": "8", "g": "6"}
KINDS = {
    "mp4": Kind("mp4", "libx264", "aac", X264),
    "mp4 index first": Kind("mp4", "libx264", "aac", X264, {"movflags": "faststart"}),
    "mp4 fragmented": Kind("mp4", "libx264", "aac", X264, {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "mp4 hevc": Kind("mp4", "libx265", "aac", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=6"}),
    "mp4 av1": Kind("mp4", "libsvtav1", "aac", {"preset": "12", "svtav1-params": "keyint=6"}),
    "mov": Kind("mov", "mpeg4", "pcm_s16le", {"g": "6"}),
    "mov mjpeg": Kind("mov", "mjpeg", "pcm_s16be", pixel_format="yuvj420p"),
    "mkv": Kind("mkv", "libx264", "aac", X264),
    "mkv flac": Kind("mkv", "mpeg4", "flac", {"g": "6"}),
    "webm vp8": Kind("webm", "libvpx", "libopus", VPX),
    "webm vp9": Kind("webm", "libvpx-vp9", "libopus", VPX),
    "avi": Kind("avi", "mpeg4", "libmp3lame", {"g": "6", "bf": "2"}),
    "avi mjpeg": Kind("avi", "mjpeg", "pcm_s16le", pixel_format="yuvj420p"),
    "ts": Kind("ts", "libx264", "aac", X264),
    "ts mpeg2": Kind("ts", "mpeg2video", "mp2", {"g": "6"}),
    "flv": Kind("flv", "flv", "libmp3lame", {"g": "6"}, rate_hz=44_100),
    "flv h264": Kind("flv", "libx264", "aac", X264),
    "mpg": Kind("mpg", "mpeg1video", "mp2", {"g": "6"}),
    "gif": Kind("gif", "gif", pixel_format="rgb8"),
    "wmv": Kind("wmv", "wmv2", "wmav2", {"g": "6"}),
    "wav": Kind("wav", None, "pcm_s16le"),
    "flac": Kind("flac", None, "flac"),
    "mp3": Kind("mp3", None, "libmp3lame"),
    "ac3": Kind("ac3", None, "ac3"),
    "m4a": Kind("m4a", None, "aac"),
    "aac": Kind("aac", None, "aac"),
    "ogg flac": Kind("ogg", None, "flac"),
    "ogg opus": Kind("ogg", None, "libopus"),
}
# Tags that programs put behind a sound: ID3, APE, Lyrics3.
ID3V1 = b"TAG" + bytes(125)
APE = b"APETAGEX" + struct.pack("<IIII8x", 2000, 32, 0, 1 << 31)
TRAILERS = (ID3V1, APE, APE + ID3V1, b"LYRICSBEGININD00002" + b"la " * 900 + b"002719LYRICS200" + ID3V1)

SOUNDS = {name: kind for name, kind in KINDS.items() if kind.audio}
VIDEOS = {name: kind for name, kind in KINDS.items() if kind.video}


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> npt.NDArray[np.uint8]:
    """A coloured gradient with noise on it, other noise in every frame: what takes some bytes to code."""
    x, y = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
    noise = np.random.default_rng(number).normal(0, 12, (height, width, 3))
    return np.clip(np.stack([x, y, 200 - x], axis=2) + 5 * number + noise, 0, 255).astype(np.uint8)


def write_recording(path: Path, kind: Kind, num_frames: int = 10, seconds: float = 0.0) -> Path:
    """Encode a video of so many frames and a sound of so many seconds, as long as the video if 0, to go with it."""
    seconds = seconds or (num_frames / FPS if kind.video else 2.0)
    with av.open(str(path), "w", container_options=dict(kind.muxing)) as output:
        tracks: list[tuple[Any, Callable[[], Any]]] = []
        if kind.video:
            video = output.add_stream(kind.video, rate=FPS, options=dict(kind.coding))
            assert isinstance(video, av.VideoStream)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, kind.pixel_format
            tracks.append((video, iter(_frames(num_frames)).__next__))
        if kind.audio:
            audio = output.add_stream(kind.audio, rate=kind.rate_hz, layout="mono")
            assert isinstance(audio, av.AudioStream)
            if kind.audio == "wmav2":
                audio.bit_rate = 64_000  # which its encoder wants to be told
            tracks.append((audio, iter(_blocks(audio, seconds, kind.rate_hz)).__next__))
        due = [(0.0, i) for i in range(len(tracks))]
        while due:
            _, i = due.pop(due.index(min(due)))
            stream, following = tracks[i]
            try:
                frame = following()
            except StopIteration:
                output.mux(stream.encode(None))
                continue
            output.mux(stream.encode(frame))
            due.append((frame.time, i))
    return path


def _frames(number: int) -> list[av.VideoFrame]:
    frames = [av.VideoFrame.from_ndarray(picture(i), format="rgb24") for i in range(number)]
    for i, frame in enumerate(frames):
        frame.pts, frame.time_base = i, Fraction(1, FPS)
    return frames


def _blocks(stream: av.AudioStream, seconds: float, rate_hz: int) -> list[av.AudioFrame]:
    context = stream.codec_context
    context.open(strict=False)
    convert = av.AudioResampler(context.format, "mono", rate_hz, context.frame_size or 1024)
    samples = np.ascontiguousarray(chord(seconds, rate_hz).reshape(1, -1))
    block = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    block.sample_rate, block.time_base, block.pts = rate_hz, Fraction(1, rate_hz), 0
    return convert.resample(block) + convert.resample(None)


def remux(
    source: Path, target: Path, muxing: Mapping[str, str] | None = None, since: float = 0.0, until: float = 1e9
) -> Path:
    """Copy the packets of a file, those that are decoded in an interval of seconds, into another."""
    with av.open(str(source)) as given, av.open(str(target), "w", container_options=dict(muxing or {})) as output:
        copies = {
            stream.index: output.add_stream_from_template(stream, opaque=True)
            for stream in given.streams
            if stream.type in ("video", "audio")
        }
        for packet in given.demux():
            if packet.dts is None or packet.stream_index not in copies or packet.time_base is None:
                continue
            if since <= packet.dts * packet.time_base < until:
                shift = round(since / packet.time_base)
                packet.dts -= shift
                packet.pts = None if packet.pts is None else packet.pts - shift
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    return target
