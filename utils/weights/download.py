"""Published weights: found, downloaded, verified.

A download goes to a `.part` file beside its place, is resumed from there by the next attempt or the next run, and
is renamed into place only when its hash is right. A file lock lets several programs ask for the same file at once.
"""

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from tqdm import tqdm

from utils.errors import UnreachableError, WeightsError
from utils.weights.published import WeightsFile

ATTEMPTS = 4
FIRST_WAIT_SECONDS = 1.0
TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 1 << 20


def obtain(wanted: Mapping[str, tuple[WeightsFile, str | None]]) -> dict[str, Path]:
    """Where each of the weights lies, downloaded and verified if need be.

    `wanted` holds, by the option that overrides its place, each file and the path that the user gave, if any. A
    given file must exist and is taken as it is; the others are the published ones, at their default places.
    Raises WeightsError, and UnreachableError where there is no network.
    """
    for option, (weights, given) in wanted.items():
        if given is not None and not os.path.isfile(given):
            raise WeightsError(f"--{option}: no such file: {given} ({weights.title} weights)")
    places = {option: Path(given or weights.path) for option, (weights, given) in wanted.items()}
    published = {option: weights for option, (weights, given) in wanted.items() if given is None}
    try:
        for weights in published.values():
            if not weights.path.exists():
                download(weights)
    except WeightsError as error:
        ways_out = [
            f"  {weights.title}: fetch {weights.urls[0]}\n"
            f"    and put it at {weights.path}, or name a copy with --{option}"
            for option, weights in published.items()
            if not weights.path.exists()
        ]
        raise type(error)("\n".join([str(error), *ways_out])) from error
    for option, weights in published.items():
        if not is_published(weights, weights.path):
            raise WeightsError(
                f"{weights.path} is not the published {weights.title} checkpoint: its hash is wrong. Delete it to "
                f"download it from {weights.urls[0]}, or name it with --{option} to use it as it is"
            )
    return places


def download(weights: WeightsFile) -> None:
    """Put the published file at `weights.path`, which appears whole or not at all.

    Safe when several programs do it at once: one downloads, the others wait for it.
    """
    try:
        weights.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(weights.path.with_name(weights.path.name + ".lock")):
            if not weights.path.exists():
                _fetch_from_any(weights)
    except OSError as error:
        raise WeightsError(f"cannot keep the {weights.title} weights: {error}") from error


def is_published(weights: WeightsFile, path: Path) -> bool:
    """Whether the file's bytes have the published hash. Remembered beside the file, so that it costs once."""
    state = path.stat()
    seen = {"hash": weights.git_blob or weights.sha256, "size": state.st_size, "mtime_ns": state.st_mtime_ns}
    memory = path.with_name(path.name + ".verified")
    with contextlib.suppress(OSError, ValueError):
        if json.loads(memory.read_text()) == seen:
            return True
    if not _has_published_hash(weights, path):
        return False
    with contextlib.suppress(OSError):  # a read-only folder: hash again next time
        memory.write_text(json.dumps(seen))
    return True


def _has_published_hash(weights: WeightsFile, path: Path) -> bool:
    if weights.git_blob is not None:
        return git_blob(path) == weights.git_blob
    return weights.sha256 is not None and _digest(path, hashlib.sha256()).startswith(weights.sha256)


def git_blob(path: Path) -> str:
    """The git blob id of a file."""
    return _digest(path, hashlib.sha1(b"blob %d\0" % path.stat().st_size))


def fingerprint(weights: WeightsFile, given: str | None) -> str:
    """What tells apart the weights that `obtain` found: their git blob id, known without reading verified files."""
    if given is None and weights.git_blob is not None:
        return weights.git_blob
    return git_blob(Path(given or weights.path))


def _fetch_from_any(weights: WeightsFile) -> None:
    """Put the file at its place from the first of its homes that has it."""
    part = weights.path.with_name(weights.path.name + ".part")
    failures = []
    for url in weights.urls:
        print(f"Downloading {weights.title} weights ({weights.licence}) from {url}", file=sys.stderr)
        try:
            _fetch(url, part, weights)
        except WeightsError as error:
            failures.append(error)
        else:
            os.replace(part, weights.path)
            return
    kind = UnreachableError if all(isinstance(f, UnreachableError) for f in failures) else WeightsError
    raise kind(f"cannot download the {weights.title} weights: " + "; ".join(map(str, failures)))


def _fetch(url: str, part: Path, weights: WeightsFile) -> None:
    """Bring `part` to the whole, verified file: resumed, retried, and begun anew once where what was there is wrong."""
    resumed = part.exists()
    for attempt in range(ATTEMPTS):
        last = attempt == ATTEMPTS - 1
        try:
            _receive(url, part)
        except urllib.error.HTTPError as error:
            if last or error.code not in (429, 500, 502, 503, 504):
                raise WeightsError(f"{url}: HTTP {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)  # URLError wraps what went wrong
            if last or isinstance(reason, (socket.gaierror, ssl.SSLError)):
                raise _connection_failure(url, error, reason) from error
        else:
            if _has_published_hash(weights, part):
                return
            part.unlink()
            if not resumed:
                raise WeightsError(f"{url}: what came is not the published file: its hash is wrong")
            resumed = False
            continue
        time.sleep(FIRST_WAIT_SECONDS * 2**attempt)
    raise WeightsError(f"{url}: gave up after {ATTEMPTS} attempts")


def _connection_failure(url: str, error: Exception, reason: object) -> WeightsError:
    never_connected = isinstance(error, urllib.error.URLError) and not isinstance(reason, ssl.SSLError)
    return (UnreachableError if never_connected else WeightsError)(f"{url}: {reason}")


def _receive(url: str, part: Path) -> None:
    """Append to `part` what it lacks of the file at `url`; raises an OSError or HTTPException where that breaks off."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing comes after what is there: its hash tells whether it is the file
            return
        raise
    with response:
        if response.status != 206:
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        with (
            open(part, "r+b" if start else "wb") as file,
            tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem) as bar,
        ):
            file.seek(start)
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
            received = file.tell()
    if total is not None and received < total:
        raise ConnectionError(f"the connection broke after {received} of {total} bytes")


def _digest(path: Path, digest: "hashlib._Hash") -> str:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock at `path`, against other programs too; the system lets go of it when a program dies."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
