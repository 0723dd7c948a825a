"""``GET /`` and ``GET /docs``: the page, the API reference, and their files."""

from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from scrapper.handlers.versions import RangedFile
from scrapper.serving.base_path import BASE_PATH

__all__ = ["DOCS_FILES", "PAGE_FILES", "docs", "page"]

_PACKAGE = Path(__file__).resolve().parents[1]
# swagger-ui-py is a package of Python code around these files; only the files are used.
_SWAGGER = Path(str(distribution("swagger-ui-py").locate_file("swagger_ui/static")))
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
"""The page's files, by path."""

DOCS_FILES = {
    "/docs": _PACKAGE / "docs_page/index.html",
    "/docs/docs.css": _PACKAGE / "docs_page/docs.css",
    "/docs/docs.js": _PACKAGE / "docs_page/docs.js",
    "/docs/swagger-ui.js": _SWAGGER / "swagger-ui-bundle.js",
    "/docs/swagger-ui.css": _SWAGGER / "swagger-ui.css",
}
"""The files of ``/docs``, where Swagger UI shows the description, by path."""


def _serve(files: Mapping[str, Path], policy: str) -> Handler:
    """A handler that serves the *files*, by path; *policy* is their ``Content-Security-Policy``.

    Browsers ask each time whether a file changed.
    """

    async def handler(request: web.Request) -> RangedFile:
        path = files[request.app[BASE_PATH].own_path(request)]
        headers = {
            hdrs.CONTENT_TYPE: _TYPES[path.suffix],
            hdrs.CACHE_CONTROL: "no-cache",
            "Content-Security-Policy": policy,
        }
        return RangedFile(path, headers=headers)

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
