"""Concurrent calls of scripts share round trips to Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import RedisError, ResponseError

from scrapper.replicas.client import SharedRedis
from scrapper.replicas.fleet import GatheredScripts
from scrapper.telemetry.metrics import Metrics
from tests.process import PATIENCE_SECONDS
from tests.redis_server import RedisServer

ECHO = "if ARGV[1] == '13' then return redis.error_reply('bad luck') end return {KEYS[1], ARGV[1]}"


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[SharedRedis]:
    client = SharedRedis.at(redis_server.url, Metrics())
    yield client
    await client.aclose()


async def test_each_concurrent_call_gets_its_own_reply(redis: SharedRedis) -> None:
    echo = GatheredScripts(redis).register_script(ECHO)
    replies = await asyncio.gather(
        *(echo([f"key{number}"], [number]) for number in range(100)), return_exceptions=True
    )
    assert isinstance(replies.pop(13), ResponseError)
    assert replies == [[b"key%d" % number, b"%d" % number] for number in range(100) if number != 13]


async def test_close_waits_for_calls_under_way(redis: SharedRedis) -> None:
    before = asyncio.all_tasks()
    scripts = GatheredScripts(redis)
    call = asyncio.ensure_future(scripts.register_script(ECHO)(["key"], [0]))
    await asyncio.sleep(0)
    call.cancel()
    assert asyncio.all_tasks() - before - {call}
    await scripts.close()
    assert asyncio.all_tasks() == before


async def test_concurrent_calls_need_few_round_trips(
    redis: SharedRedis, redis_server: RedisServer
) -> None:
    echo = GatheredScripts(redis).register_script(ECHO)
    await echo(["key"], [0])
    reads = int(redis_server.client.info("stats")["total_reads_processed"])
    await asyncio.gather(*(echo(["key"], [0]) for _ in range(100)))
    assert int(redis_server.client.info("stats")["total_reads_processed"]) - reads < 10


async def test_a_script_that_redis_lost_is_loaded_again(
    redis: SharedRedis, redis_server: RedisServer
) -> None:
    echo = GatheredScripts(redis).register_script(ECHO)
    await echo(["key"], [0])
    redis_server.client.script_flush()
    assert await echo(["key"], [1]) == [b"key", b"1"]


async def test_a_cancelled_call_does_not_affect_the_others(redis: SharedRedis) -> None:
    echo = GatheredScripts(redis).register_script(ECHO)
    calls = [asyncio.ensure_future(echo(["key"], [number])) for number in range(3)]
    await asyncio.sleep(0)
    calls[1].cancel()
    assert await calls[0] == [b"key", b"0"]
    assert await calls[2] == [b"key", b"2"]


async def test_without_redis_every_call_fails_at_once(
    redis: SharedRedis, redis_server: RedisServer
) -> None:
    echo = GatheredScripts(redis).register_script(ECHO)
    await asyncio.to_thread(redis_server.stop)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            replies = await asyncio.gather(
                *(echo(["key"], [0]) for _ in range(100)), return_exceptions=True
            )
        assert all(isinstance(reply, RedisError) for reply in replies)
    finally:
        await asyncio.to_thread(redis_server.start)
