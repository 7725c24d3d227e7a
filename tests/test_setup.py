"""The files that set the project up agree with each other, and make installs what is needed once."""

import re
import subprocess
import tomllib
from pathlib import Path

from tests.helpers.oracles import REPOSITORY

PROGRAM, DEV = "requirements.lock", "requirements-dev.lock"
FAKE_PYTHON = """case "$*" in
    *" venv "*) echo venv >> calls; install -D -m 755 python "$3/bin/python"; install -m 755 python "$3/bin/pip";;
    *" install "*) for lock; do :; done; echo "$lock" >> calls; test ! -e no_network;;
esac"""


def pins(name: str) -> set[tuple[str, str]]:
    return set(re.findall(r"([\w.-]+)==([\w.]+)", (REPOSITORY / name).read_text()))


def test_versions_written_elsewhere_are_those_of_the_lock_files() -> None:
    for name in ("conda_env_i3d.yml", "conda_env_vggish.yml", "docs/running.md"):
        assert dict(pins(name)).keys() >= {"av", "torch", "tqdm"}
        assert pins(name) <= pins(PROGRAM) | {("tensorflow", dict(pins(DEV))["tensorflow-cpu"])}


def test_each_lock_file_holds_what_it_is_for_with_hashes_and_names_no_registry() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    needed, needed_to_test = project["project"]["dependencies"], project["dependency-groups"]["dev"]
    assert {re.split("[<>=]", package)[0] for package in needed} <= dict(pins(PROGRAM)).keys()
    assert {re.split("[<>=]", package)[0] for package in needed_to_test} <= dict(pins(DEV) - pins(PROGRAM)).keys()
    assert pins(PROGRAM) <= pins(DEV)
    text = "".join((REPOSITORY / name).read_text() for name in (PROGRAM, DEV))
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=[\w.-]+==)", text)[1:])
    assert "://" not in text


def make(folder: Path, target: str) -> list[str] | None:
    """Run make with a Python that only notes what it is to make or install; return that, or None after a failure."""
    (folder / "calls").write_text("")
    (folder / "python").write_text(FAKE_PYTHON)
    command = ["env", "-u", "MAKEFLAGS", "make", "-f", str(REPOSITORY / "Makefile"), "PYTHON=sh python", target]
    done = subprocess.run(command, cwd=folder, capture_output=True)
    return None if done.returncode else (folder / "calls").read_text().split()


def test_make_installs_each_lock_file_once_and_again_after_a_change_or_an_interruption(tmp_path: Path) -> None:
    (tmp_path / PROGRAM).write_text("a==1")
    (tmp_path / DEV).write_text("a==1\nb==1")
    (tmp_path / "no_network").touch()
    assert make(tmp_path, "setup") is None
    (tmp_path / "no_network").unlink()
    assert make(tmp_path, "setup") == [PROGRAM]
    assert make(tmp_path, "setup-dev") == [DEV]
    (tmp_path / PROGRAM).write_text("a==2")
    assert make(tmp_path, "setup-dev") == [PROGRAM]
    assert make(tmp_path, "setup-dev") == []
    (tmp_path / ".venv/bin/python").unlink()
    assert make(tmp_path, "setup-dev") == ["venv", PROGRAM, DEV]


def test_an_environment_that_is_linked_to_is_used_as_it_is_or_refused(tmp_path: Path) -> None:
    (tmp_path / "own/bin").mkdir(parents=True)
    (tmp_path / ".venv").symlink_to("own")
    assert make(tmp_path, "setup") is None
    (tmp_path / "own/bin/python").symlink_to("/bin/sh")
    assert make(tmp_path, "setup") == []
    assert [path.name for path in (tmp_path / "own/bin").iterdir()] == ["python"]
