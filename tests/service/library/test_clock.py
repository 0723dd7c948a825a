"""Sweeps remove no post while the wall clock is not trusted."""

import asyncio
from pathlib import Path

from scrapper.library.clock import read_clocks
from scrapper.library.disk import write_atomically
from tests.conftest import StartService, stored_files
from tests.instagram import StandIn

YEAR = 365 * 24 * 3600.0


async def test_no_post_is_removed_if_the_clock_jumped_before_startup(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    body = {"url": "https://www.instagram.com/reel/reel-clock/"}
    assert (await client.post("/scrape", json=body)).status == 200
    await client.close()
    before = stored_files(media_root)
    # The last trusted reading seems a year old, as if the clock had jumped since.
    now = await asyncio.to_thread(read_clocks)
    record = f'{{"wall": {now.wall - YEAR}, "running": {now.running}, "boot": "{now.boot}"}}'
    path = media_root / ".state" / "clock.json"
    await asyncio.to_thread(write_atomically, path, record.encode())
    client = await start_service(MAX_MEDIA_AGE_DAYS="0.0000001")
    metrics = ""
    while 'library_sweeps_total{outcome="skipped"} 1.0' not in metrics:
        metrics = await (await client.get("/metrics")).text()
    assert stored_files(media_root) == before
