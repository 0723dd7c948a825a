"""What the pace learned, in a file, so that a restart does not forget it."""

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from scrapper.errors import ScrapeError
from scrapper.instagram.pace import Learned, Pace
from scrapper.library.state_file import StateFile

__all__ = ["PaceFile"]

log = structlog.get_logger(__name__)

_MAX_ALLOWED = 2**31


class PaceFile:
    """The JSON file at *path*: ``{login state: {"allowed": queries, "at": unix time}}``.

    It is read once. A missing or damaged file counts as empty. If the file cannot be written, the
    next process starts without what this one learned. *check* is called first, and raises if the
    folder is gone or was replaced.
    """

    def __init__(self, path: Path, *, check: Callable[[], None] = lambda: None) -> None:
        self._file = StateFile(path, check=check)
        self._lock = threading.Lock()
        self._learned = self._file.read(_all_learned) or {}

    def make_pace(self, login_state: str, max_queries: int, window: float) -> Pace:
        """The pace of one login state, which keeps here what it learns."""
        return Pace(max_queries, window, memory=_Entry(self, login_state))

    def load(self, login_state: str) -> Learned | None:
        return self._learned.get(login_state)

    def store(self, login_state: str, learned: Learned) -> None:
        with self._lock:
            self._learned[login_state] = learned
            data = {name: known._asdict() for name, known in self._learned.items()}
            try:
                self._file.write(data)
            except (OSError, ScrapeError) as error:
                log.warning("pace not stored", cause=repr(error))


class _Entry:
    def __init__(self, file: PaceFile, login_state: str) -> None:
        self._file = file
        self._login_state = login_state

    def load(self) -> Learned | None:
        return self._file.load(self._login_state)

    def store(self, learned: Learned) -> None:
        self._file.store(self._login_state, learned)


def _all_learned(data: Any) -> dict[str, Learned]:
    return {name: _learned(entry) for name, entry in data.items()}


def _learned(entry: Any) -> Learned:
    allowed, at = int(entry["allowed"]), float(entry["at"])
    if not (0 < allowed < _MAX_ALLOWED and math.isfinite(at)):
        raise ValueError("out of range")
    return Learned(allowed, at)
