"""``GET /``: the page, and the files that it is made of."""

from pathlib import Path

from aiohttp import hdrs, web

__all__ = ["PAGE_FILES", "page"]

PAGE_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.svg": ("page.svg", "image/svg+xml"),
}
"""By path: the file under ``scrapper/page/``, and its type."""

_FOLDER = Path(__file__).resolve().parents[1] / "page"
# blob: where an API key is set, the page reads media with the key and shows what it has read.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "media-src 'self' blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


async def page(request: web.Request) -> web.FileResponse:
    """One of the page's files; browsers ask each time whether it changed."""
    name, content_type = PAGE_FILES[request.path]
    headers = {
        hdrs.CONTENT_TYPE: content_type,
        hdrs.CACHE_CONTROL: "no-cache",
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return web.FileResponse(_FOLDER / name, headers=headers)
