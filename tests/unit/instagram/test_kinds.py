"""What files are, and whether they are whole, by their bytes."""

from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.instagram.files.kinds import FileKind, is_whole, kind_of, read_kind

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


def test_something_behind_a_picture_does_no_harm() -> None:
    file = BytesIO((MEDIA / "photo.jpg").read_bytes() + b"what a phone adds")
    assert is_whole(file, FileKind("image", ".jpg"))


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
