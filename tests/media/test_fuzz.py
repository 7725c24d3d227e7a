"""Damaged files: every one is as long as before or refused with a reason, and none ends the program.

`make fuzz` runs the long form: FUZZ_NUMBER damaged copies are made of each kind of file for each test, from
FUZZ_SEED on, and those that fail one are kept in FUZZ_FOLDER.
"""

import json
import multiprocessing
import os
import random
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import av
import pytest

from tests.helpers.recordings import FPS, KINDS, SOUNDS, VIDEOS, write_recording
from utils.errors import MediaError
from utils.media.audio import Audio
from utils.media.video import Video

SEED = os.environ.get("FUZZ_SEED", "1")
NUMBER = int(os.environ.get("FUZZ_NUMBER", "30"))
FOLDER = os.environ.get("FUZZ_FOLDER")

REASONS = {"unreadable", "truncated", "corrupt", "no_video", "no_audio", "too_short", "bad_size", "too_large"}
PROGRAMS_REASONS = {*REASONS, "out_of_memory", "timeout", "crashed"}
MOST_SECONDS = 20.0  # that decoding a damaged copy of a file of two seconds takes
MOST_MEMORY_KIB = 2 * 2**20
HEADER_SIZE = 2048
MIN_SIDE_SIZE = 32

# FFmpeg's decoder of HEVC can wait for ever, in one of its threads, for a frame that it never decodes. The program
# ends such a worker in time.
HANGS = {"mp4 hevc": {"timeout"}}

# Processes that begin at once, in place of a second for each; not as copies of this one, in which there are threads.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])

TS_PACKET = 188
LARGEST_LOSS_SECONDS = 0.1
# Streams without an index or a length: cut between two packets, or in the few bytes before one, they are whole ones
# that are shorter. A GIF may lack its trailer.
SHORTER_WHERE_CUT = ("mp4 fragmented", "flv", "flv h264", "mpg", "gif", "aac", "ts", "ts mpeg2")
# A recording of a broadcast begins amid packets, and what comes before the first key frame is left out; of its sound,
# the packets of some tenths of a second have one header, without which they are taken for none.
BROADCASTS = ("ts", "ts mpeg2", "mpg")
LARGEST_BROADCAST_PACKET_SECONDS = 0.4
SLOPPY_BYTES = {"wav": 8}


class Copy(NamedTuple):
    """A damaged copy, and what was done to it."""

    data: bytes
    damage: str


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("originals")
    return {name: write_recording(folder / f"{name}.{kind.suffix}", kind) for name, kind in KINDS.items()}


def video_seconds(path: Path) -> float:
    with Video(str(path), MIN_SIDE_SIZE, FPS) as video:
        return sum(1 for _ in video) / FPS


def sound_seconds(path: Path) -> float:
    with Audio(str(path)) as sound:
        return sum(len(block) for block in sound) / sound.rate_hz


STREAMS: list[tuple[str, Callable[[Path], float]]] = [
    *((name, video_seconds) for name in VIDEOS),
    *((name, sound_seconds) for name in SOUNDS),
]
each_stream = pytest.mark.parametrize(
    ("name", "seconds_of"), STREAMS, ids=[f"{name}, {seconds_of.__name__[:5]}" for name, seconds_of in STREAMS]
)


def cut(whole: bytes, rng: random.Random) -> Copy:
    """Any place is as likely as the last bytes are."""
    num_lost = rng.randrange(1, rng.choice((12, 300, len(whole), len(whole))))
    return Copy(whole[:-num_lost], f"{num_lost} bytes cut off")


def overwrite(whole: bytes, spans: list[tuple[int, int]], rng: random.Random) -> Copy:
    """Zeros or noise over what lies in the packets, whose places and sizes are given."""
    begin = sum(rng.choice(spans)[:1]) + rng.randrange(100)
    end = begin + rng.choice((1, 4, 16, 100, 500, 2000, 6000))
    is_zero = rng.random() < 0.6
    data = bytearray(whole)
    for place, size in spans:
        part = slice(max(place, begin), min(place + size, end, len(whole)))
        if part.start < part.stop:
            length = part.stop - part.start
            data[part] = bytes(length) if is_zero else rng.randbytes(length)
    return Copy(bytes(data), f"{'zeros' if is_zero else 'noise'} from {begin} to {end}")


def damage(whole: bytes, other: bytes, rng: random.Random) -> Copy:
    """Some of everything, half of it to the header."""
    data, done = bytearray(whole), []
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        if len(data) < 16:
            break
        place = rng.randrange(min(len(data), HEADER_SIZE) if rng.random() < 0.5 else len(data))
        length = rng.choice((1, 2, 4, 8, 100, 1000, 5000))
        action = rng.choice(ACTIONS)
        action(data, place, length, other, rng)
        done.append(f"{action.__name__[1:]} {length} at {place}")
    return Copy(bytes(data), ", ".join(done))


def _flip(data: bytearray, place: int, length: int, other: bytes, rng: random.Random) -> None:
    data[place] ^= 1 << rng.randrange(8)


def _garble(data: bytearray, place: int, length: int, other: bytes, rng: random.Random) -> None:
    data[place : place + length] = rng.randbytes(len(data[place : place + length]))


def _zero(data: bytearray, place: int, length: int, other: bytes, rng: random.Random) -> None:
    data[place : place + length] = bytes(len(data[place : place + length]))


def _cut(data: bytearray, place: int, length: int, other: bytes, rng: random.Random) -> None:
    del data[place:]


def _remove(data: bytearray, place: int, length: int, other: bytes, rng: random.Random) -> None:
    del data[place : place + length]


def _double(data: bytearray, place: int, length: int, other: bytes, rng: random.Random) -> None:
    data[place:place] = data[place : place + length]


def _swap(data: bytearray, place: int, length: int, other: bytes, rng: random.Random) -> None:
    first, second = sorted((place, rng.randrange(len(data))))
    length = min(length, second - first, len(data) - second)
    parts = slice(first, first + length), slice(second, second + length)
    data[parts[0]], data[parts[1]] = data[parts[1]], data[parts[0]]


def _graft(data: bytearray, place: int, length: int, other: bytes, rng: random.Random) -> None:
    start = rng.randrange(len(other))
    part = other[start : start + length]
    data[place : place + len(part)] = part


def _set_number(data: bytearray, place: int, length: int, other: bytes, rng: random.Random) -> None:
    bits = 8 * min(length, 8)
    values = (0, 1, -1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), rng.randrange(256), rng.getrandbits(bits))
    number = (rng.choice(values) % 2**bits).to_bytes(bits // 8, rng.choice(("big", "little")))
    data[place : place + len(number)] = number


ACTIONS = (_flip, _garble, _zero, _cut, _remove, _double, _swap, _graft, _set_number, _set_number)


def copies(name: str, originals: dict[str, Path], number: int = NUMBER) -> Iterator[Copy]:
    """Copies of a file with damage of all kinds."""
    rng = random.Random(f"{SEED} {name}")
    contents = {other: path.read_bytes() for other, path in originals.items()}
    for _ in range(number):
        yield damage(contents[name], contents[rng.choice(list(contents))], rng)


def kept(path: Path, why: str) -> str:
    """Why a damaged copy fails a test; it is kept, if there is a folder for that."""
    if FOLDER is None:
        return f"{path.name}: {why}"
    place = Path(FOLDER, f"{SEED}-{path.name}")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(path.read_bytes())
    return f"{place}: {why}"


class Outcome(NamedTuple):
    """The seconds that a file gives, or none and the reason; or what no file may do."""

    seconds: float | None
    reason: str


def outcomes(paths: list[Path], seconds_of: Callable[[Path], float]) -> list[Outcome]:
    """What becomes of files, in processes beside this one, which may crash or hang."""
    found: list[Outcome] = []
    while len(found) < len(paths):
        ours, theirs = FORKS.Pipe(duplex=False)
        process = FORKS.Process(target=_try_out, args=(paths[len(found) :], seconds_of, theirs))
        process.start()
        theirs.close()
        end = "timeout"
        while len(found) < len(paths) and ours.poll(MOST_SECONDS):
            try:
                found.append(ours.recv())
            except EOFError:
                end = "crashed"
                break
        process.kill()
        process.join()
        ours.close()
        if len(found) < len(paths):
            found.append(Outcome(None, end))
    return found


def _try_out(paths: list[Path], seconds_of: Callable[[Path], float], pipe: Connection) -> None:
    for path in paths:
        try:
            pipe.send(Outcome(seconds_of(path), "ok"))
        except MediaError as error:
            pipe.send(Outcome(None, error.reason))
        except Exception as error:
            pipe.send(Outcome(None, repr(error)))


def tried(
    damaged: Iterable[Copy], original: Path, folder: Path, seconds_of: Callable[[Path], float]
) -> list[tuple[Path, Copy, Outcome]]:
    """Damaged copies, as files, and what becomes of them."""
    damaged = list(damaged)
    paths = [folder / f"{i} {seconds_of.__name__} {original.name}" for i in range(len(damaged))]
    for path, copy in zip(paths, damaged, strict=True):
        path.write_bytes(copy.data)
    return list(zip(paths, damaged, outcomes(paths, seconds_of), strict=True))


@each_stream
def test_a_file_that_was_cut_off_is_no_shorter_or_refused(
    name: str, seconds_of: Callable[[Path], float], originals: dict[str, Path], tmp_path: Path
) -> None:
    whole, rng = originals[name].read_bytes(), random.Random(f"{SEED} {name}")
    seconds = seconds_of(originals[name])
    reasons, wrong = Counter[str](), []
    damaged = (cut(whole, rng) for _ in range(NUMBER))
    for path, copy, (left, reason) in tried(damaged, originals[name], tmp_path, seconds_of):
        reasons[reason] += 1
        is_between_packets = name in SHORTER_WHERE_CUT and (not name.startswith("ts") or not len(copy.data) % TS_PACKET)
        is_sloppy = len(whole) - len(copy.data) <= SLOPPY_BYTES.get(name, 0)
        if left is not None and left != seconds and not is_between_packets and not is_sloppy:
            wrong.append(kept(path, f"{copy.damage}, and {left:.2f} of {seconds:.2f} s are left"))
    assert not wrong
    assert reasons.keys() <= REASONS | {"ok"} | HANGS.get(name, set())
    assert reasons["ok"] < NUMBER


@each_stream
def test_a_file_of_which_packets_were_overwritten_is_hardly_shorter_or_refused(
    name: str, seconds_of: Callable[[Path], float], originals: dict[str, Path], tmp_path: Path
) -> None:
    original = originals[name]
    if name in BROADCASTS:
        original = write_recording(tmp_path / f"longer{original.suffix}", KINDS[name], num_frames=50)
    whole, rng = original.read_bytes(), random.Random(f"{SEED} {name}")
    seconds = seconds_of(original)
    with av.open(str(original)) as container:
        packets = [packet for packet in container.demux() if packet.pos is not None and packet.size]
        firsts = {packet.stream_index: packet.pos for packet in reversed(packets)}.values()
        spans = [(packet.pos or 0, packet.size) for packet in packets]
    limit = LARGEST_LOSS_SECONDS
    if name in BROADCASTS:
        spans = [span for span in spans if span[0] > spans[0][0] + spans[0][1]]
        limit = LARGEST_BROADCAST_PACKET_SECONDS if seconds_of is sound_seconds else limit
    if original.suffix == ".flv":  # in which FFmpeg takes a first frame that is damaged for one amid a recording
        spans = [(place, size) for place, size in spans if place not in firsts]
    if original.suffix in (
        ".mkv",
        ".webm",
    ):  # whose first blocks say that they are key frames, so that those are missed
        spans = [(place + 4 * (place in firsts), size - 4 * (place in firsts)) for place, size in spans]
    reasons, wrong = Counter[str](), []
    damaged = (overwrite(whole, spans, rng) for _ in range(NUMBER))
    for path, copy, (left, reason) in tried(damaged, original, tmp_path, seconds_of):
        reasons[reason] += 1
        if left is not None and left < seconds - limit:
            wrong.append(kept(path, f"{copy.damage}, and {left:.2f} of {seconds:.2f} s are left"))
    assert not wrong
    assert reasons.keys() <= REASONS | {"ok"} | HANGS.get(name, set())


@each_stream
def test_any_damage_is_outlived_or_has_a_reason(
    name: str, seconds_of: Callable[[Path], float], originals: dict[str, Path], tmp_path: Path
) -> None:
    wrong = [
        kept(path, f"{copy.damage}: {reason}")
        for path, copy, (_, reason) in tried(copies(name, originals), originals[name], tmp_path, seconds_of)
        if reason not in REASONS | {"ok"} | HANGS.get(name, set())
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("feature_type", "names", "options"),
    [
        ("i3d", VIDEOS, ("--streams", "rgb", "--stack_size", "9", "--step_size", "9", "--min_side_size", "224")),
        ("vggish", SOUNDS, ()),
    ],
)
def test_the_program_outlives_damaged_files(
    feature_type: str, names: dict[str, object], options: tuple[str, ...], originals: dict[str, Path], tmp_path: Path
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    paths = []
    for name in names:
        for i, copy in enumerate(copies(name, originals, NUMBER // 3)):
            path = given / f"{name} {i}{originals[name].suffix}"
            path.write_bytes(copy.data)
            paths.append(str(path))
    (tmp_path / "list.txt").write_text("\n".join(paths))
    output = tmp_path / "output"
    arguments = ["--feature_type", feature_type, "--weights", "random", "--device_ids", "cpu", "--quiet", *options]
    arguments += ["--file_with_video_paths", str(tmp_path / "list.txt"), "--timeout_per_video", str(MOST_SECONDS)]
    arguments += ["--on_extraction", "save_numpy", "--output_path", str(output)]
    run = subprocess.run([sys.executable, "main.py", *arguments], capture_output=True, text=True, check=False)
    rows = [json.loads(line) for line in (output / "status.jsonl").read_text().splitlines()]
    wrong = [
        kept(Path(row["path"]), f"{row['reason']}: {row['error']}")
        for row in rows
        if row["status"] != "ok" and row["reason"] not in PROGRAMS_REASONS
    ]
    assert not wrong
    assert run.returncode == int(any(row["status"] == "failed" for row in rows)), run.stderr
    assert "Traceback" not in run.stderr
    assert sorted(row["path"] for row in rows) == sorted(paths)
    assert {row["status"] for row in rows} == {"ok", "failed"}
    made = {os.path.basename(path) for row in rows for path in row["outputs"]}
    assert {path.name for path in output.iterdir() if not path.name.endswith((".json", ".jsonl"))} == made
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < MOST_MEMORY_KIB
