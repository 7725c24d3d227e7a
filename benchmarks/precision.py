"""Measures how close the features of each precision are to float32's.

python -m benchmarks.precision VIDEO [--device cuda:0] [--precisions mixed bf16 tf32] [weights' paths]

On a CPU, which has no tensor cores, the networks are those for a GPU, and products are simulated: factors are as tensor
cores take them, sums are float32, and results are rounded once to the type they are stored in. `tf32`, which is no
option of the program, shows what PyTorch's default would give: float32, but the factors of convolutions lose all but 10
bits after the point. cuDNN's kernels cut them off, they do not round.
"""

import argparse
import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.files import least_cosine
from models import i3d
from models.flow import FLOWS, load_flow
from models.i3d.extract import Extractor, load_i3d
from utils.devices import dtype_of
from utils.media.options import DecodeOptions

CONVOLUTIONS = ("conv2d", "conv3d", "conv_transpose2d", "convolution")
PRODUCTS = (*CONVOLUTIONS, "bmm", "mm", "matmul", "addmm", "linear")
TF32_MASK = ~0x1FFF  # of the 23 bits after the point, TF32 has 10


class Simulated(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Computes products on a CPU as tensor cores do, convolutions of float32 in TF32."""

    def __torch_dispatch__(
        self, operation: Any, types: object, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        name = operation.overloadpacket.__name__
        if name not in PRODUCTS:
            return operation(*arguments, **(named or {}))
        exact = [argument.float() if isinstance(argument, Tensor) else argument for argument in arguments]
        if name in CONVOLUTIONS:
            exact[:2] = map(truncate, exact[:2])  # which halves survive
        return operation(*exact, **(named or {})).to(arguments[0].dtype)


def truncate(factor: Tensor) -> Tensor:
    """Cut float32 numbers off to TF32's."""
    return (factor.view(torch.int32) & TF32_MASK).view(torch.float32)


def extract(path: str, config: i3d.Config, device: str, precision: str) -> dict[str, npt.NDArray[Any]]:
    """Return the features of both streams."""
    stored = "fp32" if precision == "tf32" else precision
    if device != "cpu" or precision == "fp32":
        extractor = Extractor(dataclasses.replace(config, precision=stored), device)
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        return extractor.extract(path, DecodeOptions()).arrays
    extractor = Extractor(config, device)
    extractor.flow_method = load_flow(config.flow, config.flow_weights_path, extractor.device, dtype_of(stored))
    extractor.i3d = {stream: load_i3d(config, stream, dtype_of(stored), for_gpu=True) for stream in config.streams}
    with Simulated():  # type: ignore[no-untyped-call]
        return extractor.extract(path, DecodeOptions()).arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precisions", nargs="+", default=["mixed", "bf16", "tf32"])
    parser.add_argument("--flow", choices=FLOWS, default="pwc")
    for option in i3d.Config.network_paths:
        parser.add_argument(f"--{option}", help="untrained weights without it")
    options = parser.parse_args()
    paths = {option: getattr(options, option) for option in i3d.Config.network_paths}
    config = i3d.Config(weights="pretrained" if any(paths.values()) else "random", flow=options.flow, **paths)
    exact = extract(options.video, config, options.device, "fp32")
    for precision in options.precisions:
        rounded = extract(options.video, config, options.device, precision)
        for stream, rows in rounded.items():
            difference = np.linalg.norm(rows - exact[stream]) / np.linalg.norm(exact[stream])
            cosine = least_cosine(rows, exact[stream])
            print(f"{precision} {stream}: least cosine {cosine:.6f}, relative difference {difference:.1e}", flush=True)


if __name__ == "__main__":
    main()
