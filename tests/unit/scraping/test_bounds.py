"""How many posts query Instagram at a time, in which order, and how a cool-down stops them."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from operator import contains
from pathlib import Path
from typing import Any

import pytest

from scrapper.errors import CoolingDown, DeadlineExceeded, PostForbidden, PostNotFound, RateLimited
from scrapper.library.post import Fetch, Post, Preference
from scrapper.library.store import Library
from scrapper.scraping.peers import Peers
from scrapper.scraping.scraper import QueryGate, Scraper
from scrapper.telemetry.metrics import Metrics
from tests.conftest import until
from tests.process import PATIENCE_SECONDS


class Source:
    """Finds no posts. Each query waits for :meth:`answer`; the post ``again`` needs two queries."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.queried: list[str] = []
        self.most = 0
        self.files_may_download = threading.Event()
        self._running = 0
        self._answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def answer(self, error: Exception | None = None) -> None:
        self._answers.put(error)

    def fetch(self, fetch: Fetch, _: Path, *, query_gate: QueryGate) -> Post:
        self.begun.append(fetch.shortcode)
        with suppress(PostForbidden):
            self._query(fetch.shortcode, query_gate)
        self.files_may_download.wait(PATIENCE_SECONDS)
        if fetch.shortcode == "again":
            self._query(fetch.shortcode, query_gate)
        raise PostNotFound

    def open_share_link(self, path: str, _: float) -> str:
        raise AssertionError(path)

    def _query(self, shortcode: str, query_gate: QueryGate) -> None:
        with query_gate():
            self.queried.append(shortcode)
            self._running += 1
            self.most = max(self.most, self._running)
            error = self._answers.get(timeout=PATIENCE_SECONDS)
            self._running -= 1
            if error is not None:
                raise error


class Scrapes:
    """Concurrent scrapes, only one of which may query Instagram at a time."""

    def __init__(self, root: Path, seconds: float) -> None:
        self.source = Source()
        self.scraper = Scraper(
            Library(root),
            self.source,
            Metrics(),
            Peers(),
            queries=1,
            downloads=3,
            queue_limit=10,
            timeout=seconds,
            cooldown=60,
        )
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self, *shortcodes: str) -> None:
        for shortcode in shortcodes:
            self.request(shortcode, Preference())
            # A post joins the queue just before its fetch begins.
            await until(partial(contains, self.source.begun, shortcode))

    def request(self, shortcode: str, preference: Preference) -> None:
        scrape = self.scraper.scrape(shortcode, "", preference=preference)
        self._tasks.append(asyncio.create_task(scrape))

    async def outcomes(self) -> list[type[BaseException]]:
        return [type(it) for it in await asyncio.gather(*self._tasks, return_exceptions=True)]


@asynccontextmanager
async def scraping(root: Path, seconds: float) -> AsyncIterator[Scrapes]:
    library = Library(root)
    await library.open()
    scrapes = Scrapes(root, seconds)
    yield scrapes
    scrapes.source.files_may_download.set()
    await scrapes.scraper.close()


@pytest.fixture
async def scrapes(tmp_path: Path) -> AsyncIterator[Scrapes]:
    async with scraping(tmp_path, PATIENCE_SECONDS) as made:
        yield made


async def test_posts_are_queried_in_order_of_arrival(scrapes: Scrapes) -> None:
    source = scrapes.source
    await scrapes.start("one", "two", "three", "four")
    source.files_may_download.set()
    for _ in range(4):
        source.answer()
    assert await scrapes.outcomes() == [PostNotFound] * 4
    assert source.queried == ["one", "two", "three", "four"]
    assert source.most == 1


async def test_the_next_post_is_queried_while_files_download(scrapes: Scrapes) -> None:
    source = scrapes.source
    await scrapes.start("one", "two")
    source.answer()
    await until(lambda: source.queried == ["one", "two"])
    source.answer()
    source.files_may_download.set()
    assert await scrapes.outcomes() == [PostNotFound] * 2


async def test_a_second_query_waits_behind_posts_already_queued(scrapes: Scrapes) -> None:
    source = scrapes.source
    await scrapes.start("again", "two", "three")
    source.answer()
    await until(lambda: source.queried == ["again", "two"])
    source.files_may_download.set()
    for _ in range(3):
        source.answer()
    assert await scrapes.outcomes() == [PostNotFound] * 3
    assert source.queried == ["again", "two", "three", "again"]
    assert source.most == 1


async def test_a_failed_query_releases_the_slot(scrapes: Scrapes) -> None:
    source = scrapes.source
    await scrapes.start("again", "two")
    source.answer(PostForbidden())
    await until(lambda: source.queried == ["again", "two"])
    source.files_may_download.set()
    source.answer()
    source.answer()
    assert await scrapes.outcomes() == [PostNotFound] * 2
    assert source.queried == ["again", "two", "again"]


async def test_a_limit_stops_waiting_posts(scrapes: Scrapes) -> None:
    await scrapes.start("one", "two", "three")
    scrapes.source.answer(RateLimited())
    assert await scrapes.outcomes() == [RateLimited, CoolingDown, CoolingDown]
    assert scrapes.source.queried == ["one"]


async def test_a_second_query_waits_at_most_until_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.scraping.flight._GRACE", 0.1)
    async with scraping(tmp_path, 3) as scrapes:
        source = scrapes.source
        await scrapes.start("again", "two")
        source.answer()
        source.files_may_download.set()
        # The query for "two" is not answered in time.
        assert await scrapes.outcomes() == [DeadlineExceeded] * 2
        assert source.queried == ["again", "two"]
        source.answer()


async def test_a_stuck_thread_fails_requests_with_any_preference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Requests give up long before the thread does.
    monkeypatch.setattr("scrapper.scraping.flight._GRACE", 0.1 - PATIENCE_SECONDS)
    async with scraping(tmp_path, PATIENCE_SECONDS) as scrapes:
        await scrapes.start("one")
        scrapes.source.answer()
        scrapes.request("one", Preference("best"))
        assert await scrapes.outcomes() == [DeadlineExceeded] * 2
        scrapes.request("one", Preference("best"))
        assert await scrapes.outcomes() == [DeadlineExceeded] * 3
        assert scrapes.source.begun == ["one"]
        scrapes.source.files_may_download.set()
