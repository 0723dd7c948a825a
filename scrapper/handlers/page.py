"""``GET /`` and ``GET /docs``: the page, the API reference, and their files."""

import asyncio
import math
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from scrapper.handlers.versions import Version, versioned_file
from scrapper.serving.base_path import BASE_PATH

__all__ = ["DOCS_FILES", "PAGE_FILES", "docs", "page", "to_page"]

_PACKAGE = Path(__file__).resolve().parents[1]
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}

PAGE_FILES = {
    "/" if path.name == "index.html" else f"/{path.name}": path
    for path in sorted((_PACKAGE / "page").iterdir())
}
"""The files of the web page, by URL path."""


def _docs_files() -> dict[str, Path]:
    own_files = _PACKAGE / "docs_page"
    try:
        # Only the Swagger UI files bundled in this package are used, not its Python code.
        package = distribution("swagger-ui-py")
    except PackageNotFoundError:
        return {"/docs": own_files / "missing.html"}
    swagger_ui = Path(str(package.locate_file("swagger_ui/static")))
    return {
        "/docs": own_files / "index.html",
        "/docs/docs.css": own_files / "docs.css",
        "/docs/docs.js": own_files / "docs.js",
        "/docs/swagger-ui.js": swagger_ui / "swagger-ui-bundle.js",
        "/docs/swagger-ui.css": swagger_ui / "swagger-ui.css",
    }


DOCS_FILES = _docs_files()
"""The files of ``/docs``, by URL path: Swagger UI, or a page that explains how to install it."""


def _serve(files: Mapping[str, Path], policy: str) -> Handler:
    """Return a handler that serves *files* with *policy* as their ``Content-Security-Policy``.

    Browsers must revalidate a file each time they use it.
    """

    async def handler(request: web.Request) -> web.StreamResponse:
        path = files[request.app[BASE_PATH].own_path(request)]
        try:
            status = await asyncio.to_thread(path.stat)
        except OSError:
            raise web.HTTPNotFound(text="The file is gone") from None
        tag = f"{status.st_mtime_ns:x}-{status.st_size:x}"
        version = Version(tag, math.ceil(status.st_mtime), status.st_size)
        headers = {
            hdrs.CONTENT_TYPE: _TYPES[path.suffix],
            hdrs.CACHE_CONTROL: "no-cache",
            "Content-Security-Policy": policy,
        }
        return versioned_file(request, path, version, headers)

    return handler


page = _serve(
    PAGE_FILES,
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'",
)

# Swagger UI sets styles inline, and its icons are data: URLs.
docs = _serve(
    DOCS_FILES,
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
)


async def to_page(request: web.Request) -> web.Response:
    """Redirect from the bare prefix to the page, adding the slash that its relative links need.

    Raises:
        web.HTTPFound: always.
    """
    raise web.HTTPFound(request.rel_url.with_path(f"{request.path}/", keep_query=True))
