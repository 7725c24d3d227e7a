"""Batches that fit into memory, and memory that is kept."""

import resource
import subprocess
import sys

import pytest
import torch

from tests.helpers.oracles import REPOSITORY
from utils.memory import items_that_fit

TAKE_AND_FREE = """
import resource, torch
from utils.memory import keep_freed_memory
keep_freed_memory()
for _ in range(20):
    torch.ones(12_500_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(12_500_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize(
    ("free", "num_sharing", "expected"),
    [(1200, 1, 60), (400, 1, 20), (1200, 3, 20), (900, 3, 20), (300, 3, 15), (10**6, 1, 60), (1, 1, 1), (0, 3, 1)],
)
def test_workers_share_half_of_the_memory_of_a_gpu_and_take_at_most_half_of_what_is_free(
    free: int, num_sharing: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1200))
    assert items_that_fit("cuda:0", bytes_per_item=10, most=256, num_sharing=num_sharing) == expected
    assert items_that_fit("cuda:0", bytes_per_item=10, most=5, num_sharing=num_sharing) == min(5, expected)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the C library of GNU")
def test_memory_that_is_freed_is_taken_again_without_the_kernel() -> None:
    answer = subprocess.run([sys.executable, "-c", TAKE_AND_FREE], cwd=REPOSITORY, capture_output=True, check=True)
    pages = 50_000_000 // resource.getpagesize()
    assert int(answer.stdout) < pages / 10, "page faults in 20 times"
