"""VGGish, of CNN Architectures for Large-Scale Audio Classification (arXiv:1609.09430).

The weights are those that AudioSet published (Apache-2.0; see `checkpoint.py`). The feature is AudioSet's embedding,
taken after the last layer's ReLU. The network that the paper trained goes on to a classifier, which is not published.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from models.vggish import NUM_FRAMES

NUM_BANDS = 64  # of a log-mel patch
NUM_FEATURES = 128

CONV_CHANNELS = (64, 128, 256, 256, 512, 512)
POOLED = (0, 1, 3, 5)  # the convolutions that a pool follows
DENSE_CHANNELS = (4096, 4096, NUM_FEATURES)


class VGGish(nn.Module):
    """Log-mel patches -> embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        channels = 1
        for wider in CONV_CHANNELS:
            self.convs.append(nn.Conv2d(channels, wider, kernel_size=3, padding=1))
            channels = wider
        self.denses = nn.ModuleList()
        channels *= (NUM_FRAMES >> len(POOLED)) * (NUM_BANDS >> len(POOLED))
        for width in DENSE_CHANNELS:
            self.denses.append(nn.Linear(channels, width))
            channels = width

    def forward(self, patches: Tensor) -> Tensor:
        """Return embeddings (N, 128), none below 0, of log-mel patches (N, 96, 64)."""
        x = patches[:, None]  # (N, 1, 96, 64)
        for index, conv in enumerate(self.convs):
            x = F.relu(conv(x))
            if index in POOLED:
                x = F.max_pool2d(x, kernel_size=2)
        x = x.permute(0, 2, 3, 1).flatten(1)  # (N, 6 * 4 * 512), channels last as in TensorFlow
        for dense in self.denses:
            x = F.relu(dense(x))
        return x
