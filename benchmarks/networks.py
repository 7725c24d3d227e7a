"""How fast the networks are on a device, beside that device's own float32 matrix product.

python benchmarks/networks.py [--device cuda:0] [--seconds 5]
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from models.i3d.extract import PIXELS_PER_BATCH
from models.i3d.net import I3D, VARIANTS
from models.pwc.net import PWCNet
from utils.devices import compute_in_float32
from utils.weights import randomize

HEIGHT, WIDTH, STACK_SIZE = 256, 341, 64
GFLOP_PAIR = 35.0  # a frame's pyramid counted once
GFLOP_STACK = {"rgb": 3.5 * STACK_SIZE, "flow": 3.2 * STACK_SIZE}
MATRIX_SIZE = 2048


def seconds_per_call(call: Callable[[], object], device: torch.device, at_least: float) -> float:
    """Mean over as many calls as fill `at_least` seconds, after one to warm up."""
    call()
    num_calls, start = 0, time.perf_counter()
    while num_calls < 3 or time.perf_counter() - start < at_least:
        call()
        num_calls += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / num_calls


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to measure each part")
    options = parser.parse_args()
    device = torch.device(options.device)
    compute_in_float32()
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    matrix = torch.randn(MATRIX_SIZE, MATRIX_SIZE, device=device)
    seconds = seconds_per_call(lambda: matrix @ matrix, device, options.seconds)
    peak = 2 * MATRIX_SIZE**3 / 1e9 / seconds
    print(f"{'part':<14}{'seconds':>10}{'GFLOP/s':>10}{'of matrix product':>20}")
    print(f"{'matrix product':<14}{seconds:>10.4f}{peak:>10.0f}{1:>20.2f}")

    pwc = PWCNet().eval().to(device).to(memory_format=torch.channels_last)
    randomize(pwc, seed=0)
    pairs = PIXELS_PER_BATCH[device.type] // (HEIGHT * WIDTH)
    frames = torch.randint(0, 256, (pairs, 3, HEIGHT, WIDTH), dtype=torch.uint8, device=device)
    before = pwc.pyramid(frames)

    def flow() -> None:
        """As in a running video: new pyramids for as many frames as pairs."""
        pwc.flow(before, pwc.pyramid(frames), HEIGHT, WIDTH)

    seconds = seconds_per_call(flow, device, options.seconds) / pairs
    print(f"{'flow, a pair':<14}{seconds:>10.4f}{GFLOP_PAIR / seconds:>10.0f}{GFLOP_PAIR / seconds / peak:>20.2f}")
    for stream, channels in (("rgb", 3), ("flow", 2)):
        i3d = I3D(channels, VARIANTS["ancestor"]).eval()
        randomize(i3d, seed=0)
        i3d = i3d.fold_batch_norm().to(device).to(memory_format=torch.channels_last_3d)
        stack = torch.randn(1, channels, STACK_SIZE, 224, 224, device=device)
        seconds = seconds_per_call(partial(i3d, stack), device, options.seconds)
        rate = GFLOP_STACK[stream] / seconds
        print(f"{'I3D ' + stream:<14}{seconds:>10.4f}{rate:>10.0f}{rate / peak:>20.2f}")


if __name__ == "__main__":
    main()
