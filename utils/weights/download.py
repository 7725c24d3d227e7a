"""Finds, downloads and verifies published weights.

A download goes to a `.part` file beside its path, is resumed from there by the next attempt or the next run, and is
renamed only when its hash is right. A file lock lets several programs ask for the same file at once.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import http.client
import os
import shutil
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
from utils.weights.published import LibraryWeights, PublishedWeights, WeightsFile

ATTEMPTS = 4
FIRST_WAIT_SECONDS = 1.0
TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 1 << 20
BUSY = (429, 500, 502, 503, 504)  # HTTP statuses that pass


def obtain(wanted: Mapping[str, tuple[PublishedWeights, str | None]], dry_run: bool = False) -> dict[str, Path]:
    """Return the path of each of the weights, downloaded and verified if need be.

    `wanted` holds, by the option that overrides its path, each file and the path that the user gave, if any. A given
    file must exist and is taken as it is; the others are the published ones, at their default paths or, where those
    cannot be written to, in the user's cache; or where a library keeps them. With `dry_run` nothing is written, and
    what would have to be downloaded is left out. Raises WeightsError, and UnreachableError where there is no network.
    """
    paths: dict[str, Path] = {}
    missing: dict[str, PublishedWeights] = {}
    for option, (published, given) in wanted.items():
        weights = placed(published)
        found = _find(weights) if given is None else Path(given)
        if given is not None and not os.path.isfile(given):
            raise WeightsError(f"--{option}: no such file: {given} ({weights.title} weights)")
        if found is None:
            missing[option] = weights
            continue
        paths[option] = found
        if given is None and isinstance(weights, WeightsFile) and not _is_verified(weights, remembers=not dry_run):
            raise WeightsError(
                f"{weights.path} is not the published {weights.title} checkpoint: its hash is wrong. Delete it to "
                f"download it from {weights.url}, or name it with --{option} to use it as it is"
            )
    if dry_run:
        return paths
    try:
        for option, weights in missing.items():
            paths[option] = _download(weights)
    except WeightsError as error:
        raise type(error)("".join([str(error), *(_way_out(*item) for item in missing.items())])) from error
    return paths


def _find(weights: PublishedWeights) -> Path | None:
    if isinstance(weights, LibraryWeights):
        return weights.find()
    return weights.path if weights.path.exists() else None


def _way_out(option: str, weights: PublishedWeights) -> str:
    """Return how a user may bring weights that cannot be downloaded, unless they came."""
    if _find(weights) is not None:
        return ""
    where = f"put it at {weights.path}, or name" if isinstance(weights, WeightsFile) else "name"
    return f"\n  {weights.title}: fetch {weights.url}\n    and {where} a copy with --{option}"


def placed(weights: PublishedWeights) -> PublishedWeights:
    """Return the record with a path that can be had: in the user's cache, where the default folder is read-only."""
    if isinstance(weights, LibraryWeights):
        return weights
    folder = next(parent for parent in weights.path.parents if parent.exists())
    if weights.path.exists() or os.access(folder, os.W_OK):
        return weights
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "video_features")
    return dataclasses.replace(weights, path=cache / weights.path.name)


def _download(weights: PublishedWeights) -> Path:
    """Return where the published file is, whole. If several programs ask at once, one downloads for all."""
    if isinstance(weights, LibraryWeights):
        print(f"Downloading {weights.title} weights ({weights.licence}) from {weights.url}", file=sys.stderr)
        return weights.fetch()
    try:
        weights.path.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{weights.path}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the system lets go of it when the program dies
            if not weights.path.exists():
                _fetch(weights, part := Path(f"{weights.path}.part"))
                os.replace(part, weights.path)
    except OSError as error:
        raise WeightsError(f"cannot keep the {weights.title} weights: {error}") from error
    return weights.path


def fingerprint(weights: PublishedWeights, given: str | None) -> str:
    """Return the git blob id of the weights that `obtain` found, by which settings tell weights apart.

    Verified files are not read again for it.
    """
    if given is None and isinstance(weights, WeightsFile) and weights.git_blob is not None:
        return weights.git_blob
    path = given or _find(placed(weights))
    assert path is not None
    return git_blob(Path(path))


def git_blob(path: Path) -> str:
    """Return the git blob id of a file."""
    with open(path, "rb") as file:
        header = b"blob %d\0" % os.fstat(file.fileno()).st_size
        return hashlib.file_digest(file, lambda: hashlib.sha1(header)).hexdigest()


def _is_published(weights: WeightsFile, path: Path) -> bool:
    if weights.git_blob is not None:
        return git_blob(path) == weights.git_blob
    assert weights.sha256 is not None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(weights.sha256)


def _is_verified(weights: WeightsFile, remembers: bool) -> bool:
    """Return True if the file is the published one. It `remembers` that beside it, so that it is hashed once."""
    state = weights.path.stat()
    verified = f"{weights.git_blob or weights.sha256} {state.st_size} {state.st_mtime_ns}"
    memory = Path(f"{weights.path}.verified")
    with contextlib.suppress(OSError, ValueError):
        if memory.read_text() == verified:
            return True
    if not _is_published(weights, weights.path):
        return False
    if remembers:
        with contextlib.suppress(OSError):  # a read-only folder: hash again next time
            memory.write_text(verified)
    return True


def _fetch(weights: WeightsFile, part: Path) -> None:
    """Bring `part` to the whole, verified file, from the first URL that has it; what may pass is tried again."""
    failures = []
    for url in weights.urls:
        print(f"Downloading {weights.title} weights ({weights.licence}) from {url}", file=sys.stderr)
        for attempt in range(ATTEMPTS):
            if attempt > 0:
                time.sleep(FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
            is_resumed = part.exists()
            try:
                _receive(url, part)
            except (OSError, http.client.HTTPException) as error:
                failure, may_pass = _explain(error, url)
            else:
                if _is_published(weights, part):
                    return
                part.unlink()
                failure = WeightsError(f"{url}: what came is not the published file: its hash is wrong")
                may_pass = is_resumed  # what was there before may be the cause
            if not may_pass:
                break
        failures.append(failure)
    kind = UnreachableError if all(isinstance(failure, UnreachableError) for failure in failures) else WeightsError
    raise kind(f"cannot download the {weights.title} weights: " + "; ".join(map(str, failures)))


def _explain(error: OSError | http.client.HTTPException, url: str) -> tuple[WeightsError, bool]:
    """Return the error of a download that broke off, and if another attempt may mend it."""
    match error:
        case urllib.error.HTTPError(code=code):
            return WeightsError(f"{url}: HTTP {code} {error.reason}"), code in BUSY
        case urllib.error.URLError(reason=ssl.SSLError() as cause):
            return WeightsError(f"{url}: {cause}"), False
        case urllib.error.URLError(reason=cause):  # nothing was connected to
            return UnreachableError(f"{url}: {cause}"), not isinstance(cause, socket.gaierror)
    return WeightsError(f"{url}: {error}"), True


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
        with open(part, "ab" if start else "wb") as file:
            with tqdm.wrapattr(file, "write", total=total, initial=start, desc=part.stem) as counted:
                shutil.copyfileobj(response, counted, CHUNK_BYTES)
            file.flush()
            os.fsync(file.fileno())
            received = file.tell()
    if total is not None and received < total:
        raise ConnectionError(f"the connection broke after {received} of {total} bytes")
