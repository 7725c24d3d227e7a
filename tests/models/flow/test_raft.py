"""RAFT with untrained weights, beside torchvision's module called directly; and its checkpoints."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

from models.flow import FLOWS, RAFT
from models.flow.raft import RAFTFlow, load, our_key
from tests.helpers import seeded
from utils.errors import WeightsError

EXAMPLES = {  # of the authors' names, from their core/extractor.py and core/update.py
    "module.fnet.conv1.weight": "feature_encoder.convnormrelu.0.weight",
    "module.fnet.conv2.bias": "feature_encoder.conv.bias",
    "module.fnet.layer1.1.conv2.weight": "feature_encoder.layer1.1.convnormrelu2.0.weight",
    "module.fnet.layer3.0.downsample.0.bias": "feature_encoder.layer3.0.downsample.0.bias",
    "module.cnet.norm1.running_mean": "context_encoder.convnormrelu.1.running_mean",
    "module.cnet.layer2.0.norm2.weight": "context_encoder.layer2.0.convnormrelu2.1.weight",
    "module.cnet.layer2.0.norm3.bias": "context_encoder.layer2.0.downsample.1.bias",
    "module.cnet.layer2.0.downsample.1.bias": "context_encoder.layer2.0.downsample.1.bias",
    "module.update_block.encoder.convc2.weight": "update_block.motion_encoder.convcorr2.0.weight",
    "module.update_block.encoder.convf1.bias": "update_block.motion_encoder.convflow1.0.bias",
    "module.update_block.encoder.conv.weight": "update_block.motion_encoder.conv.0.weight",
    "module.update_block.gru.convr1.weight": "update_block.recurrent_block.convgru1.convr.weight",
    "module.update_block.gru.convq2.bias": "update_block.recurrent_block.convgru2.convq.bias",
    "module.update_block.flow_head.conv2.weight": "update_block.flow_head.conv2.weight",
    "module.update_block.mask.0.weight": "mask_predictor.convrelu.0.weight",
    "module.update_block.mask.2.bias": "mask_predictor.conv.bias",
}


def authors_name(key: str) -> str:
    """What the authors' checkpoint calls an entry of torchvision's."""
    key = re.sub(r"\.convnormrelu(\d?)\.([01])\.", lambda m: f".{('conv', 'norm')[int(m[2])]}{m[1] or 1}.", key)
    key = key.replace("_encoder.conv.", "_encoder.conv2.", not key.startswith("update"))
    key = key.replace("mask_predictor.convrelu.0", "update_block.mask.0").replace("mask_predictor.conv.", "mask.2.")
    key = re.sub(r"motion_encoder\.conv(c|f|)\w*?(\d?)\.0\.", r"encoder.conv\1\2.", key)
    key = re.sub(r"recurrent_block\.convgru(\d)\.(\w+)", r"gru.\2\1", key)
    key = key.replace("mask.2.", "update_block.mask.2.") if key.startswith("mask") else key
    return "module." + key.replace("feature_encoder", "fnet").replace("context_encoder", "cnet")


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    return raft_large(weights=None).eval()


@pytest.mark.parametrize(("height", "width"), [(136, 160), (133, 171)])
def test_flows_of_a_batch_are_those_of_torchvision_called_on_each_pair(network: Any, height: int, width: int) -> None:
    frames = torch.from_numpy(seeded.synthetic_clip()[:3, :, :height, :width])
    method = RAFTFlow(network)
    encoded = method.encode(frames)
    first, second = ({name: rows[part] for name, rows in encoded.items()} for part in (slice(2), slice(1, 3)))
    flows = method.flow(first, second, height, width)
    assert flows.shape == (2, 2, height, width)

    def pad(frame: Tensor) -> Tensor:  # 133 to 136, 171 to 176: half on each side, the larger one after
        sides = [((-side % 8) // 2, (-side % 8 + 1) // 2) for side in (height, width)]
        return 2 * (torch.from_numpy(np.pad(frame, [(0, 0), *sides], mode="edge"))[None].float() / 255) - 1

    top, left = ((-side % 8) // 2 for side in (height, width))
    for flow, one, two in zip(flows, frames, frames[1:], strict=False):
        expected = network(pad(one), pad(two), num_flow_updates=20)[-1][0]
        assert expected.abs().mean() > 0.1
        expected = expected[:, top : top + height, left : left + width]
        torch.testing.assert_close(flow, expected, atol=1e-4, rtol=0)


def test_correlations_are_not_kept_and_fewer_pairs_of_larger_frames_fit(network: Any) -> None:
    method = RAFTFlow(network)
    encoded = method.encode(torch.zeros(1, 3, 128, 128, dtype=torch.uint8))
    method.flow(encoded, encoded, 128, 128)
    assert network.corr_block.corr_pyramid == []
    budget = 10 * 10**9
    for height, width in ((256, 341), (256, 455), (1080, 1920)):
        num_correlations = (-(-height // 8) * -(-width // 8)) ** 2
        num_pairs = method.pairs_that_fit(budget, height, width)
        assert 1 <= num_pairs <= budget // (2 * 4 * num_correlations), "two float32 copies"


def test_the_published_weights_are_those_that_torchvision_converted_from_the_authors() -> None:
    assert RAFT.urls == (Raft_Large_Weights.C_T_SKHT_V1.url,)
    assert RAFT.urls[0].endswith(f"-{RAFT.sha256}.pth")
    assert FLOWS["raft"].weights == RAFT


def test_names_of_the_authors_and_of_torchvision_are_known(network: Any) -> None:
    assert {theirs: our_key(theirs) for theirs in EXAMPLES} == EXAMPLES
    for key in network.state_dict():
        assert our_key(key) == key
        assert our_key(authors_name(key)) == key


@pytest.mark.parametrize("is_authors", [True, False])
def test_a_checkpoint_of_the_authors_or_of_torchvision_loads_strictly(
    network: Any, is_authors: bool, tmp_path: Path
) -> None:
    state = {authors_name(key) if is_authors else key: entry for key, entry in network.state_dict().items()}
    if is_authors:  # the norms of projections have two names there
        state |= {key.replace("downsample.1", "norm3"): entry for key, entry in state.items() if "downsample.1" in key}
    torch.save(state, tmp_path / "raft.pth")
    loaded = load(str(tmp_path / "raft.pth"), torch.device("cpu"), torch.float32).network.state_dict()
    assert loaded.keys() == network.state_dict().keys()
    assert all(torch.equal(entry, loaded[key]) for key, entry in network.state_dict().items())
    state.popitem()
    torch.save(state | {"more": torch.zeros(1)}, tmp_path / "raft.pth")
    with pytest.raises(WeightsError, match=r"raft\.pth: not weights of RAFT"):
        load(str(tmp_path / "raft.pth"), torch.device("cpu"), torch.float32)
