"""Batches that fit into memory, and memory that is kept."""

import os
import resource
import subprocess
import sys

import pytest
import torch

import models
from tests.helpers.oracles import REPOSITORY
from utils.errors import OutOfMemoryError
from utils.media.options import DecodeOptions
from utils.memory import choose_batch_size, retry_with_half_batch

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

LOAD_JOB = """
import models, models.extraction
from models.vggish import Config
from utils.media.options import DecodeOptions
models.load_extractor = lambda name: lambda *arguments: None
models.extraction.Job("vggish", Config(weights="random"), DecodeOptions(), {}, None, ("cpu",))("cpu")
import torch
print(torch._C._accelerator_getAllocatorSettings())
"""

NO_ENGINE = "GET was unable to find an engine to execute this computation"
OUT_OF_MEMORY = [  # as they stand in the binaries of PyTorch 2.15, cuDNN 9.26 and cuBLAS 13
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 4.00 GiB",
    "CUDA ran out of memory outside PyTorch's allocator. If this workload uses many dynamic shapes",
    "CUDA error: out of memory",
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.",
    "Not enough memory for workspace!",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "FIND was unable to find an engine to execute this computation",
    NO_ENGINE,
]


@pytest.mark.parametrize(
    ("free", "num_sharing", "expected"),
    [(1200, 1, 60), (400, 1, 20), (1200, 3, 20), (900, 3, 20), (300, 3, 15), (10**6, 1, 60), (1, 1, 1), (0, 3, 1)],
)
def test_workers_share_half_of_the_memory_of_a_gpu_and_take_at_most_half_of_what_is_free(
    free: int, num_sharing: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1200))
    assert choose_batch_size(None, "cuda:0", 4, bytes_per_item=10, most=256, num_sharing=num_sharing) == expected
    assert choose_batch_size(None, "cuda:0", 4, bytes_per_item=10, most=5, num_sharing=num_sharing) == min(5, expected)
    assert choose_batch_size(7, "cuda:0", 4, bytes_per_item=10, most=5, num_sharing=num_sharing) == 7
    assert choose_batch_size(None, "cpu", 4, bytes_per_item=10, most=5, num_sharing=num_sharing) == 4


class Work:
    """Gives the size of its batch, or fails where that is over a limit."""

    def __init__(self, limit: int, error: Exception) -> None:
        self.limit, self.error = limit, error
        self.sizes: list[int] = []

    def __call__(self, *arguments: object) -> int:
        size = arguments[-1]
        assert isinstance(size, int)
        self.sizes.append(size)
        if size > self.limit:
            raise self.error
        return size


@pytest.mark.parametrize("error", [MemoryError(), *map(RuntimeError, OUT_OF_MEMORY)], ids=str)
def test_where_memory_does_not_suffice_half_the_batch_is_tried(error: Exception) -> None:
    work = Work(20, error)
    assert retry_with_half_batch(work, 40) == (20, 20)
    assert work.sizes == [40, 20]


def test_the_smallest_batch_is_tried_again_after_memory_was_freed() -> None:
    work = Work(0, MemoryError())
    with pytest.raises(OutOfMemoryError, match="MemoryError"):
        retry_with_half_batch(work, 1)
    assert work.sizes == [1, 1]


def test_what_half_the_batch_does_not_mend_is_told_in_the_words_of_the_error() -> None:
    with pytest.raises(OutOfMemoryError, match=NO_ENGINE):
        retry_with_half_batch(Work(0, RuntimeError(NO_ENGINE)), 40)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), RuntimeError("shape mismatch"), ValueError("no")],
)
def test_other_errors_are_raised_at_once(error: Exception) -> None:
    work = Work(20, error)
    with pytest.raises(type(error)) as caught:
        retry_with_half_batch(work, 40)
    assert caught.value is error
    assert work.sizes == [40]


@pytest.mark.parametrize(
    ("set_by_user", "expected"),
    [
        ({}, "expandable_segments:True"),
        ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:99"}, "max_split_size_mb:99"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:99"}, "max_split_size_mb:99"),
    ],
)
def test_a_workers_allocator_joins_free_memory_unless_the_user_set_it(
    set_by_user: dict[str, str], expected: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if "ALLOC_CONF" not in name} | set_by_user
    command = [sys.executable, "-c", LOAD_JOB]
    answer = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, check=True, text=True)
    assert answer.stdout.strip() == expected


@pytest.mark.parametrize("name", ["i3d", "vggish", "flow", "torchvision"])
def test_an_extractor_keeps_the_batch_that_fitted(name: str) -> None:
    kind = models.load_extractor(name)
    extractor = object.__new__(kind)
    extractor.batch_size, extractor._extract = 40, (work := Work(20, MemoryError()))  # type: ignore[attr-defined]
    for _ in range(2):
        extractor.extract("a.mp4", DecodeOptions())
    assert work.sizes == [40, 20, 20]


@pytest.mark.skipif(sys.platform != "linux", reason="needs the C library of GNU")
def test_memory_that_is_freed_is_taken_again_without_the_kernel() -> None:
    answer = subprocess.run([sys.executable, "-c", TAKE_AND_FREE], cwd=REPOSITORY, capture_output=True, check=True)
    pages = 50_000_000 // resource.getpagesize()
    assert int(answer.stdout) < pages / 10, "page faults in 20 times"
