"""The code for GPUs, run without one on tensors that have a shape, a type and a device, but no numbers.

It finds tensors that were left on the CPU, and operations that mix devices or types.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.models.optical_flow import raft_large

from models.activation import plain_add_and_activate
from models.flow import FlowMethod
from models.flow.pairs import PairFlows
from models.flow.pwc import PWCFlow
from models.flow.raft import RAFTFlow
from models.i3d import net as i3d_net
from models.i3d.net import I3D, VARIANTS
from models.pwc import fused
from models.pwc.cost_volume import NUM_DISPLACEMENTS
from models.pwc.net import PWCNet
from utils.media.raw_frame import LAYOUTS, RawFormat
from utils.media.scaling import _scaler, scale

GPU = torch.device("cuda:0")
DTYPES = [torch.float32, torch.float16]


@pytest.fixture(autouse=True)
def _fake() -> Iterator[None]:
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield
    _scaler.cache_clear()  # which has fake filters


def on_gpu(make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    """Make a network on the GPU, because fake ones cannot be moved."""
    torch.set_default_dtype(dtype)
    try:
        with GPU:
            return make().eval()
    finally:
        torch.set_default_dtype(torch.float32)


def zero_costs(first: Tensor, second: Tensor, flow: Tensor | None, out: Tensor) -> None:
    """Replace the matching, whose kernel and plain version cannot take fake tensors."""
    assert first.dtype == second.dtype == out.dtype
    assert first.device == second.device == out.device
    assert flow is None or flow.device == out.device
    out[:, :NUM_DISPLACEMENTS] = 0


def check_flows(method: FlowMethod) -> None:
    flows = PairFlows(method, lambda height, width: 16)
    for first, last in ((0, 16), (16, 24)):
        frames = {i: torch.empty(3, 256, 341, dtype=torch.uint8, device=GPU) for i in range(first, last + 1)}
        for flow in flows.compute(frames, list(pairwise(frames))).values():
            assert (flow.shape, flow.dtype, flow.device) == ((2, 256, 341), torch.float32, GPU)


@pytest.mark.parametrize("dtype", DTYPES)
def test_flows_are_computed_on_the_gpu_and_are_float32(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "matching_costs", zero_costs)
    monkeypatch.setattr(fused, "add_and_activate", plain_add_and_activate)
    network = on_gpu(lambda: fused.fuse(PWCNet()), dtype)
    assert isinstance(network, PWCNet)
    check_flows(PWCFlow(network))


@pytest.mark.parametrize("dtype", DTYPES)
def test_flows_of_raft_are_computed_on_the_gpu_and_are_float32(dtype: torch.dtype) -> None:
    check_flows(RAFTFlow(on_gpu(raft_large, dtype)))


@pytest.mark.parametrize(("dtype", "variant"), list(zip(DTYPES, VARIANTS, strict=True)))
def test_features_are_computed_on_the_gpu_and_are_float32(
    dtype: torch.dtype, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(i3d_net, "add_and_activate", plain_add_and_activate)
    network = on_gpu(lambda: I3D(3, VARIANTS[variant]), torch.float32)
    assert isinstance(network, I3D)
    network.optimize(dtype, for_gpu=True)
    images = torch.empty(2, 64, 3, 224, 224, device=GPU)
    features = network(images.transpose(1, 2))
    assert (features.shape, features.dtype, features.device) == ((2, 1024), torch.float32, GPU)
    assert network.classify(features).device == GPU


@pytest.mark.parametrize(
    ("orientation", "size"), [((), (341, 256)), (("hflip", "vflip"), (340, 256)), ((), (320, 240))]
)
@pytest.mark.parametrize("pixels", LAYOUTS)
def test_frames_are_scaled_on_the_gpu(pixels: str, orientation: tuple[str, ...], size: tuple[int, int]) -> None:
    raw_format = RawFormat(pixels, 320, 240, 2, False, orientation, *size)
    frames = scale(torch.empty(5, raw_format.num_bytes, dtype=torch.uint8, device=GPU), raw_format)
    assert (frames.shape, frames.dtype, frames.device) == ((5, 3, size[1], size[0]), torch.uint8, GPU)
