"""``GET /openapi.json`` and ``GET /docs``: the API described, for programs and for people."""

import asyncio
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from scrapper.handlers.openapi import describe_api
from scrapper.handlers.page import serve
from scrapper.serving.base_path import BASE_PATH

__all__ = ["DOCS_FILES", "docs", "openapi"]

_FOLDER = Path(__file__).resolve().parents[1] / "docs_page"
# swagger-ui-py is a package of Python code around these files; only the files are used.
_SWAGGER = Path(str(distribution("swagger-ui-py").locate_file("swagger_ui/static")))
DOCS_FILES = {
    "/docs": (_FOLDER / "index.html", "text/html; charset=utf-8"),
    "/docs/docs.css": (_FOLDER / "docs.css", "text/css; charset=utf-8"),
    "/docs/docs.js": (_FOLDER / "docs.js", "text/javascript; charset=utf-8"),
    "/docs/swagger-ui.js": (
        _SWAGGER / "swagger-ui-bundle.js",
        "text/javascript; charset=utf-8",
    ),
    "/docs/swagger-ui.css": (_SWAGGER / "swagger-ui.css", "text/css; charset=utf-8"),
}
"""The files of ``/docs``, where Swagger UI shows the description: place and type by path."""

# Swagger UI sets styles inline, and its icons are data: URLs.
docs = serve(
    DOCS_FILES,
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
)


def openapi(*, version: str, keyed: bool, max_url_length: int) -> Handler:
    """A handler that gives the description; *keyed* says whether a key is needed.

    It is made on the first request: few people ever ask, and making it costs time and memory.
    """

    # Bounded: a trusted proxy may send anything.
    @lru_cache(maxsize=8)
    def make(server: str, app: web.Application) -> bytes:
        description = describe_api(
            app.router.routes(),
            version=version,
            keyed=keyed,
            max_url_length=max_url_length,
            server=server,
        )
        return orjson.dumps(description)

    async def handler(request: web.Request) -> web.StreamResponse:
        server = request.app[BASE_PATH].prefix_of(request) or "/"
        body = await asyncio.to_thread(make, server, request.app)
        return web.Response(body=body, content_type="application/json")

    return handler
