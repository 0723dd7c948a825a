"""``GET /``: the page, and the files that it is made of."""

from pathlib import Path

from scrapper.handlers.static_files import serve

__all__ = ["PAGE_FILES", "page"]

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

page = serve(
    PAGE_FILES,
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'",
)
