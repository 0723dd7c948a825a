"""Adds the headers that every response has."""

from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import hdrs, web
from multidict import CIMultiDict

from middlewares import rate_limit
from middlewares.request_context import REQUEST_ID

__all__ = ["HEADERS", "add_headers"]

HEADERS: Mapping[str, str] = {
    hdrs.SERVER: "instagram-scrapper",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""With these headers, browsers do not guess content types, do not show a response inside another
site's page, and store nothing. ``Strict-Transport-Security`` is up to the proxy that terminates
TLS."""

_HEADERS = CIMultiDict(HEADERS)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that a response lacks; a handler for ``on_response_prepare``.

    Unlike a middleware, this function can change responses that handlers send themselves, such as
    streams. These also get their ``X-Request-ID`` and the headers of the rate limit here.
    """
    headers = response.headers
    headers[hdrs.SERVER] = HEADERS[hdrs.SERVER]
    if response.status >= HTTPStatus.BAD_REQUEST:
        # Browsers must not cache an error in place of the file: for example, aiohttp's error for a
        # file that was just removed.
        headers[hdrs.CACHE_CONTROL] = HEADERS[hdrs.CACHE_CONTROL]
    headers.merge(_HEADERS)
    headers.merge(request.get(rate_limit.HEADERS, {}))
    if REQUEST_ID in request:
        headers.setdefault("X-Request-ID", request[REQUEST_ID])
