"""How many streams of server-sent events a client may have, and how they are sent."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress

from aiohttp import web
from aiohttp_sse import sse_response

from scrapper.errors import TooManyStreams
from scrapper.jobs.store import MAKE_ROOM_SECONDS

__all__ = ["LAST_EVENT_ID", "StreamLimit", "send_events"]

LAST_EVENT_ID = "Last-Event-ID"
"""The header with the ID of the last event that a client saw."""

_MOST_OF_A_CLIENT = 20
_SEND_SECONDS = 120.0


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
    """Send *pieces* of a stream of events to the client of *request* until they end, or it leaves.

    A comment every 15 seconds keeps proxies from ending the stream.
    """
    async with sse_response(request) as response:
        # The client went away, or reads nothing.
        with suppress(ConnectionError, TimeoutError):
            async with aclosing(pieces):
                async for piece in pieces:
                    async with asyncio.timeout(_SEND_SECONDS):
                        await response.write(piece)
    return response
