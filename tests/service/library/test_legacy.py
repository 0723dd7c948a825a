"""Media folders of release 0.2.0, which have no manifests."""

import json
import lzma
import os
import time
from pathlib import Path

import pytest

from scrapper.library.post import moment
from tests.conftest import StartService, both_modes, metric_of, until
from tests.instagram import StandIn
from tests.service.library.test_sweeper import until_swept

URL = "https://www.instagram.com/reel/{}/"


def write_files(media_root: Path, *names: str) -> None:
    """Write files where release 0.2.0 would have; each contains its own name."""
    for name in names:
        path = media_root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


@pytest.mark.parametrize("suffix", ["mp4", "jpg"])
async def test_the_files_of_an_old_post_are_served(
    start_service: StartService, media_root: Path, suffix: str
) -> None:
    write_files(media_root, f"DLegacy0001/DLegacy0001.{suffix}", "DLegacy0001/DLegacy0001.txt")
    client = await start_service()
    for path in (f"/media/DLegacy0001/DLegacy0001.{suffix}", "/download/DLegacy0001"):
        async with client.get(path) as response:
            content = await response.read()
            assert (response.status, content) == (200, f"DLegacy0001/DLegacy0001.{suffix}".encode())
    assert (await client.get("/media/DLegacy0001/DLegacy0001.txt")).status == 404


async def test_the_items_of_a_carousel_keep_their_order(
    start_service: StartService, media_root: Path
) -> None:
    names = [f"DLegacy0002/DLegacy0002_{number}.jpg" for number in (1, 2, 10)]
    write_files(media_root, *reversed(names))
    client = await start_service()
    for item, name in enumerate(names, start=1):
        async with client.get(f"/download/DLegacy0002?item={item}") as response:
            assert await response.read() == name.encode()


async def test_links_and_unrelated_files_are_not_served(
    start_service: StartService, media_root: Path, tmp_path: Path
) -> None:
    write_files(media_root, "DLegacy0003/another.mp4")
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (media_root / "DLegacy0003/DLegacy0003.mp4").symlink_to(tmp_path / "secret.mp4")
    client = await start_service()
    assert (await client.get("/download/DLegacy0003")).status == 404
    assert (await client.get("/media/DLegacy0003/another.mp4")).status == 404


@both_modes
async def test_an_old_post_ages_from_the_first_sweep(
    start_service: StartService, media_root: Path
) -> None:
    names = ("DLegacyOld1/DLegacyOld1.mp4", "DLegacyNew1/DLegacyNew1.mp4", "DNoPost1/x.txt")
    write_files(media_root, *names)
    long_ago = time.time() - 1e6
    for name in names:
        os.utime(media_root / name, (long_ago, long_ago))
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.02")
    await until(lambda: metric_of(client, "library_sweeps_total", outcome="ok") > 2)
    assert all((media_root / name).exists() for name in names)
    seen = media_root / ".state/legacy"
    assert sorted(os.listdir(seen)) == ["DLegacyNew1", "DLegacyOld1"]
    async with client.get("/posts/DLegacyOld1") as response:
        expires_at = (await response.json())["expires_at"]
    assert expires_at == moment((seen / "DLegacyOld1").stat().st_mtime + 7 * 24 * 60 * 60)
    # As if a sweep had first seen the post more than a week ago.
    os.utime(seen / "DLegacyOld1", (long_ago, long_ago))
    await until(lambda: not (media_root / "DLegacyOld1").exists())
    await until(lambda: os.listdir(seen) == ["DLegacyNew1"])
    assert (media_root / "DLegacyNew1").exists()
    assert (media_root / "DNoPost1").exists()


async def test_a_kept_old_post_is_never_swept(
    start_service: StartService, media_root: Path
) -> None:
    write_files(media_root, "DLegacyOld2/DLegacyOld2.mp4")
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.02")
    assert (await client.put("/posts/DLegacyOld2/keep")).status == 204
    async with client.get("/posts/DLegacyOld2") as response:
        post = await response.json()
        assert (post["kept"], post["expires_at"]) == (True, None)
    seen = media_root / ".state/legacy/DLegacyOld2"
    await until(seen.exists)
    os.utime(seen, (0, 0))
    await until_swept(client)
    assert (media_root / "DLegacyOld2").exists()


def metadata(**node: object) -> bytes:
    """Return metadata as Instaloader writes it next to a post's files."""
    return lzma.compress(json.dumps({"node": node, "instaloader": {"node_type": "Post"}}).encode())


async def test_old_posts_are_listed_and_searchable(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    write_files(media_root, "DLegacy0005/DLegacy0005.mp4", "DLegacy0005/DLegacy0005.jpg")
    folder = media_root / "DLegacy0005"
    (folder / "DLegacy0005.txt").write_text("A sunset\nat the sea\n")
    owner = {"username": "Some.one", "full_name": "Some One"}
    (folder / "DLegacy0005.json.xz").write_bytes(
        metadata(owner=owner, taken_at_timestamp=1_700_000_000)
    )
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.02")
    async with client.post("/scrape", json={"url": URL.format("reel-newer")}) as response:
        assert response.status == 200
    for query, found in (
        ({}, {"reel-newer", "DLegacy0005"}),
        ({"q": "sunset"}, {"DLegacy0005"}),
        ({"owner": "some.one"}, {"DLegacy0005"}),
        ({"kept": "false"}, {"reel-newer", "DLegacy0005"}),
    ):
        async with client.get("/posts", params=query) as response:
            posts = (await response.json())["posts"]
        assert {post["shortcode"] for post in posts} == found
    async with client.get("/posts/DLegacy0005") as response:
        post = await response.json()
    assert post["description"] == "A sunset\nat the sea"
    assert (post["owner"], post["taken_at"]) == ("Some.one", "2023-11-14T22:13:20Z")
    assert post["thumbnail"]["url"] == "/media/DLegacy0005/DLegacy0005.jpg"
    assert post["original_url"] == "https://www.instagram.com/p/DLegacy0005/"
    assert (post["cached"], post["stale"]) == (True, True)


@pytest.mark.parametrize("scenario", ["removed", "login", "html"])
async def test_an_old_post_that_cannot_be_fetched_comes_from_disk(
    instagram: StandIn, start_service: StartService, media_root: Path, scenario: str
) -> None:
    shortcode = f"{scenario}-old"
    write_files(media_root, f"{shortcode}/{shortcode}.mp4")
    client = await start_service()
    async with client.post("/scrape", json={"url": URL.format(shortcode)}) as response:
        post = await response.json()
        assert (response.status, post["cached"], post["stale"]) == (200, True, True)
    assert (media_root / shortcode / f"{shortcode}.mp4").exists()


async def test_a_scrape_fetches_an_old_post_again(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    write_files(media_root, "reel-legacy/reel-legacy.mp4")
    client = await start_service()
    async with client.post("/scrape", json={"url": URL.format("reel-legacy")}) as response:
        assert (response.status, (await response.json())["cached"]) == (200, False)
    assert [(media_root / "reel-legacy/reel-legacy.mp4").read_bytes()] == instagram.bytes_of(
        "reel-legacy"
    )


async def test_an_old_post_can_be_deleted(start_service: StartService, media_root: Path) -> None:
    write_files(media_root, "DLegacy0004/DLegacy0004.mp4")
    client = await start_service()
    assert (await client.delete("/posts/DLegacy0004")).status == 204
    assert not (media_root / "DLegacy0004").exists()
