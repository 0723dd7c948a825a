"""The page tokens and cookies that the API expects, shared by all threads.

Each page of instagram.com contains a token (LSD) and sets cookies, and queries must send both. All
threads share one page view for ten minutes.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scrapper.instagram.safe_json import parse_json

__all__ = ["PageTokens", "TokenCache", "find_tokens"]

_FRESH_SECONDS = 10 * 60
_LSD = re.compile(rb'"LSD",\[\],\{[^{}]{0,500}"token":"([^"]{1,200})"')
_DTSG = re.compile(rb'"DTSGInitialData",\[\],\{[^{}]{0,500}"token":"([^"]{1,300})"')
_EQMC = re.compile(rb'<script[^>]{0,200}id="__eqmc"[^>]{0,200}>([^<]{1,20000})</script>')
_USER = re.compile(rb'"IG_USER_EIMU":"?(\d{1,30})')


@dataclass(slots=True)
class PageTokens:
    """The form fields and cookies from one page view.

    ``at`` is the time of the view, in :func:`time.monotonic` time. ``worked`` is set once a query
    with these tokens has succeeded. ``renewed`` is set if they replaced tokens that looked stale.
    """

    fields: Mapping[str, str]
    cookies: Mapping[str, str]
    at: float
    worked: bool = False
    renewed: bool = False


class TokenCache:
    """A thread-safe cache of the last page view's tokens, valid for ten minutes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cached: PageTokens | None = None

    def get(self, fetch: Callable[[], PageTokens], *, seconds: float) -> PageTokens:
        """Return the cached tokens, or new tokens from *fetch* if no fresh tokens are cached.

        Only one thread at a time calls *fetch*; the others wait for its result.

        Raises:
            TimeoutError: another thread took longer than *seconds* to fetch tokens.
        """
        if not self._lock.acquire(timeout=max(0.0, seconds)):
            raise TimeoutError("timed out waiting for another thread to fetch page tokens")
        try:
            self._cached = tokens = self._fresh() or fetch()
            return tokens
        finally:
            self._lock.release()

    def offer(self, find: Callable[[], PageTokens | None]) -> None:
        """Cache the result of *find*, unless fresh tokens are cached or are being fetched."""
        if self._lock.acquire(blocking=False):
            try:
                if self._fresh() is None:
                    self._cached = find()
            finally:
                self._lock.release()

    def drop(self, tokens: PageTokens) -> None:
        """Drop *tokens* from the cache, unless they have already been replaced."""
        with self._lock:
            if self._cached is tokens:
                self._cached = None

    @property
    def age(self) -> float | None:
        """Seconds since the cached tokens were fetched, or None if there are none."""
        tokens = self._cached
        return None if tokens is None else time.monotonic() - tokens.at

    def _fresh(self) -> PageTokens | None:
        tokens = self._cached
        fresh = tokens is not None and time.monotonic() - tokens.at < _FRESH_SECONDS
        return tokens if fresh else None


def find_tokens(html: bytes) -> Mapping[str, str] | None:
    """Return the form fields that queries need, or None if the page *html* has no LSD token.

    The LSD token is in the page's scripts as ``["LSD",[],{"token":...}]``. On some days, only the
    script ``__eqmc`` contains it, under the key ``l``. That script also contains a second token,
    ``fb_dtsg``, under the key ``f``. Instaloader 4.16 reads only the first form, and fails if the
    page has no user ID. Here, a missing user ID becomes 0, as when logged out.
    """
    found = _LSD.search(html)
    token = found[1].decode("utf-8", "replace") if found else _token_of_eqmc(html)
    if token is None:
        return None
    user = _USER.search(html)
    fields = {"lsd": token, "av": user[1].decode() if user else "0"}
    dtsg = _DTSG.search(html)
    fb_dtsg = dtsg[1].decode("utf-8", "replace") if dtsg else _token_of_eqmc(html, "f")
    # Most pages for logged-out visitors have no fb_dtsg.
    return fields | {"fb_dtsg": fb_dtsg} if fb_dtsg else fields


def _token_of_eqmc(html: bytes, key: str = "l") -> str | None:
    script = _EQMC.search(html)
    if script is None:
        return None
    try:
        data = parse_json(script[1])
    except ValueError:
        return None
    token = data.get(key) if isinstance(data, dict) else None
    return token if isinstance(token, str) and token else None
