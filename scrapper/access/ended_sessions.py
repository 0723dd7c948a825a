"""Keeps the list of sessions that were ended before they expired."""

import threading
from bisect import insort
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from scrapper.errors import ScrapeError
from scrapper.library.state_file import StateFile
from scrapper.local_files.watching import WatchedFile

__all__ = ["EndedSessions"]

_MAX_PER_KEY = 500
_MAX_BYTES = 10_000_000

Session = tuple[int, str]


class EndedSessions:
    """The ended sessions, at most 500 per key, in the file at *path*.

    If a key has more, those that expire first are dropped. From then on, a session of that key
    counts as ended if it expires before all those in the list, so that no ended session becomes
    valid again. Processes share the list through the file. *check* is passed to
    :class:`~scrapper.library.state_file.StateFile`.
    """

    def __init__(self, path: Path, *, check: Callable[[], None] = lambda: None) -> None:
        self._file = StateFile(path, check=check, max_bytes=_MAX_BYTES)
        self._lock = threading.Lock()
        self._watched = WatchedFile(path, lambda _: self._file.read(_parse))
        self._ended: dict[str, list[Session]] = {}

    def reload_if_changed(self) -> None:
        """Reload the file if another process changed it; blocking."""
        with self._lock:
            self._reload()

    def has(self, key: str, session: Session) -> bool:
        """Return whether *session* (expiry and ID) of the key called *key* was ended."""
        ended = self._ended.get(key, [])
        return session in ended or (len(ended) >= _MAX_PER_KEY and session < ended[0])

    def add(self, key: str, session: Session, *, now: float) -> None:
        """Record that *session* was ended, and drop sessions that expired before *now*; blocking.

        Raises:
            MediaFolderGone, OSError: the file cannot be written, so only this process knows that
                the session was ended.
        """
        with self._lock:
            try:
                with self._file.locked():
                    self._reload()
                    self._add(key, session, now)
                    self._file.write(self._ended)
            except Exception:
                self._add(key, session, now)
                raise

    def _add(self, key: str, session: Session, now: float) -> None:
        if not self.has(key, session):
            insort(self._ended.setdefault(key, []), session)
        unexpired = {
            name: [one for one in sessions if one[0] > now]
            for name, sessions in self._ended.items()
        }
        self._ended = {name: some[-_MAX_PER_KEY:] for name, some in unexpired.items() if some}

    def _reload(self) -> None:
        try:
            self._ended = self._watched.content() or self._ended
        except OSError:
            # The file is gone. Write it again, so that the sessions stay ended after a restart.
            if self._ended:
                with suppress(OSError, ScrapeError):
                    self._file.write(self._ended)


def _parse(data: Any) -> dict[str, list[Session]]:
    return {
        str(key): sorted((int(expires), str(id_)) for expires, id_ in sessions)
        for key, sessions in data.items()
    }
