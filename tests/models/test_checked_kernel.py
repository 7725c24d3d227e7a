"""A kernel is used only where it computes what its plain version does."""

import logging
import math
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from models.checked_kernel import Function, find_kernel


def plain_doubled(x: Tensor) -> Tensor:
    return 2 * x


def _try_out(function: Function, device: torch.device) -> Iterator[Tensor]:
    for size in (1, 5):
        yield function(torch.ones(size, device=device))


def _fail(_: Tensor) -> Tensor:
    raise OSError("no C compiler")


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (lambda x: x + x, None),
        (lambda x: 2.001 * x, "the kernel is wrong by"),
        (lambda x: x + x if len(x) == 1 else math.nan * x, "the kernel is wrong by"),
        (_fail, "no C compiler"),
        (None, "triton"),
    ],
)
def test_a_kernel_is_used_only_where_it_computes_what_the_plain_version_does(
    kernel: Function | None, message: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = "models.activation_kernel"
    monkeypatch.delitem(sys.modules, module, raising=False)
    if kernel is None:
        monkeypatch.setitem(sys.modules, "triton", None)
    else:
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(doubled=kernel))
    found = find_kernel(module, plain_doubled, _try_out, torch.device("cpu"), torch.float32)
    if message is None:
        assert found is kernel
        assert not caplog.records
    else:
        assert found is plain_doubled
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert message in caplog.text
