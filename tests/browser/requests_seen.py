"""A middleware for tests that records a browser's requests and their statuses."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from scrapper.setting_types import OWN_MIDDLEWARES

__all__ = ["MIDDLEWARES", "SEEN", "factory"]

MIDDLEWARES = ",".join(("tests.browser.requests_seen:factory", *OWN_MIDDLEWARES))
"""The service's own middlewares, inside this one."""

SEEN: list[tuple[str, int]] = []
"""The ``name`` in the query of each request, and the status of its response, oldest first."""


def factory() -> Middleware:
    """Return a middleware that records each request that has a ``name`` in its query."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if "name" in request.query:
            SEEN.append((request.query["name"], response.status))
        return response

    return middleware
