"""A job for a cluster whose extraction fails in every way; importable by slots and workers, and free of torch."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import worker_jobs
from utils.errors import CannotStartError
from utils.results import Row
from utils.workers.process import ExtractVideo


@dataclass(frozen=True)
class ClusterJob:
    """Notes in `folder` what it does; the first `num_unfit` slots to start cannot work."""

    folder: Path
    num_unfit: int = 0
    how: str = "well"

    def on_node(self, device: str, num_threads: int) -> "Start":
        for number in range(self.num_unfit):
            try:
                (self.folder / f"unfit {number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            raise CannotStartError("this node sees nothing")
        import ray

        return Start(self.folder, self.how, ray.get_runtime_context().get_node_id())

    def find_done(self, path: str) -> Row | None:
        is_done = f"end {path}\n" in worker_jobs.noted(self.folder) and "once" not in path
        return Row(path, "skipped", outputs=[f"{path}.npy"]) if is_done else None


@dataclass(frozen=True)
class Start(worker_jobs.Start):
    node: str = ""

    def __call__(self, device: str) -> ExtractVideo:
        start = super().__call__(device)

        def extract(path: str, on_open: Callable[[float], None]) -> Row:
            if path.startswith("kill slot"):
                worker_jobs.note(self.folder, f"begin {path}")
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(1000)
            worker_jobs.note(self.folder, f"node {self.node}")
            return start(path, on_open)

        return extract


def run(address: str, folder: Path, paths: list[str]) -> None:
    """A program whose driver can be killed."""
    from tests.helpers import cluster_jobs  # by the name of the module, which nodes can import
    from utils.cluster import driver

    for row in driver.run(cluster_jobs.ClusterJob(folder), driver.Cluster(address, 1, None), paths):
        print(row.path, flush=True)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
