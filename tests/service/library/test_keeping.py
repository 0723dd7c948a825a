"""Kept posts: sweeps leave them alone, whatever happens at the same time."""

import os
import time
from pathlib import Path

import pytest

from scrapper.library import publishing
from scrapper.library.keeping import is_kept, keep, release
from tests.conftest import Client, StartService, both_modes
from tests.instagram import StandIn
from tests.service.handlers.test_jobs import finish

REEL = "https://www.instagram.com/reel/{}/"


def publisher(root: Path) -> publishing.Publisher:
    made = publishing.Publisher(root, abandoned_after=0.0)
    made.incoming.mkdir(exist_ok=True)
    return made


def stored(root: Path, shortcode: str = "a-post") -> Path:
    folder = root / shortcode
    folder.mkdir()
    (folder / "post.json").write_text("{}")
    return folder


async def kept(client: Client, shortcode: str) -> bool:
    async with client.get(f"/posts/{shortcode}") as response:
        assert response.status == 200
        return bool((await response.json())["kept"])


def grow_old(media_root: Path, shortcode: str) -> None:
    long_ago = time.time() - 10_000_000
    os.utime(media_root / shortcode / "post.json", (long_ago, long_ago))


@both_modes
async def test_a_kept_post_survives_the_sweeps_until_it_is_released(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.05", MAX_MEDIA_AGE_DAYS="1")
    for shortcode in ("reel-kept", "reel-let-go"):
        async with client.post("/scrape", json={"url": REEL.format(shortcode)}) as response:
            assert (await response.json())["kept"] is False
    async with client.put("/posts/reel-kept/keep") as response:
        assert (response.status, await response.read()) == (204, b"")
    assert await kept(client, "reel-kept")
    for shortcode in ("reel-kept", "reel-let-go"):
        grow_old(media_root, shortcode)
    while (await client.get("/posts/reel-let-go")).status == 200:
        pass
    assert await kept(client, "reel-kept")
    async with client.delete("/posts/reel-kept/keep") as response:
        assert response.status == 204
    while (await client.get("/posts/reel-kept")).status == 200:
        pass
    assert not (media_root / "reel-kept").exists()


async def test_a_post_can_be_asked_for_and_kept_in_one_request(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    body = {"url": REEL.format("reel-both"), "keep": True}
    async with client.post("/scrape", json=body) as response:
        assert (await response.json())["kept"] is True
    # Who does not ask for it changes nothing, and neither does a refresh.
    body = {"url": REEL.format("reel-both"), "refresh": True}
    async with client.post("/scrape", json=body) as response:
        assert (response.status, (await response.json())["kept"]) == (200, True)


@both_modes
async def test_the_posts_of_a_job_are_kept(instagram: StandIn, start_service: StartService) -> None:
    client = await start_service()
    body = {"urls": [REEL.format("reel-job-kept"), "https://example.com/"], "keep": True}
    async with client.post("/jobs", json=body) as response:
        await finish(client, await response.json())
    assert await kept(client, "reel-job-kept")


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


def test_a_mark_that_is_set_while_a_sweep_takes_the_post_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stored(tmp_path)
    looks = []

    def look(place: Path) -> bool:
        looks.append(place)
        if len(looks) == 1:
            assert not is_kept(folder)
            keep(folder)
            return False
        return is_kept(place)

    monkeypatch.setattr(publishing, "is_kept", look)
    assert not publisher(tmp_path).remove("a-post", unless_kept=True)
    assert is_kept(folder)
    assert list((tmp_path / ".incoming").iterdir()) == []


def test_a_mark_is_set_on_the_post_that_is_there_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, newer = stored(tmp_path), stored(tmp_path, "newer")
    real_fsync = os.fsync

    def replaced_meanwhile(descriptor: int) -> None:
        real_fsync(descriptor)
        if newer.exists():
            folder.rename(tmp_path / "older")
            newer.rename(folder)

    monkeypatch.setattr(os, "fsync", replaced_meanwhile)
    assert keep(folder)
    assert is_kept(folder)


def test_a_link_in_the_place_of_a_post_is_not_followed(tmp_path: Path) -> None:
    elsewhere = stored(tmp_path, "elsewhere")
    (tmp_path / "a-link").symlink_to(elsewhere)
    with pytest.raises(OSError, match="a-link"):
        keep(tmp_path / "a-link")
    assert not is_kept(elsewhere)


def test_what_is_not_there_cannot_be_kept_and_is_released_already(tmp_path: Path) -> None:
    assert not keep(tmp_path / "nothing")
    release(stored(tmp_path))
