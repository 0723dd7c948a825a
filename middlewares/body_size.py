"""A bound on the size of request bodies."""

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["body_size"]


def body_size(max_bytes: int) -> Middleware:
    """Refuse request bodies of more than *max_bytes* with 413.

    ::

        from middlewares.body_size import body_size
        app = web.Application(middlewares=[body_size(4096)])

    A body with ``Content-Length`` is refused before any of it is read. One that is chunked or
    compressed is refused as soon as what the handler reads of it, by ``request.read()`` or
    what builds on it, is more; the rest is never held in memory.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        length = request.content_length
        if length is not None and length > max_bytes:
            raise _too_large(max_bytes)
        if request.body_exists and (length is None or hdrs.CONTENT_ENCODING in request.headers):
            request = request.clone(client_max_size=max_bytes)
        try:
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            raise _too_large(max_bytes) from None

    return middleware


def _too_large(max_bytes: int) -> web.HTTPRequestEntityTooLarge:
    return web.HTTPRequestEntityTooLarge(
        max_bytes, text=f"The body is larger than {max_bytes} bytes"
    )
