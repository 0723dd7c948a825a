"""Sends streams of server-sent events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from aiohttp import hdrs, web
from aiohttp_sse import EventSourceResponse

from scrapper.handlers.clients import sender_of
from scrapper.handlers.stream_limit import is_connected
from scrapper.tasks import end, in_background

__all__ = ["LAST_EVENT_ID", "send_events"]

LAST_EVENT_ID = "Last-Event-ID"
"""The request header with the ID of the last event that the client received."""

_SEND_TIMEOUT_SECONDS = 120.0
_POLL_SECONDS = 5.0


async def send_events(request: web.Request, pieces: AsyncGenerator[bytes]) -> web.StreamResponse:
    """Send all *pieces* of an event stream, unless the client disconnects first.

    The stream also ends within seconds of the client's key or session becoming invalid. A comment
    every 15 seconds keeps the connection open.
    """
    sender = await sender_of(request)
    response = EventSourceResponse()
    # aiohttp adds this header, if necessary, according to the request.
    response.headers.popall(hdrs.CONNECTION, None)
    await response.prepare(request)
    async with response:
        sending = in_background(_send(response, pieces), "stream of events")
        try:
            # Without events to send, only this check notices that the client disconnected.
            while is_connected(request) and await sender_of(request, recheck=True) == sender:
                await asyncio.wait([sending], timeout=_POLL_SECONDS)
                if sending.done():
                    break
        finally:
            await end(sending)
    return response


async def _send(response: web.StreamResponse, pieces: AsyncGenerator[bytes]) -> None:
    # The client has disconnected or stopped reading.
    with suppress(ConnectionError, TimeoutError):
        async with aclosing(pieces):
            async for piece in pieces:
                async with asyncio.timeout(_SEND_TIMEOUT_SECONDS):
                    await response.write(piece)
