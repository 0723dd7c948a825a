"""A taskiq broker that queues posts for workers in a Redis stream.

Each message of the stream names a post of a job. A worker reads a message when it can run one more
post, and holds the message until that post is finished. While a worker holds messages, it sends
several heartbeats within :data:`ABANDONED_SECONDS`. When a worker stops, it hands back the messages
that it holds. Before a worker reads a new message, it takes over any message that was handed back
or that a lost worker held. When a worker joins, it removes workers that have been dead for a day.

A worker counts as lost once it has sent no heartbeat for :data:`ABANDONED_SECONDS` and its
connection is gone, for example because the worker was killed. A connected worker may merely be
late because its machine is busy, so it counts as lost only after :data:`LATE_SECONDS`. Time during
which Redis did not answer does not count. After an outage, all workers have :data:`LATE_SECONDS` to
send a heartbeat.
"""

import asyncio
import math
import os
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from taskiq import (
    AckableMessage,
    AsyncBroker,
    BrokerMessage,
    Context,
    TaskiqDepends,
    TaskiqMessage,
)

from scrapper.replicas.client import PREFIX, SharedRedis, connection_options, until_redis_answers
from scrapper.tasks import end, endable, in_background

__all__ = ["ABANDONED_SECONDS", "LATE_SECONDS", "STREAM", "PostQueue", "QueueSize", "is_lost"]

log = structlog.get_logger(__name__)

ABANDONED_SECONDS = 5.0
"""Seconds without a heartbeat after which others take over from a disconnected worker."""

LATE_SECONDS = 15.0
"""The longer threshold for a connected worker, and for every worker after an outage of Redis."""

STREAM = f"{PREFIX}queue"
"""The key of the stream of queued posts."""

_TASK = "post"
_GROUP = "workers"
_HEARTBEAT_SECONDS = ABANDONED_SECONDS / 4
_RETRY_SECONDS = 0.25
_BLOCK_SECONDS = 0.5
_PAUSE_SECONDS = 1.0
_BATCH = 2000
_DAY_SECONDS = 24 * 60 * 60.0
_HANDED_BACK_SECONDS = _DAY_SECONDS
"""To hand a message back, a worker sets the idle time of the message to this value."""


class QueueSize(NamedTuple):
    """The numbers of waiting posts, of posts taken by workers, and of connected workers."""

    waiting: int
    taken: int
    workers: int


def is_lost(silent: float, *, connected: bool, reachable: float) -> bool:
    """Return whether other workers may take over the messages of a worker.

    *silent* is the number of seconds since the worker's last heartbeat. *connected* is true if the
    worker is connected to Redis. *reachable* is the number of seconds since Redis started or last
    failed to answer.
    """
    if silent >= _HANDED_BACK_SECONDS:
        return True
    may_be_late = connected or silent > reachable
    return min(silent, reachable) >= (LATE_SECONDS if may_be_late else ABANDONED_SECONDS)


class PostQueue(AsyncBroker):
    """A taskiq broker for posts of jobs, each identified by its job's ID and its index in the job.

    Use it with :attr:`taskiq.AcknowledgeType.MANUAL`, because a message must not leave the stream
    until its post is finished. ``name`` is the worker name of this process. Once ``stopping`` is
    true, the process takes no more posts. *redis* is used for calls that may wait while Redis is
    down; reads and heartbeats use separate connections.
    """

    stopping = False

    def __init__(self, url: str, redis: SharedRedis) -> None:
        super().__init__()
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._redis = redis
        self._worker_redis = Redis.from_url(url, **connection_options())
        # Unlike keys, channels are shared by all databases, so the name has the database's number.
        database = self._worker_redis.connection_pool.connection_kwargs.get("db") or 0
        self._channel = f"{PREFIX}{database}:worker:"
        self._held: dict[bytes, bytes] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._next_takeover_at = 0.0
        self._answered_at = self._unreachable_at = -math.inf

    def message_for(self, job_id: str, index: int) -> bytes:
        """Return the message for the post. The same post always has the same message."""
        message = TaskiqMessage(
            task_id=f"{job_id}-{index}", task_name=_TASK, labels={}, args=[job_id, index], kwargs={}
        )
        return self.formatter.dumps(message).message

    def on_post(self, fetch: Callable[[str, int], Awaitable[bool]]) -> None:
        """Call *fetch* with the job's ID and the post's index for each post that is taken.

        If *fetch* returns False or is cancelled, the post is handed back.
        """

        async def post(job_id: str, index: int, context: Context = TaskiqDepends()) -> None:  # noqa: B008
            try:
                try:
                    is_finished = await fetch(job_id, index)
                except Exception:
                    # The post counts as finished, because a retry would fail in the same way.
                    log.exception("post of a job abandoned", job=job_id, index=index)
                    is_finished = True
                if is_finished:
                    await context.ack()
                else:
                    data = self.message_for(job_id, index)
                    await self._release([it for it, held in self._held.items() if held == data])
            except asyncio.CancelledError:
                # If the error were raised again, taskiq would log it.
                return

        self.register_task(post, task_name=_TASK)

    @property
    def holds_posts(self) -> bool:
        """Whether this process holds unfinished posts."""
        return bool(self._held)

    async def size(self) -> QueueSize:
        """Count the posts and the workers.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        posts = await self._redis.xlen(STREAM)
        try:
            taken: int = (await self._redis.xpending(STREAM, _GROUP))["pending"]
        except ResponseError:
            # No worker has created the group yet.
            taken = 0
        return QueueSize(posts - taken, taken, len(await self._connected()))

    async def startup(self) -> None:
        await super().startup()
        # These run in the background, because Redis may not be answering yet.
        self._tasks = [
            in_background(self._send_heartbeats(), "heartbeat"),
            in_background(self._stay_connected(), "worker connection"),
        ]

    async def shutdown(self) -> None:
        for task in self._tasks:
            await end(task)
        await super().shutdown()
        await self._worker_redis.aclose()

    async def kick(self, message: BrokerMessage) -> None:
        await self._redis.xadd(STREAM, {b"data": message.message})

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield messages, even after outages of Redis.

        Once the generator ends, ``stopping`` is true.
        """
        try:
            while True:
                try:
                    await endable(self._join())
                    while True:
                        messages = await endable(self._next())
                        self._answered_at = time.monotonic()
                        for message in messages:
                            yield message
                # Redis may also have lost the stream and its group, so join again.
                except (RedisError, OSError):
                    self._record_error()
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            self.stopping = True

    async def hand_back(self) -> None:
        """Hand back all held posts for other workers to take immediately. Call this last."""
        while self._tasks:
            await end(self._tasks.pop())
        self._held.clear()
        try:
            # These include messages that Redis sent but that this process did not receive.
            pending: Any = await self._worker_redis.xpending_range(
                STREAM, _GROUP, "-", "+", _BATCH, consumername=self.name
            )
        except RedisError as error:
            log.warning("posts not handed back", cause=type(error).__name__)
            return
        idle = _HANDED_BACK_SECONDS * 1000
        held = [it["message_id"] for it in pending if it["time_since_delivered"] < idle]
        await self._release(held)

    async def _release(self, message_ids: list[Any]) -> None:
        for message_id in message_ids:
            self._held.pop(message_id, None)
        try:
            if message_ids:
                idle = int(_HANDED_BACK_SECONDS * 1000)
                await self._worker_redis.xclaim(
                    STREAM, _GROUP, self.name, 0, message_ids, idle=idle, justid=True
                )
                log.info("posts handed back", posts=len(message_ids))
        except RedisError as error:
            log.warning("posts not handed back", cause=type(error).__name__)

    async def _join(self) -> None:
        # The group may exist already.
        with suppress(ResponseError):
            await self._worker_redis.xgroup_create(STREAM, _GROUP, id="0", mkstream=True)
        await self._remove_dead_workers()

    async def _remove_dead_workers(self) -> None:
        """Remove workers that have been silent for a day and hold no message."""
        consumers: Any = await self._worker_redis.xinfo_consumers(STREAM, _GROUP)
        for consumer in consumers:
            if consumer["idle"] > _DAY_SECONDS * 1000 and not consumer["pending"]:
                await self._worker_redis.xgroup_delconsumer(STREAM, _GROUP, consumer["name"])

    async def _next(self) -> list[AckableMessage]:
        """Return a list of at most one message, preferably one to take over."""
        return await self._take_over() or await self._read()

    async def _read(self) -> list[AckableMessage]:
        streams: Any = await self._worker_redis.xreadgroup(
            _GROUP,
            self.name,
            {STREAM: ">"},
            # Read no more than this worker can run at once, because another worker may be idle.
            count=1,
            block=int(_BLOCK_SECONDS * 1000),
        )
        return [
            self._hold(message_id, fields)
            for _, messages in streams
            for message_id, fields in messages
        ]

    async def _take_over(self) -> list[AckableMessage]:
        if time.monotonic() < self._next_takeover_at:
            return []
        for message_id, worker, silent in await self._lost_messages():
            claimed: Any = await self._worker_redis.xclaim(
                STREAM, _GROUP, self.name, int(ABANDONED_SECONDS * 1000), [message_id]
            )
            for _, fields in claimed:
                if fields is None:
                    # Redis 6.2 also lists messages that were deleted.
                    await self._worker_redis.xack(STREAM, _GROUP, message_id)
                    continue
                if silent < _HANDED_BACK_SECONDS:
                    log.warning("post of a lost worker taken over", worker=worker, silent=silent)
                return [self._hold(message_id, fields)]
        self._next_takeover_at = time.monotonic() + _BLOCK_SECONDS
        return []

    async def _lost_messages(self) -> list[tuple[bytes, str, float]]:
        """Return the messages of lost workers, and those that were handed back.

        Each is a tuple of the message's ID, its worker, and the seconds since that worker's last
        heartbeat. Another worker may take the messages over first.
        """
        pending: Any = await self._worker_redis.xpending_range(
            STREAM, _GROUP, "-", "+", _BATCH, idle=int(ABANDONED_SECONDS * 1000)
        )
        if not pending:
            return []
        connected, reachable = await self._connected(), await self._reachable_seconds()
        lost = []
        for entry in pending:
            if entry["message_id"] in self._held:
                continue
            worker, silent = entry["consumer"].decode(), entry["time_since_delivered"] / 1000
            if is_lost(silent, connected=worker in connected, reachable=reachable):
                lost.append((entry["message_id"], worker, silent))
        return lost

    async def _connected(self) -> set[str]:
        """Return the names of the workers that are connected to Redis."""
        channels: Any = await self._redis.pubsub_channels(f"{self._channel}*")
        return {channel.decode().removeprefix(self._channel) for channel in channels}

    async def _reachable_seconds(self) -> float:
        """Return the number of seconds for which Redis has been up and answering this process."""
        try:
            server: Any = await self._worker_redis.info("server")
            up = float(server["uptime_in_seconds"])
        except NoPermissionError:
            up = math.inf
        return min(up, time.monotonic() - self._unreachable_at)

    def _record_error(self) -> None:
        # Workers must not count as lost because of a short outage of Redis.
        now = time.monotonic()
        if now - self._answered_at > 2 * _HEARTBEAT_SECONDS:
            self._unreachable_at = now

    def _hold(self, message_id: bytes, fields: dict[bytes, bytes]) -> AckableMessage:
        # taskiq drops messages that it cannot parse.
        data = self._held[message_id] = fields.get(b"data", b"")

        async def acknowledge() -> None:
            # Send heartbeats until the message is removed, or another worker would take it over.
            await until_redis_answers(lambda: self._remove(message_id))
            self._held.pop(message_id, None)

        return AckableMessage(data=data, ack=acknowledge)

    async def _remove(self, message_id: bytes) -> None:
        async with self._redis.pipeline() as transaction:
            transaction.xack(STREAM, _GROUP, message_id)
            transaction.xdel(STREAM, message_id)
            with self._redis.fail_fast():
                await transaction.execute()

    async def _send_heartbeats(self) -> None:
        """Show that this process is still working on the messages that it holds."""
        while True:
            pause = _HEARTBEAT_SECONDS
            try:
                held: Any = list(self._held)
                if held:
                    await self._worker_redis.xclaim(STREAM, _GROUP, self.name, 0, held, justid=True)
                    self._answered_at = time.monotonic()
            except ResponseError:
                # Redis lost the stream.
                pass
            except RedisError:
                self._record_error()
                pause = _RETRY_SECONDS
            await asyncio.sleep(pause)

    async def _stay_connected(self) -> None:
        """Subscribe to a channel named after this process, to show that it is connected."""
        while True:
            try:
                async with self._worker_redis.pubsub() as pubsub:
                    await pubsub.subscribe(f"{self._channel}{self.name}")
                    async for _ in pubsub.listen():
                        continue
            except RedisError:
                self._record_error()
            await asyncio.sleep(_RETRY_SECONDS)
