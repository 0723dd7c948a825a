"""What files are, and whether they are whole, by their bytes."""

from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.instagram.files.kinds import (
    NOT_A_MOVIE,
    FileKind,
    Movie,
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
def test_bytes_say_what_a_file_is(name: str) -> None:
    with (MEDIA / name).open("rb") as file:
        kind = read_kind(file)
        assert kind == KINDS[name]
        assert is_whole(file, kind)


@pytest.mark.parametrize("name", KINDS)
def test_no_cut_file_counts_as_whole(name: str) -> None:
    content = (MEDIA / name).read_bytes()
    for size in range(1, len(content), max(1, len(content) // 300)):
        file = BytesIO(content[:size])
        kind = read_kind(file)
        assert kind is None or not is_whole(file, kind), size


@pytest.mark.parametrize(
    ("brand", "extension"),
    [
        (b"isom", ".mp4"),
        (b"iso6", ".mp4"),
        (b"dash", ".mp4"),
        (b"avc1", ".mp4"),
        (b"M4V ", ".mp4"),
        (b"M4A ", ".m4a"),
        (b"qt  ", ".mov"),
        (b"heic", ".heic"),
        (b"heix", ".heic"),
        (b"hevc", ".heic"),
        (b"mif1", ".heic"),
        (b"avif", ".avif"),
        (b"avis", ".avif"),
    ],
)
def test_every_brand_has_its_kind(brand: bytes, extension: str) -> None:
    kind = kind_of(b"\0\0\0\x14ftyp" + brand + b"\0\0\0\0" + b"none")
    assert kind is not None
    assert kind.extension == extension


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
def test_pages_and_texts_are_no_file(head: bytes) -> None:
    assert kind_of(head) is None


@pytest.mark.parametrize("name", ["fast.mp4", "picture.heic"])
def test_a_last_box_without_a_size_proves_nothing(name: str) -> None:
    content = (MEDIA / name).read_bytes()
    at = content.index(b"mdat") - 4
    file = BytesIO(content[:at] + bytes(4) + content[at + 4 : -100])
    kind = read_kind(file)
    assert kind == KINDS[name]
    assert not is_whole(file, kind)


def test_bytes_after_a_picture_do_no_harm() -> None:
    file = BytesIO((MEDIA / "photo.jpg").read_bytes() + b"what a phone adds")
    assert is_whole(file, FileKind("image", ".jpg"))


def test_boxes_in_boxes_are_not_all_read() -> None:
    def box(name: bytes, content: bytes) -> bytes:
        return (8 + len(content)).to_bytes(4, "big") + name + content

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


def test_an_endless_file_of_empty_boxes_ends() -> None:
    file = BytesIO(b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08free" * 100_000)
    assert read_kind(file) == FileKind("video", ".mp4")
    assert not is_whole(file, FileKind("video", ".mp4"))


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 400), st.binary(min_size=1, max_size=40))
def test_no_damage_causes_a_fault_of_ours(name: str, at: int, damage: bytes) -> None:
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
def test_a_movie_says_codec_size_and_length_itself(name: str) -> None:
    with (MEDIA / name).open("rb") as file:
        assert read_movie(file) == MOVIES[name]


def box(name: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + name + content


def late(edits: bytes, decoded: int) -> BytesIO:
    """A sound whose head says when it begins, at 1000 units a second."""
    times = bytes(12) + (1000).to_bytes(4, "big") + bytes(16)
    handler = box(b"hdlr", bytes(8) + b"soun" + bytes(12))
    track = box(b"edts", box(b"elst", edits)) + box(b"mdia", box(b"mdhd", times) + handler)
    movie = box(b"moov", box(b"mvhd", times) + box(b"trak", track))
    first = box(b"traf", box(b"tfdt", bytes(4) + decoded.to_bytes(4, "big")))
    return BytesIO(box(b"ftyp", b"iso6") + movie + box(b"moof", first))


def test_a_track_says_when_it_begins() -> None:
    empty_edit = bytes(4) + (1).to_bytes(4, "big") + (250).to_bytes(4, "big") + b"\xff" * 4
    delay_of_frames = bytes(4) + (1).to_bytes(4, "big") + (250).to_bytes(4, "big") + bytes(4)
    assert read_movie(late(b"", 0)).start == 0
    assert read_movie(late(b"", 500)).start == 0.5
    assert read_movie(late(empty_edit, 500)).start == 0.75
    assert read_movie(late(delay_of_frames, 0)).start == 0


@given(st.binary(max_size=300))
def test_any_bytes_in_a_movie_are_read_without_a_fault(content: bytes) -> None:
    for file in (content, box(b"moov", content), box(b"moov", box(b"trak", content))):
        read_movie(BytesIO(file))
        ends_early(BytesIO(file))


def test_a_box_may_end_where_no_file_can(tmp_path: Path) -> None:
    path = tmp_path / "file"
    huge = b"\0\0\0\1" + b"free" + b"\xff" * 8
    path.write_bytes(box(b"ftyp", b"isom\0\0\0\0isom") + huge + bytes(100))
    with path.open("rb") as file:
        assert read_kind(file) == FileKind("video", ".mp4")
        assert ends_early(file)
