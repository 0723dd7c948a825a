"""The parts that let several processes work together."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from prometheus_client import Gauge
from redis.exceptions import NoScriptError, RedisError

from scrapper.instagram.pace import Pace
from scrapper.replicas.client import SharedRedis, blocking_client
from scrapper.replicas.documents import RedisDocuments
from scrapper.replicas.pace import RedisPaceMemory, RedisWindow
from scrapper.replicas.peers import RedisPeers
from scrapper.replicas.post_changes import RedisPostChanges
from scrapper.replicas.queue import PostQueue
from scrapper.settings import Settings
from scrapper.telemetry.metrics import Metrics

__all__ = ["Fleet", "GatheredScripts"]


class Fleet:
    """The parts that use the Redis at ``REDIS_URL``. Use them only while the fleet is open."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        url = settings.redis_url.get_secret_value()
        self.redis = SharedRedis.at(url, metrics)
        self._blocking = blocking_client(url)
        self.documents = RedisDocuments(self._blocking)
        self.scripts = GatheredScripts(self.redis)
        self.peers = RedisPeers(self.redis)
        self.queue = PostQueue(url, self.redis)
        self.post_changes = RedisPostChanges(self.redis)
        parts = urlsplit(url)
        self.redis_address = f"{parts.netloc.rpartition('@')[2]}{parts.path}"
        """The address of Redis, without its password."""
        registry = metrics.registry
        self._posts = Gauge(
            "queue_posts",
            "Queued posts of jobs, waiting for a worker or taken by one",
            ["state"],
            registry=registry,
        )
        self._workers = Gauge("queue_workers", "Workers that are connected", registry=registry)
        metrics.before_reading(self._update_gauges)

    async def open(self) -> None:
        """Start listening to the other processes, even if Redis does not answer yet."""
        await self.peers.open()
        await self.post_changes.open()

    async def close(self) -> None:
        """Close all connections."""
        await self.post_changes.close()
        await self.peers.close()
        await self.scripts.close()
        await self.queue.shutdown()
        await self.redis.aclose()
        await asyncio.to_thread(self._blocking.close)

    def make_pace(self, login_state: str, max_queries: int, window: float) -> Pace:
        """Return the pace of a login state.

        All replicas share the limit that any of them learns. With a session, they also share the
        count of requests, because they use the same account. Without a session, each replica
        counts its own requests, because each may have its own IP address.
        """
        counts = RedisWindow(self._blocking, login_state) if login_state == "session" else None
        memory = RedisPaceMemory(self._blocking, login_state)
        return Pace(max_queries, window, memory=memory, counts=counts)

    async def _update_gauges(self) -> None:
        """Set the gauges of posts and workers. They are NaN while Redis does not answer."""
        try:
            size: tuple[float, ...] = await self.queue.size()
        except RedisError:
            size = (math.nan,) * 3
        gauges = (self._posts.labels("waiting"), self._posts.labels("taken"), self._workers)
        for gauge, number in zip(gauges, size, strict=True):
            gauge.set(number)

    async def answers(self) -> bool:
        """Return whether Redis answers."""
        try:
            return bool(await self.redis.ping())
        except RedisError:
            return False


class _Call(NamedTuple):
    script: Any
    keys: Sequence[Any]
    arguments: Sequence[Any]
    reply: asyncio.Future[Any]


class GatheredScripts:
    """Runs scripts on *redis* and batches concurrent calls.

    Calls made while other calls are under way are sent together in one pipeline. Under load, each
    call costs only a fraction of a round trip.
    """

    def __init__(self, redis: SharedRedis) -> None:
        self._redis = redis
        self._waiting: list[_Call] = []
        self._sending: asyncio.Task[None] | None = None

    def register_script(self, text: str) -> Callable[[Any, Any], Awaitable[Any]]:
        """Return a function that runs the script *text* with keys and arguments.

        The function raises :class:`redis.exceptions.RedisError` if Redis does not answer.
        """
        script = self._redis.register_script(text)

        def run(keys: Sequence[Any], arguments: Sequence[Any]) -> Awaitable[Any]:
            loop = asyncio.get_running_loop()
            call = _Call(script, keys, arguments, loop.create_future())
            self._waiting.append(call)
            if self._sending is None or self._sending.done():
                self._sending = loop.create_task(self._send_all())
            return call.reply

        return run

    async def close(self) -> None:
        """Wait for the calls under way, because a cancelled pipeline would leak its connection."""
        if self._sending is not None:
            await asyncio.wait([self._sending])

    async def _send_all(self) -> None:
        while self._waiting:
            calls, self._waiting = self._waiting, []
            try:
                replies = await self._send(calls)
            # Every error is passed to the callers.
            except Exception as error:  # noqa: BLE001
                replies = [error] * len(calls)
            for call, reply in zip(calls, replies, strict=True):
                if call.reply.done():
                    continue
                if isinstance(reply, Exception):
                    call.reply.set_exception(reply)
                else:
                    call.reply.set_result(reply)

    async def _send(self, calls: Sequence[_Call]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for script, keys, arguments, _ in calls:
                pipeline.evalsha(script.sha, len(keys), *keys, *arguments)
            with self._redis.fail_fast():
                replies: list[Any] = await pipeline.execute(raise_on_error=False)
        for index, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                # Redis was restarted or replaced. Calling the script makes redis-py load it again.
                script, keys, arguments, _ = calls[index]
                try:
                    replies[index] = await script(keys=keys, args=arguments)
                except RedisError as error:
                    replies[index] = error
        return replies
