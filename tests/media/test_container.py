"""Files that are opened or refused, and what is noticed of damage while they are decoded."""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import av.logging
import pytest

from tests.helpers.clips import write_clip, write_numbered_clip
from tests.helpers.recordings import FPS, KINDS, TRAILERS, Kind, picture, remux, write_recording
from utils.errors import MediaError
from utils.media.audio import Audio
from utils.media.options import DecodeOptions
from utils.media.video import Video

PARTIAL = DecodeOptions(allow_partial=True)
NUM_FRAMES = 24
REALTIME = {
    "libvpx": {"g": "10", "deadline": "realtime"},
    "libvpx-vp9": {"g": "10", "deadline": "realtime"},
    "libsvtav1": {"g": "10", "preset": "12"},
}


def written(folder: Path, name: str, num_frames: int = NUM_FRAMES) -> Path:
    return write_recording(folder / f"whole.{KINDS[name].suffix}", KINDS[name], num_frames)


def num_decoded(path: Path | str, options: DecodeOptions | None = None) -> tuple[int, str]:
    """Return how many frames there are at the video's own rate, and what is said to be missing."""
    with Video(str(path), 32, options=options) as video:
        return sum(1 for _ in video), video.missing


def num_samples(path: Path | str, options: DecodeOptions | None = None) -> tuple[int, str]:
    """Return how many samples of sound there are, and what is said to be missing."""
    with Audio(str(path), options) as sound:
        return sum(len(block) for block in sound), sound.missing


def reason(path: Path | str, of: Callable[..., object] = num_decoded) -> str:
    with pytest.raises(MediaError) as caught:
        of(path)
    assert str(path) in str(caught.value)
    return caught.value.reason


def packets_of(path: Path, kind: str = "video") -> list[tuple[int, int]]:
    """Return the offsets and sizes, in bytes, of a stream's packets."""
    with av.open(str(path)) as container:
        return [(p.pos or 0, p.size) for p in container.demux() if p.size and p.stream.type == kind]


def overwrite(path: Path, begin: int, end: int, data: bytes = b"") -> None:
    whole = bytearray(path.read_bytes())
    whole[begin:end] = data or bytes(end - begin)
    path.write_bytes(whole)


def assert_whole(path: Path, num_frames: int | None, seconds: float | None) -> None:
    """Check that all frames and all seconds of sound come, and that nothing is said to be missing."""
    if num_frames is not None:
        assert num_decoded(path) == (num_frames, "")
    if seconds is not None:
        with Audio(str(path)) as sound:
            list(sound)
        assert sound.seconds == pytest.approx(seconds, abs=0.1)  # encoders fill their last packet
        assert sound.missing == ""


@pytest.mark.parametrize("name", KINDS)
def test_all_of_a_whole_file_comes_and_nothing_is_missing(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    seconds = NUM_FRAMES / FPS if kind.video else 2.0
    assert_whole(written(tmp_path, name), NUM_FRAMES if kind.video else None, seconds if kind.audio else None)


# Damage.


@pytest.mark.parametrize(
    "name", ["mp4 index first", "mp4 fragmented", "mkv", "webm vp9", "flv h264", "avi mjpeg", "wmv"]
)
def test_a_file_that_was_cut_off_is_refused_but_for_what_is_left(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, 50)
    os.truncate(path, packets_of(path)[25][0] + 1)
    assert reason(path) == "truncated"
    number, missing = num_decoded(path, PARTIAL)
    assert 10 <= number <= 25
    assert missing


@pytest.mark.parametrize(
    "name", ["mp4", "mp4 hevc", "mov mjpeg", "mkv", "webm vp8", "avi mjpeg", "flv h264", "ts", "ts mpeg2", "wmv"]
)
def test_what_is_missing_is_measured_in_seconds(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, 100)
    packets = packets_of(path)
    overwrite(path, packets[40][0], packets[60][0])
    with Video(str(path), 32, options=PARTIAL) as video:
        video._own_fps = video.fps = Fraction(FPS)
        list(video)
    lost = (100 - video._decoder._watch._num_frames) / FPS
    assert 0.5 < lost < 1.3
    assert video.missing_seconds == pytest.approx(lost, abs=0.09)  # two frames


@pytest.mark.parametrize("max_loss", [0.0, 0.02, 0.0399, 0.04, 1.0])
def test_what_may_be_missing_is_a_share_of_the_length(tmp_path: Path, max_loss: float) -> None:
    path = written(tmp_path, "mov mjpeg", 100)
    for begin, size in packets_of(path)[50:54]:  # 0.16 of 4 s, each frame coded by itself
        overwrite(path, begin, begin + size)
    options = DecodeOptions(max_loss=max_loss)
    if max_loss >= 0.04:
        assert num_decoded(path, options)[1].startswith("0.16 of 4.00 s are missing: ")
    else:
        with pytest.raises(MediaError, match=r"0\.16 of 4\.00 s are missing, more than --max_loss .* allows"):
            num_decoded(path, options)


def test_damage_of_which_nothing_is_missing_is_told_and_no_reason_to_fail(tmp_path: Path) -> None:
    path = written(tmp_path, "flv", 100)
    begin, _ = packets_of(path, "audio")[50]
    overwrite(path, begin - 4, begin)  # the size of the packet before
    number, missing = num_decoded(path, DecodeOptions(max_loss=0))
    assert number == 100
    assert missing.startswith("0.00 of 4.00 s are missing: ")


@pytest.mark.parametrize("place", [0.01, 0.5, 0.7])
@pytest.mark.parametrize("name", ["aac", "mp3", "flac"])
def test_sound_that_was_overwritten_is_missed(tmp_path: Path, name: str, place: float) -> None:
    path = written(tmp_path, name)
    size = path.stat().st_size
    begin = 400 + int((size - 400) * place)
    overwrite(path, begin, begin + size // 5)
    with Audio(str(path), PARTIAL) as sound:
        list(sound)
    assert sound.missing
    assert name == "flac" or sound.missing_seconds == pytest.approx(0.4, abs=0.2)  # a fifth of 2 s, in larger packets


@pytest.mark.parametrize("name", ["mp4", "mp4 fragmented", "mkv", "mov", "avi"])
def test_the_first_frames_are_missed(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    begin, size = packets_of(path)[0]
    overwrite(path, begin + 20, begin + size - 20, b"\xa5" * (size - 40))
    assert reason(path) == "corrupt"


def test_a_rate_that_is_not_that_of_the_frames_is_refused(tmp_path: Path) -> None:
    clip = write_numbered_clip(tmp_path / "clip.mkv", 50)
    with Video(str(clip), 32) as video:
        video._own_fps = video.fps = Fraction(2)
        with pytest.raises(MediaError, match="its frames are not of 2 a second"):
            list(video)


# Messages of FFmpeg.


def test_messages_of_one_file_are_not_taken_for_anothers(tmp_path: Path) -> None:
    whole = written(tmp_path, "mkv", 100)
    damaged = Path(shutil.copy(whole, tmp_path / "damaged.mkv"))
    overwrite(damaged, 20_000, 23_000)
    found: dict[Path, set[bool]] = {whole: set(), damaged: set()}

    def decode(path: Path) -> None:
        for _ in range(15):
            found[path].add(bool(num_decoded(path, PARTIAL)[1]))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(decode, (whole, damaged) * 2, timeout=60))
    assert found == {whole: {False}, damaged: {True}}


def test_nothing_is_left_of_listening_to_messages(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, "mkv")
    (tmp_path / "text.mp4").write_text("no media")
    overwrite(path, path.stat().st_size // 2, path.stat().st_size // 2 + 3000)
    for _ in range(2):
        assert reason(tmp_path / "text.mp4") == "unreadable"
        assert reason(path) == "corrupt"
    assert av.logging.get_level() is None
    assert av.logging.get_skip_repeated()
    assert caplog.text == ""


# Times.


def slides(path: Path, times_s: list[float]) -> Path:
    times_ms = [round(1000 * time) for time in times_s]
    frames = (picture(i) for i in range(len(times_ms)))
    return write_clip(path, frames, rate=1000, codec="libvpx-vp9", times_ms=times_ms)


@pytest.mark.parametrize("name", ["slides.mkv", "slides.webm", "slides.mp4"])
def test_slides_are_shown_as_long_as_they_are(tmp_path: Path, name: str) -> None:
    path = slides(tmp_path / name, [0, 55, 100, 100.04, 300, 1200])
    with Video(str(path), 32, 1.0) as video:
        assert sum(1 for _ in video) == pytest.approx(1200, abs=201)  # the last one as long as one before it


@pytest.mark.parametrize("seconds", [498.6, 100.0, 1.6])
def test_a_jump_beyond_the_length_that_the_file_tells_is_refused(tmp_path: Path, seconds: float) -> None:
    path = slides(tmp_path / "clip.mkv", [i / 25 for i in range(40)] + [500.0])
    place = path.read_bytes().index(b"\x44\x89\x88") + 3  # in milliseconds
    overwrite(path, place, place + 8, struct.pack(">d", 1000 * seconds))
    with Video(str(path), 32, 1.0) as video:
        if seconds > 490:
            assert sum(1 for _ in video) == pytest.approx(500, abs=2)
        else:
            with pytest.raises(MediaError, match="its time jumps by 498 s"):
                list(video)


def test_a_picture_that_never_begins_takes_no_sound_away(tmp_path: Path) -> None:
    path = written(tmp_path, "flv")
    whole, _ = num_samples(path)
    for place, _ in packets_of(path):
        overwrite(path, place + 7, place + 8, b"\x7f")  # the highest byte of its time
    assert reason(path, num_samples) == "corrupt"
    samples, missing = num_samples(path, PARTIAL)
    assert samples == pytest.approx(whole, abs=2400)
    assert "its video begins" in missing


@pytest.mark.parametrize(
    ("name", "num_frames", "start_s"),
    [(name, number, 0) for name in ("ts", "ts mpeg2", "mpg", "mp3", "aac", "ogg opus") for number in (30, 80)]
    + [("ts", 50, 3000), ("ts", 50, 90000)],
)
def test_recordings_that_were_joined_follow_each_other(
    tmp_path: Path, name: str, num_frames: int, start_s: int
) -> None:
    kind = KINDS[name]._replace(muxing={"output_ts_offset": str(start_s)} if start_s else {})
    path = written(tmp_path, name, 50)
    second = write_recording(tmp_path / f"later.{kind.suffix}", kind, num_frames, num_frames / FPS)
    path.write_bytes(path.read_bytes() + second.read_bytes())
    assert_whole(path, 50 + num_frames if kind.video else None, 2 + num_frames / FPS)


# What is odd, and whole.


@pytest.mark.parametrize("since", [0.0, 0.2, 0.5])
@pytest.mark.parametrize(
    ("kind", "suffix"),
    [(KINDS["ts"], suffix) for suffix in ("mp4", "mkv", "mov", "ts", "flv")]
    + [(Kind("mkv", codec, "aac", coding), "mkv") for codec, coding in REALTIME.items()],
)
def test_copies_of_packets_may_begin_amid_frames_that_build_on_others(
    tmp_path: Path, kind: Kind, suffix: str, since: float
) -> None:
    source = write_recording(tmp_path / f"source.{kind.suffix}", kind, 50)
    path = remux(source, tmp_path / f"copy.{suffix}", since=since)
    number, missing = num_decoded(path)
    assert -1 <= 50 - FPS * since - number <= int(kind.coding["g"]) + 1
    assert not missing
    assert not num_samples(path)[1]


@pytest.mark.parametrize(("name", "place"), [("ts", 188 * 40), ("ts", 188 * 40 + 77), ("mpg", 6144), ("mpg", 6221)])
def test_a_recording_of_a_broadcast_begins_anywhere(tmp_path: Path, name: str, place: int) -> None:
    path = written(tmp_path, name, 100)
    path.write_bytes(path.read_bytes()[place:])
    number, missing = num_decoded(path)
    assert 60 < number < 100
    assert not missing
    assert not num_samples(path)[1]


@pytest.mark.parametrize(
    ("codec", "coding"),
    [
        ("libx264", {"g": "12", "x264-params": "open-gop=1:bframes=3:scenecut=0"}),
        ("libx265", {"x265-params": "open-gop=1:keyint=12:bframes=4:scenecut=0:log-level=none"}),
        ("libx264", {"x264-params": "interlaced=1:tff=1"}),
        ("mpeg2video", {"g": "12", "bf": "2"}),
        ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "5"}),
        ("libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "5"}),
    ],
)
def test_frames_that_are_hidden_halved_or_out_of_order_are_no_damage(
    tmp_path: Path, codec: str, coding: dict[str, str]
) -> None:
    path = write_recording(tmp_path / "clip.mkv", Kind("mkv", codec, None, coding), 60)
    assert_whole(path, 60, None)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "flv"])
@pytest.mark.parametrize(("num_frames", "seconds"), [(25, 4.0), (100, 1.0)])
def test_one_stream_may_end_before_the_other(tmp_path: Path, suffix: str, num_frames: int, seconds: float) -> None:
    path = write_recording(tmp_path / f"uneven.{suffix}", KINDS[suffix], num_frames, seconds)
    assert_whole(path, num_frames, seconds)


@pytest.mark.parametrize("states_size", ["0", "1"])
@pytest.mark.parametrize("behind", [*TRAILERS, bytes(300), b"\r\n"])
def test_what_is_put_behind_an_mp3_is_no_damage(tmp_path: Path, states_size: str, behind: bytes) -> None:
    path = write_recording(tmp_path / "sound.mp3", KINDS["mp3"]._replace(muxing={"write_xing": states_size}))
    path.write_bytes(path.read_bytes() + behind)
    assert_whole(path, None, 2.0)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x80000000, 0xFFFFFFFF])
def test_a_wav_file_from_a_pipe_is_whole(tmp_path: Path, size: int) -> None:
    path = written(tmp_path, "wav")
    whole, _ = num_samples(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[4:8] = data[place : place + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)
    assert num_samples(path) == (whole, "")


# What is refused.

HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{}'\n"
SUBTITLES = "1\n00:00:00,000 --> 00:00:02,000\nHello\n\n2\n00:00:02,000 --> 00:00:03,000\nthere, {}\n"
DASH = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet
mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet>
</Period></MPD>"""


@pytest.mark.parametrize(
    "text", ["", "\0" * 5000, HLS, CONCAT, SUBTITLES, DASH, "A text, {}.\n" * 40, "v=0\nm=video {}\n"]
)
@pytest.mark.parametrize("suffix", ["mp4", "m3u8"])
def test_lists_and_texts_are_no_media_whatever_they_are_called(tmp_path: Path, text: str, suffix: str) -> None:
    clip = written(tmp_path, "ts")
    path = tmp_path / f"list.{suffix}"
    path.write_text(text.replace("{}", clip.name))
    assert reason(path) == "unreadable"
    assert reason(path, num_samples) == "unreadable"


@pytest.mark.parametrize("scheme", ["concat:", "data:", "pipe:0", "-"])
def test_files_may_be_called_like_protocols(tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "mp4").rename(tmp_path / scheme)
    monkeypatch.chdir(tmp_path)
    assert num_decoded(Path(scheme)) == (NUM_FRAMES, "")


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.mp4")
    for of in (num_decoded, num_samples):
        assert reason(tmp_path / "fifo.mp4", of) == "not_a_file"
        assert reason("/dev/zero", of) == "not_a_file"
        assert reason(tmp_path, of) == "not_a_file"
        assert reason(tmp_path / "none.mp4", of) == "not_found"


SIDE = 15_000


def huge_png(path: Path) -> Path:
    """One black frame, 15000 pixels high and wide, in some kilobytes."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("png", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "monob"
        frame = av.VideoFrame(SIDE, SIDE, "monob")
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def huge_gif(path: Path) -> Path:
    """A small one that says that it is huge."""
    data = bytearray(write_recording(path, KINDS["gif"], 2).read_bytes())
    place = data.index(b",\0\0\0\0") + 5
    data[6:10] = data[place : place + 4] = struct.pack("<HH", SIDE, SIDE)
    path.write_bytes(data)
    return path


OPEN = """
import resource, sys
from utils.errors import MediaError
from utils.media.video import Video
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    with Video(sys.argv[1], 256) as video:
        list(video)
except MediaError as error:
    print(error.reason, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(("name", "write"), [("a.mp4", huge_png), ("a.gif", huge_gif)])
def test_huge_frames_are_refused_before_memory_is_taken_for_them(
    tmp_path: Path, name: str, write: Callable[[Path], Path]
) -> None:
    path = write(tmp_path / name)
    assert path.stat().st_size < 2**20
    run = subprocess.run([sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=True)
    why, kib = run.stdout.split()
    assert why == "too_large"
    assert int(kib) < 100 * 1024  # a frame is 225 million pixels


@pytest.mark.parametrize(("limit", "fits"), [(96 * 64, True), (96 * 64 - 1, False)])
@pytest.mark.parametrize("name", ["mp4", "webm vp8", "gif"])
def test_the_limit_of_pixels_is_that_of_the_user(tmp_path: Path, name: str, limit: int, fits: bool) -> None:
    path = written(tmp_path, name)
    read = partial(num_decoded, options=DecodeOptions(max_pixels=limit))
    assert read(path) == (NUM_FRAMES, "") if fits else reason(path, read) == "too_large"


def test_a_stream_of_an_unknown_codec_is_unreadable(tmp_path: Path) -> None:
    path = written(tmp_path, "mkv")
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/AVC").replace(b"A_AAC", b"A_XXX"))
    assert reason(path) == "unreadable"
    assert reason(path, num_samples) in ("unreadable", "no_audio")
