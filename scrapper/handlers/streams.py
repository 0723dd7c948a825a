"""How streams of server-sent events are sent."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from aiohttp import web
from aiohttp_sse import sse_response

from scrapper.handlers.clients import sender_of
from scrapper.handlers.stream_limit import is_connected
from scrapper.tasks import end, in_background

__all__ = ["LAST_EVENT_ID", "send_events"]

LAST_EVENT_ID = "Last-Event-ID"
"""The header with the ID of the last event that a client saw."""

_SEND_SECONDS = 120.0
_SECONDS_BETWEEN_LOOKS = 5.0


async def send_events(request: web.Request, pieces: AsyncGenerator[bytes]) -> web.StreamResponse:
    """Send *pieces* of a stream of events until they end, or the client of *request* leaves.

    The stream also ends soon after the key or the session that opened it becomes invalid.
    A comment every 15 seconds keeps proxies from ending the stream.
    """
    sender = await sender_of(request)
    async with sse_response(request) as response:
        sending = in_background(_send(response, pieces), "stream of events")
        try:
            # A client may leave while there are no events.
            while is_connected(request) and await sender_of(request, anew=True) == sender:
                await asyncio.wait([sending], timeout=_SECONDS_BETWEEN_LOOKS)
                if sending.done():
                    break
        finally:
            await end(sending)
    return response


async def _send(response: web.StreamResponse, pieces: AsyncGenerator[bytes]) -> None:
    # The client went away, or reads nothing.
    with suppress(ConnectionError, TimeoutError):
        async with aclosing(pieces):
            async for piece in pieces:
                async with asyncio.timeout(_SEND_SECONDS):
                    await response.write(piece)
