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
from models.i3d.net import CHANNELS, I3D, INPUT_SCALE, VARIANTS, Pool, Unit, split_weights
from models.i3d.transforms import normalize_rgb, quantize_flow
from models.pwc import checkpoint as pwc_published
from models.pwc.fused import fuse, to_shuffled_convolution
from models.pwc.net import PWCNet
from tests.helpers import seeded
from tests.helpers.oracles import oracle, relative_difference
from utils.crops import center_crop
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
        load_or_randomize(network, checkpoints[f"i3d_{stream}_path"], i3d_published.our_key)
        return network.optimize(torch.float32, for_gpu=False)

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
def test_networks_optimized_for_either_device_give_the_features_of_the_smallest_stack(
    variant: str, checkpoints: dict[str, str]
) -> None:
    images = torch.rand(1, 9, 2, 224, 224, generator=torch.Generator().manual_seed(0)).transpose(1, 2) * 2 - 1

    def load() -> I3D:
        return load_or_randomize(I3D(2, VARIANTS[variant]), checkpoints["i3d_flow_path"], i3d_published.our_key)

    expected = load()(images)
    assert expected.shape == (1, 1024)
    for for_gpu in (False, True):
        assert relative_difference(load().optimize(torch.float32, for_gpu=for_gpu)(images), expected) < 1e-5


def test_two_half_precision_numbers_are_a_weight_to_22_bits_or_to_half_the_smallest_number() -> None:
    weights = torch.rand(16, 3, 7, 7, 7, generator=torch.Generator().manual_seed(0)).mul(-20).exp2()
    exact = weights.double()
    first, second, padding = torch.split(split_weights(weights, torch.float16).double(), [3, 3, 2], dim=1)
    tolerance = (exact * 2**-22).clamp(min=2**-25)
    assert ((first + second - exact).abs() <= tolerance).all()
    assert ((first - exact).abs() > tolerance)[exact > 2**-8].double().mean() > 0.9, "with one number"
    assert not padding.any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_first_layers_in_half_precision_have_exact_inputs_weights_of_two_terms_and_single_biases(
    variant: str, checkpoints: dict[str, str]
) -> None:
    network = I3D(2, VARIANTS[variant])
    load_or_randomize(network, checkpoints["i3d_flow_path"], i3d_published.our_key)
    units = (network.stem, network.point_2b, network.space_2c)
    levels = torch.randint(0, 256, (1, 2, 9, 28, 28), generator=torch.Generator().manual_seed(0))
    outputs = [2 * levels / 255 - 1]
    for unit in units:
        outputs.append(unit(outputs[-1]))
    network.optimize(torch.float16, for_gpu=True)
    biases = [module.bias for module in network.modules() if isinstance(module, Unit)]
    assert {None if bias is None else bias.dtype for bias in biases} == {torch.float32}
    assert network.mixed_3b.space_1.conv.weight.dtype == torch.float16
    for unit, images, expected in zip(units, outputs, outputs[1:], strict=False):
        assert unit.conv.weight.dtype == torch.float16
        unit.conv.float()  # a CPU may add up products of half precision in that
        assert relative_difference(unit(images), expected) < 1e-6
        unit.conv.weight[:, images.shape[1] : 2 * images.shape[1]] = 0
        assert relative_difference(unit(images), expected) > 1e-5, "with one term"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scaled_grey_levels_are_exact_in_16_bits(dtype: torch.dtype) -> None:
    levels = torch.arange(256)
    scaled = normalize_rgb(levels) * INPUT_SCALE
    assert scaled.to(dtype).double().mul(256).tolist() == (2 * levels - 255).tolist()


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


# Kernel and stride of I3D's pools, and how the ancestor pads each axis.
POOLS = [
    ((1, 3, 3), (1, 2, 2), (0, 1, 0, 1, 0, 0)),
    ((3, 3, 3), (2, 2, 2), (0, 1, 0, 1, 0, 1)),
    ((2, 2, 2), (2, 2, 2), (0, 0, 0, 0, 0, 0)),
    ((3, 3, 3), (1, 1, 1), (1, 1, 1, 1, 1, 1)),
]


@pytest.mark.parametrize("num_frames", [1, 2, 3, 16, 17])
@pytest.mark.parametrize(("height", "width"), [(14, 28), (2, 4)])
@pytest.mark.parametrize(("size", "stride", "padding"), POOLS)
def test_pools_of_the_ancestor_variant_are_max_pools_in_three_dimensions(
    size: tuple[int, int, int],
    stride: tuple[int, int, int],
    padding: tuple[int, ...],
    height: int,
    width: int,
    num_frames: int,
) -> None:
    images = torch.rand(2, 5, num_frames, height, width, generator=torch.Generator().manual_seed(0))
    expected = F.max_pool3d(F.pad(images, padding), size, stride, ceil_mode=True)
    for memory_format in (torch.contiguous_format, torch.channels_last_3d):
        pooled = Pool(size, stride, VARIANTS["ancestor"])(images.contiguous(memory_format=memory_format))
        assert torch.equal(pooled, expected)
    assert pooled.is_contiguous(memory_format=torch.channels_last_3d)


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
