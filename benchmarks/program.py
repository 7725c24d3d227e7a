"""How long the program takes to start, what two workers on the CPU lose to one, and what overlapping stacks cost.

python benchmarks/program.py [--device_ids 0]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.files import HEIGHT, WIDTH, write_clip  # noqa: E402
from models.i3d import Config  # noqa: E402
from models.i3d.extract import Extractor  # noqa: E402
from utils.memory import keep_freed_memory  # noqa: E402

MAIN = str(REPOSITORY / "main.py")
STACK_SIZE = 16  # frames
NUM_CLIPS = 8
NUM_ROUNDS = 3


def seconds_of(*arguments: str) -> float:
    """Of a run of the program."""
    start = time.perf_counter()
    subprocess.run([sys.executable, MAIN, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def seconds_of_networks(clip: Path, step_size: int) -> dict[str, float]:
    """In PWC-Net and in I3D, of the flow stream of a video, on the CPU."""
    extractor = Extractor(Config(weights="random", streams=("flow",), step_size=step_size), "cpu")
    seconds = {"PWC-Net": 0.0, "I3D": 0.0}

    def timed(work: Callable[..., Any], network: str) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = work(*arguments)
            seconds[network] += time.perf_counter() - start
            return result

        return run

    parts: tuple[tuple[Any, str, str], ...] = (
        (extractor.pwc, "pyramid", "PWC-Net"),
        (extractor.pwc, "flow", "PWC-Net"),
        (extractor, "_features", "I3D"),
    )
    for owner, name, network in parts:
        setattr(owner, name, timed(getattr(owner, name), network))
    extractor.extract(str(clip))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device_ids", nargs="+", default=["cpu"])
    options = parser.parse_args()
    print(f"--help: {min(seconds_of('--help') for _ in range(NUM_ROUNDS)):.2f} s")
    with tempfile.TemporaryDirectory() as name:
        clips = [Path(name, f"{number}.mp4") for number in range(NUM_CLIPS)]
        for clip in clips:
            write_clip(clip, 2 * STACK_SIZE + 1, WIDTH, HEIGHT)
        i3d = ["--feature_type", "i3d", "--weights", "random", "--stack_size", str(STACK_SIZE)]
        i3d += ["--step_size", str(STACK_SIZE), "--video_paths"]

        one = [seconds_of(*i3d, str(clips[0]), "--device_ids", *options.device_ids) for _ in range(NUM_ROUNDS)]
        print(f"one video of {2 * STACK_SIZE + 1} frames, from the start to the end: {min(one):.1f} s")

        seconds: dict[int, list[float]] = {1: [], 2: []}
        paths = list(map(str, clips))
        for _ in range(NUM_ROUNDS):  # in turn, because a shared machine's speed drifts
            for number, of_number in seconds.items():
                of_number.append(seconds_of(*i3d, *paths, "--device_ids", *["cpu"] * number))
        best = {number: min(of_number) for number, of_number in seconds.items()}
        print(
            f"{NUM_CLIPS} videos on {len(os.sched_getaffinity(0))} cores, start included: one worker {best[1]:.1f} s, "
            f"two {best[2]:.1f} s: ratio {best[2] / best[1]:.2f}"
        )

        long = Path(name, "long.mp4")
        write_clip(long, 129, WIDTH, HEIGHT)
        keep_freed_memory()
        seconds_of_networks(long, 64)  # warms up
        apart, overlapping = seconds_of_networks(long, 64), seconds_of_networks(long, 8)
        for network, of_network in overlapping.items():
            ratio = of_network / apart[network]
            print(f"--step_size 8 in place of 64, 129 frames: {network} {ratio:.2f} times as long")


if __name__ == "__main__":
    main()
