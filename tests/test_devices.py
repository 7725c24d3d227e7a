"""Devices and workers, on a machine that pretends to have some GPUs; and how devices compute."""

import subprocess

import pytest
import torch

from utils import devices
from utils.devices import DEFAULT_PRECISION, PRECISIONS, dtype_of, forbid_reduced_precision, precision_on, resolve

GB = 10**9


@pytest.fixture(params=[0, 3])
def num_gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    number: int = request.param
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    return number


def test_devices_are_those_with_the_given_ids_or_all_gpus_or_else_the_cpu(num_gpus: int) -> None:
    assert resolve(None) == {0: ["cpu"], 3: ["cuda:0", "cuda:1", "cuda:2"]}[num_gpus]
    assert resolve(["cpu", "cpu"]) == ["cpu", "cpu"]
    if num_gpus == 3:
        assert resolve(["2", "cpu", "0"]) == ["cuda:2", "cpu", "cuda:0"]
    else:
        with pytest.raises(ValueError, match="device id 2: no such GPU here; there is cpu"):
            resolve(["2"])


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
    with pytest.raises(ValueError, match=message):
        resolve(ids)


@pytest.mark.parametrize(
    ("free_bytes", "more"),
    [
        ([5 * GB, 23 * GB], []),
        ([35 * GB, 24 * GB], ["cuda:0", "cuda:1"]),
        ([12 * GB, 80 * GB], ["cuda:1", "cuda:1"]),
        ([36 * GB, 24 * GB], ["cuda:0", "cuda:1", "cuda:0"]),
    ],
)
def test_a_gpu_takes_as_many_workers_as_suit_its_free_memory(
    free_bytes: list[int], more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "PRINT_FREE_BYTES", f"import sys; print(*{free_bytes}[:len(sys.argv) - 1])")
    assert devices.workers_on(["cuda:0", "cpu", "cuda:1"]) == ["cuda:0", "cpu", "cuda:1", *more]
    monkeypatch.setattr(devices, "PRINT_FREE_BYTES", "print('1'); raise SystemExit(1)")
    assert devices.workers_on(["cuda:0", "cuda:1"]) == ["cuda:0", "cuda:1"]


def test_where_the_number_is_given_or_there_is_no_gpu_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(subprocess, "run")
    assert devices.workers_on(["cuda:0", "cpu", "cpu"], 2) == ["cuda:0", "cpu", "cpu", "cuda:0"]
    assert devices.workers_on(["cpu", "cpu"]) == ["cpu", "cpu"]


def test_a_device_has_the_precision_that_is_wanted_or_its_own_default() -> None:
    assert precision_on("cpu", None) == "fp32"
    assert precision_on("cuda:1", None) == DEFAULT_PRECISION["cuda"] == "mixed"
    for precision in PRECISIONS["cuda"]:
        assert precision_on("cuda:0", precision) == precision
    with pytest.raises(ValueError, match="--precision mixed: a CPU computes in fp32 or bf16"):
        precision_on("cpu", "mixed")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("mixed", torch.float16), ("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_a_precision_is_a_type_of_numbers(precision: str, dtype: torch.dtype) -> None:
    assert dtype_of(precision) == dtype


def test_no_product_is_computed_in_tf32_and_no_sum_in_half_precision() -> None:
    flags = [
        (torch.backends.cudnn, "allow_tf32"),
        (torch.backends.cuda.matmul, "allow_tf32"),
        (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction"),
        (torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction"),
    ]
    for owner, flag in flags:
        setattr(owner, flag, True)
    forbid_reduced_precision()
    assert [getattr(owner, flag) for owner, flag in flags] == [False] * 4
