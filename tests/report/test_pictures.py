"""Numbers on an axis of time, and their colours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.report.pictures import cells, colour, on_axis, save_picture


def test_rows_that_overlap_meet_between_their_centres_and_gaps_stay() -> None:
    assert cells([(0, 16), (8, 24), (16, 20)]).tolist() == [[0, 12], [12, 17], [17, 20]]
    assert cells([(0, 16), (32, 48)]).tolist() == [[0, 16], [32, 48]]
    assert cells([(0, 5)]).tolist() == [[0, 5]]


@pytest.mark.parametrize(
    ("num_rows", "length", "step", "seconds"), [(1, 3, 1, 10), (9, 16, 8, 90), (7, 2, 5, 40), (4000, 16, 8, 32_100)]
)
def test_a_column_is_the_mean_of_the_rows_in_its_time(num_rows: int, length: int, step: int, seconds: int) -> None:
    spans = [(float(i * step), float(i * step + length)) for i in range(num_rows)]
    values = np.random.default_rng(0).random((num_rows, 3))
    found = on_axis(values, spans, seconds, width=97)
    assert found.shape == (3, 97)
    shown = cells(spans)
    for column in range(97):
        begin, end = column * seconds / 97, (column + 1) * seconds / 97
        inside = [row for row, (first, last) in zip(values, shown, strict=True) if first < end and last > begin]
        expected = np.mean(inside, axis=0) if inside else np.full(3, np.nan)
        np.testing.assert_allclose(found[:, column], expected, atol=1e-9)


def test_colours_grow_lighter_and_what_is_not_there_is_transparent() -> None:
    picture = colour(np.array([[-5, 0, 1, 2, 3, 4, 9, np.nan]]), 0, 4)[0].astype(int)
    lightness = picture[:7, :3] @ [0.2126, 0.7152, 0.0722]
    assert lightness[0] == lightness[1]
    assert lightness[5] == lightness[6]
    assert (np.diff(lightness[1:6]) > 20).all()
    assert picture[:, 3].tolist() == [255] * 7 + [0]
    assert colour(np.ones((1, 1)), 1, 1)[0, 0].tolist() == [68, 1, 84, 255], "a range of nothing"


def test_a_picture_loses_nothing_unless_it_would_be_too_large(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 400, 3), np.uint8)
    save_picture(noise[:10], tmp_path / "small.webp", 30_000)
    assert (np.asarray(Image.open(tmp_path / "small.webp")) == noise[:10]).all()
    for lossless in (False, True):
        save_picture(noise, tmp_path / "large.webp", 30_000, lossless)
        assert (tmp_path / "large.webp").stat().st_size <= 30_000
        assert Image.open(tmp_path / "large.webp").size == (400, 100)
    save_picture(noise, tmp_path / "large.webp", 2_000)
    assert (tmp_path / "large.webp").stat().st_size <= 2_000
    assert Image.open(tmp_path / "large.webp").size[0] in (200, 100)
