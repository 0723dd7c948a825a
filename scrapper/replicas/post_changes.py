"""The latest changes to posts, made by any process."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, cast

from redis.exceptions import RedisError

from scrapper.library.post_changes import Change, PostChange
from scrapper.replicas.client import PREFIX, SharedRedis, translated_errors
from scrapper.tasks import end, in_background

__all__ = ["RedisPostChanges"]

_STREAM = f"{PREFIX}post_changes"
_MAX_CHANGES = 10_000
_BATCH = 1000
_START = "0-0"
_PAUSE_SECONDS = 1.0


class RedisPostChanges:
    """The :class:`.PostChanges` of all processes, in a Redis stream.

    While Redis does not answer, the latest 10,000 changes of this process are buffered, and
    :meth:`place` and :meth:`since` raise :class:`~scrapper.errors.JobsUnreachable`.
    """

    def __init__(self, redis: SharedRedis) -> None:
        self._redis = redis
        self._unsent: deque[PostChange] = deque(maxlen=_MAX_CHANGES)
        self._has_unsent = asyncio.Event()

    async def open(self) -> None:
        """Start sending changes to Redis."""
        self._sending = in_background(self._send_all(), "post changes")

    async def close(self) -> None:
        """End the background task, then send the remaining changes if Redis answers."""
        await end(self._sending)
        with suppress(RedisError):
            await self._send()

    def record(self, shortcode: str, change: Change) -> None:
        self._unsent.append(PostChange(shortcode, change))
        self._has_unsent.set()

    async def place(self) -> str:
        with translated_errors():
            last: Any = await self._redis.xrevrange(_STREAM, count=1)
        return last[0][0].decode() if last else _START

    async def since(self, place: str) -> tuple[str, list[PostChange] | None]:
        with translated_errors():
            oldest: Any = await self._redis.xrange(_STREAM, count=1)
            found: Any = await self._redis.xrange(_STREAM, min=f"({place}", count=_BATCH)
        # If the change at *place* is gone from the stream, later ones may also be gone.
        if place != _START and (not oldest or _number(oldest[0][0]) > _number(place.encode())):
            return await self.place(), None
        changes = [
            PostChange(fields[b"post"].decode(), cast(Change, fields[b"change"].decode()))
            for _, fields in found
        ]
        return found[-1][0].decode() if found else place, changes

    async def _send_all(self) -> None:
        while True:
            await self._has_unsent.wait()
            self._has_unsent.clear()
            try:
                await self._send()
            except RedisError:
                self._has_unsent.set()
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _send(self) -> None:
        while self._unsent:
            batch = list(self._unsent)[:_BATCH]
            async with self._redis.pipeline(transaction=False) as writes:
                for shortcode, change in batch:
                    fields: dict[Any, Any] = {"post": shortcode, "change": change}
                    writes.xadd(_STREAM, fields, maxlen=_MAX_CHANGES)
                with self._redis.fail_fast():
                    await writes.execute()
            for _ in batch:
                self._unsent.popleft()


def _number(id_: bytes) -> tuple[int, int]:
    milliseconds, _, number = id_.partition(b"-")
    return int(milliseconds), int(number)
