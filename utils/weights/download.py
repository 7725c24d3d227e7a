"""Finds, downloads and verifies published weights.

A download goes to a `.part` file beside its path, is resumed from there by the next attempt or the next run, and is
renamed only when its hash is right. A file lock lets several programs ask for the same file at once.
"""

import contextlib
import fcntl
import hashlib
import http.client
import os
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from utils.errors import UnreachableError, WeightsError
from utils.weights.published import WeightsFile

ATTEMPTS = 4
FIRST_WAIT_SECONDS = 1.0
TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 1 << 20
BUSY = (429, 500, 502, 503, 504)  # HTTP statuses that pass


def obtain(wanted: Mapping[str, tuple[WeightsFile, str | None]]) -> dict[str, Path]:
    """Return the path of each of the weights, downloaded and verified if need be.

    `wanted` holds, by the option that overrides its path, each file and the path that the user gave, if any. A given
    file must exist and is taken as it is; the others are the published ones, at their default paths. Raises
    WeightsError, and UnreachableError where there is no network.
    """
    for option, (weights, given) in wanted.items():
        if given is not None and not os.path.isfile(given):
            raise WeightsError(f"--{option}: no such file: {given} ({weights.title} weights)")
    published = {option: weights for option, (weights, given) in wanted.items() if given is None}
    try:
        for weights in published.values():
            download(weights)
    except WeightsError as error:
        ways_out = [
            f"\n  {weights.title}: fetch {weights.urls[0]}\n"
            f"    and put it at {weights.path}, or name a copy with --{option}"
            for option, weights in published.items()
            if not weights.path.exists()
        ]
        raise type(error)("".join([str(error), *ways_out])) from error
    for option, weights in published.items():
        if not _is_verified(weights):
            raise WeightsError(
                f"{weights.path} is not the published {weights.title} checkpoint: its hash is wrong. Delete it to "
                f"download it from {weights.urls[0]}, or name it with --{option} to use it as it is"
            )
    return {option: Path(given or weights.path) for option, (weights, given) in wanted.items()}


def download(weights: WeightsFile) -> None:
    """Put the published file at `weights.path`, whole, unless there is a file.

    Safe when several programs do it at once: one downloads, the others wait for it. Raises WeightsError.
    """
    if weights.path.exists():
        return
    try:
        weights.path.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{weights.path}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the system lets go of it when the program dies
            if not weights.path.exists():
                _fetch_from_any(weights, part := Path(f"{weights.path}.part"))
                os.replace(part, weights.path)
    except OSError as error:
        raise WeightsError(f"cannot keep the {weights.title} weights: {error}") from error


def fingerprint(weights: WeightsFile, given: str | None) -> str:
    """Return the git blob id of the weights that `obtain` found, for verified files without reading them again."""
    if given is None and weights.git_blob is not None:
        return weights.git_blob
    return git_blob(Path(given or weights.path))


def _has_published_hash(weights: WeightsFile, path: Path) -> bool:
    if weights.git_blob is not None:
        return git_blob(path) == weights.git_blob
    return weights.sha256 is not None and _hash(path, hashlib.sha256()).startswith(weights.sha256)


def git_blob(path: Path) -> str:
    """Return the git blob id of a file."""
    return _hash(path, hashlib.sha1(b"blob %d\0" % path.stat().st_size))


def _is_verified(weights: WeightsFile) -> bool:
    """Say if the file is the published one. That is remembered beside the file, so that it costs once."""
    state = weights.path.stat()
    verified = f"{weights.git_blob or weights.sha256} {state.st_size} {state.st_mtime_ns}"
    memory = Path(f"{weights.path}.verified")
    with contextlib.suppress(OSError, ValueError):
        if memory.read_text() == verified:
            return True
    if not _has_published_hash(weights, weights.path):
        return False
    with contextlib.suppress(OSError):  # a read-only folder: hash again next time
        memory.write_text(verified)
    return True


def _fetch_from_any(weights: WeightsFile, part: Path) -> None:
    """Bring `part` to the whole, verified file, from the first URL that has it."""
    failures = []
    for url in weights.urls:
        print(f"Downloading {weights.title} weights ({weights.licence}) from {url}", file=sys.stderr)
        try:
            return _fetch(url, part, weights)
        except WeightsError as error:
            failures.append(error)
    kind = UnreachableError if all(isinstance(failure, UnreachableError) for failure in failures) else WeightsError
    raise kind(f"cannot download the {weights.title} weights: " + "; ".join(map(str, failures)))


def _fetch(url: str, part: Path, weights: WeightsFile) -> None:
    """Resume `part`, retry what may pass, and begin anew once where what was there is wrong."""
    is_resumed = part.exists()
    for attempt in range(ATTEMPTS):
        try:
            _receive(url, part)
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(error, urllib.error.HTTPError):
                failure, may_pass = WeightsError(f"{url}: HTTP {error.code} {cause}"), error.code in BUSY
            else:
                never_connected = cause is not error and not isinstance(cause, ssl.SSLError)
                failure = (UnreachableError if never_connected else WeightsError)(f"{url}: {cause}")
                may_pass = not isinstance(cause, (socket.gaierror, ssl.SSLError))
            if attempt == ATTEMPTS - 1 or not may_pass:
                raise failure from error
            time.sleep(FIRST_WAIT_SECONDS * 2**attempt)
            continue
        if _has_published_hash(weights, part):
            return
        part.unlink()
        if not is_resumed:
            break
        is_resumed = False
    raise WeightsError(f"{url}: what came is not the published file: its hash is wrong")


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


def _hash(path: Path, digest: "hashlib._Hash") -> str:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
