"""Kept posts: sweeps leave them alone until they are released."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.conftest import Client, StartService, both_modes
from tests.instagram import StandIn
from tests.service.handlers.test_jobs import finish

REEL = "https://www.instagram.com/reel/{}/"


async def is_kept(client: Client, shortcode: str) -> bool:
    async with client.get(f"/posts/{shortcode}") as response:
        assert response.status == 200
        return bool((await response.json())["kept"])


def make_old(media_root: Path, shortcode: str) -> None:
    long_ago = time.time() - 10_000_000
    os.utime(media_root / shortcode / "post.json", (long_ago, long_ago))


@both_modes
async def test_sweeps_spare_a_kept_post_until_it_is_released(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.02", MAX_MEDIA_AGE_DAYS="1")
    for shortcode in ("reel-kept", "reel-not-kept"):
        async with client.post("/scrape", json={"url": REEL.format(shortcode)}) as response:
            assert (await response.json())["kept"] is False
    async with client.put("/posts/reel-kept/keep") as response:
        assert (response.status, await response.read()) == (204, b"")
    assert await is_kept(client, "reel-kept")
    for shortcode in ("reel-kept", "reel-not-kept"):
        make_old(media_root, shortcode)
    while (await client.get("/posts/reel-not-kept")).status == 200:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await is_kept(client, "reel-kept")
    async with client.delete("/posts/reel-kept/keep") as response:
        assert response.status == 204
    while (await client.get("/posts/reel-kept")).status == 200:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert not (media_root / "reel-kept").exists()


async def test_one_request_fetches_and_keeps_a_post(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    body = {"url": REEL.format("reel-both"), "keep": True}
    async with client.post("/scrape", json=body) as response:
        assert (await response.json())["kept"] is True
    # A request without ``keep`` changes nothing, and neither does a refresh.
    body = {"url": REEL.format("reel-both"), "refresh": True}
    async with client.post("/scrape", json=body) as response:
        assert (response.status, (await response.json())["kept"]) == (200, True)


@both_modes
async def test_the_posts_of_a_job_are_kept(instagram: StandIn, start_service: StartService) -> None:
    client = await start_service()
    body = {"urls": [REEL.format("reel-job-kept"), "https://example.com/"], "keep": True}
    async with client.post("/jobs", json=body) as response:
        await finish(client, await response.json())
    assert await is_kept(client, "reel-job-kept")


@pytest.mark.parametrize(("shortcode", "status"), [("not-there", 404), ("x", 400)])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_only_stored_posts_can_be_kept(
    instagram: StandIn, start_service: StartService, method: str, shortcode: str, status: int
) -> None:
    client = await start_service()
    async with client.request(method, f"/posts/{shortcode}/keep") as response:
        assert response.status == status


async def test_deleting_a_kept_post_removes_it(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": REEL.format("reel-gone"), "keep": True})
    async with client.delete("/posts/reel-gone") as response:
        assert response.status == 204
    assert not (media_root / "reel-gone").exists()
