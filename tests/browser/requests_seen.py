"""A middleware for tests: what a browser asked of the service, and how each request ended."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from scrapper.setting_types import OWN_MIDDLEWARES

__all__ = ["MIDDLEWARES", "SEEN", "factory"]

MIDDLEWARES = ",".join(("tests.browser.requests_seen:factory", *OWN_MIDDLEWARES))
"""The service's own request path, inside of this middleware."""

SEEN: list[tuple[str, int]] = []
"""The value of ``name`` in the query, and the status, oldest first."""


def factory() -> Middleware:
    """Note each request for which the query has a ``name``."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if "name" in request.query:
            SEEN.append((request.query["name"], response.status))
        return response

    return middleware
