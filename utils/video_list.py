"""Lists, folders and globs -> the paths of videos, and what their outputs are called after."""

import codecs
import collections
import glob
import hashlib
import io
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

VIDEO_SUFFIXES = frozenset(
    """
    .264 .265 .3g2 .3gp .3gp2 .3gpp .amv .asf .av1 .avi .dav .divx .dv .evo .f4v .flc .fli .flv .gif .gxf .h261 .h263
    .h264 .h265 .hevc .insv .ivf .m1v .m2p .m2t .m2ts .m2v .m4v .mj2 .mjpeg .mjpg .mk3d .mkv .mov .mp2v .mp4 .mpe .mpeg
    .mpg .mpv .mts .mxf .nsv .nut .obu .ogm .ogv .ogx .qt .rm .rmvb .roq .swf .tod .tp .trp .ts .vc1 .vob .webm .wmv
    .wtv .xvid .y4m
    """.split()  # noqa: SIM905, as a list it is a screen long
)
AUDIO_SUFFIXES = frozenset(
    """
    .aa3 .aac .ac3 .aif .aifc .aiff .amr .ape .at3 .au .awb .bwf .caf .dff .dsf .dts .dtshd .eac3 .ec3 .flac .m4a .m4b
    .m4r .mka .mlp .mp1 .mp2 .mp3 .mpa .mpc .mpga .oga .ogg .oma .opus .qcp .ra .rf64 .shn .snd .spx .tak .thd .tta
    .voc .vqf .w64 .wav .wave .weba .wma .wv
    """.split()  # noqa: SIM905, as a list it is a screen long
)
MOST_STEM_BYTES = 255 - 40  # a file name's limit, less `_vggish.npy` and what other extractors may add
NUM_DIGITS = 16  # of the digest that tells apart what is cut or alike: two videos in 10^19 have the same

_GLOB = re.compile(r"[*?[]")
_NO_TEXT = "it is no text file that lists videos"


@dataclass(frozen=True)
class Shard:
    """The `number`-th, from 1 on, of `count` even parts of a list; together they are the list."""

    number: int
    count: int

    def of(self, paths: list[str]) -> list[str]:
        """Return every `count`-th path, from the `number`-th on."""
        return paths[self.number - 1 :: self.count]


def find_videos(video_paths: Sequence[str] | None, file_with_video_paths: str | None, suffixes: Set[str]) -> list[str]:
    """Return the videos that the command line names, each once. Raises ValueError for a list that cannot be read."""
    if video_paths is None and file_with_video_paths is not None:
        try:
            video_paths = read_list(file_with_video_paths)
        except (OSError, ValueError) as error:
            cause = error.strerror if isinstance(error, OSError) else error
            raise ValueError(f"--file_with_video_paths {file_with_video_paths}: {cause}") from error
    return distinct(expand(video_paths or (), suffixes))


def read_list(path: str) -> list[str]:
    """Return the paths in a text file, one a line, in UTF-8, in UTF-16 with its mark, or in bytes that are no text.

    Blanks around a line, quotes around it and blank lines are nothing; `~` is the home folder; a line that begins
    with `#` is a comment. What exists just as the line says is meant, though, whatever the line begins with. The file
    may be a pipe. Raises OSError, and ValueError where it names no video or is no text.
    """
    with open(path, "rb") as file:
        head = file.peek()
        is_utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        if b"\0" in head and not is_utf16:  # said before all of a video is read in search of a line's end
            raise ValueError(_NO_TEXT)
        encoding, errors = ("utf-16", "surrogatepass") if is_utf16 else ("utf-8-sig", "surrogateescape")
        try:
            paths = [path for path in map(_parse_line, io.TextIOWrapper(file, encoding, errors)) if path]
        except UnicodeError as error:
            raise ValueError(f"{_NO_TEXT}: {error}") from error
    if not paths:
        raise ValueError("it names no video")
    return paths


def _parse_line(line: str) -> str:
    """Return the path that a line of a list names, or nothing."""
    if "\0" in line:
        raise ValueError(_NO_TEXT)
    path = line.strip()
    if not path.startswith(("#", "'", '"', "~")) or os.path.lexists(path):
        return path
    if path[0] == "#":
        return ""
    if len(path) > 1 and path[0] == path[-1] and path[0] in "'\"":
        path = path[1:-1]
    return os.path.expanduser(path)


def expand(paths: Iterable[str], suffixes: Set[str]) -> list[str]:
    """Return the files that paths, folders and globs mean; `suffixes` are the media's, in lower case.

    A folder means all media below it, but for what is hidden or below a link to a folder. A glob, as of Python's
    `glob` with `**` for any number of folders, means the media that match it and those below folders that do; an
    extension that it spells out need not be among the suffixes. Either is sorted. What exists as it is written is no
    glob. What means no file stays in the list as it is, and so does a folder below that cannot be read: they will fail.
    """
    files: list[str] = []
    for path in paths:
        found: list[str] = []
        if _GLOB.search(path) and not os.path.lexists(path):
            found = _match(path, suffixes)
        elif not _is_media(path, suffixes):  # a million media do not each ask the system
            found = _find_media(path, suffixes)
        files += found or [path]
    return files


def explain_missing(path: str) -> str | None:
    """Say why there is no file at a path that is a URL or a glob."""
    if re.match(r"\w[\w+.-]*://", path):
        return "URLs are not taken; download it first"
    return "the pattern matched nothing" if _GLOB.search(path) else None


def _match(pattern: str, suffixes: Set[str]) -> list[str]:
    """Return the media that match a glob or are below folders that do."""
    name, extension = os.path.splitext(os.path.basename(pattern))
    if not _GLOB.search(extension or name):
        suffixes = suffixes | {extension.lower()}
    try:
        matches = glob.glob(pattern, recursive=True)
    except (OSError, ValueError):  # a name that no file can have
        return []
    return sorted({path for match in matches for path in _find_media(match, suffixes)})


def _find_media(path: str, suffixes: Set[str]) -> list[str]:
    """Return the media below a folder, and the folders there that cannot be read; or the path of a media file."""
    if not os.path.isdir(path):
        return [path] if _is_media(path, suffixes) else []
    found: list[str] = []
    for parent, folders, names in os.walk(path, onerror=lambda error: found.append(error.filename)):
        folders[:] = [name for name in folders if not name.startswith(".")]
        media = [name for name in names if _is_media(name, suffixes) and not name.startswith(".")]
        found.extend(os.path.join(parent, name) for name in media)
    return sorted(found)


def _is_media(path: str, suffixes: Set[str]) -> bool:
    return os.path.splitext(path)[1].lower() in suffixes


def distinct(paths: Iterable[str]) -> list[str]:
    """Return the paths in their order, each file once."""
    first: dict[str, str] = {}
    for path in paths:
        first.setdefault(absolute(path), path)
    return list(first.values())


def absolute(path: str) -> str:
    """Return the one absolute path that all ways to write a path have in common; links are not followed.

    A path that is it already is given back itself: of a million there need be no copies.
    """
    if path.startswith("/") and "//" not in path and "/." not in path and not path.endswith("/"):
        return path
    plain = os.path.abspath(path)
    return plain[1:] if plain.startswith("//") else plain  # POSIX lets `//` be another root; Linux does not


def stem_of(path: str) -> str:
    """Return what a video's outputs are called after, unless another one's would be called the same."""
    name = os.path.basename(path)
    if name in ("", ".", ".."):
        name = os.path.basename(absolute(path))
    return _shorten(os.path.splitext(name)[0])


def unique_stems(paths: Sequence[str]) -> dict[str, str]:
    """Return what the outputs of videos are called after whose stem is not theirs alone; the others are not in it.

    They keep their folders below the common parent, and their extension where even that leaves two the same:
    a/x.mp4, b/x.mp4 and b/x.mkv become a/x, b/x.mp4 and b/x.mkv. Where one is then called like a video of another
    name, as x.mp4 beside x.mkv is like x.mp4.mp4, both have their whole names and a digest of their paths. No two of
    all the videos are called the same, and the order of the paths, each of another file, changes nothing.
    """
    stems: dict[str, str] = {}
    for namesakes in _group_by_stem(paths, stems):
        wholes = [absolute(path) for path in namesakes]
        start = os.path.commonprefix(wholes).rfind("/") + 1  # noqa: RUF071, commonpath would split all of them
        with_folders = [os.path.splitext(whole[start:])[0] for whole in wholes]
        times = collections.Counter(with_folders)
        for path, whole, stem in zip(namesakes, wholes, with_folders, strict=True):
            stems[path] = _shorten(stem if times[stem] == 1 else whole[start:])
    while stems and (groups := _group_by_stem(paths, stems)):  # again only if a video is named as if with a digest
        for path in itertools.chain.from_iterable(groups):
            whole = absolute(path)
            stems[path] = _add_digest(os.path.dirname(stems.get(path, "")), os.path.basename(whole), whole)
    return stems


def _group_by_stem(paths: Sequence[str], stems: Mapping[str, str]) -> list[list[str]]:
    """Return the paths that share their stem, the one in `stems` or else their own, in groups."""
    first: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    for path in paths:
        stem = stems.get(path) or stem_of(path)
        other = first.setdefault(stem, path)
        if other != path:
            groups.setdefault(stem, [other]).append(path)
    return list(groups.values())


def _shorten(stem: str) -> str:
    """Return the stem, with a digest in place of its end where the names of its files would be too long."""
    if _num_bytes(stem.rpartition("/")[2]) <= MOST_STEM_BYTES:
        return stem
    return _add_digest(*os.path.split(stem), text=stem)


def _add_digest(folder: str, name: str, text: str) -> str:
    """Return a stem in `folder`: the name, as much of it as there is room for, and a digest of `text`."""
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:NUM_DIGITS]
    while _num_bytes(name) > MOST_STEM_BYTES - NUM_DIGITS - 1:
        name = name[:-1]
    return os.path.join(folder, f"{name}-{digest}")


def _num_bytes(name: str) -> int:
    return len(name.encode(errors="replace"))  # a byte that is no text counts as one
