"""Measures VGGish's front end beside resampy and NumPy in the same run, and time and memory for long sounds.

python -m benchmarks.vggish [MINUTES]
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import resampy
import torch
from torch import Tensor

from benchmarks.files import SOUND_RATE_HZ, write_sound
from models.vggish import Config, mel
from models.vggish.extract import Extractor
from models.vggish.resample import KAISER_BETA, NUM_ZEROS, RATE_HZ, ROLLOFF, resample
from utils.media.audio import Audio
from utils.media.options import DecodeOptions

SHORT_MINUTES = 5
PATCHES_PER_BATCH = 32


def read_mono(path: Path) -> Iterator[Tensor]:
    """Yield blocks (samples,) of the mean of the channels."""
    with Audio(str(path)) as audio:
        for block in audio:
            yield torch.from_numpy(block).float().mean(dim=1) / 2**15


def compare_front_ends(path: Path) -> None:
    """Print the seconds of decoding, of our front end and of the same by resampy and NumPy, and their ratio."""
    start = time.perf_counter()
    blocks = list(read_mono(path))
    seconds = sum(map(len, blocks)) / SOUND_RATE_HZ
    print(f"decoding {seconds:.0f} s of sound: {time.perf_counter() - start:.1f} s", flush=True)

    def run_ours(blocks: list[Tensor]) -> None:
        for _ in mel.patches(resample(blocks, SOUND_RATE_HZ), PATCHES_PER_BATCH):
            pass

    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(mel.WINDOW) / mel.WINDOW)
    bands = mel.mel_weights().numpy()
    options = {"filter": "sinc_window", "num_zeros": NUM_ZEROS, "precision": 9, "rolloff": ROLLOFF}

    def run_others(blocks: list[Tensor]) -> None:
        for part in np.array_split(
            torch.cat(blocks).numpy(), max(1, round(sum(map(len, blocks)) / 300 / SOUND_RATE_HZ))
        ):
            waveform = resampy.resample(
                part.astype(np.float64), SOUND_RATE_HZ, RATE_HZ, window=lambda n: np.kaiser(n, KAISER_BETA), **options
            )
            frames = np.lib.stride_tricks.sliding_window_view(waveform, mel.WINDOW)[:: mel.HOP]
            np.log(np.abs(np.fft.rfft(frames * hann, mel.FFT_SIZE)) @ bands + mel.LOG_OFFSET)

    taken = []
    for run in (run_ours, run_others):
        run(blocks[:40])  # warms up, compiles
        start = time.perf_counter()
        run(blocks)
        taken.append(time.perf_counter() - start)
    ours, others = taken
    print(f"resampling and log-mel: {ours:.2f} s, by resampy and NumPy {others:.1f} s: ratio {others / ours:.1f}")


def extract(path: str) -> None:
    """Print time and peak memory of a whole extraction; run it in a process of its own, for the peak."""
    start = time.perf_counter()
    features = Extractor(Config(weights="random"), "cpu").extract(path, DecodeOptions())
    status = Path("/proc/self/status").read_text()  # getrusage would begin with the parent's peak
    peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
    print(f"extraction of {features.seconds / 60:.0f} minutes: {time.perf_counter() - start:.1f} s, peak {peak} MiB")


def main() -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if len(sys.argv) == 3:
        extract(sys.argv[2])
        return
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as folder:
        long, short = Path(folder, "long.m4a"), Path(folder, "short.m4a")
        write_sound(long, 60 * minutes)
        write_sound(short, 60 * SHORT_MINUTES)
        compare_front_ends(long)
        for path in (short, long):
            subprocess.run([sys.executable, "-m", "benchmarks.vggish", "extract", str(path)], check=True)


if __name__ == "__main__":
    main()
