"""One scrape at a time for each post, and a bounded number at once.

The library is asked first, Instagram second, the latter in an executor, and in turn with other
processes where there are some.
"""

import asyncio
import contextvars
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from scrapper.errors import CoolingDown, DeadlineExceeded, RateLimited, ServerFull
from scrapper.library.disk import storing
from scrapper.library.post import Post, Progress
from scrapper.library.publishing import Superseded
from scrapper.library.store import Library
from scrapper.library.stored import StoredPost
from scrapper.links import Link, ShareLink
from scrapper.scraping.peers import Line, Peers
from scrapper.settings import Settings
from scrapper.telemetry.metrics import Metrics

__all__ = ["Scraped", "Scraper"]

log = structlog.get_logger(__name__)


class Source(Protocol):
    """Where posts come from: :class:`~scrapper.instagram.client.Instagram`; blocking."""

    def fetch(
        self, shortcode: str, url: str, folder: Path, deadline: float, progress: Progress
    ) -> Post:
        """Download a post's files into *folder*."""
        ...

    def open_share_link(self, path: str, deadline: float) -> str:
        """The shortcode of the post that a share link leads to."""
        ...


_MAX_SHARE_LINKS = 1024
_GRACE = 2.0


@dataclass(frozen=True, slots=True)
class Scraped:
    """A post, and whether it came from disk with no request to Instagram."""

    stored: StoredPost
    cached: bool


class _Flight:
    """A fetch under way, shared by all who ask for its post meanwhile."""

    def __init__(self, deadline: float, progress: Progress, task: asyncio.Task[Scraped]) -> None:
        self.deadline = deadline
        self.progress = progress
        self._task = task
        # An error is for those who wait. Where they all went away it was logged already, and
        # asyncio need not complain that nobody took it.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def join(self) -> Scraped:
        """Wait for the result; to be cancelled does not end the flight.

        Raises:
            DeadlineExceeded: the worker thread is stuck where no deadline reaches it, in the
                resolver of host names say.
        """
        try:
            async with asyncio.timeout_at(self.deadline + _GRACE):
                return await asyncio.shield(self._task)
        except TimeoutError:
            raise DeadlineExceeded from None

    async def settled(self) -> None:
        """Wait until the flight is over, however it ends."""
        await asyncio.wait([self._task])


class Scraper:
    """Single flight, bounded executor, deadline and cool-down around the *source*.

    At most *concurrency* threads fetch and *queue_limit* further posts wait. A scrape, the
    time in the queue included, has *timeout* seconds. After Instagram's 429 nothing is asked
    of it for as long as it said, or *cooldown* seconds where it did not say. All of this is
    agreed with *peers*, but for the numbers, which each process has for itself.
    """

    def __init__(
        self,
        library: Library,
        source: Source,
        metrics: Metrics,
        peers: Peers,
        *,
        concurrency: int,
        queue_limit: int,
        timeout: float,
        cooldown: float,
    ) -> None:
        self._library = library
        self._source = source
        self._metrics = metrics
        self._peers = peers
        self._timeout = timeout
        self._cooldown = cooldown
        self._cool_at = 0.0
        self._flights: dict[str, _Flight] = {}
        self._shared: dict[ShareLink, str] = {}
        self._opening: dict[ShareLink, asyncio.Task[str]] = {}
        self._most_flights = concurrency + queue_limit
        self._workers = asyncio.Semaphore(concurrency)
        self._executor = ThreadPoolExecutor(concurrency, thread_name_prefix="scrape")
        self._busy = 0
        metrics.busy_threads.set_function(lambda: self._busy)
        metrics.queue_depth.set_function(lambda: len(self._flights) - self._busy)
        metrics.cooldown_active.set_function(lambda: time.monotonic() < self._cool_at)

    @classmethod
    def from_settings(
        cls, settings: Settings, library: Library, source: Source, metrics: Metrics, peers: Peers
    ) -> "Scraper":
        """As the *settings* have it."""
        return cls(
            library,
            source,
            metrics,
            peers,
            concurrency=settings.scrape_concurrency,
            queue_limit=settings.scrape_queue_limit,
            timeout=settings.scrape_timeout_seconds,
            cooldown=settings.instagram_cooldown_seconds,
        )

    @asynccontextmanager
    async def reserve(self, shortcode: str) -> AsyncIterator[bool]:
        """Keep the post from being fetched, by any process, while the block runs.

        False is given where it is being fetched, or waits for it.
        """
        if shortcode in self._flights:
            yield False
            return
        async with self._peers.line(shortcode) as line:
            yield await line.take() is not None

    def progress(self, shortcode: str) -> Progress | None:
        """How far the fetch of the post is; None where none is under way."""
        flight = self._flights.get(shortcode)
        return flight.progress if flight else None

    @property
    def saturated(self) -> bool:
        """Whether a further post would be refused."""
        return len(self._flights) >= self._most_flights

    async def scrape(self, shortcode: str, url: str, *, refresh: bool = False) -> Scraped:
        """Return the post from the library, or fetch and store it.

        With *refresh* it is fetched even when the stored one is fresh. *url* is the post's
        URL as the client has it.

        Raises:
            ScrapeError: one of its subclasses.
            OSError: the post cannot be stored.
        """
        while True:
            flight = self._flights.get(shortcode)
            if flight is None:
                if not refresh and (stored := await self._stored(shortcode)):
                    self._metrics.cache_hits.inc()
                    return stored
                flight = self._flights.get(shortcode)
            if flight is None:
                flight = self._take_off(shortcode, url, refresh)
            else:
                self._metrics.flights_joined.inc()
            scraped = await flight.join()
            if not (refresh and scraped.cached):
                return scraped

    async def shortcode_of(self, link: Link) -> str:
        """The shortcode that *link* names; a share link is opened for it, once for all.

        Raises:
            UnsupportedLink: it leads to something else than a post.
            ScrapeError: one of its subclasses.
        """
        if isinstance(link, str):
            return link
        if known := self._shared.get(link):
            return known
        opening = self._opening.get(link)
        if opening is None:
            self._refuse_while_cooling()
            opening = asyncio.create_task(self._open(link))
            self._opening[link] = opening
            opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(opening)

    async def _open(self, link: ShareLink) -> str:
        deadline = time.monotonic() + self._timeout
        try:
            async with self._worker(deadline), self._heeding_cooldown():
                open_link = partial(self._source.open_share_link, link.path, deadline)
                context, loop = contextvars.copy_context(), asyncio.get_running_loop()
                work = partial(context.run, open_link)
                shortcode = await loop.run_in_executor(self._executor, work)
        finally:
            del self._opening[link]
        self._shared[link] = shortcode
        if len(self._shared) > _MAX_SHARE_LINKS:
            del self._shared[next(iter(self._shared))]
        return shortcode

    async def close(self) -> None:
        """Let what is under way finish, within its deadline."""
        for flight in list(self._flights.values()):
            await flight.settled()
        if self._opening:
            await asyncio.wait(self._opening.values())
        await asyncio.to_thread(self._executor.shutdown)

    async def _stored(self, shortcode: str) -> Scraped | None:
        stored = await self._library.get(shortcode)
        return Scraped(stored, cached=True) if stored and stored.fresh else None

    def _take_off(self, shortcode: str, url: str, refresh: bool) -> _Flight:
        self._refuse_while_cooling()
        now = time.monotonic()
        if self.saturated:
            # By then the one under way for longest is over, whatever happens.
            first = min(flight.deadline for flight in self._flights.values())
            raise ServerFull(retry_after=max(1, math.ceil(first - now)))
        deadline = now + self._timeout
        progress = Progress()
        task = asyncio.create_task(self._fly(shortcode, url, refresh, deadline, progress))
        flight = self._flights[shortcode] = _Flight(deadline, progress, task)
        return flight

    async def _fly(
        self, shortcode: str, url: str, refresh: bool, deadline: float, progress: Progress
    ) -> Scraped:
        try:
            # Another flight may have landed while this one's first reader looked on the disk.
            if not refresh and (stored := await self._stored(shortcode)):
                return stored
            work = partial(self._work, shortcode, url, deadline, progress)
            async with self._peers.line(shortcode) as line:
                return await self._in_turn(line, shortcode, refresh, deadline, work)
        finally:
            del self._flights[shortcode]

    async def _in_turn(
        self,
        line: Line,
        shortcode: str,
        refresh: bool,
        deadline: float,
        work: Callable[[int], Awaitable[StoredPost]],
    ) -> Scraped:
        while True:
            # Who waits for another process keeps no worker waiting.
            async with self._worker(deadline):
                fence = await line.take()
                if fence is not None:
                    # Another process may have had its turn since we looked.
                    if fence and not refresh:
                        self._library.changed(shortcode)
                        if stored := await self._stored(shortcode):
                            return stored
                    with suppress(Superseded):
                        async with self._heeding_cooldown():
                            fetched = await work(fence)
                        line.stored = True
                        return Scraped(fetched, cached=False)
            landed = fence is not None or await line.landed(deadline)
            if landed:
                self._library.changed(shortcode)
                if post := await self._library.get(shortcode):
                    return Scraped(post, cached=False)

    @asynccontextmanager
    async def _worker(self, deadline: float) -> AsyncIterator[None]:
        if time.monotonic() >= deadline:
            raise DeadlineExceeded
        try:
            async with asyncio.timeout_at(deadline):
                await self._workers.acquire()
        except TimeoutError:
            raise DeadlineExceeded from None
        try:
            yield
        finally:
            self._workers.release()

    async def _work(
        self, shortcode: str, url: str, deadline: float, progress: Progress, fence: int
    ) -> StoredPost:
        # The context carries the request ID to the log lines of the thread.
        context, loop = contextvars.copy_context(), asyncio.get_running_loop()
        fetch = partial(self._fetch_and_publish, shortcode, url, deadline, progress, fence)
        work = partial(context.run, fetch)
        self._busy += 1
        try:
            with self._metrics.fetching():
                stored = await loop.run_in_executor(self._executor, work)
        finally:
            self._busy -= 1
            self._metrics.downloaded_bytes.inc(progress.done)
        self._library.changed(shortcode)
        return stored

    def _fetch_and_publish(
        self, shortcode: str, url: str, deadline: float, progress: Progress, fence: int
    ) -> StoredPost:
        with storing():
            folder = self._library.stage(shortcode)
            try:
                post = self._source.fetch(shortcode, url, folder, deadline, progress)
                return self._library.publish(folder, post, fence)
            finally:
                self._library.discard(folder)

    @asynccontextmanager
    async def _heeding_cooldown(self) -> AsyncIterator[None]:
        """Refuse while Instagram is left alone; let it alone after a 429 in the block."""
        left = await self._peers.cooldown_left()
        self._cool_at = max(self._cool_at, time.monotonic() + left)
        self._refuse_while_cooling()
        try:
            yield
        except RateLimited as error:
            if error.retry_after is None:
                error.retry_after = self._cooldown
            if not error.cool_down:
                raise
            self._cool_at = max(self._cool_at, time.monotonic() + error.retry_after)
            log.warning("cooling down", seconds=round(error.retry_after, 1))
            await self._peers.cool_down(error.retry_after)
            raise

    def _refuse_while_cooling(self) -> None:
        left = self._cool_at - time.monotonic()
        if left > 0:
            raise CoolingDown(retry_after=left)
