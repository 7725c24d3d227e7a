"""The files that set the project up agree with each other, and make installs what is needed once."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import main
from sample import extract_sample
from tests.helpers.oracles import REPOSITORY
from utils.errors import UnreachableError

PROGRAM, DEV = "requirements.lock", "requirements-dev.lock"
FAKE_PYTHON = """case "$*" in
    *" venv "*) echo venv; install -D -m 755 python "$3/bin/python"; install -m 755 python "$3/bin/pip";;
    *" install "*) for lock; do :; done; echo "$lock"; test ! -e no_network;;
esac"""


def pins(name: str) -> set[tuple[str, str]]:
    return set(re.findall(r"([\w.-]+)==([\w.]+)", (REPOSITORY / name).read_text()))


def test_lock_files_have_hashes_name_no_registry_and_agree_with_what_is_written_elsewhere() -> None:
    for name in ("conda_env_i3d.yml", "conda_env_vggish.yml", "docs/running.md"):
        assert dict(pins(name)).keys() >= {"av", "torch", "tqdm"}
        assert pins(name) <= pins(PROGRAM) | {("tensorflow", dict(pins(DEV))["tensorflow-cpu"])}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    dev = [package for group in ("tvl1", "ray", "dev") for package in groups[group] if isinstance(package, str)]
    for name, needed in ((PROGRAM, project["project"]["dependencies"]), (DEV, dev)):
        assert {re.split(r"[\[<>=]", package)[0] for package in needed} <= dict(pins(name)).keys()
        blocks = re.split(r"\n(?=[\w.-]+==)", (REPOSITORY / name).read_text())[1:]
        assert all("--hash=sha256:" in block and "://" not in block for block in blocks)
    assert pins(PROGRAM) <= pins(DEV) and "pytest" not in dict(pins(PROGRAM))  # noqa: PT018


def make(folder: Path, target: str) -> list[str]:
    """Run make with a Python that only notes what it is to make or install; return that, and whether it failed."""
    (folder / "python").write_text(FAKE_PYTHON)
    command = ["env", "-u", "MAKEFLAGS", "make", "-f", str(REPOSITORY / "Makefile"), "PYTHON=sh python", target]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return re.findall("^(?:venv|requirements.*)$", done.stdout, re.MULTILINE) + ["failed"] * (done.returncode != 0)


def test_make_installs_each_lock_file_once_and_again_after_a_change_or_an_interruption(tmp_path: Path) -> None:
    (tmp_path / PROGRAM).write_text("a==1")
    (tmp_path / DEV).write_text("a==1 b==1")
    (tmp_path / "no_network").touch()
    assert make(tmp_path, "setup") == ["venv", PROGRAM, "failed"]
    (tmp_path / "no_network").unlink()
    assert [make(tmp_path, target) for target in ("setup", "setup-dev", "setup-dev")] == [[PROGRAM], [DEV], []]
    (tmp_path / PROGRAM).write_text("a==2")
    assert [make(tmp_path, target) for target in ("setup-dev", "setup-dev")] == [[PROGRAM], []]
    (tmp_path / ".venv/bin/python").unlink()
    assert make(tmp_path, "setup-dev") == ["venv", PROGRAM, DEV]


def test_an_environment_that_is_linked_to_is_used_as_it_is_or_refused(tmp_path: Path) -> None:
    (tmp_path / "own/bin").mkdir(parents=True)
    (tmp_path / ".venv").symlink_to("own")
    assert make(tmp_path, "setup") == ["failed"]
    (tmp_path / "own/bin/python").symlink_to("/bin/sh")
    assert make(tmp_path, "setup") == []
    assert [path.name for path in (tmp_path / "own").rglob("*")] == ["bin", "python"]


def test_the_sample_needs_no_more_than_the_programs_packages_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(wanted: object) -> None:
        raise UnreachableError("no network")

    commands: list[list[str]] = []

    def note(command: list[str]) -> int:
        commands.append(command)
        return 0

    for package in ("timm", "ray", "h5py", "cv2"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(extract_sample, "obtain", no_network)
    monkeypatch.setattr(main, "main", note)
    assert [extract_sample.extract_sample(name) for name in extract_sample.FEATURE_TYPES] == [0, 0]
    assert [command[1] for command in commands] == ["i3d", "vggish"]
    assert all(command[-2:] == ["--weights", "random"] for command in commands)
