"""Measures what more crops cost, in one thread of the CPU: I3D's work for each, and nothing else.

python -m benchmarks.crops VIDEO

Time is that of the processor. Weights are untrained, which changes no time. The rest is all but I3D: decoding, scaling
and flow.
"""

import argparse
import time

import torch

from models.i3d import Config
from models.i3d.extract import Extractor
from models.i3d.net import I3D
from utils.media.options import DecodeOptions

CROPS = ("center", "five", "ten")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    path = parser.parse_args().video
    torch.set_num_threads(1)
    in_i3d = 0.0
    forward = I3D.forward

    def timed(network: I3D, x: torch.Tensor) -> torch.Tensor:
        nonlocal in_i3d
        start = time.process_time()
        features = forward(network, x)
        in_i3d += time.process_time() - start
        return features

    I3D.forward = timed  # type: ignore[assignment, method-assign]
    one = None
    for crops in CROPS:
        extractor = Extractor(Config(weights="random", stack_size=24, step_size=24, crops=(crops,)), "cpu")
        in_i3d, start = 0.0, time.process_time()
        extractor.extract(path, DecodeOptions())
        rest = time.process_time() - start - in_i3d
        one = one or (in_i3d, rest)
        ratios = f"{in_i3d / one[0]:.2f} times I3D's, {rest / one[1]:.2f} times the rest"
        print(f"{crops}: I3D {in_i3d:.1f} s, the rest {rest:.1f} s: {ratios}", flush=True)


if __name__ == "__main__":
    main()
