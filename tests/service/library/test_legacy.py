"""Media folders of release 0.2.0, which had no manifests."""

import os
import time
from pathlib import Path

import pytest

from tests.conftest import StartService, both_modes, until
from tests.instagram import StandIn

URL = "https://www.instagram.com/reel/{}/"


def leave(media_root: Path, *names: str) -> None:
    """What that release left in the folder of a post."""
    for name in names:
        path = media_root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


@pytest.mark.parametrize("suffix", ["mp4", "jpg"])
async def test_its_files_are_served(
    start_service: StartService, media_root: Path, suffix: str
) -> None:
    leave(media_root, f"DLegacy0001/DLegacy0001.{suffix}", "DLegacy0001/DLegacy0001.txt")
    client = await start_service()
    for path in (f"/media/DLegacy0001/DLegacy0001.{suffix}", "/download/DLegacy0001"):
        async with client.get(path) as response:
            content = await response.read()
            assert (response.status, content) == (200, f"DLegacy0001/DLegacy0001.{suffix}".encode())
    for path in ("/media/DLegacy0001/DLegacy0001.txt", "/posts/DLegacy0001"):
        assert (await client.get(path)).status == 404


async def test_the_items_of_a_carousel_keep_their_order(
    start_service: StartService, media_root: Path
) -> None:
    names = [f"DLegacy0002/DLegacy0002_{number}.jpg" for number in (1, 2, 10)]
    leave(media_root, *reversed(names))
    client = await start_service()
    for item, name in enumerate(names, start=1):
        async with client.get(f"/download/DLegacy0002?item={item}") as response:
            assert await response.read() == name.encode()


async def test_links_and_foreign_files_are_not_served(
    start_service: StartService, media_root: Path, tmp_path: Path
) -> None:
    leave(media_root, "DLegacy0003/another.mp4")
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (media_root / "DLegacy0003/DLegacy0003.mp4").symlink_to(tmp_path / "secret.mp4")
    client = await start_service()
    assert (await client.get("/download/DLegacy0003")).status == 404
    assert (await client.get("/media/DLegacy0003/another.mp4")).status == 404


@both_modes
async def test_it_is_swept_by_its_age_and_young_ones_stay(
    start_service: StartService, media_root: Path
) -> None:
    leave(
        media_root, "DLegacyOld1/DLegacyOld1.mp4", "DLegacyNew1/DLegacyNew1.mp4", "DNoPost1/x.txt"
    )
    long_ago = time.time() - 1e6
    for name in ("DLegacyOld1/DLegacyOld1.mp4", "DNoPost1/x.txt"):
        os.utime(media_root / name, (long_ago, long_ago))
    await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.1")
    await until(lambda: not (media_root / "DLegacyOld1").exists())
    assert (media_root / "DLegacyNew1").exists()
    assert (media_root / "DNoPost1").exists()


async def test_a_scrape_fetches_the_post_anew(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    leave(media_root, "reel-legacy/reel-legacy.mp4")
    client = await start_service()
    async with client.post("/scrape", json={"url": URL.format("reel-legacy")}) as response:
        assert (response.status, (await response.json())["cached"]) == (200, False)
    assert [(media_root / "reel-legacy/reel-legacy.mp4").read_bytes()] == instagram.bytes_of(
        "reel-legacy"
    )


@both_modes
async def test_it_can_be_deleted(start_service: StartService, media_root: Path) -> None:
    leave(media_root, "DLegacy0004/DLegacy0004.mp4")
    client = await start_service()
    assert (await client.delete("/posts/DLegacy0004")).status == 204
    assert not (media_root / "DLegacy0004").exists()
