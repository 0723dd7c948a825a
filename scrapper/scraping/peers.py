"""The contract between processes that share one library."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

__all__ = ["Alone", "Line", "Peers"]


class Line(Protocol):
    """The processes that want one post: one has the turn and downloads it, the others wait.

    The turn ends with the block in which the process stood in line. The others then learn how it
    went: the process sets ``stored`` if it stored the post, and a
    :class:`~scrapper.errors.ScrapeError` that leaves the block reaches them too.
    """

    stored: bool

    async def take_turn(self) -> int | None:
        """Take the turn and return its fence; None while another process has the turn.

        A fence is a number greater than that of every earlier turn for this post. It is 0 if
        there are no other processes.
        """
        ...

    async def wait_for_other(self, deadline: float) -> bool:
        """Wait until another process ends its turn, at most until *deadline* (monotonic time).

        Return True if the post was stored, and False if the turn may be free now.

        Raises:
            ScrapeError: the other process met it, and this one would meet it too.
        """
        ...


class Peers(Protocol):
    """What the processes agree on: turns, sweeps, and how long to leave Instagram alone."""

    shared: bool
    """Whether there may be other processes at all."""

    def line(self, shortcode: str) -> AbstractAsyncContextManager[Line]:
        """Stand in line for a post while the block runs."""
        ...

    def exclusively(self, task: str, *, in_doubt: bool) -> AbstractAsyncContextManager[object]:
        """Give what is true in the block while this process alone may do the *task*.

        If that cannot be found out, give what *in_doubt* says.
        """
        ...

    async def cooldown_left(self) -> float:
        """Seconds for which Instagram is to be left alone, as any process said; 0 if none did."""
        ...

    async def cool_down(self, seconds: float) -> None:
        """Tell all processes to leave Instagram alone for so many seconds."""
        ...


class _NobodyElse:
    stored = False

    async def take_turn(self) -> int | None:
        return 0

    async def wait_for_other(self, deadline: float) -> bool:  # noqa: ARG002
        raise AssertionError("unreachable")


class Alone:
    """:class:`Peers` for a single process: every turn is its own."""

    shared = False

    @asynccontextmanager
    async def line(self, shortcode: str) -> AsyncIterator[Line]:  # noqa: ARG002
        yield _NobodyElse()

    @asynccontextmanager
    async def exclusively(self, task: str, *, in_doubt: bool) -> AsyncIterator[bool]:  # noqa: ARG002
        yield True

    async def cooldown_left(self) -> float:
        return 0.0

    async def cool_down(self, seconds: float) -> None:
        pass
