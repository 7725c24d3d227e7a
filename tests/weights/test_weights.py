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
    path = tmp_path / "pwc.pt"
    renamed = {key.replace("module", spelling): entry for key, entry in state.items()}
    torch.save(renamed, path, _use_new_zipfile_serialization=is_zip)
    network = PWCNet()
    load_weights(network, path, pwc_published.our_key)
    ours = network.state_dict()
    assert torch.equal(ours["levels.1.2.0.weight"], state["moduleExtractor.moduleTwo.4.weight"])
    assert torch.equal(ours["decoders.3.dense.4.0.bias"], state["moduleThr.moduleFiv.0.bias"])
    assert torch.equal(ours["decoders.5.upsample_dense.weight"], state["moduleFiv.moduleUpfeat.weight"])
    assert torch.equal(ours["refiner.6.weight"], state["moduleRefiner.moduleMain.12.weight"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: dict([*state.items()][:-1]), "not weights of PWCNet: .* is missing"),
        (lambda _: seeded.state_dict("i3d_rgb"), "not weights of PWCNet: unknown entry"),
        (lambda state: state | {"moduleSeven.0.weight": torch.zeros(1)}, "moduleSeven.0.weight"),
        (lambda state: state | {"moduleTwo.moduleSix.0.bias": torch.zeros(3)}, r"shape \(3,\), not \(2,\)"),
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
@pytest.mark.parametrize("length", [10, 100_000, -1])
def test_a_checkpoint_that_is_cut_off_is_told_in_a_line(tmp_path: Path, is_zip: bool, length: int) -> None:
    torch.save(seeded.state_dict("pwc"), tmp_path / "whole.pt", _use_new_zipfile_serialization=is_zip)
    content = (tmp_path / "whole.pt").read_bytes()[:length]
    assert message_for(content, tmp_path / "cut.pt") == "a checkpoint that is cut off or damaged"


@pytest.mark.parametrize("content", [b"", b"i am a text\n" * 100, b"<html></html>"])
def test_what_is_no_checkpoint_is_told_in_a_line(tmp_path: Path, content: bytes) -> None:
    assert message_for(content, tmp_path / "mine.pt") == "not a PyTorch checkpoint"


def message_for(content: bytes, path: Path) -> str:
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        load_weights(PWCNet(), path, pwc_published.our_key)
    return str(caught.value).removeprefix(f"{path}: ")


def test_random_weights_are_the_same_every_time_and_keep_the_spread_of_activations() -> None:
    first, second = PWCNet(), PWCNet()
    randomize_weights(first, seed=0)
    randomize_weights(second, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    features = first.pyramid(torch.rand(1, 3, 64, 64) * 255)[4]
    assert 0.01 < float(features.std()) < 10


# Downloading


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT, or something worse: each of `plan` is how the next answer is to be, and then all are good."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan: list[str] = []
        self.ranges: list[str | None] = []
        self.content = CONTENT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pt"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        how = server.plan.pop(0) if server.plan else "good"
        if how.isdigit():
            self.send_error(int(how))
            return
        content = server.content
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if how == "ignores ranges":
            start = 0
        if start >= len(content):
            self.send_error(416)
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


def obtain(file: WeightsFile) -> Path:
    return weights.obtain({"test_path": (file, None)})["test_path"]


def leftovers(file: WeightsFile) -> set[str]:
    known = {file.path.name, f"{file.path.name}.lock", f"{file.path.name}.verified"}
    return {path.name for path in file.path.parent.iterdir()} - known


def test_a_good_download_is_put_in_place_and_not_repeated(
    file: WeightsFile, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert obtain(file) == file.path
    assert file.path.read_bytes() == CONTENT
    assert not leftovers(file)
    assert obtain(file) == file.path
    assert len(server.ranges) == 1
    assert f"Downloading Test weights (free) from {server.url}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("plan", "ranges"),
    [
        (["cut"], [None, f"bytes={len(CONTENT) // 2}-"]),
        (["cut", "ignores ranges"], [None, f"bytes={len(CONTENT) // 2}-"]),
        (["503", "429"], [None, None, None]),
    ],
)
def test_a_download_that_is_cut_off_is_resumed_and_a_busy_server_is_asked_again(
    file: WeightsFile, server: Server, plan: list[str], ranges: list[str | None]
) -> None:
    server.plan = plan
    obtain(file)
    assert file.path.read_bytes() == CONTENT
    assert server.ranges == ranges


@pytest.mark.parametrize("part", [CONTENT[:1000], b"something else", CONTENT[:-1] + b"!", CONTENT + b"more"])
def test_a_part_of_an_earlier_run_is_resumed_and_one_of_something_else_begun_anew(
    file: WeightsFile, server: Server, part: bytes
) -> None:
    file.path.parent.mkdir()
    file.path.with_name("weights.pt.part").write_bytes(part)
    obtain(file)
    assert file.path.read_bytes() == CONTENT
    assert server.ranges[0] == f"bytes={len(part)}-"
    assert len(server.ranges) == (1 if part == CONTENT[:1000] else 2)
    assert not leftovers(file)


@pytest.mark.parametrize(
    ("content", "plan", "message"), [(b"other", [], "hash is wrong"), (CONTENT, ["cut"] * 10, "broke after")]
)
def test_a_download_that_fails_puts_nothing_in_place_and_names_the_way_out(
    file: WeightsFile, server: Server, content: bytes, plan: list[str], message: str
) -> None:
    server.content, server.plan = content, plan
    with pytest.raises(WeightsError, match=f"{server.url}: .*{message}") as caught:
        obtain(file)
    assert not isinstance(caught.value, UnreachableError)
    assert f"put it at {file.path}, or name a copy with --test_path" in str(caught.value)
    assert not file.path.exists()
    assert leftovers(file) == (set() if not plan else {"weights.pt.part"})


def test_what_the_first_url_lacks_the_mirror_has(file: WeightsFile, server: Server) -> None:
    server.plan = ["404"]
    obtain(dataclasses.replace(file, urls=(server.url, f"{server.url}?mirror")))
    assert file.path.read_bytes() == CONTENT


def test_no_network_is_told_from_other_failures(file: WeightsFile, server: Server) -> None:
    nobody_listens = "http://127.0.0.1:1/weights.pt"
    with pytest.raises(UnreachableError, match=nobody_listens):
        obtain(dataclasses.replace(file, urls=(nobody_listens,)))
    server.plan = ["404"]
    with pytest.raises(WeightsError) as other:
        obtain(dataclasses.replace(file, urls=(nobody_listens, server.url)))
    assert not isinstance(other.value, UnreachableError)


def test_programs_that_ask_at_once_download_once(file: WeightsFile, server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        for place in pool.map(lambda _: obtain(file), range(4)):
            assert place.read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_a_file_in_place_with_a_wrong_hash_is_refused_and_kept(file: WeightsFile, server: Server) -> None:
    file.path.parent.mkdir()
    file.path.write_bytes(b"my own weights")
    with pytest.raises(WeightsError, match="--test_path"):
        obtain(file)
    assert file.path.read_bytes() == b"my own weights"
    assert not server.ranges


def test_a_verified_file_is_hashed_once_but_again_when_it_changes(
    file: WeightsFile, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    obtain(file)
    with monkeypatch.context() as patch:
        patch.setattr(weights, "_hash", lambda *_: pytest.fail("hashed again"))
        obtain(file)
        assert weights.fingerprint(file, None) == file.git_blob
    file.path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(WeightsError, match="hash is wrong"):
        obtain(file)


def test_a_folder_that_cannot_be_written_to_is_told(file: WeightsFile, server: Server) -> None:
    file.path.with_name("weights.pt.lock").mkdir(parents=True)
    with pytest.raises(WeightsError, match="cannot keep the Test weights"):
        obtain(file)


def test_a_given_path_is_taken_as_it_is(tmp_path: Path, file: WeightsFile, server: Server) -> None:
    mine = tmp_path / "mine.pt"
    with pytest.raises(WeightsError, match=r"--test_path: no such file: .*mine\.pt"):
        weights.obtain({"test_path": (file, str(mine))})
    mine.write_bytes(b"mine")
    assert weights.obtain({"test_path": (file, str(mine))}) == {"test_path": mine}
    assert weights.fingerprint(file, str(mine)) == hashlib.sha1(b"blob 4\0mine").hexdigest()
    assert not server.ranges
