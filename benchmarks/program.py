"""Measures on the CPU the program's start, two workers beside one, and the cost of overlapping stacks.

python -m benchmarks.program
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.files import write_clip
from models.i3d import Config
from models.i3d.extract import Extractor
from utils.media.options import DecodeOptions
from utils.memory import keep_freed_memory

STACK_SIZE = 16  # frames
NUM_CLIPS = 8
NUM_ROUNDS = 3


def time_program(*arguments: str) -> float:
    """Return the seconds of a run of the program."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "main.py", *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def time_networks(clip: Path, step_size: int) -> dict[str, float]:
    """Return the seconds in PWC-Net and in I3D for the flow stream of a video, on the CPU."""
    extractor = Extractor(Config(weights="random", streams=("flow",), step_size=step_size), "cpu")
    seconds = {"PWC-Net": 0.0, "I3D": 0.0}

    def add_timer(owner: Any, method: str, network: str) -> None:
        untimed: Callable[..., Any] = getattr(owner, method)

        def run(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = untimed(*arguments)
            seconds[network] += time.perf_counter() - start
            return result

        setattr(owner, method, run)

    add_timer(extractor.flow_method, "encode", "PWC-Net")
    add_timer(extractor.flow_method, "flow", "PWC-Net")
    add_timer(extractor.i3d["flow"], "forward", "I3D")
    extractor.extract(str(clip), DecodeOptions())
    return seconds


def main() -> None:
    print(f"--help: {min(time_program('--help') for _ in range(NUM_ROUNDS)):.2f} s")
    with tempfile.TemporaryDirectory() as name:
        clips = [Path(name, f"{number}.mp4") for number in range(NUM_CLIPS)]
        for clip in clips:
            write_clip(clip, 2 * STACK_SIZE + 1)
        i3d = ["--feature_type", "i3d", "--weights", "random", "--stack_size", str(STACK_SIZE)]
        i3d += ["--step_size", str(STACK_SIZE), "--video_paths"]
        one = [time_program(*i3d, str(clips[0]), "--device_ids", "cpu") for _ in range(NUM_ROUNDS)]
        print(f"one video of {2 * STACK_SIZE + 1} frames, from the start to the end: {min(one):.1f} s")

        best = {1: float("inf"), 2: float("inf")}
        for _ in range(NUM_ROUNDS):  # in turn, because a shared machine's speed drifts
            for number in best:
                seconds = time_program(*i3d, *map(str, clips), "--device_ids", *["cpu"] * number)
                best[number] = min(best[number], seconds)
        print(
            f"{NUM_CLIPS} videos on {len(os.sched_getaffinity(0))} cores, start included: one worker {best[1]:.1f} s, "
            f"two {best[2]:.1f} s: ratio {best[2] / best[1]:.2f}"
        )

        long = Path(name, "long.mp4")
        write_clip(long, 129)
        keep_freed_memory()
        time_networks(long, 64)  # warms up
        apart, overlapping = time_networks(long, 64), time_networks(long, 8)
        for network, seconds in overlapping.items():
            ratio = seconds / apart[network]
            print(f"--step_size 8 in place of 64, 129 frames: {network} {ratio:.2f} times as long")


if __name__ == "__main__":
    main()
