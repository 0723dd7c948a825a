"""What this process itself changed in the media folder: a sync need not compare the rest."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = ["OwnChanges"]

_MOST = 4096


class OwnChanges:
    """The posts that this process recently put into *root* or removed from it; for any thread.

    Each change is kept with the folder's time of modification before and after it, in nanoseconds.
    As long as these times form a chain, nobody else changed the folder in between. What another
    process does at the very instant of one of our changes goes unnoticed until the next sweep.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.RLock()
        self._changes: deque[_Change] = deque(maxlen=_MOST)

    @contextmanager
    def making(self, shortcode: str) -> Iterator[None]:
        """Note that the block stores or removes a post."""
        with self._lock:
            before = self._root.stat().st_mtime_ns
            try:
                yield
            finally:
                after = self._root.stat().st_mtime_ns
                self._changes.append(_Change(before, after, shortcode))

    def between(self, start: int, end: int) -> set[str] | None:
        """The posts that changed between two times; None if others may have changed, too."""
        changed: set[str] = set()
        found = set[str]() if start == end else None
        time = start
        with self._lock:
            for change in self._changes:
                if change.before == time:
                    changed.add(change.shortcode)
                    time = change.after
                    if time == end:
                        # Other changes in the same tick of the clock may follow.
                        found = changed.copy()
        return found


class _Change(NamedTuple):
    before: int
    after: int
    shortcode: str
