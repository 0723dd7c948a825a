"""Searches, and listings that do not read every folder."""

import asyncio
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrapper.errors import Busy
from scrapper.library.catalogue import Catalogue, Search
from scrapper.library.listing import Cursor
from scrapper.library.post import Details
from scrapper.library.store import Library
from scrapper.library.stored import load
from tests.unit.library.test_store import post

pytestmark = pytest.mark.blocks


def store(
    library: Library,
    shortcode: str,
    text: str = "",
    owner: str | None = "someone",
    details: Details | None = None,
) -> None:
    folder = library.stage(shortcode)
    (folder / f"{shortcode}.mp4").write_bytes(b"video")
    stored = replace(post(shortcode, b"video", text), owner=owner)
    library.published(library.publish(folder, replace(stored, details=details or Details())))


async def found(library: Library, text: str = "", **filters: object) -> list[str]:
    listing = await library.list(100, None, Search(text, **filters))  # type: ignore[arg-type]
    return [stored.post.shortcode for stored in listing.posts]


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    return tmp_path / "posts.sqlite3"


@pytest.fixture
async def library(tmp_path: Path, catalogue: Path) -> AsyncIterator[Library]:
    library = Library(tmp_path / "media", catalogue=catalogue)
    await library.open()
    yield library
    await library.close()


@pytest.mark.parametrize(
    "text",
    [
        "sunset",
        "SUNSET",
        "sun",
        "#sunset",
        "cafe",
        "café",
        "sun cafe",
        "the.friend",
        "friend",
        "tagged_one",
        "Full Name",
        "someone",
        "naïve",
        "日本",
    ],
)
async def test_a_post_is_found_by_its_words_and_people(library: Library, text: str) -> None:
    people = Details(owner_name="A Full Name", coauthors=("the.friend",), tagged=("tagged_one",))
    store(library, "other-post", "Rain at the sea", owner="nobody")
    store(library, "right-post", "A #Sunset at the Café, naïve 日本語", details=people)
    assert await found(library, text) == ["right-post"]


@pytest.mark.parametrize("text", ["unset", "sunset rain", "!!!", '"', "NOT", "sunset OR rain"])
async def test_other_words_do_not_match(library: Library, text: str) -> None:
    store(library, "right-post", "A #Sunset at the Café")
    assert await found(library, text) == []


@settings(suppress_health_check=list(HealthCheck), max_examples=50)
@given(text=st.text(max_size=200))
async def test_any_text_is_a_valid_search(library: Library, text: str) -> None:
    assert await found(library, text) == []


async def test_filters_can_be_combined(library: Library) -> None:
    for number in range(6):
        owner = ("Anna", "bert")[number % 2]
        store(library, f"post-{number}", ("sun", "rain")[number // 3], owner=owner)
    for shortcode in ("post-0", "post-1"):
        assert await library.keep(shortcode)
    assert await found(library, owner="anna") == ["post-4", "post-2", "post-0"]
    assert await found(library, "sun", owner="Anna") == ["post-2", "post-0"]
    assert await found(library, "sun", kept=True) == ["post-1", "post-0"]
    assert await found(library, "sun", kept=False) == ["post-2"]
    assert await library.keep("post-1", kept=False)
    assert await found(library, kept=True) == ["post-0"]


async def test_a_post_is_found_by_the_beginning_of_its_shortcode(library: Library) -> None:
    store(library, "DAbCdEf-_1", "rain")
    store(library, "another-one", "dabcd in its caption")
    assert await found(library, "DAbCdEf-_1") == ["DAbCdEf-_1"]
    assert await found(library, "dabcde") == ["DAbCdEf-_1"]
    assert await found(library, "DAbCd") == ["another-one", "DAbCdEf-_1"]
    assert await found(library, "bCdEf") == []


@pytest.mark.parametrize(
    "link",
    [
        "https://www.instagram.com/reel/right-post/?igsh=abc==",
        "https://instagram.com/someone/p/right-post/",
        "instagram.com/p/right-post/",
        "http://www.Instagram.com/tv/right-post",
        "  https://www.instagram.com/p/right-post\u200b\n",
    ],
)
async def test_a_post_is_found_by_its_link(library: Library, link: str) -> None:
    store(library, "right-post")
    store(library, "right-post-2", "reel right-post")
    assert await found(library, link) == ["right-post"]
    assert await found(library, link, owner="somebody") == []


async def test_a_post_is_found_by_its_share_link(library: Library) -> None:
    folder = library.stage("a-post")
    (folder / "a-post.mp4").write_bytes(b"video")
    url = "https://www.instagram.com/share/reel/BAtoken123?x=1"
    library.publish(folder, replace(post("a-post", b"video"), original_url=url))
    library.changed("a-post")
    assert await found(library, "https://www.instagram.com/share/reel/BAtoken123/") == ["a-post"]
    assert await found(library, "https://www.instagram.com/share/reel/BAtoken124/") == []


async def test_posts_can_be_sorted_by_when_they_were_taken(library: Library) -> None:
    times = ["2024-01-01T00:00:00Z", None, "2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z", "?"]
    for number, taken_at in enumerate(times):
        folder = library.stage(f"post-{number}")
        (folder / f"post-{number}.mp4").write_bytes(b"video")
        library.publish(folder, replace(post(f"post-{number}", b"video"), taken_at=taken_at))
        library.changed(f"post-{number}")
    assert await library.keep("post-0")
    order = ["post-2", "post-3", "post-0", "post-1", "post-4"]
    assert await found(library, sort="taken") == order
    assert await found(library, sort="taken", kept=True) == ["post-0"]
    pages: list[str] = []
    cursor = None
    while not pages or cursor:
        listing = await library.list(2, cursor, Search(sort="taken"))
        pages += [stored.post.shortcode for stored in listing.posts]
        cursor = listing.next
    assert pages == order


async def test_posts_can_be_filtered_by_type(library: Library) -> None:
    store(library, "a-video")
    for shortcode, items, missing in (
        ("a-picture", 1, ()),
        ("carousel", 2, ()),
        ("remainder", 1, (2,)),
    ):
        folder = library.stage(shortcode)
        names = [f"{shortcode}_{number}.jpg" for number in range(1, items + 1)]
        for name in names:
            (folder / name).write_bytes(b"video")
        [item] = post(shortcode, b"video").media
        media = tuple(replace(item, type="image", filename=name) for name in names)
        library.publish(folder, replace(post(shortcode, b"video"), media=media, missing=missing))
        library.changed(shortcode)
    assert await found(library, kind="video") == ["a-video"]
    assert await found(library, kind="image") == ["a-picture"]
    assert await found(library, kind="carousel") == ["remainder", "carousel"]
    assert await found(library, kind="carousel", sort="taken") == ["carousel", "remainder"]


async def test_usage_from_the_catalogue_equals_that_of_the_files(library: Library) -> None:
    for number in range(3):
        store(library, f"post-{number}")
    # A search waits for the first sync.
    await found(library, "nothing")
    usage = await library.usage()
    assert await library.usage_now() == usage
    assert usage.posts == 3
    await library.remove("post-1")
    assert await library.usage_now() == await library.usage()
    assert (await library.usage_now()).posts == 2


@pytest.mark.parametrize(
    "search",
    [
        Search(),
        Search(sort="taken"),
        Search(kind="video"),
        Search(kind="image", sort="taken"),
        Search(owner="someone", sort="taken"),
        Search(kept=True, sort="taken"),
        Search("DAbCdEf"),
        Search("https://www.instagram.com/p/DAbCdEf/"),
        Search("https://www.instagram.com/share/DAbCdEf/"),
    ],
    ids=str,
)
async def test_no_listing_scans_every_post(
    tmp_path: Path, catalogue: Path, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        database: sqlite3.Connection = connect(*arguments, **options)
        database.set_trace_callback(statements.append)
        return database

    connect = sqlite3.connect
    monkeypatch.setattr("sqlite3.connect", traced)
    library = Library(tmp_path / "media", catalogue=catalogue)
    await library.open()
    store(library, "a-post")
    await library.list(20, None, Search("nothing"))
    statements.clear()
    await library.list(20, Cursor(1.0, "a-post"), search)
    await library.close()
    [statement] = [sql for sql in statements if sql.startswith("SELECT") and "ORDER BY" in sql]
    with closing(connect(catalogue)) as database:
        steps = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert steps
    assert not [step for step in steps if step.startswith("SCAN posts")]
    if not search.text:
        # An index has the posts in this order, so SQLite starts reading at the cursor.
        [only] = steps
        assert f"{search.sort}_at<?" in only


async def test_pages_of_a_search_neither_repeat_nor_skip_posts(library: Library) -> None:
    for number in range(10):
        store(library, f"post-{number}", "sun" if number % 2 else "rain")
    pages, cursor = [], None
    while True:
        listing = await library.list(2, cursor, Search("sun"))
        pages.append([stored.post.shortcode for stored in listing.posts])
        cursor = listing.next
        if cursor is None:
            break
        store(library, f"newer-{len(pages)}", "sun")
    assert pages == [["post-9", "post-7"], ["post-5", "post-3"], ["post-1"]]


async def test_waiting_searches_share_one_sync(library: Library) -> None:
    store(library, "a-post", "sun")
    with patch.object(Catalogue, "sync", autospec=True, side_effect=Catalogue.sync) as sync:
        found_by_all = await asyncio.gather(*(found(library, "sun") for _ in range(200)))
    assert all(names == ["a-post"] for names in found_by_all)
    assert sync.call_count <= 2


async def test_own_changes_need_no_scan_of_the_whole_folder(library: Library) -> None:
    store(library, "older", "sunset")
    assert await found(library, "sunset") == ["older"]
    os.utime(library.root, (1, 1))
    assert await found(library, "sunset") == ["older"]
    with patch("scrapper.library.catalogue.folders", side_effect=AssertionError):
        store(library, "newer", "sunset")
        assert await found(library, "sunset") == ["newer", "older"]
        assert await library.keep("older")
        assert await found(library, "sunset", kept=True) == ["older"]
        assert await library.remove("newer")
        assert await found(library, "sunset") == ["older"]


async def test_changes_by_other_processes_are_noticed(library: Library) -> None:
    other = Library(library.root)
    store(library, "a-post", "sun")
    assert await found(library, "sun") == ["a-post"]
    store(other, "another", "sun")
    assert await found(library, "sun") == ["another", "a-post"]
    store(other, "a-post", "rain")
    library.changed("a-post")
    assert await found(library, "sun") == ["another"]
    shutil.rmtree(library.root / "another")
    library.changed("another")
    assert await found(library, "sun") == []
    assert await found(library) == ["a-post"]


async def test_a_post_changed_in_place_is_read_again(library: Library) -> None:
    store(library, "a-post", "sun")
    assert await found(library, "sun") == ["a-post"]
    manifest = library.root / "a-post/post.json"
    manifest.write_text(manifest.read_text().replace('"sun"', '"rain"'))
    library.changed("a-post")
    assert await found(library, "sun") == []
    assert await found(library, "rain") == ["a-post"]


async def test_a_sweep_finds_a_folder_that_became_a_post(library: Library) -> None:
    store(library, "a-post", "sun")
    manifest = library.root / "a-post/post.json"
    text = manifest.read_bytes()
    manifest.unlink()
    library.changed("a-post")
    await library.expire(3600, reserve=lambda _: pytest.fail("nothing is old"))
    assert await found(library, "sun") == []
    manifest.write_bytes(text)
    await library.expire(3600, reserve=lambda _: pytest.fail("nothing is old"))
    assert await found(library, "sun") == ["a-post"]


def _another_schema(path: Path) -> None:
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE posts (other TEXT)")
    database.close()


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "random": lambda path: path.write_bytes(os.urandom(20_000)),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "gone": lambda path: path.unlink(),
    "zeroed head": lambda path: path.write_bytes(bytes(200) + path.read_bytes()[200:]),
    "zeroed end": lambda path: path.write_bytes(path.read_bytes()[:-9000] + bytes(9000)),
    "a folder": _a_folder,
    "another schema": _another_schema,
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_catalogue_is_rebuilt(
    library: Library, catalogue: Path, damage: str
) -> None:
    for number in range(20):
        store(library, f"post-{number:02}", f"sun {number}")
    await found(library, "sun")
    await library.close()
    DAMAGES[damage](catalogue)
    again = Library(library.root, catalogue=catalogue)
    assert len(await found(again, "sun")) == 20
    assert await found(again, "7") == ["post-07"]
    assert len(await found(again)) == 20
    await again.close()


@pytest.mark.parametrize("damage", ["random", "cut", "zeroed end", "zeroed head"])
async def test_no_search_fails_when_the_catalogue_is_damaged(
    library: Library, catalogue: Path, damage: str
) -> None:
    for number in range(20):
        store(library, f"post-{number:02}", f"sun {number}")
    await found(library, "sun")
    DAMAGES[damage](catalogue)
    store(library, "one-more", "sun")
    assert len(await found(library, "sun")) == 21


async def test_posts_are_listed_without_a_catalogue(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    library = Library(tmp_path / "media", catalogue=tmp_path / "file/posts.sqlite3")
    await library.open()
    store(library, "a-post")
    assert await found(library) == ["a-post"]
    await library.close()


async def test_searches_wait_only_once_for_a_locked_catalogue(
    library: Library, catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(library, "a-post", "sun")
    assert await found(library, "sun") == ["a-post"]
    syncs: list[Catalogue] = []
    sync = Catalogue.sync

    def count(catalogue: Catalogue, **options: bool) -> None:
        syncs.append(catalogue)
        sync(catalogue, **options)

    monkeypatch.setattr(Catalogue, "sync", count)
    with closing(sqlite3.connect(catalogue, isolation_level=None)) as program:
        program.execute("BEGIN EXCLUSIVE")
        searches = [found(library, "sun") for _ in range(40)]
        outcomes = await asyncio.gather(*searches, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Busy}
        assert len(syncs) == 1
        assert await found(library) == ["a-post"]
    assert await found(library, "sun") == ["a-post"]


@pytest.mark.parametrize("damage", ["gone", "a folder", "empty"])
async def test_no_search_fails_when_the_catalogue_is_replaced(
    library: Library, catalogue: Path, damage: str
) -> None:
    store(library, "a-post", "sun")
    assert await found(library, "sun") == ["a-post"]
    DAMAGES[damage](catalogue)
    assert await found(library, "sun") == ["a-post"]
    store(library, "one-more", "sun")
    assert await found(library, "sun") == ["one-more", "a-post"]


async def test_a_listing_does_not_wait_for_a_new_catalogue(
    library: Library, catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(library, "a-post", "sun")
    assert await found(library, "sun") == ["a-post"]
    may_load = threading.Event()
    monkeypatch.setattr(
        "scrapper.library.catalogue.load", lambda folder: may_load.wait() and load(folder)
    )
    DAMAGES["gone"](catalogue)
    assert await found(library) == ["a-post"]
    may_load.set()
    assert await found(library, "sun") == ["a-post"]
