"""A download under way, shared by all who ask for its post, and its right to ask Instagram."""

import asyncio
from dataclasses import dataclass

from scrapper.errors import DeadlineExceeded
from scrapper.library.post import Progress
from scrapper.library.stored import StoredPost

__all__ = ["Flight", "Scraped", "Slot"]

_GRACE = 2.0


@dataclass(frozen=True, slots=True)
class Scraped:
    """A post, and whether it came from disk without a request to Instagram.

    ``item`` is the number of the item whose own shortcode was asked for, if it was not the post's.
    """

    stored: StoredPost
    cached: bool
    item: int | None = None


class Slot:
    """The right to ask Instagram, one of a few; for one flight."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._held = True

    def give_back(self) -> None:
        """Let another flight ask, unless this one gave its slot back already."""
        if self._held:
            self._held = False
            self._slots.release()


class Flight:
    """A download under way, shared by all requests for its post."""

    def __init__(self, deadline: float, progress: Progress, task: asyncio.Task[Scraped]) -> None:
        self.deadline = deadline
        self.progress = progress
        self._task = task
        # Clients that wait get the error. If all of them went away, it is in the log already, and
        # asyncio must not complain that nobody retrieved it.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def join(self) -> Scraped:
        """Wait for the result. Cancelling the wait does not end the flight.

        Raises:
            DeadlineExceeded: the thread is stuck where no deadline reaches it, such as in the
                resolver of host names.
        """
        try:
            async with asyncio.timeout_at(self.deadline + _GRACE):
                return await asyncio.shield(self._task)
        except TimeoutError:
            raise DeadlineExceeded from None

    async def settled(self) -> None:
        """Wait until the flight is over, however it ends."""
        await asyncio.wait([self._task])
