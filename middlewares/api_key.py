"""A key that every request must show."""

import hmac
from collections.abc import Collection

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["api_key"]

_HEADER = "X-API-Key"


def api_key(key: str, *, exempt: Collection[str] = ()) -> Middleware:
    """Let only requests through whose ``X-API-Key`` is *key*; refuse others with 401.

    ::

        from middlewares.api_key import api_key
        app = web.Application(middlewares=[api_key("s3cret", exempt={"/health"})])

    The comparison takes the same time wherever the two differ. Paths in *exempt* need no key.

    Raises:
        ValueError: *key* is empty.
    """
    if not key:
        raise ValueError("an empty key would let everybody in")
    expected = key.encode()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in exempt:
            # aiohttp decodes header bytes this way, and a key need not be ASCII.
            given = request.headers.get(_HEADER, "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, expected):
                raise web.HTTPUnauthorized(
                    text="X-API-Key is missing or wrong",
                    headers={hdrs.WWW_AUTHENTICATE: f'ApiKey header="{_HEADER}"'},
                )
        return await handler(request)

    return middleware
