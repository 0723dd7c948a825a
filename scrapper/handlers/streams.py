"""Streams of server-sent events: how many a client may have, and how they are sent."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from scrapper.errors import TooManyStreams
from scrapper.jobs.store import MAKE_ROOM_SECONDS

__all__ = ["LAST_EVENT_ID", "StreamLimit", "send_events"]

LAST_EVENT_ID = "Last-Event-ID"
"""The header with the ID of the last event that a client saw."""

_MOST_OF_A_CLIENT = 20
_SEND_SECONDS = 120.0
_PING_SECONDS = 15.0


class StreamLimit:
    """Each client may have 20 streams at a time."""

    def __init__(self) -> None:
        self._streams: Counter[str | None] = Counter()

    @contextmanager
    def one_of(self, client: str | None) -> Iterator[None]:
        """Count a stream of *client* while the block runs.

        Raises:
            TooManyStreams: the client has 20.
        """
        if self._streams[client] >= _MOST_OF_A_CLIENT:
            raise TooManyStreams(retry_after=MAKE_ROOM_SECONDS)
        self._streams[client] += 1
        try:
            yield
        finally:
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]


async def send_events(request: web.Request, pieces: AsyncGenerator[bytes]) -> web.StreamResponse:
    """Send *pieces* of a stream of events to the client of *request* until they end, or it goes.

    A comment every 15 seconds keeps proxies from ending the stream, and finds out that a client
    is gone to whom there is nothing to send.
    """
    async with sse_response(request, ping_interval=_PING_SECONDS) as response:
        # The client went away, or reads nothing.
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(None) as stay, _leaving(response, stay), aclosing(pieces):
                async for piece in pieces:
                    async with asyncio.timeout(_SEND_SECONDS):
                        await response.write(piece)
    return response


@asynccontextmanager
async def _leaving(response: EventSourceResponse, stay: asyncio.Timeout) -> AsyncIterator[None]:
    """End *stay* once the comments of *response* reach nobody."""

    def leave(_: asyncio.Task[None]) -> None:
        stay.reschedule(0)

    reached = asyncio.create_task(response.wait())
    reached.add_done_callback(leave)
    try:
        yield
    finally:
        reached.remove_done_callback(leave)
        reached.cancel()
