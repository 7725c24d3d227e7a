"""PWC-Net's fused layers in the form that GPUs and half precision have."""

import copy

import pytest
import torch

from models.pwc import checkpoint, fused
from models.pwc.net import PWCNet
from utils.weights.checkpoint import load_or_randomize


@pytest.fixture(scope="module")
def pwc(checkpoints: dict[str, str]) -> PWCNet:
    return load_or_randomize(PWCNet(), checkpoints["pwc_path"], checkpoint.our_key)


def test_biases_as_weights_of_ones_give_the_flow_of_the_network_of_the_paper(
    pwc: PWCNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = torch.randint(0, 256, (2, 2, 3, 70, 120), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(fused, "wants_ones", lambda x: True)
    network = fused.fuse(copy.deepcopy(pwc)).to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(first, second), pwc(first, second), atol=2e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_biases_keep_16_bits_in_half_precision(pwc: PWCNet, dtype: torch.dtype) -> None:
    network = fused.fuse(copy.deepcopy(pwc)).to(dtype)
    for ours, published in (
        ("levels.1.2.kernel", "levels.1.2.0"),
        ("refiner.6.kernel", "refiner.6"),
        ("decoders.2.kernels.0", "decoders.2.dense.0.0"),
    ):
        bias = pwc.get_parameter(f"{published}.bias")
        num_inputs = pwc.get_parameter(f"{published}.weight").shape[1]
        kept = network.get_parameter(ours).float()[: len(bias), num_inputs:].sum(dim=(1, 2, 3))
        torch.testing.assert_close(kept, bias, atol=1e-7, rtol=2**-16)
        assert not torch.equal(bias.to(dtype).float(), bias)
