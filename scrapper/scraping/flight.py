"""Shares a download in progress among all requests for its post."""

import asyncio
from dataclasses import dataclass

from scrapper.errors import DeadlineExceeded
from scrapper.library.post import Fetch
from scrapper.library.stored import StoredPost
from scrapper.tasks import end

__all__ = ["Flight", "Scraped"]

_GRACE = 2.0


@dataclass(frozen=True, slots=True)
class Scraped:
    """A post; ``cached`` is true if it came from disk without a request to Instagram."""

    stored: StoredPost
    cached: bool


class Flight:
    """A download in progress, shared by all requests for its post."""

    def __init__(self, fetch: Fetch, task: asyncio.Task[Scraped]) -> None:
        self.fetch = fetch
        self._task = task
        # Waiting clients get the error. If all of them are gone, asyncio must not complain that the
        # error was never retrieved, because it has already been logged.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def join(self) -> Scraped:
        """Wait for the result. Cancelling the wait does not end the flight.

        Raises:
            DeadlineExceeded: the thread is stuck where no deadline applies, such as in the DNS
                resolver.
        """
        try:
            async with asyncio.timeout_at(self.fetch.deadline + _GRACE):
                return await asyncio.shield(self._task)
        except TimeoutError:
            raise DeadlineExceeded from None

    async def abort(self) -> None:
        """End the flight. Its thread keeps running, but stores nothing."""
        await end(self._task)

    async def wait(self) -> None:
        """Wait until the flight is over, whatever its outcome."""
        await asyncio.wait([self._task])
