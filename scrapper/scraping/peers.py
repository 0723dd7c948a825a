"""The contract between processes that share a library, and its single-process form."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Line", "Peers"]


class Line:
    """The processes that want one post: one has the turn and downloads it, the others wait.

    The turn ends with the block in which the process queued. Then the others get the outcome: the
    process sets ``stored`` if it stored the post, and a :class:`~scrapper.errors.ScrapeError` that
    leaves the block reaches them, too.
    """

    stored = False

    async def take_turn(self) -> int | None:
        """Take the turn and return its fence; None while another process has the turn.

        A fence is a number greater than that of every earlier turn for this post. It is 0 if
        there are no other processes.
        """
        return 0

    async def wait_for_other(self, deadline: float) -> bool:
        """Wait until another process ends its turn, at most until *deadline* (monotonic time).

        Return True if the post was stored, and False if the turn may be free now.

        Raises:
            ScrapeError: the other process met this error, and this one would meet it, too.
        """
        raise NotImplementedError


class Peers:
    """What the processes agree on: turns, sweeps, and how long to leave Instagram alone."""

    shared = False
    """Whether there may be other processes at all."""

    @asynccontextmanager
    async def line(self, shortcode: str) -> AsyncIterator[Line]:  # noqa: ARG002
        """Queue for a post's turn while the block runs."""
        yield Line()

    @asynccontextmanager
    async def exclusively(self, task: str, *, in_doubt: bool) -> AsyncIterator[object]:  # noqa: ARG002
        """Yield a value that is true while only this process may do the *task*.

        If that cannot be found out, the value is *in_doubt*.
        """
        yield True

    async def cooldown_left(self) -> float:
        """Seconds for which to leave Instagram alone, as any process found out; 0 if none did."""
        return 0.0

    async def cool_down(self, seconds: float) -> None:
        """Make all processes leave Instagram alone for *seconds*."""
