"""Protection against pages of other sites that use the service through a visitor's browser."""

import html
import re
from collections.abc import Callable, Iterable, Set
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["browser_guard", "is_foreign"]

_SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS, hdrs.METH_TRACE})
# No public site has one of these: RFC 6761, 6762 and 8375, and ICANN's reservation of .internal.
_LOCAL_SUFFIXES = (".localhost", ".local", ".lan", ".home.arpa", ".internal")
_MAX_SHOWN_LENGTH = 253  # The longest host name: RFC 1035, section 2.3.4.
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Misdirected request</title>
<h1>This host name is not allowed</h1>
<p>{text}</p>
<p><small>421 {code}</small></p>
</html>
"""
# RFC 9110, section 7.2: an IPv6 address in brackets or a name, then an optional port.
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]*)?")


def browser_guard(
    *,
    hosts: Iterable[str] | None = (),
    advice: str = "",
    exempt: Callable[[web.Request], bool] = lambda _: False,
    changes: Callable[[web.Request], bool] = lambda _: False,
) -> Middleware:
    """Refuse requests to an unknown host name (421), and requests from other sites' pages (403).

    ::

        from middlewares.browser_guard import browser_guard
        app = web.Application(middlewares=[browser_guard(hosts=["posts.example.com"])])

    A site can point its DNS record at the service's address. The browser then treats the site's
    page and the service as the same origin (DNS rebinding). So ``Host`` must be one of *hosts*, an
    IP address, a single label, or a name that no public site has: ``localhost``, ``*.local``,
    ``*.lan``, ``*.home.arpa``, ``*.internal``. If *hosts* is None, every name is allowed. A request
    without ``Host`` is allowed, because it cannot come from a browser. The body of the 421 contains
    the refused name and *advice*, which explains what to change. A browser that requests a page
    gets the error as HTML. Requests for which *exempt* returns true may have any ``Host``.

    A request that can change something must come from the service's own page, from the user (for
    example, through a bookmark), or from a client that is not a browser. *changes* returns true for
    GET requests that can change something. Such a GET request is also allowed if the visitor makes
    it by following a link on another site. But pages of other origins, including those on other
    ports of the same host, may not prefetch its URL (``Sec-Purpose``), or load it as a picture or
    in a frame.
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
        shown = f"the host name {name[:_MAX_SHOWN_LENGTH]}" if name else "this host name"
        text = f"This service does not accept {shown}. {advice}".strip()
        super().__init__(reason="Misdirected Request", text=text)

    def page(self) -> web.Response:
        """Return the error as an HTML page."""
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
    """Return the name in a ``Host`` header in lower case; empty if the header has no valid name."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]).lower().rstrip(".") if found else ""


def _wants_page(request: web.Request) -> bool:
    return request.method in _SAFE_METHODS and "text/html" in request.headers.get(hdrs.ACCEPT, "")


def _is_own(name: str, allowed: Set[str]) -> bool:
    """Return whether *name* is in *allowed*, is an IP address, or cannot be another site's name."""
    try:
        ip_address(name)
    except ValueError:
        local = name and ("." not in name or name.endswith(_LOCAL_SUFFIXES))
        return bool(local) or name in allowed
    return True


def is_foreign(request: web.Request, *, by_referer: bool = False) -> bool:
    """Return whether the request's headers show that a page of another origin made it.

    Browsers send ``Sec-Fetch-*`` only to https URLs and to localhost. Without these headers,
    ``Origin`` decides. If that is also missing and *by_referer* is true, ``Referer`` decides.
    Browsers send ``Referer`` even when a visitor follows a link.
    """
    headers = request.headers
    # If a header occurs more than once, every value must pass.
    if _has_metadata(request):
        # Chromium also sends "none" when another site's page makes it prefetch something.
        own = {"same-origin"} if _is_prefetch(request) else {"same-origin", "none"}
        return not own.issuperset(headers.getall("Sec-Fetch-Site"))
    origins = headers.getall(hdrs.ORIGIN, ())
    if by_referer and not origins:
        origins = headers.getall(hdrs.REFERER, ())
    # Schemes are not compared: behind a proxy that terminates TLS, they differ.
    host = headers.get(hdrs.HOST, "").lower()
    return any(_netloc(origin) != host for origin in origins)


def _is_prefetch(request: web.Request) -> bool:
    """Return whether a browser is prefetching, according to current or older headers."""
    return any(name in request.headers for name in ("Sec-Purpose", "Purpose", "X-Moz"))


def _is_visit(request: web.Request) -> bool:
    """Return whether the browser is navigating: the response will replace the page in its tab."""
    headers = request.headers
    return (
        headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
        and not _is_prefetch(request)
    )


def _is_subresource(request: web.Request) -> bool:
    """Return whether a browser without ``Sec-Fetch-*`` is loading a subresource or prefetching.

    Without these headers, only ``Accept`` shows what the request is for, such as a picture.
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
    """Return the host and port of *origin* as in a ``Host`` header, or None if it has no host."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
