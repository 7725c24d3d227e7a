"""VGGish's published weights: their files, and the names of their entries here.

AudioSet publishes the network as a TensorFlow checkpoint,
https://storage.googleapis.com/audioset/vggish_model.ckpt, without a hash; `tensorflow_checkpoint.py` reads it.
The default is its conversion for PyTorch, which holds the same numbers and needs no TensorFlow.
"""

from pathlib import Path

from utils.weights.published import WeightsFile

_FOLDER = Path(__file__).parent / "checkpoints"
_LICENCE = "Apache-2.0"

MODEL = WeightsFile(
    title="VGGish",
    path=_FOLDER / "vggish-10086976.pth",
    urls=("https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",),
    sha256="10086976",
    licence=_LICENCE,
)
PCA = WeightsFile(
    title="VGGish PCA",
    path=_FOLDER / "vggish_pca_params.npz",
    urls=("https://storage.googleapis.com/audioset/vggish_pca_params.npz",),
    sha256="4d878af3e306defbfb37095365aa7e5a6cecb86bad13e859e626151c4e6a8b9d",
    licence=_LICENCE,
)

# The layers of `VGGish`: their names in the PyTorch conversion, and their scopes in the TensorFlow checkpoint.
_LAYERS = {
    "convs.0": ("features.0", "vggish/conv1"),
    "convs.1": ("features.3", "vggish/conv2"),
    "convs.2": ("features.6", "vggish/conv3/conv3_1"),
    "convs.3": ("features.8", "vggish/conv3/conv3_2"),
    "convs.4": ("features.11", "vggish/conv4/conv4_1"),
    "convs.5": ("features.13", "vggish/conv4/conv4_2"),
    "denses.0": ("embeddings.0", "vggish/fc1/fc1_1"),
    "denses.1": ("embeddings.2", "vggish/fc1/fc1_2"),
    "denses.2": ("embeddings.4", "vggish/fc2"),
}
_OUR_LAYERS = {published: ours for ours, names in _LAYERS.items() for published in names}
_OUR_KINDS = {"weight": "weight", "weights": "weight", "bias": "bias", "biases": "bias"}


def our_key(published: str) -> str:
    """Return the name in `VGGish` of an entry of the PyTorch conversion or a variable of the TensorFlow checkpoint.

    features.13.weight -> convs.5.weight
    vggish/conv4/conv4_2/weights -> convs.5.weight
    """
    layer, kind = published.rsplit("/" if "/" in published else ".", 1)
    return f"{_OUR_LAYERS[layer]}.{_OUR_KINDS[kind]}"
