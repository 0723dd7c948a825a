import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

import scrapper.library.disk
import scrapper.library.stored
from scrapper.library.post import MediaItem, Post
from scrapper.library.publishing import Publisher, Superseded
from scrapper.library.store import Library
from tests.process import PATIENCE_SECONDS

pytestmark = pytest.mark.blocks

DAY = 24 * 60 * 60


def post(shortcode: str = "abcde", content: bytes = b"video", text: str = "") -> Post:
    item = MediaItem("video", f"{shortcode}.mp4", "https://cdn/v", len(content), 1, 2)
    return Post(shortcode, text, "owner", "2026-01-15T12:00:00Z", f"https://x/{shortcode}", (item,))


def store(library: Library, shortcode: str = "abcde", content: bytes = b"video") -> Post:
    folder = library.stage(shortcode)
    (folder / f"{shortcode}.mp4").write_bytes(content)
    stored = post(shortcode, content)
    library.publish(folder, stored)
    return stored


def age(library: Library, shortcode: str, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(library.root / shortcode / "post.json", (moment, moment))


def all_but(kept: str = "") -> Callable[[str], AbstractAsyncContextManager[bool]]:
    """Return a function that reserves every post except *kept*."""

    @asynccontextmanager
    async def reserve(shortcode: str) -> AsyncIterator[bool]:
        yield shortcode != kept

    return reserve


@pytest.fixture
async def library(tmp_path: Path) -> Library:
    library = Library(tmp_path / "media")
    await library.open()
    return library


async def test_a_published_post_has_the_time_it_was_stored(library: Library) -> None:
    before = time.time() - 1
    published = store(library)
    stored = await library.get("abcde")
    assert stored is not None
    assert stored.post == published
    assert before <= stored.stored_at <= time.time()
    assert sorted(os.listdir(library.root / "abcde")) == ["abcde.mp4", "post.json"]
    assert os.listdir(library.root / ".incoming") == []


async def test_a_change_is_visible_immediately(library: Library) -> None:
    store(library, content=b"old")
    await library.get("abcde")
    folder = library.stage("abcde")
    (folder / "abcde.mp4").write_bytes(b"renewed")
    library.publish(folder, post(content=b"renewed"))
    library.changed("abcde")
    stored = await library.get("abcde")
    assert stored is not None
    assert stored.post.main.size == len(b"renewed")
    age(library, "abcde", 8 * DAY)
    await library.expire(7 * DAY, reserve=all_but())
    assert await library.get("abcde") is None


async def test_many_simultaneous_lookups_read_the_disk_once(library: Library) -> None:
    store(library)
    with patch("scrapper.library.stored.json.loads", wraps=json.loads) as load:
        found = await asyncio.gather(*(library.get("abcde") for _ in range(100)))
    assert all(found)
    assert load.call_count == 1


async def test_a_read_overtaken_by_a_change_is_not_cached(
    library: Library,
) -> None:
    store(library, content=b"old")
    lookup = asyncio.create_task(library.get("abcde"))
    await asyncio.sleep(0)
    folder = library.stage("abcde")
    (folder / "abcde.mp4").write_bytes(b"renewed")
    library.publish(folder, post(content=b"renewed"))
    library.changed("abcde")
    await lookup
    stored = await library.get("abcde")
    assert stored is not None
    assert stored.post.main.size == len(b"renewed")


async def test_the_index_is_bounded(library: Library) -> None:
    async def reads(*numbers: int) -> int:
        """Get these posts; return how many of them were read from the disk."""
        with patch("scrapper.library.stored.json.loads", wraps=json.loads) as load:
            for number in numbers:
                assert await library.get(f"post_{number}") is not None
        return int(load.call_count)

    store(library, "post_0")
    found = await library.get("post_0")
    assert found is not None
    with (
        patch("scrapper.library.index._MAX_BYTES", 3 * found.rendered.size),
        patch("scrapper.library.index._TRUSTED_SECONDS", 3600),
    ):
        for number in range(1, 10):
            store(library, f"post_{number}")
        assert await reads(*range(1, 10)) == 9
        assert await reads(7, 8, 9) == 0
        assert await reads(*range(7)) == 7


async def test_a_staged_post_is_not_stored_yet(library: Library) -> None:
    folder = library.stage("abcde")
    (folder / "abcde.mp4").write_bytes(b"vid")
    assert await library.get("abcde") is None
    library.discard(folder)
    assert os.listdir(library.root / ".incoming") == []


@pytest.mark.parametrize("atomic", [True, False], ids=["renameat2", "two renames"])
async def test_a_published_post_replaces_the_old_one(library: Library, atomic: bool) -> None:
    store(library, content=b"old")
    if atomic:
        store(library, content=b"renewed")
    else:
        with patch("scrapper.library.publishing.exchange", return_value=False):
            store(library, content=b"renewed")
    assert (library.root / "abcde/abcde.mp4").read_bytes() == b"renewed"
    assert os.listdir(library.root / ".incoming") == []
    assert await library.get("abcde") is not None


@pytest.mark.parametrize("kind", ["file", "empty folder", "folder without manifest", "link"])
async def test_anything_else_at_the_path_of_a_post_is_replaced(
    library: Library, kind: str, tmp_path: Path
) -> None:
    place, elsewhere = library.root / "abcde", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    match kind:
        case "file":
            place.touch()
        case "empty folder":
            place.mkdir()
        case "folder without manifest":
            place.mkdir()
            (place / "abcde.mp4").touch()
        case "link":
            place.symlink_to(elsewhere)
    store(library)
    assert await library.get("abcde") is not None
    assert (elsewhere / "kept").exists()


async def test_a_post_stays_readable_while_it_is_replaced(library: Library) -> None:
    store(library)
    reading, ended = threading.Event(), threading.Event()

    def read() -> None:
        while not ended.is_set():
            (library.root / "abcde/post.json").open().close()
            reading.set()

    reader = asyncio.create_task(asyncio.to_thread(read))
    assert await asyncio.to_thread(reading.wait, PATIENCE_SECONDS)
    for number in range(100):
        await asyncio.to_thread(store, library, content=b"x" * (number + 1))
    ended.set()
    await reader


async def test_startup_removes_what_a_crash_left_behind(library: Library) -> None:
    store(library)
    incomplete = library.stage("fghij")
    (incomplete / "fghij.mp4").write_bytes(b"vi")
    (library.root / ".incoming/stray").touch()
    await Library(library.root).open()
    assert os.listdir(library.root / ".incoming") == []
    assert await library.get("abcde") is not None


async def test_a_crash_between_two_renames_loses_no_post(library: Library) -> None:
    old = store(library, content=b"old")
    (library.root / "abcde").rename(library.root / ".incoming/abcde.1234.replaced")
    library.stage("abcde")
    await Library(library.root).open()
    stored = await library.get("abcde")
    assert stored is not None
    assert stored.post == old


@pytest.mark.parametrize("damage", ["shorter", "missing", "not json", "wrong type", "other post"])
async def test_a_damaged_post_counts_as_not_stored(library: Library, damage: str) -> None:
    store(library)
    folder = library.root / "abcde"
    match damage:
        case "shorter":
            os.truncate(folder / "abcde.mp4", 2)
        case "missing":
            (folder / "abcde.mp4").unlink()
        case "not json":
            (folder / "post.json").write_text('{"version": 1')
        case "wrong type":
            manifest = {**post().to_manifest(), "description": 10**30}
            (folder / "post.json").write_text(json.dumps(manifest))
        case "other post":
            (folder / "post.json").write_text(json.dumps(post("fghij").to_manifest()))
    assert await library.get("abcde") is None


async def test_posts_older_than_the_limit_expire(library: Library) -> None:
    for shortcode, days in (("old_1", 7.1), ("old_2", 400), ("young", 6.9)):
        store(library, shortcode)
        age(library, shortcode, days * DAY)
    assert await library.expire(7 * DAY, reserve=all_but()) == 2
    assert sorted(os.listdir(library.root)) == [".incoming", "young"]
    assert os.listdir(library.root / ".incoming") == []


async def test_a_post_that_is_being_scraped_does_not_expire(library: Library) -> None:
    store(library)
    age(library, "abcde", 8 * DAY)
    assert await library.expire(7 * DAY, reserve=all_but("abcde")) == 0
    assert await library.get("abcde") is not None


async def test_only_posts_expire(library: Library, tmp_path: Path) -> None:
    elsewhere = Library(tmp_path / "elsewhere")
    await elsewhere.open()
    store(elsewhere, "linked")
    age(elsewhere, "linked", 8 * DAY)
    (library.root / "linked").symlink_to(elsewhere.root / "linked")
    (library.root / "a_file").touch()
    (library.root / "no_manifest").mkdir()
    (library.root / "no_manifest/no_manifest.mp4").touch()
    (library.root / "not a shortcode").mkdir()
    (library.root / "not a shortcode/post.json").touch()
    (library.root / "manifest_is_link").mkdir()
    (library.root / "manifest_is_link/post.json").symlink_to(elsewhere.root / "linked/post.json")
    before = sorted(os.listdir(library.root))
    assert await library.expire(-DAY, reserve=all_but()) == 0
    assert sorted(os.listdir(library.root)) == before
    assert await elsewhere.get("linked") is not None


async def test_a_post_that_cannot_be_removed_is_logged_and_skipped(
    library: Library,
) -> None:
    for shortcode in ("first", "other", "third"):
        store(library, shortcode)
        age(library, shortcode, 8 * DAY)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "other":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    with patch.object(Path, "rename", refuse), capture_logs() as lines:
        assert await library.expire(7 * DAY, reserve=all_but()) == 2
    assert [line["shortcode"] for line in lines] == ["other"]


async def test_an_unreadable_folder_is_logged_and_skipped(
    library: Library,
) -> None:
    for shortcode in ("first", "other", "third"):
        store(library, shortcode)
        age(library, shortcode, 8 * DAY)
    lstat = os.lstat

    def refuse(path: Any, **options: Any) -> os.stat_result:
        # Changing the mode would not be enough, because tests in containers run as root.
        if "other" in str(path):
            raise PermissionError(13, "Permission denied")
        return lstat(path, **options)

    with patch("scrapper.library.listing.os.lstat", refuse), capture_logs() as lines:
        assert await library.expire(7 * DAY, reserve=all_but()) == 2
    assert [line["shortcode"] for line in lines] == ["other"]


async def test_an_earlier_turn_never_replaces_a_later_one(library: Library) -> None:
    for content, fence in ((b"late", 2), (b"early", 1)):
        folder = library.stage("abcde")
        (folder / "abcde.mp4").write_bytes(content)
        if fence == 1:
            with pytest.raises(Superseded):
                library.publish(folder, post(content=content), fence)
            library.discard(folder)
        else:
            library.publish(folder, post(content=content), fence)
    assert (library.root / "abcde/abcde.mp4").read_bytes() == b"late"
    assert os.listdir(library.incoming) == []


@pytest.mark.parametrize("atomically", [True, False])
async def test_a_later_turn_can_publish_between_check_and_rename(
    library: Library, atomically: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not atomically:
        monkeypatch.setattr("scrapper.library.publishing.exchange", lambda *_: False)
    folder = library.stage("abcde")
    (folder / "abcde.mp4").write_bytes(b"early")
    store(library)

    def late(place: Path) -> int:
        # The later turn publishes between the check and the rename.
        with patch("scrapper.library.publishing.fence_of", fence_of):
            other = library.stage("abcde")
            (other / "abcde.mp4").write_bytes(b"late")
            library.publish(other, post(content=b"late"), 2)
        return 0

    fence_of = scrapper.library.stored.fence_of
    with patch("scrapper.library.publishing.fence_of") as read:
        read.side_effect = lambda place: late(place) if read.call_count == 1 else fence_of(place)
        with pytest.raises(Superseded):
            library.publish(folder, post(content=b"early"), 1)
    assert (library.root / "abcde/abcde.mp4").read_bytes() == b"late"
    library.discard(folder)
    assert os.listdir(library.incoming) == []


async def test_only_abandoned_downloads_of_other_processes_are_removed(tmp_path: Path) -> None:
    one, other = (Library(tmp_path / "media", abandoned_after=60) for _ in range(2))
    await one.open()
    folder = one.stage("abcde")
    await other.open()
    await other.expire(7 * DAY, reserve=all_but())
    assert folder.exists()
    one_later = Library(tmp_path / "media", abandoned_after=0.01)
    await asyncio.sleep(0.05)
    await one_later.expire(7 * DAY, reserve=all_but())
    assert not folder.exists()


async def test_a_post_refreshed_during_a_sweep_stays(library: Library) -> None:
    store(library)
    age(library, "abcde", 8 * DAY)

    @asynccontextmanager
    async def refresh_first(_shortcode: str) -> AsyncIterator[bool]:
        store(library)
        yield True

    assert await library.expire(7 * DAY, reserve=refresh_first) == 0
    assert (library.root / "abcde").exists()


async def test_a_post_stored_after_its_age_is_read_stays(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(library)
    age(library, "abcde", 8 * DAY)
    remove = Publisher.remove

    def store_first(self: Publisher, shortcode: str, **options: Any) -> bool:
        store(library, content=b"newer")
        return remove(self, shortcode, **options)

    monkeypatch.setattr(Publisher, "remove", store_first)
    assert await library.expire(7 * DAY, reserve=all_but()) == 0
    assert (library.root / "abcde/abcde.mp4").read_bytes() == b"newer"
    assert os.listdir(library.root / ".incoming") == []


@pytest.mark.parametrize("atomically", [True, False])
async def test_a_post_removed_while_it_is_replaced_is_stored(
    library: Library, atomically: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = scrapper.library.disk.exchange

    def remove_first(one: Path, other: Path) -> bool:
        monkeypatch.setattr("scrapper.library.publishing.exchange", exchange)
        # Act like another process.
        Publisher(library.root, abandoned_after=60).remove("abcde")
        return atomically and exchange(one, other)

    store(library)
    monkeypatch.setattr("scrapper.library.publishing.exchange", remove_first)
    store(library, content=b"new")
    assert (library.root / "abcde/abcde.mp4").read_bytes() == b"new"
    assert os.listdir(library.incoming) == []
