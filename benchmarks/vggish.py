"""How fast VGGish's front end is beside resampy and NumPy in the same run, and what long sounds take.

python benchmarks/vggish.py [MINUTES]
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import numpy.typing as npt
import resampy
import torch
from torch import Tensor

from benchmarks.files import SOUND_RATE_HZ, write_sound
from models.vggish import Config, mel
from models.vggish.extract import Extractor
from models.vggish.resample import RATE_HZ, resampled
from utils.media.audio import Audio

SHORT_MINUTES = 5
PATCHES_PER_BATCH = 32
KAISER_BEST = {"filter": "sinc_window", "num_zeros": 64, "precision": 9, "rolloff": 0.9475937167399596}

Waveform = npt.NDArray[np.float32]


def waveform_of(path: Path) -> Iterator[Tensor]:
    """Blocks (samples,) of the mean of the channels."""
    with Audio(str(path)) as sound:
        for block in sound:
            yield torch.from_numpy(block).float().mean(dim=1) / 2**15


def front_end(blocks: Iterator[Tensor]) -> int:
    """How many patches our front end makes of a waveform."""
    waveform = resampled(blocks, SOUND_RATE_HZ)
    return sum(len(patches) for patches in mel.patches(waveform, PATCHES_PER_BATCH))


def front_end_of_others(waveform: Waveform, window: npt.NDArray[np.float64], bands: npt.NDArray[np.float64]) -> int:
    """The same by resampy and NumPy, with the parameters of resampy 0.2.2."""
    kaiser = {"window": lambda size: np.kaiser(size, 14.769656459379492)}
    at_16_khz = resampy.resample(waveform.astype(np.float64), SOUND_RATE_HZ, RATE_HZ, **kaiser, **KAISER_BEST)
    frames = np.lib.stride_tricks.sliding_window_view(at_16_khz, mel.WINDOW)[:: mel.HOP]
    log_mel = np.log(np.abs(np.fft.rfft(frames * window, mel.FFT_SIZE)) @ bands + mel.LOG_OFFSET)
    return len(log_mel) // 96


def compare_front_ends(path: Path) -> None:
    """Print the seconds that decoding, our front end and the others' take, and their ratio."""
    start = time.perf_counter()
    blocks = list(waveform_of(path))
    seconds = sum(map(len, blocks)) / SOUND_RATE_HZ
    print(f"decoding {seconds:.0f} s of sound: {time.perf_counter() - start:.1f} s", flush=True)
    front_end(iter(blocks[:40]))  # warms up
    start = time.perf_counter()
    front_end(iter(blocks))
    ours = time.perf_counter() - start

    parts = np.array_split(torch.cat(blocks).numpy(), max(1, round(seconds / 300)))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(mel.WINDOW) / mel.WINDOW)
    bands = mel.mel_weights().numpy()
    front_end_of_others(parts[0][:SOUND_RATE_HZ], window, bands)  # compiles
    start = time.perf_counter()
    for part in parts:
        front_end_of_others(part, window, bands)
    theirs = time.perf_counter() - start
    print(f"resampling and log-mel: {ours:.2f} s, by resampy and NumPy {theirs:.1f} s: ratio {theirs / ours:.1f}")


def extract(path: str) -> None:
    """Print what a whole extraction takes; in a process of its own, for its peak memory."""
    start = time.perf_counter()
    features = Extractor(Config(weights="random"), "cpu").extract(path)
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
            subprocess.run([sys.executable, __file__, "extract", str(path)], check=True)


if __name__ == "__main__":
    main()
