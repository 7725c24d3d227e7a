"""How fast VGGish's front end is beside resampy and NumPy, and what an hour of sound takes: run from the checkout.

python benchmarks/vggish.py [MINUTES]
"""

import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import resampy
import torch

sys.path.insert(0, str(Path.cwd()))

from models.vggish import mel
from models.vggish.resample import resampled
from utils.media import Sound

RATE_HZ = 44_100
MINUTES_ENCODED = 5
KAISER_BEST = {"filter": "sinc_window", "num_zeros": 64, "precision": 9, "rolloff": 0.9475937167399596}


def write_aac(path: Path, minutes: int) -> None:
    """Stereo AAC of noise that swells; encoded once, its packets repeated."""
    rng = np.random.default_rng(0)
    t = np.arange(MINUTES_ENCODED * 60 * RATE_HZ) / RATE_HZ
    loudness = 0.3 * (0.5 + 0.5 * np.sin(2 * np.pi * 0.7 * t)).astype(np.float32)
    samples = rng.standard_normal((2, len(t)), np.float32) * 0.2 * loudness
    with av.open(str(path), "w") as output:
        track = output.add_stream("aac", rate=RATE_HZ, layout="stereo", bit_rate=128_000)
        block = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        block.sample_rate, block.time_base, block.pts = RATE_HZ, Fraction(1, RATE_HZ), 0
        packets = [bytes(p) for p in [*track.encode(block), *track.encode(None)]]
        for i in range(-(-minutes * 60 * RATE_HZ // 1024)):
            packet = av.Packet(packets[i % len(packets)])
            packet.stream, packet.pts, packet.dts = track, i * 1024, i * 1024
            packet.time_base, packet.duration = Fraction(1, RATE_HZ), 1024
            output.mux(packet)


def ours(waveform: torch.Tensor) -> int:
    return sum(len(patches) for patches in mel.patches(resampled(torch.split(waveform, RATE_HZ), RATE_HZ), 32))


def by_resampy_and_numpy(
    waveform: npt.NDArray[np.float64], window: npt.NDArray[np.float64], bands: npt.NDArray[np.float64]
) -> int:
    waveform = resampy.resample(
        waveform, RATE_HZ, 16_000, window=lambda n: np.kaiser(n, 14.769656459379492), **KAISER_BEST
    )
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 400)[::160]
    log_mel = np.log(np.abs(np.fft.rfft(frames * window, 512)) @ bands + 0.01)
    return len(log_mel) // 96


PEAK = """
import sys, torch
from models.vggish import Config
from models.vggish.extract import Extractor
torch.set_num_threads(2)
features = Extractor(Config(weights="random"), "cpu").extract(sys.argv[1])
print(len(features.spans), int(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1]) // 1024)
"""
PEAK_FRONT = """
import sys, torch
from models.vggish import mel
from models.vggish.resample import resampled
from utils.media import Sound
torch.set_num_threads(2)
with Sound(sys.argv[1]) as sound:
    mono = (torch.from_numpy(b).float().mean(dim=1) / 2**15 for b in sound)
    n = sum(len(p) for p in mel.patches(resampled(mono, sound.rate_hz), 32))
print(n, int(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1]) // 1024)
"""


def main() -> None:
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    folder = Path(tempfile.mkdtemp())
    long, short = folder / "long.m4a", folder / "short.m4a"
    write_aac(long, minutes)
    write_aac(short, 5)
    torch.set_num_threads(2)
    start = time.perf_counter()
    with Sound(str(long)) as sound:
        mono = np.concatenate([(b.astype(np.float32).mean(axis=1) / 2**15) for b in sound])
    mono = mono[: minutes * 60 * RATE_HZ]
    seconds = len(mono) / RATE_HZ
    print(f"{seconds:.0f} s of sound decoded in {time.perf_counter() - start:.1f} s", flush=True)

    waveform = torch.from_numpy(mono)
    ours(waveform[: 40 * RATE_HZ])
    start = time.perf_counter()
    num_ours = ours(waveform)
    time_ours = time.perf_counter() - start

    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    bands = mel.mel_weights().numpy()
    by_resampy_and_numpy(mono[:RATE_HZ].astype(np.float64), window, bands)
    start, num = time.perf_counter(), 0
    for at in range(0, len(mono), 300 * RATE_HZ):
        num += by_resampy_and_numpy(mono[at : at + 300 * RATE_HZ].astype(np.float64), window, bands)
    time_theirs = time.perf_counter() - start
    print(
        f"resampling and log-mel: ours {time_ours:.2f} s ({seconds / time_ours:.0f}x real time, {num_ours} patches), "
        f"resampy and NumPy {time_theirs:.1f} s ({seconds / time_theirs:.0f}x, {num}): {time_theirs / time_ours:.1f} times faster",
        flush=True,
    )
    del mono, waveform
    for what, code in (("front end", PEAK_FRONT), ("whole extraction", PEAK)):
        for path in (short, long):
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
            rows, peak = done.stdout.split()
            print(
                f"{what} of {path.name}: {rows} rows, peak {peak} MiB, {time.perf_counter() - start:.1f} s", flush=True
            )


if __name__ == "__main__":
    main()
