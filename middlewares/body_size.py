"""A limit on the size of request bodies."""

from collections.abc import Mapping

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["body_size"]


def body_size(max_bytes: int, *, by_path: Mapping[str, int] | None = None) -> Middleware:
    """Respond with 413 to requests whose body is larger than *max_bytes*.

    ::

        from middlewares.body_size import body_size
        app = web.Application(middlewares=[body_size(4096)])

    If ``Content-Length`` exceeds the limit, the request is refused before its body is read. A
    chunked or compressed body is refused as soon as the handler has read more than the limit with
    ``request.read()``, or a method built on it, so the rest is never held in memory. *by_path*
    overrides the limit for some paths.
    """
    limits = by_path or {}

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        length, limit = request.content_length, limits.get(request.path, max_bytes)
        if length is not None and length > limit:
            raise _too_large(limit)
        if request.body_exists and (length is None or hdrs.CONTENT_ENCODING in request.headers):
            request = request.clone(client_max_size=limit)
        try:
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            raise _too_large(limit) from None

    return middleware


def _too_large(max_bytes: int) -> web.HTTPRequestEntityTooLarge:
    return web.HTTPRequestEntityTooLarge(
        max_bytes, text=f"The body is larger than {max_bytes} bytes"
    )
