"""Decoding of sound, with files whose samples are known."""

from pathlib import Path

import av
import numpy as np
import pytest

from tests.helpers import sounds
from tests.helpers.sounds import chord, noise, write_sound, write_wav
from utils.errors import MediaError
from utils.media.audio import Audio
from utils.media.options import DecodeOptions


def decoded(path: Path, options: DecodeOptions | None = None) -> tuple[int, sounds.Audio]:
    """Return the rate, and all samples (samples, channels)."""
    with Audio(str(path), options) as sound:
        blocks = list(sound)
        assert sound.num_samples == sum(map(len, blocks))
    assert all(block.dtype == np.int16 for block in blocks)
    return sound.rate_hz, np.concatenate(blocks)


def lag(ours: sounds.Audio, expected: sounds.Audio) -> int:
    """Return how many samples later `ours` is than `expected`, where they are most alike."""
    size = 1 << 17
    spectra = [np.fft.rfft(samples[:, 0], size) for samples in (ours, expected)]
    alike = np.fft.irfft(spectra[0] * spectra[1].conj(), size)
    best = int(alike.argmax())
    return best - size if best > size // 2 else best


@pytest.mark.parametrize("rate_hz", [7_350, 8_000, 44_100, 44_099, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_pcm_comes_as_it_is(rate_hz: int, channels: int, tmp_path: Path) -> None:
    samples = noise(1.3, rate_hz, channels)
    rate, ours = decoded(write_wav(tmp_path / "a sound.wav", samples, rate_hz))
    assert rate == rate_hz
    np.testing.assert_array_equal(ours, samples)


@pytest.mark.parametrize(("name", "codec"), [("a.flac", "flac"), ("a.mkv", "pcm_s16le"), ("a.m4a", "alac")])
def test_lossless_sound_comes_as_it_was(name: str, codec: str, tmp_path: Path) -> None:
    samples = noise(1.3, 48_000, channels=2)
    _, ours = decoded(write_sound(tmp_path / name, samples, 48_000, codec))
    np.testing.assert_array_equal(ours, samples)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "aac"), ("a.m4a", "aac"), ("a.mov", "aac"), ("a.mp3", "libmp3lame"), ("a.ogg", "libopus")],
)
def test_what_an_encoder_puts_before_the_sound_is_left_out(name: str, codec: str, tmp_path: Path) -> None:
    samples = noise(2, 48_000)
    _, ours = decoded(write_sound(tmp_path / name, samples, 48_000, codec))
    assert abs(lag(ours, samples)) <= 1
    assert abs(len(ours) - len(samples)) < 3000  # the last frame may be padded


@pytest.mark.parametrize("name", ["late sound.mkv", "late.mov"])
def test_silence_precedes_a_sound_that_begins_later_than_the_picture(name: str, tmp_path: Path) -> None:
    samples = noise(1, 48_000)
    path = write_sound(tmp_path / name, samples, 48_000, "pcm_s16le", times_ms=[640], picture_ms=0)
    _, ours = decoded(path)
    assert not ours[:30_720].any()
    np.testing.assert_array_equal(ours[30_720:], samples)


def test_a_late_sound_of_an_edit_list_is_as_late_as_it_says(tmp_path: Path) -> None:
    samples = noise(1, 44_100)
    path = write_sound(tmp_path / "late.mp4", samples, 44_100, "aac", times_ms=[1000], picture_ms=0)
    _, ours = decoded(path)
    assert abs(lag(ours, samples) - 44_100) <= 44  # times in this file are milliseconds


def test_sound_from_before_the_picture_is_left_out(tmp_path: Path) -> None:
    samples = noise(2, 48_000)
    path = write_sound(tmp_path / "early.mkv", samples, 48_000, "pcm_s16le", picture_ms=520)
    _, ours = decoded(path)
    np.testing.assert_array_equal(ours, samples[24_960:])


def test_a_gap_in_the_sound_is_filled_with_silence(tmp_path: Path) -> None:
    samples = noise(2, 48_000)
    path = write_sound(tmp_path / "gap.mkv", samples, 48_000, "pcm_s16le", times_ms=[0, 3500])
    _, ours = decoded(path)
    assert len(ours) == 4.5 * 48_000
    np.testing.assert_array_equal(ours[:48_000], samples[:48_000])
    assert not ours[48_000:168_000].any()
    np.testing.assert_array_equal(ours[168_000:], samples[48_000:])


@pytest.mark.parametrize("second_part_ms", [930, 1060])
def test_small_errors_of_times_change_nothing(second_part_ms: int, tmp_path: Path) -> None:
    path = write_parts(tmp_path / "jitter.ts", [0, second_part_ms])
    assert len(decoded(path)[1]) == 2 * PART


def test_no_sound_is_lost_where_time_jumps_back(tmp_path: Path) -> None:
    path = write_parts(tmp_path / "jump.ts", [5000, 500, 2516])
    with pytest.raises(MediaError, match=r"1\.01 s of its sound are missing"):
        decoded(path)
    _, ours = decoded(path, DecodeOptions(allow_partial=True))
    assert (np.abs(ours[: 2 * PART]).reshape(-1, PART // 42).max(axis=1) > 0).all()
    assert not ours[2 * PART : 3 * PART].any()
    assert len(ours) == pytest.approx(4 * PART, abs=100)


PART = 42 * 1152  # samples, full frames of MP2


def write_parts(path: Path, times_ms: list[int]) -> Path:
    """Sounds of `PART` samples, of 48 kHz, each from its own time on, where no muxer minds that time jumps."""
    for time_ms in times_ms:
        part = write_sound(path.with_name("part.ts"), noise(PART / 48_000, 48_000), 48_000, "mp2", times_ms=[time_ms])
        with open(path, "ab") as file:
            file.write(part.read_bytes())
    return path


def test_channels_may_change_on_the_way(tmp_path: Path) -> None:
    parts = [
        write_sound(tmp_path / f"{channels}.aac", chord(1, 44_100, channels), 44_100, "aac", container_format="adts")
        for channels in (1, 2)
    ]
    path = tmp_path / "both.aac"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with Audio(str(path)) as sound:
        channels = [block.shape[1] for block in sound]
    assert channels == sorted(channels)
    assert set(channels) == {1, 2}
    assert sound.num_samples == pytest.approx(2 * 44_100, abs=4000)


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    samples = chord(2, 44_100)
    path = write_sound(tmp_path / "covered.mp3", samples, 44_100, "libmp3lame", cover=True)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    _, ours = decoded(path)
    assert abs(lag(ours, samples)) <= 1


def test_a_stream_without_sound_in_it_is_told(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "empty.wav", noise(0, 8_000), 8_000)
    with pytest.raises(MediaError, match="its audio stream holds no sound"):
        Audio(str(path))
