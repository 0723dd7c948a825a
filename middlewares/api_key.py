"""An API key that every request must carry."""

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TypeVar

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["api_key", "digest", "known_keys", "unauthorized"]

_HEADER = "X-API-Key"
_BEARER = "bearer "

Known = TypeVar("Known")


def api_key(
    keys: Callable[[], Mapping[str, str]],
    *,
    exempt: Callable[[web.Request], bool] = lambda _: False,
    fallback: Callable[[web.Request], Awaitable[str | None]] | None = None,
    on_admission: Callable[[str], None] = lambda _: None,
) -> Middleware:
    """Respond with 401 to requests that carry none of *keys*.

    ::

        from middlewares.api_key import api_key, digest
        app = web.Application(middlewares=[api_key(lambda: {digest("s3cret"): "alice"})])

    A request carries its key as ``X-API-Key: KEY`` or ``Authorization: Bearer KEY`` (RFC 6750).
    *keys* returns a mapping from the :func:`digest` of each key to the key's name. It is called for
    each request, so keys can be added and removed at any time. Keys are looked up by digest, so the
    lookup time does not reveal how much of a guess is correct. For requests without a valid key,
    *fallback* may identify the client by other means, such as a cookie or a sign-in by a proxy; it
    returns the client's name, or None if it cannot identify the client. *on_admission* is called
    with the name of each admitted client. Requests for which *exempt* returns true need no key.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if exempt(request):
            return await handler(request)
        name = next(known_keys(request, keys()), None)
        if name is None and fallback is not None:
            name = await fallback(request)
        if name is None:
            raise unauthorized()
        on_admission(name)
        return await handler(request)

    return middleware


def unauthorized() -> web.HTTPUnauthorized:
    """Return the 401 response to a request without a valid key."""
    return web.HTTPUnauthorized(
        text="The API key is missing or wrong",
        headers={hdrs.WWW_AUTHENTICATE: f'ApiKey header="{_HEADER}", Bearer'},
    )


def digest(key: str) -> str:
    """Return the SHA-256 of a key in hex, for use in lookup tables in place of the key."""
    # A key need not be ASCII, and aiohttp decodes header bytes with surrogateescape.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def known_keys(request: web.Request, known: Mapping[str, Known]) -> Iterator[Known]:
    """Yield the entries of *known* for the keys that *request* carries in either header.

    *known* maps the :func:`digest` of each key to its entry.
    """
    given = [request.headers[_HEADER]] if _HEADER in request.headers else []
    authorization = request.headers.get(hdrs.AUTHORIZATION, "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        given.append(authorization[len(_BEARER) :].strip())
    return (known[one] for one in map(digest, given) if one in known)
