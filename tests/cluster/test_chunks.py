"""What of the cluster needs no cluster: chunks, options, and what is said where Ray is not installed."""

import os
import re
from itertools import pairwise
from pathlib import Path

import pytest

import main
from tests.helpers.program import VGGISH, run_program


@pytest.mark.parametrize("num_paths", [0, 1, 399, 400, 5000, 1_000_000])
@pytest.mark.parametrize("num_slots", [0, 3, 640])
def test_chunks_hold_each_path_once_and_shrink_to_one(num_paths: int, num_slots: int) -> None:
    driver = pytest.importorskip("utils.cluster.driver")
    paths = [str(number) for number in range(num_paths)]
    chunks = list(driver.chunks(paths, num_slots))
    assert [path for chunk in chunks for path in chunk] == paths
    sizes = [len(chunk) for chunk in chunks]
    assert all(before >= after for before, after in pairwise(sizes))
    assert max(sizes, default=0) <= 1000
    assert set(sizes[-100:]) <= {1}  # so that the last videos are spread over all slots


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cpus_per_slot", "2"], "--cpus_per_slot is about the slots of a Ray cluster: it needs --ray"),
        (["--max_slots", "2"], "--max_slots is about the slots of a Ray cluster: it needs --ray"),
        (["--ray", "auto", "--max_slots", "0"], "--max_slots 0: must be at least 1"),
        (
            ["--ray", "auto", "--device_ids", "0"],
            "--device_ids with --ray: Ray finds the GPUs; --max_slots bounds them",
        ),
        (["--ray", "auto", "--workers_per_gpu", "2"], "--workers_per_gpu with --ray: there a GPU has one worker"),
        (["--ray", "here"], "--ray here: must be auto, local, or HOST:PORT of a cluster"),
        (["--ray", "ray://a:1"], "--ray ray://a:1: must be auto, local, or HOST:PORT of a cluster"),
        (["--ray", "auto", "--precision", "mixed", "--cpus_per_slot", "1"], "--precision mixed: a CPU computes in"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["--feature_type", "vggish", "--video_paths", "a.wav", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_without_ray_the_option_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError(\"No module named 'ray'\")\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    run = run_program(*VGGISH[:-2], "--ray", "auto", "--video_paths", "a.wav", env=environment)
    assert run.status == 3
    assert re.search(r'main.py: cannot start: --ray needs Ray: pip install "ray\[data\]', run.stderr)
