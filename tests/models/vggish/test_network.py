"""VGGish's network, its weights from both kinds of checkpoint, and the postprocessing, against TensorFlow and NumPy."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.vggish import tensorflow_checkpoint
from models.vggish.extract import load_network
from models.vggish.postprocess import load_pca
from tests.helpers.oracles import Array, oracle, relative_difference
from utils.errors import WeightsError

pytest_plugins = ("tests.helpers.vggish_fixtures",)

SCOPES = {  # of the TensorFlow network's variables, by the layers of the PyTorch conversion
    "features.0": "vggish/conv1",
    "features.3": "vggish/conv2",
    "features.6": "vggish/conv3/conv3_1",
    "features.8": "vggish/conv3/conv3_2",
    "features.11": "vggish/conv4/conv4_1",
    "features.13": "vggish/conv4/conv4_2",
    "embeddings.0": "vggish/fc1/fc1_1",
    "embeddings.2": "vggish/fc1/fc1_2",
    "embeddings.4": "vggish/fc2",
}


def save_v1(tf: Any, arrays: dict[str, Array], path: Path) -> None:
    """Write a TensorFlow checkpoint of format V1."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, array in arrays.items():
            tf.compat.v1.get_variable(name, array.shape).load(array, session)
        saver = tf.compat.v1.train.Saver(write_version=tf.compat.v1.train.SaverDef.V1)
        saver.save(session, str(path), write_meta_graph=False, write_state=False)


def test_tensorflows_own_checkpoint_gives_the_same_network(seeded_checkpoint: Path, tmp_path: Path) -> None:
    """TensorFlow has axes (height, width, in, out) and (in, out)."""
    path, arrays = tmp_path / "vggish.pth", {}
    state = {name: entry.numpy() for name, entry in torch.load(seeded_checkpoint).items()}
    for layer, scope in SCOPES.items():
        weights = state[f"{layer}.weight"]
        arrays[f"{scope}/weights"] = weights.transpose(2, 3, 1, 0) if weights.ndim == 4 else weights.T
        arrays[f"{scope}/biases"] = state[f"{layer}.bias"]
    save_v1(oracle("tensorflow"), arrays, path)
    assert path.stat().st_size > 72_141_184 * 4  # all in one file, as only V1 does
    ours, expected = (load_network(str(file)).state_dict() for file in (path, seeded_checkpoint))
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_the_network_is_the_references_with_weights_of_the_pytorch_conversion(
    seeded_checkpoint: Path, reference: dict[str, Array]
) -> None:
    embeddings = load_network(str(seeded_checkpoint))(torch.from_numpy(reference["log_mel"]))
    assert relative_difference(embeddings, reference["embedding"]) < 1e-5


def test_without_tensorflow_its_checkpoint_is_refused_with_the_way_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"some table" + tensorflow_checkpoint.TABLE_MAGIC)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(WeightsError, match="pip install tensorflow"):
        load_network(str(path))


def test_a_broken_tensorflow_checkpoint_is_refused(tmp_path: Path) -> None:
    oracle("tensorflow")
    path = tmp_path / "model.ckpt"
    path.write_bytes(bytes(1000) + tensorflow_checkpoint.TABLE_MAGIC)
    with pytest.raises(WeightsError, match=r"model\.ckpt: unreadable TensorFlow checkpoint"):
        load_network(str(path))


def test_variables_of_another_network_are_refused(tmp_path: Path) -> None:
    tf = oracle("tensorflow")
    path = tmp_path / "model.ckpt"
    save_v1(tf, {"resnet/conv1/weights": np.ones(3, np.float32)}, path)
    with pytest.raises(WeightsError, match="unknown entry 'resnet/conv1/weights'"):
        load_network(str(path))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pca_means": np.zeros(128)}, "pca_eigen_vectors"),
        ({"pca_eigen_vectors": np.zeros((128, 128)), "pca_means": np.zeros(64)}, "shapes"),
        ({"pca_eigen_vectors": np.zeros((128, 64)), "pca_means": np.zeros(128)}, "shapes"),
        ({"pca_eigen_vectors": np.array([[{}]]), "pca_means": np.zeros(128)}, "allow_pickle"),
    ],
)
def test_what_are_no_pca_parameters_is_refused(arrays: dict[str, Array], message: str, tmp_path: Path) -> None:
    path = tmp_path / "pca.npz"
    np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(WeightsError, match=message):
        load_pca(path, torch.device("cpu"))


@pytest.mark.parametrize("content", [b"", b"some text", b"PK\x03\x04 and no more"])
def test_a_file_that_is_no_npz_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pca.npz"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"pca\.npz: unreadable PCA parameters"):
        load_pca(path, torch.device("cpu"))
