"""Single flight, queue limits and deadlines, tested over a socket."""

import asyncio
import os
import threading
from pathlib import Path
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from scrapper.errors import DeadlineExceeded, PostNotFound
from scrapper.library.post import Fetch, Post
from scrapper.library.store import Library
from scrapper.scraping.peers import Peers
from scrapper.scraping.scraper import QueryGate, Scraper
from scrapper.telemetry.metrics import Metrics
from tests.conftest import Client, StartService, both_modes, metric_of, stored_files, until
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS


class Arrivals:
    """Counts the requests that reach the handlers, as a middleware of ``EXTRA_MIDDLEWARES``."""

    count = 0

    @classmethod
    def counted(cls) -> Middleware:
        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            cls.count += 1
            return await handler(request)

        cls.count = 0
        return middleware


def body(shortcode: str) -> dict[str, str]:
    return {"url": f"https://www.instagram.com/reel/{shortcode}/"}


async def status_of(client: Client, shortcode: str) -> int:
    async with client.post("/scrape", json=body(shortcode)) as response:
        await response.read()
        return response.status


async def find_working_source(client: Client, instagram: StandIn) -> None:
    """Scrape a post so that later ones need not wait for a scout, and reset the counters."""
    assert await status_of(client, "reel-scout") == 200
    instagram.reset_counters()


@both_modes
async def test_100_requests_for_a_new_post_make_one_query(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()

    async def answer() -> str:
        async with client.post("/scrape", json=body("reel-all")) as response:
            assert response.status == 200
            return await response.text()

    answers = await asyncio.gather(*(answer() for _ in range(100)))
    assert instagram.requests("graphql") == 1
    assert instagram.requests("media") == 2
    # A request that comes just after the download has "cached": true.
    assert len({text.replace("true", "false") for text in answers}) == 1


@both_modes
async def test_100_requests_for_a_removed_post_get_one_error(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(EXTRA_MIDDLEWARES=f"{__name__}:Arrivals.counted")
    instagram.hold()
    tasks = [asyncio.create_task(status_of(client, "removed-all")) for _ in range(100)]
    await until(lambda: Arrivals.count == 100)
    instagram.release()
    assert set(await asyncio.gather(*tasks)) == {404}
    assert instagram.requests("graphql") == 1


@both_modes
async def test_100_requests_for_25_posts_store_25_complete_posts(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    shortcodes = [f"reel-of{number:02}" for number in range(25)]
    statuses = await asyncio.gather(*(status_of(client, code) for code in shortcodes * 4))
    assert set(statuses) == {200}
    assert instagram.requests("graphql") == 25
    assert stored_files(media_root) == {
        f"{code}/{name}"
        for code in shortcodes
        for name in (f"{code}.mp4", f"{code}.jpg", "post.json")
    }
    for code in shortcodes:
        content = await asyncio.to_thread((media_root / code / f"{code}.mp4").read_bytes)
        assert [content] == instagram.bytes_of(code)


async def test_a_client_that_disconnects_does_not_end_the_download(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    instagram.hold()
    first = asyncio.create_task(status_of(client, "reel-left"))
    await until(lambda: instagram.requests("graphql") == 1)
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(status_of(client, "reel-left"))
    await until(lambda: metric_of(client, "scrape_flights_joined_total") == 1)
    instagram.release()
    assert await second == 200
    assert instagram.requests("graphql") == 1


async def test_an_abandoned_download_is_still_stored(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    instagram.hold()
    asking = asyncio.create_task(status_of(client, "reel-alone"))
    await until(lambda: instagram.requests("graphql") == 1)
    asking.cancel()
    await asyncio.wait([asking])
    instagram.release()
    await until(lambda: "reel-alone/post.json" in stored_files(media_root))


async def test_a_request_past_the_queue_limit_is_refused_at_once(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(SCRAPE_CONCURRENCY="2", SCRAPE_QUEUE_LIMIT="3")
    await find_working_source(client, instagram)
    instagram.hold()
    taken = [asyncio.create_task(status_of(client, f"reel-full{n}")) for n in range(5)]
    await until(lambda: instagram.requests("graphql") == 2)
    async with client.post("/scrape", json=body("reel-full5")) as response:
        assert response.status == 503
        assert 1 <= int(response.headers["Retry-After"]) <= 20
        assert (await response.json())["error"] == "Too many posts are waiting: try again later"
    joined = asyncio.create_task(status_of(client, "reel-full4"))
    await until(lambda: metric_of(client, "scrape_flights_joined_total") == 1)
    assert instagram.requests("graphql") == 2
    instagram.release()
    assert set(await asyncio.gather(joined, *taken)) == {200}


async def test_the_time_in_the_queue_counts_towards_the_deadline(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(SCRAPE_CONCURRENCY="1", SCRAPE_TIMEOUT_SECONDS="1")
    instagram.hold()
    statuses = await asyncio.gather(
        status_of(client, "reel-first"), status_of(client, "reel-second")
    )
    assert set(statuses) == {503}
    instagram.release()
    while await status_of(client, "reel-second") != 200:
        pass


async def test_a_post_past_its_deadline_is_not_queried(
    media_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.scraping.flight._GRACE", 0.1)
    queried, may_end = [], threading.Event()

    def stuck(fetch: Fetch, _: Path, *, query_gate: QueryGate) -> Post:
        with query_gate():
            queried.append(fetch.shortcode)
            may_end.wait()
        raise PostNotFound

    library = Library(media_root)
    await library.open()
    scraper = Scraper(
        library,
        Mock(fetch=stuck),
        Metrics(),
        Peers(),
        queries=1,
        downloads=1,
        queue_limit=1,
        timeout=1,
        cooldown=0,
    )
    scrapes = [asyncio.create_task(scraper.scrape("first", ""))]
    await until(lambda: bool(queried) or scrapes[0].done())
    scrapes.append(asyncio.create_task(scraper.scrape("second", "")))
    outcomes = await asyncio.gather(*scrapes, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded, DeadlineExceeded]
    assert queried == ["first"]
    may_end.set()
    await scraper.close()


async def test_a_dripping_server_does_not_block_a_thread(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(SCRAPE_CONCURRENCY="1", SCRAPE_TIMEOUT_SECONDS="0.7")
    for scenario in ("drip", "apidrip", "headerdrip", "silent", "cdnsilent"):
        assert await status_of(client, f"{scenario}-x") == 503
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await status_of(client, "reel-after") != 200:
            pass


@both_modes
async def test_a_queued_post_is_not_queried_after_a_limit(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(SCRAPE_CONCURRENCY="1", INSTAGRAM_COOLDOWN_SECONDS="60")
    instagram.hold()
    first = asyncio.create_task(status_of(client, "limited-first"))
    await until(lambda: instagram.requests("graphql") == 1)
    queued = asyncio.create_task(status_of(client, "reel-queued"))
    await until(lambda: metric_of(client, "scrape_queue_depth") == 1)
    instagram.release()
    assert (await first, await queued) == (429, 429)
    assert instagram.requests("graphql", "reel-queued") == 0


@both_modes
async def test_a_post_that_cannot_be_stored_leaves_no_files(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    incoming = media_root / ".incoming"
    incoming.rmdir()
    incoming.touch()
    assert await status_of(client, "reel-nowhere") == 500
    incoming.unlink()
    assert await status_of(client, "reel-nowhere") == 200
    assert os.listdir(incoming) == []
