"""The job store in Redis, which is shared by replicas."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import WatchError
from structlog.testing import capture_logs

from scrapper.jobs.model import Job, JobPost
from scrapper.jobs.stores.redis import RedisStore
from scrapper.jobs.stores.redis_deliveries import RedisDeliveries
from scrapper.replicas.client import SharedRedis
from scrapper.replicas.queue import PostQueue
from scrapper.telemetry.metrics import Metrics
from tests.clock import Clock
from tests.redis_server import RedisServer
from tests.unit.jobs.contract import MAX_AGE, StoreContract, batch

STREAM, BACKLOG = "scrapper:queue", "scrapper:backlog"


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[SharedRedis]:
    client = SharedRedis.at(redis_server.url, Metrics())
    yield client
    await client.aclose()


@pytest.fixture
async def store(redis: SharedRedis, redis_server: RedisServer) -> AsyncIterator[RedisStore]:
    queue = PostQueue(redis_server.url, redis)
    yield RedisStore(redis, queue, max_jobs=4, max_age=MAX_AGE, plugins=["one"])
    await queue.shutdown()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock by which the store decides whether a job is stuck."""
    clock = Clock()
    monkeypatch.setattr("scrapper.jobs.stores.redis.time", SimpleNamespace(monotonic=clock))
    return clock


async def stream(redis: SharedRedis) -> list[tuple[str, int]]:
    entries: Any = await redis.xrange(STREAM)
    return [tuple(json.loads(fields[b"data"])["args"]) for _, fields in entries]


class TestRedisStore(StoreContract):
    @pytest.fixture(autouse=True)
    def keep_client(self, redis: SharedRedis) -> None:
        self.redis = redis

    async def queued(self, _store: RedisStore) -> set[tuple[str, int]]:
        return set(await stream(self.redis))


async def test_concurrent_changes_are_all_stored(store: RedisStore) -> None:
    job = batch(20)
    await store.add(job)

    async def save(index: int, size: int) -> bool:
        return await store.save_post(job.id, index, replace(job.posts[index], bytes_done=size))

    await asyncio.gather(*(save(it % 20, it) for it in range(60)))
    await asyncio.gather(*(store.save_post(job.id, it, job.posts[it].done(3)) for it in range(20)))
    found = await store.get(job.id)
    assert found is not None
    assert (found.state, {post.bytes_done for post in found.posts}) == ("done", {3})
    assert found.version == 100


@pytest.mark.parametrize("reads", [1, 2])
async def test_a_job_retried_during_a_submission_is_kept(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    *jobs, new = [batch(1, f"192.0.2.{number}") for number in range(5)]
    for age, job in enumerate(reversed(jobs)):
        job.created_at -= age
    for job in jobs:
        await store.add(job)
    for job in jobs[:2]:
        await store.change(job, JobPost.cancelled)
    for finished in await store.unreported("one"):
        await store.record_reported("one", finished)
    jobs_to_drop, read = store._jobs_to_drop, 0

    async def read_then_retry(reading: Any, client: str) -> Any:
        nonlocal read
        found = await jobs_to_drop(reading, client)
        read += 1
        if read == reads:
            # Another client retries the oldest job just after it was chosen for removal.
            assert await store.change(jobs[0], JobPost.retried, queue=True)
        return found

    monkeypatch.setattr(store, "_jobs_to_drop", read_then_retry)
    await store.add(new)
    kept = [await store.get(job.id) is not None for job in (*jobs, new)]
    assert kept == [True, False, True, True, True]


async def test_a_job_retried_during_a_report_does_not_expire(
    store: RedisStore, redis: SharedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = batch(1)
    await store.add(job)
    await store.change(job, JobPost.cancelled)
    [finished] = await store.unreported("one")
    execute, retried = redis.execute_command, False

    async def read_then_retry(*args: Any, **options: Any) -> Any:
        nonlocal retried
        reply = await execute(*args, **options)
        if args[0] in ("HGET", "HMGET") and not retried:
            retried = True
            assert await store.change(job, JobPost.retried, queue=True)
        return reply

    monkeypatch.setattr(redis, "execute_command", read_then_retry)
    await store.record_reported("one", finished)
    assert retried
    assert await redis.ttl(f"scrapper:job:{job.id}") == -1


@pytest.mark.blocks
async def test_a_job_forgotten_during_a_retry_is_not_queued(
    store: RedisStore, redis: SharedRedis, redis_server: RedisServer
) -> None:
    job = batch(1)
    await store.add(job)
    await store.save_post(job.id, 0, job.posts[0].failed(404, "post_not_found", "gone"))
    await redis.delete(STREAM)
    retried = await store.get(job.id)
    assert retried is not None

    calls = []

    def retry(post: JobPost) -> JobPost:
        calls.append(post)
        # Another process forgets the job just before the post is written.
        if len(calls) == 2:
            redis_server.client.hset(f"scrapper:job:{job.id}", "forgotten", 1)
        return post.retried()

    assert not await store.change(retried, retry, queue=True)
    assert await stream(redis) == []


async def test_a_stored_job_is_accepted_even_if_redis_fails(
    store: RedisStore, redis: SharedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, transaction = batch(1, owner="anna"), redis.transaction

    async def commit_then_fail(*args: Any) -> Any:
        replies = await transaction(*args)
        monkeypatch.setattr(redis, "execute_command", fail)
        return replies

    async def fail(*_args: Any, **_options: Any) -> Any:
        raise RedisConnectionError

    monkeypatch.setattr(redis, "transaction", commit_then_fail)
    await store.add(job)
    monkeypatch.undo()
    assert (await store.changed(0)).jobs == [(job.id, "anna")]


async def test_a_job_is_queued_once_if_the_reply_is_lost(
    store: RedisStore, redis: SharedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, execute = batch(1), Pipeline.execute

    async def execute_then_fail(pipeline: Pipeline, *args: Any) -> Any:
        replies = await execute(pipeline, *args)
        if await redis.exists(f"scrapper:job:{job.id}"):
            monkeypatch.undo()
            # redis-py raises this error if the connection breaks while it waits for the reply.
            raise WatchError
        return replies

    monkeypatch.setattr(Pipeline, "execute", execute_then_fail)
    await store.add(job)
    assert Pipeline.execute is execute
    assert await stream(redis) == [(job.id, 0)]


async def test_posts_are_queued_again_if_redis_loses_the_queue(
    store: RedisStore, redis: SharedRedis
) -> None:
    job = batch(3)
    await store.add(job)
    await store.save_post(job.id, 0, job.posts[0].done(1))
    await store.save_post(job.id, 1, job.posts[1].started())
    await redis.delete(STREAM)
    with capture_logs() as logs:
        for _ in range(2):
            await store.get(job.id)
    assert await stream(redis) == [(job.id, 1), (job.id, 2)]
    assert [line["event"] for line in logs] == ["posts missing from the queue: queued again"]


@pytest.mark.parametrize(
    "read", [RedisStore.refresh, lambda store, job: store.get(job.id)], ids=["refresh", "get"]
)
async def test_lost_posts_are_queued_again_behind_others(
    store: RedisStore, redis: SharedRedis, clock: Clock, read: Any
) -> None:
    lost, other = batch(2), batch(1, "192.0.2.2")
    await store.add(lost)
    await redis.delete(STREAM)
    await store.add(other)
    await store.wait(other, 0, other.posts[0], 100.0)
    found = await store.get(lost.id)
    assert found is not None
    for _ in range(2):
        clock.now += 3
        assert await read(store, found)
    assert await stream(redis) == [(other.id, 0), (lost.id, 0), (lost.id, 1)]


async def test_no_post_is_queued_twice_in_a_long_queue(
    store: RedisStore, redis: SharedRedis, clock: Clock
) -> None:
    others = "for i = 1, 2000 do redis.call('XADD', KEYS[1], '*', 'data', i) end"
    await redis.eval(others, 1, STREAM)
    job = batch(1)
    await store.add(job)
    with capture_logs() as logs:
        for _ in range(2):
            await store.get(job.id)
            clock.now += 6
    assert await redis.xlen(STREAM) == 2001
    assert logs == []


async def test_a_post_that_ends_during_a_request_is_not_requeued(
    store: RedisStore, redis: SharedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = batch(1)
    await store.add(job)
    read = store.read

    async def read_then_end(job_id: str) -> Job | None:
        found = await read(job_id)
        # A worker ends the post and removes its message just after the job was read.
        await store.save_post(job.id, 0, job.posts[0].done(1))
        await redis.xtrim(STREAM, 0)
        return found

    monkeypatch.setattr(store, "read", read_then_end)
    with capture_logs() as logs:
        await store.get(job.id)
    assert await stream(redis) == []
    assert logs == []


async def test_posts_in_the_backlog_are_not_queued_again(
    store: RedisStore, redis: SharedRedis
) -> None:
    job = batch(1)
    await store.add(job)
    await store.wait(job, 0, job.posts[0], 100.0)
    await redis.delete(STREAM)
    await store.get(job.id)
    assert await stream(redis) == []
    assert await redis.zcard(BACKLOG) == 1


async def test_a_job_that_ends_during_a_poll_sends_its_webhook(
    store: RedisStore, redis: SharedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = batch(1, webhook="https://example.com/")
    await store.add(job)
    await store.change(job, JobPost.cancelled)
    await store.change(job, JobPost.retried, queue=True)
    read = store.read

    async def read_then_end(job_id: str) -> Job | None:
        found = await read(job_id)
        # A worker ends the job just after it was read, but only once.
        await store.save_post(job.id, 0, job.posts[0].done(1))
        return found

    monkeypatch.setattr(store, "read", read_then_end)
    assert [it.job for it in await RedisDeliveries(redis, store).waiting()] == [job.id]


async def test_an_old_job_that_plugins_received_sends_its_webhook(
    store: RedisStore, redis: SharedRedis
) -> None:
    job = batch(1, webhook="https://example.com/")
    job.created_at -= 2 * MAX_AGE
    await store.add(job)
    await store.change(job, JobPost.cancelled)
    for finished in await store.unreported("one"):
        await store.record_reported("one", finished)
    assert [it.job for it in await RedisDeliveries(redis, store).waiting()] == [job.id]


async def test_a_job_that_redis_lost_is_gone(store: RedisStore, redis: SharedRedis) -> None:
    job = batch(1)
    await store.add(job)
    assert await store.refresh(job)
    await redis.flushall()
    assert not await store.refresh(job)


@pytest.mark.parametrize("years", [-50, 10])
async def test_the_clock_of_redis_replaces_a_wrong_one(
    store: RedisStore, redis: SharedRedis, years: int
) -> None:
    job = batch(1)
    job.created_at += years * 365 * 24 * 3600
    await store.add(job)
    await store.save_post(job.id, 0, job.posts[0].done(1))
    now, _ = await redis.time()
    found = await store.get(job.id)
    assert found is not None
    assert found.created_at == pytest.approx(now, abs=60)
