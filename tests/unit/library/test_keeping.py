"""The mark of a kept post while the post changes concurrently."""

import math
import os
from pathlib import Path

import pytest

from scrapper.library import publishing
from scrapper.library.keeping import is_kept, keep, release


def new_publisher(root: Path) -> publishing.Publisher:
    publisher = publishing.Publisher(root, abandoned_after=0.0)
    publisher.incoming.mkdir(exist_ok=True)
    return publisher


def stored(root: Path, shortcode: str = "a-post") -> Path:
    folder = root / shortcode
    folder.mkdir()
    (folder / "post.json").write_text("{}")
    return folder


def test_a_sweep_respects_a_mark_set_after_its_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stored(tmp_path)
    checks = []

    def keep_after_first_check(place: Path) -> bool:
        checks.append(place)
        if len(checks) == 1:
            assert not is_kept(folder)
            keep(folder)
            return False
        return is_kept(place)

    monkeypatch.setattr(publishing, "is_kept", keep_after_first_check)
    assert not new_publisher(tmp_path).remove("a-post", before=math.inf)
    assert is_kept(folder)
    assert list((tmp_path / ".incoming").iterdir()) == []


def test_a_mark_is_set_on_the_post_that_replaces_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, newer = stored(tmp_path), stored(tmp_path, "newer")
    real_fsync = os.fsync

    def replace_folder(descriptor: int) -> None:
        real_fsync(descriptor)
        if newer.exists():
            folder.rename(tmp_path / "older")
            newer.rename(folder)

    monkeypatch.setattr(os, "fsync", replace_folder)
    assert keep(folder)
    assert is_kept(folder)


def test_a_symlink_in_place_of_a_post_is_not_followed(tmp_path: Path) -> None:
    elsewhere = stored(tmp_path, "elsewhere")
    (tmp_path / "a-link").symlink_to(elsewhere)
    with pytest.raises(OSError, match="a-link"):
        keep(tmp_path / "a-link")
    assert not is_kept(elsewhere)


def test_a_missing_post_cannot_be_kept(tmp_path: Path) -> None:
    assert not keep(tmp_path / "nothing")


def test_releasing_a_post_without_a_mark_does_nothing(tmp_path: Path) -> None:
    release(stored(tmp_path))
