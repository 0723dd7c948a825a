"""What files are, and whether they are whole, by their bytes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.instagram.files.kinds import FileKind, is_whole, kind_of, read_kind

MEDIA = Path(__file__).parents[2] / "instagram/media"
IMAGE = "image"
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
    path = MEDIA / name
    kind = read_kind(path)
    assert kind == KINDS[name]
    assert is_whole(path, kind)


@pytest.mark.parametrize("name", KINDS)
def test_no_cut_file_counts_as_whole(name: str, tmp_path: Path) -> None:
    content = (MEDIA / name).read_bytes()
    path = tmp_path / "cut"
    for size in range(1, len(content), max(1, len(content) // 300)):
        path.write_bytes(content[:size])
        kind = read_kind(path)
        assert kind is None or not is_whole(path, kind), size


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


def test_something_behind_a_picture_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes((MEDIA / "photo.jpg").read_bytes() + b"what a phone adds")
    assert is_whole(path, FileKind("image", ".jpg"))


def test_an_endless_file_of_empty_boxes_ends(tmp_path: Path) -> None:
    path = tmp_path / "boxes.mp4"
    path.write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08free" * 100_000)
    assert read_kind(path) == FileKind("video", ".mp4")
    assert not is_whole(path, FileKind("video", ".mp4"))


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 400), st.binary(min_size=1, max_size=40))
def test_no_damage_causes_a_fault_of_ours(
    tmp_path_factory: pytest.TempPathFactory, name: str, at: int, damage: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    content = (MEDIA / name).read_bytes()
    path.write_bytes(content[:at] + damage + content[at + len(damage) :])
    kind = read_kind(path)
    assert kind is None or is_whole(path, kind) in (True, False)
