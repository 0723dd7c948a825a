"""The job store in Redis, which is shared by replicas."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from scrapper.jobs.model import JobPost
from scrapper.jobs.stores.redis import RedisStore
from scrapper.replicas.client import SharedRedis
from scrapper.replicas.queue import PostQueue
from scrapper.telemetry.metrics import Metrics
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


async def test_lost_posts_are_queued_again_behind_others(
    store: RedisStore, redis: SharedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.jobs.stores.redis._STUCK_SECONDS", 0.0)
    lost, other = batch(2), batch(1, "192.0.2.2")
    await store.add(lost)
    await redis.delete(STREAM)
    await store.add(other)
    await store.wait(other, 0, other.posts[0], 100.0)
    found = await store.get(lost.id)
    assert found is not None
    # Refreshing the job finds the lost posts as well.
    for _ in range(2):
        assert await store.refresh(found)
    assert await stream(redis) == [(other.id, 0), (lost.id, 0), (lost.id, 1)]


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
