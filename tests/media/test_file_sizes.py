"""Whether a file is as long as it says, for every container that says it."""

import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.helpers.recordings import KINDS, remux, write_recording
from utils.media.integrity.file_sizes import has_bad_pages, has_garbage, is_cut_off, xing

ID3V1 = b"TAG" + bytes(125)
APE = b"APETAGEX" + struct.pack("<IIII8x", 2000, 32, 0, 1 << 31)

# What tells its end, or that of its last part, so that any cut but of the last bytes is seen.
TELLING = ["mp4 index first", "mkv", "webm vp9", "avi", "ts", "flv", "mpg", "gif", "wav", "mp3", "ogg opus", "ogg flac"]


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


@pytest.mark.parametrize("name", KINDS)
def test_a_whole_file_is_not_cut_off(tmp_path: Path, name: str) -> None:
    assert not says_cut_off(written(tmp_path, name))


@pytest.mark.parametrize("name", TELLING)
def test_a_file_that_is_cut_anywhere_is_cut_off(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    whole = path.read_bytes()
    ends = [len(whole) * i // 23 | 1 for i in range(6, 23)]  # odd: no transport stream's packet ends there
    assert [end for end in ends if not says_cut_off(path, whole[:end])] == []


@pytest.mark.parametrize("name", ["mkv", "ts", "flv", "mpg", "ogg opus"])
def test_a_missing_last_byte_is_seen_where_sizes_are_exact(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    assert says_cut_off(path, path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["avi", "wav", "mp3"])
def test_some_missing_bytes_of_padding_are_let_pass(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    whole = path.read_bytes()
    assert not says_cut_off(path, whole[:-4])
    assert says_cut_off(path, whole[:-20])


@pytest.mark.parametrize("name", ["mp4", "mkv", "avi", "gif", "wav", "mp3", "mpg", "ogg opus"])
@pytest.mark.parametrize("junk", [bytes(8), bytes(5000), b"\r\n", b"<!-- cached -->\n" * 9, ID3V1])
def test_what_follows_a_whole_file_is_not_looked_at(tmp_path: Path, name: str, junk: bytes) -> None:
    path = written(tmp_path, name)
    assert not says_cut_off(path, path.read_bytes() + junk)


def test_a_cut_index_of_an_mp4_file_is_seen(tmp_path: Path) -> None:
    path = written(tmp_path, "mp4")
    assert says_cut_off(path, path.read_bytes()[:-600])


@pytest.mark.parametrize("num_bytes", [3, 4, 5, 7])
def test_a_fragment_of_which_not_even_the_header_is_there_is_missed(tmp_path: Path, num_bytes: int) -> None:
    path = written(tmp_path, "mp4 fragmented")
    whole = path.read_bytes()
    place = whole.rindex(b"moof") - 4
    assert says_cut_off(path, whole[: place + num_bytes])
    assert not says_cut_off(path, whole[:place] + b"\r\n")


def test_the_media_of_an_mp4_file_with_an_index_are_left_to_the_index(tmp_path: Path) -> None:
    path = written(tmp_path, "mp4 index first")
    path.write_bytes(path.read_bytes()[:-1])
    assert is_cut_off(str(path), "mov,mp4,m4a,3gp,3g2,mj2")
    assert not is_cut_off(str(path), "mov,mp4,m4a,3gp,3g2,mj2", has_index=True)


def test_a_matroska_file_that_was_written_live_tells_no_end(tmp_path: Path) -> None:
    path = remux(written(tmp_path, "mkv"), tmp_path / "live.mkv", {"live": "1"})
    assert not says_cut_off(path)
    assert not says_cut_off(path, path.read_bytes()[:-999])


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_wav_file_from_a_pipe_tells_no_end(tmp_path: Path, size: int) -> None:
    path = written(tmp_path, "wav")
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[4:8] = data[place : place + 4] = struct.pack("<I", size)
    assert not says_cut_off(path, bytes(data))
    assert not says_cut_off(path, bytes(data[:-999]))


def test_a_wav_file_with_chunks_behind_its_sound_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path, "wav")
    assert not says_cut_off(path, path.read_bytes() + b"id3 " + struct.pack("<I", 4000) + bytes(4000))


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


@pytest.mark.parametrize("tag", [ID3V1, APE + ID3V1])
def test_an_mp3_file_with_tags_behind_it_is_whole(tmp_path: Path, tag: bytes) -> None:
    path = written(tmp_path, "mp3")
    assert not says_cut_off(path, path.read_bytes() + tag)


def test_an_mp3_file_tells_its_length_in_bytes_and_packets(tmp_path: Path) -> None:
    path = written(tmp_path, "mp3")
    with av.open(str(path)) as container:
        num_packets = sum(1 for packet in container.demux() if packet.size)
    assert xing(str(path)) == (path.stat().st_size, num_packets)


def test_an_mp3_file_need_not_tell_its_length(tmp_path: Path) -> None:
    kind = KINDS["mp3"]._replace(muxing={"write_xing": "0"})
    path = write_recording(tmp_path / "plain.mp3", kind)
    assert xing(str(path)) == (None, None)
    assert not says_cut_off(path, path.read_bytes()[:-999])


@pytest.mark.parametrize("name", ["", "hls", "nut", "image2"])
def test_of_other_containers_nothing_is_said(tmp_path: Path, name: str) -> None:
    path = tmp_path / "other"
    path.write_bytes(bytes(100))
    assert not is_cut_off(str(path), name)


@pytest.mark.parametrize("name", ["mkv", "wav", "avi", "mp4", "ts", "mp3", "gif", "flv", "mpg", "ogg opus"])
@pytest.mark.parametrize("size", [0, 1, 7, 12, 100])
def test_files_that_are_hardly_begun_are_no_trouble(tmp_path: Path, name: str, size: int) -> None:
    path = written(tmp_path, name)
    says_cut_off(path, path.read_bytes()[:size])
    has_garbage(str(path.with_stem("copy")))
    has_bad_pages(str(path.with_stem("copy")))


def joined(first: bytes, second: bytes) -> bytes:
    return first + second


def entered_amid_a_packet(first: bytes, second: bytes) -> bytes:
    return first + second[77:]


@pytest.mark.parametrize("how", [joined, entered_amid_a_packet])
def test_recordings_that_were_joined_have_no_garbage(tmp_path: Path, how: Callable[[bytes, bytes], bytes]) -> None:
    path = written(tmp_path, "ts")
    whole = path.read_bytes()
    path.write_bytes(how(whole, whole))
    assert not has_garbage(str(path))


@pytest.mark.parametrize("place", [188 * 3, 188 * 20 + 5, 188 * 60])
def test_zeros_in_a_transport_stream_are_garbage(tmp_path: Path, place: int) -> None:
    path = written(tmp_path, "ts")
    data = bytearray(path.read_bytes())
    data[place : place + 2000] = bytes(2000)
    path.write_bytes(data[: len(data) // 188 * 188])
    assert has_garbage(str(path)) == (place > 1024)  # what begins otherwise is not known for a transport stream


def test_m2ts_packets_have_their_sync_byte_elsewhere(tmp_path: Path) -> None:
    kind = KINDS["ts"]._replace(muxing={"mpegts_m2ts_mode": "1"})
    path = write_recording(tmp_path / "disc.m2ts", kind, num_frames=60)
    assert path.read_bytes()[4:5] == b"G"
    assert not has_garbage(str(path))
    assert not says_cut_off(path)
    assert says_cut_off(path, path.read_bytes()[:-100])


@pytest.mark.parametrize("name", ["ogg opus", "ogg flac"])
def test_one_wrong_bit_is_a_bad_page(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    data = bytearray(path.read_bytes())
    assert not has_bad_pages(str(path))
    for place in range(30, len(data), len(data) // 9):
        data[place] ^= 16
        path.write_bytes(data)
        assert has_bad_pages(str(path))
        data[place] ^= 16


def test_what_was_joined_or_tagged_has_no_bad_pages(tmp_path: Path) -> None:
    path = written(tmp_path, "ogg opus")
    whole = path.read_bytes()
    path.write_bytes(whole + whole + ID3V1)
    assert not has_bad_pages(str(path))
