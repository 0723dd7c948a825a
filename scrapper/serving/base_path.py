"""Determines the path prefix under which a reverse proxy exposes the service."""

import re
from collections.abc import Iterable, Sequence

from aiohttp import web

from middlewares.request_context import Network, is_from_one_of, peer_of
from scrapper.errors import SettingsError
from scrapper.settings import Settings

__all__ = ["BASE_PATH", "BasePath", "check_base_path"]

_HEADER = "X-Forwarded-Prefix"
# Characters that RFC 3986 allows unescaped in a path. Two slashes would start a host name.
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]{1,100}){1,10}")


class BasePath:
    """``BASE_PATH``, or the prefix that a trusted proxy sends in ``X-Forwarded-Prefix``.

    With ``BASE_PATH``, a proxy may strip the prefix from a request's path or leave it in place.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = settings.base_path
        self._trusted: Sequence[Network] = settings.proxies

    def prefix_of(self, request: web.Request) -> str:
        """Return the prefix of the paths in the client's URLs, such as ``/gram``; may be empty."""
        forwarded = request.headers.get(_HEADER, "").rstrip("/")
        trusted = forwarded and is_from_one_of(self._trusted, peer_of(request))
        if trusted and _PREFIX.fullmatch(forwarded):
            return forwarded
        return self._path

    def own_path(self, request: web.Request) -> str:
        """Return the path of *request* without ``BASE_PATH``."""
        path = request.path
        if self._path and (path == self._path or path.startswith(f"{self._path}/")):
            return path[len(self._path) :] or "/"
        return path


def check_base_path(path: str, routes: Iterable[str]) -> None:
    """Check that the base path *path* does not clash with any of the *routes*.

    Raises:
        SettingsError: *path* starts with the same segment as one of the *routes*.
    """
    first = path.split("/")[1:2]
    if path and any(route.split("/")[1:2] == first for route in routes):
        raise SettingsError(f"BASE_PATH: the route /{first[0]} already exists: choose another path")


BASE_PATH = web.AppKey("base_path", BasePath)
"""The application's key for its base path."""
