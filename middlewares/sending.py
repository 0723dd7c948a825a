"""Telling middlewares how a response was sent.

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

__all__ = ["CLIENT_GONE", "Sent", "note_failure", "send", "sending"]

CLIENT_GONE = 499
"""The status of a request that was cancelled before its response was sent."""


class Sent(NamedTuple):
    """How a response was sent: its final status, the bytes of its body, whether it broke off."""

    status: int
    bytes: int
    aborted: bool


Note = Callable[[Sent], None]

_SENT: web.ResponseKey[Sent] = web.ResponseKey("sent", Sent)
_NOTES: web.RequestKey[list[Note]] = web.RequestKey("notes", list)


def sending() -> Middleware:
    """Send each response after all inner middlewares could change it, and tell them how it went.

    ::

        from middlewares.sending import sending
        app = web.Application(middlewares=[sending(), others_of_yours(), request_context()])

    Put it outermost. Without it, the first middleware that calls :func:`send` sends the response,
    and what stands outside of it can no longer change that.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        notes = request[_NOTES] = []
        try:
            response, sent = await _send(request, await handler(request))
        except BaseException as error:
            sent = _unsent(error)
            raise
        finally:
            # What stands outside of this finds out by the response.
            del request[_NOTES]
            for note in notes:
                note(sent)
        return response

    return middleware


async def send(
    request: web.Request, response: web.StreamResponse, note: Note
) -> web.StreamResponse:
    """Have *note* called when *response* was sent; return what to pass on.

    If :func:`sending` is not there, the response is sent here, unless an inner middleware did it.
    If a response counts its own bytes in ``bytes_sent``, that number is used.
    """
    notes = request.get(_NOTES)
    if notes is not None:
        notes.append(note)
        return response
    sent = response.get(_SENT)
    if sent is None:
        response, sent = await _send(request, response)
    note(sent)
    return response


def note_failure(request: web.Request, note: Note, error: BaseException) -> None:
    """Have *note* called for a request that raised *error*.

    If :func:`sending` is there, it is called with what is really sent in the end.
    """
    notes = request.get(_NOTES)
    if notes is not None:
        notes.append(note)
    else:
        note(_unsent(error))


def _unsent(error: BaseException) -> Sent:
    """What becomes of a request that raised *error*."""
    if isinstance(error, web.HTTPException):
        return Sent(error.status, 0, aborted=False)
    if isinstance(error, asyncio.CancelledError):
        return Sent(CLIENT_GONE, 0, aborted=True)
    return Sent(HTTPStatus.INTERNAL_SERVER_ERROR, 0, aborted=False)


async def _send(
    request: web.Request, response: web.StreamResponse
) -> tuple[web.StreamResponse, Sent]:
    aborted = False
    try:
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        aborted = True
    sent = Sent(response.status, _bytes(request, response, aborted), aborted)
    if aborted or isinstance(response, web.FileResponse):
        # aiohttp would send it again.
        response = _AlreadySent(response)
    response[_SENT] = sent
    return response, sent


def _bytes(request: web.Request, response: web.StreamResponse, aborted: bool) -> int:
    counted: int | None = getattr(response, "bytes_sent", None)
    if counted is not None:
        return counted
    if aborted or must_be_empty_body(request.method, response.status):
        return 0
    length = response.content_length
    if length is None and not isinstance(response, web.FileResponse):
        # A stream's length is known by its end only, headers and chunks' lengths included.
        return response.body_length
    return length or 0


class _AlreadySent(web.StreamResponse):
    """Stands for a response that is at its client already."""

    def __init__(self, sent: web.StreamResponse) -> None:
        super().__init__(status=sent.status, reason=sent.reason, headers=sent.headers)
        self._keep_alive = sent.keep_alive
        self._eof_sent = True
