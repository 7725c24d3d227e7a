"""Video -> VGGish features of its sound."""

import math
from functools import partial
from pathlib import Path

import torch

from models.vggish import Config, checkpoint, mel, tensorflow_checkpoint
from models.vggish.chunks import pad
from models.vggish.net import VGGish
from models.vggish.postprocess import load_pca, postprocess
from models.vggish.resample import resample
from utils.devices import device_context, dtype_of, forbid_reduced_precision, precision_on
from utils.errors import MediaError
from utils.media.audio import Audio
from utils.media.options import DecodeOptions
from utils.memory import retry_with_half_batch
from utils.results import Features
from utils.weights.checkpoint import fill_weights, load_or_randomize

PATCHES_PER_BATCH = {"cpu": 32, "cuda": 256}  # more are no faster: measured on a CPU, an estimate on GPUs
FULL_SCALE = 2**15  # of 16-bit samples


class Extractor:
    """Holds the network on one device. It sets PyTorch's precision flags, which are the whole process's.

    All but the network is computed in float32, whatever the precision.
    """

    def __init__(self, config: Config, device: str, num_sharing: int = 1) -> None:
        self.config = config
        self.device = torch.device(device)
        forbid_reduced_precision()
        self.dtype = dtype_of(precision_on(device, config.precision))
        self.network = load_network(config.vggish_model_path).to(self.device, self.dtype)
        self.batch_size = config.batch_size or PATCHES_PER_BATCH[self.device.type]
        self.pca = None
        if config.postprocess:
            assert config.vggish_pca_path is not None
            self.pca = load_pca(Path(config.vggish_pca_path), self.device)

    def extract(self, path: str, options: DecodeOptions, frames_folder: Path | None = None) -> Features:
        """Return the features of a video's sound, (N, 128), float32 or, postprocessed, uint8; there are no frames.

        Raises MediaError and OutOfMemoryError.
        """
        features, self.batch_size = retry_with_half_batch(partial(self._extract, path, options), self.batch_size)
        return features

    @torch.inference_mode()
    def _extract(self, path: str, options: DecodeOptions, patches_per_batch: int) -> Features:
        embeddings = []
        with device_context(str(self.device)), Audio(path, options) as audio:
            # As waveforms (samples,) in [-1, 1), the means of the channels.
            mono = (torch.from_numpy(block).to(self.device).float().mean(dim=1) / FULL_SCALE for block in audio)
            least = math.ceil(mel.SHORTEST_SECONDS * audio.rate_hz) if self.config.pad_short else 0
            waveform = resample(pad(mono, least), audio.rate_hz)
            all_patches = mel.patches(waveform, patches_per_batch, self.config.hop_frames)
            if options.sketch is not None:
                bands = f"{mel.LOWEST_HZ:g} Hz", f"{mel.HIGHEST_HZ:g} Hz"
                all_patches = options.sketch.sound(all_patches, *bands, self.config.hop_frames)
            for patches in all_patches:
                embeddings.append(self.network(patches.to(self.dtype)).float())
            seconds = audio.seconds
        if not embeddings:
            needed = "some" if self.config.pad_short else f"{mel.SHORTEST_SECONDS:.3f} s, unless --pad_short is given"
            raise MediaError("too_short", f"{path}: {seconds:.3f} s of sound, and VGGish needs {needed}")
        rows = torch.cat(embeddings)
        if self.pca is not None:
            rows = postprocess(rows, self.pca)
        return Features(
            arrays={"vggish": rows.cpu().numpy()},
            spans=self.config.spans(len(rows), seconds, None),
            seconds=seconds,
            missing=audio.missing,
            missing_seconds=audio.missing_seconds,
        )


def load_network(path: str | None) -> VGGish:
    """Load the weights in a file of either kind, or untrained ones. Raises WeightsError."""
    network = VGGish()
    if path is not None and tensorflow_checkpoint.is_tensorflow(Path(path)):
        fill_weights(network, tensorflow_checkpoint.read(Path(path)), Path(path), checkpoint.our_key)
        return network.eval()
    return load_or_randomize(network, path, checkpoint.our_key)
