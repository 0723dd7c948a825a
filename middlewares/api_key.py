"""An API key that every request must carry."""

import hmac
from collections.abc import Callable

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["api_key"]

_HEADER = "X-API-Key"


def api_key(key: str, *, exempt: Callable[[web.Request], bool] = lambda _: False) -> Middleware:
    """Let only requests through whose ``X-API-Key`` is *key*; refuse others with 401.

    ::

        from middlewares.api_key import api_key
        app = web.Application(middlewares=[api_key("s3cret")])

    The comparison takes the same time wherever the two differ. Requests for which *exempt* returns
    true need no key.

    Raises:
        ValueError: *key* is empty.
    """
    if not key:
        raise ValueError("an empty key would admit everybody")
    expected = key.encode()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not exempt(request):
            # aiohttp decodes header bytes this way, and a key need not be ASCII.
            given = request.headers.get(_HEADER, "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, expected):
                raise web.HTTPUnauthorized(
                    text="X-API-Key is missing or wrong",
                    headers={hdrs.WWW_AUTHENTICATE: f'ApiKey header="{_HEADER}"'},
                )
        return await handler(request)

    return middleware
