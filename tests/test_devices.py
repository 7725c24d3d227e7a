"""Device ids, on a machine that pretends to have some GPUs."""

import pytest
import torch

from utils.devices import DeviceError, num_lanes, resolve


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


def test_a_gpu_has_several_videos_in_hand_and_the_cpu_one() -> None:
    assert num_lanes("cpu") == 1
    assert num_lanes("cuda:3") > 1


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
