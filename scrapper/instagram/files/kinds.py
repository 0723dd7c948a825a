"""Detects a file's kind from its bytes, and whether the file is complete.

The *filetype* library takes 10 microseconds to identify any kind of file that a post may contain.
puremagic needs the same amount of memory (1.4 MB), but mistakes HEIC and M4A for MP4. This module
also identifies the brands that *filetype* misses, reads the tracks of an MP4, and checks whether a
file of unknown length is complete. It reads only the beginning of a file and the headers of its
parts.

Formats: ISO/IEC 14496-12 (MP4, MOV, M4A), 23008-12 (HEIC, AVIF), 10918-1 (JPEG), 15948 (PNG),
RFC 9649 (WebP), and the GIF89a specification.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import BinaryIO, Literal, NamedTuple

__all__ = [
    "ENCRYPTED",
    "HEAD_BYTES",
    "MEDIA_TYPES",
    "NOT_A_MOVIE",
    "FileKind",
    "Movie",
    "bit_rate",
    "ends_early",
    "is_whole",
    "kind_of",
    "read_kind",
    "read_movie",
]

HEAD_BYTES = 1024
"""How many bytes from the start of a file are needed to detect its kind."""

MEDIA_TYPES: Mapping[str, str] = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".m4a": "audio/mp4",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".heic": "image/heic",
    ".avif": "image/avif",
    ".gif": "image/gif",
}
"""The media type of each kind of file, by its extension."""

_EXTENSIONS = {media_type: extension for extension, media_type in MEDIA_TYPES.items()}
# Major brands that filetype does not know, by their first three bytes. Files with any other unknown
# brand count as MP4.
_BRANDS = {b"hei": ".heic", b"hev": ".heic", b"mif": ".heic", b"msf": ".heic", b"avi": ".avif"}
_MOVIES = (".mp4", ".mov", ".m4a")
_MAX_PARTS = 20_000
_MAX_TRACKS = 20
# The path of boxes that leads to a track's handler. The number is the maximum number of boxes to
# read at that level.
_BOXES_WITH_TRACKS = ((b"moov", 1), (b"trak", _MAX_TRACKS), (b"mdia", 1), (b"hdlr", 1))
_MAX_INDEXES = 20
_MAX_BIT_RATE = 2**53
ENCRYPTED = "encrypted"
"""The codec of encrypted video or audio, which cannot be played."""

# MP4's registered sample entries, and ffprobe's names for the codecs.
_CODECS = {
    b"avc1": "h264",
    b"avc3": "h264",
    b"hvc1": "hevc",
    b"hev1": "hevc",
    b"vp08": "vp8",
    b"vp09": "vp9",
    b"av01": "av1",
    b"mp4v": "mpeg4",
    b"mp4a": "aac",
    b"Opus": "opus",
    b"encv": ENCRYPTED,
    b"enca": ENCRYPTED,
}
_PART_HEADER = 8
"""The size in bytes of the header of a box or of a PNG chunk."""
_TAIL_BYTES = 64 * 1024


class FileKind(NamedTuple):
    """A kind of file; ``has_audio`` is None unless the tracks are known."""

    type: Literal["video", "image", "audio"]
    extension: str
    has_audio: bool | None = None


class Movie(NamedTuple):
    """The properties of an MP4's first video track or, if it has none, of its first audio track.

    ``codec`` is the name that ffprobe uses. ``seconds`` is the duration. ``start`` is the start in
    seconds on the timeline that a video shares with its audio.
    """

    codec: str | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    start: float = 0.0


NOT_A_MOVIE = Movie()
"""What :func:`read_movie` returns for a file that has neither a video nor an audio track."""


class _Box(NamedTuple):
    name: bytes
    start: int
    """The offset of the box's content."""
    end: int


def kind_of(head: bytes) -> FileKind | None:
    """Return the kind of a file that begins with *head*, or None if no post contains that kind."""
    # Importing filetype here saves an idle service half a megabyte.
    import filetype  # noqa: PLC0415

    found = filetype.guess(head)  # type: ignore[no-untyped-call]
    extension = _EXTENSIONS.get(found.mime) if found else None
    if extension is None and head[4:8] == b"ftyp":
        extension = _BRANDS.get(head[8:11], ".mp4")
    if extension is None:
        return None
    if extension in _MOVIES:
        return FileKind("audio" if extension == ".m4a" else "video", extension)
    return FileKind("image", extension)


def read_kind(file: BinaryIO) -> FileKind | None:
    """Return the kind of an open file, read from its head and, for video or audio, its tracks."""
    file.seek(0)
    kind = kind_of(file.read(HEAD_BYTES))
    if kind is None or kind.extension not in _MOVIES:
        return kind
    tracks = set(_tracks(file, 0, _size_of(file)))
    if not tracks:
        return kind
    if b"vide" in tracks:
        return FileKind("video", ".mov" if kind.extension == ".mov" else ".mp4", b"soun" in tracks)
    return FileKind("audio", ".m4a", b"soun" in tracks)


def bit_rate(size: int, seconds: float | None) -> int | None:
    """Return the bits per second of a file of *size* bytes that plays for *seconds*.

    The result is None if *seconds* is unknown, or too short to be true.
    """
    rate = 8 * size / seconds if seconds else None
    return round(rate) if rate is not None and rate <= _MAX_BIT_RATE else None


def is_whole(file: BinaryIO, kind: FileKind) -> bool:
    """Return whether an open file's structure proves that the file is complete."""
    return _CHECKS[kind.extension](file, _size_of(file))


def ends_early(file: BinaryIO) -> bool:
    """Return whether an open MP4's structure proves that bytes are missing."""
    size = _size_of(file)
    boxes = list(_boxes(file, 0, size))
    return not boxes or boxes[-1].end > size or max(_indexed(file, boxes), default=0) > size


def read_movie(file: BinaryIO) -> Movie:
    """Read the first video track of an open MP4, MOV or M4A.

    If there is no video track, read the first audio track.
    """
    size = _size_of(file)
    movie = _find(file, 0, size, b"moov")
    if movie is None:
        return NOT_A_MOVIE
    scale, units = _duration(file, _find(file, *movie, b"mvhd"))
    units = units or _unsigned(file, _find(file, *movie, b"mvex", b"mehd"))
    boxes = [box for box in _boxes(file, *movie) if box.name == b"trak"][:_MAX_TRACKS]
    tracks = [(box.start, min(box.end, movie[1])) for box in boxes]
    kinds = {_handler(file, track): track for track in reversed(tracks)}
    track = kinds.get(b"vide") or kinds.get(b"soun")
    if track is None:
        return NOT_A_MOVIE
    codec, width, height = _sample_entry(file, track, is_video=b"vide" in kinds)
    seconds = units / scale if scale and units else None
    return Movie(codec, width, height, seconds, _start(file, track, scale))


def _size_of(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[_Box]:
    """Yield the boxes between two offsets; the last one may claim to end after *end*."""
    for _ in range(_MAX_PARTS):
        content = start + _PART_HEADER
        # The previous box may claim to end beyond any possible file offset.
        if content > end:
            return
        file.seek(start)
        header = file.read(16)
        size, name = int.from_bytes(header[:4], "big"), header[4:8]
        if size == 1:
            size, content = int.from_bytes(header[8:], "big"), start + 16
        # A size of 0 means "to the end of the file". If the connection broke, that end is unknown.
        box = _Box(name, content, start + size if size else sys.maxsize)
        if box.end < content:
            return
        yield box
        start = box.end


def _tracks(file: BinaryIO, start: int, end: int, depth: int = 0) -> Iterator[bytes]:
    """Yield the handler type of each track, such as ``vide`` or ``soun``."""
    if depth == len(_BOXES_WITH_TRACKS):
        yield _read(file, (start + 8, end))[:4]
        return
    name, limit = _BOXES_WITH_TRACKS[depth]
    for box in islice((box for box in _boxes(file, start, end) if box.name == name), limit):
        yield from _tracks(file, box.start, min(box.end, end), depth + 1)


def _find(file: BinaryIO, start: int, end: int, *names: bytes) -> tuple[int, int] | None:
    """Return the start and end offsets of the content of the first box at the path *names*.

    Return None if there is no such box.
    """
    for name in names:
        found = next((box for box in _boxes(file, start, end) if box.name == name), None)
        if found is None:
            return None
        start, end = found.start, min(found.end, end)
    return start, end


def _handler(file: BinaryIO, track: tuple[int, int]) -> bytes:
    return next(_tracks(file, *track, depth=2), b"")


def _read(file: BinaryIO, where: tuple[int, int] | None) -> bytes:
    """Read at most the first 64 bytes between two offsets, enough for every field used here.

    Return no bytes if *where* is None.
    """
    start, end = where or (0, 0)
    file.seek(start)
    return file.read(max(0, min(end - start, 64)))


def _number_size(content: bytes) -> int:
    """Return the size in bytes of the numbers in a full box: 8 in version 1, otherwise 4."""
    return 8 if content[:1] == b"\1" else 4


def _unsigned(file: BinaryIO, where: tuple[int, int] | None) -> int:
    """Read the first number of a full box."""
    content = _read(file, where)
    return int.from_bytes(content[4 : 4 + _number_size(content)], "big")


def _duration(file: BinaryIO, header: tuple[int, int] | None) -> tuple[int, int]:
    """Return an ``mvhd`` or ``mdhd`` box's units per second, and its duration in these units."""
    content = _read(file, header)
    number_size = _number_size(content)
    at = 4 + 2 * number_size
    units = content[at + 4 : at + 4 + number_size]
    # All ones mean "unknown".
    known = units != b"\xff" * number_size
    return int.from_bytes(content[at : at + 4], "big"), known * int.from_bytes(units, "big")


def _sample_entry(
    file: BinaryIO, track: tuple[int, int], *, is_video: bool
) -> tuple[str | None, int | None, int | None]:
    content = _read(file, _find(file, *track, b"mdia", b"minf", b"stbl", b"stsd"))
    codec, size = _CODECS.get(content[12:16]), content[40:44]
    if not is_video or len(size) < 4:  # noqa: PLR2004 - two numbers of two bytes
        return codec, None, None
    width, height = int.from_bytes(size[:2], "big"), int.from_bytes(size[2:], "big")
    return codec, width or None, height or None


def _start(file: BinaryIO, track: tuple[int, int], movie_scale: int) -> float:
    """Return a track's start in seconds.

    It is the start of the first fragment, plus the duration of a leading empty edit.
    """
    scale, _ = _duration(file, _find(file, *track, b"mdia", b"mdhd"))
    first = _find(file, 0, _size_of(file), b"moof", b"traf", b"tfdt")
    decoded = _unsigned(file, first) / scale if scale else 0.0
    content = _read(file, _find(file, *track, b"edts", b"elst"))
    number_size = _number_size(content)
    entry = content[8 : 8 + 2 * number_size]
    empty = entry[number_size:] == b"\xff" * number_size and movie_scale
    return decoded + (int.from_bytes(entry[:number_size], "big") / movie_scale if empty else 0.0)


def _is_whole_movie(file: BinaryIO, size: int) -> bool:
    """Return whether the boxes fill the file, and include a movie's metadata and its data.

    A fragmented movie also needs an index.
    """
    boxes = list(_boxes(file, 0, size))
    by_name = {box.name: box for box in boxes}
    if not {b"moov", b"mdat"} <= by_name.keys() or boxes[-1].end != size:
        return False
    movie = by_name[b"moov"]
    if all(box.name != b"mvex" for box in _boxes(file, movie.start, movie.end)):
        return True
    # A fragmented movie could end after any fragment. Only an index shows which one is the last.
    indexes = _indexed(file, boxes)
    return boxes[-1].name == b"mfra" or (bool(indexes) and max(indexes) <= size)


def _indexed(file: BinaryIO, boxes: Sequence[_Box]) -> list[int]:
    """Return the end offset of the last segment in each ``sidx`` box (only the last 20 boxes)."""
    indexes = [box for box in boxes if box.name == b"sidx"][-_MAX_INDEXES:]
    return [_indexed_until(file, box) for box in indexes]


def _indexed_until(file: BinaryIO, index: _Box) -> int:
    """Return the offset at which the last segment listed in a ``sidx`` box ends."""
    file.seek(index.start)
    content = file.read(min(index.end - index.start, _MAX_PARTS))
    number_size = _number_size(content)
    at = 12 + number_size
    until = index.end + int.from_bytes(content[at : at + number_size], "big")
    for reference in range(at + number_size + 4, len(content) - 11, 12):
        until += int.from_bytes(content[reference : reference + 4], "big") & 0x7FFFFFFF
    return until


def _is_whole_picture(file: BinaryIO, size: int) -> bool:
    """Return whether the boxes fill the file, and include a picture's metadata and its data."""
    boxes = list(_boxes(file, 0, size))
    by_name = {box.name: box for box in boxes}
    if b"meta" not in by_name or boxes[-1].end != size:
        return False
    meta = by_name[b"meta"]
    inner = {box.name for box in _boxes(file, meta.start + 4, meta.end)}
    return b"mdat" in by_name or b"idat" in inner


def _is_whole_jpeg(file: BinaryIO, size: int) -> bool:
    """Return whether the file has an end marker; phones and cameras may add data after it."""
    start = 2
    # Skip the segments, because a preview in one of them has its own end marker.
    for _ in range(_MAX_PARTS):
        file.seek(start)
        header = file.read(4)
        marker = header[:2]
        if marker == b"\xff\xda":
            break
        if marker[:1] != b"\xff":
            return False
        start += 1 if marker == b"\xff\xff" else 2 + int.from_bytes(header[2:], "big")
    file.seek(max(start, size - _TAIL_BYTES))
    return b"\xff\xd9" in file.read()


def _is_whole_png(file: BinaryIO, size: int) -> bool:
    start = 8
    for _ in range(_MAX_PARTS):
        file.seek(start)
        header = file.read(8)
        if len(header) < _PART_HEADER:
            return False
        start += 12 + int.from_bytes(header[:4], "big")
        if header[4:] == b"IEND":
            return start <= size
    return False


def _is_whole_webp(file: BinaryIO, size: int) -> bool:
    file.seek(4)
    return int.from_bytes(file.read(4), "little") + 8 <= size


def _is_whole_gif(file: BinaryIO, size: int) -> bool:
    # A complete file ends with an empty block and the end marker.
    file.seek(max(0, size - 2))
    return file.read() == b"\0;"


_CHECKS: Mapping[str, Callable[[BinaryIO, int], bool]] = {
    ".mp4": _is_whole_movie,
    ".mov": _is_whole_movie,
    ".m4a": _is_whole_movie,
    ".heic": _is_whole_picture,
    ".avif": _is_whole_picture,
    ".jpg": _is_whole_jpeg,
    ".png": _is_whole_png,
    ".webp": _is_whole_webp,
    ".gif": _is_whole_gif,
}
