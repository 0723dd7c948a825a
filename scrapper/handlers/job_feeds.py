"""The events of jobs, read and rendered once for all streams of a job."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import orjson

from scrapper.handlers.journal import Pieces, event
from scrapper.jobs.engine import Jobs
from scrapper.jobs.model import Job
from scrapper.tasks import end, in_background

__all__ = ["JobFeeds"]

_SECONDS_BETWEEN_LOOKS = 0.2
_FOLLOWERS_A_SECOND = 2500


class JobFeeds:
    """The events of *jobs*."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._feeds: dict[str, _Feed] = {}

    @asynccontextmanager
    async def following(self, job: Job) -> AsyncIterator["_Feed"]:
        """The feed of *job*, which polls while anybody follows the job."""
        feed = self._feeds.get(job.id)
        if feed is None:
            feed = self._feeds[job.id] = _Feed(self._jobs, job)
        feed.followers += 1
        try:
            yield feed
        finally:
            feed.followers -= 1
            if not feed.followers:
                # The job may go on: a client that comes back gets a new feed.
                self._feeds.pop(job.id, None)
                await end(feed.looking)


class _Feed:
    """The events of one job, as bytes of a stream."""

    def __init__(self, jobs: Jobs, job: Job) -> None:
        self._jobs = jobs
        self._job = job
        self._changed = asyncio.Event()
        # Pieces rendered since the last change.
        self._pieces = Pieces()
        self._last = b""
        self._over = False
        self.followers = 0
        self.looking = in_background(self._look(), f"events of job {job.id}")

    async def _look(self) -> None:
        """Poll the job until it is over or gone, or the process ends."""
        try:
            # A thousand streams must not keep the loop busy.
            async for job in self._jobs.follow(
                self._job, lambda: _SECONDS_BETWEEN_LOOKS + self.followers / _FOLLOWERS_A_SECOND
            ):
                if job.state == "running":
                    self._publish()
                else:
                    self._last = event("end", orjson.dumps(job.to_response()))
        finally:
            self._over = True
            self._publish()

    async def after(self, seen: int) -> AsyncGenerator[bytes]:
        """The events after version *seen*, as they come, to the last one."""
        while True:
            changed, over = self._changed, self._over
            piece, seen = self._since(seen)
            if piece:
                yield piece
            if over:
                yield self._last
                return
            await changed.wait()

    def _since(self, seen: int) -> tuple[bytes, int]:
        """The events after version *seen*, and the version that they lead to."""
        return self._pieces.get((seen, self._job.version), lambda: self._make(seen))

    def _make(self, seen: int) -> tuple[bytes, int]:
        events = (
            event("post", orjson.dumps(change), f"{self._job.epoch}-{version}")
            for version, change in self._job.changes(seen)
        )
        return b"".join(events), self._job.version

    def _publish(self) -> None:
        self._pieces.clear()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
