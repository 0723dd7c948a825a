"""Every route returns a stale post, whatever Instagram answers."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from scrapper.library.publishing import Publisher
from tests.conftest import Client, StartService, until
from tests.instagram import StandIn
from tests.service.handlers.test_jobs import finish
from tests.unit.library.test_store import post

URL = "https://www.instagram.com/reel/{}/"
LONG_AGO = "https://scontent-lhr8-1.cdninstagram.com/v/x.mp4?oe=60000000"


def store_stale(media_root: Path, shortcode: str) -> None:
    """Store a post whose signed URL expired years ago."""
    publisher = Publisher(media_root, abandoned_after=0.0)
    publisher.incoming.mkdir(parents=True, exist_ok=True)
    folder = publisher.stage(shortcode)
    (folder / f"{shortcode}.mp4").write_bytes(b"video")
    made = post(shortcode)
    media = tuple(replace(item, cdn_url=LONG_AGO) for item in made.media)
    publisher.publish(folder, replace(made, media=media))


async def scrape(client: Client, shortcode: str, **body: bool) -> tuple[int, dict[str, object]]:
    async with client.post("/scrape", json={"url": URL.format(shortcode), **body}) as response:
        return response.status, json.loads(await response.text())


@pytest.mark.parametrize(
    ("scenario", "status"),
    [
        ("removed", 404),
        ("login", 403),
        ("challenge", 403),
        ("wait", 429),
        ("html", 502),
        ("reset", 503),
        ("silent", 503),
        ("cut", 502),
        ("cdnnotfound", 404),
    ],
)
async def test_a_stale_post_is_returned_and_only_a_refresh_fails(
    instagram: StandIn, start_service: StartService, media_root: Path, scenario: str, status: int
) -> None:
    shortcode = f"{scenario}-stale"
    await asyncio.to_thread(store_stale, media_root, shortcode)
    client = await start_service(SCRAPE_TIMEOUT_SECONDS="0.5" if scenario == "silent" else "20")
    code, answer = await scrape(client, shortcode)
    assert (code, answer["cached"], answer["stale"]) == (200, True, True)
    async with client.get(f"/posts/{shortcode}") as response:
        listed = await response.json()
    assert {**listed, "original_url": answer["original_url"]} == answer
    query = {"url": URL.format(shortcode)}
    for path, parameters in (("/download", query), (f"/download/{shortcode}", {})):
        async with client.get(path, params=parameters) as response:
            assert (response.status, await response.read()) == (200, b"video")
    async with client.post("/jobs", json={"urls": [URL.format(shortcode)]}) as response:
        job = await finish(client, await response.json())
    assert [done["state"] for done in job["posts"]] == ["done"]
    code, answer = await scrape(client, shortcode, refresh=True)
    assert (code, "error" in answer) == (status, True)
    assert (await scrape(client, shortcode))[0] == 200


async def test_a_stale_post_is_returned_if_the_server_is_full(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    await asyncio.to_thread(store_stale, media_root, "reel-stale")
    client = await start_service(SCRAPE_CONCURRENCY="1", SCRAPE_QUEUE_LIMIT="0")
    instagram.hold()
    first = asyncio.create_task(scrape(client, "reel-first"))
    await until(lambda: instagram.requests("graphql") == 1)
    assert (await scrape(client, "reel-second"))[1]["code"] == "server_full"
    assert (await scrape(client, "reel-stale"))[1]["stale"] is True
    instagram.release()
    await first
