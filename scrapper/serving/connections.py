"""Protects the service from too many connections, slow clients, and malformed HTTP."""

import asyncio
import resource
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, cast

import orjson
import structlog
from aiohttp import hdrs, web
from aiohttp.http import HttpProcessingError

from scrapper.serving.response_headers import HEADERS
from scrapper.telemetry.metrics import Metrics

__all__ = ["raise_open_files", "running_app"]

log = structlog.get_logger(__name__)

_KEEPALIVE_SECONDS = 130
"""Longer than the idle timeout of proxies (Caddy: 120 s), so that the proxy closes idle
connections first."""

_REFUSAL_SECONDS = 1.0
_RESERVED_FILES = 256


@asynccontextmanager
async def running_app(
    app: web.Application,
    metrics: Metrics,
    *,
    max_connections: int,
    head_timeout: float,
    grace: float,
) -> AsyncIterator[Callable[[], asyncio.Protocol]]:
    """Run *app* while the block runs, and yield a factory for the protocols of its connections.

    At most *max_connections* are open; any further one gets 503 and is closed. If the head of a
    request is still incomplete after *head_timeout* seconds, its connection gets 408 and is closed.
    Malformed HTTP gets 400. These responses are JSON, like every other error. At shutdown,
    unfinished requests have *grace* seconds to finish.
    """
    runner = web.AppRunner(app, shutdown_timeout=grace)
    try:
        await runner.setup()
        server = cast(web.Server, runner.server)
        yield _connections(
            server, metrics, max_connections=max_connections, head_timeout=head_timeout
        )
    finally:
        await runner.cleanup()


def _connections(
    server: web.Server, metrics: Metrics, *, max_connections: int, head_timeout: float
) -> Callable[[], asyncio.Protocol]:
    # asyncio accepts a whole burst of connections before the server adds them to its own list.
    open_: set[_Connection] = set()

    def connect() -> asyncio.Protocol:
        if len(open_) >= max_connections:
            metrics.connections_refused.inc()
            return _Refusal()
        connection = _Connection(server, head_timeout, open_.discard)
        open_.add(connection)
        connection.await_head()
        return connection

    metrics.connections.set_function(lambda: len(open_))
    return connect


def raise_open_files(connections: int) -> int:
    """Raise this process's limit on open files to allow *connections* open connections.

    Return how many connections are possible. If the hard limit allows fewer, log a warning.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _RESERVED_FILES
    if hard != resource.RLIM_INFINITY:
        needed = min(needed, hard)
    if needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    room = max(1, needed - _RESERVED_FILES)
    if room < connections:
        log.warning("limit of open files too low for MAX_CONNECTIONS", connections=room)
    return room


class _Connection(web.RequestHandler):
    __slots__ = ("_head_timeout", "_head_timer", "_lost")

    def __init__(
        self,
        server: web.Server,
        head_timeout: float,
        lost: Callable[["_Connection"], None],
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,
            keepalive_timeout=_KEEPALIVE_SECONDS,
        )
        self._head_timeout = head_timeout
        self._head_timer: asyncio.TimerHandle | None = None
        self._lost = lost

    def await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self._loop.call_later(self._head_timeout, self._time_out)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # aiohttp 3.14 awaits _waiter until the head of the next request is complete.
        if self._waiter is not None and not self._waiter.done():
            self.await_head()
        elif self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def connection_lost(self, exc: BaseException | None) -> None:
        self._lost(self)
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        # aiohttp reads the rest of a body after the response. If the body turns out not to match
        # its headers, that is the client's fault, and the request was already logged.
        if isinstance(kw.get("exc_info"), (HttpProcessingError, web.RequestPayloadError)):
            log.debug("malformed body", cause=type(kw["exc_info"]).__name__)
        else:
            super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status != HTTPStatus.BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        # aiohttp's own method would log a traceback, although this is the client's fault.
        request_id = uuid.uuid4().hex
        log.info(
            "malformed request",
            client=request.remote,
            cause=type(exc).__name__,
            request_id=request_id,
        )
        body, headers = _error("bad_request", "The request is not well-formed HTTP", request_id)
        response = web.Response(status=status, body=body, headers=headers)
        response.force_close()
        return response

    def _time_out(self) -> None:
        if self.transport is not None:
            self.transport.write(_respond(408, "timeout", "The request did not arrive in time"))
        else:
            # The TLS handshake failed, which asyncio does not report to the protocol.
            self._lost(self)
        self.force_close()


class _Refusal(asyncio.Protocol):
    """Sends 503, and closes the connection when the client does, or after at most a second."""

    def connection_made(self, transport: Any) -> None:
        transport.write(_respond(503, "server_full", "Too many connections: try again later"))
        # Closing the connection now, with the request unread, would discard the response.
        if transport.can_write_eof():
            transport.write_eof()
        asyncio.get_running_loop().call_later(_REFUSAL_SECONDS, transport.abort)


def _error(code: str, message: str, request_id: str) -> tuple[bytes, dict[str, str]]:
    body = orjson.dumps({"error": message, "code": code, "request_id": request_id})
    headers = {hdrs.CONTENT_TYPE: "application/json; charset=utf-8", "X-Request-ID": request_id}
    return body, {**HEADERS, **headers}


def _respond(status: int, code: str, message: str) -> bytes:
    """Return a response as bytes, for a connection from which no complete request was read."""
    body, headers = _error(code, message, uuid.uuid4().hex)
    headers |= {hdrs.CONTENT_LENGTH: str(len(body)), hdrs.CONNECTION: "close"}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers[hdrs.RETRY_AFTER] = "1"
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
