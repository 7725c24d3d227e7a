"""Files that are cut off, for every container that states its size, and what may follow a whole one."""

from pathlib import Path

import av
import pytest

from tests.helpers.recordings import KINDS, TRAILERS, write_recording
from utils.media.integrity.file_sizes import is_cut_off
from utils.media.integrity.raw_streams import read_xing

# What states its end, or that of its last part, so that any cut but of the last bytes is seen.
STATING = ["avi", "ts", "mpg", "gif", "wav", "mp3", "ogg opus", "ogg flac", "wmv"]


def written(folder: Path, name: str) -> Path:
    return write_recording(folder / f"whole.{KINDS[name].suffix}", KINDS[name])


def says_cut_off(path: Path, data: bytes | None = None) -> bool:
    """What is said of a file, or of a copy with other contents."""
    with av.open(str(path)) as container:
        name = container.format.name
    if data is not None:
        path = path.with_stem("copy")
        path.write_bytes(data)
    return is_cut_off(str(path), name)


@pytest.mark.parametrize("name", STATING)
def test_a_file_that_is_cut_anywhere_is_cut_off(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    whole = path.read_bytes()
    assert not says_cut_off(path)
    ends = [len(whole) * i // 23 | 1 for i in range(6, 23)]  # odd: no transport stream's packet ends there
    assert [end for end in ends if not says_cut_off(path, whole[:end])] == []


@pytest.mark.parametrize(
    ("name", "let_pass", "noticed"),
    [("avi", 4, 20), ("wav", 4, 20), ("mp3", 4, 20), ("ts", 0, 1), ("mpg", 0, 1), ("ogg opus", 0, 1), ("wmv", 0, 1)],
)
def test_some_missing_bytes_of_padding_are_let_pass(tmp_path: Path, name: str, let_pass: int, noticed: int) -> None:
    path = written(tmp_path, name)
    whole = path.read_bytes()
    assert not says_cut_off(path, whole[: len(whole) - let_pass])
    assert says_cut_off(path, whole[:-noticed])


@pytest.mark.parametrize("name", ["avi", "ts", "gif", "wav", "mp3", "mpg", "ogg opus", "wmv"])
@pytest.mark.parametrize("behind", [bytes(8), bytes(5000), b"\r\n", b"<!-- cached -->\n" * 9, *TRAILERS])
def test_what_follows_a_whole_file_is_not_looked_at(tmp_path: Path, name: str, behind: bytes) -> None:
    path = written(tmp_path, name)
    assert not says_cut_off(path, path.read_bytes() + behind)


@pytest.mark.parametrize("name", ["ts", "gif", "mpg", "ogg opus"])
def test_what_was_joined_is_whole(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    assert not says_cut_off(path, path.read_bytes() * 2)


def test_an_asf_file_that_was_broadcast_states_no_end(tmp_path: Path) -> None:
    path = written(tmp_path, "wmv")
    data = bytearray(path.read_bytes())
    data[data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")) + 88] |= 1  # flags of the file's properties
    assert not says_cut_off(path, bytes(data[:-999]))


def test_a_gif_without_its_trailer_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path, "gif")
    assert path.read_bytes().endswith(b"\0;")
    assert not says_cut_off(path, path.read_bytes()[:-1])
    assert says_cut_off(path, path.read_bytes()[:-2])


def test_an_ogg_file_without_its_last_pages_mark_is_whole_where_it_ends_with_a_page(tmp_path: Path) -> None:
    path = written(tmp_path, "ogg opus")
    whole = path.read_bytes()
    assert not says_cut_off(path, whole[: whole.rindex(b"OggS")])
    assert says_cut_off(path, whole[: whole.rindex(b"OggS") + 4])


def test_m2ts_packets_have_their_sync_byte_elsewhere(tmp_path: Path) -> None:
    kind = KINDS["ts"]._replace(muxing={"mpegts_m2ts_mode": "1"})
    path = write_recording(tmp_path / "disc.m2ts", kind, num_frames=60)
    assert path.read_bytes()[4:5] == b"G"
    assert not says_cut_off(path)
    assert says_cut_off(path, path.read_bytes()[:-100])


def test_an_mp3_file_states_its_length_in_bytes_and_packets(tmp_path: Path) -> None:
    path = written(tmp_path, "mp3")
    with av.open(str(path)) as container:
        num_packets = sum(1 for packet in container.demux() if packet.size)
    assert read_xing(str(path)) == (path.stat().st_size, num_packets)


def test_an_mp3_file_need_not_state_its_length(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "plain.mp3", KINDS["mp3"]._replace(muxing={"write_xing": "0"}))
    assert read_xing(str(path)) == (0, 0)
    assert not says_cut_off(path, path.read_bytes()[:-999])


@pytest.mark.parametrize("name", STATING)
@pytest.mark.parametrize("size", [0, 1, 12, 100])
def test_files_that_are_hardly_begun_are_no_trouble(tmp_path: Path, name: str, size: int) -> None:
    path = written(tmp_path, name)
    says_cut_off(path, path.read_bytes()[:size])
