"""Jobs that are submitted to one replica and accessed through another."""

import asyncio
import json
import re
from typing import Any

import pytest

from tests.conftest import Client, StartService, until
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS
from tests.redis_server import RedisServer
from tests.service.handlers.test_jobs import finish, get, submit


@pytest.fixture
def mode(redis_server: RedisServer) -> dict[str, str]:
    return {"REDIS_URL": redis_server.url}


async def events(client: Client, job: dict[str, Any], last: str = "") -> list[tuple[str, str, Any]]:
    """Return all events of the stream, each as its kind, ID and data."""
    headers = {"Last-Event-ID": last} if last else {}
    found = []
    async with client.get(f"/jobs/{job['id']}/events", headers=headers) as response:
        if response.status == 204:
            return []
        for block in (await response.text()).replace("\r\n", "\n").strip().split("\n\n"):
            event = dict(line.split(": ", 1) for line in block.splitlines())
            found.append((event["event"], event.get("id", ""), json.loads(event["data"])))
    return found


async def test_progress_reaches_clients_of_every_replica(
    instagram: StandIn, start_service: StartService
) -> None:
    one, other = [await start_service() for _ in range(2)]
    instagram.hold_media()
    job = await submit(one, "big-progress")
    received = ""
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        other.get(f"/jobs/{job['id']}/events") as response,
    ):
        async for piece in response.content.iter_any():
            received += piece.decode()
            if re.search(r'"bytes_done":[1-9]', received):
                instagram.release_media()
    assert '"state":"running"' in received
    assert '"state":"done"' in received
    blocks = received.replace("\r\n", "\n").strip().split("\n\n")
    seen = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    posts = [json.loads(event["data"]) for event in seen if event["event"] == "post"]
    assert any(post["bytes_total"] and post["bytes_done"] < post["bytes_total"] for post in posts)
    assert seen[-1]["event"] == "end"
    assert json.loads(seen[-1]["data"]) == await get(one, job)


async def test_clients_can_resume_events_at_another_replica(
    instagram: StandIn, start_service: StartService
) -> None:
    one, other = [await start_service() for _ in range(2)]
    job = await submit(one, *(f"reel-{number}" for number in range(5)))
    seen = await events(one, job)
    posts = [event for event in seen if event[0] == "post"]
    assert await events(other, job, last=posts[-1][1]) == []
    rest = await events(other, job, last=posts[-3][1])
    # Only the latest change of each post is sent.
    latest = {data["index"]: event_id for _, event_id, data in posts[-2:]}
    assert [event[1] for event in rest if event[0] == "post"] == list(latest.values())


async def test_a_job_can_be_cancelled_at_another_replica(
    instagram: StandIn, start_service: StartService
) -> None:
    one, other = [await start_service(SCRAPE_CONCURRENCY="1") for _ in range(2)]
    instagram.hold()
    job = await submit(one, *(f"reel-{number}" for number in range(6)))
    await until(lambda: instagram.requests("graphql") == 2)
    async with other.delete(f"/jobs/{job['id']}") as response:
        assert response.status == 200
    instagram.release()
    found = await finish(one, job)
    states = [post["state"] for post in found["posts"]]
    assert found["state"] == "cancelled"
    assert (states.count("done"), states.count("cancelled")) == (2, 4)
    assert instagram.requests("graphql") == 2


async def test_a_finished_post_leaves_the_queue(
    instagram: StandIn, start_service: StartService, redis_server: RedisServer
) -> None:
    client = await start_service()
    job = await submit(client, *(f"reel-{number}" for number in range(5)))
    await finish(client, job)
    redis: Any = redis_server.client
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await asyncio.to_thread(redis.xlen, "scrapper:queue"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert redis.xpending("scrapper:queue", "workers")["pending"] == 0


async def test_events_end_if_redis_loses_the_job(
    instagram: StandIn, start_service: StartService, redis_server: RedisServer
) -> None:
    client = await start_service()
    instagram.hold()
    job = await submit(client, "reel-lost")
    listening = asyncio.create_task(events(client, job))
    await until(lambda: instagram.requests("graphql") == 1)
    await asyncio.to_thread(redis_server.client.flushall)
    seen = await listening
    instagram.release()
    assert "end" not in [kind for kind, _, _ in seen]
    assert (await client.delete(f"/jobs/{job['id']}")).status == 404
