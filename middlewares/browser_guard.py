"""Keeps pages of other sites from using the service through a visitor's browser."""

import html
import re
from collections.abc import Callable, Iterable, Set
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["browser_guard", "is_foreign"]

_SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS, hdrs.METH_TRACE})
# RFC 6761 and 6762, RFC 8375, and ICANN's reservation of .internal: names of no public site.
_LOCAL_SUFFIXES = (".localhost", ".local", ".lan", ".home.arpa", ".internal")
_MOST_SHOWN = 253  # The longest host name: RFC 1035, section 2.3.4.
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Misdirected request</title>
<h1>This name is not allowed</h1>
<p>{text}</p>
<p><small>421 {code}</small></p>
</html>
"""
# RFC 9110, section 7.2: an IPv6 address in brackets or a name, then perhaps a port.
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]*)?")


def browser_guard(
    *,
    hosts: Iterable[str] | None = (),
    advice: str = "",
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
    browser. The 421 names the refused host and gives *advice*: what the operator can change. A
    browser that asks for a page gets the error as a page.

    A request that may change something must come from the service's own page, from no page, or from
    no browser. A GET may change something if *changes* returns true. A visitor may follow a link to
    such a GET from another site. But no page may load it as a picture or in a frame, even from
    another port of the same host, or prefetch it (``Sec-Purpose``). Requests for which *exempt*
    returns true may have any ``Host``.
    """
    allowed = None if hosts is None else frozenset(host.lower().rstrip(".") for host in hosts)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if allowed is not None and not exempt(request):
            host = request.headers.get(hdrs.HOST, "")
            name = _name_of(host)
            if host and not _is_own(name, allowed):
                refusal = _Misdirected(name, advice)
                if _wants_page(request):
                    return refusal.page()
                raise refusal
        foreign = is_foreign(request)
        if request.method in _SAFE_METHODS:
            foreign = (foreign or _is_subresource(request)) and not _is_visit(request)
            foreign = foreign and changes(request)
        if foreign:
            raise _CrossSite
        return await handler(request)

    return middleware


class _Misdirected(web.HTTPClientError):
    status_code = 421
    code = "forbidden_host"

    def __init__(self, name: str, advice: str) -> None:
        shown = f"the name {name[:_MOST_SHOWN]}" if name else "this name"
        text = f"This service does not answer under {shown}. {advice}".strip()
        super().__init__(reason="Misdirected Request", text=text)

    def page(self) -> web.Response:
        """The error as a page, for people."""
        return web.Response(
            status=self.status_code,
            reason=self.reason,
            text=_PAGE.format(text=html.escape(self.text or ""), code=self.code),
            content_type="text/html",
        )


class _CrossSite(web.HTTPForbidden):
    code = "cross_site"

    def __init__(self) -> None:
        super().__init__(text="Pages of other sites may not do this")


def _name_of(host: str) -> str:
    """The name in a ``Host`` header, in lower case; empty if there is none."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]).lower().rstrip(".") if found else ""


def _wants_page(request: web.Request) -> bool:
    return request.method in _SAFE_METHODS and "text/html" in request.headers.get(hdrs.ACCEPT, "")


def _is_own(name: str, allowed: Set[str]) -> bool:
    """Whether *name* is an address, or a name that no other site can have."""
    try:
        ip_address(name)
    except ValueError:
        local = name and ("." not in name or name.endswith(_LOCAL_SUFFIXES))
        return bool(local) or name in allowed
    return True


def is_foreign(request: web.Request, *, by_referer: bool = False) -> bool:
    """Whether a browser says that a page of another origin makes the request.

    Browsers send ``Sec-Fetch-*`` only to https and localhost. Elsewhere ``Origin`` counts, and with
    *by_referer* also ``Referer``, which browsers send even when a visitor follows a link.
    """
    headers = request.headers
    # If a header comes twice, the worse value counts.
    if _has_metadata(request):
        # Chromium sends "none" for what another site's page makes it prefetch.
        own = {"same-origin"} if _is_prefetch(request) else {"same-origin", "none"}
        return not own.issuperset(headers.getall("Sec-Fetch-Site"))
    origins = headers.getall(hdrs.ORIGIN, ())
    if by_referer and not origins:
        origins = headers.getall(hdrs.REFERER, ())
    # The scheme does not count: behind a proxy that does TLS, it differs.
    host = headers.get(hdrs.HOST, "").lower()
    return any(_netloc(origin) != host for origin in origins)


def _is_prefetch(request: web.Request) -> bool:
    """Whether a browser prefetches, by the header of today's browsers or of older ones."""
    return any(name in request.headers for name in ("Sec-Purpose", "Purpose", "X-Moz"))


def _is_visit(request: web.Request) -> bool:
    """Whether the browser navigates now: the response replaces the page in its tab."""
    headers = request.headers
    return (
        headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
        and not _is_prefetch(request)
    )


def _is_subresource(request: web.Request) -> bool:
    """Whether a browser that sends no ``Sec-Fetch-*`` loads this for a page, or prefetches it.

    Only ``Accept`` then shows that the request is for a picture, for example.
    """
    headers = request.headers
    if _has_metadata(request) or hdrs.ORIGIN in headers:
        return False
    is_browser = headers.get(hdrs.USER_AGENT, "").startswith("Mozilla/")
    is_document = "text/html" in headers.get(hdrs.ACCEPT, "text/html")
    return is_browser and (_is_prefetch(request) or not is_document)


def _has_metadata(request: web.Request) -> bool:
    # Node's fetch, which is not a browser, sends only Sec-Fetch-Mode.
    return "Sec-Fetch-Site" in request.headers


def _netloc(origin: str) -> str | None:
    """The host and port of an origin, as ``Host`` has them; None if there are none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
