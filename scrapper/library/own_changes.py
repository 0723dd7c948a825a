"""Tracks this process's changes to the media folder, so that a sync does not have to scan it."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = ["OwnChanges"]

_MAX_CHANGES = 4096


class OwnChanges:
    """The posts that this process recently added to *root* or removed from it; thread-safe.

    Each change is stored with the folder's modification times before and after it, in nanoseconds.
    If the time after each change equals the time before the next one, no other process has changed
    the folder in between. If another process changes the folder at the same instant as this
    process, the other change goes unnoticed until the next sweep.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.RLock()
        self._changes: deque[_Change] = deque(maxlen=_MAX_CHANGES)

    @contextmanager
    def recording(self, shortcode: str) -> Iterator[None]:
        """Record that the block stores or removes the post."""
        with self._lock:
            before = self._root.stat().st_mtime_ns
            try:
                yield
            finally:
                after = self._root.stat().st_mtime_ns
                self._changes.append(_Change(before, after, shortcode))

    def between(self, start: int, end: int) -> set[str] | None:
        """Return the posts changed between two modification times of the folder, in nanoseconds.

        Return None if another process may have changed the folder between them.
        """
        changed: set[str] = set()
        found = set[str]() if start == end else None
        time = start
        with self._lock:
            for change in self._changes:
                if change.before == time:
                    changed.add(change.shortcode)
                    time = change.after
                    if time == end:
                        # Further changes may have the same modification time.
                        found = changed.copy()
        return found


class _Change(NamedTuple):
    before: int
    after: int
    shortcode: str
