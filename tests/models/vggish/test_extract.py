"""Files -> VGGish features."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.vggish import Config
from models.vggish import checkpoint as published
from models.vggish.extract import Extractor
from models.vggish.net import VGGish
from tests.helpers.oracles import REPOSITORY, Array, relative_difference, shared
from tests.helpers.sounds import chord, noise, write_sound, write_wav
from tests.media.test_audio import write_silent_video
from tests.models.vggish.test_front_end import log_mel_by_definition, resample_by_resampy
from utils.errors import MediaError
from utils.media.options import DecodeOptions

pytest_plugins = ("tests.helpers.vggish_fixtures",)


@pytest.fixture(scope="module")
def untrained() -> Extractor:
    return Extractor(Config(weights="random"), "cpu")


def extract(extractor: Extractor, path: Path) -> Array:
    return extractor.extract(str(path), DecodeOptions()).arrays["vggish"]


def extract_by_resampy_and_numpy(network: VGGish, waveform: Array, rate_hz: int) -> Array:
    """Features of a waveform (samples,) with another front end."""
    frames = log_mel_by_definition(resample_by_resampy(waveform, rate_hz))
    patches = frames[: len(frames) // 96 * 96].reshape(-1, 96, 64)
    with torch.inference_mode():
        embeddings: Array = network(torch.from_numpy(patches).float()).numpy()
    return embeddings


def test_the_clips_features_are_the_references_also_quantized(
    seeded_checkpoint: Path, clip: str, reference: dict[str, Array]
) -> None:
    pca_path = shared("reference", "vggish_pca_params.npz")
    config = Config(vggish_model_path=str(seeded_checkpoint), vggish_pca_path=str(pca_path), postprocess=True)
    extractor = Extractor(config, "cpu")
    levels = extractor.extract(clip, DecodeOptions()).arrays["vggish"]
    extractor.pca = None
    features = extractor.extract(clip, DecodeOptions())
    embeddings = features.arrays["vggish"]
    assert embeddings.dtype == np.float32
    assert levels.dtype == np.uint8
    assert relative_difference(embeddings, reference["embedding"]) < 1e-4
    assert features.seconds == pytest.approx(800_768 / 44_100)
    np.testing.assert_allclose(features.spans, [(0.96 * i, 0.96 * (i + 1)) for i in range(18)])

    with np.load(pca_path) as file:
        rotated = (reference["embedding"] - file["pca_means"].ravel()) @ file["pca_eigen_vectors"].T
    expected = ((rotated.clip(-2, 2) + 2) * 255 / 4).astype(int)
    assert np.abs(levels - expected).max() <= 1  # rounding either way at a border
    assert (levels != expected).mean() < 0.01


@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (44_100, 2), (48_000, 6)])
def test_features_are_those_of_another_front_end(
    rate_hz: int, channels: int, untrained: Extractor, tmp_path: Path
) -> None:
    samples = noise(2, rate_hz, channels)
    ours = extract(untrained, write_wav(tmp_path / "noise.wav", samples, rate_hz))
    expected = extract_by_resampy_and_numpy(untrained.network, samples.mean(axis=1) / 2**15, rate_hz)
    assert len(expected) == 2
    assert relative_difference(ours, expected) < 1e-3


@pytest.mark.parametrize(
    ("name", "codec", "extra"),
    [
        ("a.wav", "pcm_s24le", {}),
        ("a.flac", "flac", {}),
        ("with a cover.mp3", "libmp3lame", {"cover": True}),
        ("a.m4a", "aac", {}),
        ("a.ogg", "libopus", {}),
        ("a.mkv", "ac3", {"picture_ms": 0}),
        ("a.webm", "libopus", {"picture_ms": 0}),
        ("a.avi", "ac3", {"picture_ms": 0}),
        ("a.mov", "pcm_s16le", {"picture_ms": 0}),
        ("a.mp4", "aac", {"picture_ms": 0}),
        ("a.ts", "aac", {"picture_ms": 0}),
    ],
)
def test_the_same_sound_is_the_same_to_the_network_from_any_file(
    name: str, codec: str, extra: dict[str, int], untrained: Extractor, tmp_path: Path
) -> None:
    """A shift by 20 ms makes a difference of 0.105; MP3 costs 0.05, the others 0.012 at most."""
    sound = chord(3, 48_000, channels=2)
    expected = mel_seen_by_the_network(untrained, write_wav(tmp_path / "plain.wav", sound, 48_000))
    path = write_sound(tmp_path / name, sound, 48_000, codec, **extra)  # type: ignore[arg-type]
    ours = mel_seen_by_the_network(untrained, path)
    assert len(ours) == 3
    assert relative_difference(ours, expected) < 0.06


def mel_seen_by_the_network(extractor: Extractor, path: Path) -> Array:
    """Mel magnitudes, without the logarithm."""
    seen: list[Tensor] = []
    hook = extractor.network.register_forward_pre_hook(lambda _, patches: seen.append(patches[0]))
    extractor.extract(str(path), DecodeOptions())
    hook.remove()
    magnitudes: Array = torch.cat(seen).exp().numpy()
    return magnitudes


@pytest.mark.parametrize(("seconds", "num_rows"), [(0.975, 1), (1.934, 1), (1.935, 2)])
def test_there_is_a_row_for_every_full_patch(
    seconds: float, num_rows: int, untrained: Extractor, tmp_path: Path
) -> None:
    path = write_wav(tmp_path / "short.wav", noise(seconds, 48_000), 48_000)
    assert len(extract(untrained, path)) == num_rows


def test_videos_without_sound_and_too_short_ones_are_refused(untrained: Extractor, tmp_path: Path) -> None:
    short, silent = write_wav(tmp_path / "short.wav", noise(0.974, 48_000), 48_000), tmp_path / "silent.mp4"
    write_silent_video(silent)
    for path, reason, message in ((short, "too_short", r"0\.974 s of sound"), (silent, "no_audio", "no audio stream")):
        with pytest.raises(MediaError, match=message) as caught:
            untrained.extract(str(path), DecodeOptions())
        assert caught.value.reason == reason


def test_a_late_sound_shifts_the_rows(untrained: Extractor, tmp_path: Path) -> None:
    samples = noise(1.92 + 0.015, 48_000)
    late = write_sound(tmp_path / "late.mkv", samples, 48_000, "pcm_s16le", times_ms=[960], picture_ms=0)
    in_time = write_wav(tmp_path / "in time.wav", samples, 48_000)
    np.testing.assert_allclose(extract(untrained, late)[1:], extract(untrained, in_time), atol=1e-6)


PEAK_MEMORY = """
import sys
import torch
from models.vggish import mel
from models.vggish.resample import resample
from utils.media.audio import Audio

torch.set_num_threads(1)
with Audio(sys.argv[1]) as sound:
    mono = (torch.from_numpy(block).float().mean(dim=1) / 2**15 for block in sound)
    num_patches = sum(len(patches) for patches in mel.patches(resample(mono, sound.rate_hz), batch_size=32))
with open("/proc/self/status") as status:  # ru_maxrss would begin with the parent's
    peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
print(num_patches, peak)
"""


def test_long_sound_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    peaks = []
    for minutes in (2, 10):
        path = write_wav(tmp_path / "long.wav", np.zeros((minutes * 60 * 44_100, 1), np.int16), 44_100)
        done = subprocess.run(
            [sys.executable, "-c", PEAK_MEMORY, path], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        num_patches, peak = map(int, done.stdout.split())
        assert num_patches == int((minutes * 60 - 0.015) / 0.96)
        peaks.append(peak)
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.pretrained
@pytest.mark.skipif(
    not (published.MODEL.path.exists() and published.PCA.path.exists()), reason="needs the published weights"
)
def test_published_weights_give_published_features_and_audiosets_values(clip: str, tmp_path: Path) -> None:
    """The sine's values are those of AudioSet's own smoke test, which resampled as resampy does."""
    weights = {"vggish_model_path": str(published.MODEL.path), "vggish_pca_path": str(published.PCA.path)}
    extractor = Extractor(Config(postprocess=True, **weights), "cpu")  # type: ignore[arg-type]
    samples = np.sin(2 * np.pi * 1000 * np.arange(3 * 44_100) / 44_100) * (2**15 - 1)
    sine = write_wav(tmp_path / "sine.wav", samples.astype(np.int16)[:, None], 44_100)
    levels = extract(extractor, sine)
    extractor.pca = None
    embeddings = extract(extractor, sine)
    for values, mean, deviation in ((levels, 123.0, 75.0), (embeddings, 0.131, 0.238)):
        assert values.mean() == pytest.approx(mean, rel=0.01)
        assert values.std() == pytest.approx(deviation, rel=0.01)
    with np.load(shared("reference", "pretrained.npz")) as file:
        assert relative_difference(extract(extractor, Path(clip)), file["vggish"]) < 0.01
