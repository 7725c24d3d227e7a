"""Files that are cut off, for every container that states its size, and what may follow a whole one."""

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import pytest

from tests.helpers.recordings import KINDS, TRAILERS, write_recording
from utils.media.integrity.file_sizes import is_cut_off
from utils.media.integrity.raw_streams import read_xing

# Kinds that state their end, or that of their last part, so that any cut but of the last bytes is seen; FFmpeg's names.
STATING = {"avi": "avi", "ts": "mpegts", "mpg": "mpeg", "gif": "gif", "wav": "wav", "mp3": "mp3", "wmv": "asf"}
STATING |= {"ogg opus": "ogg", "ogg flac": "ogg"}


@lru_cache
def recorded(name: str, **muxing: str) -> bytes:
    kind = KINDS[name]._replace(muxing=muxing)
    with TemporaryDirectory() as folder:
        return write_recording(Path(folder, f"whole.{kind.suffix}"), kind).read_bytes()


def says_cut_off(folder: Path, name: str, data: bytes) -> bool:
    (folder / "file").write_bytes(data)
    return is_cut_off(str(folder / "file"), STATING[name])


@pytest.mark.parametrize("name", STATING)
def test_a_file_that_is_cut_anywhere_is_cut_off(tmp_path: Path, name: str) -> None:
    whole = recorded(name)
    assert not says_cut_off(tmp_path, name, whole)
    ends = [len(whole) * i // 23 | 1 for i in range(6, 23)]  # odd: no transport stream's packet ends there
    assert [end for end in ends if not says_cut_off(tmp_path, name, whole[:end])] == []


@pytest.mark.parametrize(
    ("name", "let_pass", "noticed"),
    [(name, 4, 20) for name in ("avi", "wav", "mp3")]
    + [(name, 0, 1) for name in ("ts", "mpg", "ogg opus", "wmv")]
    + [("gif", 1, 2)],  # whose trailer is a byte
)
def test_some_missing_bytes_at_the_end_are_let_pass(tmp_path: Path, name: str, let_pass: int, noticed: int) -> None:
    whole = recorded(name)
    assert not says_cut_off(tmp_path, name, whole[: len(whole) - let_pass])
    assert says_cut_off(tmp_path, name, whole[:-noticed])


@pytest.mark.parametrize("name", ["avi", "ts", "gif", "wav", "mp3", "mpg", "ogg opus", "wmv"])
@pytest.mark.parametrize("behind", [bytes(8), bytes(5000), b"\r\n", b"<!-- cached -->\n" * 9, *TRAILERS])
def test_what_follows_a_whole_file_is_not_looked_at(tmp_path: Path, name: str, behind: bytes) -> None:
    assert not says_cut_off(tmp_path, name, recorded(name) + behind)


@pytest.mark.parametrize("name", ["ts", "gif", "mpg", "ogg opus"])
def test_what_was_joined_is_whole(tmp_path: Path, name: str) -> None:
    assert not says_cut_off(tmp_path, name, recorded(name) * 2)


def test_an_asf_file_that_was_broadcast_states_no_end(tmp_path: Path) -> None:
    data = bytearray(recorded("wmv"))
    data[data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")) + 88] |= 1  # flags of the file's properties
    assert not says_cut_off(tmp_path, "wmv", bytes(data[:-999]))


def test_an_ogg_file_without_its_last_pages_mark_is_whole_where_it_ends_with_a_page(tmp_path: Path) -> None:
    whole = recorded("ogg opus")
    assert not says_cut_off(tmp_path, "ogg opus", whole[: whole.rindex(b"OggS")])
    assert says_cut_off(tmp_path, "ogg opus", whole[: whole.rindex(b"OggS") + 4])


def test_m2ts_packets_have_their_sync_byte_elsewhere(tmp_path: Path) -> None:
    whole = recorded("ts", mpegts_m2ts_mode="1")
    assert whole[4:5] == b"G"
    assert not says_cut_off(tmp_path, "ts", whole)
    assert says_cut_off(tmp_path, "ts", whole[:-100])


@pytest.mark.parametrize("is_stated", [True, False])
def test_an_mp3_file_may_state_its_length_in_bytes_and_packets(tmp_path: Path, is_stated: bool) -> None:
    path = tmp_path / "sound.mp3"
    path.write_bytes(recorded("mp3", write_xing=str(int(is_stated))))
    with av.open(str(path)) as container:
        num_packets = sum(1 for packet in container.demux() if packet.size)
    assert read_xing(str(path)) == ((path.stat().st_size, num_packets) if is_stated else (0, 0))
    assert says_cut_off(tmp_path, "mp3", path.read_bytes()[:-999]) == is_stated


@pytest.mark.parametrize("name", STATING)
@pytest.mark.parametrize("size", [0, 1, 12, 100])
def test_files_that_are_hardly_begun_are_no_trouble(tmp_path: Path, name: str, size: int) -> None:
    says_cut_off(tmp_path, name, recorded(name)[:size])
