"""How processes that share a library coordinate, and the implementation for a single process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Peers", "TurnQueue"]


class TurnQueue:
    """The queue of processes that need the same post.

    One of them, the holder, has the turn and downloads the post, while the others wait. The holder
    sets ``stored`` once it has stored the post. The turn ends when the holder leaves the block of
    :meth:`Peers.queue_for`. The waiting processes then learn whether the post was stored, or which
    :class:`~scrapper.errors.ScrapeError` the block raised.
    """

    stored = False

    async def take_turn(self) -> int | None:
        """Take the turn and return its fence, or None if another process has the turn.

        A fence is a number greater than those of all earlier turns for this post, or 0 if there
        are no other processes.
        """
        return 0

    async def wait_for_holder(self, deadline: float) -> bool:
        """Wait until another process ends its turn, or until *deadline* (monotonic time).

        Return True if the post was stored, and False if the turn may be free now.

        Raises:
            ScrapeError: the error of the other process, which would recur in this one.
        """
        raise NotImplementedError


class Peers:
    """Coordinates turns, exclusive tasks and cool-downs. This class is for a single process."""

    shared = False
    """Whether there may be other processes."""

    @asynccontextmanager
    async def queue_for(self, shortcode: str) -> AsyncIterator[TurnQueue]:  # noqa: ARG002
        """Queue for a turn to download a post, for the duration of the block."""
        yield TurnQueue()

    @asynccontextmanager
    async def exclusive(self, task: str, *, if_unknown: bool) -> AsyncIterator[object]:  # noqa: ARG002
        """Yield a value that is true as long as only this process may do the *task*.

        If Redis does not answer, the value is *if_unknown*.
        """
        yield True

    async def cooldown_left(self) -> float:
        """Return the seconds left of a cool-down that any process began, or 0 if there is none."""
        return 0.0

    async def cool_down(self, seconds: float) -> None:
        """Begin a cool-down of *seconds* seconds for all processes."""
