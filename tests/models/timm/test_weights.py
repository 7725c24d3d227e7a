"""Weights of timm's models: a server in the hub's place, files that users bring, and files that are none."""

import hashlib
import http.server
import json
import os
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file

from models.extraction import with_weights
from models.timm import Config
from models.timm.catalog import find_weights
from models.timm.extract import Extractor
from models.timm.net import Embedder, check, load_model
from tests.helpers.clips import write_numbered_clip
from tests.helpers.oracles import relative_difference
from tests.helpers.program import run_program
from utils.errors import UnreachableError, WeightsError
from utils.media.options import DecodeOptions
from utils.weights.download import git_blob, obtain

NAME = "test_vit.r160_in1k"
COMMIT = "0123456789" * 4


class Hub(http.server.ThreadingHTTPServer):
    """Serves files by name of one repository; all others are not there."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.status = 404
        self.asked: list[str] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        server = self.server
        server.asked.append(f"{self.command} {self.path}")
        content = server.files.get(self.path.removeprefix(f"/timm/{NAME}/resolve/main/"))
        if content is None:
            codes = {404: "EntryNotFound", 403: "GatedRepo"}
            self.send_response(server.status)
            self.send_header("X-Error-Code", codes.get(server.status, ""))
            self.send_header("X-Error-Message", "the server's own words")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815, http.server's name

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def make_model(seed: int, name: str = NAME, **options: Any) -> torch.nn.Module:
    torch.manual_seed(seed)
    model: torch.nn.Module = timm.create_model(name, **options)
    return model.eval()


@pytest.fixture(scope="module")
def safetensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(make_model(1).state_dict(), path)
    return path


def test_the_program_downloads_weights_and_tells_their_licence(hub: Hub, safetensors: Path, tmp_path: Path) -> None:
    hub.files["model.safetensors"] = safetensors.read_bytes()
    clip = write_numbered_clip(tmp_path / "a b.mp4", 30, 160, 120)
    options = ["--feature_type", "timm", "--model_name", NAME, "--extraction_fps", "all", "--device_ids", "cpu"]
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache")}
    output = tmp_path / "output"
    run = run_program(*options, "--report", 1, "--video_paths", clip, output=output, env=environment)
    assert run.status == 0, run.stderr
    assert f"Downloading {NAME} weights (apache-2.0) from {hub.url}/timm/{NAME}/resolve/main/model" in run.stderr
    settings = json.loads((output / "settings.json").read_text())["timm"]["settings"]
    assert settings["checkpoint"] == git_blob(safetensors)
    assert settings["extraction_fps"] is None
    page, overview = (next((output / "report").rglob(f"{name}.html")).read_text() for name in ("page", "index"))
    assert "Likeness of all rows: timm" in page
    assert "apache-2.0" in overview

    extractor = Extractor(Config(model_name=NAME, extraction_fps=None, checkpoint=str(safetensors)), "cpu")
    expected = extractor.extract(str(clip), DecodeOptions()).arrays["timm"]
    assert relative_difference(run.features(clip.name), expected) < 1e-5


def test_what_is_in_the_hubs_cache_is_not_asked_for_again_and_is_what_a_model_loads(
    hub: Hub, safetensors: Path
) -> None:
    hub.files["model.safetensors"] = safetensors.read_bytes()
    config = Config(model_name=NAME)
    assert with_weights(config, dry_run=True) == (config, {})
    assert hub.asked == []
    ready, fingerprints = with_weights(config)
    assert fingerprints == {"checkpoint": git_blob(safetensors)}
    assert ready.checkpoint is not None  # type: ignore[attr-defined]
    hub.asked.clear()
    assert with_weights(config) == with_weights(config, dry_run=True) == (ready, fingerprints)
    assert hub.asked == []
    images = torch.randn(1, 3, 160, 160)
    assert torch.equal(load_model(ready)(images), make_model(1)(images))  # type: ignore[arg-type]


def test_programs_that_ask_at_once_get_one_file(hub: Hub, safetensors: Path) -> None:
    hub.files["model.safetensors"] = safetensors.read_bytes()
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(lambda _: obtain({"checkpoint": (find_weights(NAME), None)}), range(4))
    assert others == [first] * 3
    assert sum(asked.startswith("GET") for asked in hub.asked) == 1


def test_where_the_hub_has_no_safetensors_pytorchs_file_is_taken(hub: Hub, tmp_path: Path) -> None:
    torch.save(make_model(2).state_dict(), tmp_path / "mine.pth")
    hub.files["pytorch_model.bin"] = (tmp_path / "mine.pth").read_bytes()
    ready, _ = with_weights(Config(model_name=NAME))
    images = torch.randn(1, 3, 160, 160)
    assert torch.equal(load_model(ready)(images), make_model(2)(images))  # type: ignore[arg-type]
    hub.asked.clear()
    assert with_weights(Config(model_name=NAME))[0] == ready
    assert hub.asked == []


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (404, WeightsError, r"not there, nor another of model\.safetensors, pytorch_model\.bin"),
        (403, WeightsError, "the server's own words"),
        (500, WeightsError, "500"),
        (None, UnreachableError, "refused"),
    ],
)
def test_weights_that_cannot_be_had_are_told_with_the_way_to_bring_them(
    hub: Hub, status: int | None, error: type[WeightsError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # the hub's library waits between its attempts
    hub.status = status or 404
    if status is None:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
        template = "http://127.0.0.1:1/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(WeightsError, match=message) as caught:
        with_weights(Config(model_name=NAME))
    assert type(caught.value) is error
    url = f"{huggingface_hub.constants.ENDPOINT}/timm/{NAME}/resolve/main/model.safetensors"
    assert str(caught.value).endswith(f"\n  {NAME}: fetch {url}\n    and name a copy with --checkpoint")


def test_a_model_without_published_weights_needs_a_file() -> None:
    with pytest.raises(WeightsError, match=r"no published weights of test_vit4.*--checkpoint"):
        check(Config(model_name="test_vit4"))
    check(Config(model_name="test_vit4", weights="random"))
    with pytest.raises(WeightsError, match="--checkpoint: no such file: mine"):
        with_weights(Config(model_name="test_vit4", checkpoint="mine.pth"))


@pytest.mark.parametrize("has_hash", [True, False])
def test_weights_on_other_servers_are_kept_in_torchs_cache(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_hash: bool
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    content = b"weights"
    name = f"tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth" if has_hash else "tiny-16-600e.pth.tar"
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda _: timm.models.PretrainedCfg(url=f"{hub.url}/{name}"))
    wanted = {"checkpoint": (find_weights(NAME), None)}
    if has_hash:
        hub.files[f"/{name}"] = b"other"
        with pytest.raises(WeightsError, match="hash is wrong"):
            obtain(wanted)
    hub.files[f"/{name}"] = content
    path = tmp_path / "torch" / "hub" / "checkpoints" / name
    assert obtain(wanted) == {"checkpoint": path}
    assert path.read_bytes() == content


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_fine_tuned_checkpoint_brings_its_own_classes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    tuned = make_model(3, num_classes=7)
    if suffix == ".pth":  # as timm's training leaves it
        torch.save({"epoch": 3, "arch": "test_vit", "state_dict": tuned.state_dict(), "metric": 0.5}, path)
    else:
        save_file(tuned.state_dict(), path)
    images = torch.randn(2, 3, 160, 160)
    config = Config(model_name="test_vit", checkpoint=str(path), keep_classifier=True)
    assert torch.equal(Embedder(config, load_model(config))(images), tuned(images))
    config = Config(model_name="test_vit", checkpoint=str(path))
    tuned.reset_classifier(0)  # type: ignore[operator]
    assert torch.equal(Embedder(config, load_model(config))(images), tuned(images))


class _Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["trap.pth", "plain.pth", "trap.safetensors"])
def test_nothing_but_tensors_is_unpickled(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    trap = {"state_dict": _Trap(tmp_path / "sprung")}
    if name == "plain.pth":
        path.write_bytes(pickle.dumps(trap, protocol=2))
    else:
        torch.save(trap, path)
    with pytest.raises(WeightsError, match="not a readable file of tensors") as caught:
        load_model(Config(model_name=NAME, checkpoint=str(path)))
    assert str(path) in str(caught.value)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"

    def refused(state: dict[str, Any], message: str) -> None:
        save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
        with pytest.raises(WeightsError, match=message) as caught:
            load_model(Config(model_name=NAME, checkpoint=str(path)))
        assert str(path) in str(caught.value)

    state = make_model(1).state_dict()
    refused({key: value for key, value in state.items() if key != "norm.weight"}, "Missing key.*norm.weight")
    refused(state | {"more.weight": torch.zeros(1)}, "Unexpected key.*more.weight")
    refused(state | {"norm.weight": torch.zeros(3)}, r"size mismatch for norm.weight")
    refused(make_model(1, "test_resnet").state_dict(), "not weights of test_vit")
    whole = path.read_bytes()
    for content in (b"", b"some text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="not a readable file of tensors") as caught:
            load_model(Config(model_name=NAME, checkpoint=str(path)))
        assert str(path) in str(caught.value)


def test_untrained_weights_are_the_same_every_time_and_leave_the_random_numbers_alone() -> None:
    config = Config(model_name=NAME, weights="random")
    torch.manual_seed(5)
    first = load_model(config).state_dict()
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert all(torch.equal(value, first[key]) for key, value in load_model(config).state_dict().items())
