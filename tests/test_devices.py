"""Device ids, on a machine that pretends to have some GPUs, and how devices compute."""

import resource
import subprocess
import sys

import pytest
import torch

from tests.helpers.oracles import REPOSITORY
from utils import devices
from utils.devices import (
    DEFAULT_PRECISION,
    PRECISIONS,
    DeviceError,
    dtype_of,
    precision_on,
    resolve,
    set_tf32,
    workers_on,
)
from utils.memory import items_that_fit


@pytest.fixture(params=[0, 3])
def num_gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    number: int = request.param
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    return number


def test_by_default_all_gpus_work_or_else_the_cpu(num_gpus: int) -> None:
    assert resolve(None) == {0: ["cpu"], 3: ["cuda:0", "cuda:1", "cuda:2"]}[num_gpus]


def test_the_cpu_can_be_had_as_often_as_wanted(num_gpus: int) -> None:
    assert resolve(["cpu", "cpu"]) == ["cpu", "cpu"]


def test_gpus_are_taken_by_their_numbers(num_gpus: int) -> None:
    if num_gpus == 3:
        assert resolve(["2", "cpu", "0"]) == ["cuda:2", "cpu", "cuda:0"]
    else:
        with pytest.raises(DeviceError, match="device id 2: no such GPU here; there is cpu"):
            resolve(["2"])


GB = 10**9


@pytest.mark.parametrize(
    ("free_bytes", "expected"),
    [
        ((5 * GB, 23 * GB), ["cuda:0", "cpu", "cuda:1"]),
        ((35 * GB, 24 * GB), ["cuda:0", "cpu", "cuda:1", "cuda:0", "cuda:1"]),
        ((12 * GB, 80 * GB), ["cuda:0", "cpu", "cuda:1", "cuda:1", "cuda:1"]),
    ],
)
def test_a_gpu_takes_as_many_workers_as_suit_its_free_memory(
    free_bytes: tuple[int, ...], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "PRINT_FREE_BYTES", f"import sys; print(*{free_bytes}[:len(sys.argv) - 1])")
    assert workers_on(["cuda:0", "cpu", "cuda:1"]) == expected


def test_a_gpu_takes_as_many_workers_as_are_wanted_or_one_if_its_memory_cannot_be_told() -> None:
    assert workers_on(["cuda:0", "cpu", "cpu"], 2) == ["cuda:0", "cpu", "cpu", "cuda:0"]
    if not torch.cuda.is_available():
        assert workers_on(["cuda:0", "cuda:1"]) == ["cuda:0", "cuda:1"]


def test_the_cpu_is_not_asked_for_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(subprocess, "run")
    assert workers_on(["cpu", "cpu"]) == ["cpu", "cpu"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["99"], "99: no such GPU here; there is 0, 1, 2, cpu"),
        (["1", "1"], "1 is given twice"),
        (["-1"], "'-1'"),
        (["cuda:0"], "'cuda:0'"),
        (["²"], "'²'"),
        (["CPU"], "'CPU'"),
    ],
)
def test_a_wrong_id_is_named(monkeypatch: pytest.MonkeyPatch, ids: list[str], message: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(DeviceError, match=message):
        resolve(ids)


def test_a_device_has_the_precision_that_is_wanted_or_its_own_default() -> None:
    assert precision_on("cpu", None) == "fp32"
    assert precision_on("cuda:1", None) == DEFAULT_PRECISION["cuda"] == "mixed"
    for precision in PRECISIONS["cuda"]:
        assert precision_on("cuda:0", precision) == precision
    with pytest.raises(DeviceError, match="--precision tf32: a CPU computes in fp32 or bf16"):
        precision_on("cpu", "tf32")


@pytest.mark.parametrize(
    ("precision", "of_one_that_bears_half", "of_another", "is_tf32"),
    [
        ("fp32", torch.float32, torch.float32, False),
        ("tf32", torch.float32, torch.float32, True),
        ("fp16", torch.float16, torch.float16, False),
        ("bf16", torch.bfloat16, torch.bfloat16, False),
        ("mixed", torch.float16, torch.float32, True),
    ],
)
def test_a_precision_is_a_type_of_numbers_and_whether_convolutions_are_in_tf32(
    precision: str,
    of_one_that_bears_half: torch.dtype,
    of_another: torch.dtype,
    is_tf32: bool,
    request: pytest.FixtureRequest,
) -> None:
    set_tf32("fp32" if is_tf32 else "tf32")
    request.addfinalizer(lambda: set_tf32("fp32"))
    set_tf32(precision)
    assert dtype_of(precision, supports_fp16=True) == of_one_that_bears_half
    assert dtype_of(precision, supports_fp16=False) == of_another
    assert torch.backends.cudnn.allow_tf32 == is_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("free", "num_sharing", "expected"),
    [(1200, 1, 60), (400, 1, 20), (1200, 3, 20), (900, 3, 20), (300, 3, 15), (10**6, 1, 60), (1, 1, 1), (0, 3, 1)],
)
def test_workers_share_half_of_the_memory_of_a_gpu_and_take_at_most_half_of_what_is_free(
    free: int, num_sharing: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1200))
    assert items_that_fit("cuda:0", bytes_per_item=10, most=256, num_sharing=num_sharing) == expected


def faults_of_taking_memory_again(preparation: str) -> int:
    """How often a process that takes and frees 50 MB, after some times of that, is given pages by the kernel."""
    program = f"""
import resource, torch
from utils.memory import keep_freed_memory
{preparation}
for _ in range(20):
    torch.ones(12_500_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(12_500_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    command = [sys.executable, "-c", program]
    return int(subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the C library of GNU")
def test_memory_that_is_freed_is_taken_again_without_the_kernel() -> None:
    pages = 50_000_000 // resource.getpagesize()
    assert faults_of_taking_memory_again("keep_freed_memory()") < pages / 10
