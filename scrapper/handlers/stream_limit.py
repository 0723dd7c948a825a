"""How many streams of events a client may have."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from scrapper.errors import TooManyStreams
from scrapper.jobs.store import MAKE_ROOM_SECONDS

__all__ = ["StreamLimit", "is_connected"]

_MOST_OF_A_CLIENT = 20


class StreamLimit:
    """Each client may have 20 streams at a time."""

    def __init__(self) -> None:
        self._streams: defaultdict[str | None, list[web.Request]] = defaultdict(list)

    @contextmanager
    def one_of(self, client: str | None, request: web.Request) -> Iterator[None]:
        """Count the answer to *request* as a stream of *client* while the block runs.

        Raises:
            TooManyStreams: the client has 20.
        """
        streams = self._streams[client]
        # A stream whose connection is gone may not have ended yet: it does not count.
        if sum(map(is_connected, streams)) >= _MOST_OF_A_CLIENT:
            raise TooManyStreams(retry_after=MAKE_ROOM_SECONDS)
        streams.append(request)
        try:
            yield
        finally:
            streams.remove(request)
            if not streams:
                del self._streams[client]


def is_connected(request: web.Request) -> bool:
    """Whether the client of *request* is still connected."""
    return request.transport is not None
