"""Waveform -> log-mel patches, as AudioSet's `mel_features.py` defines them. Pure functions on tensors."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from models.vggish.chunks import chunks
from models.vggish.net import NUM_BANDS, NUM_FRAMES
from models.vggish.resample import RATE_HZ

WINDOW, HOP = 400, 160  # samples: 25 ms and 10 ms
FFT_SIZE = 512
LOWEST_HZ, HIGHEST_HZ = 125.0, 7500.0  # edges of the mel bands
LOG_OFFSET = 0.01
PATCH_SAMPLES = NUM_FRAMES * HOP  # from one patch's start to the next's
PATCH_SECONDS = PATCH_SAMPLES / RATE_HZ
SHORTEST_SECONDS = (PATCH_SAMPLES + WINDOW - HOP) / RATE_HZ  # that hold a patch


def patches(waveform: Iterable[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Yield log-mel patches (N, 96, 64) of a 16 kHz waveform (samples,) in blocks, `batch_size` at a time.

    Frames at the end that make no full patch are dropped.
    """
    step = batch_size * PATCH_SAMPLES
    for chunk in chunks(waveform, step + WINDOW - HOP, step):
        num_patches = max(0, (len(chunk) - WINDOW) // HOP + 1) // NUM_FRAMES
        if num_patches:
            yield log_mel(chunk)[: num_patches * NUM_FRAMES].view(num_patches, NUM_FRAMES, NUM_BANDS)


def log_mel(waveform: Tensor) -> Tensor:
    """Return ln(mel + 0.01) of the frames (T, 64) of a 16 kHz waveform (samples,) in [-1, 1], at least 400 samples."""
    window = torch.hann_window(WINDOW, periodic=True, dtype=waveform.dtype, device=waveform.device)
    spectrum = torch.fft.rfft(waveform.unfold(0, WINDOW, HOP) * window, FFT_SIZE).abs()  # (T, 257)
    return torch.log(spectrum @ mel_weights().to(spectrum) + LOG_OFFSET)


def mel_weights() -> Tensor:
    """Return the weight of each of the 257 frequencies in each of 64 bands, float64: triangles in mel, of peak 1."""
    frequencies = hz_to_mel(torch.linspace(0, RATE_HZ / 2, FFT_SIZE // 2 + 1, dtype=torch.float64))[:, None]
    lowest, highest = hz_to_mel(torch.tensor([LOWEST_HZ, HIGHEST_HZ], dtype=torch.float64)).tolist()
    edges = torch.linspace(lowest, highest, NUM_BANDS + 2, dtype=torch.float64)
    below, centre, above = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies - below) / (centre - below)
    falling = (above - frequencies) / (above - centre)
    weights = torch.minimum(rising, falling).clamp(min=0)
    weights[0] = 0  # the DC bin
    return weights


def hz_to_mel(hz: Tensor) -> Tensor:
    """Convert to HTK's mel scale."""
    return 1127 * torch.log(1 + hz / 700)
