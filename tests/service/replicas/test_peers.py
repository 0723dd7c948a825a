"""How replicas coordinate turns, sweeps and cool-downs over Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from scrapper.errors import DeadlineExceeded, PostNotFound, RateLimited, ScrapeError
from scrapper.library.store import Library
from scrapper.library.sweeper import sweeping
from scrapper.replicas.client import SharedRedis
from scrapper.replicas.peers import RedisPeers
from scrapper.scraping.peers import TurnQueue
from scrapper.telemetry.metrics import Metrics
from tests.process import PATIENCE_SECONDS
from tests.redis_server import RedisServer


def soon() -> float:
    return time.monotonic() + PATIENCE_SECONDS


async def start_waiting(server: RedisServer, queue: TurnQueue) -> asyncio.Task[bool]:
    """Start waiting for the holder of the turn. Return once its lease has been read from Redis."""

    def count_queries() -> int:
        calls: int = server.client.info("commandstats").get("cmdstat_pttl", {}).get("calls", 0)
        return calls

    before = await asyncio.to_thread(count_queries)
    waiting = asyncio.create_task(queue.wait_for_holder(soon()))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await asyncio.to_thread(count_queries) == before:
            pass
    return waiting


@pytest.fixture
async def peers(redis_server: RedisServer) -> AsyncIterator[list[RedisPeers]]:
    """The peers of two processes."""
    async with AsyncExitStack() as ends:
        both = []
        for _ in range(2):
            redis = SharedRedis.at(redis_server.url, Metrics())
            ends.push_async_callback(redis.aclose)
            peer = RedisPeers(redis)
            await peer.open()
            ends.push_async_callback(peer.close)
            both.append(peer)
        yield both


async def test_waiting_processes_are_notified_of_a_stored_post(
    peers: list[RedisPeers], redis_server: RedisServer
) -> None:
    one, other = peers
    async with other.queue_for("abcde") as waiting:
        async with one.queue_for("abcde") as holder:
            assert await holder.take_turn()
            assert await waiting.take_turn() is None
            outcome = await start_waiting(redis_server, waiting)
            assert not outcome.done()
            holder.stored = True
        assert await outcome


async def test_each_turn_has_a_higher_fence(peers: list[RedisPeers]) -> None:
    fences = []
    for number in range(10):
        async with peers[number % 2].queue_for("abcde") as holder:
            fences.append(await holder.take_turn())
    assert fences == sorted(set(map(int, filter(None, fences))))


async def test_fences_grow_even_if_redis_loses_its_data(
    peers: list[RedisPeers], redis_server: RedisServer
) -> None:
    async with peers[0].queue_for("abcde") as holder:
        first = await holder.take_turn()
        await asyncio.to_thread(redis_server.client.flushall)
        async with peers[1].queue_for("abcde") as other:
            second = await other.take_turn()
    assert first is not None
    assert second is not None
    assert second > first


@pytest.mark.parametrize("error", [PostNotFound(), RateLimited(retry_after=17.5)])
async def test_waiting_processes_get_the_error_of_a_post(
    peers: list[RedisPeers], redis_server: RedisServer, error: ScrapeError
) -> None:
    one, other = peers
    async with other.queue_for("abcde") as waiting:
        with suppress(type(error)):
            async with one.queue_for("abcde") as holder:
                await holder.take_turn()
                assert await waiting.take_turn() is None
                outcome = await start_waiting(redis_server, waiting)
                raise error
        with pytest.raises(type(error)) as caught:
            await outcome
    assert caught.value.retry_after == error.retry_after


@pytest.mark.parametrize("error", [DeadlineExceeded(), OSError("disk")])
async def test_a_local_error_frees_the_turn_for_others(
    peers: list[RedisPeers], error: Exception
) -> None:
    one, other = peers
    async with other.queue_for("abcde") as waiting:
        with suppress(type(error)):
            async with one.queue_for("abcde") as holder:
                await holder.take_turn()
                raise error
        assert not await waiting.wait_for_holder(soon())
        assert await waiting.take_turn()


async def test_a_live_holder_renews_its_lease(
    peers: list[RedisPeers], redis_server: RedisServer
) -> None:
    with (
        patch("scrapper.replicas.turn.LEASE_SECONDS", 60),
        patch("scrapper.replicas.turn._RENEWALS_PER_LEASE", 6000),
    ):
        async with peers[0].queue_for("abcde") as holder, peers[1].queue_for("abcde") as waiting:
            await holder.take_turn()
            [name] = await asyncio.to_thread(redis_server.client.keys, "*abcde*")
            await asyncio.to_thread(redis_server.client.pexpire, name, 30_000)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await asyncio.to_thread(redis_server.client.pttl, name) < 40_000:
                    pass
            assert await waiting.take_turn() is None


async def test_a_turn_without_a_holder_is_free_after_its_lease(
    peers: list[RedisPeers], redis_server: RedisServer
) -> None:
    with (
        # The lease outlives the test, so it is not renewed.
        patch("scrapper.replicas.turn.LEASE_SECONDS", 100 * PATIENCE_SECONDS),
    ):
        async with peers[0].queue_for("abcde") as holder, peers[1].queue_for("abcde") as waiting:
            await holder.take_turn()
            assert await waiting.take_turn() is None
            [name] = await asyncio.to_thread(redis_server.client.keys, "*abcde*")
            await asyncio.to_thread(redis_server.client.pexpire, name, 100)
            assert not await waiting.wait_for_holder(soon())
            assert await waiting.take_turn()


async def test_a_waiting_process_gives_up_at_the_deadline(peers: list[RedisPeers]) -> None:
    async with peers[0].queue_for("abcde") as holder, peers[1].queue_for("abcde") as waiting:
        await holder.take_turn()
        assert not await waiting.wait_for_holder(time.monotonic() + 0.2)


async def test_only_one_process_sweeps_at_a_time(peers: list[RedisPeers]) -> None:
    one, other = peers
    async with (
        one.exclusive("sweep", if_unknown=True) as ours,
        other.exclusive("sweep", if_unknown=True) as theirs,
    ):
        assert (bool(ours), bool(theirs)) == (True, False)
    async with other.exclusive("sweep", if_unknown=True) as theirs:
        assert theirs


async def test_the_longest_cool_down_applies_to_all(peers: list[RedisPeers]) -> None:
    one, other = peers
    assert await other.cooldown_left() == 0
    await one.cool_down(30)
    await other.cool_down(10)
    assert 20 < await other.cooldown_left() <= 30
    await other.cool_down(60)
    assert 50 < await one.cooldown_left() <= 60


async def test_without_redis_each_process_works_on_its_own(
    peers: list[RedisPeers], redis_server: RedisServer
) -> None:
    await asyncio.to_thread(redis_server.stop)
    try:
        for peer in peers:
            async with (
                peer.queue_for("abcde") as holder,
                peer.exclusive("sweep", if_unknown=True) as ours,
            ):
                assert await holder.take_turn()
                assert ours
            assert await peer.cooldown_left() == 0
            await peer.cool_down(5)
    finally:
        await asyncio.to_thread(redis_server.start)


async def test_a_process_that_misses_the_message_notices_the_end(peers: list[RedisPeers]) -> None:
    one, other = peers
    await other.close()
    async with other.queue_for("abcde") as waiting:
        async with one.queue_for("abcde") as holder:
            await holder.take_turn()
            assert await waiting.take_turn() is None
        assert not await waiting.wait_for_holder(soon())
    await other.open()


@pytest.mark.parametrize(
    "message", [b"{", b"[]", b"{}", b'{"post": "abcde", "error": "OfTomorrow"}']
)
async def test_an_invalid_message_is_ignored(
    peers: list[RedisPeers], redis_server: RedisServer, message: bytes
) -> None:
    one, other = peers
    async with other.queue_for("abcde") as waiting:
        async with one.queue_for("abcde") as holder:
            await holder.take_turn()
            outcome = await start_waiting(redis_server, waiting)
            await asyncio.to_thread(redis_server.client.publish, "scrapper:0:landed", message)
            holder.stored = True
        if not await outcome:
            assert await waiting.take_turn()
    # The process still receives messages about other posts.
    async with other.queue_for("later") as waiting:
        async with one.queue_for("later") as holder:
            await holder.take_turn()
            assert await waiting.take_turn() is None
            outcome = await start_waiting(redis_server, waiting)
            holder.stored = True
        assert await outcome


async def test_redis_tasks_can_be_cancelled_at_any_time(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    library = Library(tmp_path)
    await library.open()
    for pause in range(40):
        redis = SharedRedis.at(redis_server.url, Metrics())
        peer = RedisPeers(redis)
        await peer.open()
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            sweeping(
                library,
                Metrics(),
                turn=partial(peer.exclusive, "sweep", if_unknown=True),
                clock_is_trusted=lambda: True,
                max_age=60,
                interval=0.001,
                reserve=lambda _, peer=peer: peer.exclusive("sweep", if_unknown=True),  # type: ignore[misc]
            ),
        ):
            await asyncio.sleep(pause / 10_000)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await peer.close()
        await redis.aclose()
