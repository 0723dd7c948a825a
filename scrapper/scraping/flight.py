"""A download under way, shared by all who ask for its post, and its right to ask Instagram."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from scrapper.errors import DeadlineExceeded, RateLimited
from scrapper.library.post import Fetch
from scrapper.library.stored import StoredPost
from scrapper.tasks import end

__all__ = ["Flight", "Scraped", "Slot"]

_GRACE = 2.0


@dataclass(frozen=True, slots=True)
class Scraped:
    """A post, and whether it came from disk without a request to Instagram."""

    stored: StoredPost
    cached: bool


class Slot:
    """A flight's right to query Instagram; there are few slots, given in the order of requests."""

    def __init__(self, slots: asyncio.Semaphore, deadline: float) -> None:
        self._slots = slots
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._held = False

    async def take(self) -> None:
        """Wait for the slot, unless the flight holds it already.

        Raises:
            DeadlineExceeded: others ask until the deadline.
        """
        if self._held:
            return
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._slots.acquire()
        except TimeoutError:
            raise DeadlineExceeded from None
        self._held = True

    def give_back(self) -> None:
        """Let another flight ask, unless this one gave its slot back already."""
        if self._held:
            self._held = False
            self._slots.release()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Hold the slot while the block runs in the flight's thread.

        After a limit the flight holds it to its end, so that the cool-down begins before another
        one asks.

        Raises:
            DeadlineExceeded: others ask until the deadline.
        """
        asyncio.run_coroutine_threadsafe(self.take(), self._loop).result()
        limited = False
        try:
            yield
        except RateLimited:
            limited = True
            raise
        finally:
            if not limited:
                self._loop.call_soon_threadsafe(self.give_back)


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
