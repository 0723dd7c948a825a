import asyncio
import os
import time
from functools import partial
from pathlib import Path

from scrapper.handlers.resources import METRICS
from tests.conftest import StartService, both_modes, stored_files, until
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS

URL = "https://www.instagram.com/reel/{}/"


def make_old(media_root: Path, shortcode: str) -> None:
    os.utime(media_root / shortcode / "post.json", (time.time() - 1e6,) * 2)


@both_modes
async def test_old_posts_go_on_a_timer_and_young_ones_stay(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.1")
    for shortcode in ("reel-old", "reel-young"):
        await client.post("/scrape", json={"url": URL.format(shortcode)})
    make_old(media_root, "reel-old")
    await until(lambda: not (media_root / "reel-old").exists())
    await asyncio.sleep(0.3)
    assert {name.partition("/")[0] for name in stored_files(media_root)} == {"reel-young"}
    assert (await client.get("/download/reel-old")).status == 404


async def test_zero_days_keep_every_post(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.1", MAX_MEDIA_AGE_DAYS="0")
    await client.post("/scrape", json={"url": URL.format("reel-forever")})
    make_old(media_root, "reel-forever")
    registry = client.app[METRICS].registry

    def sweeps() -> float:
        return registry.get_sample_value("library_sweeps_total", {"outcome": "ok"}) or 0.0

    done = sweeps()
    await until(lambda: sweeps() > done + 1)
    assert "reel-forever/post.json" in stored_files(media_root)


@both_modes
async def test_a_post_that_is_being_refreshed_is_not_swept(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.1")
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
    await asyncio.sleep(0.3)
    assert (media_root / "reel-busy").exists()
    instagram.release()
    assert (await refresh).status == 200


@both_modes
async def test_sweeps_go_on_after_one_that_failed(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.1")
    await client.post("/scrape", json={"url": URL.format("reel-later")})
    make_old(media_root, "reel-later")
    aside = media_root.with_name("aside")
    await asyncio.to_thread(media_root.rename, aside)
    registry = client.app[METRICS].registry
    failed = partial(registry.get_sample_value, "library_sweeps_total", {"outcome": "failed"})
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await asyncio.to_thread(failed):
            pass
    await asyncio.to_thread(aside.rename, media_root)
    await until(lambda: not (media_root / "reel-later").exists())
