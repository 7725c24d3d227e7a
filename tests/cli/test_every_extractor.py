"""What holds for each feature type alike, through the program: shards, resuming, faults, settings, status, report."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import main
import models
from tests.helpers.oracles import REPOSITORY
from tests.helpers.program import Run, ended, saving, start
from utils.report import page_path

CLIP = REPOSITORY / "sample" / "cobbles_zoom_speech.mp4"  # 3.12 s


@dataclass(frozen=True)
class Case:
    """A feature type: options that make it quick, one more that changes features, and what a good video gives."""

    options: list[str]
    other: list[str]
    shapes: dict[str, tuple[int, ...]]


FAST = ["--weights", "random", "--extraction_fps", "5"]  # of which the clip has 17 frames
CASES = {
    "i3d": Case(
        [*FAST, "--streams", "rgb", "--stack_size", "9", "--step_size", "5", "--min_side_size", "224"],
        ["--align", "center"],
        {"rgb": (3, 1024)},
    ),
    "vggish": Case(["--weights", "random"], ["--hop_seconds", "0.5"], {"vggish": (3, 128)}),
    "timm": Case([*FAST, "--model_name", "test_vit"], ["--pooling", "token"], {"timm": (17, 64)}),
    "torchvision": Case(
        [*FAST, "--model_name", "r3d_18", "--stack_size", "8"], ["--crops", "five"], {"torchvision": (2, 512)}
    ),
    "flow": Case(
        ["--extraction_fps", "5", "--flow", "tvl1", "--min_side_size", "64"],
        ["--min_side_size", "65"],
        {"flow_tvl1": (16, 2, 64, 85)},
    ),
}


@dataclass(frozen=True)
class Done:
    """Two shards of a folder with two good videos and a damaged one, at once, that saved times and a report."""

    feature_type: str
    case: Case
    videos: Path
    output: Path
    runs: list[Run]

    def command(self, *more: object) -> list[str]:
        where = ["--feature_type", self.feature_type, "--device_ids", "cpu", "--video_paths", self.videos]
        return [*map(str, [*where, *self.case.options, *saving(self.output)]), *map(str, more)]


@pytest.fixture(scope="module", params=CASES)
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp(request.param)
    done = Done(request.param, CASES[request.param], folder / "my videos", folder / "output", [])
    done.videos.mkdir()
    for name in ("a b.mp4", "é.mp4"):
        shutil.copy(CLIP, done.videos / name)
    (done.videos / "cut.mp4").write_bytes(CLIP.read_bytes()[:100_000])
    shards = [start(*done.command("--shard", f"{k}/2", "--save_timestamps", "--report")) for k in (1, 2)]
    done.runs.extend(ended(process, done.output) for process in shards)
    return done


def tell(done: Done, capsys: pytest.CaptureFixture[str], *more: object) -> tuple[int, str, str]:
    """Return the exit status, stdout and stderr of a run in this process, which needs no worker."""
    try:
        status = main.main(done.command(*more))
    except SystemExit as error:
        status = int(error.code or 0)
    return status, *capsys.readouterr()


def test_there_is_a_case_for_each_extractor() -> None:
    assert CASES.keys() == models.EXTRACTORS.keys()


def test_good_videos_are_done_and_a_damaged_one_fails_alone(done: Done) -> None:
    assert sorted(run.status for run in done.runs) == [0, 1], [run.stderr for run in done.runs]
    rows = {Path(row["path"]).name: row for row in done.runs[0].rows + done.runs[1].rows}
    rows |= {
        Path(row["path"]).name: row
        for log in done.output.glob("status.*.jsonl")
        for row in map(json.loads, log.read_text().splitlines())
    }
    assert rows["cut.mp4"]["status"] == "failed"
    assert rows["cut.mp4"]["reason"] in ("corrupt", "truncated", "unreadable")
    for stem in ("a b", "é"):
        assert rows[f"{stem}.mp4"]["status"] == "ok"
        times = np.load(done.output / f"{stem}_timestamps.npy")
        for suffix, shape in done.case.shapes.items():
            features = np.load(done.output / f"{stem}_{suffix}.npy")
            assert features.shape == shape
            assert np.isfinite(features).all()
            assert times.shape == (len(features), 2)
        assert (times[:, 0] < times[:, 1]).all()
        assert 2.5 < times[-1, 1] <= 3.4


def test_status_tells_where_things_stand(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--feature_type", done.feature_type, "--status", "--json", "--output_path", str(done.output)]
    status = main.main([*where, "--video_paths", str(done.videos)])
    report = json.loads(capsys.readouterr().out)
    assert status == 1
    assert (report["done"], report["failed"], report["left"]) == (2, 1, 0)


def test_what_is_done_is_not_done_again(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.output.glob("*.npy")}
    status, _, err = tell(done, capsys, "--save_timestamps", "--skip_failed")
    assert status == 0
    assert "3 skipped" in err
    assert {path: path.stat().st_mtime_ns for path in done.output.glob("*.npy")} == before


def test_other_settings_are_refused_in_one_line(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = tell(done, capsys, *done.case.other)
    assert (status, out) == (3, "")
    (line,) = [line for line in err.splitlines() if "cannot start" in line]
    assert f"holds other {done.feature_type} features" in line
    assert done.case.other[0].removeprefix("--") in line


def test_the_report_has_a_page_of_each_good_video(done: Done) -> None:
    for stem in ("a b", "é"):
        page = page_path(done.output / "report", stem)
        text = page.read_text()
        pictures = set(re.findall(r"[\w/]+\.webp", text))
        assert pictures
        assert all((page.parent / picture).stat().st_size > 100 for picture in pictures)
        seen = "Sound" if done.feature_type == "vggish" else "Frames"
        assert seen in text
        assert ("Likeness of all rows" in text) == (done.feature_type != "flow")


def test_a_dry_run_tells_what_is_left(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = tell(done, capsys, "--dry_run")
    assert status == 0
    assert "1 to extract on cpu; 2 done" in out
