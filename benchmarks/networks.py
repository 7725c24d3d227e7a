"""Measures what features of a video cost beside the bare network on the same batches, in one thread of the CPU.

python -m benchmarks.networks [MODEL ...] [--rounds N]

Decoding, scaling and stacking are included on the one side only. Time is that of the processor; the two sides take
turns, and the median counts. Weights are untrained.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import timm
import torch
import torchvision

from benchmarks.files import write_clip
from models import extractor
from utils.memory import keep_freed_memory

NUM_FRAMES = 64
BATCH_SIZE = 16  # frames: images, or one stack
NETWORKS: dict[str, tuple[str, Callable[[str], Any], tuple[int, ...], dict[str, Any]]] = {
    "resnet50": ("timm", timm.create_model, (BATCH_SIZE, 3, 224, 224), {"extraction_fps": 0}),
    "vit_small_patch16_224": ("timm", timm.create_model, (BATCH_SIZE, 3, 224, 224), {"extraction_fps": 0}),
    "r2plus1d_18": ("torchvision", torchvision.models.get_model, (1, 3, BATCH_SIZE, 112, 112), {}),
}
"""By the model's name: its feature type, what makes the bare network, the shape of a batch, and options."""


def time_call(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.mp4")
        write_clip(clip, NUM_FRAMES)
        for name in chosen.models or NETWORKS:
            feature_type, build, shape, options = NETWORKS[name]
            extract = extractor(
                feature_type, "cpu", model_name=name, weights="random", batch_size=BATCH_SIZE, **options
            )
            network, images = build(name).eval(), torch.randn(shape)

            def run_bare(network: Any = network, images: torch.Tensor = images) -> None:
                for _ in range(NUM_FRAMES // BATCH_SIZE):
                    network(images)

            def run_ours(extract: Callable[[str], Any] = extract) -> None:
                extract(str(clip))

            run_bare()  # warms up
            run_ours()
            times = [(time_call(run_bare), time_call(run_ours)) for _ in range(chosen.rounds)]
            of_bare, of_ours = (1000 * median(of_side) / NUM_FRAMES for of_side in zip(*times, strict=True))
            ratio = median(bare / ours for bare, ours in times)
            print(
                f"{name}: {of_ours:.1f} CPU ms a frame, the bare network {of_bare:.1f}: ratio {ratio:.3f}", flush=True
            )


if __name__ == "__main__":
    main()
