"""Damaged files: what matters of the damage is found, every refusal has a reason, and none ends the program.

`make fuzz` runs the long form: FUZZ_NUMBER damaged copies are made of each kind of file for each test, from FUZZ_SEED
on; it prints the share found by kind, and those that fail a test are kept in FUZZ_FOLDER.
"""

import contextlib
import multiprocessing
import os
import random
import shutil
from collections import Counter, deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import av
import pytest

from tests.helpers.recordings import KINDS, SOUNDS, VIDEOS, write_recording
from utils.errors import MediaError
from utils.media.audio import Audio
from utils.media.video import Video

SEED = os.environ.get("FUZZ_SEED", "1")
NUMBER = int(os.environ.get("FUZZ_NUMBER", "8"))
FOLDER = os.environ.get("FUZZ_FOLDER")

REASONS = {"ok", "unreadable", "truncated", "corrupt", "no_video", "no_audio", "too_short", "bad_size", "too_large"}
MOST_SECONDS = 20.0  # that decoding a damaged copy of a file of two seconds takes
NUM_FRAMES = 50
HEADER_SIZE = 2048
MIN_SIDE_SIZE = 32

LEAST_LOSS = 0.02  # the share of frames or samples that has to be found where it is lost
LEAST_FOUND = 0.95
# FFmpeg's decoder of HEVC can wait for ever, in one of its threads, for a frame that it never decodes. The program
# ends such a worker in time.
HANGS = {"mp4 hevc": {"timeout"}}

# Processes that begin at once, in place of a second for each; not as copies of this one, in which there are threads.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])


Outcome = tuple[str, bool]
"""A reason or "ok", and True where anything was said to be wrong with a file."""


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("originals")
    return {name: write_recording(folder / f"{name}.{kind.suffix}", kind, NUM_FRAMES) for name, kind in KINDS.items()}


def damage(whole: bytes, rng: random.Random) -> bytes:
    """Cut it off, or overwrite or delete a part of it behind its header."""
    data, action = bytearray(whole), rng.choice(("cut", "zero", "noise", "delete"))
    place = rng.randrange(len(data) // 10, len(data))
    if action == "cut":
        return bytes(data[:place])
    part = slice(place, place + rng.choice((100, 1000, 4096, len(data) // 20, len(data) // 5)))
    length = len(data[part])
    data[part] = b"" if action == "delete" else bytes(length) if action == "zero" else rng.randbytes(length)
    return bytes(data)


def scramble(whole: bytes, rng: random.Random) -> bytes:
    """Change some of everything, half of it in the header."""
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        place = rng.randrange(min(len(data), HEADER_SIZE) if rng.random() < 0.5 else len(data))
        part = slice(place, place + rng.choice((1, 2, 4, 8, 100, 1000, 5000)))
        old, other = data[part], rng.randrange(len(data))
        number = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, rng.getrandbits(32)))
        flipped = bytes([old[0] ^ 1 << rng.randrange(8)]) + old[1:]
        elsewhere = data[other : other + len(old)]
        counts = number.to_bytes(4, rng.choice(("big", "little")))
        data[part] = rng.choice((bytes(len(old)), rng.randbytes(len(old)), b"", old * 2, elsewhere, counts, flipped))
        if len(data) < 16:
            break
    return bytes(data)


def copies(
    name: str, originals: dict[str, Path], folder: Path, change: Callable[[bytes, random.Random], bytes]
) -> list[Path]:
    """Write NUMBER changed copies of a file."""
    rng = random.Random(f"{SEED} {name} {change.__name__}")
    paths = [folder / f"{SEED} {change.__name__} {i} {originals[name].name}" for i in range(NUMBER)]
    for path in paths:
        path.write_bytes(change(originals[name].read_bytes(), rng))
    return paths


def kept(path: Path) -> str:
    """Return the name of a copy that fails a test, which is kept if there is a folder for that."""
    if FOLDER is None:
        return path.name
    os.makedirs(FOLDER, exist_ok=True)
    return str(shutil.copy(path, FOLDER))


def num_decoded(path: Path, kind: str) -> int:
    """Return how many frames or samples FFmpeg gives of a file, whatever is wrong with it."""
    number = 0
    with contextlib.suppress(av.FFmpegError, OSError, ValueError, StopIteration, IndexError, AttributeError):
        container = av.open(str(path), metadata_errors="replace")
        stream = next(stream for stream in container.streams if stream.type == kind)
        for packet in container.demux(stream):
            with contextlib.suppress(av.FFmpegError, ValueError):
                number += sum(frame.samples if isinstance(frame, av.AudioFrame) else 1 for frame in packet.decode())
    return number


def outcomes(paths: list[Path], kind: str) -> list[Outcome]:
    """Return what becomes of files, in processes beside this one, which may crash or hang."""
    found: list[Outcome] = []
    while len(found) < len(paths):
        ours, theirs = FORKS.Pipe(duplex=False)
        process = FORKS.Process(target=_extract, args=(paths[len(found) :], kind, theirs))
        process.start()
        theirs.close()
        try:
            while len(found) < len(paths):
                found.append(ours.recv() if ours.poll(MOST_SECONDS) else ("timeout", True))
                if found[-1][0] == "timeout":
                    break
        except EOFError:
            found.append(("crashed", True))
        process.kill()
        process.join()
        ours.close()
    return found


def _extract(paths: list[Path], kind: str, pipe: Connection) -> None:
    for path in paths:
        try:
            with Video(str(path), MIN_SIDE_SIZE) if kind == "video" else Audio(str(path)) as reader:
                deque(reader, maxlen=0)
            pipe.send(("ok", bool(reader.missing)))
        except MediaError as error:
            pipe.send((error.reason, True))
        except Exception as error:
            pipe.send((repr(error), True))


STREAMS = [*((name, "video") for name in VIDEOS), *((name, "audio") for name in SOUNDS)]


def test_damage_that_matters_is_found(
    originals: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, refused, total = Counter[str](), Counter[str](), Counter[str]()
    missed = []
    for name, kind in STREAMS:
        paths = copies(name, originals, tmp_path, damage)
        whole = num_decoded(originals[name], kind)
        for path, (reason, is_found) in zip(paths, outcomes(paths, kind), strict=True):
            assert reason in REASONS | HANGS.get(name, set()), kept(path)
            if num_decoded(path, kind) < (1 - LEAST_LOSS) * whole:
                total[name] += 1
                found[name] += is_found
                refused[name] += reason != "ok"
                missed += [] if is_found else [kept(path)]
    with capsys.disabled():
        for name, number in sorted(total.items()):
            shares = f"{found[name] / number:4.0%} of {number} found, {refused[name] / number:4.0%} refused"
            print(f"\n{name:16} {shares}", end="")
    assert found.total() >= LEAST_FOUND * total.total() - 2, missed  # two for chance


@pytest.mark.parametrize(("name", "kind"), STREAMS)
def test_any_change_is_outlived_or_has_a_reason(
    name: str, kind: str, originals: dict[str, Path], tmp_path: Path
) -> None:
    paths = copies(name, originals, tmp_path, scramble)
    ends = zip(paths, outcomes(paths, kind), strict=True)
    wrong = [f"{kept(path)}: {reason}" for path, (reason, _) in ends if reason not in REASONS | HANGS.get(name, set())]
    assert not wrong
