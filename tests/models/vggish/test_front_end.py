"""Waveform -> log-mel patches, against resampy, NumPy and the reference."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from models.vggish import mel
from models.vggish.resample import filter_bank, resampled
from tests.helpers.oracles import Array, oracle, relative_difference
from tests.helpers.sounds import chirp, noise

pytest_plugins = ("tests.helpers.vggish_fixtures",)

RATES = (8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 7_350, 44_099)
KAISER_BEST = {"num_zeros": 64, "precision": 9, "rolloff": 0.9475937167399596}


def kaiser(size: int) -> Array:
    return np.kaiser(size, 14.769656459379492)


def at_16_khz(waveform: Array, rate_hz: int, block: int = 10_000) -> Array:
    blocks = torch.split(torch.from_numpy(waveform).float(), block)
    return torch.cat(list(resampled(blocks, rate_hz))).numpy()


def by_resampy_0_2_2(waveform: Array, rate_hz: int) -> Array:
    """resampy's own loop, over times that are added up one by one, as release 0.2.2 did and later ones do not."""
    oracle("resampy")
    from resampy.filters import sinc_window
    from resampy.interpn import resample_f_s

    ratio = 16_000 / rate_hz
    half_filter, points_per_zero, _ = sinc_window(**KAISER_BEST, window=kaiser)
    half_filter = half_filter * min(1, ratio)
    times = np.append(0, np.cumsum(np.full(int(len(waveform) * ratio) - 1, 1 / ratio)))
    result = np.zeros(len(times))
    resample_f_s(waveform, times, half_filter, np.diff(half_filter, append=0), points_per_zero, min(1, ratio), result)
    return result


def by_later_resampy(waveform: Array, rate_hz: int) -> Array:
    """What the installed release gives with the parameters of 0.2.2: times are products, not sums."""
    resample = oracle("resampy").resample
    resampled: Array = resample(waveform, rate_hz, 16_000, filter="sinc_window", window=kaiser, **KAISER_BEST)
    return resampled


def by_definition(waveform: Array) -> Array:
    """Log-mel frames (T, 64) of a 16 kHz waveform, float64, as AudioSet describes them: bin by bin."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    starts = range(0, len(waveform) - 399, 160)
    magnitudes = np.array([np.abs(np.fft.rfft(waveform[start : start + 400] * hann, 512)) for start in starts])
    edges = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    mel_bands = np.zeros((len(starts), 64))
    for index in range(1, 257):
        place = 1127 * np.log(1 + index * 31.25 / 700)
        for band, (below, centre, above) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
            if below < place < above:
                rise, fall = (place - below) / (centre - below), (above - place) / (above - centre)
                mel_bands[:, band] += min(rise, fall) * magnitudes[:, index]
    return np.log(mel_bands + 0.01)


@pytest.mark.parametrize("rate_hz", RATES)
def test_resampling_equals_that_of_resampy_0_2_2(rate_hz: int, clip_samples: npt.NDArray[np.int16]) -> None:
    for waveform in (noise(3, rate_hz)[:, 0] / 2**15, chirp(3, rate_hz), clip_samples[200_000:350_000] / 2**15):
        expected = by_resampy_0_2_2(waveform, rate_hz)
        assert relative_difference(at_16_khz(waveform, rate_hz), expected) < 2e-6


@pytest.mark.parametrize("rate_hz", [8_000, 12_000, 24_000, 32_000, 48_000, 96_000])
def test_where_no_time_is_rounded_it_equals_that_of_later_releases_too(rate_hz: int) -> None:
    for waveform in (noise(2, rate_hz)[:, 0] / 2**15, chirp(2, rate_hz)):
        assert relative_difference(at_16_khz(waveform, rate_hz), by_later_resampy(waveform, rate_hz)) < 2e-6


def test_the_clip_is_resampled_much_as_by_later_releases(clip_samples: npt.NDArray[np.int16]) -> None:
    waveform = clip_samples / 2**15
    assert relative_difference(at_16_khz(waveform, 44_100), by_later_resampy(waveform, 44_100)) < 1e-4


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_chunks_meet_without_a_seam(rate_hz: int) -> None:
    waveform = noise(62, rate_hz)[:, 0] / 2**15
    ours, expected = at_16_khz(waveform, rate_hz), by_resampy_0_2_2(waveform, rate_hz)
    assert len(ours) == len(expected) == 62 * 16_000
    for seam in (30 * 16_000, 60 * 16_000):
        np.testing.assert_allclose(ours[seam - 200 : seam + 200], expected[seam - 200 : seam + 200], atol=2e-5)


@pytest.mark.parametrize("rate_hz", [11_025, 44_100])
def test_the_result_does_not_depend_on_the_blocks(rate_hz: int) -> None:
    waveform = noise(32, rate_hz)[:, 0] / 2**15
    whole = at_16_khz(waveform, rate_hz, block=len(waveform))
    for block in (101, 1024, 31 * rate_hz):
        np.testing.assert_array_equal(at_16_khz(waveform, rate_hz, block), whole)


@pytest.mark.parametrize("rate_hz", [7_350, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("num_samples", [1, 2, 441, 12_345])
def test_resampled_sound_has_as_many_samples_as_the_rates_tell_rounded_down(rate_hz: int, num_samples: int) -> None:
    assert len(at_16_khz(np.ones(num_samples), rate_hz)) == int(num_samples * (16_000 / rate_hz))


def test_a_sound_of_no_samples_has_none_at_16_khz() -> None:
    assert list(resampled([], 44_100)) == []


def test_sound_of_16_khz_stays_as_it_is() -> None:
    block = torch.randn(1000)
    assert next(resampled([block], 16_000)) is block


def test_resampling_asks_for_no_more_than_a_chunk_ahead() -> None:
    num_asked = 0

    def endless() -> Iterator[Tensor]:
        nonlocal num_asked
        while True:
            num_asked += 1
            yield torch.zeros(44_100)

    source = resampled(endless(), 44_100)
    for number in range(1, 4):
        assert len(next(source)) == 30 * 16_000
        assert num_asked <= 30 * number + 1


def test_the_filters_of_odd_rates_take_bounded_memory() -> None:
    bank = filter_bank(44_099, torch.device("cpu"))
    assert bank.hops.numel() * 4 < 64e6
    assert filter_bank(44_100, torch.device("cpu")).hops.numel() * 4 < 1e6


def test_log_mel_is_as_defined() -> None:
    waveform = noise(0.5, 16_000)[:, 0] / 2**15 + 0.1
    waveform[4000:6000] = 0
    ours = mel.log_mel(torch.from_numpy(waveform).float())
    np.testing.assert_allclose(ours.numpy(), by_definition(waveform), atol=1e-5)


def test_the_clip_resampled_and_its_log_mel_are_those_of_the_reference(
    clip_samples: npt.NDArray[np.int16], reference: dict[str, Array]
) -> None:
    waveform = at_16_khz(clip_samples / 2**15, 44_100)
    assert relative_difference(waveform, reference["waveform_16k"]) < 1e-5
    patches = torch.cat(list(mel.patches([torch.from_numpy(waveform)], batch_size=5)))
    assert patches.shape == (18, 96, 64)
    np.testing.assert_allclose(patches.numpy(), reference["log_mel"], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("num_samples", "num_patches"),
    [(0, 0), (399, 0), (15_599, 0), (15_600, 1), (30_959, 1), (30_960, 2), (48_000, 3)],
)
def test_a_patch_is_96_frames_and_an_incomplete_one_is_dropped(num_samples: int, num_patches: int) -> None:
    batches = list(mel.patches(torch.split(torch.ones(num_samples), 1000), batch_size=2))
    assert sum(map(len, batches)) == num_patches
    assert all(len(batch) in (1, 2) for batch in batches)


def test_patches_do_not_depend_on_blocks_and_hardly_on_batches() -> None:
    waveform = torch.from_numpy(noise(9, 16_000)[:, 0] / 2**15).float()
    whole = torch.cat(list(mel.patches([waveform], batch_size=4)))
    assert torch.equal(torch.cat(list(mel.patches(torch.split(waveform, 777), batch_size=4))), whole)
    one_by_one = torch.cat(list(mel.patches([waveform], batch_size=1)))
    np.testing.assert_allclose(one_by_one.numpy(), whole.numpy(), atol=1e-5)
