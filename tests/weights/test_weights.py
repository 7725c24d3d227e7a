"""Loading checkpoints as they are published, and downloading them from a server on this machine."""

import dataclasses
import hashlib
import http.server
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from models.pwc import checkpoint as pwc_published
from models.pwc.net import PWCNet
from tests.helpers import seeded
from utils.errors import UnreachableError, WeightsError
from utils.weights import download as weights
from utils.weights.checkpoint import load_weights, randomize_weights
from utils.weights.published import WeightsFile

CONTENT = bytes(range(256)) * 5000


# Loading


@pytest.mark.parametrize("spelling", ["module", "net"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_pwc_net_loads_in_both_spellings_and_file_formats(tmp_path: Path, spelling: str, is_zip: bool) -> None:
    state = seeded.state_dict("pwc")
    renamed = {key.replace("module", spelling): entry for key, entry in state.items()}
    torch.save(renamed, tmp_path / "pwc.pt", _use_new_zipfile_serialization=is_zip)
    load_weights(network := PWCNet(), tmp_path / "pwc.pt", pwc_published.our_key)
    ours = network.state_dict()
    assert torch.equal(ours["levels.1.2.0.weight"], state["moduleExtractor.moduleTwo.4.weight"])
    assert torch.equal(ours["refiner.6.weight"], state["moduleRefiner.moduleMain.12.weight"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: dict([*state.items()][:-1]), "not weights of PWCNet: .*Missing key"),
        (lambda _: seeded.state_dict("i3d_rgb"), "not weights of PWCNet: unknown entry"),
        (lambda state: state | {"moduleSeven.0.weight": torch.zeros(1)}, "moduleSeven.0.weight"),
        (
            lambda state: state | {"moduleTwo.moduleSix.0.bias": torch.zeros(3)},
            r"size mismatch.*\[3\].*\[2\]",
        ),
        (lambda state: state | {"moduleTwo.moduleSix.0.bias": "text"}, "not a plain state dict"),
        (lambda state: list(state.values()), "not a plain state dict"),
    ],
)
def test_weights_of_something_else_are_refused(
    tmp_path: Path, spoil: Callable[[dict[str, object]], object], message: str
) -> None:
    path = tmp_path / "other.pt"
    torch.save(spoil(dict(seeded.state_dict("pwc"))), path)
    with pytest.raises(WeightsError, match=message) as caught:
        load_weights(PWCNet(), path, pwc_published.our_key)
    assert str(path) in str(caught.value)


class _Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_nothing_but_tensors_is_unpickled(tmp_path: Path) -> None:
    (tmp_path / "trap.pt").write_bytes(pickle.dumps(_Trap(tmp_path / "sprung"), protocol=2))
    torch.save({"weight": _Trap(tmp_path / "sprung")}, tmp_path / "zipped trap.pt")
    for name, message in [("trap.pt", "cut off or damaged"), ("zipped trap.pt", "not a plain state dict of tensors")]:
        with pytest.raises(WeightsError, match=message):
            load_weights(PWCNet(), tmp_path / name, pwc_published.our_key)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("content", [10, 100_000, -1, b"", b"i am a text\n" * 100])
def test_what_is_no_checkpoint_or_cut_off_is_told_in_a_line(tmp_path: Path, is_zip: bool, content: int | bytes) -> None:
    path = tmp_path / "mine.pt"
    torch.save(seeded.state_dict("pwc"), path, _use_new_zipfile_serialization=is_zip)
    is_cut = isinstance(content, int)
    path.write_bytes(path.read_bytes()[:content] if isinstance(content, int) else content)
    with pytest.raises(WeightsError) as caught:
        load_weights(PWCNet(), path, pwc_published.our_key)
    message = "a checkpoint that is cut off or damaged" if is_cut else "not a PyTorch checkpoint"
    assert str(caught.value) == f"{path}: {message}"


def test_random_weights_are_the_same_every_time_and_keep_the_spread_of_activations() -> None:
    first, second = PWCNet(), PWCNet()
    randomize_weights(first, seed=0)
    randomize_weights(second, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    features = first.pyramid(torch.rand(1, 3, 64, 64) * 255)[4]
    assert 0.01 < float(features.std()) < 10


# Downloading


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`, or something worse: each of `plan` is how the next answer is to be, and then all are good."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/weights.pt"
        self.content = CONTENT
        self.plan: list[str] = []
        self.ranges: list[str | None] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, content, asked = self.server, self.server.content, self.headers.get("Range")
        server.ranges.append(asked)
        how = server.plan.pop(0) if server.plan else "good"
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and how != "ignores ranges" else 0
        if how.isdigit() or start >= len(content):
            self.send_error(int(how) if how.isdigit() else 416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : len(content) // 2] if how == "cut" else content[start:])

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def file(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> WeightsFile:
    monkeypatch.setattr(weights, "FIRST_WAIT_SECONDS", 0.01)
    blob = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    return WeightsFile("Test", tmp_path / "checkpoints" / "weights.pt", (server.url,), "free", git_blob=blob)


def obtain(file: WeightsFile) -> set[str]:
    """Obtain a file, see that it is whole, and return what else there is beside it but for its lock."""
    assert weights.obtain({"test_path": (file, None)}) == {"test_path": file.path}
    assert file.path.read_bytes() == CONTENT
    return leftovers(file)


def leftovers(file: WeightsFile) -> set[str]:
    known = {file.path.name, f"{file.path.name}.lock", f"{file.path.name}.verified"}
    return {path.name for path in file.path.parent.iterdir()} - known


HALF = f"bytes={len(CONTENT) // 2}-"


@pytest.mark.parametrize(
    ("plan", "ranges"),
    [
        ([], [None]),
        (["cut"], [None, HALF]),
        (["cut", "ignores ranges"], [None, HALF]),
        (["503", "429"], [None, None, None]),
        (["404"], [None, None]),  # from the mirror
    ],
)
def test_a_download_that_is_cut_off_is_resumed_a_busy_server_asked_again_and_then_the_mirror(
    file: WeightsFile, server: Server, capsys: pytest.CaptureFixture[str], plan: list[str], ranges: list[str | None]
) -> None:
    server.plan = plan
    file = dataclasses.replace(file, urls=(server.url, f"{server.url}?mirror"))
    assert obtain(file) == obtain(file) == set()
    assert server.ranges == ranges, "and a file that is there is not downloaded again"
    assert f"Downloading Test weights (free) from {server.url}\n" in capsys.readouterr().err


@pytest.mark.parametrize("part", [CONTENT[:1000], b"something else", CONTENT[:-1] + b"!", CONTENT + b"more"])
def test_a_part_of_an_earlier_run_is_resumed_and_one_of_something_else_begun_anew(
    file: WeightsFile, server: Server, part: bytes
) -> None:
    file.path.parent.mkdir()
    file.path.with_name("weights.pt.part").write_bytes(part)
    assert obtain(file) == set()
    assert server.ranges == [f"bytes={len(part)}-", None][: 1 if part == CONTENT[:1000] else 2]


NOBODY_LISTENS = "http://127.0.0.1:1/weights.pt"


@pytest.mark.parametrize(
    ("content", "plan", "first", "message", "left"),
    [
        (b"other", [], [], "hash is wrong", set()),
        (CONTENT, ["cut"] * 10, [], "broke after", {"weights.pt.part"}),
        (CONTENT, ["404"], [NOBODY_LISTENS], "HTTP 404", set()),
    ],
)
def test_a_download_that_fails_puts_nothing_in_place_and_names_the_way_out(
    file: WeightsFile, server: Server, content: bytes, plan: list[str], first: list[str], message: str, left: set[str]
) -> None:
    server.content, server.plan = content, plan
    file = dataclasses.replace(file, urls=(*first, server.url))
    with pytest.raises(WeightsError, match=f"{server.url}: .*{message}") as caught:
        obtain(file)
    assert not isinstance(caught.value, UnreachableError)
    assert f"put it at {file.path}, or name a copy with --test_path" in str(caught.value)
    assert not file.path.exists()
    assert leftovers(file) == left


def test_no_network_is_told_from_other_failures(file: WeightsFile) -> None:
    with pytest.raises(UnreachableError, match=NOBODY_LISTENS):
        obtain(dataclasses.replace(file, urls=(NOBODY_LISTENS,)))


def test_programs_that_ask_at_once_download_once(file: WeightsFile, server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: obtain(file), range(4))) == [set()] * 4
    assert len(server.ranges) == 1


def test_a_file_in_place_with_a_wrong_hash_is_refused_and_kept(file: WeightsFile, server: Server) -> None:
    file.path.parent.mkdir()
    file.path.write_bytes(b"my own weights")
    with pytest.raises(WeightsError, match=r"its hash is wrong.*--test_path"):
        obtain(file)
    assert file.path.read_bytes() == b"my own weights"
    assert not server.ranges


def test_a_verified_file_is_hashed_once_but_again_when_it_changes(
    file: WeightsFile, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    obtain(file)
    obtain(file)
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
        obtain(file)
        assert weights.fingerprint(file, None) == file.git_blob
    file.path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(WeightsError, match="hash is wrong"):
        obtain(file)


def test_a_dry_run_verifies_what_is_there_and_downloads_and_writes_nothing(
    tmp_path: Path, file: WeightsFile, server: Server
) -> None:
    mine = tmp_path / "mine.pt"
    mine.touch()
    wanted = {"test_path": (file, None), "other_path": (file, str(mine))}
    assert weights.obtain(wanted, dry_run=True) == {"other_path": mine}
    assert list(tmp_path.iterdir()) == [mine]
    file.path.parent.mkdir()
    file.path.write_bytes(CONTENT)
    assert weights.obtain(wanted, dry_run=True) == {"test_path": file.path, "other_path": mine}
    file.path.write_bytes(b"other")
    with pytest.raises(WeightsError, match="hash is wrong"):
        weights.obtain(wanted, dry_run=True)
    assert list(file.path.parent.iterdir()) == [file.path]
    assert not server.ranges


def test_a_file_can_be_known_by_the_begin_of_its_sha256(file: WeightsFile, server: Server) -> None:
    file = dataclasses.replace(file, git_blob=None, sha256=hashlib.sha256(CONTENT).hexdigest()[:8])
    assert obtain(file) == set()
    server.content = b"other"
    file.path.unlink()
    with pytest.raises(WeightsError, match="hash is wrong"):
        obtain(file)


def test_a_folder_that_cannot_be_written_to_is_told(file: WeightsFile) -> None:
    file.path.with_name("weights.pt.lock").mkdir(parents=True)
    with pytest.raises(WeightsError, match="cannot keep the Test weights"):
        obtain(file)


def test_beside_a_checkout_that_cannot_be_written_to_weights_are_kept_in_the_cache(
    tmp_path: Path, file: WeightsFile, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: tmp_path not in [path, *Path(path).parents])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    by_sha256 = dataclasses.replace(file, git_blob=None, sha256=hashlib.sha256(CONTENT).hexdigest())
    path = tmp_path / "cache" / "video_features" / "weights.pt"
    for _ in range(2):
        assert weights.obtain({"test_path": (by_sha256, None)}) == {"test_path": path}
    assert path.read_bytes() == CONTENT
    assert weights.fingerprint(by_sha256, None) == weights.git_blob(path)
    assert server.ranges == [None]
    assert not file.path.parent.exists()


def test_a_given_path_is_taken_as_it_is(tmp_path: Path, file: WeightsFile, server: Server) -> None:
    mine = tmp_path / "mine.pt"
    with pytest.raises(WeightsError, match=r"--test_path: no such file: .*mine\.pt"):
        weights.obtain({"test_path": (file, str(mine))})
    mine.write_bytes(b"mine")
    assert weights.obtain({"test_path": (file, str(mine))}) == {"test_path": mine}
    assert weights.git_blob(mine) == hashlib.sha1(b"blob 4\0mine").hexdigest()
    assert not server.ranges
