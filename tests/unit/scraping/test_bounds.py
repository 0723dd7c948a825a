"""How many posts are asked for at a time, in which order, and that a cool-down stops all."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from scrapper.errors import CoolingDown, DeadlineExceeded, PostForbidden, PostNotFound, RateLimited
from scrapper.library.post import Fetch, Post
from scrapper.library.store import Library
from scrapper.scraping.peers import Peers
from scrapper.scraping.scraper import Asking, Scraper
from scrapper.telemetry.metrics import Metrics
from tests.conftest import until
from tests.process import PATIENCE_SECONDS


class Source:
    """Finds no post, after :meth:`answer`; asks a second time for the post ``again``."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.most = 0
        self.files_may_come = threading.Event()
        self._asking = 0
        self._answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def answer(self, error: Exception | None = None) -> None:
        self._answers.put(error)

    def fetch(self, fetch: Fetch, _: Path, *, asking: Asking) -> Post:
        with suppress(PostForbidden):
            self._ask(fetch.shortcode, asking)
        self.files_may_come.wait(PATIENCE_SECONDS)
        if fetch.shortcode == "again":
            self._ask(fetch.shortcode, asking)
        raise PostNotFound

    def open_share_link(self, path: str, _: float) -> str:
        raise AssertionError(path)

    def _ask(self, shortcode: str, asking: Asking) -> None:
        with asking():
            self.asked.append(shortcode)
            self._asking += 1
            self.most = max(self.most, self._asking)
            error = self._answers.get(timeout=PATIENCE_SECONDS)
            self._asking -= 1
            if error is not None:
                raise error


class Scrapes:
    """Scrapes that are under way at the same time; one may ask at a time."""

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
            self._tasks.append(asyncio.create_task(self.scraper.scrape(shortcode, "")))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while self.scraper.progress(shortcode) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    async def outcomes(self) -> list[type[BaseException]]:
        return [type(it) for it in await asyncio.gather(*self._tasks, return_exceptions=True)]


@asynccontextmanager
async def scraping(root: Path, seconds: float) -> AsyncIterator[Scrapes]:
    library = Library(root)
    await library.open()
    scrapes = Scrapes(root, seconds)
    yield scrapes
    scrapes.source.files_may_come.set()
    await scrapes.scraper.close()


@pytest.fixture
async def scrapes(tmp_path: Path) -> AsyncIterator[Scrapes]:
    async with scraping(tmp_path, PATIENCE_SECONDS) as made:
        yield made


async def test_posts_are_asked_for_in_the_order_they_came(scrapes: Scrapes) -> None:
    source = scrapes.source
    await scrapes.start("one", "two", "three", "four")
    source.files_may_come.set()
    for _ in range(4):
        source.answer()
    assert await scrapes.outcomes() == [PostNotFound] * 4
    assert source.asked == ["one", "two", "three", "four"]
    assert source.most == 1


async def test_next_post_is_asked_for_while_files_come(scrapes: Scrapes) -> None:
    source = scrapes.source
    await scrapes.start("one", "two")
    source.answer()
    await until(lambda: source.asked == ["one", "two"])
    source.answer()
    source.files_may_come.set()
    assert await scrapes.outcomes() == [PostNotFound] * 2


async def test_second_query_waits_behind_posts_that_came_earlier(scrapes: Scrapes) -> None:
    source = scrapes.source
    await scrapes.start("again", "two", "three")
    source.answer()
    await until(lambda: source.asked == ["again", "two"])
    source.files_may_come.set()
    for _ in range(3):
        source.answer()
    assert await scrapes.outcomes() == [PostNotFound] * 3
    assert source.asked == ["again", "two", "three", "again"]
    assert source.most == 1


async def test_query_that_failed_lets_the_next_post_be_asked_for(scrapes: Scrapes) -> None:
    source = scrapes.source
    await scrapes.start("again", "two")
    source.answer(PostForbidden())
    await until(lambda: source.asked == ["again", "two"])
    source.files_may_come.set()
    source.answer()
    source.answer()
    assert await scrapes.outcomes() == [PostNotFound] * 2
    assert source.asked == ["again", "two", "again"]


async def test_limit_stops_posts_that_wait_for_a_query(scrapes: Scrapes) -> None:
    await scrapes.start("one", "two", "three")
    scrapes.source.answer(RateLimited())
    assert await scrapes.outcomes() == [RateLimited, CoolingDown, CoolingDown]
    assert scrapes.source.asked == ["one"]


async def test_second_query_waits_at_most_until_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.scraping.flight._GRACE", 0.1)
    async with scraping(tmp_path, 3) as scrapes:
        source = scrapes.source
        await scrapes.start("again", "two")
        source.answer()
        source.files_may_come.set()
        # The other one is never answered in time.
        assert await scrapes.outcomes() == [DeadlineExceeded] * 2
        assert source.asked == ["again", "two"]
        source.answer()
