"""PWC-Net and I3D with stand-in weights, against what the reference implementation computes with them."""

import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.i3d import checkpoint as i3d_published
from models.i3d.net import CHANNELS, I3D, VARIANTS, Pool, Unit, tf32
from models.i3d.transforms import center_crop, normalize_rgb, quantize_flow
from models.pwc import checkpoint as pwc_published
from models.pwc.fused import fuse, to_shuffled_convolution
from models.pwc.net import PWCNet
from tests.helpers import seeded
from tests.helpers.oracles import oracle, relative_difference
from utils.weights.checkpoint import load_or_randomize


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    with np.load(seeded.DATA / "synthetic.npz") as values:
        return {name: torch.from_numpy(values[name]) for name in values.files}


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return torch.from_numpy(seeded.synthetic_clip())


@pytest.fixture(scope="module")
def pwc(checkpoints: dict[str, str]) -> PWCNet:
    return load_or_randomize(PWCNet(), checkpoints["pwc_path"], pwc_published.our_key).to(
        memory_format=torch.channels_last
    )


@pytest.fixture(scope="module")
def flow(pwc: PWCNet, clip: Tensor) -> Tensor:
    """(16, 2, 256, 341), in pixels, by fused layers."""
    fused = fuse(copy.deepcopy(pwc)).to(memory_format=torch.channels_last)
    pyramid = fused.pyramid(clip)
    first, second = (
        {level: features[part] for level, features in pyramid.items()} for part in (slice(16), slice(1, 17))
    )
    return fused.flow(first, second, 256, 341)


@pytest.fixture(scope="module")
def i3d(checkpoints: dict[str, str]) -> Callable[[str, str], I3D]:
    def load(stream: str, variant: str) -> I3D:
        network = I3D(CHANNELS[stream], VARIANTS[variant])
        return load_or_randomize(network, checkpoints[f"i3d_{stream}_path"], i3d_published.our_key).fuse()

    return load


@pytest.fixture(scope="module")
def stack(clip: Tensor, flow: Tensor) -> Callable[[str], Tensor]:
    def make(stream: str) -> Tensor:
        images = quantize_flow(flow) if stream == "flow" else normalize_rgb(clip[:16])
        return center_crop(images, 224).transpose(0, 1)[None]

    return make


def test_flow_of_a_synthetic_clip_is_the_reference_to_a_thousandth_of_a_pixel(
    flow: Tensor, reference: dict[str, Tensor]
) -> None:
    expected = reference["flow_every_8th_pixel"]
    assert float((flow[:4, :, ::8, ::8] - expected).abs().max()) < 1e-3
    means = flow.abs().mean(dim=(2, 3))
    assert float((means - reference["flow_mean_abs"]).abs().max()) < 1e-3


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_features_and_logits_of_a_synthetic_clip_are_the_reference(
    stream: str, i3d: Callable[..., I3D], stack: Callable[[str], Tensor], reference: dict[str, Tensor]
) -> None:
    network = i3d(stream, "ancestor")
    features = network(stack(stream))
    tolerance = 1e-4 if stream == "rgb" else 1e-3  # a flow 1e-4 pixels off may be rounded otherwise
    assert relative_difference(features, reference[f"{stream}_feature"]) < tolerance
    assert relative_difference(network.classify(features), reference[f"{stream}_logits"]) < tolerance


def test_the_deepmind_variant_has_the_larger_epsilon(
    i3d: Callable[[str, str], I3D], stack: Callable[[str], Tensor], reference: dict[str, Tensor]
) -> None:
    features, expected = i3d("rgb", "deepmind")(stack("rgb")), reference["rgb_feature_eps1e-3"]
    change = relative_difference(expected, reference["rgb_feature"])
    assert relative_difference(features, expected) < min(change / 10, 1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_fused_layers_and_weights_of_two_terms_give_the_features_of_the_smallest_stack(
    variant: str, checkpoints: dict[str, str]
) -> None:
    network = I3D(2, VARIANTS[variant])
    load_or_randomize(network, checkpoints["i3d_flow_path"], i3d_published.our_key)
    images = torch.rand(1, 2, 9, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before = network(images)
    assert before.shape == (1, 1024)
    fused = network.fuse()(images)
    assert relative_difference(fused, before) < 1e-5
    exact = network.space_2c.conv.weight
    assert relative_difference(network.refine_weights()(images), fused) < 1e-6
    first, second = network.space_2c.conv.weight.chunk(2, dim=1)
    assert torch.equal(first + second, exact)
    assert relative_difference(tf32(second), second) < 1e-3
    assert torch.equal(tf32(first), first)
    assert not torch.equal(first, exact)


def test_tf32_has_ten_bits_after_the_point_and_rounds_halves_to_even() -> None:
    step = 2**-10
    numbers = torch.tensor([1 + 0.4 * step, 1 + 0.5 * step, 1 + 1.5 * step, -1 - 0.6 * step, 0.0, 3e-39])
    assert tf32(numbers).tolist()[:5] == [1, 1, 1 + 2 * step, -1 - step, 0]


def test_fused_layers_give_the_flow_of_those_of_the_paper(pwc: PWCNet, clip: Tensor, flow: Tensor) -> None:
    torch.testing.assert_close(flow[:2], pwc(clip[:2], clip[1:3]), atol=2e-4, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5)])
def test_a_transposed_convolution_is_a_convolution_whose_pixels_are_shuffled(height: int, width: int) -> None:
    torch.manual_seed(0)
    transposed = torch.nn.ConvTranspose2d(7, 2, kernel_size=4, stride=2, padding=1)
    images = torch.randn(2, 7, height, width)
    kernel, bias = to_shuffled_convolution(transposed)
    shuffled = F.pixel_shuffle(F.conv2d(images, kernel, bias, padding=1), 2)
    torch.testing.assert_close(shuffled, transposed(images), atol=1e-5, rtol=1e-5)


ODD_AND_EVEN_LENGTHS = [9, 17, 18]


def channels_last(images: Tensor) -> npt.NDArray[np.float32]:
    """(B, C, T, H, W) -> (B, T, H, W, C), as TensorFlow has it."""
    axes: npt.NDArray[np.float32] = images.permute(0, 2, 3, 4, 1).numpy()
    return axes


@pytest.mark.parametrize("num_frames", ODD_AND_EVEN_LENGTHS)
@pytest.mark.parametrize("size", [(1, 3, 3), (3, 3, 3), (2, 2, 2)])
def test_pools_of_the_deepmind_variant_pad_as_tensorflow_does(num_frames: int, size: tuple[int, int, int]) -> None:
    tf = oracle("tensorflow")
    images = torch.rand(1, 4, num_frames, 15, 14, generator=torch.Generator().manual_seed(0))
    for stride in ((1, 2, 2), (2, 2, 2)):
        expected = tf.nn.max_pool3d(channels_last(images), size, stride, "SAME").numpy()
        np.testing.assert_allclose(channels_last(Pool(size, stride, VARIANTS["deepmind"])(images)), expected)


@pytest.mark.parametrize("num_frames", ODD_AND_EVEN_LENGTHS)
@pytest.mark.parametrize(("size", "stride"), [(7, 2), (3, 1), (1, 1)])
def test_units_of_the_deepmind_variant_pad_as_tensorflow_does(num_frames: int, size: int, stride: int) -> None:
    tf = oracle("tensorflow")
    images = torch.rand(1, 4, num_frames, 15, 14, generator=torch.Generator().manual_seed(0))
    unit = Unit(4, 5, size, stride=stride, variant=VARIANTS["deepmind"]).eval()
    kernel = unit.conv.weight.permute(2, 3, 4, 1, 0).numpy()
    convolved = tf.nn.conv3d(channels_last(images), kernel, (1, stride, stride, stride, 1), "SAME").numpy()
    expected = np.maximum(convolved / np.sqrt(1 + 1e-3), 0)  # a new batch norm has mean 0 and variance 1
    np.testing.assert_allclose(channels_last(unit(images)), expected, atol=1e-5, rtol=1e-4)
