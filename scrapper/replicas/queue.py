"""The queue of posts that wait for a worker: taskiq, over a stream of Redis."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from taskiq import AckableMessage, Context, TaskiqDepends, TaskiqMessage
from taskiq_redis import RedisStreamBroker

from scrapper.replicas.client import PREFIX, SharedRedis, connection_options
from scrapper.tasks import end, endable, in_background

__all__ = ["ABANDONED_SECONDS", "STREAM", "PostQueue"]

log = structlog.get_logger(__name__)

ABANDONED_SECONDS = 5.0
"""Seconds after which another worker takes the posts of one without a heartbeat."""

STREAM = f"{PREFIX}queue"
"""The key of the stream."""

_TASK = "post"
_GROUP = "workers"
_HEARTBEATS = 4
_BLOCK_SECONDS = 0.5
_PAUSE_SECONDS = 1.0
_MOST_AT_ONCE = 100
_DAY_MS = 24 * 60 * 60 * 1000


class PostQueue(RedisStreamBroker):
    """A taskiq broker for posts of jobs, each named by the job's ID and its index there.

    A message is acknowledged once its post is finished. This class makes up for what taskiq-redis
    1.2.4 lacks: it looks for a killed worker's messages only after a new message came, mistakes
    running messages for those, keeps finished messages and dead consumers for ever, stops listening
    when the connection breaks, and keeps its connection when it is stopped.
    """

    def __init__(self, url: str, redis: SharedRedis) -> None:
        super().__init__(
            url,
            queue_name=STREAM,
            consumer_group_name=_GROUP,
            consumer_id="0",
            **connection_options(),
        )
        self._redis = redis
        self._held: set[Any] = set()
        self._maintaining: asyncio.Task[None] | None = None

    def message_for(self, job_id: str, index: int) -> bytes:
        """What the stream holds for the post; the same each time."""
        message = TaskiqMessage(
            task_id=f"{job_id}-{index}", task_name=_TASK, labels={}, args=[job_id, index], kwargs={}
        )
        return self.formatter.dumps(message).message

    def on_post(self, fetch: Callable[[str, int], Awaitable[None]]) -> None:
        """Have *fetch* called for each post that this process takes.

        Use it with :attr:`taskiq.AcknowledgeType.MANUAL`. If *fetch* is cancelled, another worker
        takes the post.
        """

        async def post(job_id: str, index: int, context: Context = TaskiqDepends()) -> None:  # noqa: B008
            try:
                await fetch(job_id, index)
            except Exception:
                # The next try would fail in the same way.
                log.exception("post of a job given up", job=job_id, index=index)
            await context.ack()

        self.register_task(post, task_name=_TASK)

    async def startup(self) -> None:
        # The inherited one creates the group, but Redis need not answer yet.
        self._maintaining = in_background(self._maintain(), "maintenance of the queue")

    async def shutdown(self) -> None:
        if self._maintaining is not None:
            await end(self._maintaining)
        await super().shutdown()

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Posts as they come; Redis may go and come back."""
        while True:
            try:
                await endable(self._declare_consumer_group())
                while True:
                    for message in await endable(self._take()):
                        yield message
            # Redis may also have lost the stream, and the group with it.
            except (RedisError, OSError):
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _take(self) -> list[AckableMessage]:
        """The next post; none if none came within half a second."""
        async with Redis(connection_pool=self.connection_pool) as redis:
            streams: Any = await redis.xreadgroup(
                _GROUP,
                self.consumer_name,
                {STREAM: ">"},
                # A worker takes only what it can run at once: others may be idle.
                count=1,
                block=int(_BLOCK_SECONDS * 1000),
            )
        return [
            AckableMessage(data=fields[b"data"], ack=self._ack_generator(message_id, STREAM))
            for _, messages in streams
            for message_id, fields in messages
        ]

    def _ack_generator(self, id: Any, queue_name: str) -> Callable[[], Awaitable[None]]:  # noqa: A002
        self._held.add(id)

        async def done() -> None:
            # First of all: if it cannot be acknowledged, another worker must find it.
            self._held.discard(id)
            try:
                await self._finish(id)
            except RedisError:
                log.warning("post not acknowledged", queue=queue_name)

        return done

    async def _finish(self, message_id: Any, again: Any = None) -> None:
        """Remove a message from the stream; with *again*, add a new one with these fields."""
        async with self._redis.pipeline() as transaction:
            if again:
                transaction.xadd(STREAM, again)
            transaction.xack(STREAM, _GROUP, message_id)
            transaction.xdel(STREAM, message_id)
            with self._redis.asking():
                await transaction.execute()

    async def _maintain(self) -> None:
        oldest: Any = "0-0"
        # While Redis was gone nobody could send a heartbeat: allow time for it.
        patient_until = time.monotonic() + ABANDONED_SECONDS
        while True:
            await asyncio.sleep(ABANDONED_SECONDS / _HEARTBEATS)
            try:
                if self._held:
                    # Show that this process still works on its messages.
                    held = list(self._held)
                    await self._redis.xclaim(
                        STREAM, _GROUP, self.consumer_name, 0, held, justid=True
                    )
                if time.monotonic() > patient_until:
                    oldest = await self._resend_abandoned(oldest)
                    await self._forget_the_gone()
            except ResponseError:
                # There is no group yet.
                continue
            except RedisError:
                patient_until = time.monotonic() + ABANDONED_SECONDS

    async def _resend_abandoned(self, start: Any) -> Any:
        """Queue a killed worker's messages again; return where to look next time."""
        start, abandoned, *_ = await self._redis.xautoclaim(
            STREAM,
            _GROUP,
            self.consumer_name,
            min_idle_time=int(ABANDONED_SECONDS * 1000),
            start_id=start,
            count=_MOST_AT_ONCE,
        )
        for message_id, fields in abandoned:
            # Redis 6.2 also lists messages that are gone, without fields.
            await self._finish(message_id, again=fields)
        if abandoned:
            log.warning("posts of a lost worker queued again", posts=len(abandoned))
        return start

    async def _forget_the_gone(self) -> None:
        """Remove consumers that were silent for a day and hold no messages."""
        consumers: Any = await self._redis.xinfo_consumers(STREAM, _GROUP)
        for consumer in consumers:
            if consumer["idle"] > _DAY_MS and not consumer["pending"]:
                await self._redis.xgroup_delconsumer(STREAM, _GROUP, consumer["name"])
