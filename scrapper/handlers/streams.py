"""Streams of server-sent events: how many a client may have, and how they are sent."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress

from aiohttp import web
from aiohttp_sse import sse_response

from scrapper.errors import TooManyStreams
from scrapper.jobs.store import MAKE_ROOM_SECONDS
from scrapper.tasks import end, in_background

__all__ = ["LAST_EVENT_ID", "StreamLimit", "send_events"]

LAST_EVENT_ID = "Last-Event-ID"
"""The header with the ID of the last event that a client saw."""

_MOST_OF_A_CLIENT = 20
_SEND_SECONDS = 120.0
_SECONDS_BETWEEN_LOOKS = 5.0


class StreamLimit:
    """Each client may have 20 streams at a time."""

    def __init__(self) -> None:
        self._streams: defaultdict[str | None, list[web.Request]] = defaultdict(list)

    @contextmanager
    def one_of(self, client: str | None, request: web.Request) -> Iterator[None]:
        """Count the stream of *client* that answers *request* while the block runs.

        Raises:
            TooManyStreams: the client has 20.
        """
        streams = self._streams[client]
        # One whose connection is gone may end a little later.
        if sum(map(_is_connected, streams)) >= _MOST_OF_A_CLIENT:
            raise TooManyStreams(retry_after=MAKE_ROOM_SECONDS)
        streams.append(request)
        try:
            yield
        finally:
            streams.remove(request)
            if not streams:
                del self._streams[client]


async def send_events(request: web.Request, pieces: AsyncGenerator[bytes]) -> web.StreamResponse:
    """Send *pieces* of a stream of events to the client of *request* until they end, or it goes.

    A comment every 15 seconds keeps proxies from ending the stream.
    """
    async with sse_response(request) as response:
        sending = in_background(_send(response, pieces), "stream of events")
        try:
            # A client may go while nothing happens.
            while not sending.done() and _is_connected(request):
                await asyncio.wait([sending], timeout=_SECONDS_BETWEEN_LOOKS)
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


def _is_connected(request: web.Request) -> bool:
    return request.transport is not None
