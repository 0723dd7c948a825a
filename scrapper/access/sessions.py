"""Cookies that stand for an API key: browsers send them where a page cannot send a header."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable

from aiohttp import web

from scrapper.access.keys import ApiKeys

__all__ = ["COOKIE", "MAX_AGE_SECONDS", "Sessions"]

COOKIE = "session"
"""The cookie's name."""

MAX_AGE_SECONDS = 30 * 24 * 60 * 60
"""How long a session lasts at most."""

_FORM = re.compile(r"([A-Za-z0-9._-]{1,64})~([0-9]{1,12})~([0-9a-f]{16})~([0-9a-f]{64})")
_MOST_ENDED = 10_000
_OWN_SITE = ("", "same-origin", "none")


class Sessions:
    """Sessions for the *keys*.

    A cookie's value says whose key it stands for, and until when; it is signed with that key. So
    it survives a restart, holds for all replicas, and ends when the key does. A session that was
    ended is remembered by this process.
    """

    def __init__(self, keys: ApiKeys, *, now: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._now = now
        self._ended: dict[str, None] = {}

    def begin(self, name: str) -> str | None:
        """The cookie's value for whoever has the key called *name*; None if there is none."""
        keys = self._keys.called(name)
        if not keys:
            return None
        text = f"{name}~{int(self._now()) + MAX_AGE_SECONDS}~{secrets.token_hex(8)}"
        return f"{text}~{_signature(keys[0], text)}"

    def end(self, request: web.Request) -> None:
        """End the session of *request*, if it has one."""
        found = _FORM.fullmatch(request.cookies.get(COOKIE, ""))
        if found and self.name_of(request) is not None:
            self._ended[found[3]] = None
            if len(self._ended) > _MOST_ENDED:
                del self._ended[next(iter(self._ended))]

    def name_of(self, request: web.Request) -> str | None:
        """The name of the key that the cookie of *request* stands for; None if for none.

        Requests that a page of another site made have no session, whatever they carry.
        """
        if request.headers.get("Sec-Fetch-Site", "") not in _OWN_SITE:
            return None
        found = _FORM.fullmatch(request.cookies.get(COOKIE, ""))
        if found is None or found[3] in self._ended or int(found[2]) < self._now():
            return None
        text = found[0].rpartition("~")[0]
        for key in self._keys.called(found[1]):
            if hmac.compare_digest(_signature(key, text), found[4]):
                return found[1]
        return None


def _signature(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
