"""Loading checkpoints as they are published, and downloading them from a server on this machine."""

import hashlib
import http.server
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from models.i3d import checkpoint as i3d_published
from models.i3d.net import I3D, VARIANTS
from models.pwc import checkpoint as pwc_published
from models.pwc.net import PWCNet
from tests.helpers import seeded
from utils.errors import UnreachableError, WeightsError
from utils.weights import checkpoint
from utils.weights import download as weights
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
    checkpoint.load(network, path, pwc_published.our_key)
    ours = network.state_dict()
    assert torch.equal(ours["levels.1.2.0.weight"], state["moduleExtractor.moduleTwo.4.weight"])
    assert torch.equal(ours["decoders.3.dense.4.0.bias"], state["moduleThr.moduleFiv.0.bias"])
    assert torch.equal(ours["decoders.5.upsample_dense.weight"], state["moduleFiv.moduleUpfeat.weight"])
    assert torch.equal(ours["refiner.6.weight"], state["moduleRefiner.moduleMain.12.weight"])


@pytest.mark.parametrize(("stream", "channels"), [("rgb", 3), ("flow", 2)])
def test_i3d_loads(checkpoints: dict[str, str], stream: str, channels: int) -> None:
    state = seeded.state_dict(f"i3d_{stream}")
    network = I3D(channels, VARIANTS["ancestor"])
    checkpoint.load(network, Path(checkpoints[f"i3d_{stream}_path"]), i3d_published.our_key)
    ours = network.state_dict()
    assert torch.equal(ours["stem.conv.weight"], state["conv3d_1a_7x7.conv3d.weight"])
    assert torch.equal(ours["mixed_4e.space_2.norm.running_var"], state["mixed_4e.branch_2.1.batch3d.running_var"])
    assert torch.equal(ours["mixed_5c.pool_point.conv.weight"], state["mixed_5c.branch_3.1.conv3d.weight"])
    assert torch.equal(ours["classifier.bias"], state["conv3d_0c_1x1.conv3d.bias"])


def _without_an_entry(state: dict[str, object]) -> object:
    state.popitem()
    return state


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_an_entry, "is missing"),
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
        checkpoint.load(PWCNet(), path, pwc_published.our_key)
    assert str(path) in str(caught.value)


def test_i3d_weights_are_not_taken_for_pwc_net(checkpoints: dict[str, str]) -> None:
    with pytest.raises(WeightsError, match="not weights of PWCNet"):
        checkpoint.load(PWCNet(), Path(checkpoints["i3d_rgb_path"]), pwc_published.our_key)


class _Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_nothing_but_tensors_is_unpickled(tmp_path: Path) -> None:
    (tmp_path / "trap.pt").write_bytes(pickle.dumps(_Trap(tmp_path / "sprung")))
    torch.save({"weight": _Trap(tmp_path / "sprung")}, tmp_path / "zipped trap.pt")
    for name in ("trap.pt", "zipped trap.pt"):
        with pytest.raises(WeightsError, match="not a checkpoint that can be read"):
            checkpoint.load(PWCNet(), tmp_path / name, pwc_published.our_key)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("length", [0, 10, 1000, 100_000, -1])
def test_a_checkpoint_that_is_cut_off_is_told(tmp_path: Path, checkpoints: dict[str, str], length: int) -> None:
    path = tmp_path / "cut.pt"
    path.write_bytes(Path(checkpoints["pwc_path"]).read_bytes()[:length])
    with pytest.raises(WeightsError, match=r"cut\.pt"):
        checkpoint.load(PWCNet(), path, pwc_published.our_key)


def test_random_weights_are_the_same_every_time_and_keep_the_spread_of_activations() -> None:
    first, second = PWCNet(), PWCNet()
    checkpoint.randomize(first, seed=0)
    checkpoint.randomize(second, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    features = first.pyramid(torch.rand(1, 3, 256, 256) * 255)[4]
    assert 0.01 < float(features.std()) < 10


def test_published_files_are_downloaded_over_https_and_known_by_their_hash() -> None:
    for file in (pwc_published.PWC, i3d_published.RGB, i3d_published.FLOW):
        assert all(url.startswith("https://") for url in file.urls)
        assert len(file.git_blob or "") == 40
        assert file.path.parent.name == "checkpoints"


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
    said = capsys.readouterr().err
    assert "Test" in said
    assert "free" in said
    assert server.url in said


def test_a_download_that_is_cut_off_is_resumed(file: WeightsFile, server: Server) -> None:
    server.plan = ["cut"]
    obtain(file)
    assert file.path.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={len(CONTENT) // 2}-"]


def test_the_part_of_an_earlier_run_is_resumed(file: WeightsFile, server: Server) -> None:
    file.path.parent.mkdir()
    file.path.with_name("weights.pt.part").write_bytes(CONTENT[:1000])
    obtain(file)
    assert file.path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


@pytest.mark.parametrize("part", [b"something else", CONTENT[:-1] + b"!", CONTENT + b"more"])
def test_a_part_of_something_else_is_begun_anew(file: WeightsFile, server: Server, part: bytes) -> None:
    file.path.parent.mkdir()
    file.path.with_name("weights.pt.part").write_bytes(part)
    obtain(file)
    assert file.path.read_bytes() == CONTENT
    assert not leftovers(file)


def test_a_server_that_knows_no_ranges_sends_it_all_again(file: WeightsFile, server: Server) -> None:
    server.plan = ["cut", "ignores ranges"]
    obtain(file)
    assert file.path.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(file: WeightsFile, server: Server) -> None:
    server.plan = ["503", "429"]
    obtain(file)
    assert len(server.ranges) == 3


def test_a_server_that_breaks_off_again_and_again_is_given_up(file: WeightsFile, server: Server) -> None:
    server.plan = ["cut"] * 10
    with pytest.raises(WeightsError, match="broke after") as caught:
        obtain(file)
    assert not isinstance(caught.value, UnreachableError)
    assert not file.path.exists()


def test_a_wrong_hash_leaves_nothing_and_names_the_way_out(file: WeightsFile, server: Server) -> None:
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(WeightsError, match="hash is wrong") as caught:
        obtain(file)
    message = str(caught.value)
    assert not isinstance(caught.value, UnreachableError)
    assert str(file.path) in message
    assert server.url in message
    assert "--test_path" in message
    assert not file.path.exists()
    assert not leftovers(file)


def test_what_the_first_home_lacks_the_mirror_has(tmp_path: Path, file: WeightsFile, server: Server) -> None:
    server.plan = ["404"]
    two_homes = WeightsFile("Test", file.path, (server.url, f"{server.url}?mirror"), "free", git_blob=file.git_blob)
    obtain(two_homes)
    assert file.path.read_bytes() == CONTENT


def test_no_network_is_told_from_other_failures(file: WeightsFile, server: Server) -> None:
    nobody_listens = "http://127.0.0.1:1/weights.pt"
    unreachable = WeightsFile("Test", file.path, (nobody_listens,), "free", git_blob=file.git_blob)
    with pytest.raises(UnreachableError) as caught:
        obtain(unreachable)
    assert nobody_listens in str(caught.value)
    server.plan = ["404"]
    half = WeightsFile("Test", file.path, (nobody_listens, server.url), "free", git_blob=file.git_blob)
    with pytest.raises(WeightsError) as other:
        obtain(half)
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
    remembered = json.loads(file.path.with_name("weights.pt.verified").read_text())
    assert remembered["hash"] == file.git_blob
    with monkeypatch.context() as patch:
        patch.setattr(weights, "_digest", lambda *_: pytest.fail("hashed again"))
        obtain(file)
    file.path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(WeightsError, match="hash is wrong"):
        obtain(file)


def test_verified_weights_are_known_without_reading_them_and_given_ones_by_their_bytes(
    tmp_path: Path, file: WeightsFile, server: Server
) -> None:
    obtain(file)
    assert weights.fingerprint(file, None) == weights.git_blob(file.path) == file.git_blob
    (tmp_path / "mine.pt").write_bytes(b"mine")
    assert weights.fingerprint(file, str(tmp_path / "mine.pt")) == hashlib.sha1(b"blob 4\0mine").hexdigest()


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
    assert not server.ranges
