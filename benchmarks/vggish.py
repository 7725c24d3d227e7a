"""Measures VGGish's front end beside resampy and NumPy in the same run.

python -m benchmarks.vggish [MINUTES]
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import resampy
import torch
from torch import Tensor

from benchmarks.files import SOUND_RATE_HZ, write_sound
from models.vggish import mel
from models.vggish.resample import KAISER_BETA, NUM_ZEROS, RATE_HZ, ROLLOFF, resample
from utils.media.audio import Audio

PATCHES_PER_BATCH = 32
PART_SAMPLES = 300 * SOUND_RATE_HZ  # that resampy and NumPy are given at once
FILTER = {"filter": "sinc_window", "num_zeros": NUM_ZEROS, "precision": 9, "rolloff": ROLLOFF}
HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(mel.WINDOW) / mel.WINDOW)


def run_ours(blocks: list[Tensor]) -> None:
    for _ in mel.patches(resample(blocks, SOUND_RATE_HZ), PATCHES_PER_BATCH):
        pass


def run_resampy_and_numpy(blocks: list[Tensor]) -> None:
    bands = mel.mel_weights().numpy()
    for part in torch.split(torch.cat(blocks).double(), PART_SAMPLES):
        waveform = resampy.resample(
            part.numpy(), SOUND_RATE_HZ, RATE_HZ, window=lambda n: np.kaiser(n, KAISER_BETA), **FILTER
        )
        frames = np.lib.stride_tricks.sliding_window_view(waveform, mel.WINDOW)[:: mel.HOP]
        np.log(np.abs(np.fft.rfft(frames * HANN, mel.FFT_SIZE)) @ bands + mel.LOG_OFFSET)


def main() -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sound.m4a")
        write_sound(path, 60 * minutes)
        start = time.perf_counter()
        with Audio(str(path)) as audio:
            blocks = [torch.from_numpy(block).float().mean(dim=1) / 2**15 for block in audio]
    print(f"decoding {minutes} minutes of sound: {time.perf_counter() - start:.1f} s", flush=True)
    seconds = []
    for run in (run_ours, run_resampy_and_numpy):
        run(blocks[:40])  # warms up, compiles
        start = time.perf_counter()
        run(blocks)
        seconds.append(time.perf_counter() - start)
    ours, others = seconds
    print(f"resampling and log-mel: {ours:.2f} s, by resampy and NumPy {others:.1f} s: ratio {others / ours:.1f}")


if __name__ == "__main__":
    main()
