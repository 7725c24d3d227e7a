"""A video's page: what is in its folder, whatever the video is like."""

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from utils.outputs.files import Files
from utils.report import Report, find_parts, page_path, warning_only
from utils.report.page import add_page
from utils.report.pictures import VIRIDIS
from utils.report.sketch import Sketch
from utils.results import Features, Predictions

RNG = np.random.default_rng(0)


def add(folder: Path, feature_type: str, num_rows: int, stem: str = "a", most_pages: int = 20) -> Report:
    """Add what an extractor makes of a video of noise, 16 frames a row, of which one begins every 8, 25 a second."""
    report = Report(folder, feature_type, feature_type.upper(), most_pages)
    sketch = Sketch(16, 8, 224)
    spans = [(i * 0.32, i * 0.32 + 0.64) for i in range(num_rows)]
    names = ("vggish",) if feature_type == "vggish" else ("rgb", "flow")
    rows = {name: RNG.random((num_rows, 128 if name == "vggish" else 1024), np.float32) for name in names}
    if feature_type == "vggish":
        list(sketch.sound((torch.rand(num_rows, 96, 64) for _ in range(1)), "low", "high", step=48))
    else:
        noise = torch.randint(0, 256, (3, 224, 224), dtype=torch.uint8)
        flow = torch.randn(2, 224, 224)
        for _ in sketch.frames(noise.roll(i, 1) for i in range(8 * num_rows + 8)):
            pass
        for i in range(num_rows):
            sketch.add_flow(i, flow.roll(i, 1))
    predictions = Predictions([f"class {i}" for i in range(400)], {"both": np.log(RNG.random((num_rows, 400)))})
    features = Features(rows, spans, spans[-1][1], fps=25.0)
    add_page(
        report, stem, f"/videos/{stem}.mp4", features, sketch, lambda _: predictions, Files(feature_type, tuple(rows))
    )
    return report


@pytest.mark.parametrize("num_rows", [1, 2, 300])
def test_a_video_of_noise_takes_at_most_300_kb_with_both_streams_and_sound(tmp_path: Path, num_rows: int) -> None:
    for feature_type in ("i3d", "vggish"):
        add(tmp_path, feature_type, num_rows)
    folder = page_path(tmp_path, "a").parent
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sum(sizes.values()) < 300_000, sizes
    text = (folder / "page.html").read_text()
    assert set(re.findall(r"[\w/]+\.webp", text)) == {name for name in sizes if name.endswith(".webp")}
    words = " ".join(re.sub("<[^>]*>", "", text).split())
    assert f"25 frames a second, {num_rows} rows of features; a row covers 0.64 s" in words
    assert f"a_rgb.npy is {num_rows} \N{MULTIPLICATION SIGN} 1024 (float32)" in words
    assert ("One row in 16 is shown." in words) == (num_rows == 300)


@pytest.mark.parametrize(("step", "num_rows"), [(32, 1), (32, 20), (29, 20), (1, 500), (96, 5), (150, 5)])
def test_sound_is_drawn_at_its_time_whatever_the_hop(step: int, num_rows: int, tmp_path: Path) -> None:
    """Sound that grows louder all the time, in patches of 96 columns of 10 ms, one every `step`."""
    seconds = 0.96 + (num_rows - 1) * step / 100
    ramp = torch.arange(round(seconds * 100), dtype=torch.float32)[:, None].expand(-1, 64)
    spans = [(i * step / 100, (i * step + 96) / 100) for i in range(num_rows)]
    sketch = Sketch(1, 1, 1)
    list(sketch.sound(torch.split(ramp.unfold(0, 96, step).transpose(1, 2), 7), "low", "high", step))
    features = Features({"vggish": np.ones((num_rows, 128), np.float32)}, spans, seconds)
    add_page(
        Report(tmp_path, "vggish", "VGGish", 1), "a", "a.wav", features, sketch, None, Files("vggish", ("vggish",))
    )
    (file,) = page_path(tmp_path, "a").parent.glob("*sound*.webp")
    picture = np.asarray(Image.open(file).convert("RGBA"))[0].astype(float)
    times = (np.arange(len(picture)) + 0.5) / len(picture) * seconds
    end = seconds - (96 % step / 100 if step < 96 else 0)  # what is left of the last patch is not drawn
    distances = np.array([max(min(time - begin, min(until, end) - time) for begin, until in spans) for time in times])
    assert (picture[distances > 0.02, 3] > 0).all()
    assert (picture[distances < -0.02, 3] == 0).all()
    green = picture[distances > 0.02, 1]  # which grows with lightness
    expected = np.interp(times / end * (len(VIRIDIS) - 1), range(len(VIRIDIS)), [rgb[1] for rgb in VIRIDIS])
    assert np.abs(green - expected[distances > 0.02]).max() < 12


def test_so_many_videos_have_pages_and_those_of_another_type_are_of_the_same_videos(tmp_path: Path) -> None:
    for stem in ("a", "x/b", "c"):
        add(tmp_path, "i3d", 2, stem, most_pages=2)
    for stem in ("c", "a", "x/b"):
        add(tmp_path, "vggish", 2, stem, most_pages=0)
    for feature_type in ("i3d", "vggish"):
        found = {str(path.parent.relative_to(tmp_path / "videos")) for path in find_parts(tmp_path, feature_type)}
        assert found == {"a", "x/b"}
    assert not (tmp_path / "videos" / "c").exists()
    titles = [re.findall("<h2>(.*)</h2>", page_path(tmp_path, stem).read_text()) for stem in ("a", "x/b")]
    assert titles == [["I3D", "VGGISH"]] * 2


def test_values_that_are_no_numbers_are_told_and_spoil_nothing(tmp_path: Path) -> None:
    rows = RNG.random((3, 1024), np.float32)
    rows[1, :7] = np.nan
    rows[2, 0] = np.inf
    features = Features({"rgb": rows}, [(i, i + 1.0) for i in range(3)], 3.0, fps=25.0)
    add_page(Report(tmp_path, "i3d", "I3D", 1), "a", "a.mp4", features, Sketch(1, 1, 1), None, Files("i3d", ("rgb",)))
    text = page_path(tmp_path, "a").read_text()
    assert "8 values are infinite or no numbers" in text
    assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)


def test_a_page_that_cannot_be_made_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "videos").write_text("in the way")
    logging.getLogger("video_features").propagate = True
    with caplog.at_level(logging.WARNING), warning_only("/videos/a.mp4"):
        add(tmp_path, "vggish", 2)
    assert "/videos/a.mp4: not reported: " in caplog.text


def test_a_picture_is_at_the_time_of_its_row(tmp_path: Path) -> None:
    add(tmp_path, "i3d", 5)
    part = json.loads((page_path(tmp_path, "a").parent / "i3d.json").read_text())
    strip = part["plots"][0]
    np.testing.assert_allclose(strip["centres"], [0.32 + 0.32 * i for i in range(5)])
    text = page_path(tmp_path, "a").read_text().split('<svg class="wide"', 1)[1].split('<svg class="narrow"')[0]
    places = [float(x) + float(width) / 2 for x, width in re.findall(r'<svg x="([\d.]+)" width="([\d.]+)"', text)]
    np.testing.assert_allclose(places, [1000 * (0.32 + 0.32 * i) / 1.92 for i in range(5)])


@pytest.mark.parametrize(("num_rows", "every"), [(1, 1), (5, 1), (301, 2)])
def test_of_flow_the_amount_of_motion_is_drawn_and_nothing_that_rows_of_numbers_have(
    num_rows: int, every: int, tmp_path: Path
) -> None:
    """Row i is 3 i pixels to the right and 4 i up: 5 i pixels."""
    flows = np.arange(num_rows)[:, None, None, None] * np.array([3, -4])[:, None, None] * np.ones((6, 8))
    spans = [(i / 25, (i + 1) / 25) for i in range(num_rows)]
    features = Features({"flow_pwc": flows.astype(np.float16)}, spans, spans[-1][1], fps=25.0)
    add_page(
        Report(tmp_path, "flow", "Flow", 1), "a", "a.mp4", features, Sketch(1, 1, 1), None, Files("flow", ("flow_pwc",))
    )
    folder = page_path(tmp_path, "a").parent
    assert sorted(path.name for path in folder.iterdir()) == ["flow.json", "page.html"]
    (plot,) = json.loads((folder / "flow.json").read_text())["plots"]
    rows = np.arange(0, num_rows, every)
    np.testing.assert_allclose(plot["lines"][0]["points"], np.stack([(rows + 0.5) / 25, 5 * rows], axis=1), rtol=1e-3)
    assert plot["high"] >= 5 * rows[-1]
    assert ("One row in 2 is shown." in plot["note"]) == (every == 2)
    text = (folder / "page.html").read_text()
    assert f"{num_rows} \N{MULTIPLICATION SIGN} 2 \N{MULTIPLICATION SIGN} 6 \N{MULTIPLICATION SIGN} 8 (float16)" in text
