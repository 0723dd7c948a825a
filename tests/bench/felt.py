"""Rows about what users notice: posts from pages, waits, carousels, streams, long runs."""

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path

import aiohttp
from playwright.async_api import async_playwright

from tests.bench.load import post_each
from tests.bench.processes import InstagramProcess, cpu_seconds, memory_mb, service
from tests.bench.rows import seconds_per_post
from tests.bench.table import (
    KEY,
    POSTS,
    REEL_BYTES,
    ROUNDS,
    Row,
    codes,
    milliseconds,
    multiply,
    ratio,
    scratch,
    url_of,
)
from tests.bench.without import FILES, NO_DELAY, SCRIPT_SEARCH
from tests.process import Service

__all__ = ["ROWS"]

_STREAMS = 1000
_STREAMS_PER_CLIENT = 20
_FOLLOWED_SECONDS = 10
_CDN_LATENCY = "0.05"
_POSTS_OF_ONE_CLIENT = 50
_PAGES = 400
_NOISE_MB = 3
_LARGE_ANSWERS = 100
_STORED = 5000
_THUMBNAIL_BYTES = 25_000
_SETTLED_SECONDS = 2
_MALLOC = "malloc with glibc's defaults vs with our settings"


def pages() -> Iterator[Row]:
    """Compare posts whose metadata comes from a page of 1 MB with posts from the API."""
    cpu: dict[str, list[float]] = {"reel": [], "pagereel": []}
    searches: dict[str, list[float]] = {what: [] for what in ("nothing", SCRIPT_SEARCH)}
    with InstagramProcess("--reel-bytes", str(REEL_BYTES)) as instagram:
        for turn in range(ROUNDS):
            for kind, seconds in cpu.items():
                with scratch() as folder, service(folder, instagram.environment) as ours:
                    warm = [f"{kind}-warm-{number}" for number in range(16)]
                    post_each(ours.url, shortcodes=warm, clients=16, key=KEY)
                    before = cpu_seconds(ours.pid)
                    shortcodes = [f"{kind}-{turn}-{number}" for number in range(POSTS // 2)]
                    post_each(ours.url, shortcodes=shortcodes, clients=8, key=KEY)
                    seconds.append((cpu_seconds(ours.pid) - before) / len(shortcodes))
            for what, seconds in searches.items():
                shortcodes = [f"pagereel-{turn}-{number}" for number in range(POSTS // 4)]
                how = ["without", what]
                seconds.append(seconds_per_post(how, shortcodes, instagram.environment).cpu)
    yield ratio(
        "a new post from a page of 1 MB: CPU vs from the API",
        cpu["pagereel"],
        cpu["reel"],
        most=1.5,
    )
    yield ratio(
        f"… a fetch from a page: CPU with {SCRIPT_SEARCH} disabled vs the full fetch",
        searches[SCRIPT_SEARCH],
        searches["nothing"],
    )
    grown = _memory_after_pages(4)
    yield Row(
        f"memory after {', '.join(f'{turn * _PAGES:,}' for turn in range(1, 5))} such posts",
        ", ".join(f"{value:.1f}" for value in grown) + " MB",
        "no growth",
        max(grown[2:]) - max(grown[:2]) < _NOISE_MB,
    )
    yield ratio(f"… after {_PAGES}: {_MALLOC}", _memory_after_pages(1, malloc=False), grown[:1])
    yield ratio(
        f"memory after {_LARGE_ANSWERS} refused answers of 3 MB: {_MALLOC}",
        [_memory_after_large_answers(malloc=False)],
        [_memory_after_large_answers()],
    )


def one_post() -> Iterator[Row]:
    """Compare one client that requests new posts one by one with a plain loop."""
    hows = {
        "loop": ["peers.loop"],
        "fetch": ["without", "nothing"],
        "delay": ["without", NO_DELAY],
    }
    times: dict[str, list[float]] = {what: [] for what in ("ours", *hows)}
    with InstagramProcess("--reel-bytes", str(REEL_BYTES)) as instagram:
        for turn in range(ROUNDS):
            found = codes(_POSTS_OF_ONE_CLIENT, turn)
            with scratch() as folder, service(folder, instagram.environment) as running:
                post_each(running.url, shortcodes=["reel-warm"], clients=1, key=KEY)
                seconds = post_each(running.url, shortcodes=found, clients=1, key=KEY)
                times["ours"].append(seconds / len(found))
            for what, how in hows.items():
                times[what].append(seconds_per_post(how, found, instagram.environment).wall)
    yield milliseconds("one new post, one client, no latency: time", times["ours"])
    yield ratio("… vs a plain loop", times["ours"], times["loop"])
    yield ratio(
        "… the fetch alone, no server: time vs the plain loop", times["fetch"], times["loop"]
    )
    yield ratio(
        f"… the fetch with {NO_DELAY} disabled: time vs the full fetch",
        times["delay"],
        times["fetch"],
    )


def carousel() -> Iterator[Row]:
    """Compare a carousel of ten pictures, with 50 ms of CDN latency, in parallel and one by one."""
    times: dict[str, list[float]] = {"": [], FILES: []}
    with InstagramProcess("--cdn-latency", _CDN_LATENCY) as instagram, scratch() as folder:
        for turn in range(ROUNDS):
            for without, seconds in times.items():
                start = service(folder / f"{turn}{without}", instagram.environment, without=without)
                with start as ours:
                    post_each(ours.url, shortcodes=["reel-warm"], clients=1, key=KEY)
                    found = [f"ten-{turn}-{number}" for number in range(5)]
                    seconds.append(post_each(ours.url, shortcodes=found, clients=1, key=KEY))
    yield ratio(
        "carousel of 10, 50 ms of CDN latency: time vs files one by one",
        *times.values(),
        most=0.4,
    )


def streams() -> Iterator[Row]:
    """Measure 1,000 event streams during a job of 100 posts: for this job, and for all events."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        instagram = stack.enter_context(InstagramProcess())
        settings = {"TRUST_PROXY": "1", "SCRAPE_CONCURRENCY": "4"}
        ours = stack.enter_context(service(folder, {**instagram.environment, **settings}))
        shares = []
        for number, stream in enumerate(("", "{job}/events", "/events")):
            urls = [url_of(f"slow-{number}-{index}") for index in range(100)]
            created = ours.post("/jobs", {"urls": urls})
            shares.append(asyncio.run(_follow(ours, created.headers["Location"], stream)))
    alone, of_job, of_all = shares
    for what, share in (("of a running job", of_job), ("of all events, during a job", of_all)):
        yield Row(
            f"1,000 streams {what} of 100 posts: share of a core",
            f"{share - alone:.1%} (the job itself {alone:.1%})",
            "≤ 10%",
            share - alone <= 0.1,
        )


def _memory_after_pages(turns: int, *, malloc: bool = True) -> list[float]:
    """Return the resident memory after each of *turns* batches of ``_PAGES`` posts, in MB."""
    with (
        InstagramProcess() as instagram,
        scratch() as folder,
        service(folder, instagram.environment, malloc=malloc) as ours,
    ):
        grown = []
        for turn in range(turns):
            shortcodes = [f"pagereel-{turn}-{number}" for number in range(_PAGES)]
            post_each(ours.url, shortcodes=shortcodes, clients=16, key=KEY)
            grown.append(memory_mb(ours.pid))
        return grown


def _memory_after_large_answers(*, malloc: bool = True) -> float:
    """Return the resident memory in MB after API answers that are refused as too large."""
    with (
        InstagramProcess() as instagram,
        scratch() as folder,
        service(folder, instagram.environment, malloc=malloc) as ours,
        ThreadPoolExecutor(8) as clients,
    ):
        urls = [url_of(f"apivalues-{number}") for number in range(_LARGE_ANSWERS)]
        for answer in clients.map(ours.scrape, urls):
            assert answer.status_code == HTTPStatus.BAD_GATEWAY
        return memory_mb(ours.pid)


async def _follow(ours: Service, job_path: str, stream: str) -> float:
    """Return the share of a core that *ours* uses while clients follow *stream*, if not empty."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        opened = asyncio.Semaphore(0)

        async def follow(index: int) -> None:
            headers = {
                "X-API-Key": KEY,
                "X-Forwarded-For": f"192.0.2.{index // _STREAMS_PER_CLIENT}",
            }
            url = ours.url + stream.format(job=job_path)
            async with session.get(url, headers=headers) as response:
                assert response.status == 200
                opened.release()
                async for _ in response.content:
                    pass

        number = _STREAMS if stream else 0
        following = [asyncio.create_task(follow(index)) for index in range(number)]
        for _ in following:
            await opened.acquire()
        before, started = cpu_seconds(ours.pid), time.perf_counter()
        await asyncio.sleep(_FOLLOWED_SECONDS)
        share = (cpu_seconds(ours.pid) - before) / (time.perf_counter() - started)
        async with session.get(f"{ours.url}{job_path}", headers={"X-API-Key": KEY}) as response:
            job = json.loads(await response.read())
        assert job["state"] == "running"
        async with session.delete(f"{ours.url}{job_path}", headers={"X-API-Key": KEY}):
            pass
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    return share


def first_view() -> Iterator[Row]:
    """Measure the bytes that a browser loads until the first view of 5,000 posts is complete."""
    with InstagramProcess() as instagram, scratch() as folder:
        with service(folder, instagram.environment) as seed:
            seed.scrape(url_of("reel-seed"))
        multiply(folder, _STORED)
        with service(folder, instagram.environment) as ours:
            sizes = asyncio.run(_loaded(ours.url))
    thumbnails = [size for url, size in sizes if "/thumbnail" in url]
    rest = sum(size for _, size in sizes) - sum(thumbnails)
    # The stand-in's pictures are small, so each thumbnail counts as if it had the maximum size.
    most = rest + len(thumbnails) * _THUMBNAIL_BYTES
    yield Row(
        f"first view of the page with 5,000 posts: {len(thumbnails)} thumbnails of 25 kB, and more",
        f"{most / 1_000_000:.2f} MB, {rest / 1_000_000:.2f} MB without thumbnails",
        "≤ 1 MB",
        0 < most <= 1_000_000 and len(thumbnails) > 0,
    )


async def _loaded(url: str) -> list[tuple[str, int]]:
    """Return the URLs that a browser of 1280 x 900 pixels loads for the page, with their bytes."""
    requested: dict[str, str] = {}
    sizes: list[tuple[str, int]] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        context = await browser.new_context(
            viewport={"width": 1280, "height": 900}, extra_http_headers={"X-API-Key": KEY}
        )
        page = await context.new_page()
        session = await context.new_cdp_session(page)
        await session.send("Network.enable")
        session.on(
            "Network.requestWillBeSent",
            lambda event: requested.update({event["requestId"]: event["request"]["url"]}),
        )
        session.on(
            "Network.loadingFinished",
            lambda event: sizes.append((requested[event["requestId"]], event["encodedDataLength"])),
        )
        await page.goto(url)
        await page.locator("#grid img").last.wait_for()
        await page.wait_for_timeout(_SETTLED_SECONDS * 1000)
        await browser.close()
    return sizes


ROWS: dict[str, Callable[[], Iterator[Row]]] = {
    function.__name__: function for function in (pages, one_post, carousel, streams, first_view)
}
