"""Files -> VGGish features."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from models.vggish import Config
from models.vggish import checkpoint as published
from models.vggish.extract import Extractor
from tests.helpers.clips import write_clip
from tests.helpers.oracles import Array, relative_difference, shared
from tests.helpers.sounds import noise, write_sound, write_wav
from utils.errors import MediaError
from utils.media.options import DecodeOptions

pytest_plugins = ("tests.helpers.vggish_fixtures",)


@pytest.fixture(scope="module")
def untrained() -> Extractor:
    return Extractor(Config(weights="random"), "cpu")


def extract(extractor: Extractor, path: Path) -> Array:
    return extractor.extract(str(path), DecodeOptions()).arrays["vggish"]


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
    assert len(np.unique(expected)) > 20, "not all of them are clipped"


def test_channels_are_averaged(untrained: Extractor, tmp_path: Path) -> None:
    mono = noise(1, 48_000)
    six = mono + np.array([-900, -30, 0, 0, 30, 900], np.int16)
    paths = [write_wav(tmp_path / f"{samples.shape[1]}.wav", samples, 48_000) for samples in (mono, six)]
    of_mono, of_six = (extract(untrained, path) for path in paths)
    np.testing.assert_array_equal(of_mono, of_six)


@pytest.mark.parametrize(("seconds", "num_rows"), [(0.975, 1), (1.934, 1), (1.935, 2)])
def test_there_is_a_row_for_every_full_patch(
    seconds: float, num_rows: int, untrained: Extractor, tmp_path: Path
) -> None:
    path = write_wav(tmp_path / "short.wav", noise(seconds, 48_000), 48_000)
    assert len(extract(untrained, path)) == num_rows


def test_videos_without_sound_and_too_short_ones_are_refused(untrained: Extractor, tmp_path: Path) -> None:
    short, silent = write_wav(tmp_path / "short.wav", noise(0.974, 48_000), 48_000), tmp_path / "silent.mp4"
    write_clip(silent, [np.zeros((48, 64, 3), np.uint8)] * 25)
    for path, reason, message in ((short, "too_short", r"0\.974 s of sound"), (silent, "no_audio", "no audio stream")):
        with pytest.raises(MediaError, match=message) as caught:
            untrained.extract(str(path), DecodeOptions())
        assert caught.value.reason == reason


def test_rows_begin_every_hop_and_equal_those_of_the_sound_from_there_on(
    untrained: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = noise(3, 16_000)
    monkeypatch.setattr(untrained, "batch_size", 3)
    monkeypatch.setattr(untrained, "config", Config(hop_seconds=0.29))
    features = untrained.extract(str(write_wav(tmp_path / "whole.wav", samples, 16_000)), DecodeOptions())
    starts = (0, 29, 58, 87, 116, 145, 174, 203)  # 100ths of a second; 203 + 97.5 are just more than there are
    assert features.spans == [(start / 100, (start + 96) / 100) for start in starts[:-1]]
    monkeypatch.undo()
    rows = features.arrays["vggish"]
    for row, start in zip(rows, starts[:-1], strict=True):
        path = write_wav(tmp_path / "part.wav", samples[160 * start :], 16_000)
        assert relative_difference(row, extract(untrained, path)[0]) < 1e-5
    assert all(relative_difference(row, before) > 1e-3 for row, before in pairwise(rows)), "the rows differ"


def test_every_multiple_of_a_hundredth_of_a_second_is_a_hop() -> None:
    """As people write them: 0.29 * 100 is not 29 in floating point."""
    hops = [Config(hop_seconds=float(f"{i // 100}.{i % 100:02}")).hop_frames for i in range(1, 1001)]
    assert hops == list(range(1, 1001))


@pytest.mark.parametrize(
    ("num_samples", "rate_hz"), [(1, 16_000), (15_599, 16_000), (22_050, 44_100), (1, 48_000), (12_036, 12_345)]
)
def test_short_sounds_are_padded_with_silence_where_that_is_asked_for(
    num_samples: int, rate_hz: int, untrained: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = noise(num_samples / rate_hz, rate_hz)
    whole = np.concatenate([samples, np.zeros((rate_hz - num_samples, 1), np.int16)])
    expected = extract(untrained, write_wav(tmp_path / "whole.wav", whole, rate_hz))
    monkeypatch.setattr(untrained, "config", Config(pad_short=True))
    features = untrained.extract(str(write_wav(tmp_path / "short.wav", samples, rate_hz)), DecodeOptions())
    assert features.seconds == num_samples / rate_hz
    assert features.spans == [(0, 0.96)]
    assert relative_difference(features.arrays["vggish"], expected) < 1e-5


def test_a_sound_of_no_length_is_refused_also_where_short_ones_are_padded(
    untrained: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = write_sound(tmp_path / "early.mkv", noise(0.5, 16_000), 16_000, "pcm_s16le", picture_ms=1000)
    monkeypatch.setattr(untrained, "config", Config(pad_short=True))
    with pytest.raises(MediaError, match=r"0\.000 s of sound, and VGGish needs some") as caught:
        untrained.extract(str(early), DecodeOptions())
    assert caught.value.reason == "too_short"


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
