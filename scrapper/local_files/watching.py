"""Watches files that may change while the service runs."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

__all__ = ["WatchedFile"]

# Two changes within one tick of the file system's clock have the same timestamps.
_TICK_NANOSECONDS = 100_000_000

Content = TypeVar("Content")


class WatchedFile(Generic[Content]):
    """Caches what *read* returns for the file at *path* until the file changes.

    All methods block.
    """

    def __init__(self, path: Path, read: Callable[[Path], Content]) -> None:
        self._path = path
        self._read = read
        self._known: tuple[tuple[int, ...], Content] | None = None

    def content(self) -> Content:
        """Return the result of *read*, which is called only if the file may have changed.

        Raises:
            OSError: the file does not exist.
            Exception: any exception that *read* raises. The next call tries again.
        """
        status = self._path.stat()
        stamp = (
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
        if self._known is not None and self._known[0] == stamp:
            return self._known[1]
        content = self._read(self._path)
        is_settled = abs(time.time_ns() - status.st_ctime_ns) > _TICK_NANOSECONDS
        self._known = (stamp, content) if is_settled else None
        return content
