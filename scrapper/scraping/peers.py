"""The other processes that fetch into the same library, and what is agreed with them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

__all__ = ["Alone", "Line", "Peers"]


class Line(Protocol):
    """Those who want one post: one of them has the turn and fetches it, the others wait.

    Whoever has the turn gives it back with the end of the block in which it stood in line, and
    tells the others how it ended: ``stored`` is to be set where it stored the post, and a
    :class:`~scrapper.errors.ScrapeError` that leaves the block is passed on.
    """

    stored: bool

    async def take(self) -> int | None:
        """Take the turn: its fence, or None while another process has it.

        A fence is a number, greater than that of every turn for this post before; 0 where
        there are no other processes.
        """
        ...

    async def landed(self, deadline: float) -> bool:
        """Wait for the end of another's turn, until *deadline* in monotonic time at most.

        True: the post was stored. False: its turn may be free now.

        Raises:
            ScrapeError: that of the other process, where it would be ours too.
        """
        ...


class Peers(Protocol):
    """What the processes share about Instagram, whom they ask, and the library they fill."""

    def line(self, shortcode: str) -> AbstractAsyncContextManager[Line]:
        """Stand in line for a post while the block runs."""
        ...

    def sweep(self) -> AbstractAsyncContextManager[bool]:
        """Whether to sweep the library in the block; false while another process does."""
        ...

    async def cooldown_left(self) -> float:
        """Seconds for which another process was told to leave Instagram alone; 0 if none was."""
        ...

    async def cool_down(self, seconds: float) -> None:
        """Tell the others to leave Instagram alone for so many seconds."""
        ...


class _NobodyElse:
    stored = False

    async def take(self) -> int | None:
        return 0

    async def landed(self, deadline: float) -> bool:  # noqa: ARG002
        raise AssertionError("unreachable")


class Alone:
    """:class:`Peers` of a process that is the only one: every turn is its own."""

    @asynccontextmanager
    async def line(self, shortcode: str) -> AsyncIterator[Line]:  # noqa: ARG002
        yield _NobodyElse()

    @asynccontextmanager
    async def sweep(self) -> AsyncIterator[bool]:
        yield True

    async def cooldown_left(self) -> float:
        return 0.0

    async def cool_down(self, seconds: float) -> None:
        pass
