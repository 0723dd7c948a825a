"""Which posts changed recently, by any process."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, cast

from redis.exceptions import RedisError

from scrapper.library.news import Change, PostChange
from scrapper.replicas.client import PREFIX, SharedRedis, reaching
from scrapper.tasks import end, in_background

__all__ = ["RedisNews"]

_STREAM = f"{PREFIX}news"
_MOST_CHANGES = 10_000
_AT_ONCE = 1000
_NOTHING = "0-0"
_PAUSE_SECONDS = 1.0


class RedisNews:
    """:class:`~scrapper.library.news.News` of all processes, as a stream in *redis*.

    While Redis does not answer, changes wait, the latest 10,000 of them. The two coroutines that
    read raise :class:`~scrapper.errors.JobsUnreachable` then.
    """

    def __init__(self, redis: SharedRedis) -> None:
        self._redis = redis
        self._unsent: deque[PostChange] = deque(maxlen=_MOST_CHANGES)
        self._noted = asyncio.Event()

    async def open(self) -> None:
        """Begin to send what is noted."""
        self._sending = in_background(self._send_all(), "news of posts")

    async def close(self) -> None:
        """Send what is left, if Redis answers, and stop."""
        await end(self._sending)
        with suppress(RedisError):
            await self._send()

    def note(self, shortcode: str, change: Change) -> None:
        self._unsent.append(PostChange(shortcode, change))
        self._noted.set()

    async def place(self) -> str:
        with reaching():
            last: Any = await self._redis.xrevrange(_STREAM, count=1)
        return last[0][0].decode() if last else _NOTHING

    async def since(self, place: str) -> tuple[str, list[PostChange] | None]:
        with reaching():
            oldest: Any = await self._redis.xrange(_STREAM, count=1)
            found: Any = await self._redis.xrange(_STREAM, min=f"({place}", count=_AT_ONCE)
        # If the change at the place itself is missing, later ones may be missing, too.
        if place != _NOTHING and (not oldest or _number(oldest[0][0]) > _number(place.encode())):
            return await self.place(), None
        changes = [
            PostChange(fields[b"post"].decode(), cast(Change, fields[b"change"].decode()))
            for _, fields in found
        ]
        return found[-1][0].decode() if found else place, changes

    async def _send_all(self) -> None:
        while True:
            await self._noted.wait()
            self._noted.clear()
            try:
                await self._send()
            except RedisError:
                self._noted.set()
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _send(self) -> None:
        while self._unsent:
            some = list(self._unsent)[:_AT_ONCE]
            async with self._redis.pipeline(transaction=False) as writes:
                for shortcode, change in some:
                    fields: dict[Any, Any] = {"post": shortcode, "change": change}
                    writes.xadd(_STREAM, fields, maxlen=_MOST_CHANGES)
                with self._redis.asking():
                    await writes.execute()
            for _ in some:
                self._unsent.popleft()


def _number(id_: bytes) -> tuple[int, int]:
    milliseconds, _, number = id_.partition(b"-")
    return int(milliseconds), int(number)
