"""Limits how many posts query Instagram at a time.

Threads pass the slots to each other directly. Each thread prepares its query, then waits for its
slot. The event loop is not involved, because other threads may delay it.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from scrapper.errors import DeadlineExceeded, RateLimited

__all__ = ["Slot", "Slots"]


class Slots:
    """Grants *number* slots to posts, in the order in which the posts joined the queue."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._lock = threading.Lock()
        # The first *number* places in the queue have a slot.
        self._queue: list[threading.Event] = []

    @property
    def waiting(self) -> int:
        """The number of posts that are waiting for a slot."""
        return max(0, len(self._queue) - self._number)

    @contextmanager
    def queue(self, deadline: float) -> Iterator["Slot"]:
        """Queue a post for the duration of the block; *deadline* is in monotonic time."""
        slot = Slot(self, deadline)
        try:
            yield slot
        finally:
            slot.end()

    def enter(self) -> threading.Event:
        """Join the queue, and return the place as an event, which is set when a slot is granted."""
        place = threading.Event()
        with self._lock:
            self._queue.append(place)
            self._wake_next()
        return place

    def leave(self, place: threading.Event) -> None:
        """Leave the queue, or release the slot. A second call does nothing."""
        with self._lock:
            if place in self._queue:
                self._queue.remove(place)
                # Wake a thread that is still waiting for this place.
                place.set()
                self._wake_next()

    def has(self, place: threading.Event) -> bool:
        """Return whether the *place* is in the queue or has a slot."""
        with self._lock:
            return place in self._queue

    def _wake_next(self) -> None:
        for place in self._queue[: self._number]:
            place.set()


class Slot:
    """A post's place in the queue of *slots*."""

    def __init__(self, slots: Slots, deadline: float) -> None:
        self._slots = slots
        self._deadline = deadline
        self._place = slots.enter()
        self._ended = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the slot, and hold it for the duration of the block.

        Call this in the post's thread. If an earlier block released the slot, the post queues
        again. A block that raises RateLimited keeps the slot until :meth:`end` is called, so that
        the cool-down begins before the next query. A block that ends after :meth:`end` has been
        called always releases the slot.

        Raises:
            DeadlineExceeded: the deadline passed before the slot was free, or :meth:`end` was
                called.
        """
        if not self._slots.has(self._place):
            self._place = self._slots.enter()
        limited = False
        try:
            self._place.wait(max(0.0, self._deadline - time.monotonic()))
            if not (self._place.is_set() and self._slots.has(self._place)):
                raise DeadlineExceeded
            yield
        except RateLimited:
            limited = True
            raise
        finally:
            if self._ended or not limited:
                self.leave()

    def leave(self) -> None:
        """Let another post query Instagram."""
        self._slots.leave(self._place)

    def end(self) -> None:
        """Release the slot permanently, even if the post's thread is still running."""
        self._ended = True
        self.leave()
