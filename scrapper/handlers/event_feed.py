"""The events of ``GET /events``, each rendered only once for all streams."""

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
from scrapper.library.post_changes import PostChanges
from scrapper.tasks import end, in_background

__all__ = ["EventFeed"]

log = structlog.get_logger(__name__)

_POLL_SECONDS = 0.2
_FOLLOWERS_PER_SECOND = 1250
_LINGER_SECONDS = 60.0
_MAX_JOBS = 10_000


class EventFeed:
    """The feed of changes to *jobs*, to stored posts and to the login.

    The feed polls while it has followers and for a minute afterwards, so that a client that
    reconnects can resume. It reads changes to posts from *post_changes*. *login* returns the state
    of the login as JSON, or is None if clients may not see it.
    """

    def __init__(
        self, jobs: Jobs, post_changes: PostChanges, login: Callable[[], bytes] | None
    ) -> None:
        self._jobs = jobs
        self._post_changes = post_changes
        self._login = login or bytes
        self._journal = Journal()
        self._changed = asyncio.Event()
        self._followers = 0
        self._left_at = 0.0
        self._starting = asyncio.Lock()
        self._polling: asyncio.Task[None] | None = None
        self._position: _Position | None = None
        # The version that each job had in its latest event.
        self._job_versions: dict[str, int] = {}

    async def close(self) -> None:
        """Stop polling."""
        if self._polling is not None:
            await end(self._polling)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Poll for events while the block runs."""
        self._followers += 1
        try:
            async with self._starting:
                if self._polling is None or self._polling.done():
                    self._position = None
                    await self._try_to_poll()
                    self._polling = in_background(self._poll(), "events")
            yield
        finally:
            self._followers -= 1
            self._left_at = time.monotonic()

    async def after(self, event_id: str, viewer: str | None) -> AsyncGenerator[bytes]:
        """Yield the events after *event_id* as they occur, except those that *viewer* may not see.

        A reader that is too slow, or that cannot resume after *event_id*, gets a ``reset``.
        *viewer* is the name of a key or of a signed-in user, or None if the client sees everything.
        The stream ends at shutdown.
        """
        number = self._journal.number_of(event_id)
        while True:
            changed = self._changed
            if number is None or not self._journal.can_resume_after(number):
                number = self._journal.last
                yield self._journal.reset()
            while self._journal.can_resume_after(number) and number < self._journal.last:
                piece, number = self._journal.after(number, viewer)
                if piece:
                    yield piece
            if self._jobs.closing:
                return
            if self._journal.can_resume_after(number):
                await changed.wait()

    async def _poll(self) -> None:
        """Poll until the feed has had no followers for a minute, or the service shuts down."""
        try:
            while not self._jobs.closing and self._is_needed():
                # With many followers, poll less often, so that they do not saturate the event loop.
                await asyncio.sleep(_POLL_SECONDS + self._followers / _FOLLOWERS_PER_SECOND)
                before = self._journal.last
                await self._try_to_poll()
                if self._journal.last != before:
                    self._wake()
        finally:
            self._wake()

    def _is_needed(self) -> bool:
        return self._followers > 0 or time.monotonic() - self._left_at < _LINGER_SECONDS

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _try_to_poll(self) -> None:
        try:
            if self._position is None:
                self._position = await self._start()
            else:
                self._position = await self._advance(self._position)
        # While Redis is down, changes cannot be read, and some may be lost.
        except ScrapeError as error:
            if self._position is not None:
                log.warning("events temporarily unavailable", cause=repr(error))
            self._position = None

    async def _start(self) -> "_Position":
        """Restart the journal, and return the current position; earlier changes cause no events."""
        number, place = (await self._jobs.changed(0)).number, await self._post_changes.place()
        self._job_versions.clear()
        self._journal.restart()
        return _Position(number, place, self._login())

    async def _advance(self, position: "_Position") -> "_Position":
        """Add the changes after *position* to the journal; return the new position."""
        changes = await self._jobs.changed(position.number)
        place, posts = await self._post_changes.since(position.place)
        if changes.number < position.number or posts is None:
            # Redis lost its data, or more changes occurred than Redis stores.
            return await self._start()
        for shortcode, change in posts:
            self._journal.add("post", orjson.dumps({"shortcode": shortcode, "change": change}))
        for job_id, owner in reversed(changes.jobs):
            self._add_job(job_id, await self._jobs.get(job_id), owner)
        login = self._login()
        if login != position.login:
            self._journal.add("login", login)
        return _Position(changes.number, place, login)

    def _add_job(self, job_id: str, job: Job | None, owner: str | None) -> None:
        version = self._job_versions.pop(job_id, 0)
        if job is None:
            data: Any = {"id": job_id, "forgotten": True}
        else:
            data = job.to_response()
            changes = (change for _, change in job.changes(version))
            data.posts = sorted(changes, key=itemgetter("index"))
            self._job_versions[job_id] = job.version
            if len(self._job_versions) > _MAX_JOBS:
                del self._job_versions[next(iter(self._job_versions))]
        self._journal.add("job", orjson.dumps(data), private=True, owner=owner)


class _Position(NamedTuple):
    """The feed's positions in the changes to jobs and posts, and the login's last known state."""

    number: int
    place: str
    login: bytes
