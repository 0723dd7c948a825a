"""How often we may ask Instagram, counted over all threads."""

import threading
import time
from collections import deque

from scrapper.errors import PaceExceeded

__all__ = ["Pace"]

_PAGE_QUERY = "other"
_PAGE_QUERIES = 75


class Pace:
    """At most *max_queries* of one type in any *window* seconds; 0 queries: no limit.

    The figures that Instaloader 4.16 keeps for each of its contexts (``RateController``) are
    200 GraphQL queries and 75 page views in 660 s. Here all threads share one count, since
    Instagram sees one address. Page views (Instaloader's type ``other``) keep that proportion,
    but are never fewer than *max_queries* where that is 75 or less.
    """

    def __init__(self, max_queries: int, window: float) -> None:
        self._max_queries = max_queries
        self._window = window
        self._lock = threading.Lock()
        self._asked: dict[str, deque[float]] = {}

    def count(self, query_type: str) -> None:
        """Count one query that is about to be sent.

        Raises:
            PaceExceeded: the window is full. The query is not counted and must not be sent;
                ``retry_after`` tells when there is room.
        """
        if not self._max_queries:
            return
        limit = self._limit(query_type)
        with self._lock:
            now = time.monotonic()
            asked = self._asked.setdefault(query_type, deque())
            while asked and asked[0] <= now - self._window:
                asked.popleft()
            if len(asked) >= limit:
                raise PaceExceeded(retry_after=asked[0] + self._window - now)
            asked.append(now)

    def _limit(self, query_type: str) -> int:
        if query_type != _PAGE_QUERY:
            return self._max_queries
        return max(min(self._max_queries, _PAGE_QUERIES), self._max_queries * _PAGE_QUERIES // 200)
