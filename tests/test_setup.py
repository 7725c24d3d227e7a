"""The files that set the project up agree with each other."""

import re
import tomllib

import pytest

from tests.helpers.oracles import REPOSITORY


def locked_versions() -> dict[str, set[str]]:
    versions: dict[str, set[str]] = {}
    for line in (REPOSITORY / "requirements.lock").read_text().splitlines():
        if pin := re.match(r"([\w.-]+)==([^\s;\\]+)", line):
            versions.setdefault(pin[1], set()).add(pin[2])
    return versions


@pytest.mark.parametrize("name", sorted(path.name for path in REPOSITORY.glob("conda_env_*.yml")))
def test_a_conda_environment_pins_what_the_lock_pins(name: str) -> None:
    pins = re.findall(r"^ +- ([\w.-]+)==(\S+)$", (REPOSITORY / name).read_text(), flags=re.MULTILINE)
    assert {package for package, _ in pins} >= {"av", "numpy", "torch", "tqdm"}
    locked = locked_versions()
    locked["tensorflow"] = locked["tensorflow-cpu"]  # the tests' own build of it
    for package, version in pins:
        assert version in locked[package], package


def test_everything_that_the_project_needs_is_locked_with_hashes() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    needed = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    assert {re.split(r"[^\w.-]", requirement)[0] for requirement in needed} <= locked_versions().keys()
    blocks = re.split(r"\n(?=[\w.-]+==)", (REPOSITORY / "requirements.lock").read_text())[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in "".join(blocks), "no registry is named"
