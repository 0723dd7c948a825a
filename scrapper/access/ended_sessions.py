"""The sessions that were ended early."""

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

_MOST = 500
_MAX_BYTES = 10_000_000

Session = tuple[int, str]


class EndedSessions:
    """The last 500 ended sessions of each key, in the file at *path*; blocking.

    Once the list is full, every session that expires before the first one in it counts as ended,
    too, so that no ended session becomes valid again. Processes share only the file. *check* is
    that of :class:`~scrapper.library.state_file.StateFile`.
    """

    def __init__(self, path: Path, *, check: Callable[[], None] = lambda: None) -> None:
        self._file = StateFile(path, check=check, max_bytes=_MAX_BYTES)
        self._lock = threading.Lock()
        self._watched = WatchedFile(path, lambda _: self._file.read(_parse))
        self._ended: dict[str, list[Session]] = {}

    def look(self) -> None:
        """Read the file, if another process changed it."""
        with self._lock:
            self._look()

    def has(self, key: str, session: Session) -> bool:
        """Whether *session* (expiry and ID) of the key called *key* was ended."""
        ended = self._ended.get(key, [])
        return session in ended or (len(ended) >= _MOST and session < ended[0])

    def add(self, key: str, session: Session, *, now: float) -> None:
        """Note that a session was ended. Sessions that expired before *now* are forgotten.

        Raises:
            MediaFolderGone, OSError: the end is noted only in memory.
        """
        with self._lock:
            try:
                with self._file.locked():
                    self._look()
                    self._note(key, session, now)
                    self._file.write(self._ended)
            except Exception:
                self._note(key, session, now)
                raise

    def _note(self, key: str, session: Session, now: float) -> None:
        if not self.has(key, session):
            insort(self._ended.setdefault(key, []), session)
        left = {name: [one for one in some if one[0] > now] for name, some in self._ended.items()}
        self._ended = {name: some[-_MOST:] for name, some in left.items() if some}

    def _look(self) -> None:
        try:
            self._ended = self._watched.content() or self._ended
        except OSError:
            # The file vanished: ended sessions must stay ended after a restart, too.
            if self._ended:
                with suppress(OSError, ScrapeError):
                    self._file.write(self._ended)


def _parse(data: Any) -> dict[str, list[Session]]:
    return {
        str(key): sorted((int(expires), str(id_)) for expires, id_ in sessions)
        for key, sessions in data.items()
    }
