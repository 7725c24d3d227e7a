"""Measures what a cluster costs: how fast Ray gives out work, the driver's memory, and how well slots are kept busy.

python -m benchmarks.cluster many|list|scale|real [--nodes 4] [--slots 16] [--number 100000]

All nodes are simulated on this machine: their cores are declared and need not exist.

many   videos that take no time: how many a second
list   a million paths: seconds to the first row, and the memory of the driver
scale  videos that sleep 0.2 s: how much of what so many slots could do at best
real   VGGish of a number of sounds, by two slots and by two workers without Ray
"""

import argparse
import contextlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import utils.cluster  # noqa: F401, which tells Ray how to start
from tests.helpers.sounds import chord, write_wav
from utils.results import Row
from utils.workers.process import ExtractVideo

SLEEP_SECONDS = 0.2
REAL_SECONDS = 60.0  # of a sound
NUM_ROUNDS = 2


@dataclass(frozen=True)
class Sleep:
    """A job that sleeps, in a process without torch."""

    seconds: float

    def on_node(self, device: str, num_threads: int) -> "Sleep":
        return self

    def find_done(self, path: str) -> Row | None:
        return None

    def __call__(self, device: str) -> ExtractVideo:
        return self.extract

    def extract(self, path: str, on_open: Callable[[float], None]) -> Row:
        time.sleep(self.seconds)
        return Row(path, "ok")


@contextlib.contextmanager
def cluster_of(num_nodes: int, num_cpus: int) -> Iterator[str]:
    """Give the address of a cluster."""
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    head = {"num_cpus": num_cpus, "include_dashboard": False, "temp_dir": folder}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(num_nodes - 1):
            cluster.add_node(num_cpus=num_cpus)
        yield cluster.address
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def time_rows(address: str, seconds: float, number: int, num_rows: int | None = None) -> list[float]:
    """Return the time of each row since the start of the run, of all videos or of the first `num_rows`."""
    from benchmarks.cluster import Sleep  # by the name of the module, which nodes can import
    from utils.cluster import driver

    paths = [f"/a/folder/of/many/videos/{i:09d}.mp4" for i in range(number)]
    start = time.perf_counter()
    times: list[float] = []
    with contextlib.closing(driver.run(Sleep(seconds), driver.Cluster(address, 1, None), paths)) as rows:
        for _ in rows:
            times.append(time.perf_counter() - start)
            if len(times) == num_rows:
                break
    return times


def measure_many(nodes: int, slots: int, number: int) -> None:
    with cluster_of(nodes, slots) as address:
        times = time_rows(address, 0.0, number)
    rate = len(times) / (times[-1] - times[0])
    print(f"{nodes} x {slots} slots, {number} videos: the first after {times[0]:.1f} s, then {rate:.0f} a second")


def measure_list(nodes: int, slots: int, number: int) -> None:
    with cluster_of(nodes, slots) as address:
        times = time_rows(address, 0.0, number, num_rows=1)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{number} paths: the first row after {times[0]:.1f} s; the driver has taken {memory:.2f} GB", flush=True)


def measure_scale(nodes: int, slots: int, number: int) -> None:
    """The time counts from when all slots have begun, as processes of nodes that do not exist start slowly."""
    with cluster_of(nodes, slots) as address:
        times = time_rows(address, SLEEP_SECONDS, number)
    for share in (0.1, 0.25):
        begin = int(share * len(times))
        rate = (len(times) - begin) / (times[-1] - times[begin])
        best = nodes * slots / SLEEP_SECONDS
        print(f"{nodes * slots} slots: after {share:.0%}, {rate:.0f} videos/s of {best:.0f}: {rate / best:.2f}")


def measure_real(nodes: int, slots: int, number: int) -> None:
    """In turn, with and without Ray; the time counts from the first row to the last one."""
    with tempfile.TemporaryDirectory() as folder, cluster_of(2, 1) as address:
        for i in range(number):
            write_wav(Path(folder, f"{i}.wav"), chord(REAL_SECONDS, 16_000), 16_000)
        engines = {"Ray": ["--ray", address, "--cpus_per_slot", "1"], "workers": ["--device_ids", "cpu", "cpu"]}
        for number_of_round in range(NUM_ROUNDS):
            for name, options in engines.items():
                print(f"round {number_of_round}, {name}: {time_program(folder, options):.2f} videos/s")


def time_program(folder: str, options: list[str]) -> float:
    """Return the videos a second of a run of the program, from the third row on, when both workers are at work."""
    command = [sys.executable, "main.py", "--feature_type", "vggish", "--weights", "random", "--video_paths", folder]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    times = [time.perf_counter() for line in process.stdout if line.startswith(folder)]
    assert process.wait() == 0
    return (len(times) - 3) / (times[-1] - times[2])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("many", "list", "scale", "real"))
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--number", type=int)
    arguments = parser.parse_args()
    measure, default = {
        "many": (measure_many, 100_000),
        "list": (measure_list, 1_000_000),
        "scale": (measure_scale, 10_000),
        "real": (measure_real, 24),
    }[arguments.what]
    measure(arguments.nodes, arguments.slots, arguments.number or default)
