"""Scrapes posts, with single flight, a bounded number of threads, and a deadline for each scrape.

A post that is not in the library is downloaded from Instagram in a thread. If there are other
processes, the download waits for its turn.
"""

import asyncio
import contextvars
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from scrapper.errors import (
    CoolingDown,
    DeadlineExceeded,
    MediaTooLarge,
    PostNotFound,
    RateLimited,
    ScrapeError,
    ServerFull,
)
from scrapper.library.disk import converting_disk_errors
from scrapper.library.post import Fetch, Post, Preference, Progress
from scrapper.library.publishing import Superseded
from scrapper.library.store import Library
from scrapper.library.stored import StoredPost
from scrapper.links import Link, ShareLink
from scrapper.scraping.flight import Flight, Scraped
from scrapper.scraping.peers import Peers, TurnQueue
from scrapper.scraping.refusals import Refusals
from scrapper.scraping.slots import Slot, Slots
from scrapper.settings import Settings
from scrapper.telemetry.metrics import Metrics

__all__ = ["QueryGate", "Scraped", "Scraper"]

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

QueryGate = Callable[[], AbstractContextManager[None]]
"""Returns a context manager. Instagram may be queried only within the manager's ``with`` block."""


class Source(Protocol):
    """A blocking source of posts, such as :class:`~scrapper.instagram.client.Instagram`."""

    def fetch(self, fetch: Fetch, folder: Path, *, query_gate: QueryGate) -> Post:
        """Download a post's files into *folder*. Query Instagram only in ``with query_gate()``."""
        ...

    def open_share_link(self, path: str, deadline: float) -> str:
        """Return the shortcode of the post that a share link leads to."""
        ...


_ANY = Preference()
_MAX_SHARE_LINKS = 1024
_MAX_RETRY_TIMES = 1024


class Scraper:
    """Scrapes posts from *source* with single flight, bounded threads, deadlines and cool-downs.

    At most *queries* posts query Instagram at a time, while up to *downloads* others download their
    files. At most *queries* + *queue_limit* posts may be downloading or waiting at a time; further
    posts are refused. A scrape may take up to *timeout* seconds, including the time spent waiting.
    A limit set by Instagram begins a cool-down, which lasts as long as Instagram demands, or
    *cooldown* seconds if Instagram states no time. Turns and cool-downs are shared through *peers*,
    but each process has its own threads and queue. Limits and answers are recorded in
    *refusals*.
    """

    def __init__(
        self,
        library: Library,
        source: Source,
        metrics: Metrics,
        peers: Peers,
        *,
        queries: int,
        downloads: int,
        queue_limit: int,
        timeout: float,
        cooldown: float,
        refusals: Refusals | None = None,
    ) -> None:
        self._library = library
        self._source = source
        self._metrics = metrics
        self._peers = peers
        self._timeout = timeout
        self._cooldown = cooldown
        self._refusals = refusals
        self._cooldown_until = 0.0
        self._flights: dict[str, Flight] = {}
        self._retry_at: dict[str, float] = {}
        self._opened_links: dict[ShareLink, str] = {}
        self._opening: dict[ShareLink, asyncio.Task[str]] = {}
        self._max_flights = queries + queue_limit
        self._slots = Slots(queries)
        threads = queries + downloads
        self._threads = asyncio.Semaphore(threads)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="scrape")
        self._busy = 0
        metrics.busy_threads.set_function(lambda: self._busy - self._slots.waiting)
        metrics.queue_depth.set_function(
            lambda: len(self._flights) - self._busy + self._slots.waiting
        )
        metrics.cooldown_active.set_function(lambda: time.monotonic() < self._cooldown_until)

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        library: Library,
        source: Source,
        metrics: Metrics,
        peers: Peers,
        *,
        refusals: Refusals | None = None,
    ) -> "Scraper":
        """Return a scraper with the bounds of *settings*."""
        return cls(
            library,
            source,
            metrics,
            peers,
            queries=settings.scrape_concurrency,
            downloads=settings.max_downloads,
            queue_limit=settings.scrape_queue_limit,
            timeout=settings.scrape_timeout_seconds,
            cooldown=settings.instagram_cooldown_seconds,
            refusals=refusals,
        )

    @asynccontextmanager
    async def reserve(self, shortcode: str) -> AsyncIterator[bool]:
        """Prevent all processes from downloading the post for the duration of the block.

        Yield True if that succeeded, or False if a download of the post is running or queued.
        """
        if shortcode in self._flights:
            yield False
            return
        async with self._peers.queue_for(shortcode) as queue:
            yield await queue.take_turn() is not None

    def progress(self, shortcode: str) -> Progress | None:
        """Return the progress of the post's download, or None if no download is running."""
        flight = self._flights.get(shortcode)
        return flight.fetch.progress if flight else None

    async def has(self, shortcode: str, preference: Preference = _ANY) -> bool:
        """Return whether :meth:`scrape` would return the post from disk.

        That is the case if there is a stored post that is fresh and satisfies the *preference*, or
        a stored post for which Instagram must not be queried now.
        """
        return await self._stored(shortcode, preference) is not None

    @property
    def saturated(self) -> bool:
        """Whether the next post would be refused."""
        return len(self._flights) >= self._max_flights

    async def scrape(
        self,
        shortcode: str,
        url: str,
        *,
        refresh: bool = False,
        keep: bool = False,
        preference: Preference = _ANY,
    ) -> Scraped:
        """Return the post from the library if it satisfies *preference*, or else download it.

        If the download fails, a stored post is returned even if it is stale or does not satisfy the
        *preference*. Instagram is then not queried for the post until the error's ``retry_after``
        seconds have passed, or *cooldown* seconds if the error has none. The stored post is not
        returned if both the new files and the stored ones are too large. In that case,
        :class:`~scrapper.errors.MediaTooLarge` is raised.

        With *refresh*, the post is downloaded even if the stored one is fresh, and any error is
        raised. With *keep*, sweeps no longer remove the post. *url* is the URL that the client
        sent.

        Raises:
            ScrapeError: the post cannot be downloaded.
            OSError: the post cannot be stored.
        """
        while True:
            scraped = await self._scrape(shortcode, url, refresh, preference)
            within = scraped.stored.within(preference.max_bytes, self._library.root)
            scraped = replace(scraped, stored=within)
            if not keep or scraped.stored.kept:
                return scraped
            if await self._library.keep(shortcode):
                return replace(scraped, stored=replace(scraped.stored, kept=True))
            # The post was removed in the meantime, so scrape it again.

    async def _scrape(
        self, shortcode: str, url: str, refresh: bool, preference: Preference
    ) -> Scraped:
        while True:
            flight = self._flights.get(shortcode)
            if flight is None:
                if not refresh and (stored := await self._stored(shortcode, preference)):
                    self._metrics.cache_hits.inc()
                    return stored
                flight = self._flights.get(shortcode)
            same_preference = flight is None or flight.fetch.preference == preference
            try:
                if flight is None:
                    flight = self._start_flight(shortcode, url, refresh, preference)
                else:
                    self._metrics.flights_joined.inc()
                scraped = await flight.join()
            except Exception as error:
                # If the flight is still listed, its thread is stuck, and no other flight can start.
                if not same_preference and self._flights.get(shortcode) is not flight:
                    continue
                stale = None if refresh else await self._library.get(shortcode)
                too_large = isinstance(error, MediaTooLarge)
                if stale is None or (too_large and not stale.post.fits(preference.max_bytes)):
                    raise
                self._postpone_refresh(error, shortcode)
                self._metrics.cache_hits.inc()
                return _from_disk(stale, preference)
            if refresh and scraped.cached:
                continue
            if same_preference or scraped.stored.post.satisfies(preference):
                return scraped

    def _postpone_refresh(self, error: Exception, shortcode: str) -> None:
        """Postpone the next attempt because of *error*, and log that the post is stale."""
        is_expected = isinstance(error, ScrapeError | OSError)
        log.warning(
            "stale post returned",
            shortcode=shortcode,
            outcome=type(error).__name__,
            exc_info=None if is_expected else error,
        )
        wait = error.retry_after if isinstance(error, ScrapeError) else None
        self._retry_at[shortcode] = time.monotonic() + (self._cooldown if wait is None else wait)
        if len(self._retry_at) > _MAX_RETRY_TIMES:
            del self._retry_at[next(iter(self._retry_at))]

    async def shortcode_of(self, link: Link) -> str:
        """Return the shortcode of the post that *link* leads to.

        Concurrent calls for the same share link open it only once.

        Raises:
            UnsupportedLink: the link leads to something other than a post.
            ScrapeError: the share link cannot be opened.
        """
        if isinstance(link, str):
            return link
        if known := self._opened_links.get(link):
            return known
        opening = self._opening.get(link)
        if opening is None:
            self._refuse_while_cooling()
            opening = asyncio.create_task(self._open_share_link(link))
            self._opening[link] = opening
            opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(opening)

    async def _open_share_link(self, link: ShareLink) -> str:
        deadline = time.monotonic() + self._timeout

        def work(query_gate: QueryGate) -> str:
            with query_gate():
                return self._source.open_share_link(link.path, deadline)

        try:
            async with self._thread(deadline):
                shortcode = await self._run_in_thread(work, deadline)
        finally:
            del self._opening[link]
        self._opened_links[link] = shortcode
        if len(self._opened_links) > _MAX_SHARE_LINKS:
            del self._opened_links[next(iter(self._opened_links))]
        return shortcode

    async def abort(self) -> None:
        """End all flights and release their turns. Their threads can no longer store anything."""
        for flight in list(self._flights.values()):
            await flight.abort()

    async def close(self) -> None:
        """Wait for the running downloads, which end by their deadlines."""
        for flight in list(self._flights.values()):
            await flight.wait()
        if self._opening:
            await asyncio.wait(self._opening.values())
        await asyncio.to_thread(self._executor.shutdown)

    async def _stored(self, shortcode: str, preference: Preference) -> Scraped | None:
        stored = await self._library.get(shortcode)
        if stored is None:
            return None
        retry_at = max(self._cooldown_until, self._retry_at.get(shortcode, 0.0))
        usable = stored.fresh and stored.post.satisfies(preference)
        return _from_disk(stored, preference) if usable or time.monotonic() < retry_at else None

    def _start_flight(
        self, shortcode: str, url: str, refresh: bool, preference: Preference
    ) -> Flight:
        self._refuse_while_cooling()
        now = time.monotonic()
        if self.saturated:
            # The flight with the earliest deadline will have ended by that deadline.
            first = min(flight.fetch.deadline for flight in self._flights.values())
            raise ServerFull(retry_after=max(1, math.ceil(first - now)))
        fetch = Fetch(shortcode, url, now + self._timeout, preference=preference)
        task = asyncio.create_task(self._run_flight(fetch, refresh))
        flight = self._flights[shortcode] = Flight(fetch, task)
        return flight

    async def _run_flight(self, fetch: Fetch, refresh: bool) -> Scraped:
        shortcode = fetch.shortcode
        try:
            # Another flight may have stored the post while this one read the disk.
            if not refresh and (stored := await self._stored(shortcode, fetch.preference)):
                return stored
            async with self._peers.queue_for(shortcode) as queue:
                return await self._download_in_turn(queue, fetch, refresh)
        finally:
            del self._flights[shortcode]

    async def _download_in_turn(self, queue: TurnQueue, fetch: Fetch, refresh: bool) -> Scraped:
        shortcode = fetch.shortcode
        while True:
            # While a flight waits for another process, it must not hold a thread.
            async with self._thread(fetch.deadline):
                fence = await queue.take_turn()
                if fence is not None:
                    # Another process may have stored the post in the meantime.
                    if fence and not refresh:
                        self._library.changed(shortcode, None)
                        if stored := await self._stored(shortcode, fetch.preference):
                            return stored
                    with suppress(Superseded):
                        fetched = await self._download(fetch, fence)
                        queue.stored = True
                        return Scraped(fetched, cached=False)
            may_be_stored = fence is not None or await queue.wait_for_holder(fetch.deadline)
            if may_be_stored:
                self._library.changed(shortcode, None)
                post = await self._library.get(shortcode)
                if post and post.post.satisfies(fetch.preference):
                    return Scraped(post, cached=False)

    @asynccontextmanager
    async def _thread(self, deadline: float) -> AsyncIterator[None]:
        """Reserve a thread for the duration of the block."""
        if time.monotonic() >= deadline:
            raise DeadlineExceeded
        try:
            async with asyncio.timeout_at(deadline):
                await self._threads.acquire()
        except TimeoutError:
            raise DeadlineExceeded from None
        try:
            yield
        finally:
            self._threads.release()

    async def _download(self, fetch: Fetch, fence: int) -> StoredPost:
        self._busy += 1
        try:
            with self._metrics.fetching():
                stored = await self._run_in_thread(
                    partial(self._fetch_and_publish, fetch, fence), fetch.deadline
                )
        finally:
            self._busy -= 1
            self._metrics.downloaded_bytes.inc(fetch.progress.done)
        self._retry_at.pop(fetch.shortcode, None)
        self._library.published(stored)
        return stored

    async def _run_in_thread(self, work: Callable[[QueryGate], Result], deadline: float) -> Result:
        """Call *work* with a :data:`QueryGate` in a thread, and return the result."""
        # The context carries the request ID to the thread's log lines.
        context, loop = contextvars.copy_context(), asyncio.get_running_loop()
        with self._slots.queue(deadline) as slot:
            query_gate = partial(self._querying, slot, loop)
            async with self._recording_limits():
                return await loop.run_in_executor(self._executor, context.run, work, query_gate)

    @contextmanager
    def _querying(self, slot: Slot, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Hold the *slot* for the duration of the block. Call this in a thread.

        Raises:
            CoolingDown: a cool-down has begun.
            DeadlineExceeded: the slot was not free in time, or the flight was aborted.
        """
        with slot.held():
            if self._peers.shared:
                asyncio.run_coroutine_threadsafe(self._adopt_cooldown(), loop).result()
            self._refuse_while_cooling()
            yield

    def _fetch_and_publish(self, fetch: Fetch, fence: int, query_gate: QueryGate) -> StoredPost:
        with converting_disk_errors():
            folder = self._library.stage(fetch.shortcode)
            try:
                post = self._source.fetch(fetch, folder, query_gate=query_gate)
                return self._library.publish(folder, post, fence)
            except FileNotFoundError:
                # The disk may have been unplugged during the download.
                self._library.check()
                raise
            finally:
                self._library.discard(folder)

    async def _adopt_cooldown(self) -> None:
        """Adopt the cool-down of another process, if there is one."""
        left = await self._peers.cooldown_left()
        self._cooldown_until = max(self._cooldown_until, time.monotonic() + left)

    @asynccontextmanager
    async def _recording_limits(self) -> AsyncIterator[None]:
        """Begin a cool-down if the block raises RateLimited, and record limits and answers."""
        try:
            yield
        except CoolingDown:
            raise
        except RateLimited as error:
            if error.retry_after is None:
                error.retry_after = self._cooldown
            if not error.cool_down:
                raise
            self._cooldown_until = max(self._cooldown_until, time.monotonic() + error.retry_after)
            log.warning("cooling down", seconds=round(error.retry_after, 1))
            await self._peers.cool_down(error.retry_after)
            if self._refusals:
                await self._refusals.record_limit(error.retry_after)
            raise
        except PostNotFound:
            await self._record_answer()
            raise
        await self._record_answer()

    async def _record_answer(self) -> None:
        if self._refusals:
            await self._refusals.record_answer()

    def _refuse_while_cooling(self) -> None:
        left = self._cooldown_until - time.monotonic()
        if left > 0:
            raise CoolingDown(retry_after=left)


def _from_disk(stored: StoredPost, preference: Preference) -> Scraped:
    """Return the stored post, marked as stale if it does not satisfy the *preference*."""
    satisfied = stored.post.satisfies(preference)
    return Scraped(stored if satisfied else replace(stored, fresh_until=0.0), cached=True)
