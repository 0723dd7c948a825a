"""Request IDs, clients' addresses, and the access log."""

import random
import re
import socket
import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from structlog.contextvars import bind_contextvars

from middlewares.sending import Sent, send

__all__ = ["REQUEST_ID", "is_from_one_of", "peer_of", "request_context"]

REQUEST_ID = web.RequestKey("request_id", str)
"""The request key under which the ID is stored: ``request[REQUEST_ID]``."""

_HEADER = "X-Request-ID"
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_UNIX = "unix"

Network = IPv4Network | IPv6Network | Literal["unix"]
Address = IPv4Address | IPv6Address

log = structlog.get_logger("access")


def request_context(*, trusted_proxies: Sequence[Network] = ()) -> Middleware:
    """Give each request an ID, determine its client's address, and log one line about it.

    ::

        from middlewares.request_context import request_context
        app = web.Application(middlewares=[request_context(trusted_proxies=[ip_network("::1")])])

    The client's ``X-Request-ID`` is used if it is valid (1 to 128 letters, digits, ``.``, ``_`` and
    ``-``); otherwise a new ID is generated. The response has the ID in the same header, and every
    structlog line of the request has it as ``request_id``.

    *trusted_proxies* are networks, or ``"unix"`` for Unix sockets. For a connection from one of
    them, ``request.remote`` becomes the rightmost address in ``X-Forwarded-For`` that is not
    trusted. Anything that a client wrote into that header is further left, and is ignored.

    The log line is the event ``request`` of the logger ``access``. It has ``method``, ``path``
    (without the query, which may contain secrets), ``status`` (as sent), ``duration_ms`` (until the
    last byte), ``bytes`` (of the response's body) and ``client``. It also has ``aborted`` if the
    client disconnected before the last byte. If the request was cancelled before it got a response,
    ``status`` is 499.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        given = request.headers.get(_HEADER)
        request_id = given if given and _VALID_ID.fullmatch(given) else _new_id()
        request[REQUEST_ID] = request_id
        client = _client_of(request, trusted_proxies)
        if client != request.remote:
            request = request.clone(remote=client or "")
        # No need to unbind the ID: aiohttp handles each request in its own task.
        bind_contextvars(request_id=request_id)

        def log_access(sent: Sent) -> None:
            log.info(
                "request",
                method=request.method,
                path=request.path,
                duration_ms=round((time.perf_counter() - started) * 1000, 3),
                client=client,
                status=sent.status,
                bytes=sent.bytes,
                **({"aborted": True} if sent.aborted else {}),
            )

        async def identified(request: web.Request) -> web.StreamResponse:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                error.headers[_HEADER] = request_id
                raise
            if not response.prepared:
                response.headers[_HEADER] = request_id
            return response

        return await send(request, identified, log_access)

    return middleware


def is_from_one_of(networks: Sequence[Network], address: str | None) -> bool:
    """Return whether *address*, from a socket or a header, is in one of *networks*."""
    return address in networks if address == _UNIX else _is_in(networks, _address(address))


def peer_of(request: web.Request) -> str:
    """Return the address that opened the connection of *request*, or ``unix`` for a Unix socket.

    If the address is unknown, return an empty string. Behind a proxy, the result is the proxy's
    address, whereas ``request.remote`` may be the client's.
    """
    opened = request.get_extra_info("socket")
    if opened is not None and opened.family == socket.AF_UNIX:
        return _UNIX
    name = request.get_extra_info("peername")
    address = _address(name[0]) if isinstance(name, tuple) and name else None
    return "" if address is None else str(address)


def _new_id() -> str:
    # IDs need not be unguessable, and the operating system's random bytes take ten times as long.
    return f"{random.getrandbits(128):032x}"


def _client_of(request: web.Request, trusted: Sequence[Network]) -> str | None:
    # A client connected over a Unix socket has no address.
    remote = request.remote or peer_of(request)
    if not trusted or not is_from_one_of(trusted, remote):
        return remote
    hops = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
    for hop in reversed(hops):
        address = _address(_without_port(hop.strip()))
        if address is None:
            break
        remote = str(address)
        if not _is_in(trusted, address):
            break
    return remote


def _without_port(hop: str) -> str:
    """Return *hop* without its port, which some proxies add, as in ``[2001:db8::1]:443``."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _is_in(networks: Sequence[Network], address: Address | None) -> bool:
    return address is not None and any(
        address in network for network in networks if not isinstance(network, str)
    )


def _address(text: str | None) -> Address | None:
    try:
        address = ip_address(text or "")
    except ValueError:
        return None
    # On a dual-stack socket, an IPv4 client has the address ::ffff:192.0.2.1.
    return getattr(address, "ipv4_mapped", None) or address
