"""Waveform -> log-mel patches, as AudioSet's `mel_features.py` defines them. Pure functions on tensors."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from models.vggish import FRAMES_PER_SECOND, NUM_FRAMES
from models.vggish.chunks import chunks
from models.vggish.net import NUM_BANDS
from models.vggish.resample import RATE_HZ

WINDOW, HOP = 400, RATE_HZ // FRAMES_PER_SECOND  # samples: 25 ms and 10 ms
FFT_SIZE = 512
LOWEST_HZ, HIGHEST_HZ = 125.0, 7500.0  # edges of the mel bands
LOG_OFFSET = 0.01
PATCH_SECONDS = NUM_FRAMES / FRAMES_PER_SECOND
PATCH_SAMPLES = (NUM_FRAMES - 1) * HOP + WINDOW  # that a patch is made of
SHORTEST_SECONDS = PATCH_SAMPLES / RATE_HZ


def patches(waveform: Iterable[Tensor], batch_size: int, hop_frames: int = NUM_FRAMES) -> Iterator[Tensor]:
    """Yield log-mel patches (N, 96, 64) of a 16 kHz waveform (samples,) in blocks, `batch_size` at a time.

    One begins every `hop_frames` frames. Those that overlap are views of the same frames, which are computed once.
    Frames at the end that make no full patch are dropped.
    """
    step = batch_size * NUM_FRAMES * HOP  # samples
    blocks = (log_mel(chunk) for chunk in chunks(waveform, step + WINDOW - HOP, step) if len(chunk) >= WINDOW)
    stride = batch_size * hop_frames
    for frames in chunks(blocks, stride + max(0, NUM_FRAMES - hop_frames), stride):
        if len(frames) >= NUM_FRAMES:
            yield frames.unfold(0, NUM_FRAMES, hop_frames).transpose(1, 2)


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
