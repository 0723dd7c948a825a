"""``GET /``: the page, and the files that it is made of."""

from pathlib import Path

from scrapper.handlers.static_files import serve

__all__ = ["PAGE_FILES", "page"]

_FOLDER = Path(__file__).resolve().parents[1] / "page"

_SCRIPTS = ("page", "dom", "api", "events", "advice", "posts", "downloads", "login", "session")

PAGE_FILES = {
    "/": (_FOLDER / "index.html", "text/html; charset=utf-8"),
    "/page.css": (_FOLDER / "page.css", "text/css; charset=utf-8"),
    **{
        f"/{name}.js": (_FOLDER / f"{name}.js", "text/javascript; charset=utf-8")
        for name in (
            "page",
            "dom",
            "api",
            "events",
            "advice",
            "posts",
            "downloads",
            "login",
            "session",
        )
    },
    "/page.svg": (_FOLDER / "page.svg", "image/svg+xml"),
}
"""The page's files and their types, by path."""

page = serve(
    PAGE_FILES,
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
)
