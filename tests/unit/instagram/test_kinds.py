"""The kind of a file, and whether it is complete, as its bytes show."""

from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.instagram.files.kinds import (
    ENCRYPTED,
    MEDIA_TYPES,
    NOT_A_MOVIE,
    FileKind,
    Movie,
    bit_rate,
    ends_early,
    is_whole,
    kind_of,
    read_kind,
    read_movie,
)

MEDIA = Path(__file__).parents[2] / "instagram/media"
KINDS = {
    "video.mp4": FileKind("video", ".mp4", True),
    "silent.mp4": FileKind("video", ".mp4", False),
    "vp9.mp4": FileKind("video", ".mp4", True),
    "fast.mp4": FileKind("video", ".mp4", True),
    "fragmented.mp4": FileKind("video", ".mp4", True),
    "indexed.mp4": FileKind("video", ".mp4", False),
    "movie.mov": FileKind("video", ".mov", True),
    "sound.m4a": FileKind("audio", ".m4a", True),
    "photo.jpg": FileKind("image", ".jpg"),
    "large.jpg": FileKind("image", ".jpg"),
    "preview.jpg": FileKind("image", ".jpg"),
    "picture.png": FileKind("image", ".png"),
    "picture.webp": FileKind("image", ".webp"),
    "picture.heic": FileKind("image", ".heic"),
    "picture.avif": FileKind("image", ".avif"),
    "picture.gif": FileKind("image", ".gif"),
}


@pytest.mark.parametrize("name", KINDS)
def test_bytes_show_the_kind_of_a_file(name: str) -> None:
    with (MEDIA / name).open("rb") as file:
        file.seek(7)
        kind = read_kind(file)
        assert kind == KINDS[name]
        assert is_whole(file, kind)


@pytest.mark.parametrize("name", KINDS)
def test_no_truncated_file_counts_as_complete(name: str) -> None:
    content = (MEDIA / name).read_bytes()
    for size in range(1, len(content), max(1, len(content) // 300)):
        file = BytesIO(content[:size])
        kind = read_kind(file)
        assert kind is None or not is_whole(file, kind), size


@pytest.mark.parametrize(
    ("brand", "extension"),
    [
        *((brand, ".mp4") for brand in (b"isom", b"iso6", b"dash", b"avc1", b"M4V ")),
        (b"M4A ", ".m4a"),
        (b"qt  ", ".mov"),
        *((brand, ".heic") for brand in (b"heic", b"heix", b"heim", b"hevc", b"hevx")),
        *((brand, ".heic") for brand in (b"mif1", b"mif2", b"msf1")),
        *((brand, ".avif") for brand in (b"avif", b"avis", b"avio")),
    ],
)
@pytest.mark.parametrize("length", [0x14, 0x1C])
def test_every_brand_has_its_kind(length: int, brand: bytes, extension: str) -> None:
    kind = kind_of(length.to_bytes(4, "big") + b"ftyp" + brand + bytes(4) + b"none" + bytes(8))
    types = {".mp4": "video", ".mov": "video", ".m4a": "audio"}
    assert kind == (types.get(extension, "image"), extension, None)


def test_each_extension_has_its_media_type() -> None:
    pictures = {f".{name}": f"image/{name}" for name in ("png", "webp", "heic", "avif", "gif")}
    movies = {".mp4": "video/mp4", ".mov": "video/quicktime", ".m4a": "audio/mp4"}
    assert {**movies, **pictures, ".jpg": "image/jpeg"} == MEDIA_TYPES


@pytest.mark.parametrize(
    ("size", "seconds", "rate"),
    [
        (1000, 4.0, 2000),
        (1, 3.0, 3),
        (1000, None, None),
        (1, 0.0, None),
        (2**50, 1.0, 2**53),
        (2**50 + 1, 1.0, None),
        (1, 1e-300, None),
        (1, 1e-320, None),
    ],
)
def test_bit_rate_is_size_over_duration(size: int, seconds: float, rate: int | None) -> None:
    assert repr(bit_rate(size, seconds)) == repr(rate)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"<!DOCTYPE html><html>",
        b'{"message": "Not found"}',
        b"<?xml version='1.0'?><svg/>",
        b"URL signature expired",
        b"%PDF-1.7",
        b"BM" + bytes(60),
        b"\0" * 100,
        b"#EXTM3U",
    ],
)
def test_pages_and_texts_are_not_media_files(head: bytes) -> None:
    assert kind_of(head) is None


@pytest.mark.parametrize("name", ["fast.mp4", "picture.heic"])
def test_a_last_box_without_a_size_does_not_prove_completeness(name: str) -> None:
    content = (MEDIA / name).read_bytes()
    at = content.index(b"mdat") - 4
    file = BytesIO(content[:at] + bytes(4) + content[at + 4 : -100])
    kind = read_kind(file)
    assert kind == KINDS[name]
    assert not is_whole(file, kind)


def test_a_picture_may_be_followed_by_other_bytes() -> None:
    file = BytesIO((MEDIA / "photo.jpg").read_bytes() + b"what a phone adds")
    assert is_whole(file, FileKind("image", ".jpg"))


def test_reading_nested_boxes_is_bounded() -> None:
    tracks = box(b"trak", 300 * box(b"mdia", b"")) * 300
    content = box(b"ftyp", b"isom" + bytes(4)) + box(b"moov", tracks)
    reads = 0

    class Counting(BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal reads
            reads += 1
            return super().read(size)

    assert read_kind(Counting(content)) is not None
    assert reads < 10_000


def test_reading_many_empty_boxes_is_bounded() -> None:
    file = BytesIO(b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08free" * 100_000)
    assert read_kind(file) == FileKind("video", ".mp4")
    assert not is_whole(file, FileKind("video", ".mp4"))


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 400), st.binary(min_size=1, max_size=40))
def test_damaged_files_cause_no_unexpected_error(name: str, at: int, damage: bytes) -> None:
    content = (MEDIA / name).read_bytes()
    file = BytesIO(content[:at] + damage + content[at + len(damage) :])
    kind = read_kind(file)
    assert kind is None or is_whole(file, kind) in (True, False)


MOVIES = {
    "video.mp4": Movie("h264", 180, 320, 1.0),
    "vp9.mp4": Movie("vp9", 64, 48, 1.0),
    "movie.mov": Movie("h264", 180, 320, 1.0),
    "sound.m4a": Movie("aac", None, None, 1.0),
    "fragmented.mp4": Movie("h264", 180, 320),
    "photo.jpg": NOT_A_MOVIE,
}


@pytest.mark.parametrize("name", MOVIES)
def test_codec_size_and_duration_are_read_from_the_movie(name: str) -> None:
    with (MEDIA / name).open("rb") as file:
        assert read_movie(file) == MOVIES[name]


def box(name: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + name + content


def wide_box(name: bytes, content: bytes) -> bytes:
    """Return a box whose header has its size in eight bytes instead of four."""
    return number(1) + name + number(16 + len(content), 8) + content


def number(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "big")


def full(name: bytes, content: bytes, version: int = 0) -> bytes:
    return box(name, bytes([version, 0, 0, 0]) + content)


def header(name: bytes, scale: int, units: int, version: int = 0) -> bytes:
    wide = 8 if version else 4
    return full(name, b"\5" * 2 * wide + number(scale) + number(units, wide) + b"\5" * 80, version)


def handler(kind: bytes) -> bytes:
    return box(b"hdlr", b"\5" * 8 + kind + b"\5" * 80)


def samples_of(codec: bytes, size: bytes) -> bytes:
    entry = number(1) + number(86) + codec + b"\5" * 24 + size
    return box(b"stbl", full(b"stsd", entry))


def track(
    kind: bytes = b"vide",
    codec: bytes = b"avc1",
    *,
    size: bytes = number(720, 2) + number(1280, 2),
    edits: bytes = b"",
    scale: int = 1000,
    version: int = 0,
    more: bytes = b"",
) -> bytes:
    samples = box(b"minf", samples_of(codec, size))
    times = header(b"mdhd", scale, 5, version)
    media = box(b"mdia", times + handler(kind) + samples + more)
    return box(b"trak", box(b"edts", edits) + media)


def movie(*parts: bytes, scale: int = 1000, units: int = 2500, version: int = 0) -> bytes:
    head = header(b"mvhd", scale, units, version)
    return box(b"ftyp", b"iso6\0\0\0\0") + box(b"moov", head + b"".join(parts))


def fragment(at: bytes, version: int = 0) -> bytes:
    return box(b"moof", box(b"traf", full(b"tfdt", at + b"\5" * 80, version)))


def length(units: int) -> bytes:
    return box(b"mvex", full(b"mehd", number(units)))


def edit(units: int, media: bytes, version: int = 0) -> bytes:
    """Return an edit list; the first edit has a duration in *units* and a media time."""
    return full(
        b"elst", number(1) + number(units, 8 if version else 4) + media + b"\5" * 80, version
    )


EMPTY, FRAMES = b"\xff" * 4, bytes(4)
SUBTITLES = track(b"text", b"tx3g")
SAMPLES = samples_of(b"avc1", number(720, 2) + number(1280, 2))
LARGE_TRACK = movie(number(500) + b"trak") + box(b"mdia", handler(b"vide"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(movie(track()), Movie("h264", 720, 1280, 2.5), id="a video"),
        pytest.param(movie(track(b"soun", b"mp4a")), Movie("aac", seconds=2.5), id="a sound"),
        pytest.param(
            movie(track(b"soun", b"mp4a"), track()), Movie("h264", 720, 1280, 2.5), id="both"
        ),
        pytest.param(
            movie(track(), track(codec=b"vp09")),
            Movie("h264", 720, 1280, 2.5),
            id="the first of two",
        ),
        pytest.param(movie(SUBTITLES), NOT_A_MOVIE, id="neither video nor sound"),
        pytest.param(
            movie(SUBTITLES * 19 + track()), Movie("h264", 720, 1280, 2.5), id="twenty tracks"
        ),
        pytest.param(movie(SUBTITLES * 20 + track()), NOT_A_MOVIE, id="too many tracks"),
        pytest.param(
            movie(box(b"free", track(b"soun", b"mp4a")) + track()),
            Movie("h264", 720, 1280, 2.5),
            id="something else between the tracks",
        ),
        pytest.param(
            movie(track(version=1), version=1), Movie("h264", 720, 1280, 2.5), id="wide numbers"
        ),
        pytest.param(
            movie(track()).replace(b"moov", b"mooX"), NOT_A_MOVIE, id="without a description"
        ),
        pytest.param(
            movie(track(size=number(720, 2) + b"\5", more=b"\5" * 9)),
            Movie("h264", seconds=2.5),
            id="a truncated size",
        ),
        pytest.param(
            movie(box(b"trak", box(b"mdia", handler(b"vide") + number(500) + b"minf")) + SAMPLES),
            Movie(seconds=2.5),
            id="a box that claims more than its parent has",
        ),
        pytest.param(LARGE_TRACK, NOT_A_MOVIE, id="a track that claims more than the movie has"),
        pytest.param(movie(track(size=bytes(4))), Movie("h264", seconds=2.5), id="no size"),
        pytest.param(movie(track(), scale=0), Movie("h264", 720, 1280), id="no scale"),
        pytest.param(movie(track(), units=0), Movie("h264", 720, 1280), id="no duration"),
        pytest.param(
            movie(track(), units=2**32 - 1), Movie("h264", 720, 1280), id="an unknown duration"
        ),
        pytest.param(
            movie(track(), units=2**64 - 1, version=1),
            Movie("h264", 720, 1280),
            id="an unknown duration in wide numbers",
        ),
        pytest.param(
            movie(track(), length(1500), units=0),
            Movie("h264", 720, 1280, 1.5),
            id="the duration of all fragments",
        ),
        pytest.param(
            movie(track(), length(1500)),
            Movie("h264", 720, 1280, 2.5),
            id="the movie's own duration",
        ),
        pytest.param(
            movie(track()) + fragment(number(500)),
            Movie("h264", 720, 1280, 2.5, 0.5),
            id="a late fragment",
        ),
        pytest.param(
            movie(track(version=1)) + fragment(number(500, 8), 1),
            Movie("h264", 720, 1280, 2.5, 0.5),
            id="a late fragment in wide numbers",
        ),
        pytest.param(
            movie(track(scale=0)) + fragment(number(500)),
            Movie("h264", 720, 1280, 2.5),
            id="a late fragment without a scale",
        ),
        pytest.param(
            movie(track(edits=edit(250, EMPTY))) + fragment(number(500)),
            Movie("h264", 720, 1280, 2.5, 0.75),
            id="an empty edit at the start",
        ),
        pytest.param(
            movie(track(edits=edit(250, EMPTY * 2, 1))),
            Movie("h264", 720, 1280, 2.5, 0.25),
            id="an empty edit in wide numbers",
        ),
        pytest.param(
            movie(track(edits=edit(250, EMPTY)), scale=0),
            Movie("h264", 720, 1280),
            id="an empty edit without a scale",
        ),
        pytest.param(
            movie(track(edits=edit(250, FRAMES))),
            Movie("h264", 720, 1280, 2.5),
            id="an edit for reordered frames",
        ),
    ],
)
def test_movie_properties_are_read_from_boxes(content: bytes, expected: Movie) -> None:
    assert read_movie(BytesIO(content)) == expected


@pytest.mark.parametrize(
    ("entries", "codec"),
    [
        ("avc1 avc3", "h264"),
        ("hvc1 hev1", "hevc"),
        ("vp08", "vp8"),
        ("vp09", "vp9"),
        ("av01", "av1"),
        ("mp4v", "mpeg4"),
        ("mp4a", "aac"),
        ("Opus", "opus"),
        ("encv enca", ENCRYPTED),
        ("opus avc9 AVC1", None),
    ],
)
def test_every_sample_entry_has_its_codec(entries: str, codec: str | None) -> None:
    for entry in entries.split():
        assert read_movie(BytesIO(movie(track(codec=entry.encode())))).codec == codec


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        pytest.param(movie(track()), FileKind("video", ".mp4", False), id="a video"),
        pytest.param(
            movie(track(), track(b"soun")), FileKind("video", ".mp4", True), id="with a sound"
        ),
        pytest.param(movie(track(b"soun")), FileKind("audio", ".m4a", True), id="a sound"),
        pytest.param(
            movie(SUBTITLES), FileKind("audio", ".m4a", False), id="neither video nor sound"
        ),
        pytest.param(movie(), FileKind("video", ".mp4"), id="no tracks"),
        pytest.param(
            movie(SUBTITLES * 19 + track()), FileKind("video", ".mp4", False), id="twenty tracks"
        ),
        pytest.param(
            movie(SUBTITLES * 20 + track()), FileKind("audio", ".m4a", False), id="too many tracks"
        ),
        pytest.param(
            movie(track()) + box(b"moov", track(b"soun")),
            FileKind("video", ".mp4", False),
            id="a second description",
        ),
        pytest.param(
            movie(track(more=handler(b"soun"))),
            FileKind("video", ".mp4", False),
            id="a second handler",
        ),
        pytest.param(
            movie(box(b"trak", box(b"mdia", handler(b"vide")) + box(b"mdia", handler(b"soun")))),
            FileKind("video", ".mp4", False),
            id="a second media box",
        ),
        pytest.param(
            movie(box(b"trak", wide_box(b"mdia", wide_box(b"hdlr", bytes(8) + b"vide")))),
            FileKind("video", ".mp4", False),
            id="sizes in eight bytes",
        ),
        pytest.param(
            movie(box(b"trak", number(500) + b"mdia"), handler(b"vide"), track(b"soun")),
            FileKind("audio", ".m4a", True),
            id="a box that claims more than its parent has",
        ),
        pytest.param(
            LARGE_TRACK, FileKind("video", ".mp4"), id="a track that claims more than the movie has"
        ),
        pytest.param(
            movie(track()).replace(b"ftypiso6", b"ftypavis"),
            FileKind("image", ".avif"),
            id="an animated picture",
        ),
    ],
)
def test_tracks_show_the_kind_of_a_movie(content: bytes, kind: FileKind) -> None:
    assert read_kind(BytesIO(content)) == kind


def index(*sizes: int, first: int = 0, version: int = 0, more: bytes = b"") -> bytes:
    """Return an index of segments with these *sizes*; *first* is the distance to the first one."""
    wide = 8 if version else 4
    references = b"".join(number(size | 1 << 31) + b"\5" * 8 for size in sizes)
    content = b"\5" * (8 + wide) + number(first, wide) + b"\0\0\5\5" + references + more
    return full(b"sidx", content, version)


HEAD = movie(track(), length(0))
DATA = fragment(number(0)) + box(b"mdat", bytes(90))
TOO_MANY = index(len(DATA) + 10**6) + 20 * index(0)


@pytest.mark.parametrize(
    ("content", "whole", "early"),
    [
        pytest.param(movie(track()) + box(b"mdat", b"x"), True, False, id="in one piece"),
        pytest.param(movie()[16:] + box(b"mdat", b"x"), True, False, id="without a brand"),
        pytest.param(movie(track()) + box(b"mdat", b"x")[:-1], False, True, id="cut"),
        pytest.param(movie(track()) + number(1) + b"mdat", False, True, id="cut in a wide header"),
        pytest.param(movie(track()) + wide_box(b"mdat", b"x"), True, False, id="a wide header"),
        pytest.param(
            movie(track()) + bytes(4) + b"mdatx", False, True, id="up to the end of the file"
        ),
        pytest.param(
            movie(track()) + number(1) + b"mdat" + number(15, 8),
            False,
            False,
            id="shorter than its own header",
        ),
        pytest.param(movie(track()), False, False, id="without data"),
        pytest.param(box(b"mdat", b"x"), False, False, id="without a description"),
        pytest.param(b"", False, True, id="empty"),
        pytest.param(number(8), False, True, id="half a header"),
        pytest.param(HEAD + DATA, False, False, id="fragments without an index"),
        pytest.param(HEAD + DATA + box(b"mfra", b""), True, False, id="an index at the end"),
        pytest.param(HEAD + index(len(DATA)) + DATA, True, False, id="an index at the start"),
        pytest.param(
            HEAD + index(len(DATA), more=b"\5" * 11) + DATA, True, False, id="a truncated reference"
        ),
        pytest.param(
            HEAD + number(4) + b"sidx" + b"\xff" * 90, False, False, id="a box without its header"
        ),
        pytest.param(HEAD + index(len(DATA) + 1) + DATA, False, True, id="an index beyond the end"),
        pytest.param(
            HEAD + index(len(DATA) - 30, 10, first=20) + DATA, True, False, id="an index of parts"
        ),
        pytest.param(
            HEAD + index(len(DATA) - 30, 11, first=20) + DATA,
            False,
            True,
            id="segments that are too large",
        ),
        pytest.param(
            HEAD + index(len(DATA) - 30, 10, first=21) + DATA,
            False,
            True,
            id="segments that begin too late",
        ),
        pytest.param(
            HEAD + index(len(DATA) - 20, first=20, version=1) + DATA, True, False, id="a wide index"
        ),
        pytest.param(
            HEAD + index(len(DATA) - 19, first=20, version=1) + DATA,
            False,
            True,
            id="a wide index beyond the end",
        ),
        pytest.param(HEAD + TOO_MANY + DATA, True, False, id="only twenty indexes count"),
        pytest.param(
            HEAD + TOO_MANY[: -len(index(0))] + DATA, False, True, id="the last twenty indexes"
        ),
        pytest.param(movie(track(), length(0)) + DATA + index(0), True, False, id="an empty index"),
    ],
)
def test_boxes_show_whether_a_movie_is_whole(content: bytes, whole: bool, early: bool) -> None:
    file = BytesIO(content)
    assert (is_whole(file, FileKind("video", ".mp4")), ends_early(file)) == (whole, early)


META = box(b"meta", bytes(4) + box(b"idat", b"x"))
CHUNK, END = number(0) + b"tEXt" + bytes(4), number(0) + b"IEND" + bytes(4)
SCAN = b"\xff\xda\0\2pixels"
PREVIEW = b"\xff\xe0" + number(6, 2) + b"\xff\xd9\xff\xd9"


@pytest.mark.parametrize(
    ("extension", "content", "whole"),
    [
        pytest.param(".heic", META, True, id="a picture inside its metadata"),
        pytest.param(".heic", META[:-1], False, id="a picture that is cut"),
        pytest.param(".heic", box(b"meta", bytes(4)), False, id="a picture without data"),
        pytest.param(
            ".avif", box(b"meta", bytes(4)) + box(b"mdat", b""), True, id="a picture and its data"
        ),
        pytest.param(".avif", box(b"mdat", b""), False, id="data without a picture"),
        pytest.param(".jpg", b"\xff\xd8" + SCAN + b"\xff\xd9", True, id="a photo"),
        pytest.param(".jpg", b"\xff\xd8" + SCAN + b"\xff", False, id="a photo that is cut"),
        pytest.param(".jpg", b"\xff\xd8" + PREVIEW + SCAN, False, id="only the end of a preview"),
        pytest.param(
            ".jpg", b"\xff\xd8" + PREVIEW + SCAN + b"\xff\xd9", True, id="the end after a preview"
        ),
        pytest.param(
            ".jpg", b"\xff\xd8\xff" + SCAN + b"\xff\xd9", True, id="padding before a marker"
        ),
        pytest.param(
            ".jpg", b"\xff\xd8\xff" + PREVIEW + SCAN, False, id="padding before a preview"
        ),
        pytest.param(
            ".jpg", b"\xff\xd8\0\0\0\2" + SCAN + b"\xff\xd9", False, id="a missing marker"
        ),
        pytest.param(
            ".jpg",
            b"\xff\xd8" + SCAN + b"\xff\xd9" + bytes(65_534),
            True,
            id="trailing data",
        ),
        pytest.param(
            ".jpg",
            b"\xff\xd8" + SCAN + b"\xff\xd9" + bytes(65_535),
            False,
            id="too much trailing data",
        ),
        pytest.param(".png", bytes(8) + CHUNK * 3 + END, True, id="a PNG"),
        pytest.param(".png", bytes(8) + CHUNK * 3, False, id="a PNG without its end"),
        pytest.param(".png", bytes(8) + END[:-1], False, id="a PNG that is cut"),
        pytest.param(".png", bytes(8) + CHUNK * 19_999 + END, True, id="a PNG of many parts"),
        pytest.param(".png", bytes(8) + CHUNK * 20_000 + END, False, id="a PNG of too many parts"),
        pytest.param(".webp", b"RIFF\4\0\0\0WEBP", True, id="a WebP"),
        pytest.param(".webp", b"RIFF\5\0\0\0WEBP", False, id="a WebP that is cut"),
        pytest.param(".webp", b"RIFF\4\0\0\1WEBP", False, id="a large WebP that is cut"),
        pytest.param(".gif", b"\0;", True, id="a GIF"),
        pytest.param(".gif", b"GIF\0;\0", False, id="a GIF with trailing data"),
        pytest.param(".gif", b";", False, id="a GIF of one byte"),
    ],
)
def test_bytes_show_whether_a_picture_is_whole(extension: str, content: bytes, whole: bool) -> None:
    assert is_whole(BytesIO(content), FileKind("image", extension)) is whole


@given(st.binary(max_size=300))
def test_any_bytes_in_a_movie_are_read_without_an_error(content: bytes) -> None:
    for file in (content, box(b"moov", content), box(b"moov", box(b"trak", content))):
        read_movie(BytesIO(file))
        ends_early(BytesIO(file))


def test_an_impossible_box_size_causes_no_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    huge = b"\0\0\0\1" + b"free" + b"\xff" * 8
    path.write_bytes(box(b"ftyp", b"isom\0\0\0\0isom") + huge + bytes(100))
    with path.open("rb") as file:
        assert read_kind(file) == FileKind("video", ".mp4")
        assert ends_early(file)
