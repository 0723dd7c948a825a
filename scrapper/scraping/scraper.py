"""Single flight, a bounded number of threads, and a deadline for every scrape.

The library is asked first, Instagram second. Instagram is asked in a thread, and in turn with
other processes if there are any.
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
from scrapper.library.disk import storing
from scrapper.library.post import Fetch, Post, Progress, Wish
from scrapper.library.publishing import Superseded
from scrapper.library.store import Library
from scrapper.library.stored import StoredPost
from scrapper.links import Link, ShareLink
from scrapper.scraping.flight import Flight, Scraped
from scrapper.scraping.peers import Line, Peers
from scrapper.scraping.refusals import Refusals
from scrapper.scraping.slots import Slot, Slots
from scrapper.settings import Settings
from scrapper.telemetry.metrics import Metrics

__all__ = ["Asking", "Scraped", "Scraper"]

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

Asking = Callable[[], AbstractContextManager[None]]
"""Makes the blocks in which Instagram may be queried."""


class Source(Protocol):
    """The source of posts: :class:`~scrapper.instagram.client.Instagram`; blocking."""

    def fetch(self, fetch: Fetch, folder: Path, *, asking: Asking) -> Post:
        """Download a post's files into *folder*; query Instagram only in blocks of *asking*."""
        ...

    def open_share_link(self, path: str, deadline: float) -> str:
        """The shortcode of the post that a share link leads to."""
        ...


_ANY = Wish()
_MAX_SHARE_LINKS = 1024
_MOST_PUT_OFF = 1024


class Scraper:
    """Single flight, bounded executor, deadline and cool-down around the *source*.

    At most *queries* posts are looked up at a time, and *downloads* more can have their files
    downloaded. Beyond *queries* posts, *queue_limit* may download or wait. A scrape has
    *timeout* seconds, including its wait. After a limit of Instagram's, Instagram is left alone
    for as long as it said, or for *cooldown* seconds if it did not say. The *peers* share turns
    and cool-downs; each process has its own threads and queue. The *refusals* are kept up to date.
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
        self._cool_at = 0.0
        self._flights: dict[str, Flight] = {}
        self._put_off: dict[str, float] = {}
        self._shared: dict[ShareLink, str] = {}
        self._opening: dict[ShareLink, asyncio.Task[str]] = {}
        self._most_flights = queries + queue_limit
        self._slots = Slots(queries)
        threads = queries + downloads
        self._threads = asyncio.Semaphore(threads)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="scrape")
        self._busy = 0
        metrics.busy_threads.set_function(lambda: self._busy - self._slots.waiting)
        metrics.queue_depth.set_function(
            lambda: len(self._flights) - self._busy + self._slots.waiting
        )
        metrics.cooldown_active.set_function(lambda: time.monotonic() < self._cool_at)

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
        """The scraper that *settings* describe."""
        return cls(
            library,
            source,
            metrics,
            peers,
            queries=settings.scrape_concurrency,
            downloads=settings.files_at_once,
            queue_limit=settings.scrape_queue_limit,
            timeout=settings.scrape_timeout_seconds,
            cooldown=settings.instagram_cooldown_seconds,
            refusals=refusals,
        )

    @asynccontextmanager
    async def reserve(self, shortcode: str) -> AsyncIterator[bool]:
        """Keep every process from downloading the post while the block runs.

        Yield False if a download of the post is under way, or waits.
        """
        if shortcode in self._flights:
            yield False
            return
        async with self._peers.line(shortcode) as line:
            yield await line.take_turn() is not None

    def progress(self, shortcode: str) -> Progress | None:
        """The progress of the post's download; None if none is under way."""
        flight = self._flights.get(shortcode)
        return flight.fetch.progress if flight else None

    async def has(self, shortcode: str, wish: Wish = _ANY) -> bool:
        """Whether :meth:`scrape` would return the post from disk.

        Either it is fresh and as wished, or Instagram must not be asked for it now.
        """
        return await self._stored(shortcode, wish) is not None

    @property
    def saturated(self) -> bool:
        """Whether the next post would be refused."""
        return len(self._flights) >= self._most_flights

    async def scrape(
        self,
        shortcode: str,
        url: str,
        *,
        refresh: bool = False,
        keep: bool = False,
        wish: Wish = _ANY,
    ) -> Scraped:
        """Return the post that fits the *wish* from the library, or download and store it.

        If a stored post is stale or not as wished, and cannot be downloaded again, it is returned
        all the same, and Instagram is not asked for it again for as long as the error said, or for
        the cool-down. The one exception is a post that is larger than wished, and of which no
        smaller file exists. With *refresh* the post is downloaded even if the stored one is fresh,
        or the error is raised. With *keep* sweeps leave the post alone from now on. *url* is the
        URL as the client sent it.

        Raises:
            ScrapeError: one of its subclasses.
            OSError: the post cannot be stored.
        """
        while True:
            scraped = await self._scrape(shortcode, url, refresh, wish)
            within = scraped.stored.within(wish.max_bytes, self._library.root)
            scraped = replace(scraped, stored=within)
            if not keep or scraped.stored.kept:
                return scraped
            # Otherwise the post was removed meanwhile.
            if await self._library.keep(shortcode):
                return replace(scraped, stored=replace(scraped.stored, kept=True))

    async def _scrape(self, shortcode: str, url: str, refresh: bool, wish: Wish) -> Scraped:
        while True:
            flight = self._flights.get(shortcode)
            if flight is None:
                if not refresh and (stored := await self._stored(shortcode, wish)):
                    self._metrics.cache_hits.inc()
                    return stored
                flight = self._flights.get(shortcode)
            same_wish = flight is None or flight.fetch.wish == wish
            try:
                if flight is None:
                    flight = self._take_off(shortcode, url, refresh, wish)
                else:
                    self._metrics.flights_joined.inc()
                scraped = await flight.join()
            except Exception as error:
                if not same_wish:
                    continue
                stale = None if refresh else await self._library.get(shortcode)
                too_large = isinstance(error, MediaTooLarge)
                if stale is None or (too_large and not stale.post.fits(wish.max_bytes)):
                    raise
                self._postpone_refresh(error, shortcode)
                self._metrics.cache_hits.inc()
                return _from_disk(stale, wish)
            if refresh and scraped.cached:
                continue
            if same_wish or scraped.stored.post.satisfies(wish):
                return scraped

    def _postpone_refresh(self, error: Exception, shortcode: str) -> None:
        """Return the post from disk for a while: another try would meet the same *error*."""
        known_fault = isinstance(error, ScrapeError | OSError)
        log.warning(
            "stale post returned",
            shortcode=shortcode,
            outcome=type(error).__name__,
            exc_info=None if known_fault else error,
        )
        wait = error.retry_after if isinstance(error, ScrapeError) else None
        self._put_off[shortcode] = time.monotonic() + (self._cooldown if wait is None else wait)
        if len(self._put_off) > _MOST_PUT_OFF:
            del self._put_off[next(iter(self._put_off))]

    async def shortcode_of(self, link: Link) -> str:
        """The shortcode that *link* names. A share link is opened once for all who ask.

        Raises:
            UnsupportedLink: the link leads to something other than a post.
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

        def work(asking: Asking) -> str:
            with asking():
                return self._source.open_share_link(link.path, deadline)

        try:
            async with self._thread(deadline):
                shortcode = await self._ask(work, deadline)
        finally:
            del self._opening[link]
        self._shared[link] = shortcode
        if len(self._shared) > _MAX_SHARE_LINKS:
            del self._shared[next(iter(self._shared))]
        return shortcode

    async def break_off(self) -> None:
        """End the flights: others may take the turns, and what the threads store is refused."""
        for flight in list(self._flights.values()):
            await flight.break_off()

    async def close(self) -> None:
        """Wait for the downloads under way; each ends within its deadline."""
        for flight in list(self._flights.values()):
            await flight.settled()
        if self._opening:
            await asyncio.wait(self._opening.values())
        await asyncio.to_thread(self._executor.shutdown)

    async def _stored(self, shortcode: str, wish: Wish) -> Scraped | None:
        stored = await self._library.get(shortcode)
        if stored is None:
            return None
        put_off_until = max(self._cool_at, self._put_off.get(shortcode, 0.0))
        usable = stored.fresh and stored.post.satisfies(wish)
        return _from_disk(stored, wish) if usable or time.monotonic() < put_off_until else None

    def _take_off(self, shortcode: str, url: str, refresh: bool, wish: Wish) -> Flight:
        self._refuse_while_cooling()
        now = time.monotonic()
        if self.saturated:
            # By then the oldest flight is over in any case.
            first = min(flight.fetch.deadline for flight in self._flights.values())
            raise ServerFull(retry_after=max(1, math.ceil(first - now)))
        fetch = Fetch(shortcode, url, now + self._timeout, wish=wish)
        task = asyncio.create_task(self._run_flight(fetch, refresh))
        flight = self._flights[shortcode] = Flight(fetch, task)
        return flight

    async def _run_flight(self, fetch: Fetch, refresh: bool) -> Scraped:
        shortcode = fetch.shortcode
        try:
            # Another flight may have ended while this one looked at the disk.
            if not refresh and (stored := await self._stored(shortcode, fetch.wish)):
                return stored
            async with self._peers.line(shortcode) as line:
                return await self._in_turn(line, fetch, refresh)
        finally:
            del self._flights[shortcode]

    async def _in_turn(self, line: Line, fetch: Fetch, refresh: bool) -> Scraped:
        shortcode = fetch.shortcode
        while True:
            # A flight that waits for another process occupies no thread.
            async with self._thread(fetch.deadline):
                fence = await line.take_turn()
                if fence is not None:
                    # Another process may have stored the post since we looked.
                    if fence and not refresh:
                        self._library.changed(shortcode, None)
                        if stored := await self._stored(shortcode, fetch.wish):
                            return stored
                    with suppress(Superseded):
                        fetched = await self._work(fetch, fence)
                        line.stored = True
                        return Scraped(fetched, cached=False)
            landed = fence is not None or await line.wait_for_other(fetch.deadline)
            if landed:
                self._library.changed(shortcode, None)
                post = await self._library.get(shortcode)
                if post and post.post.satisfies(fetch.wish):
                    return Scraped(post, cached=False)

    @asynccontextmanager
    async def _thread(self, deadline: float) -> AsyncIterator[None]:
        """Occupy a thread while the block runs."""
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

    async def _work(self, fetch: Fetch, fence: int) -> StoredPost:
        self._busy += 1
        try:
            with self._metrics.fetching():
                stored = await self._ask(
                    partial(self._fetch_and_publish, fetch, fence), fetch.deadline
                )
        finally:
            self._busy -= 1
            self._metrics.downloaded_bytes.inc(fetch.progress.done)
        self._put_off.pop(fetch.shortcode, None)
        self._library.published(stored)
        return stored

    async def _ask(self, work: Callable[[Asking], Result], deadline: float) -> Result:
        """The result of *work*, run in a thread; *work* gets an :data:`Asking`."""
        # The context carries the request ID into the thread's log lines.
        context, loop = contextvars.copy_context(), asyncio.get_running_loop()
        with self._slots.queue(deadline) as slot:
            asking = partial(self._asking, slot, loop)
            async with self._noting_limits():
                return await loop.run_in_executor(self._executor, context.run, work, asking)

    @contextmanager
    def _asking(self, slot: Slot, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Run the block, in a thread, once the post has its slot, unless a cool-down began."""
        with slot.asking():
            if self._peers.shared:
                asyncio.run_coroutine_threadsafe(self._look_at_peers(), loop).result()
            self._refuse_while_cooling()
            yield

    def _fetch_and_publish(self, fetch: Fetch, fence: int, asking: Asking) -> StoredPost:
        with storing():
            folder = self._library.stage(fetch.shortcode)
            try:
                post = self._source.fetch(fetch, folder, asking=asking)
                return self._library.publish(folder, post, fence)
            except FileNotFoundError:
                # The disk may have been unplugged during the download.
                self._library.check()
                raise
            finally:
                self._library.discard(folder)

    async def _look_at_peers(self) -> None:
        """Take over the cool-down of another process."""
        left = await self._peers.cooldown_left()
        self._cool_at = max(self._cool_at, time.monotonic() + left)

    @asynccontextmanager
    async def _noting_limits(self) -> AsyncIterator[None]:
        """Begin a cool-down if the block meets a limit."""
        try:
            yield
        except CoolingDown:
            raise
        except RateLimited as error:
            if error.retry_after is None:
                error.retry_after = self._cooldown
            if not error.cool_down:
                raise
            self._cool_at = max(self._cool_at, time.monotonic() + error.retry_after)
            log.warning("cooling down", seconds=round(error.retry_after, 1))
            await self._peers.cool_down(error.retry_after)
            if self._refusals:
                await self._refusals.note_limit(error.retry_after)
            raise
        except PostNotFound:
            await self._note_answer()
            raise
        await self._note_answer()

    async def _note_answer(self) -> None:
        if self._refusals:
            await self._refusals.note_answer()

    def _refuse_while_cooling(self) -> None:
        left = self._cool_at - time.monotonic()
        if left > 0:
            raise CoolingDown(retry_after=left)


def _from_disk(stored: StoredPost, wish: Wish) -> Scraped:
    """The stored post, marked as stale if it is not as wished."""
    as_wished = stored.post.satisfies(wish)
    return Scraped(stored if as_wished else replace(stored, fresh_until=0.0), cached=True)
