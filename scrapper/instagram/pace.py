"""Limits how often all threads together query Instagram, and adapts to Instagram's refusals."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import structlog

from scrapper.errors import PaceExceeded, ScrapeError
from scrapper.library.state_file import StateFile

__all__ = ["Kind", "Learned", "Pace", "PaceFile", "PaceMemory", "Window"]

log = structlog.get_logger(__name__)

Kind = Literal["query", "page"]
"""The kinds of requests that are counted: API queries and page views."""

_PAGES_PER_200_QUERIES = 75
_MIN_ALLOWED = 10
_HOUR = 60 * 60
_RECOVERY_HOURS = 10
_MAX_ALLOWED = 2**31


class Learned(NamedTuple):
    """A learned limit: ``allowed`` queries per window, after a rate limit at unix time ``at``."""

    allowed: int
    at: float


class PaceMemory:
    """Keeps the learned limit of one login state in memory.

    Subclasses also store it elsewhere. No method raises.
    """

    _learned: Learned | None = None

    def load(self) -> Learned | None:
        """Return the limit that this or another process stored last, or None if there is none."""
        return self._learned

    def store(self, learned: Learned) -> None:
        self._learned = learned


class Window:
    """A sliding window over the requests of this process; not thread-safe."""

    def __init__(self) -> None:
        self._sent: dict[Kind, deque[float]] = {"query": deque(), "page": deque()}

    def take(self, kind: Kind, limit: int, seconds: float) -> float | None:
        """Count a request of this *kind* unless the limit is reached.

        At most *limit* such requests are allowed in any *seconds* seconds. Return None if the
        request was counted, or else the number of seconds until there is room.
        """
        sent, now = self._sent[kind], time.monotonic()
        while sent and sent[0] <= now - seconds:
            sent.popleft()
        if len(sent) >= limit:
            # If *limit* was lowered, more requests than that may have been counted.
            return sent[len(sent) - limit] + seconds - now
        sent.append(now)
        return None


class Pace:
    """Allows *max_queries* in any *window* seconds, and fewer after a rate limit; thread-safe.

    Instaloader 4.16 (``RateController``) allows each context 200 queries of one kind and 75 page
    views in 660 seconds. Here, all threads share one count, because Instagram sees a single
    address. Page views have their own limit: 75/200 of the limit for queries, as in Instaloader, or
    75 if that is higher. If the limit for queries is below 75, it applies to page views, too. If
    *max_queries* is 0, nothing is limited.

    Instagram's real limit is unknown. A soft block after 17 queries in ten minutes was reported in
    August 2026. Therefore, each sign of a rate limit halves the number of queries allowed, down to
    10, and each hour without such a sign restores a tenth of *max_queries*. *memory* keeps the
    learned limit, and *counts* counts the requests of the last *window* seconds.
    """

    def __init__(
        self,
        max_queries: int,
        window: float,
        *,
        memory: PaceMemory | None = None,
        counts: Window | None = None,
    ) -> None:
        self.ceiling = max_queries
        self._window = window
        self._memory = memory or PaceMemory()
        self._lock = threading.Lock()
        self._counts = counts or Window()
        self._number = 0
        self._slowed_at_number = 0

    def allowed_now(self) -> int:
        """Return the number of queries per window allowed now; 0 means no limit."""
        with self._lock:
            return self._allowed()

    def count(self, kind: Kind) -> int:
        """Count a request that is about to be sent, and return its number for :meth:`slow_down`.

        Raises:
            PaceExceeded: the window is full, so the request is not counted and must not be sent.
                ``retry_after`` is the number of seconds until there is room.
        """
        with self._lock:
            self._number += 1
            if not self.ceiling:
                return self._number
            limit = allowed = self._allowed()
            if kind == "page":
                pages = allowed * _PAGES_PER_200_QUERIES // 200
                limit = max(min(allowed, _PAGES_PER_200_QUERIES), pages)
            wait = self._counts.take(kind, limit, self._window)
            if wait is not None:
                raise PaceExceeded(retry_after=wait)
            return self._number

    def slow_down(self, number: int) -> None:
        """Halve the number of queries allowed, because request *number* hit a rate limit.

        If that request was sent before the pace was last slowed down, do nothing, because the
        request hit the same rate limit.
        """
        with self._lock:
            if not self.ceiling or number <= self._slowed_at_number:
                return
            self._slowed_at_number = self._number
            allowed = max(min(_MIN_ALLOWED, self.ceiling), self._allowed() // 2)
            self._memory.store(Learned(allowed, time.time()))
        log.warning("pace slowed", allowed=allowed, ceiling=self.ceiling)

    def _allowed(self) -> int:
        learned = self._memory.load()
        if learned is None:
            return self.ceiling
        # If the clock was set back, the difference may be negative.
        hours = int(max(0.0, time.time() - learned.at) // _HOUR)
        regained = min(hours, _RECOVERY_HOURS) * self.ceiling // _RECOVERY_HOURS
        return min(self.ceiling, learned.allowed + regained)


class PaceFile:
    """The JSON file at *path*: ``{login state: {"allowed": queries, "at": unix time}}``.

    The file is read once; if it is missing or damaged, it counts as empty. If it cannot be written,
    the limits that this process learns are lost at exit. *check* raises if the file's folder was
    replaced.
    """

    def __init__(self, path: Path, *, check: Callable[[], None] = lambda: None) -> None:
        self._file = StateFile(path, check=check)
        self._lock = threading.Lock()
        self.learned = self._file.read(_parse_learned) or {}

    def make_pace(self, login_state: str, max_queries: int, window: float) -> Pace:
        """Return a pace for one login state that stores its learned limit in this file."""
        return Pace(max_queries, window, memory=_InFile(self, login_state))

    def store(self, login_state: str, learned: Learned) -> None:
        """Store the learned limit of one login state."""
        with self._lock:
            self.learned[login_state] = learned
            data = {name: known._asdict() for name, known in self.learned.items()}
            try:
                self._file.write(data)
            except (OSError, ScrapeError) as error:
                log.warning("pace not stored", cause=repr(error))


class _InFile(PaceMemory):
    """Keeps the learned limit of one login state in memory and in *file*."""

    def __init__(self, file: PaceFile, login_state: str) -> None:
        self._learned = file.learned.get(login_state)
        self._store_in_file = partial(file.store, login_state)

    def store(self, learned: Learned) -> None:
        self._learned = learned
        self._store_in_file(learned)


def _parse_learned(data: Any) -> dict[str, Learned]:
    learned = {name: Learned(int(it["allowed"]), float(it["at"])) for name, it in data.items()}
    if not all(0 < it.allowed < _MAX_ALLOWED and math.isfinite(it.at) for it in learned.values()):
        raise ValueError("out of range")
    return learned
