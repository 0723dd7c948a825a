"""The headers that every answer has, whatever it is."""

from collections.abc import Mapping

from aiohttp import hdrs, web
from multidict import CIMultiDict

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
"""For browsers: to take an answer for what it says it is, to show it in no other site's page,
and to keep none. ``Strict-Transport-Security`` is the business of whoever does the TLS."""

_HEADERS = CIMultiDict(HEADERS)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """A signal for ``on_response_prepare``: what the answer does not say itself is added.

    Unlike a middleware it sees the answers that handlers send by themselves too, such as
    streams; these get their ``X-Request-ID`` here.
    """
    headers = response.headers
    headers[hdrs.SERVER] = HEADERS[hdrs.SERVER]
    headers.merge(_HEADERS)
    if REQUEST_ID in request:
        headers.setdefault("X-Request-ID", request[REQUEST_ID])
