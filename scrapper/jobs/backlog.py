"""The posts that wait for Instagram, or for room: one line for all jobs, the oldest in front."""

import asyncio
import time
from bisect import bisect_left, insort
from contextlib import suppress
from typing import NamedTuple

__all__ = ["Backlog", "Place"]


class Place(NamedTuple):
    """Where a post stands: by the time of its job, then by its position there."""

    created_at: float
    job_id: str
    position: int


class Backlog:
    """Posts that met a limit, and those behind them.

    Nobody leaves while the line is held. Then the post in front goes, and *spacing* seconds later
    the next one, so that not all of them try at once.
    """

    def __init__(self, spacing: float) -> None:
        self._spacing = spacing
        self._line: list[Place] = []
        self._held_until = 0.0
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._line)

    def join(self, place: Place, hold: float = 0.0) -> float:
        """Add a post, and hold the line for *hold* seconds; return when its turn comes, likely.

        The time is a unix time.
        """
        self._held_until = max(self._held_until, time.monotonic() + hold)
        insort(self._line, place)
        self._changed.set()
        return self.opens_at + self._spacing * bisect_left(self._line, place)

    def leave(self, place: Place) -> None:
        """Take a post out of the line, if it is there."""
        with suppress(ValueError):
            self._line.remove(place)

    @property
    def opens_at(self) -> float:
        """The unix time at which the next post may go."""
        return time.time() + max(0.0, self._held_until - time.monotonic())

    async def next(self) -> Place:
        """Take the post in front out of the line, once it may go."""
        while True:
            wait = self._held_until - time.monotonic()
            if self._line and wait <= 0:
                self._held_until = time.monotonic() + self._spacing
                return self._line.pop(0)
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait if self._line else None):
                    await self._changed.wait()
