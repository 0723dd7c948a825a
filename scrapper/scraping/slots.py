"""The right to query Instagram, which few posts have at a time.

The threads pass it on among themselves: each prepares its query, then waits for the right. The
event loop has no part in that, because other threads may hold the loop up.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from scrapper.errors import DeadlineExceeded, RateLimited

__all__ = ["Slot", "Slots"]


class Slots:
    """The right for *number* posts at a time, in the order in which they queued."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._lock = threading.Lock()
        # The first *number* places have the right.
        self._queue: list[threading.Event] = []

    @property
    def waiting(self) -> int:
        """How many posts wait for the right."""
        return max(0, len(self._queue) - self._number)

    @contextmanager
    def queue(self, deadline: float) -> Iterator["Slot"]:
        """Queue a post while the block runs, until *deadline* (monotonic time)."""
        slot = Slot(self, deadline)
        try:
            yield slot
        finally:
            slot.end()

    def enter(self) -> threading.Event:
        """Queue; the event is set as soon as the right is there."""
        place = threading.Event()
        with self._lock:
            self._queue.append(place)
            self._call()
        return place

    def leave(self, place: threading.Event) -> None:
        """Leave the queue, or give the right back; a second call does nothing."""
        with self._lock:
            if place in self._queue:
                self._queue.remove(place)
                # Whoever still waits there waits in vain.
                place.set()
                self._call()

    def has(self, place: threading.Event) -> bool:
        """Whether the *place* is in the queue, or has the right."""
        with self._lock:
            return place in self._queue

    def _call(self) -> None:
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
    def asking(self) -> Iterator[None]:
        """Hold the right while the block runs, in the post's thread; a second block queues anew.

        After a limit the post keeps the right to its end, so that the cool-down begins before
        another post asks. A thread that goes on after that end keeps nothing.

        Raises:
            DeadlineExceeded: the right did not come before the deadline, or the post ended.
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
        """Let another post ask."""
        self._slots.leave(self._place)

    def end(self) -> None:
        """Leave for good, whatever the post's thread still does."""
        self._ended = True
        self.leave()
