"""Measures how close the features of each precision are to float32's.

python -m benchmarks.precision VIDEO [--device cuda:0] [--precisions fp16 tf32 bf16] [weights' paths]

On a CPU, which has no tensor cores, they are simulated: the factors of convolutions and matrix products are rounded to
the precision, the products added up in float32, and the results rounded to the type they are stored in.
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
from models.i3d.extract import Extractor
from models.i3d.net import tf32
from utils.devices import PRECISIONS, dtype_of
from utils.media.options import DecodeOptions

PRODUCTS = ("conv2d", "conv3d", "conv_transpose2d", "convolution", "bmm", "mm", "matmul", "addmm", "linear")


class Simulated(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Computes products on a CPU as a GPU does, those of float32 in TF32."""

    def __torch_dispatch__(
        self, operation: Any, types: object, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        if operation.overloadpacket.__name__ not in PRODUCTS:
            return operation(*arguments, **(named or {}))
        factors, rest = arguments[:2], arguments[2:]
        others = [argument.float() if isinstance(argument, Tensor) else argument for argument in rest]
        return operation(*map(_round, factors), *others, **(named or {})).to(factors[0].dtype)


def _round(factor: Tensor) -> Tensor:
    """Round a factor as tensor cores do: float32 to TF32; half precision stays as it is."""
    return factor.float() if factor.dtype != torch.float32 else tf32(factor)


def extract(path: str, config: i3d.Config, device: str, precision: str) -> dict[str, npt.NDArray[Any]]:
    """Return the features of both streams."""
    if device != "cpu" or precision == "fp32":
        return Extractor(dataclasses.replace(config, precision=precision), device).extract(path, DecodeOptions()).arrays
    extractor = Extractor(config, device)
    extractor.pwc.to(dtype_of(precision, supports_fp16=True))
    for network in extractor.i3d.values():
        if precision == "mixed":
            network.refine_weights()
        network.to(dtype_of(precision, supports_fp16=False))
    with Simulated():  # type: ignore[no-untyped-call]
        return extractor.extract(path, DecodeOptions()).arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precisions", nargs="+", default=[p for p in PRECISIONS["cuda"] if p != "fp32"])
    for option in ("pwc_path", "i3d_rgb_path", "i3d_flow_path"):
        parser.add_argument(f"--{option}", help="untrained weights without it")
    options = parser.parse_args()
    paths = {option: getattr(options, option) for option in ("pwc_path", "i3d_rgb_path", "i3d_flow_path")}
    config = i3d.Config(weights="pretrained" if any(paths.values()) else "random", **paths)
    exact = extract(options.video, config, options.device, "fp32")
    for precision in options.precisions:
        rounded = extract(options.video, config, options.device, precision)
        for stream, rows in rounded.items():
            difference = np.linalg.norm(rows - exact[stream]) / np.linalg.norm(exact[stream])
            cosine = least_cosine(rows, exact[stream])
            print(f"{precision} {stream}: least cosine {cosine:.6f}, relative difference {difference:.1e}", flush=True)


if __name__ == "__main__":
    main()
