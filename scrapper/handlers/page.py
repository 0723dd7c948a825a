"""``GET /`` and ``GET /docs``: the page, the API reference, and their files."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from scrapper.handlers.versions import RangedFile
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
"""The page's files, by path."""


def _docs_files() -> dict[str, Path]:
    ours = _PACKAGE / "docs_page"
    try:
        # A package of Python code around the files of Swagger UI; only the files are used.
        package = distribution("swagger-ui-py")
    except PackageNotFoundError:
        return {"/docs": ours / "missing.html"}
    theirs = Path(str(package.locate_file("swagger_ui/static")))
    return {
        "/docs": ours / "index.html",
        "/docs/docs.css": ours / "docs.css",
        "/docs/docs.js": ours / "docs.js",
        "/docs/swagger-ui.js": theirs / "swagger-ui-bundle.js",
        "/docs/swagger-ui.css": theirs / "swagger-ui.css",
    }


DOCS_FILES = _docs_files()
"""The files of ``/docs``, by path: Swagger UI with the description, or how to install it."""


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


async def to_page(request: web.Request) -> web.Response:
    """Redirect visitors who left out the slash after the prefix: the page's links are relative.

    Raises:
        web.HTTPFound: always.
    """
    raise web.HTTPFound(request.rel_url.with_path(f"{request.path}/", keep_query=True))
