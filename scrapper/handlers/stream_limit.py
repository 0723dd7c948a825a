"""Limits the number of event streams per client."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from scrapper.errors import TooManyStreams
from scrapper.jobs.store import FULL_RETRY_SECONDS

__all__ = ["StreamLimit", "is_connected"]

_MAX_PER_CLIENT = 20


class StreamLimit:
    """A limit of 20 simultaneous streams per client."""

    def __init__(self) -> None:
        self._streams: defaultdict[str | None, list[web.Request]] = defaultdict(list)

    @contextmanager
    def counting(self, client: str | None, request: web.Request) -> Iterator[None]:
        """Count the response to *request* as a stream of *client* while the block runs.

        Raises:
            TooManyStreams: the client already has 20 streams.
        """
        streams = self._streams[client]
        # A stream that has lost its connection does not count, even if it has not ended yet.
        if sum(map(is_connected, streams)) >= _MAX_PER_CLIENT:
            raise TooManyStreams(retry_after=FULL_RETRY_SECONDS)
        streams.append(request)
        try:
            yield
        finally:
            streams.remove(request)
            if not streams:
                del self._streams[client]


def is_connected(request: web.Request) -> bool:
    """Return whether the client of *request* is still connected."""
    return request.transport is not None
