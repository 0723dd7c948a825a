"""The events of jobs, posts and the login: looked up and written once for all streams."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from operator import itemgetter
from typing import Any, NamedTuple

import orjson
import structlog

from scrapper.errors import ScrapeError
from scrapper.handlers.journal import Journal
from scrapper.jobs.engine import Jobs
from scrapper.jobs.model import Job
from scrapper.library.news import News
from scrapper.tasks import end, in_background

__all__ = ["EventFeed"]

log = structlog.get_logger(__name__)

_SECONDS_BETWEEN_LOOKS = 0.2
_FOLLOWERS_A_SECOND = 1250
_LINGER_SECONDS = 60.0
_MOST_JOBS = 10_000


class EventFeed:
    """Changes of *jobs*, of posts (from *news*), and of what *login* returns, as events.

    The feed polls while anybody follows, and for a minute after that, so that a client that comes
    back can resume. *login* is None if clients may not see it.
    """

    def __init__(self, jobs: Jobs, news: News, login: Callable[[], bytes] | None) -> None:
        self._jobs = jobs
        self._news = news
        self._login = login or bytes
        self._journal = Journal()
        self._changed = asyncio.Event()
        self._followers = 0
        self._left_at = 0.0
        self._starting = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._seen: _Seen | None = None
        # The version of each job that the feed last showed.
        self._shown: dict[str, int] = {}

    async def close(self) -> None:
        """Stop polling."""
        if self._looking is not None:
            await end(self._looking)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Poll for events while the block runs."""
        self._followers += 1
        try:
            async with self._starting:
                if self._looking is None or self._looking.done():
                    self._seen = None
                    await self._try_to_poll()
                    self._looking = in_background(self._poll(), "events")
            yield
        finally:
            self._followers -= 1
            self._left_at = time.monotonic()

    async def after(self, event_id: str, viewer: str | None) -> AsyncGenerator[bytes]:
        """The events after the one with *event_id* that *viewer* may see, as they come.

        A reader that cannot resume there, or that is too slow, gets a ``reset``. *viewer* is the
        name of a key, or None if the client sees everything. The stream ends when the process does.
        """
        place = self._journal.place_of(event_id)
        while True:
            changed = self._changed
            if place is None or not self._journal.goes_on_from(place):
                place = self._journal.last
                yield self._journal.reset()
            while self._journal.goes_on_from(place) and place < self._journal.last:
                piece, place = self._journal.after(place, viewer)
                if piece:
                    yield piece
            if self._jobs.closing:
                return
            if self._journal.goes_on_from(place):
                await changed.wait()

    async def _poll(self) -> None:
        """Poll until nobody has followed for a while, or the process ends."""
        try:
            while not self._jobs.closing and self._is_wanted():
                # A thousand streams must not keep the loop busy.
                pause = _SECONDS_BETWEEN_LOOKS + self._followers / _FOLLOWERS_A_SECOND
                await asyncio.sleep(pause)
                before = self._journal.last
                await self._try_to_poll()
                if self._journal.last != before:
                    self._wake()
        finally:
            self._wake()

    def _is_wanted(self) -> bool:
        return self._followers > 0 or time.monotonic() - self._left_at < _LINGER_SECONDS

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _try_to_poll(self) -> None:
        try:
            self._seen = await (self._begin() if self._seen is None else self._look(self._seen))
        # While Redis is gone nothing new is known, and afterwards something may have been missed.
        except ScrapeError as error:
            if self._seen is not None:
                log.warning("events unavailable for a while", cause=repr(error))
            self._seen = None

    async def _begin(self) -> "_Seen":
        """Note where events begin: earlier changes give none."""
        number, place = (await self._jobs.changed(0)).number, await self._news.place()
        self._shown.clear()
        self._journal.begin_anew()
        return _Seen(number, place, self._login())

    async def _look(self, seen: "_Seen") -> "_Seen":
        """Note the changes after what was *seen*."""
        changes = await self._jobs.changed(seen.number)
        place, posts = await self._news.since(seen.place)
        if changes.number < seen.number or posts is None:
            # Redis lost its data, or more happened than the news keep.
            return await self._begin()
        for shortcode, change in posts:
            self._journal.add("post", orjson.dumps({"shortcode": shortcode, "change": change}))
        for job_id, owner in reversed(changes.jobs):
            self._note_job(job_id, await self._jobs.get(job_id), owner)
        login = self._login()
        if login != seen.login:
            self._journal.add("login", login)
        return _Seen(changes.number, place, login)

    def _note_job(self, job_id: str, job: Job | None, owner: str | None) -> None:
        shown = self._shown.pop(job_id, 0)
        if job is None:
            data: Any = {"id": job_id, "forgotten": True}
        else:
            data = job.to_response()
            changes = (change for _, change in job.changes(shown))
            data.posts = sorted(changes, key=itemgetter("index"))
            self._shown[job_id] = job.version
            if len(self._shown) > _MOST_JOBS:
                del self._shown[next(iter(self._shown))]
        self._journal.add("job", orjson.dumps(data), private=True, owner=owner)


class _Seen(NamedTuple):
    """How far the feed has looked: at jobs, at posts, and at the login."""

    number: int
    place: str
    login: bytes
