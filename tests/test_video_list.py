"""Lists of videos as people write them, and names for outputs that do not collide."""

from pathlib import Path

import pytest

from utils.video_list import distinct, read_list, stems_of_namesakes


@pytest.mark.parametrize(
    "content",
    [
        b"a.mp4\nb c.mp4\n",
        b"a.mp4\r\nb c.mp4\r\n",
        b"\xef\xbb\xbfa.mp4\nb c.mp4",
        b"\n\na.mp4\n\n  b c.mp4  \n\n",
    ],
)
def test_a_list_is_read_as_people_write_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    assert read_list(str(tmp_path / "list.txt")) == ["a.mp4", "b c.mp4"]


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff.mp4\n")
    assert [name.encode(errors="surrogateescape") for name in read_list(str(tmp_path / "list.txt"))] == [b"\xff.mp4"]


def test_an_empty_list_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n  \n")
    with pytest.raises(ValueError, match="no video"):
        read_list(str(tmp_path / "list.txt"))


def test_each_file_comes_once_in_the_order_of_the_list() -> None:
    assert distinct(["b.mp4", "a.mp4", "./b.mp4", "x/../a.mp4", "c.mp4"]) == ["b.mp4", "a.mp4", "c.mp4"]


def test_only_namesakes_keep_their_folders() -> None:
    paths = ["/v/a/x.mp4", "/v/b/x.mp4", "/v/b/x.mkv", "/v/y.mp4", "/w/z.mp4", "/w/z.webm"]
    assert stems_of_namesakes(paths) == {
        "/v/a/x.mp4": "a/x",
        "/v/b/x.mp4": "b/x.mp4",
        "/v/b/x.mkv": "b/x.mkv",
        "/w/z.mp4": "z.mp4",
        "/w/z.webm": "z.webm",
    }


def test_the_outputs_of_namesakes_stay_below_the_output_folder() -> None:
    stems = stems_of_namesakes(["/v/a/x.mp4", "../x.mp4", "x.mp4", "/x.mp4"])
    assert len(set(stems.values())) == 4
    for stem in stems.values():
        assert ".." not in Path(stem).parts
        assert not Path(stem).is_absolute()
