"""The backlog of posts that are waiting because of a limit, and each post's patience."""

import asyncio
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import takewhile
from typing import NamedTuple

from scrapper.errors import MediaFolderGone

__all__ = ["Backlog", "BacklogPace", "Patience", "Place"]

_SHORTEST_PAUSE = 0.05


class Place(NamedTuple):
    """A post's place in the queue. Older jobs come first, and the posts of a job are in order."""

    created_at: float
    job_id: str
    position: int


class BacklogPace:
    """``seconds`` is the pause after each post that leaves the backlog, at most *spacing*."""

    def __init__(self, spacing: float) -> None:
        self._spacing = self.seconds = spacing

    def slow_down(self) -> None:
        """Reset ``seconds`` to *spacing*, after a limit."""
        self.seconds = self._spacing

    def speed_up(self) -> None:
        """Halve ``seconds``, after a post that hit no limit."""
        self.seconds = max(self.seconds / 2, min(_SHORTEST_PAUSE, self._spacing))


class Backlog:
    """Posts that hit a limit, and the posts behind them.

    No post leaves while the backlog is held. After that, posts leave one by one, with a pause
    between them to prevent a burst of queries. The pause is *spacing* seconds at first, and halves
    with each post that hits no limit.
    """

    def __init__(self, spacing: float) -> None:
        self._pace = BacklogPace(spacing)
        self._places: list[Place] = []
        self._held_until = 0.0
        self._next_at = 0.0
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._places)

    def join(self, place: Place, hold: float = 0.0) -> float:
        """Add a post, and return the earliest Unix time at which it may leave.

        If *hold* is 0, the post waits behind others. Otherwise, the post hit a limit, which holds
        the backlog for *hold* seconds.
        """
        self.hold(hold)
        insort(self._places, place)
        self._changed.set()
        return max(time.time(), self.held_until)

    def hold(self, seconds: float) -> None:
        """Hold all posts in the backlog for *seconds* seconds, because of a limit."""
        if seconds:
            self._pace.slow_down()
            self._held_until = max(self._held_until, time.monotonic() + seconds)

    def __iter__(self) -> Iterator[Place]:
        return iter(self._places)

    def leave(self, place: Place) -> None:
        """Remove a post, if it is in the backlog."""
        index = bisect_left(self._places, place)
        if self._places[index : index + 1] == [place]:
            del self._places[index]

    def record_success(self) -> None:
        """Shorten the pause between posts, because one of them hit no limit."""
        if not self.held_until:
            self._pace.speed_up()

    @property
    def held_until(self) -> float:
        """The Unix time until which the backlog is held, or 0 if it is not held."""
        left = self._held_until - time.monotonic()
        return time.time() + left if left > 0 else 0.0

    async def next(self) -> Place:
        """Wait until the first post may leave, then remove and return it."""
        while True:
            wait = max(self._held_until, self._next_at) - time.monotonic()
            if self._places and wait <= 0:
                self._next_at = time.monotonic() + self._pace.seconds
                return self._places.pop(0)
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait if self._places else None):
                    await self._changed.wait()


class Patience:
    """Tracks how much longer each post may wait because of limits, out of a total of *seconds*.

    Time spent waiting in this process is measured by the monotonic clock. Time spent waiting in
    another process, including an earlier one, counts only if *clock_is_trusted* returns True. That
    function may block, and may raise :class:`~scrapper.errors.MediaFolderGone`.
    """

    def __init__(
        self, seconds: float, *, clock_is_trusted: Callable[[], bool] = lambda: True
    ) -> None:
        self._seconds = seconds
        self._clock_is_trusted = clock_is_trusted
        self._since: dict[Place, float] = {}

    async def left(self, place: Place, waiting_since: float | None) -> float:
        """Return how many more seconds the post may wait.

        *waiting_since* is the Unix time of the post's first limit, or None if the post had hit no
        limit before.
        """
        if waiting_since is None:
            self.forget(place)
        if place not in self._since:
            waited = 0.0
            if waiting_since is not None and await self._can_trust_clock():
                waited = max(0.0, time.time() - waiting_since)
            # Posts that are still here after their patience ran out were cancelled, so drop them.
            latest = time.monotonic() - self._seconds
            for old in list(takewhile(lambda it: self._since[it] < latest, self._since)):
                del self._since[old]
            self._since[place] = time.monotonic() - waited
        return self._seconds - (time.monotonic() - self._since[place])

    async def _can_trust_clock(self) -> bool:
        try:
            return await asyncio.to_thread(self._clock_is_trusted)
        except MediaFolderGone:
            # The clock cannot be checked, but the post must still get an outcome.
            return False

    def forget(self, place: Place) -> None:
        """Forget a post that is no longer waiting."""
        self._since.pop(place, None)
