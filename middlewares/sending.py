"""Reports to middlewares how a response was sent.

aiohttp sends a response after the last middleware returned it. Only then is it known whether a file
gets a 200, a 206, a 304 or a 416, how many bytes its body has, and whether they arrive.
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
    """How a response was sent: its final status, the bytes of its body, whether it broke off."""

    status: int
    bytes: int
    aborted: bool


Note = Callable[[Sent], None]

_SENT: web.ResponseKey[Sent] = web.ResponseKey("sent", Sent)
_NOTES: web.RequestKey[list[Note]] = web.RequestKey("notes", list)


def sending() -> Middleware:
    """Send each response once no middleware can change it any more, and report how that went.

    ::

        from middlewares.sending import sending
        app = web.Application(middlewares=[sending(), others_of_yours(), request_context()])

    Put it outermost: otherwise the first middleware that calls :func:`send` sends the response, and
    middlewares outside that one can no longer change it.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        notes = request[_NOTES] = []

        def note_all(sent: Sent) -> None:
            # Middlewares outside this one find the outcome in the response.
            del request[_NOTES]
            for note in notes:
                note(sent)

        return await _send(request, handler, note_all)

    return middleware


async def send(request: web.Request, handler: Handler, note: Note) -> web.StreamResponse:
    """Return what *handler* answers; *note* is called after the last byte, or after a failure.

    Without :func:`sending`, this function sends the response, unless an inner middleware did.
    If a response counts its own bytes in ``bytes_sent``, that number is used. A request that was
    cancelled before its response was sent has the status 499.
    """
    notes = request.get(_NOTES)
    if notes is None:
        return await _send(request, handler, note)
    notes.append(note)
    return await handler(request)


async def _send(request: web.Request, handler: Handler, note: Note) -> web.StreamResponse:
    try:
        response = await handler(request)
        sent = response.get(_SENT)
        if sent is None:
            sent = await _finish(request, response)
            if sent.aborted or isinstance(response, web.FileResponse):
                # aiohttp would send the response again.
                response = _AlreadySent(response)
            response[_SENT] = sent
    except BaseException as error:
        note(_unsent(error))
        raise
    note(sent)
    return response


def _unsent(error: BaseException) -> Sent:
    """The outcome of a request that raised *error*."""
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
        # A stream's length, headers and chunks' lengths included, is known only at its end.
        return response.body_length
    return length or 0


class _AlreadySent(web.StreamResponse):
    """Stands for a response that the client has already."""

    def __init__(self, sent: web.StreamResponse) -> None:
        super().__init__(status=sent.status, reason=sent.reason, headers=sent.headers)
        self._keep_alive = sent.keep_alive
        self._eof_sent = True
