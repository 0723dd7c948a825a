"""Instaloader's HTTPS transport, with pooling, deadlines, a size limit and an allowlist of hosts.

The timeouts of the requests library apply to a single read of a socket, so a server that sends one
byte per second can hold a thread indefinitely. Here, every read of a TLS socket, whether of a
handshake, headers or a body, times out at the reading thread's deadline. The library also does
not limit the size of decompressed bodies. Here, reading stops at a limit.
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
"""The maximum decompressed size in bytes of a page or an API response; media files are streamed.

Instagram's pages are 0.7 to 1 MB long (as captured in October 2026).
"""

CDN_HOSTS = ("cdninstagram.com", "fbcdn.net")
"""The hosts of media files. Do not add a host if requests to it count towards the pace."""

STALLED_SECONDS = 10.0
"""The number of seconds without data after which a download is abandoned."""

_ALPN = ["http/1.1"]
_CHUNK_BYTES = 64 * 1024
_POOLED_HOSTS = 8


class HostRefused(Exception):
    """A request or redirect leads to a scheme or host that is not allowed."""


class BodyTooLarge(Exception):
    """A page or an API response is larger than :data:`MAX_BODY_BYTES` when decompressed."""


class _Deadline(threading.local):
    at: float = float("inf")
    patience: float = float("inf")

    def left(self) -> float:
        """Return the maximum number of seconds to wait for the next bytes, always more than 0.

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
    """A TLS context whose sockets time out at the calling thread's deadline."""

    deadline: _Deadline
    sslsocket_class = _DeadlineSocket


class PooledTransport(HTTPAdapter):
    """A requests adapter that keeps its connections open when a session that uses it is closed.

    Only one thread may use the adapter at a time. :attr:`response` is the last response, or None
    during a request and after a failed request.
    """

    def __init__(
        self, context: DeadlineContext, hosts: tuple[str, ...], *, retry: bool = True
    ) -> None:
        self._context = context
        self._hosts = hosts
        self._retry = retry
        self.response: requests.Response | None = None
        self.status: int | None = None
        """The status of the last response, even after :meth:`finish`."""
        self.clock_difference: float | None = None
        """How many seconds this machine's clock was ahead of the server's at the last response."""
        self.abandoned = False
        """Whether a hanging thread might still be using the transport, which is then not reused."""
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
        """Whether the calling thread's deadline has passed."""
        return time.monotonic() >= self.deadline

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        # For HTTP proxies, urllib3 leaves Nagle's algorithm on. The kernel would hold back a
        # query's body until the packet with its headers is acknowledged: 40 ms per query.
        options = HTTPConnection.default_socket_options
        return super().proxy_manager_for(
            proxy, **kwargs, ssl_context=self._context, socket_options=options
        )

    def cert_verify(self, conn: Any, *_: Any) -> None:
        # The context already has the certificate authorities. requests would read and parse them
        # again for each new connection.
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
        """Send *request* within the deadline, through the proxy from the environment.

        *timeout*, *verify*, *cert* and *proxies* are ignored. Unless the response is streamed, its
        body is read here, and its ``json()`` is :func:`parse_json`. The body of a redirect is
        always read here, because requests would read it without a limit.

        If the transport was created with *retry*, and the connection breaks before a response
        arrives, the request is sent once more. The server may have closed a pooled connection since
        its last use, or a router may have dropped it.

        Raises:
            BodyTooLarge: the body is larger than :data:`MAX_BODY_BYTES`.
            HostRefused: the URL is not https on an allowed host.
            TimeoutError: the deadline passed.
            requests.RequestException: the request failed.
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
            if not self._retry:
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
        """Close the last response, and also its connection if the response was not fully read."""
        if self.response is not None:
            self.response.close()
            self.response = None

    def close(self) -> None:
        """Do nothing: Instaloader closes a session per request, but connections must stay open."""

    def dispose(self) -> None:
        """Close the connections."""
        super().close()


class TransportPool:
    """A pool of transports that use the TLS context *tls*; thread-safe.

    Requests may go to *hosts* and their subdomains. A thread has one deadline for all pools with
    the same context. A read times out after *patience* seconds without data. If *retry* is false,
    every request is sent only once, because the caller retries.
    """

    def __init__(
        self,
        hosts: tuple[str, ...],
        tls: DeadlineContext,
        *,
        patience: float = float("inf"),
        retry: bool = True,
    ) -> None:
        self._make = partial(PooledTransport, tls, hosts, retry=retry)
        self._context = tls
        self._patience = patience
        # Last in, first out, so that few connections stay open.
        self._free: list[PooledTransport] = []
        self._transports: list[PooledTransport] = []

    @contextmanager
    def borrow(self, deadline: float) -> Iterator[PooledTransport]:
        """Lend the calling thread a transport until the block ends.

        *deadline* is in :func:`time.monotonic` time. The last response is closed afterwards.
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
    """Return a new TLS context.

    Pools should share one context, because its certificate authorities take up 1 MB. It trusts the
    certificate authorities that requests would trust: those in ``REQUESTS_CA_BUNDLE`` (a file or a
    folder), or else certifi's.
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
    for chunk in response.iter_content(_CHUNK_BYTES):
        if body.tell() + len(chunk) > MAX_BODY_BYTES:
            response.close()
            raise BodyTooLarge
        body.write(chunk)
    # In CPython, getvalue() does not copy; joining chunks would hold the body in memory twice.
    response._content = body.getvalue()
    response.json = partial(parse_json, response._content)  # type: ignore[method-assign]


def _clock_difference(response: requests.Response) -> float | None:
    try:
        return time.time() - parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
