"""The path under which a reverse proxy shows the service."""

import re
from collections.abc import Iterable, Sequence

from aiohttp import web

from middlewares.request_context import Network, is_from_one_of, peer_of
from scrapper.errors import SettingsError
from scrapper.settings import Settings

__all__ = ["BASE_PATH", "BasePath", "check_base_path"]

_HEADER = "X-Forwarded-Prefix"
# Characters that RFC 3986 allows unescaped in a path. Two slashes would begin a host's name.
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]{1,100}){1,10}")


class BasePath:
    """``BASE_PATH``, or what a trusted proxy says about a request in ``X-Forwarded-Prefix``.

    A proxy may strip the prefix or pass it on: both work with ``BASE_PATH``.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = settings.base_path
        self._trusted: Sequence[Network] = settings.proxies

    def prefix_of(self, request: web.Request) -> str:
        """The prefix of the service's own paths in the client's URLs; empty, or like ``/posts``."""
        said = request.headers.get(_HEADER, "").rstrip("/")
        trusted = said and is_from_one_of(self._trusted, peer_of(request))
        if trusted and _PREFIX.fullmatch(said):
            return said
        return self._path

    def own_path(self, request: web.Request) -> str:
        """The service's own path in the URL of *request*."""
        path = request.path
        if self._path and (path == self._path or path.startswith(f"{self._path}/")):
            return path[len(self._path) :] or "/"
        return path


def check_base_path(path: str, routes: Iterable[str]) -> None:
    """Check that *path* does not begin like one of the *routes*.

    Otherwise nobody could say whether such a route's path begins with the prefix.

    Raises:
        SettingsError: *path* does.
    """
    first = path.split("/")[1:2]
    if path and any(route.split("/")[1:2] == first for route in routes):
        raise SettingsError(f"BASE_PATH: there is a route /{first[0]} already: choose another")


BASE_PATH = web.AppKey("base_path", BasePath)
"""The key under which an application keeps its base path."""
