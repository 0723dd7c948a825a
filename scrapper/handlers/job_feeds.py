"""The events of jobs, read and rendered once for all streams of a job."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import orjson

from scrapper.errors import TooManyStreams
from scrapper.jobs.engine import Jobs
from scrapper.jobs.model import Job
from scrapper.jobs.store import MAKE_ROOM_SECONDS
from scrapper.tasks import end, in_background

__all__ = ["JobFeeds"]

_SECONDS_BETWEEN_LOOKS = 0.2
_FOLLOWERS_A_SECOND = 2500
_MOST_OF_A_CLIENT = 20


class JobFeeds:
    """The events of *jobs*; each client may follow 20 at a time."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._feeds: dict[str, _Feed] = {}
        self._streams: Counter[str | None] = Counter()

    @asynccontextmanager
    async def following(self, job: Job, client: str | None) -> AsyncIterator["_Feed"]:
        """The feed of *job* for a stream of *client*; it looks while anybody follows the job.

        Raises:
            TooManyStreams: the client has 20.
        """
        if self._streams[client] >= _MOST_OF_A_CLIENT:
            raise TooManyStreams(retry_after=MAKE_ROOM_SECONDS)
        self._streams[client] += 1
        feed = self._feeds.get(job.id)
        if feed is None:
            feed = self._feeds[job.id] = _Feed(self._jobs, job)
        feed.followers += 1
        try:
            yield feed
        finally:
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]
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
        # Rendered since the last change: most followers ask for the same ones.
        self._pieces: dict[tuple[int, int], bytes] = {}
        self._last = b""
        self._over = False
        self.followers = 0
        self.looking = in_background(self._look(), f"events of job {job.id}")

    async def _look(self) -> None:
        """Look at the job, until it is over, or gone, or the process ends."""
        try:
            # A thousand streams must not keep the loop busy.
            async for job in self._jobs.follow(
                self._job, lambda: _SECONDS_BETWEEN_LOOKS + self.followers / _FOLLOWERS_A_SECOND
            ):
                if job.state == "running":
                    self._publish()
                else:
                    self._last = _event("end", orjson.dumps(job.to_response()))
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
        now = self._job.version
        piece = self._pieces.get((seen, now))
        if piece is None:
            piece = self._pieces[seen, now] = b"".join(
                _event("post", orjson.dumps(change), f"{self._job.epoch}-{version}")
                for version, change in self._job.changes(seen)
            )
        return piece, now

    def _publish(self) -> None:
        self._pieces.clear()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _event(name: str, data: bytes, id_: str = "") -> bytes:
    """One event of a stream: HTML Living Standard, section 9.2."""
    head = f"id: {id_}\r\n" if id_ else ""
    return b"%bevent: %b\r\ndata: %b\r\n\r\n" % (head.encode(), name.encode(), data)
