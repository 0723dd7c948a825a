"""The events of ``GET /jobs/{id}/events``, each rendered only once for all streams of a job."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import orjson

from scrapper.handlers.journal import Pieces, event
from scrapper.jobs.engine import Jobs
from scrapper.jobs.model import Job
from scrapper.tasks import end, in_background

__all__ = ["JobFeeds"]

_POLL_SECONDS = 0.2
_FOLLOWERS_PER_SECOND = 2500


class JobFeeds:
    """The event feeds of *jobs*: one for each job with followers."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._feeds: dict[str, _Feed] = {}

    @asynccontextmanager
    async def following(self, job: Job) -> AsyncIterator["_Feed"]:
        """Yield the feed of *job*, which polls while the job has followers."""
        feed = self._feeds.get(job.id)
        if feed is None:
            feed = self._feeds[job.id] = _Feed(self._jobs, job)
        feed.followers += 1
        try:
            yield feed
        finally:
            feed.followers -= 1
            if not feed.followers:
                # The job may still be running. A client that reconnects gets a new feed.
                self._feeds.pop(job.id, None)
                await end(feed.polling)


class _Feed:
    """The events of one job, rendered for its streams."""

    def __init__(self, jobs: Jobs, job: Job) -> None:
        self._jobs = jobs
        self._job = job
        self._changed = asyncio.Event()
        # The pieces rendered since the last change.
        self._pieces = Pieces()
        self._last = b""
        self._ended = False
        self.followers = 0
        self.polling = in_background(self._poll(), f"events of job {job.id}")

    async def _poll(self) -> None:
        """Poll the job until it ends or is removed, or the service shuts down."""
        try:
            # With many followers, poll less often, so that they do not saturate the event loop.
            async for job in self._jobs.follow(
                self._job, lambda: _POLL_SECONDS + self.followers / _FOLLOWERS_PER_SECOND
            ):
                if job.state == "running":
                    self._wake()
                else:
                    self._last = event("end", orjson.dumps(job.to_response()))
        finally:
            self._ended = True
            self._wake()

    async def after(self, seen: int) -> AsyncGenerator[bytes]:
        """Yield the job's events after version *seen* as they occur, up to its last event."""
        while True:
            changed, ended = self._changed, self._ended
            piece, seen = self._since(seen)
            if piece:
                yield piece
            if ended:
                yield self._last
                return
            await changed.wait()

    def _since(self, seen: int) -> tuple[bytes, int]:
        """Return two values: the events after version *seen*, and the job's current version."""
        return self._pieces.get((seen, self._job.version), lambda: self._render(seen))

    def _render(self, seen: int) -> tuple[bytes, int]:
        events = (
            event("post", orjson.dumps(change), f"{self._job.epoch}-{version}")
            for version, change in self._job.changes(seen)
        )
        return b"".join(events), self._job.version

    def _wake(self) -> None:
        """Drop the rendered pieces, and wake all streams."""
        self._pieces.clear()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
