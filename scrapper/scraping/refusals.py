"""Tracks how long Instagram has been refusing requests, across restarts and processes."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from scrapper.errors import MediaFolderGone
from scrapper.library.state_file import StateFile
from scrapper.local_files.watching import WatchedFile

__all__ = ["Refusals"]

_HOUR = 60 * 60


class _Refused(NamedTuple):
    """The Unix times at which the first limit began and the latest one ends."""

    since: float
    until: float


class Refusals:
    """The current unbroken series of limits, stored in the file at *path*.

    If the file cannot be written, the series is kept in memory until another process writes the
    file. *check* raises an error if the folder is gone.
    """

    def __init__(
        self,
        path: Path,
        *,
        check: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._file = StateFile(path, check=check)
        self._watched = WatchedFile(path, lambda _: self._file.read(_parse))
        self._now = now
        self._lock = threading.Lock()
        self._loaded: _Refused | None = None
        self._refused: _Refused | None = None

    async def record_limit(self, seconds: float) -> None:
        """Record that Instagram set a limit that lasts *seconds* seconds."""
        await asyncio.to_thread(self._change, lambda known: self._extended(known, seconds))

    async def record_answer(self) -> None:
        """Record that Instagram answered, even if it did not find the post."""
        await asyncio.to_thread(self._change, lambda _: None)

    @property
    def have_lasted(self) -> bool:
        """Whether the limits have lasted for at least an hour. Blocks while it reads the file."""
        with self._lock:
            refused = self._current()
        return refused is not None and min(self._now(), refused.until) - refused.since >= _HOUR

    def _extended(self, known: _Refused | None, seconds: float) -> _Refused:
        now = self._now()
        # After an hour without a query, it is unknown whether Instagram still refuses requests.
        if known is None or not known.since <= now <= known.until + _HOUR:
            return _Refused(now, now + seconds)
        return _Refused(known.since, max(known.until, now + seconds))

    def _change(self, change: Callable[[_Refused | None], _Refused | None]) -> None:
        with self._lock:
            known = self._current()
            self._refused = change(known)
            if self._refused == known:
                return
            with suppress(MediaFolderGone, OSError):
                self._file.write(self._refused)
                self._loaded = self._refused

    def _current(self) -> _Refused | None:
        with suppress(OSError):
            loaded = self._watched.content()
            # A series that could not be written is kept until another process writes the file.
            if loaded != self._loaded:
                self._loaded = self._refused = loaded
        return self._refused


def _parse(data: Any) -> _Refused | None:
    return None if data is None else _Refused(*map(float, data))
