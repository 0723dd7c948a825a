"""The HTTPS transport under Instaloader: pooled, bounded in time and size, and limited to allowed
hosts.

requests' timeouts count for one read of a socket, so a server that sends a byte a second keeps
a thread for as long as it likes. Here every read of a TLS socket gets what is left until the
deadline of the thread that reads, whether it reads a handshake, headers or a body. requests
also reads a body whole, whatever its size once unpacked; here reading stops at a bound.
"""

import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi
import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3.connection import HTTPConnection

from scrapper.instagram.safe_json import parse_json

__all__ = [
    "CDN_HOSTS",
    "MAX_BODY_BYTES",
    "STALLED_SECONDS",
    "BodyTooLarge",
    "DeadlineContext",
    "HostRefused",
    "PooledTransport",
    "TransportPool",
    "tls_context",
]

MAX_BODY_BYTES = 8_000_000
"""Largest body, once unpacked, of a page or an API response; media files are streamed.

Instagram's own pages are 0.7 to 1 MB long (October 2026).
"""

CDN_HOSTS = ("cdninstagram.com", "fbcdn.net")
"""The hosts of files only: a file must not come from a host that the pace counts."""

STALLED_SECONDS = 10.0
"""How long a download may be silent before it is given up."""

_ALPN = ["http/1.1"]
_PIECE_BYTES = 64 * 1024
_POOLED_HOSTS = 8


class HostRefused(Exception):
    """A request, or a redirect, to another scheme or host than the allowed ones."""


class BodyTooLarge(Exception):
    """A page or an API response has more than :data:`MAX_BODY_BYTES` once unpacked."""


class _Deadline(threading.local):
    at: float = float("inf")
    patience: float = float("inf")

    def left(self) -> float:
        """Seconds to wait for the next bytes; always more than 0.

        Raises:
            TimeoutError: the deadline passed.
        """
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline passed")
        return min(left, self.patience)


class _DeadlineSocket(ssl.SSLSocket):
    context: "DeadlineContext"

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        self.settimeout(self.context.deadline.left())
        return super().recv_into(buffer, nbytes, flags)


class DeadlineContext(ssl.SSLContext):
    """A TLS context whose sockets read until the calling thread's deadline."""

    deadline: _Deadline
    sslsocket_class = _DeadlineSocket


class PooledTransport(HTTPAdapter):
    """A requests adapter that keeps its connections when a session over it is closed.

    One thread at a time uses it. :attr:`response` is the last response that came, or None while
    a request is under way or after it failed.
    """

    def __init__(
        self, context: DeadlineContext, hosts: tuple[str, ...], *, repeats: bool = True
    ) -> None:
        self._context = context
        self._hosts = hosts
        self._repeats = repeats
        self.response: requests.Response | None = None
        self.status: int | None = None
        """The status of the last response, even after that is finished."""
        self.clock_difference: float | None = None
        """Seconds by which this machine's clock is ahead of the last response's server."""
        self.abandoned = False
        """Whether a hanging thread may still use the transport, so that no other thread may."""
        super().__init__(pool_connections=_POOLED_HOSTS, pool_maxsize=1)

    @property
    def deadline(self) -> float:
        """The calling thread's deadline, in :func:`time.monotonic` time."""
        return self._context.deadline.at

    @deadline.setter
    def deadline(self, at: float) -> None:
        self._context.deadline.at = at

    @property
    def is_late(self) -> bool:
        """Whether the calling thread's deadline passed."""
        return time.monotonic() >= self.deadline

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        # Behind an HTTP proxy urllib3 lets the kernel hold back a query's body until the packet
        # with its headers is acknowledged (Nagle's algorithm): 40 ms for each query.
        options = HTTPConnection.default_socket_options
        return super().proxy_manager_for(
            proxy, **kwargs, ssl_context=self._context, socket_options=options
        )

    def cert_verify(self, conn: Any, *_: Any) -> None:
        # The context has the certificate authorities; requests would have them read and
        # parsed again for each new connection.
        conn.cert_reqs = "CERT_REQUIRED"

    def send(  # noqa: PLR0917
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,  # noqa: ARG002
        verify: bool | str = True,  # noqa: ARG002
        cert: Any = None,  # noqa: ARG002
        proxies: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> requests.Response:
        """Send *request* within the deadline, through the proxy that the environment names.

        The request's own *timeout*, *verify* and *proxies* do not count. Unless it is streamed, the
        body of the response is read here, and its ``json()`` is :func:`parse_json`; the body of a
        redirect is always read here, since requests would read it without a bound.

        A connection that broke before any answer came is tried once more, if the transport
        *repeats*: the other side may have closed a pooled connection, or a router forgotten it,
        since its last use.

        Raises:
            BodyTooLarge: the body is larger than :data:`MAX_BODY_BYTES`.
            HostRefused: the URL is not https on an allowed host.
            TimeoutError: the deadline passed.
            requests.RequestException: whatever requests raises.
        """
        parts = urlsplit(request.url or "")
        host = str(parts.hostname)
        if parts.scheme != "https" or not any(
            host == allowed or host.endswith(f".{allowed}") for allowed in self._hosts
        ):
            raise HostRefused(f"{parts.scheme}://{host}")
        self.finish()
        try:
            self.response = self._send(request, stream, host)
        except (requests.exceptions.SSLError, requests.Timeout):
            raise
        except requests.ConnectionError:
            if not self._repeats:
                raise
        if self.response is None:
            self.response = self._send(request, stream, host)
        response = self.response
        self.status, self.clock_difference = response.status_code, _clock_difference(response)
        if not stream or response.is_redirect:
            try:
                _read_body(response)
            except BaseException:
                self.finish()
                raise
        return response

    def _send(
        self, request: requests.PreparedRequest, stream: bool, host: str
    ) -> requests.Response:
        timeout, proxies = self._context.deadline.left(), get_environ_proxies(f"https://{host}/")
        return super().send(request, stream=stream, timeout=timeout, proxies=proxies)

    def finish(self) -> None:
        """Close the last response; if it was not read whole, its connection closes too."""
        if self.response is not None:
            self.response.close()
            self.response = None

    def close(self) -> None:
        """Keep the connections: Instaloader makes and closes a session for each request."""

    def dispose(self) -> None:
        """Close the connections."""
        super().close()


class TransportPool:
    """A pool of :class:`PooledTransport`, one for each concurrent use, over the TLS context *tls*.

    *hosts* are the allowed hosts; each stands for its subdomains too. Pools over one context share
    the deadline of each thread. A connection that is silent for *patience* seconds is given up.
    Without *repeats* every request is sent once: the caller counts its tries.
    """

    def __init__(
        self,
        hosts: tuple[str, ...],
        tls: DeadlineContext,
        *,
        patience: float = float("inf"),
        repeats: bool = True,
    ) -> None:
        self._make = partial(PooledTransport, tls, hosts, repeats=repeats)
        self._context = tls
        self._patience = patience
        # The transport used last is taken first, so that few connections stay open.
        self._free: list[PooledTransport] = []
        self._transports: list[PooledTransport] = []

    @contextmanager
    def taken(self, deadline: float) -> Iterator[PooledTransport]:
        """A transport for the calling thread, bound to *deadline* in monotonic time.

        A response that was not read whole is closed when the block ends.
        """
        self._context.deadline.at = deadline
        self._context.deadline.patience = self._patience
        try:
            transport = self._free.pop()
        except IndexError:
            transport = self._make()
            self._transports.append(transport)
        try:
            yield transport
        finally:
            if not transport.abandoned:
                transport.finish()
                self._free.append(transport)

    def close(self) -> None:
        """Close all connections."""
        for transport in self._transports:
            transport.dispose()


def tls_context() -> DeadlineContext:
    """A TLS context; one for all pools, since its certificate authorities need a megabyte.

    The authorities are those that requests would use: ``REQUESTS_CA_BUNDLE`` (a file or a folder),
    else certifi's.
    """
    context = DeadlineContext(ssl.PROTOCOL_TLS_CLIENT)
    context.deadline = _Deadline()
    context.set_alpn_protocols(_ALPN)
    with requests.Session() as session:
        known = session.merge_environment_settings(
            "https://www.instagram.com/", {}, None, None, None
        )
    verify = known["verify"]
    authorities = Path(verify if isinstance(verify, str) else certifi.where())
    if authorities.is_dir():
        context.load_verify_locations(capath=authorities)
    else:
        context.load_verify_locations(cafile=authorities)
    return context


def _read_body(response: requests.Response) -> None:
    body = BytesIO()
    for piece in response.iter_content(_PIECE_BYTES):
        if body.tell() + len(piece) > MAX_BODY_BYTES:
            response.close()
            raise BodyTooLarge
        body.write(piece)
    # CPython hands over the buffer; joining pieces would hold the body twice.
    response._content = body.getvalue()
    response.json = partial(parse_json, response._content)  # type: ignore[method-assign]


def _clock_difference(response: requests.Response) -> float | None:
    try:
        return time.time() - parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
