"""How close the features of each precision are to float32's.

python benchmarks/precision.py VIDEO [--device cuda:0] [--precisions fp16 tf32 bf16] [weights' paths]

On a CPU, which has no tensor cores, they are simulated: convolutions and matrix products of numbers that are rounded
as those of the precision are, added up in float32, and their results rounded as they are stored.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from benchmarks.pipeline import least_cosine  # noqa: E402
from models import i3d  # noqa: E402
from models.i3d.extract import Extractor  # noqa: E402
from models.i3d.net import tf32  # noqa: E402
from utils.devices import PRECISIONS, dtype_of  # noqa: E402

PRODUCTS = ("conv2d", "conv3d", "conv_transpose2d", "convolution", "bmm", "mm", "matmul", "addmm", "linear")


class Simulated(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Products as a GPU computes them, of float32 in TF32, on a CPU."""

    def __torch_dispatch__(
        self, operation: Any, types: object, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        if operation.overloadpacket.__name__ not in PRODUCTS:
            return operation(*arguments, **(named or {}))
        factors, rest = arguments[:2], arguments[2:]
        others = [argument.float() if isinstance(argument, Tensor) else argument for argument in rest]
        return operation(*map(_rounded, factors), *others, **(named or {})).to(factors[0].dtype)


def _rounded(factor: Tensor) -> Tensor:
    """What tensor cores take of a factor, as float32: what is in half precision as it is, 10 bits of float32."""
    return factor.float() if factor.dtype != torch.float32 else tf32(factor)


def features_of(path: str, config: i3d.Config, device: str, precision: str) -> dict[str, npt.NDArray[Any]]:
    """Features of both streams."""
    if device != "cpu" or precision == "fp32":
        return Extractor(dataclasses.replace(config, precision=precision), device).extract(path).arrays
    extractor = Extractor(config, device)
    extractor.pwc.to(dtype_of(precision, supports_fp16=True))
    for network in extractor.i3d.values():
        if precision == "mixed":
            network.refine_weights()
        network.to(dtype_of(precision, supports_fp16=False))
    with Simulated():  # type: ignore[no-untyped-call]
        return extractor.extract(path).arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precisions", nargs="+", default=[p for p in PRECISIONS["cuda"] if p != "fp32"])
    for option in ("pwc_path", "i3d_rgb_path", "i3d_flow_path"):
        parser.add_argument(f"--{option}", help="untrained weights without it")
    options = parser.parse_args()
    places = {option: getattr(options, option) for option in ("pwc_path", "i3d_rgb_path", "i3d_flow_path")}
    config = i3d.Config(weights="pretrained" if any(places.values()) else "random", **places)
    exact = features_of(options.video, config, options.device, "fp32")
    for precision in options.precisions:
        rounded = features_of(options.video, config, options.device, precision)
        for stream, rows in rounded.items():
            difference = np.linalg.norm(rows - exact[stream]) / np.linalg.norm(exact[stream])
            cosine = least_cosine(rows, exact[stream])
            print(f"{precision} {stream}: least cosine {cosine:.6f}, relative difference {difference:.1e}", flush=True)


if __name__ == "__main__":
    main()
