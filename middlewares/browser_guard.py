"""Keeps pages of other sites from using the service by way of a visitor's browser."""

import re
from collections.abc import Callable, Iterable, Set
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["browser_guard"]

_SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS, hdrs.METH_TRACE})
# RFC 6761 and 6762, RFC 8375, and ICANN's reservation of .internal: names of no public site.
_LOCAL_SUFFIXES = (".localhost", ".local", ".lan", ".home.arpa", ".internal")
_OWN_SITE = ("same-origin", "none")
# RFC 9110, section 7.2: an IPv6 address in brackets or a name, then perhaps a port.
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]*)?")


def browser_guard(
    *,
    hosts: Iterable[str] | None = (),
    exempt: Callable[[web.Request], bool] = lambda _: False,
    changes: Callable[[web.Request], bool] = lambda _: False,
) -> Middleware:
    """Refuse requests for another site's name (421), and those that other sites' pages make (403).

    ::

        from middlewares.browser_guard import browser_guard
        app = web.Application(middlewares=[browser_guard(hosts=["posts.example.com"])])

    A page whose name suddenly resolves to this address counts as same-origin for its browser
    (DNS rebinding). So ``Host`` must be one of *hosts*, an IP address, a single label, or a name
    that no public site has: ``localhost``, ``*.local``, ``*.lan``, ``*.home.arpa``,
    ``*.internal``. With *hosts* None every name is good. A request without ``Host`` comes from no
    browser.

    A request that may change something is refused if ``Sec-Fetch-Site`` is ``cross-site``, or if
    ``Origin`` is another than the request's own. A GET may change something if *changes* returns
    true; then somebody may still visit it from another site, but no page may load it as a picture
    or in a frame. Requests for which *exempt* returns true may have any ``Host``.
    """
    allowed = None if hosts is None else frozenset(host.lower().rstrip(".") for host in hosts)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if allowed is not None and not exempt(request):
            host = request.headers.get(hdrs.HOST, "")
            if host and not _is_own(_name_of(host), allowed):
                raise _Misdirected
        is_safe = request.method in _SAFE_METHODS
        may_change = changes(request) and not _is_visit(request) if is_safe else True
        if may_change and _is_foreign(request):
            raise _CrossSite
        return await handler(request)

    return middleware


class _Misdirected(web.HTTPClientError):
    status_code = 421
    code = "forbidden_host"

    def __init__(self) -> None:
        super().__init__(
            reason="Misdirected Request", text="This service does not answer under this name"
        )


class _CrossSite(web.HTTPForbidden):
    code = "cross_site"

    def __init__(self) -> None:
        super().__init__(text="Pages of other sites may not do this")


def _name_of(host: str) -> str:
    """The name in a ``Host`` header, in lower case; empty if there is none."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]).lower().rstrip(".") if found else ""


def _is_own(name: str, allowed: Set[str]) -> bool:
    """Whether *name* is an address, or a name that no other site can have."""
    try:
        ip_address(name)
    except ValueError:
        local = name and ("." not in name or name.endswith(_LOCAL_SUFFIXES))
        return bool(local) or name in allowed
    return True


def _is_visit(request: web.Request) -> bool:
    """Whether the browser navigates: the response replaces the page in its tab."""
    mode = request.headers.get("Sec-Fetch-Mode")
    return mode == "navigate" and request.headers.get("Sec-Fetch-Dest") == "document"


def _is_foreign(request: web.Request) -> bool:
    """Whether a page of another site makes the request."""
    site = request.headers.get("Sec-Fetch-Site", "")
    if site in _OWN_SITE:
        return False
    if site == "cross-site":
        return True
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None and not site and request.method in _SAFE_METHODS:
        return _is_part_of_page(request)
    # The scheme does not count: behind a proxy that does TLS, it is another one.
    return origin is not None and _netloc(origin) != request.headers.get(hdrs.HOST, "").lower()


def _is_part_of_page(request: web.Request) -> bool:
    """Whether a browser loads this for a page, as a picture for example.

    Browsers send ``Sec-Fetch-*`` to https and to localhost alone. Elsewhere only ``Accept`` tells.
    """
    accept = request.headers.get(hdrs.ACCEPT, "text/html")
    is_browser = request.headers.get(hdrs.USER_AGENT, "").startswith("Mozilla/")
    return is_browser and "text/html" not in accept


def _netloc(origin: str) -> str | None:
    """The host and port of an origin, as ``Host`` has them; None if it is none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
