"""``GET /posts/{shortcode}/thumbnail``: small pictures for lists."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from scrapper.library.post import MediaItem
from tests.conftest import Client, StartService, stored_files
from tests.instagram import StandIn
from tests.instagram.scenarios import Answer, Scenario
from tests.process import PATIENCE_SECONDS
from tests.service.handlers.test_jobs import finish, submit

REEL = "https://www.instagram.com/reel/{}/"


async def thumbnail_url(client: Client, shortcode: str) -> str | None:
    async with client.get(f"/posts/{shortcode}") as response:
        assert response.status == 200
        url: str | None = (await response.json())["thumbnail_url"]
        return url


async def test_a_small_cover_is_the_thumbnail(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    async with client.post("/scrape", json={"url": REEL.format("reel-small")}) as response:
        url = (await response.json())["thumbnail_url"]
    assert url.startswith("/posts/reel-small/thumbnail?v=")
    async with client.get(url) as response:
        assert (response.status, response.content_type) == (200, "image/jpeg")
        assert await response.read() == (media_root / "reel-small/reel-small.jpg").read_bytes()
        cache = response.headers["Cache-Control"]
        assert {"max-age=31536000", "immutable"} <= set(cache.split(", "))
        etag = response.headers["ETag"]
    async with client.get(url, headers={"If-None-Match": etag}) as response:
        assert response.status == 304
    for query in ("", "?v=", "?v=other"):
        async with client.get(f"/posts/reel-small/thumbnail{query}") as response:
            assert (response.status, response.headers["Cache-Control"]) == (
                200,
                "private, no-cache",
            )


async def test_a_refresh_changes_the_thumbnail_s_url(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    urls = set()
    for _ in range(2):
        body = {"url": REEL.format("reel-anew"), "refresh": True}
        async with client.post("/scrape", json=body) as response:
            urls.add((await response.json())["thumbnail_url"])
    assert len(urls) == 2


async def test_a_large_picture_is_not_a_thumbnail(
    instagram: StandIn, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.library.post.SMALL_BYTES", 1000)
    client = await start_service()
    async with client.post("/scrape", json={"url": REEL.format("reel-large")}) as response:
        assert (await response.json())["thumbnail_url"] is None
    async with client.get("/posts/reel-large/thumbnail") as response:
        assert (response.status, (await response.json())["code"]) == (404, "not_found")
    async with client.get("/posts/other-post/thumbnail") as response:
        assert (response.status, (await response.json())["code"]) == (404, "not_stored")


async def test_an_error_is_not_cached(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    async with client.post("/scrape", json={"url": REEL.format("reel-lost")}) as response:
        url = (await response.json())["thumbnail_url"]
    async with client.get(url, headers={"Range": "bytes=99999999-"}) as response:
        assert (response.status, response.headers["Cache-Control"]) == (416, "no-store")
    picture = media_root / "reel-lost/reel-lost.jpg"
    elsewhere = picture.rename(media_root.parent / "elsewhere.jpg")
    for _ in range(2):
        async with client.get(url) as response:
            assert (response.status, response.headers["Cache-Control"]) == (404, "no-store")
            assert (await response.json())["code"] in ("not_found", "not_stored")
        picture.unlink(missing_ok=True)
        picture.symlink_to(elsewhere)


async def test_thumbnails_cost_no_tokens_but_wrong_keys_do(
    instagram: StandIn, start_service: StartService
) -> None:
    limit = {"RATE_LIMIT_MAX_REQUESTS": "2", "RATE_LIMIT_WINDOW_SECONDS": "3600"}
    client = await start_service(API_KEY="s3cret", **limit)
    key = {"X-API-Key": "s3cret"}
    body = {"url": REEL.format("reel-free")}
    async with client.post("/scrape", json=body, headers=key) as response:
        url = (await response.json())["thumbnail_url"]
    for _ in range(30):
        async with client.get(url, headers=key) as response:
            assert response.status == 200
            assert "RateLimit-Limit" not in response.headers
    for status in (401, 401, 429):
        async with client.get(url, headers={"X-API-Key": "guess"}) as response:
            assert response.status == status
    assert (await client.get(url, headers=key)).status == 200


async def test_the_base_path_is_in_the_thumbnail_url(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(BASE_PATH="/insta")
    body = {"url": REEL.format("reel-under")}
    async with client.post("/insta/scrape", json=body) as response:
        url = (await response.json())["thumbnail_url"]
    assert url.startswith("/insta/posts/reel-under/thumbnail?v=")
    assert (await client.get(url)).status == 200


def wide(media: dict[str, Any]) -> dict[str, Any]:
    """Give the media object a large picture and a smaller candidate."""
    for number, child in enumerate(media.get("carousel_media", [media]), start=1):
        best, small, _ = child["image_versions2"]["candidates"]
        best |= {"width": 1080, "height": 1350}
        small |= {"url": small["url"].replace("p720x720", "p240x240"), "width": 240, "height": 300}
        if number > 1:
            # Instagram sends no sizes for the items of carousels.
            del best["width"], best["height"], small["width"], small["height"]
    return media


@pytest.mark.parametrize("shape", ["photo", "video", "carousel"])
async def test_a_smaller_candidate_is_stored_for_lists(
    instagram: StandIn, start_service: StartService, media_root: Path, shape: str
) -> None:
    instagram.set_scenario("wide", Scenario("", shape=shape, change=wide))
    client = await start_service()
    job = await submit(client, "wide-one")
    [post] = (await finish(client, job))["posts"]
    folder = media_root / "wide-one"
    small = folder / "wide-one_small.jpg"
    async with client.get((await thumbnail_url(client, "wide-one")) or "") as response:
        assert await response.read() == small.read_bytes()
    # The small picture counts towards the size of the post, but is not one of its items.
    sizes = sum(path.stat().st_size for path in folder.iterdir() if path.name != "post.json")
    assert post["bytes_done"] == sizes
    async with client.get("/posts/wide-one") as response:
        names = [file["path"] for file in (await response.json())["media"]]
    assert str(small) not in names
    assert (await client.get("/media/wide-one/wide-one_small.jpg")).status == 200
    await asyncio.to_thread(small.unlink)
    # Once the folder is read again, another picture that is light enough takes its place.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await client.get((await thumbnail_url(client, "wide-one")) or "")).status == 404:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=404),
        Answer(status=429),
        Answer("text:<html>", "text/html"),
        Answer("photo.jpg", only=100),
        Answer("video.mp4", "video/mp4"),
        Answer("large.jpg", wire="stall"),
    ],
    ids=str,
)
async def test_a_failed_small_picture_does_not_fail_the_post(
    instagram: StandIn,
    start_service: StartService,
    media_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
) -> None:
    monkeypatch.setattr("scrapper.instagram.files.post._SMALL_SECONDS", 0.5)
    scenario = Scenario("", shape="photo", change=wide, answers={"small/1": [answer]})
    instagram.set_scenario("failing", scenario)
    client = await start_service()
    async with client.post("/scrape", json={"url": REEL.format("failing-one")}) as response:
        post = await response.json()
    assert (response.status, post["missing"], post["cached"]) == (200, [], False)
    assert instagram.requests("media", "failing-one") == 2
    assert stored_files(media_root) == {"failing-one/failing-one.jpg", "failing-one/post.json"}


async def test_no_smaller_copy_of_a_small_picture_is_downloaded(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    url = "https://www.instagram.com/p/photo-small/"
    assert (await client.post("/scrape", json={"url": url})).status == 200
    assert instagram.requests("media", "photo-small") == 1


@pytest.mark.parametrize(
    ("item", "light", "small"),
    [
        (("a.jpg", 25_000, 320, 568), True, True),
        (("a.webp", 25_000, 568, 320), True, True),
        (("a.jpg", 25_001, 320, 320), False, False),
        (("a.jpg", 25_000, 321, 400), True, False),
        (("a.png", 1, None, None), True, True),
        (("a.heic", 1, 10, 10), False, False),
        (("a.avif", 1, 10, 10), False, False),
    ],
)
def test_a_picture_is_light_or_small_by_format_and_size(
    item: tuple[str, int, int | None, int | None], light: bool, small: bool
) -> None:
    name, size, width, height = item
    picture = MediaItem("image", name, "", size, width, height)
    assert (picture.is_light, picture.is_small) == (light, small)
