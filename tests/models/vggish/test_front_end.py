"""Waveform -> log-mel patches, against resampy, NumPy and the reference."""

import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from models.vggish import mel
from models.vggish.chunks import pad
from models.vggish.resample import resample
from tests.helpers.oracles import Array, oracle, relative_difference
from tests.helpers.sounds import chirp, noise

pytest_plugins = ("tests.helpers.vggish_fixtures",)

RATES = (8_000, 11_025, 12_345, 16_000, 22_050, 44_100, 48_000, 192_000)
KAISER_BEST = {"num_zeros": 64, "precision": 9, "rolloff": 0.9475937167399596}  # of resampy 0.2.2


def resample_whole(waveform: Array, rate_hz: int, block: int = 10_000) -> Array:
    blocks = torch.split(torch.from_numpy(waveform).float(), block)
    return torch.cat([torch.zeros(0), *resample(blocks, rate_hz)]).numpy()


def resample_by_resampy(waveform: Array, rate_hz: int) -> Array:
    """Resample by the installed release with the filter of 0.2.2."""

    kaiser = functools.partial(np.kaiser, beta=14.769656459379492)
    resample = oracle("resampy").resample
    result: Array = resample(waveform, rate_hz, 16_000, filter="sinc_window", window=kaiser, **KAISER_BEST)
    return result


def log_mel_by_definition(waveform: Array) -> Array:
    """Log-mel frames (T, 64) of a 16 kHz waveform, float64, as AudioSet describes them: bin by bin."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    starts = range(0, len(waveform) - 399, 160)
    magnitudes = np.array([np.abs(np.fft.rfft(waveform[start : start + 400] * hann, 512)) for start in starts])
    edges = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    mel_bands = np.zeros((len(starts), 64))
    for index in range(1, 257):
        centre_mel = 1127 * np.log(1 + index * 31.25 / 700)
        for band, (below, centre, above) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
            if below < centre_mel < above:
                rise, fall = (centre_mel - below) / (centre - below), (above - centre_mel) / (above - centre)
                mel_bands[:, band] += min(rise, fall) * magnitudes[:, index]
    return np.log(mel_bands + 0.01)


@pytest.mark.parametrize("rate_hz", RATES)
def test_resampling_equals_that_of_resampy(rate_hz: int) -> None:
    for waveform in (noise(3, rate_hz)[:, 0] / 2**15, chirp(3, rate_hz)):
        ours, expected = resample_whole(waveform, rate_hz), resample_by_resampy(waveform, rate_hz)
        assert relative_difference(ours, expected) < 2e-6
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_chunks_meet_without_a_seam() -> None:
    waveform = noise(32, 44_100)[:, 0] / 2**15
    ours = resample_whole(waveform, 44_100)
    part = resample_by_resampy(waveform[29 * 44_100 : 31 * 44_100], 44_100)
    np.testing.assert_allclose(ours[479_800:480_200], part[15_800:16_200], rtol=0, atol=1e-5)  # at 30 s


def test_the_result_does_not_depend_on_the_blocks() -> None:
    waveform = noise(32, 11_025)[:, 0] / 2**15
    whole = resample_whole(waveform, 11_025, block=len(waveform))
    for block in (101, 1024, 31 * 11_025):
        np.testing.assert_array_equal(resample_whole(waveform, 11_025, block), whole)


@pytest.mark.parametrize("rate_hz", [7_350, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("num_samples", [0, 1, 441, 12_345])
def test_resampled_sound_has_as_many_samples_as_the_rates_tell_rounded_down(rate_hz: int, num_samples: int) -> None:
    assert len(resample_whole(np.ones(num_samples), rate_hz)) == num_samples * 16_000 // rate_hz


def endless(block: Tensor, read: list[Tensor]) -> Iterator[Tensor]:
    """Yield a block for ever, and note each time that it is read."""
    while True:
        read.append(block)
        yield block


def test_resampling_reads_no_more_than_a_chunk_ahead() -> None:
    read: list[Tensor] = []
    chunks = resample(endless(torch.zeros(44_100), read), 44_100)
    for number in range(1, 4):
        assert len(next(chunks)) == 30 * 16_000
        assert len(read) <= 30 * number + 1


def test_log_mel_is_as_defined() -> None:
    waveform = noise(0.5, 16_000)[:, 0] / 2**15 + 0.1
    waveform[4000:6000] = 0
    ours = mel.log_mel(torch.from_numpy(waveform).float())
    np.testing.assert_allclose(ours.numpy(), log_mel_by_definition(waveform), atol=1e-5)


def test_the_clip_resampled_and_its_log_mel_are_near_the_reference(
    clip_samples: npt.NDArray[np.int16], reference: dict[str, Array]
) -> None:
    """The reference is of resampy 0.2.2, which places some outputs just before the input that they fall on."""
    waveform = resample_whole(clip_samples / 2**15, 44_100)
    assert relative_difference(waveform, reference["waveform_16k"]) < 1e-4
    patches = torch.cat(list(mel.patches([torch.from_numpy(waveform)], batch_size=5)))
    assert patches.shape == (18, 96, 64)
    assert relative_difference(patches, reference["log_mel"]) < 2e-4
    np.testing.assert_allclose(patches.numpy(), reference["log_mel"], rtol=0, atol=5e-3)


@pytest.mark.parametrize(
    ("num_samples", "num_patches"),
    [(0, 0), (399, 0), (15_599, 0), (15_600, 1), (30_959, 1), (30_960, 2), (48_000, 3)],
)
def test_a_patch_is_96_frames_and_an_incomplete_one_is_dropped(num_samples: int, num_patches: int) -> None:
    batches = list(mel.patches(torch.split(torch.ones(num_samples), 1000), batch_size=2))
    assert sum(map(len, batches)) == num_patches
    assert all(len(batch) in (1, 2) for batch in batches)


def test_patches_hardly_depend_on_batches() -> None:
    waveform = torch.from_numpy(noise(4, 16_000)[:, 0] / 2**15).float()
    whole, one_by_one = (torch.cat(list(mel.patches(torch.split(waveform, 777), size))) for size in (4, 1))
    np.testing.assert_allclose(one_by_one.numpy(), whole.numpy(), atol=1e-5)


@pytest.mark.parametrize("hop_frames", [1, 32, 95, 96, 97, 150, 1000])
@pytest.mark.parametrize("batch_size", [1, 3, 40])
def test_patches_of_any_hop_are_cut_from_the_frames_of_the_whole_sound(
    hop_frames: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waveform = noise(12.05, 16_000)[:, 0] / 2**15
    frames = log_mel_by_definition(waveform)
    expected = [frames[start : start + 96] for start in range(0, len(frames) - 95, hop_frames)]
    num_computed, log_mel = 0, mel.log_mel

    def count(waveform: Tensor) -> Tensor:
        nonlocal num_computed
        computed = log_mel(waveform)
        num_computed += len(computed)
        return computed

    monkeypatch.setattr(mel, "log_mel", count)
    batches = list(mel.patches(torch.split(torch.from_numpy(waveform).float(), 777), batch_size, hop_frames))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    np.testing.assert_allclose(torch.cat(batches).numpy(), np.array(expected), rtol=0, atol=1e-5)
    assert num_computed <= len(frames), "each is computed once"


@pytest.mark.parametrize("hop_frames", [1, 96, 1000])
def test_patches_read_no_more_than_a_batch_ahead(hop_frames: int) -> None:
    read: list[Tensor] = []
    batches = mel.patches(endless(torch.zeros(16_000), read), 20, hop_frames)
    for number in range(1, 4):
        assert len(next(batches)) == 20
        assert len(read) <= number * 0.2 * hop_frames + 19.2 + 2  # seconds that they begin in, and a batch side by side


@pytest.mark.parametrize(("num_samples", "num_zeros"), [(0, 0), (1, 9), (9, 1), (10, 0), (12, 0)])
def test_a_waveform_that_is_too_short_is_padded_with_zeros(num_samples: int, num_zeros: int) -> None:
    padded = torch.cat(list(pad(torch.split(torch.ones(num_samples), 4), 10)))
    assert padded.tolist() == [1.0] * num_samples + [0.0] * num_zeros
