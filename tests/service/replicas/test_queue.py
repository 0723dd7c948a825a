"""When a post leaves the queue."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio.client import Pipeline
from structlog.testing import capture_logs

from scrapper.replicas.client import SharedRedis
from scrapper.replicas.queue import STREAM, PostQueue
from scrapper.telemetry.metrics import Metrics
from tests.process import PATIENCE_SECONDS
from tests.redis_server import RedisServer


@pytest.fixture
async def new_queue(redis_server: RedisServer) -> AsyncIterator[Callable[[], PostQueue]]:
    """Makes the queue as processes have it."""
    redis = SharedRedis.at(redis_server.url, Metrics())
    queues = []

    def make() -> PostQueue:
        queues.append(PostQueue(redis_server.url, redis))
        return queues[-1]

    yield make
    for queue in queues:
        await queue.shutdown()
    await redis.aclose()


class Acknowledged:
    """A stand-in for the context that taskiq hands to a task."""

    count = 0

    async def ack(self) -> None:
        self.count += 1


@pytest.mark.parametrize(
    ("error", "count"), [(None, 1), (KeyError("job"), 1), (asyncio.CancelledError(), 0)]
)
async def test_a_post_is_acknowledged_unless_it_was_broken_off(
    new_queue: Callable[[], PostQueue], error: BaseException | None, count: int
) -> None:
    async def fetch(_job: str, _index: int) -> None:
        if error is not None:
            raise error

    queue = new_queue()
    queue.on_post(fetch)
    task: Any = queue.find_task("post")
    context = Acknowledged()
    with capture_logs() as logs:
        await asyncio.wait([asyncio.create_task(task.original_func("job", 0, context=context))])
    assert context.count == count
    assert [line["event"] for line in logs] == ["post of a job given up"] * (
        type(error) is KeyError
    )


@pytest.mark.parametrize("posts", [0, 200])
async def test_a_wait_for_a_post_ends_whenever_it_is_cancelled(
    new_queue: Callable[[], PostQueue], redis_server: RedisServer, posts: int
) -> None:
    sender = SharedRedis.at(redis_server.url, Metrics())
    for index in range(posts):
        await sender.xadd(STREAM, {b"data": new_queue().message_for("job", index)})
    for pause in range(40):
        messages = new_queue().listen()
        if posts:
            await anext(messages)
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(pause / 10_000)
        waiting.cancel()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.wait([waiting])
        await messages.aclose()
    await sender.aclose()
    pipelines = [thing for thing in gc.get_objects() if isinstance(thing, Pipeline)]
    assert [pipeline for pipeline in pipelines if pipeline.connection is not None] == []
