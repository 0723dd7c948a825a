"""Reports to middlewares how a response was sent.

aiohttp does not send a response until the outermost middleware has returned it. So a middleware
alone cannot see whether the response to a request for a file becomes a 200, 206, 304 or 416, how
long its body is, and whether the client receives all of it.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import web
from aiohttp.helpers import must_be_empty_body
from aiohttp.typedefs import Handler, Middleware

__all__ = ["Sent", "send", "sending"]

_CLIENT_GONE = 499


class Sent(NamedTuple):
    """How a response was sent: status, size of the body in bytes, and whether it was cut short."""

    status: int
    bytes: int
    aborted: bool


Report = Callable[[Sent], None]

_SENT: web.ResponseKey[Sent] = web.ResponseKey("sent", Sent)
_REPORTS: web.RequestKey[list[Report]] = web.RequestKey("reports", list)


def sending() -> Middleware:
    """Send each response when every inner middleware is done with it, and report the outcome.

    ::

        from middlewares.sending import sending
        app = web.Application(middlewares=[sending(), your_middleware(), request_context()])

    Make it the outermost middleware. Otherwise the innermost middleware that calls :func:`send`
    sends the response, and middlewares outside that one can no longer change it.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        reports = request[_REPORTS] = []

        def report_all(sent: Sent) -> None:
            # Middlewares outside this one get the outcome from the response.
            del request[_REPORTS]
            for report in reports:
                report(sent)

        return await _send(request, handler, report_all)

    return middleware


async def send(request: web.Request, handler: Handler, report: Report) -> web.StreamResponse:
    """Return the response of *handler*; call *report* after its last byte or after a failure.

    In an application without :func:`sending`, this function sends the response, unless an inner
    middleware has already sent it. If the response has an attribute ``bytes_sent``, its value is
    reported as the number of bytes. If the request was cancelled before its response was sent, the
    status is reported as 499.
    """
    reports = request.get(_REPORTS)
    if reports is None:
        return await _send(request, handler, report)
    reports.append(report)
    return await handler(request)


async def _send(request: web.Request, handler: Handler, report: Report) -> web.StreamResponse:
    try:
        response = await handler(request)
        sent = response.get(_SENT)
        if sent is None:
            sent = await _finish(request, response)
            if sent.aborted or isinstance(response, web.FileResponse):
                # aiohttp would send this response a second time.
                response = _AlreadySent(response)
            response[_SENT] = sent
    except BaseException as error:
        report(_unsent(error))
        raise
    report(sent)
    return response


def _unsent(error: BaseException) -> Sent:
    """Return what is reported for a request that failed with *error*."""
    if isinstance(error, web.HTTPException):
        return Sent(error.status, 0, aborted=False)
    if isinstance(error, asyncio.CancelledError):
        return Sent(_CLIENT_GONE, 0, aborted=True)
    return Sent(HTTPStatus.INTERNAL_SERVER_ERROR, 0, aborted=False)


async def _finish(request: web.Request, response: web.StreamResponse) -> Sent:
    aborted = False
    try:
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        aborted = True
    return Sent(response.status, _bytes(request, response, aborted), aborted)


def _bytes(request: web.Request, response: web.StreamResponse, aborted: bool) -> int:
    counted: int | None = getattr(response, "bytes_sent", None)
    if counted is not None:
        return counted
    if aborted or must_be_empty_body(request.method, response.status):
        return 0
    length = response.content_length
    if length is None and not isinstance(response, web.FileResponse):
        # A stream has no length in advance. body_length includes its headers and chunk sizes.
        return response.body_length
    return length or 0


class _AlreadySent(web.StreamResponse):
    """A stand-in for a response that was already sent to the client."""

    def __init__(self, sent: web.StreamResponse) -> None:
        super().__init__(status=sent.status, reason=sent.reason, headers=sent.headers)
        self._keep_alive = sent.keep_alive
        self._eof_sent = True
