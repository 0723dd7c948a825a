"""``/posts``: stored posts are listed, read, changed and removed."""

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from scrapper.handlers.resources import LIBRARY
from tests.conftest import Client, StartService, both_modes, stored_files
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS


async def store(client: Client, *shortcodes: str) -> None:
    for shortcode in shortcodes:
        url = f"https://www.instagram.com/reel/{shortcode}/"
        async with client.post("/scrape", json={"url": url}) as response:
            assert response.status == 200


async def listed(client: Client, **query: str) -> tuple[list[str], str | None]:
    async with client.get("/posts", params=query) as response:
        assert response.status == 200
        page: dict[str, Any] = await response.json()
    return [post["shortcode"] for post in page["posts"]], page["next_cursor"]


async def test_a_stored_post_equals_the_response_of_scrape(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    url = "https://www.instagram.com/p/carousel-get/?img_index=2"
    async with client.post("/scrape", json={"url": url}) as response:
        answer = await response.json()
    async with client.get("/posts/carousel-get") as response:
        assert response.status == 200
        assert await response.json() == {**answer, "cached": True}


async def test_posts_are_listed_newest_first_in_pages(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    shortcodes = [f"reel-{number}" for number in range(5)]
    await store(client, *shortcodes)
    for age, shortcode in enumerate(reversed(shortcodes)):
        os.utime(media_root / shortcode / "post.json", (0, 1_700_000_000 - age // 2))
        # The catalogue may already have read the post with its old time.
        client.app[LIBRARY].changed(shortcode)
    first, cursor = await listed(client, limit="2")
    # Two posts stored at the same instant are sorted by name.
    assert first == ["reel-3", "reel-4"]
    assert cursor
    await store(client, "reel-newer")
    second, cursor = await listed(client, limit="2", cursor=cursor)
    assert second == ["reel-1", "reel-2"]
    assert cursor
    assert (await client.delete("/posts/reel-2")).status == 204
    assert await listed(client, limit="2", cursor=cursor) == (["reel-0"], None)
    assert (await listed(client))[0] == ["reel-newer", "reel-3", "reel-4", "reel-1", "reel-0"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=%D9%A1",
        "limit=" + "9" * 5000,
        "limit=",
        "cursor=",
        "cursor=x",
        "cursor=1~",
        "cursor=nan~reel-a",
        "cursor=1.0~reel-a",
        "cursor=1.000000000~../x",
        "cursor=%2B1.0~reel-a",
        "cursor=1_0.0~reel-a",
        "kept=yes",
        "kept=",
        "owner=",
        "owner=some%20one",
        "owner=someone%0A",
        "owner=" + "x" * 31,
        "q=" + "x" * 201,
    ],
)
async def test_invalid_list_parameters_are_rejected(
    start_service: StartService, query: str
) -> None:
    client = await start_service()
    async with client.get(f"/posts?{query}") as response:
        assert response.status == 400
        assert (await response.json())["error"].startswith(query.partition("=")[0])


@both_modes
async def test_a_removed_post_is_gone_with_its_files(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    await store(client, "reel-gone", "reel-kept")
    assert (await client.delete("/posts/reel-gone")).status == 204
    for method, path in (("get", "/posts/reel-gone"), ("delete", "/posts/reel-gone")):
        async with client.request(method, path) as response:
            assert response.status == 404
    assert {name.partition("/")[0] for name in stored_files(media_root)} == {"reel-kept"}


async def test_a_post_behind_a_symlink_is_hidden(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    await store(client, "reel-real")
    (media_root / "reel-real").rename(media_root.parent / "reel-real")
    (media_root / "reel-real").symlink_to(media_root.parent / "reel-real")
    assert (await client.get("/posts/reel-real")).status == 404
    assert (await client.delete("/posts/reel-real")).status == 404
    assert (media_root.parent / "reel-real/post.json").exists()


async def test_posts_can_be_searched(instagram: StandIn, start_service: StartService) -> None:
    client = await start_service()
    await store(client, "reel-first", "reel-second")
    assert await listed(client, q="caption second") == (["reel-second"], None)
    assert await listed(client, q="nothing") == ([], None)
    assert await listed(client, owner="someone", limit="1") != ([], None)
    assert await listed(client, owner="nobody") == ([], None)
    assert (await client.put("/posts/reel-first/keep")).status == 204
    assert await listed(client, kept="true") == (["reel-first"], None)
    assert await listed(client, kept="false", q="caption") == (["reel-second"], None)


async def test_posts_can_be_sorted_and_filtered_by_type(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    for path in ("reel/reel-one", "p/photo-one", "p/carousel-one"):
        url = f"https://www.instagram.com/{path}/"
        assert (await client.post("/scrape", json={"url": url})).status == 200
    # All were taken at the same time, so they are sorted by name.
    assert (await listed(client, sort="taken"))[0] == ["carousel-one", "photo-one", "reel-one"]
    assert (await listed(client, sort="stored"))[0] == ["carousel-one", "photo-one", "reel-one"]
    for kind, shortcode in (("video", "reel-one"), ("image", "photo-one")):
        assert (await listed(client, type=kind))[0] == [shortcode]
    assert (await listed(client, type="carousel", sort="taken"))[0] == ["carousel-one"]
    link = "https://www.instagram.com/reel/reel-one/?igsh=" + "x" * 200
    assert (await listed(client, q=link))[0] == ["reel-one"]
    assert (await listed(client, q="photo-o"))[0] == ["photo-one"]


@pytest.mark.parametrize("query", ["sort=likes", "sort=", "type=story", "type="])
async def test_an_invalid_sort_or_type_is_rejected(start_service: StartService, query: str) -> None:
    client = await start_service()
    async with client.get(f"/posts?{query}") as response:
        assert (response.status, (await response.json())["code"]) == (400, "invalid_parameter")


async def test_storage_reports_the_current_state(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(MAX_MEDIA_AGE_DAYS="30")
    await store(client, "reel-one", "reel-two")
    files = [media_root / name for name in stored_files(media_root)]
    sizes = [path.stat().st_size for path in files if path.is_file()]
    async with client.get("/storage") as response:
        body = await response.json()
    assert body.pop("free_bytes") > 0
    assert body == {"posts": 2, "bytes": sum(sizes), "max_age_days": 30}
    assert (await client.delete("/posts/reel-one")).status == 204
    # Until the catalogue is complete, the service reports the last measurement.
    posts = 2
    async with asyncio.timeout(PATIENCE_SECONDS):
        while posts != 1:
            async with client.get("/storage") as response:
                posts = (await response.json())["posts"]


async def bulk(client: Client, action: str, *shortcodes: str) -> dict[str, tuple[int, str | None]]:
    body = {"action": action, "shortcodes": shortcodes}
    async with client.post("/posts/bulk", json=body) as response:
        assert response.status == 200
        posts = (await response.json())["posts"]
    assert [post["shortcode"] for post in posts] == list(shortcodes)
    return {post["shortcode"]: (post["status"], post["code"]) for post in posts}


@both_modes
async def test_many_posts_are_kept_released_and_deleted_at_once(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    shortcodes = [f"reel-{number}" for number in range(5)]
    await store(client, *shortcodes)
    done = (204, None)
    assert await bulk(client, "keep", *shortcodes[:3]) == dict.fromkeys(shortcodes[:3], done)
    assert set((await listed(client, kept="true"))[0]) == set(shortcodes[:3])
    bad = ["bad!", "", "../reel-0", "x" * 65, "\0" * 5]
    outcomes = await bulk(client, "release", "reel-0", "never-stored", *bad, "reel-0")
    assert outcomes == {
        "reel-0": done,
        "never-stored": (404, "not_stored"),
        **dict.fromkeys(bad, (400, "invalid_parameter")),
    }
    assert set((await listed(client, kept="true"))[0]) == {"reel-1", "reel-2"}
    assert await bulk(client, "delete", *shortcodes[1:]) == dict.fromkeys(shortcodes[1:], done)
    assert (await listed(client))[0] == ["reel-0"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"shortcodes": ["reel-one"]},
        {"shortcodes": [], "action": "keep"},
        {"shortcodes": ["reel-one"], "action": "burn"},
        {"shortcodes": "reel-one", "action": "keep"},
        {"shortcodes": ["reel-one"] * 501, "action": "keep"},
    ],
)
async def test_an_invalid_body_of_a_bulk_change_is_rejected(
    start_service: StartService, body: object
) -> None:
    client = await start_service()
    async with client.post("/posts/bulk", json=body) as response:
        assert (response.status, (await response.json())["code"]) == (400, "invalid_body")


async def test_a_bulk_change_of_five_hundred_posts_costs_one_token(
    start_service: StartService,
) -> None:
    client = await start_service(RATE_LIMIT_MAX_REQUESTS="2", RATE_LIMIT_WINDOW_SECONDS="3600")
    body = {"shortcodes": [f"{number:064}" for number in range(500)], "action": "delete"}
    async with client.post("/posts/bulk", json=body) as response:
        assert (response.status, response.headers["RateLimit-Remaining"]) == (200, "19")


async def test_a_read_only_disk_is_reported_for_each_post(
    instagram: StandIn, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start_service()
    await store(client, "reel-full", "reel-full-2")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr("scrapper.library.store.keep", refuse)
    outcomes = await bulk(client, "keep", "reel-full", "other-one", "reel-full-2")
    failed = (507, "disk_read_only")
    assert outcomes == {
        "reel-full": failed,
        "other-one": (404, "not_stored"),
        "reel-full-2": failed,
    }
