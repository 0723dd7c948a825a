"""Reading folders of release 0.2.0, whatever they contain."""

import json
import lzma
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.library.legacy import first_seen, legacy_post, record_seen
from scrapper.library.stored import load

NAME = "DLegacy0001"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / f"{NAME}.jpg").write_bytes(b"picture")
    return folder


def write_metadata(folder: Path, content: bytes) -> None:
    (folder / f"{NAME}.json.xz").write_bytes(content)


def compressed(data: Any) -> bytes:
    return lzma.compress(json.dumps(data).encode())


@pytest.mark.parametrize(
    ("node", "owner", "taken_at"),
    [
        ({"owner": {"username": "a"}, "taken_at_timestamp": 0}, "a", "1970-01-01T00:00:00Z"),
        ({"user": {"username": "a"}, "taken_at": 1.5}, "a", "1970-01-01T00:00:01Z"),
        ({"owner": {"id": "1"}, "date": 60}, None, "1970-01-01T00:01:00Z"),
        ({"owner": "a", "date": "60"}, None, None),
        ({"owner": {"username": "half \ud83d"}, "date": 1e300}, "half ?", None),
        ({"owner": {"username": 5}, "date": float("nan")}, None, None),
        ([], None, None),
    ],
)
def test_owner_and_time_are_read_from_every_format(
    folder: Path, node: Any, owner: str | None, taken_at: str | None
) -> None:
    write_metadata(folder, compressed({"node": node}))
    post = legacy_post(folder)
    assert post is not None
    assert (post.owner, post.taken_at) == (owner, taken_at)
    assert load(folder) is not None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not compressed",
        compressed({"node": {"owner": {}}})[:-20],
        lzma.compress(b"[" * 100_000),
        # Once decompressed, this is larger than the metadata of any post.
        lzma.compress(b" " * 5_000_000),
    ],
)
def test_unreadable_metadata_is_ignored(folder: Path, content: bytes) -> None:
    write_metadata(folder, content)
    post = legacy_post(folder)
    assert post is not None
    assert post.owner is None


@given(content=st.binary(max_size=200))
def test_a_post_is_read_whatever_its_files_contain(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("root") / NAME
    folder.mkdir()
    for suffix in (".jpg", ".txt", ".json.xz"):
        (folder / f"{NAME}{suffix}").write_bytes(b"x" + content)
    assert load(folder) is not None


@pytest.mark.parametrize("suffix", [".txt", ".json.xz"])
@pytest.mark.parametrize("kind", ["FIFO", "folder", "link"])
def test_only_regular_files_are_read(folder: Path, tmp_path: Path, suffix: str, kind: str) -> None:
    path = folder / f"{NAME}{suffix}"
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link":
            (tmp_path / "secret").write_text("secret")
            path.symlink_to(tmp_path / "secret")
    post = legacy_post(folder)
    assert post is not None
    assert (post.description, post.owner) == ("", None)


def test_first_seen_time_lasts_as_long_as_the_folder(folder: Path) -> None:
    root = folder.parent
    assert first_seen(folder) is None
    record_seen(root, {NAME})
    os.utime(root / ".state/legacy" / NAME, (1, 1))
    record_seen(root, {NAME, "another"})
    assert first_seen(folder) == 1
    assert record_seen(root, {"another"}) == {NAME}
    assert first_seen(folder) is None
    assert first_seen(root / "another") is not None


@pytest.mark.parametrize("kind", ["file", "FIFO", "dangling link"])
def test_a_broken_legacy_folder_does_not_break_the_sweep(folder: Path, kind: str) -> None:
    state = folder.parent / ".state"
    state.mkdir()
    match kind:
        case "file":
            (state / "legacy").touch()
        case "FIFO":
            os.mkfifo(state / "legacy")
        case "dangling link":
            (state / "legacy").symlink_to("nowhere")
    record_seen(folder.parent, {NAME})
    assert first_seen(folder) is None
