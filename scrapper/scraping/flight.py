"""A download under way, shared by all who ask for its post."""

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
    """A post, and whether it came from disk without a request to Instagram."""

    stored: StoredPost
    cached: bool


class Flight:
    """A download under way, shared by all requests for its post."""

    def __init__(self, fetch: Fetch, task: asyncio.Task[Scraped]) -> None:
        self.fetch = fetch
        self._task = task
        # Clients that wait get the error. If all of them went away, it is in the log already, and
        # asyncio must not complain that nobody retrieved it.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def join(self) -> Scraped:
        """Wait for the result. Cancelling the wait does not end the flight.

        Raises:
            DeadlineExceeded: the thread is stuck where no deadline applies, such as in the resolver
            of host names.
        """
        try:
            async with asyncio.timeout_at(self.fetch.deadline + _GRACE):
                return await asyncio.shield(self._task)
        except TimeoutError:
            raise DeadlineExceeded from None

    async def break_off(self) -> None:
        """End the flight; its thread goes on, without effect."""
        await end(self._task)

    async def settled(self) -> None:
        """Wait until the flight is over, however it ends."""
        await asyncio.wait([self._task])
