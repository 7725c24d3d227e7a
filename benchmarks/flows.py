"""Measures the flows beside each other, in one thread of the CPU: their time, and how near I3D's features are.

python -m benchmarks.flows VIDEO [--num_stacks N] [weights' paths]

Time is that of the processor, so that other programs change it little. RAFT's is the same with any weights; without
its published ones its flow means nothing.
"""

import argparse
import time
from itertools import combinations, islice, pairwise

import torch

from benchmarks.files import HEIGHT, least_cosine
from models import i3d
from models.flow import FLOWS, load_flow
from models.flow.pairs import PairFlows
from models.i3d import CROP_SIZE
from models.i3d.extract import load_i3d
from models.i3d.transforms import quantize_flow
from utils.crops import center_crop
from utils.media.video import Video
from utils.stacks import stacks

STACK_SIZE = 24
PAIRS_PER_BATCH = 4  # as on a CPU


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("--num_stacks", type=int, default=4)
    for name in ("pwc_path", "raft_path", "i3d_flow_path"):
        parser.add_argument(f"--{name}", help="untrained weights without it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with Video(options.video, HEIGHT) as video:
        frames = (torch.from_numpy(frame).permute(2, 0, 1) for frame in video)
        groups = list(islice(stacks(frames, STACK_SIZE + 1, STACK_SIZE, cycle_tail=False), options.num_stacks))
    config = i3d.Config(i3d_flow_path=options.i3d_flow_path)
    network = load_i3d(config, "flow", torch.float32, for_gpu=False)
    features = {}
    for name in FLOWS:
        path = getattr(options, f"{name}_path", None)
        method = load_flow(name, path, torch.device("cpu"), torch.float32)
        flows, images = PairFlows(method, lambda height, width: PAIRS_PER_BATCH), []
        start = time.process_time()
        for stack in groups:
            computed = flows.compute(dict(zip(stack.indices, stack.items, strict=True)), list(pairwise(stack.indices)))
            images.append(quantize_flow(center_crop(torch.stack(list(computed.values())), CROP_SIZE))[None])
        seconds = (time.process_time() - start) / (len(groups) * STACK_SIZE)
        features[name] = torch.cat([network(image.transpose(1, 2)) for image in images]).numpy()
        print(f"{name}: {seconds:.3f} CPU seconds a frame", flush=True)
    for one, other in combinations(features, 2):
        print(f"features of {one} and {other}: least cosine {least_cosine(features[one], features[other]):.4f}")


if __name__ == "__main__":
    main()
