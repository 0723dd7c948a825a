"""The mark of a kept post, whatever happens at the same time."""

import os
from pathlib import Path

import pytest

from scrapper.library import publishing
from scrapper.library.keeping import is_kept, keep, release


def publisher(root: Path) -> publishing.Publisher:
    made = publishing.Publisher(root, abandoned_after=0.0)
    made.incoming.mkdir(exist_ok=True)
    return made


def stored(root: Path, shortcode: str = "a-post") -> Path:
    folder = root / shortcode
    folder.mkdir()
    (folder / "post.json").write_text("{}")
    return folder


def test_a_sweep_sees_a_mark_set_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stored(tmp_path)
    looks = []

    def look(place: Path) -> bool:
        looks.append(place)
        if len(looks) == 1:
            assert not is_kept(folder)
            keep(folder)
            return False
        return is_kept(place)

    monkeypatch.setattr(publishing, "is_kept", look)
    assert not publisher(tmp_path).remove("a-post", unless_kept=True)
    assert is_kept(folder)
    assert list((tmp_path / ".incoming").iterdir()) == []


def test_a_mark_is_set_on_the_post_that_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, newer = stored(tmp_path), stored(tmp_path, "newer")
    real_fsync = os.fsync

    def replaced_meanwhile(descriptor: int) -> None:
        real_fsync(descriptor)
        if newer.exists():
            folder.rename(tmp_path / "older")
            newer.rename(folder)

    monkeypatch.setattr(os, "fsync", replaced_meanwhile)
    assert keep(folder)
    assert is_kept(folder)


def test_a_symlink_in_place_of_a_post_is_not_followed(tmp_path: Path) -> None:
    elsewhere = stored(tmp_path, "elsewhere")
    (tmp_path / "a-link").symlink_to(elsewhere)
    with pytest.raises(OSError, match="a-link"):
        keep(tmp_path / "a-link")
    assert not is_kept(elsewhere)


def test_a_missing_post_cannot_be_kept_and_counts_as_released(tmp_path: Path) -> None:
    assert not keep(tmp_path / "nothing")
    release(stored(tmp_path))
