"""Turns, sweeps and cool-downs that replicas coordinate over Redis.

While Redis does not answer, each replica works on its own. Several replicas may then download the
same post, and each has its own cool-down.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import structlog
from redis.exceptions import RedisError

from scrapper.errors import RESPONSES, DeadlineExceeded, PaceExceeded, ScrapeError
from scrapper.replicas.client import PREFIX, SharedRedis
from scrapper.replicas.turn import Turn
from scrapper.scraping.peers import Peers, TurnQueue
from scrapper.tasks import end, in_background

__all__ = ["RedisPeers"]

log = structlog.get_logger(__name__)

_POLL_SECONDS = 1.0
_COOLDOWN = f"{PREFIX}cooldown"
_ERRORS: dict[str, Any] = {error.__name__: error for error in RESPONSES}
_LOCAL_ERRORS = (DeadlineExceeded, PaceExceeded)
"""Errors that are not reported to other processes, because they concern only this one."""


class RedisPeers(Peers):
    """Coordinates with the other processes over *redis*.

    Open this object before the parts that use it, and close it after them.
    """

    shared = True

    def __init__(self, redis: SharedRedis) -> None:
        self._redis = redis
        # Unlike keys, channels are shared by all databases, so the name has the database's number.
        database = redis.connection_pool.connection_kwargs.get("db") or 0
        self._channel = f"{PREFIX}{database}:landed"
        self._queues: dict[str, set[_TurnQueue]] = {}

    async def open(self) -> None:
        """Start listening to the other processes."""
        self._listening = in_background(self._listen(), "listening to peers")

    async def close(self) -> None:
        """Stop listening."""
        await end(self._listening)

    @asynccontextmanager
    async def queue_for(self, shortcode: str) -> AsyncIterator["_TurnQueue"]:
        queue = _TurnQueue(self._redis, f"{PREFIX}turn:{shortcode}")
        queues = self._queues.setdefault(shortcode, set())
        queues.add(queue)
        outcome: dict[str, Any] = {}
        try:
            yield queue
        except ScrapeError as error:
            if not isinstance(error, _LOCAL_ERRORS):
                outcome = {"error": type(error).__name__, "retry_after": error.retry_after}
            raise
        finally:
            queues.discard(queue)
            if not queues:
                self._queues.pop(shortcode, None)
            if queue.turn is not None:
                await queue.turn.release()
                message = {"post": shortcode, "stored": queue.stored, **outcome}
                # A process that misses the message notices the end of the turn by polling.
                with suppress(RedisError):
                    await self._redis.publish(self._channel, orjson.dumps(message))

    @asynccontextmanager
    async def exclusive(self, task: str, *, if_unknown: bool) -> AsyncIterator["Turn | bool"]:
        try:
            turn = await Turn.take(self._redis, f"{PREFIX}{task}")
        except RedisError:
            yield if_unknown
            return
        try:
            yield turn or False
        finally:
            if turn is not None:
                await turn.release()

    async def cooldown_left(self) -> float:
        try:
            return max(0.0, await self._redis.pttl(_COOLDOWN) / 1000)
        except RedisError:
            return 0.0

    async def cool_down(self, seconds: float) -> None:
        if seconds > await self.cooldown_left():
            with suppress(RedisError):
                await self._redis.set(_COOLDOWN, 1, px=max(1, int(seconds * 1000)))

    async def _listen(self) -> None:
        while True:
            with suppress(RedisError):
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    with self._redis.fail_fast():
                        await pubsub.subscribe(self._channel)
                    async for message in pubsub.listen():
                        self._receive(message["data"])
            await asyncio.sleep(_POLL_SECONDS)

    def _receive(self, text: bytes) -> None:
        try:
            outcome = orjson.loads(text)
            queues = self._queues.get(outcome["post"], ())
        except (ValueError, TypeError, LookupError):
            log.warning("invalid message from a peer", channel=self._channel)
            return
        for queue in queues:
            queue.receive(outcome)


class _TurnQueue(TurnQueue):
    """The queue for a post, as this process sees it; *name* is the name of the turn."""

    def __init__(self, redis: SharedRedis, name: str) -> None:
        self._redis = redis
        self._name = name
        self._outcomes: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.turn: Turn | None = None

    def receive(self, outcome: dict[str, Any]) -> None:
        self._outcomes.put_nowait(outcome)

    async def take_turn(self) -> int | None:
        if self.turn is not None:
            await self.turn.release()
        try:
            self.turn = await Turn.take(self._redis, self._name)
        except RedisError:
            return time.time_ns() // 1000
        return self.turn.fence if self.turn else None

    async def wait_for_holder(self, deadline: float) -> bool:
        while (left := deadline - time.monotonic()) > 0:
            try:
                lease = await self._redis.pttl(self._name) / 1000
            except RedisError:
                return False
            if lease <= 0 and self._outcomes.empty():
                return False
            try:
                async with asyncio.timeout(min(left, max(lease, 0), _POLL_SECONDS)):
                    outcome = await self._outcomes.get()
            except TimeoutError:
                continue
            # Another version of the service may send an unknown error.
            if error := _ERRORS.get(outcome.get("error", "")):
                raise error(retry_after=outcome.get("retry_after"))
            return bool(outcome.get("stored"))
        return False
