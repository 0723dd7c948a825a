"""The page tokens and cookies that the API expects, shared by all threads.

A page of instagram.com carries a token (LSD) and sets cookies; queries must send both. One page
view serves all threads for ten minutes.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scrapper.instagram.safe_json import parse_json

__all__ = ["HeldTokens", "Tokens", "find_tokens"]

_FRESH_SECONDS = 10 * 60
_LSD = re.compile(rb'"LSD",\[\],\{[^{}]{0,500}"token":"([^"]{1,200})"')
_DTSG = re.compile(rb'"DTSGInitialData",\[\],\{[^{}]{0,500}"token":"([^"]{1,300})"')
_EQMC = re.compile(rb'<script[^>]{0,200}id="__eqmc"[^>]{0,200}>([^<]{1,20000})</script>')
_USER = re.compile(rb'"IG_USER_EIMU":"?(\d{1,30})')


@dataclass(slots=True)
class HeldTokens:
    """The form fields and cookies of one page view; ``worked`` is set once a query with them
    succeeded, ``renewed`` if they replaced some that Instagram refused.
    """

    fields: Mapping[str, str]
    cookies: Mapping[str, str]
    at: float
    worked: bool = False
    renewed: bool = False


class Tokens:
    """The tokens of the last page view, for ten minutes; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: HeldTokens | None = None

    def get(self, fetch: Callable[[], HeldTokens], *, seconds: float) -> HeldTokens:
        """The present tokens, or those that *fetch* returns; one thread fetches, the others wait.

        Raises:
            TimeoutError: another thread did not get tokens within *seconds*.
        """
        if not self._lock.acquire(timeout=max(0.0, seconds)):
            raise TimeoutError("waited for another thread's page tokens")
        try:
            self._held = held = self._fresh() or fetch()
            return held
        finally:
            self._lock.release()

    def offer(self, find: Callable[[], HeldTokens | None]) -> None:
        """Keep what *find* returns, unless there are fresh tokens, or a thread fetches some."""
        if self._lock.acquire(blocking=False):
            try:
                if self._fresh() is None:
                    self._held = find()
            finally:
                self._lock.release()

    def drop(self, tokens: HeldTokens) -> None:
        """Forget *tokens*, which Instagram refused."""
        with self._lock:
            if self._held is tokens:
                self._held = None

    @property
    def age(self) -> float | None:
        """Seconds since the present tokens were fetched; None if there are none."""
        held = self._held
        return None if held is None else time.monotonic() - held.at

    def _fresh(self) -> HeldTokens | None:
        held = self._held
        fresh = held is not None and time.monotonic() - held.at < _FRESH_SECONDS
        return held if fresh else None


def find_tokens(html: bytes) -> Mapping[str, str] | None:
    """The form fields that go with a query, from a page of instagram.com; None if it has none.

    The token is in the page's scripts as ``["LSD",[],{"token":...}]``, on some days only in the
    script ``__eqmc``, under ``l``, and another one, ``fb_dtsg``, under ``f``. Instaloader 4.16
    reads only the first form, and gives up without the user's number, which is 0 when logged out.
    """
    found = _LSD.search(html)
    token = found[1].decode("utf-8", "replace") if found else _token_of_eqmc(html)
    if token is None:
        return None
    user = _USER.search(html)
    fields = {"lsd": token, "av": user[1].decode() if user else "0"}
    dtsg = _DTSG.search(html)
    more = dtsg[1].decode("utf-8", "replace") if dtsg else _token_of_eqmc(html, "f")
    # Most pages have no fb_dtsg for logged-out visitors.
    return fields | {"fb_dtsg": more} if more else fields


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
