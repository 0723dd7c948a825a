"""Since when Instagram has refused, across restarts and for all processes."""

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

_LONG = 60 * 60


class _Refused(NamedTuple):
    """When the first refusal came, and until when Instagram is known to refuse: unix times."""

    since: float
    until: float


class Refusals:
    """The current series of limits without any other answer, in the file at *path*.

    If the file cannot be written, the limits are known until the process ends. *check* raises if
    the folder is gone.
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
        self._refused: _Refused | None = None

    async def note_limit(self, seconds: float) -> None:
        """Note that Instagram refused, and must be left alone for *seconds*."""
        await asyncio.to_thread(self._change, lambda known: self._longer(known, seconds))

    async def note_answer(self) -> None:
        """Note that Instagram answered, whatever it said of the post."""
        await asyncio.to_thread(self._change, lambda _: None)

    @property
    def have_lasted(self) -> bool:
        """Whether the limits have lasted for an hour; blocking."""
        with self._lock:
            refused = self._look()
        return refused is not None and min(self._now(), refused.until) - refused.since >= _LONG

    def _longer(self, known: _Refused | None, seconds: float) -> _Refused:
        now = self._now()
        # After an hour without a query, nobody knows whether Instagram still refuses.
        if known is None or not known.since <= now <= known.until + _LONG:
            return _Refused(now, now + seconds)
        return _Refused(known.since, max(known.until, now + seconds))

    def _change(self, change: Callable[[_Refused | None], _Refused | None]) -> None:
        with self._lock:
            known = self._look()
            self._refused = change(known)
            if self._refused == known:
                return
            with suppress(MediaFolderGone, OSError):
                self._file.write(self._refused)

    def _look(self) -> _Refused | None:
        with suppress(OSError):
            self._refused = self._watched.content()
        return self._refused


def _parse(data: Any) -> _Refused | None:
    return None if data is None else _Refused(*map(float, data))
