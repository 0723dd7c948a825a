import asyncio
import os
import time
from functools import partial
from pathlib import Path

from tests.conftest import Client, StartService, both_modes, metric_of, stored_files, until
from tests.instagram import StandIn

URL = "https://www.instagram.com/reel/{}/"


def make_old(media_root: Path, shortcode: str) -> None:
    os.utime(media_root / shortcode / "post.json", (time.time() - 1e6,) * 2)


async def until_swept(client: Client, outcome: str = "ok") -> None:
    """Wait until a sweep that starts after this call has ended with *outcome*."""
    sweeps = partial(metric_of, client, "library_sweeps_total", outcome=outcome)
    before = sweeps()
    await until(lambda: sweeps() > before + 1)


@both_modes
async def test_sweeps_remove_old_posts_and_spare_young_ones(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.02")
    for shortcode in ("reel-old", "reel-young"):
        await client.post("/scrape", json={"url": URL.format(shortcode)})
    make_old(media_root, "reel-old")
    await until(lambda: not (media_root / "reel-old").exists())
    await until_swept(client)
    assert {name.partition("/")[0] for name in stored_files(media_root)} == {"reel-young"}
    assert (await client.get("/download/reel-old")).status == 404


async def test_no_post_is_swept_with_a_maximum_age_of_zero(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.02", MAX_MEDIA_AGE_DAYS="0")
    await client.post("/scrape", json={"url": URL.format("reel-forever")})
    make_old(media_root, "reel-forever")
    await until_swept(client)
    assert "reel-forever/post.json" in stored_files(media_root)


@both_modes
async def test_a_post_that_is_being_refreshed_is_not_swept(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.02")
    await client.post("/scrape", json={"url": URL.format("reel-busy")})
    await client.post("/scrape", json={"url": URL.format("reel-mark")})
    instagram.hold()
    refresh = asyncio.create_task(
        client.post("/scrape", json={"url": URL.format("reel-busy"), "refresh": True})
    )
    await until(lambda: instagram.requests("graphql", "reel-busy") == 2)
    for shortcode in ("reel-busy", "reel-mark"):
        make_old(media_root, shortcode)
    await until(lambda: not (media_root / "reel-mark").exists())
    await until_swept(client)
    assert (media_root / "reel-busy").exists()
    instagram.release()
    assert (await refresh).status == 200


@both_modes
async def test_sweeps_continue_after_a_failed_sweep(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.02")
    await client.post("/scrape", json={"url": URL.format("reel-later")})
    make_old(media_root, "reel-later")
    aside = media_root.with_name("aside")
    await asyncio.to_thread(media_root.rename, aside)
    await until_swept(client, "failed")
    await asyncio.to_thread(aside.rename, media_root)
    await until(lambda: not (media_root / "reel-later").exists())
