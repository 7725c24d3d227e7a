"""Which videos to work on, and what their outputs are called."""

import codecs
import collections
import fnmatch
import hashlib
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

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
MOST_STEM_BYTES = 255 - 40  # a file name's limit, less `_vggish.npy` and what else it is called until it is whole
NUM_DIGITS = 8  # of the digest that tells apart what is cut or alike

_GLOB = re.compile(r"[*?[]")
_NO_TEXT = "it is no text file that lists videos"


def read_list(path: str) -> list[str]:
    """The paths in a text file, one a line, in UTF-8, in UTF-16 with its mark, or in bytes that are no text.

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
            paths = [named for named in map(_named_in, io.TextIOWrapper(file, encoding, errors)) if named]
        except UnicodeError as error:
            raise ValueError(f"{_NO_TEXT}: {error}") from error
    if not paths:
        raise ValueError("it names no video")
    return paths


def _named_in(line: str) -> str:
    """The path that a line of a list names, or nothing."""
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


def expanded(paths: Sequence[str], suffixes: Set[str]) -> list[str]:
    """The files that paths, folders and globs mean; `suffixes` are the media's, in lower case.

    A folder means all media below it, but for what is hidden or below a link to a folder. A glob, in which `**` is
    any number of folders, means the media that match it and those below folders that do; an extension that it spells
    out need not be among the suffixes. Either is sorted. What exists just as it is written is no glob.

    Nothing is lost in silence: what means no file stays in the list as it is, and so do folders that cannot be read.
    """
    return [file for path in paths for file in _files_of(path, suffixes) or (path,)]


def _files_of(path: str, suffixes: Set[str]) -> Sequence[str]:
    if _GLOB.search(path):
        return sorted(_media_matching(path, suffixes))
    if _is_media(path, suffixes) or not os.path.isdir(path):  # a million media do not each ask the file system
        return (path,)
    return sorted(_media_below(path, suffixes))


def _is_media(path: str, suffixes: Set[str]) -> bool:
    return os.path.splitext(path)[1].lower() in suffixes


def _media_below(folder: str, suffixes: Set[str]) -> list[str]:
    """The media below a folder, and the folders there that cannot be read."""
    unread: list[str] = []
    walk = _walk(folder, unread)
    media = [os.path.join(parent, name) for parent, names in walk for name in names if _is_media(name, suffixes)]
    return media + unread


def _media_matching(glob: str, suffixes: Set[str]) -> set[str]:
    """The media that match a glob or are below folders that do, and the folders on the way that cannot be read."""
    folder, components = ("/", glob[1:].split("/")) if glob.startswith("/") else ("", glob.split("/"))
    ending = os.path.splitext(components[-1])[1]
    if not _GLOB.search(ending or components[-1]):
        suffixes = suffixes | {ending.lower()}
    if components[-1] == "**":
        components.pop()  # a folder means all that is below it anyway, and that is read once then
    unread: list[str] = []
    media: set[str] = set()
    for path in _matches(folder, components, unread):
        if os.path.isdir(path):
            media.update(_media_below(path, suffixes))
        elif _is_media(path, suffixes):
            media.add(path)
    return media.union(unread)


def _matches(folder: str, components: Sequence[str], unread: list[str]) -> Iterator[str]:
    """What matches the components of a glob, each in what matches those before, from a folder on.

    Python's own glob follows links for `**`, which may lead in circles, and says nothing of what it cannot read.
    """
    if not components:
        yield folder or "."
        return
    for path in _matches_in(folder, components[0], unread):
        yield from _matches(path, components[1:], unread)


def _matches_in(folder: str, component: str, unread: list[str]) -> Iterable[str]:
    """What matches one component of a glob in a folder; for `**` that folder and all below."""
    path = os.path.join(folder, component)
    if os.path.lexists(path):  # which a[1] may, too
        return [path]
    here = folder or "."
    if not _GLOB.search(component) or not os.path.isdir(here):
        return []
    if component == "**":
        return (parent for parent, _ in _walk(here, unread))
    try:
        names = os.listdir(here)
    except OSError:
        unread.append(here)
        return []
    candidates = names if component.startswith(".") else _visible(names)
    return [os.path.join(folder, name) for name in fnmatch.filter(candidates, component)]


def _walk(folder: str, unread: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Each folder from `folder` on down, with the names of its files; nothing hidden, and no link to a folder.

    Folders that cannot be read are added to `unread`.
    """
    for parent, folders, names in os.walk(folder, onerror=lambda error: unread.append(error.filename)):
        folders[:] = _visible(folders)
        yield parent, _visible(names)


def _visible(names: Sequence[str]) -> list[str]:
    return [name for name in names if not name.startswith(".")]


def distinct(paths: Sequence[str]) -> list[str]:
    """The paths in their order, each file once."""
    first: dict[str, str] = {}
    for path in paths:
        first.setdefault(_absolute(path), path)
    return list(first.values())


def _absolute(path: str) -> str:
    """The one absolute path that all ways to write a path have in common; links are not followed.

    A path that is it already is given back itself: of a million there need be no copies.
    """
    if path.startswith("/") and "//" not in path and "/." not in path and not path.endswith("/"):
        return path
    absolute = os.path.abspath(path)
    return absolute[1:] if absolute.startswith("//") else absolute  # POSIX lets `//` be another root; Linux does not


def stem_of(path: str) -> str:
    """What a video's outputs are called after, unless another one's would be called the same."""
    name = os.path.basename(path)
    if name in ("", ".", ".."):
        name = os.path.basename(_absolute(path))
    return _fitted(os.path.splitext(name)[0])


def unique_stems(paths: Sequence[str]) -> dict[str, str]:
    """What the outputs of videos are called after whose stem is not theirs alone; the others are not in it.

    They keep their folders below the common parent, and their extension where even that leaves two the same:
    a/x.mp4, b/x.mp4 and b/x.mkv become a/x, b/x.mp4 and b/x.mkv. Where one is then called like a video of another
    name, as x.mp4 beside x.mkv is like x.mp4.mp4, both have their whole names and a digest of their paths. No two of
    all the videos are called the same, and the order of the paths, each of another file, changes nothing.
    """
    stems: dict[str, str] = {}
    for namesakes in _sharing(paths, stems):
        stems.update(_with_folders(namesakes))
    if not stems:
        return stems
    num_digits = 0
    while sharing := _sharing(paths, stems):
        num_digits += NUM_DIGITS  # in the end the whole digest, which is of no other path
        for path in itertools.chain.from_iterable(sharing):
            whole_name = os.path.join(os.path.dirname(stems.get(path, "")), os.path.basename(_absolute(path)))
            stems[path] = _marked(whole_name, _digest(path)[:num_digits])
    return stems


def _sharing(paths: Sequence[str], stems: Mapping[str, str]) -> list[list[str]]:
    """The paths that have their stem, the one in `stems` or else their own, in common with another, in groups."""
    first: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    for path in paths:
        stem = stems.get(path) or stem_of(path)
        other = first.setdefault(stem, path)
        if other != path:
            groups.setdefault(stem, [other]).append(path)
    return list(groups.values())


def _with_folders(namesakes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each path with its stem below the common parent, or its whole name where another one there has that stem."""
    absolute = [_absolute(path) for path in namesakes]
    start = os.path.commonprefix(absolute).rfind("/") + 1  # noqa: RUF071, commonpath would split all of them
    stems = [os.path.splitext(path[start:])[0] for path in absolute]
    times = collections.Counter(stems)
    for path, whole, stem in zip(namesakes, absolute, stems, strict=True):
        yield path, _fitted(stem if times[stem] == 1 else whole[start:])


def _fitted(stem: str) -> str:
    """The stem, cut and marked with a digest where the names of its files would be too long."""
    if len(stem) * 4 <= MOST_STEM_BYTES:  # no character has more bytes
        return stem
    if len(_encoded(os.path.basename(stem))) <= MOST_STEM_BYTES:
        return stem
    return _marked(stem, _digest(stem)[:NUM_DIGITS])


def _marked(stem: str, digest: str) -> str:
    """The stem with a digest at its end, cut before that, between two characters, as far as it must be."""
    folder, slash, name = stem.rpartition("/")
    room = MOST_STEM_BYTES - len(digest) - 1
    whole_characters, _ = codecs.utf_8_decode(_encoded(name)[:room], "surrogateescape", False)
    return f"{folder}{slash}{whole_characters}-{digest}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _encoded(text: str) -> bytes:
    """The bytes that the file system knows a name by."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # no file has this name, which is for who opens it to say
        return text.encode(errors="surrogatepass")


def find_videos(video_paths: Sequence[str] | None, file_with_video_paths: str | None, suffixes: Set[str]) -> list[str]:
    """Return the videos that the command line names, each once. Raises ValueError for a list that cannot be read."""
    if video_paths is None:
        assert file_with_video_paths is not None
        try:
            video_paths = read_list(file_with_video_paths)
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or error
            raise ValueError(f"--file_with_video_paths {file_with_video_paths}: {cause}") from error
    return distinct(expanded(video_paths, suffixes))
