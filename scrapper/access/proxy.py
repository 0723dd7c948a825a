"""Signs in users without an API key, by the name that a trusted proxy sends in a header."""

import re
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import structlog
from aiohttp import web

from middlewares.browser_guard import is_foreign
from middlewares.request_context import peer_of
from scrapper.settings import Settings

__all__ = ["ProxySignIn", "gateways"]

log = structlog.get_logger(__name__)

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_NAMESPACE = "proxy:"
_ROUTES = Path("/proc/net/route")
_IPV6_ROUTES = Path("/proc/net/ipv6_route")
_IS_GATEWAY = 0x2


class ProxySignIn:
    """Reads the signed-in user from ``AUTH_PROXY_HEADER``, which only ``AUTH_PROXIES`` may send.

    The header is ignored in requests from other sites' pages. It is also ignored if it is invalid,
    if it is sent more than once, or if the connection itself does not come from one of these
    proxies, whatever ``X-Forwarded-For`` says. Each of these three causes is logged only the first
    time.
    """

    def __init__(self, settings: Settings) -> None:
        self._header = settings.auth_proxy_header
        self._proxies = frozenset(settings.auth_proxies)
        self._logged: set[str] = set()

    def name_of(self, request: web.Request) -> str | None:
        """Return the signed-in user as ``proxy:NAME``, or None if no proxy signed a user in.

        A key's name contains no colon, so it cannot be confused with a user.
        """
        given = request.headers.getall(self._header, ()) if self._header else ()
        if not given or is_foreign(request, by_referer=True):
            return None
        peer = peer_of(request)
        if peer not in self._proxies:
            cause = "not from AUTH_PROXIES"
        elif len(given) > 1:
            cause = "sent more than once"
        elif not _NAME.fullmatch(given[0]):
            cause = "not a valid name (1 to 64 letters, digits or ._@-)"
        else:
            return _NAMESPACE + given[0]
        if cause not in self._logged:
            self._logged.add(cause)
            log.warning("sign-in by proxy ignored", header=self._header, cause=cause, peer=peer)
        return None

    def client_of(self, request: web.Request) -> str | None:
        """Return the signed-in user as ``proxy:NAME``, or else the client's address, if known.

        Limits per client use this name, because all users of a proxy may have the proxy's address.
        """
        return self.name_of(request) or request.remote


def gateways(routes: Path = _ROUTES, ipv6_routes: Path = _IPV6_ROUTES) -> set[str]:
    """Return the addresses of this machine's gateways from Linux's routing tables; blocking.

    If Docker publishes a port, connections from anywhere may appear to come from the gateway.
    """
    return {*_ipv4_gateways(routes), *_ipv6_gateways(ipv6_routes)}


def _ipv4_gateways(routes: Path) -> Iterator[str]:
    for fields in _lines(routes)[1:]:
        if int(fields[3], 16) & _IS_GATEWAY:
            yield str(IPv4Address(struct.pack("=L", int(fields[2], 16))))


def _ipv6_gateways(routes: Path) -> Iterator[str]:
    for fields in _lines(routes):
        if int(fields[8], 16) & _IS_GATEWAY:
            yield str(IPv6Address(bytes.fromhex(fields[4])))


def _lines(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return []
