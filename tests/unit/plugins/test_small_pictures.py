"""Small pictures of older posts, one of which may be impossible to make."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from scrapper.library.post import MediaItem, Post
from scrapper.library.store import Library
from scrapper.plugins import audio
from scrapper.settings import Settings
from tests.process import PATIENCE_SECONDS
from tests.unit.library.test_store import post

pytestmark = pytest.mark.blocks


def store_picture(library: Library, shortcode: str) -> None:
    folder = library.stage(shortcode)
    (folder / f"{shortcode}.jpg").write_bytes(b"picture")
    item = MediaItem("image", f"{shortcode}.jpg", "https://cdn/p", 7, width=2400, height=2400)
    library.publish(folder, replace(post(shortcode), media=(item,)))


@pytest.mark.parametrize("error", [IsADirectoryError, NotADirectoryError, PermissionError])
async def test_one_bad_post_does_not_stop_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    def small_of(_: audio._Maker, folder: Path, post: Post) -> MediaItem:
        if post.shortcode == "newer":
            raise error
        name = f"{post.shortcode}_small.jpg"
        (folder / name).write_bytes(b"small")
        return MediaItem("image", name, "", 5, None, None)

    monkeypatch.setattr(audio._Maker, "small_of", small_of)
    library = Library(tmp_path)
    await library.open()
    for shortcode in ("older", "newer"):
        store_picture(library, shortcode)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await audio._SmallPictures(library, Settings(media_root=tmp_path))._make_all()
    small = [stored.post.small for stored in await library.get_all(["older", "newer"]) if stored]
    assert [item is not None for item in small] == [True, False]
