"""The queue in which posts of jobs wait for a worker: taskiq's, in a stream of Redis."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import structlog
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError
from taskiq import AckableMessage, TaskiqMessage
from taskiq_redis import RedisStreamBroker

from scrapper.replicas.client import PREFIX, SharedRedis, connection_options
from scrapper.replicas.tasks import end, endable

__all__ = ["ABANDONED_SECONDS", "PostQueue"]

log = structlog.get_logger(__name__)

ABANDONED_SECONDS = 5.0
"""For how long a worker that shows no life keeps its posts; then another has them."""

_TASK = "post"
_STREAM = f"{PREFIX}queue"
_GROUP = "workers"
_SIGNS_OF_LIFE = 4
_BLOCK_SECONDS = 0.5
_PAUSE_SECONDS = 1.0
_MOST_AT_ONCE = 100


class PostQueue(RedisStreamBroker):
    """A taskiq broker for posts of jobs, each named by the job's ID and its index there.

    A message is acknowledged when the post has an outcome. taskiq-redis 1.2.4 leaves some
    things to be done: it looks for what a killed worker held only after a new message came,
    takes what is under way for it, keeps what is done with in the stream for ever, and stops
    to listen where the connection breaks.
    """

    def __init__(self, url: str, redis: SharedRedis) -> None:
        super().__init__(
            url,
            queue_name=_STREAM,
            consumer_group_name=_GROUP,
            consumer_id="0",
            # A worker takes no more than it works on: others may be idle.
            xread_count=1,
            unacknowledged_batch_size=1,
            xread_block=int(_BLOCK_SECONDS * 1000),
            idle_timeout=int(ABANDONED_SECONDS * 1000),
            **connection_options(),
        )
        self._redis = redis
        self._held: set[str] = set()

    def add(self, transaction: Pipeline, job_id: str, index: int) -> None:
        """Let the post wait, from when the *transaction* is executed."""
        message = TaskiqMessage(
            task_id=uuid4().hex, task_name=_TASK, labels={}, args=[job_id, index], kwargs={}
        )
        transaction.xadd(_STREAM, {b"data": self.formatter.dumps(message).message})

    def on_post(self, fetch: Callable[[str, int], Awaitable[None]]) -> None:
        """Have *fetch* called for each post that this process takes."""

        # taskiq takes no bound methods.
        async def post(job_id: str, index: int) -> None:
            await fetch(job_id, index)

        self.register_task(post, task_name=_TASK)

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Posts as they come, for as long as somebody asks; Redis may go and come back."""
        caring = asyncio.create_task(self._care())
        try:
            while True:
                try:
                    await self._declare_consumer_group()
                    messages = super().listen()
                    while True:
                        yield await endable(anext(messages))
                # Also where Redis lost the stream, and the group with it.
                except (RedisError, OSError):
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            await end(caring)

    def _ack_generator(self, id: Any, queue_name: str) -> Callable[[], Awaitable[None]]:  # noqa: A002
        self._held.add(id)
        acknowledge = super()._ack_generator(id, queue_name)

        async def done() -> None:
            # First of all: what cannot be acknowledged is for another to find.
            self._held.discard(id)
            with suppress(RedisError):
                await acknowledge()
                await self._redis.xdel(_STREAM, id)

        return done

    async def _care(self) -> None:
        oldest: Any = "0-0"
        while True:
            await asyncio.sleep(ABANDONED_SECONDS / _SIGNS_OF_LIFE)
            with suppress(RedisError):
                await self._show_life()
                oldest = await self._resend_abandoned(oldest)

    async def _show_life(self) -> None:
        """Have what this process works on not look abandoned."""
        if self._held:
            await self._redis.xclaim(
                _STREAM, _GROUP, self.consumer_name, 0, list(self._held), justid=True
            )

    async def _resend_abandoned(self, start: Any) -> Any:
        """Let what a killed worker held wait anew; return where to look next time."""
        start, abandoned, _ = await self._redis.xautoclaim(
            _STREAM,
            _GROUP,
            self.consumer_name,
            min_idle_time=int(ABANDONED_SECONDS * 1000),
            start_id=start,
            count=_MOST_AT_ONCE,
        )
        for message_id, fields in abandoned:
            async with self._redis.pipeline() as transaction:
                transaction.xadd(_STREAM, fields)
                transaction.xack(_STREAM, _GROUP, message_id)
                transaction.xdel(_STREAM, message_id)
                with self._redis.asking():
                    await transaction.execute()
        if abandoned:
            log.warning("posts of a lost worker wait anew", posts=len(abandoned))
        return start
