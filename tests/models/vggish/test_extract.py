"""Files -> VGGish features, and the program around it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import main
from models.vggish import Config, weights_wanted
from models.vggish import checkpoint as published
from models.vggish.extract import Extractor
from models.vggish.net import VGGish
from tests.helpers.oracles import REPOSITORY, Array, relative_difference, shared
from tests.helpers.sounds import Audio, chord, noise, write_sound, write_wav
from tests.media.test_audio import write_silent_video
from tests.models.vggish.test_front_end import by_definition, by_later_resampy
from utils.errors import MediaError
from utils.outputs.writers import describe, is_saved, save_numpy
from utils.results import Features

pytest_plugins = ("tests.helpers.vggish_fixtures",)


@pytest.fixture(scope="module")
def untrained() -> Extractor:
    return Extractor(Config(weights="random"), "cpu")


def features_of(extractor: Extractor, path: Path) -> Array:
    return extractor.extract(str(path)).arrays["vggish"]


def by_resampy_and_numpy(network: VGGish, waveform: Array, rate_hz: int) -> Array:
    """Features of a waveform (samples,) with another front end."""
    frames = by_definition(by_later_resampy(waveform, rate_hz))
    patches = frames[: len(frames) // 96 * 96].reshape(-1, 96, 64)
    with torch.inference_mode():
        embeddings: Array = network(torch.from_numpy(patches).float()).numpy()
    return embeddings


@pytest.fixture(scope="module")
def seeded(seeded_checkpoint: Path) -> Extractor:
    return Extractor(Config(vggish_model_path=str(seeded_checkpoint)), "cpu")


def test_the_clips_features_are_the_references(seeded: Extractor, clip: str, reference: dict[str, Array]) -> None:
    features = seeded.extract(clip)
    ours = features.arrays["vggish"]
    assert ours.dtype == np.float32
    assert relative_difference(ours, reference["embedding"]) < 1e-3
    assert features.seconds == pytest.approx(800_768 / 44_100)
    np.testing.assert_allclose(features.spans, [(0.96 * i, 0.96 * (i + 1)) for i in range(18)])


@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (16_000, 1), (44_100, 2), (48_000, 6), (96_000, 2)])
def test_features_are_those_of_another_front_end(
    rate_hz: int, channels: int, untrained: Extractor, tmp_path: Path
) -> None:
    samples = noise(2, rate_hz, channels)
    ours = features_of(untrained, write_wav(tmp_path / "noise.wav", samples, rate_hz))
    expected = by_resampy_and_numpy(untrained.network, samples.mean(axis=1) / 2**15, rate_hz)
    assert len(expected) == 2
    assert relative_difference(ours, expected) < 1e-3


def test_all_channels_count_alike(untrained: Extractor, tmp_path: Path) -> None:
    mono = noise(1, 48_000)
    six = mono + np.array([-900, -30, 0, 0, 30, 900], np.int16)
    ours = features_of(untrained, write_wav(tmp_path / "six.wav", six, 48_000))
    np.testing.assert_array_equal(ours, features_of(untrained, write_wav(tmp_path / "mono.wav", mono, 48_000)))


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
    expected = mel_of(untrained, write_wav(tmp_path / "plain.wav", sound, 48_000))
    ours = mel_of(untrained, write_sound(tmp_path / name, sound, 48_000, codec, **extra))  # type: ignore[arg-type]
    assert len(ours) == 3
    assert relative_difference(ours, expected) < 0.06


def mel_of(extractor: Extractor, path: Path) -> Array:
    """What the network of an extractor is given, without the logarithm."""
    seen: list[Tensor] = []
    hook = extractor.network.register_forward_pre_hook(lambda _, patches: seen.append(patches[0]))
    extractor.extract(str(path))
    hook.remove()
    magnitudes: Array = torch.cat(seen).exp().numpy()
    return magnitudes


@pytest.mark.parametrize(
    ("seconds", "num_rows"), [(0.5, None), (0.974, None), (0.975, 1), (1.934, 1), (1.935, 2), (3, 3)]
)
def test_there_is_a_row_for_every_full_patch(
    seconds: float, num_rows: int | None, untrained: Extractor, tmp_path: Path
) -> None:
    path = write_wav(tmp_path / "short.wav", noise(seconds, 48_000), 48_000)
    if num_rows is None:
        with pytest.raises(MediaError, match=rf"{seconds:.3f} s of sound") as caught:
            untrained.extract(str(path))
        assert caught.value.reason == "too_short"
    else:
        assert len(features_of(untrained, path)) == num_rows


def test_a_late_sound_shifts_the_rows(untrained: Extractor, tmp_path: Path) -> None:
    samples: Audio = noise(1.92 + 0.015, 48_000)
    late = write_sound(tmp_path / "late.mkv", samples, 48_000, "pcm_s16le", times_ms=[960], picture_ms=0)
    in_time = write_wav(tmp_path / "in time.wav", samples, 48_000)
    np.testing.assert_allclose(features_of(untrained, late)[1:], features_of(untrained, in_time), atol=1e-6)


def run_main(*arguments: str | Path) -> int:
    return main.main(["--feature_type", "vggish", "--device_ids", "cpu", *map(str, arguments)])


def test_the_program_saves_features_and_tells_what_failed(
    seeded_checkpoint: Path,
    clip: str,
    reference: dict[str, Array],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    silent, short = tmp_path / "without sound.mp4", tmp_path / "half a second.wav"
    write_silent_video(silent)
    write_wav(short, noise(0.5, 8_000), 8_000)
    saving: list[str | Path] = ["--on_extraction", "save_numpy", "--output_path", tmp_path / "output"]
    weights: list[str | Path] = ["--vggish_model_path", seeded_checkpoint]

    assert run_main("--video_paths", silent, short, clip, *saving, *weights) == 1
    told = capfd.readouterr().err
    assert f"failed (no_audio): {silent}: no audio stream" in told
    assert f"failed (too_short): {short}: 0.500 s of sound" in told
    rows = np.load(tmp_path / "output" / "v_GGSY1Qvo990_vggish.npy")
    assert rows.dtype == np.float32
    assert relative_difference(rows, reference["embedding"]) < 1e-3

    assert run_main("--video_paths", clip, *saving, *weights) == 0
    assert "1 skipped" in capfd.readouterr().err

    pca = shared("reference", "vggish_pca_params.npz")
    quantized: list[str | Path] = ["--postprocess", "--vggish_pca_path", pca]
    assert run_main("--video_paths", clip, *saving, *weights, *quantized) == 3
    assert "postprocess was False and is True" in capfd.readouterr().err
    assert run_main("--video_paths", clip, *saving, *weights, *quantized, "--overwrite") == 0
    levels = np.load(tmp_path / "output" / "v_GGSY1Qvo990_vggish.npy")
    assert levels.dtype == np.uint8
    with np.load(pca) as file:
        rotated = (reference["embedding"] - file["pca_means"].ravel()) @ file["pca_eigen_vectors"].T
    expected = ((rotated.clip(-2, 2) + 2) * 255 / 4).astype(int)
    assert np.abs(levels - expected).max() <= 1  # rounding either way at a border
    assert (levels != expected).mean() < 0.01

    assert run_main("--video_paths", clip, *saving, *weights, *quantized) == 0
    assert "1 skipped" in capfd.readouterr().err


def test_missing_weights_are_told_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("--video_paths", "a.mp4", "--vggish_model_path", tmp_path / "nowhere.pth") == 3
    assert "--vggish_model_path: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--weights", "random", "--postprocess"], ["--weights", "random", "--vggish_model_path", "weights.pth"]],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_main("--video_paths", "a.mp4", *arguments)
    assert caught.value.code == 2
    assert "--weights random" in capsys.readouterr().err


def test_the_pca_is_wanted_for_postprocessing_alone() -> None:
    assert set(weights_wanted(Config())) == {"vggish_model_path"}
    wanted = weights_wanted(Config(postprocess=True, vggish_pca_path="pca.npz"))
    assert wanted["vggish_pca_path"] == (published.PCA, "pca.npz")


def test_quantized_features_are_saved_and_known_again(tmp_path: Path) -> None:
    rows = np.arange(256, dtype=np.uint8).reshape(2, 128)
    features = Features({"vggish": rows}, [(0.0, 0.96), (0.96, 1.92)], 2.0)
    save_numpy(features, tmp_path, "a sound")
    saved = np.load(tmp_path / "a sound_vggish.npy")
    assert saved.dtype == np.uint8
    np.testing.assert_array_equal(saved, rows)
    assert is_saved(tmp_path, "a sound", ["vggish"])
    assert "255.0000" in describe("a sound.wav", features)


PEAK_MEMORY = """
import sys
import torch
from models.vggish import mel
from models.vggish.resample import resampled
from utils.media.audio import Audio

torch.set_num_threads(1)
with Audio(sys.argv[1]) as sound:
    mono = (torch.from_numpy(block).float().mean(dim=1) / 2**15 for block in sound)
    num_patches = sum(len(patches) for patches in mel.patches(resampled(mono, sound.rate_hz), batch_size=32))
with open("/proc/self/status") as status:  # ru_maxrss would begin with the parent's
    peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
print(num_patches, peak)
"""


def test_long_sound_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    peaks = []
    for minutes in (2, 20):
        path = write_wav(tmp_path / "long.wav", np.zeros((minutes * 60 * 44_100, 1), np.int16), 44_100)
        done = subprocess.run(
            [sys.executable, "-c", PEAK_MEMORY, path], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        num_patches, peak = map(int, done.stdout.split())
        assert num_patches == int((minutes * 60 - 0.015) / 0.96)
        peaks.append(peak)
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.pretrained
@pytest.mark.skipif(not published.MODEL.path.exists(), reason="needs the published weights")
def test_published_weights_give_published_features(clip: str, tmp_path: Path) -> None:
    extractor = Extractor(Config(vggish_model_path=str(published.MODEL.path)), "cpu")
    with np.load(shared("reference", "pretrained.npz")) as file:
        assert relative_difference(extractor.extract(clip).arrays["vggish"], file["vggish"]) < 0.01
    embeddings = features_of(extractor, one_khz_sine(tmp_path))
    assert embeddings.mean() == pytest.approx(0.131, rel=0.01)
    assert embeddings.std() == pytest.approx(0.238, rel=0.01)


@pytest.mark.pretrained
@pytest.mark.skipif(
    not (published.MODEL.path.exists() and published.PCA.path.exists()), reason="needs the published weights"
)
def test_published_weights_give_audiosets_quantized_values(tmp_path: Path) -> None:
    """The values of AudioSet's own smoke test, which resampled as resampy does."""
    config = Config(
        postprocess=True, vggish_model_path=str(published.MODEL.path), vggish_pca_path=str(published.PCA.path)
    )
    levels = features_of(Extractor(config, "cpu"), one_khz_sine(tmp_path))
    assert levels.mean() == pytest.approx(123.0, rel=0.01)
    assert levels.std() == pytest.approx(75.0, rel=0.01)


def one_khz_sine(folder: Path) -> Path:
    """Three seconds at full scale."""
    samples = np.sin(2 * np.pi * 1000 * np.arange(3 * 44_100) / 44_100) * (2**15 - 1)
    return write_wav(folder / "sine.wav", samples.astype(np.int16)[:, None], 44_100)
