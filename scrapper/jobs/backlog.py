"""The posts that wait for Instagram, or for room: one line for all jobs, the oldest in front."""

import asyncio
import time
from bisect import insort
from contextlib import suppress
from typing import NamedTuple

__all__ = ["Backlog", "LinePace", "Place"]

_SHORTEST = 0.05


class Place(NamedTuple):
    """Where a post stands: by the time of its job, then by its position there."""

    created_at: float
    job_id: str
    position: int


class LinePace:
    """The ``seconds`` between two posts that leave the line: *spacing* at most."""

    def __init__(self, spacing: float) -> None:
        self._spacing = self.seconds = spacing

    def slow_down(self) -> None:
        """Begin anew, after a limit."""
        self.seconds = self._spacing

    def speed_up(self) -> None:
        """Halve the time, after a post that met no limit."""
        self.seconds = max(self.seconds / 2, min(_SHORTEST, self._spacing))


class Backlog:
    """Posts that met a limit, and those behind them.

    No post leaves while the line is held. Then the posts leave one by one, with a pause between
    them, so that they do not all try at once. This pause is *spacing* seconds at first, and halves
    with each post that meets no limit.
    """

    def __init__(self, spacing: float) -> None:
        self._pace = LinePace(spacing)
        self._line: list[Place] = []
        self._held_until = 0.0
        self._next_at = 0.0
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._line)

    def join(self, place: Place, hold: float = 0.0) -> float:
        """Add a post that met a limit and holds the line for *hold* seconds, or one behind others.

        Return the unix time at which its turn comes, at the earliest.
        """
        self.hold(hold)
        insort(self._line, place)
        self._changed.set()
        return max(time.time(), self.held_until)

    def hold(self, seconds: float) -> None:
        """Note a limit: nobody leaves for so many *seconds*."""
        if seconds:
            self._pace.slow_down()
            self._held_until = max(self._held_until, time.monotonic() + seconds)

    def leave(self, place: Place) -> None:
        """Take a post out of the line, if it is there."""
        with suppress(ValueError):
            self._line.remove(place)

    def note_success(self) -> None:
        """Note that a post that had left the line met no limit."""
        if not self.held_until:
            self._pace.speed_up()

    @property
    def held_until(self) -> float:
        """The unix time until which the line is held; 0 if it is not."""
        left = self._held_until - time.monotonic()
        return time.time() + left if left > 0 else 0.0

    async def next(self) -> Place:
        """Take the post in front out of the line, once it may go."""
        while True:
            wait = max(self._held_until, self._next_at) - time.monotonic()
            if self._line and wait <= 0:
                self._next_at = time.monotonic() + self._pace.seconds
                return self._line.pop(0)
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait if self._line else None):
                    await self._changed.wait()
