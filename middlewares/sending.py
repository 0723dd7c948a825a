"""Sending a response from inside a middleware, which then knows how that went.

aiohttp sends a response after the last middleware returned it. Only then is it known whether a file
gets a 200, a 206, a 304 or a 416, how many bytes its body has, and whether they arrive.
"""

from dataclasses import dataclass

from aiohttp import web
from aiohttp.helpers import must_be_empty_body

__all__ = ["Sent", "send"]


@dataclass(frozen=True, slots=True)
class Sent:
    """How a response was sent: its final status, the bytes of its body, whether it broke off."""

    status: int
    bytes: int
    aborted: bool


_SENT: web.RequestKey[Sent] = web.RequestKey("sent", Sent)


async def send(
    request: web.Request, response: web.StreamResponse
) -> tuple[web.StreamResponse, Sent]:
    """Send *response* unless an inner middleware did; return what to pass on, and how it went.

    If a response counts its own bytes in ``bytes_sent``, that number is used.
    """
    sent = request.get(_SENT)
    if sent is not None:
        return response, sent
    aborted = False
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        aborted = True
    sent = request[_SENT] = Sent(response.status, _bytes(request, response, aborted), aborted)
    if aborted or isinstance(response, web.FileResponse):
        # aiohttp would send it again.
        response = _AlreadySent(response)
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
