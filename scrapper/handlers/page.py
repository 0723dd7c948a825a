"""``GET /``: the page, and the files that it is made of."""

from collections.abc import Mapping
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from scrapper.serving.base_path import BASE_PATH

__all__ = ["PAGE_FILES", "page", "serve"]

_FOLDER = Path(__file__).resolve().parents[1] / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}

PAGE_FILES = {
    "/" if path.name == "index.html" else f"/{path.name}": (path, _TYPES[path.suffix])
    for path in sorted(_FOLDER.iterdir())
}
"""The page's files and their types, by path."""


def serve(files: Mapping[str, tuple[Path, str]], policy: str) -> Handler:
    """A handler of files of the service's own, by path: where they are, and their type.

    *policy* is their ``Content-Security-Policy``. Browsers ask each time whether a file changed.
    """

    async def handler(request: web.Request) -> web.FileResponse:
        path, content_type = files[request.app[BASE_PATH].own_path(request)]
        headers = {
            hdrs.CONTENT_TYPE: content_type,
            hdrs.CACHE_CONTROL: "no-cache",
            "Content-Security-Policy": policy,
        }
        return web.FileResponse(path, headers=headers)

    return handler


page = serve(
    PAGE_FILES,
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'",
)
