"""Issues and checks session cookies, for pages that cannot send an API key in a header."""

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable

from aiohttp import web

from middlewares.browser_guard import is_foreign
from scrapper.access.ended_sessions import EndedSessions
from scrapper.access.keys import ApiKeys, Key
from scrapper.library.disk import converting_disk_errors

__all__ = ["COOKIE", "MAX_AGE_SECONDS", "Sessions"]

COOKIE = "session"
"""The name of the session cookie."""

MAX_AGE_SECONDS = 30 * 24 * 60 * 60
"""The lifetime of a session in seconds."""

_COOKIE = re.compile(r"([A-Za-z0-9._-]{1,64})~([0-9]{1,12})~([0-9a-f]{16})~([0-9a-f]{64})")
_FOUND = web.RequestKey[Key | None]("session")


class Sessions:
    """Begins and ends sessions of *keys*, and finds the session of a request.

    A cookie's value contains the name of a key and an expiry, and is signed with that key. The
    session therefore survives restarts, is valid on all replicas, and ends when its key is removed
    or changed. *ended* lists the sessions that were ended before they expired. The list is in the
    media folder, which replicas share. If *shared* is true, the list is reloaded whenever another
    replica has changed it. A request with a session is treated like one with the session's key: it
    has the same name and limit.
    """

    def __init__(
        self,
        keys: ApiKeys,
        ended: EndedSessions,
        *,
        shared: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._ended = ended
        self._shared = shared
        self._now = now

    def begin(self, key: Key) -> str:
        """Return the cookie's value for a new session of *key*."""
        text = f"{key.name}~{int(self._now()) + MAX_AGE_SECONDS}~{secrets.token_hex(8)}"
        return f"{text}~{_signature(key.key, text)}"

    def reload_if_changed(self) -> None:
        """Reload the list of ended sessions if it changed; blocking."""
        self._ended.reload_if_changed()

    async def end(self, request: web.Request) -> None:
        """End the session of *request*, if it has one.

        Raises:
            ScrapeError: the disk is full, read-only or missing, so the session may become valid
                again after a restart.
        """
        key, found = (
            await self.session_key(request),
            _COOKIE.fullmatch(request.cookies.get(COOKIE, "")),
        )
        if key is not None and found is not None:
            session = (int(found[2]), found[3])
            with converting_disk_errors():
                await asyncio.to_thread(self._ended.add, key.name, session, now=self._now())

    async def key_for(self, request: web.Request, *, recheck: bool = False) -> Key | None:
        """Return the key in the headers of *request*, or else its session's key, if any.

        The session of a request is checked only once, unless *recheck* is true.
        """
        if recheck:
            request.pop(_FOUND, None)
        return self._keys.carried_by(request) or await self.session_key(request)

    async def session_key(self, request: web.Request) -> Key | None:
        """Return the key of the session of *request*, or None if it has no valid session.

        The cookie is ignored if another site's page made the request.
        """
        if _FOUND not in request:
            request[_FOUND] = await self._find_key(request)
        return request[_FOUND]

    async def _find_key(self, request: web.Request) -> Key | None:
        found = _COOKIE.fullmatch(request.cookies.get(COOKIE, ""))
        if found is None or is_foreign(request) or int(found[2]) < self._now():
            return None
        text, _, signature = found[0].rpartition("~")
        for key in self._keys.called(found[1]):
            if hmac.compare_digest(_signature(key.key, text), signature):
                break
        else:
            return None
        if self._shared:
            await asyncio.to_thread(self._ended.reload_if_changed)
        return None if self._ended.has(key.name, (int(found[2]), found[3])) else key


def _signature(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
