"""The token bucket that replicas share."""

import asyncio

import pytest
from structlog.testing import capture_logs

from tests.conftest import Client, StartService
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS
from tests.redis_server import RedisServer


@pytest.fixture
def limit(redis_server: RedisServer) -> dict[str, str]:
    """The settings of a replica. It runs no worker, because that would also log outages."""
    return {
        "REDIS_URL": redis_server.url,
        "RATE_LIMIT_MAX_REQUESTS": "6",
        "RATE_LIMIT_WINDOW_SECONDS": "600",
    }


async def ask(client: Client) -> int:
    """Send a request whose only effect is to use a token, and return the status."""
    async with client.post("/scrape", data=b"{}") as response:
        return response.status


async def test_a_client_has_one_bucket_across_replicas(
    start_service: StartService, limit: dict[str, str]
) -> None:
    replicas = [await start_service(**limit) for _ in range(3)]
    statuses = [await ask(replicas[number % 3]) for number in range(9)]
    assert statuses == [400] * 6 + [429] * 3


async def test_reads_use_a_separate_bucket(
    start_service: StartService, limit: dict[str, str]
) -> None:
    client = await start_service(**limit)
    assert [await ask(client) for _ in range(7)][-1] == 429
    assert (await client.get("/posts")).headers["RateLimit-Remaining"] == "59"


async def test_without_redis_each_replica_has_its_own_bucket(
    start_service: StartService, limit: dict[str, str], redis_server: RedisServer
) -> None:
    one, other = [await start_service(**limit) for _ in range(2)]
    assert [await ask(one) for _ in range(6)] == [400] * 6
    await asyncio.to_thread(redis_server.stop)
    try:
        with capture_logs() as logs:
            for client in (one, other):
                assert [await ask(client) for _ in range(8)] == [400] * 6 + [429] * 2
    finally:
        await asyncio.to_thread(redis_server.start)
    logged = [line["event"] for line in logs if "redis" in line["event"]]
    # Each replica logs the outage once, no matter how many requests it gets.
    assert logged == ["redis does not answer: continuing without it"] * 2
    with capture_logs() as logs:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await one.get("/ready")).status != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert await ask(one) == 429
    assert "redis is back" in [line["event"] for line in logs]


async def test_an_empty_bucket_refills(start_service: StartService, limit: dict[str, str]) -> None:
    settings = limit | {"RATE_LIMIT_MAX_REQUESTS": "2", "RATE_LIMIT_WINDOW_SECONDS": "1"}
    one, other = [await start_service(**settings) for _ in range(2)]
    assert [await ask(one), await ask(other)] == [400, 400]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await ask(other) == 429:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_posts_are_served_while_redis_is_full(
    instagram: StandIn,
    start_service: StartService,
    limit: dict[str, str],
    redis_server: RedisServer,
) -> None:
    client = await start_service(**limit)
    url = "https://www.instagram.com/reel/reel-full/"
    with capture_logs() as logs:
        await asyncio.to_thread(redis_server.client.config_set, "maxmemory", "1")
        try:
            async with client.post("/scrape", json={"url": url}) as response:
                assert response.status == 200
            async with client.post("/jobs", json={"urls": [url]}) as response:
                assert response.status == 503
        finally:
            await asyncio.to_thread(redis_server.client.config_set, "maxmemory", "0")
    logged = [line["event"] for line in logs if line["log_level"] == "error"]
    assert set(logged) == {"redis refuses commands: continuing without it"}
