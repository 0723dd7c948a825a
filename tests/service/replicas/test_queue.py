"""How posts enter the queue, which worker holds them, and when they leave it."""

import asyncio
import gc
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.client import Pipeline
from structlog.testing import capture_logs
from taskiq import AckableMessage
from taskiq.receiver import Receiver

from scrapper.replicas.client import SharedRedis
from scrapper.replicas.queue import ABANDONED_SECONDS, STREAM, PostQueue, QueueSize
from scrapper.telemetry.metrics import Metrics
from tests.conftest import StartService
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS
from tests.redis_server import RedisServer

BEFORE = Path(__file__).with_name("queue_before.json")

NewQueue = Callable[[], PostQueue]


@pytest.fixture
async def new_queue(redis_server: RedisServer) -> AsyncIterator[NewQueue]:
    """Return a function that creates the queue of another process."""
    redis = SharedRedis.at(redis_server.url, Metrics())
    queues = []

    def make() -> PostQueue:
        queues.append(PostQueue(redis_server.url, redis))
        return queues[-1]

    yield make
    for queue in queues:
        await queue.shutdown()
    await redis.aclose()


async def add(queue: PostQueue, *indexes: int) -> None:
    """Queue posts of a job through taskiq's client API."""
    queue.on_post(nothing)
    task = queue.find_task("post")
    assert task is not None
    for index in indexes:
        await task.kiq("job", index)


async def nothing(_job: str, _index: int) -> bool:
    return True


def index_of(message: AckableMessage) -> int:
    index: int = json.loads(message.data)["args"][1]
    return index


async def take(messages: AsyncGenerator[AckableMessage, None]) -> int:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return index_of(await anext(messages))


async def until_size(queue: PostQueue, size: QueueSize) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await queue.size() != size:  # noqa: ASYNC110 - the size changes in Redis
            await asyncio.sleep(0.01)


def silent_for(redis_server: RedisServer) -> int:
    """Return the milliseconds since the last heartbeat of the first post's worker."""
    redis: Any = redis_server.client
    [entry] = redis.xpending_range(STREAM, "workers", "-", "+", 1)
    milliseconds: int = entry["time_since_delivered"]
    return milliseconds


class Acknowledged:
    """A stand-in for the context that taskiq passes to a task. Counts acknowledgements."""

    count = 0

    async def ack(self) -> None:
        self.count += 1


@pytest.mark.parametrize(
    ("error", "count"), [(None, 1), (KeyError("job"), 1), (asyncio.CancelledError(), 0)]
)
async def test_a_post_is_acknowledged_unless_it_was_cancelled(
    new_queue: NewQueue, error: BaseException | None, count: int
) -> None:
    async def fetch(_job: str, _index: int) -> bool:
        if error is not None:
            raise error
        return True

    queue = new_queue()
    queue.on_post(fetch)
    task: Any = queue.find_task("post")
    context = Acknowledged()
    with capture_logs() as logs:
        await asyncio.wait([asyncio.create_task(task.original_func("job", 0, context=context))])
    assert context.count == count
    assert [line["event"] for line in logs] == ["post of a job abandoned"] * (
        type(error) is KeyError
    )


@pytest.mark.parametrize("posts", [0, 200])
async def test_waiting_for_a_post_can_be_cancelled_at_any_time(
    new_queue: NewQueue, redis_server: RedisServer, posts: int
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


async def test_each_queued_post_goes_to_one_worker(new_queue: NewQueue) -> None:
    one, other = new_queue(), new_queue()
    await add(one, 0, 1)
    assert [await take(one.listen()), await take(other.listen())] == [0, 1]
    assert await one.size() == QueueSize(waiting=0, taken=2, workers=0)


async def test_size_counts_posts_and_workers(new_queue: NewQueue) -> None:
    queue, worker = new_queue(), new_queue()
    await add(queue, 0, 1, 2)
    assert await queue.size() == QueueSize(waiting=3, taken=0, workers=0)
    await worker.startup()
    await take(worker.listen())
    await until_size(queue, QueueSize(waiting=2, taken=1, workers=1))


async def test_posts_that_were_handed_back_come_first(
    new_queue: NewQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping, other = new_queue(), new_queue()
    await stopping.startup()
    await add(stopping, 0, 1, 2)
    messages = stopping.listen()
    assert [await take(messages), await take(messages)] == [0, 1]
    # These delays do not apply to posts that were handed back.
    monkeypatch.setattr("scrapper.replicas.queue.ABANDONED_SECONDS", 3600.0)
    monkeypatch.setattr("scrapper.replicas.queue.LATE_SECONDS", 3600.0)
    await stopping.hand_back()
    assert not stopping.holds_posts
    messages = other.listen()
    assert [await take(messages) for _ in range(3)] == [0, 1, 2]


async def test_a_late_worker_keeps_its_post_while_connected(
    new_queue: NewQueue, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.replicas.queue.ABANDONED_SECONDS", 0.1)
    monkeypatch.setattr("scrapper.replicas.queue._HEARTBEAT_SECONDS", 3600.0)
    late, other = new_queue(), new_queue()
    await late.startup()
    await until_size(late, QueueSize(waiting=0, taken=0, workers=1))
    await add(late, 0, 1)
    assert await take(late.listen()) == 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await asyncio.to_thread(silent_for, redis_server) <= 100:
            pass
    messages = other.listen()
    # If the first post counted as lost, it would come before this one.
    assert await take(messages) == 1
    await late.shutdown()
    assert await take(messages) == 0


async def test_a_heartbeat_resets_the_silence_of_a_worker(
    new_queue: NewQueue, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.replicas.queue._HEARTBEAT_SECONDS", 0.01)
    worker = new_queue()
    await worker.startup()
    await add(worker, 0)
    await take(worker.listen())
    async with asyncio.timeout(PATIENCE_SECONDS):
        before = await asyncio.to_thread(silent_for, redis_server)
        while (now := await asyncio.to_thread(silent_for, redis_server)) >= before:
            before = now


async def test_an_acknowledgement_is_retried_until_redis_answers(
    new_queue: NewQueue, tmp_path: Path
) -> None:
    with RedisServer(tmp_path) as server:
        redis = SharedRedis.at(server.url, Metrics())
        queue = PostQueue(server.url, redis)
        await add(queue, 0)
        message = await anext(queue.listen())
        await asyncio.to_thread(server.stop)
        acknowledging: Any = asyncio.ensure_future(message.ack())  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        assert queue.holds_posts
        await asyncio.to_thread(server.start)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await acknowledging
        assert not queue.holds_posts
        assert await redis.xlen(STREAM) == 0
        await queue.shutdown()
        await redis.aclose()


async def test_an_invalid_message_is_removed_from_the_queue(
    new_queue: NewQueue, redis_server: RedisServer
) -> None:
    queue = new_queue()
    await asyncio.to_thread(redis_server.client.xadd, STREAM, {"other": "thing"})
    await Receiver(queue, max_async_tasks=1).callback(await anext(queue.listen()))
    assert await queue.size() == QueueSize(0, 0, 0)


async def test_a_deleted_message_is_acknowledged(
    new_queue: NewQueue, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, other = new_queue(), new_queue()
    await add(lost, 0, 1)
    await take(lost.listen())
    await lost.hand_back()
    redis: Any = redis_server.client
    [(first, _), _] = redis.xrange(STREAM)
    redis.xdel(STREAM, first)
    assert await take(other.listen()) == 1
    assert redis.xpending(STREAM, "workers")["pending"] == 1


async def test_dead_workers_are_removed_unless_they_hold_posts(
    new_queue: NewQueue, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = new_queue()
    await add(queue, 0, 1)
    redis: Any = redis_server.client
    redis.xgroup_create(STREAM, "workers", id="0")
    redis.xgroup_createconsumer(STREAM, "workers", "idle")
    redis.xreadgroup("workers", "busy", {STREAM: ">"}, count=1)
    monkeypatch.setattr("scrapper.replicas.queue._DAY_SECONDS", -1.0)
    await take(queue.listen())
    names = {consumer["name"].decode() for consumer in redis.xinfo_consumers(STREAM, "workers")}
    assert names == {"busy", queue.name}


@pytest.mark.parametrize("mode", ["with Redis"], indirect=True)
async def test_jobs_queued_by_the_previous_version_are_finished(
    instagram: StandIn,
    start_service: StartService,
    new_queue: NewQueue,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Redis may have started only a moment ago, so a killed worker might still count as late.
    monkeypatch.setattr("scrapper.replicas.queue.LATE_SECONDS", 0.0)
    before = json.loads(BEFORE.read_text())
    redis: Any = redis_server.client
    job_id, now = before["id"], time.time()
    redis.hset(f"scrapper:job:{job_id}", mapping={**before["job"], "created_at": now})
    redis.zadd("scrapper:jobs", {job_id: now})
    for message_id, data in before["stream"].items():
        redis.xadd(STREAM, {"data": data}, id=message_id)
    redis.xgroup_create(STREAM, "workers", id="0")
    for worker, posts in before["held"].items():
        # This worker was killed long ago.
        redis.xreadgroup("workers", worker, {STREAM: ">"}, count=posts)
        held = list(before["stream"])[:posts]
        idle = int(ABANDONED_SECONDS * 1000)
        redis.xclaim(STREAM, "workers", worker, 0, held, idle=idle, justid=True)
    client = await start_service()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with client.get(f"/jobs/{job_id}") as response:
                job = await response.json()
            if job["state"] != "running":
                break
            await asyncio.sleep(0.05)
    await until_size(new_queue(), QueueSize(waiting=0, taken=0, workers=1))
    assert [post["status"] for post in job["posts"]] == [200] * 4
