import asyncio
import gc
import os
import time
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import psutil
import pytest
from aiohttp import ClientPayloadError

from scrapper.handlers.resources import LIBRARY
from tests.conftest import Client, StartService, stored_files, until
from tests.instagram import Answer, Scenario, StandIn


async def test_download_returns_the_main_file_as_an_attachment(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": "https://www.instagram.com/p/carousel-dl/"})
    async with client.get("/download/carousel-dl") as response:
        assert response.status == 200
        assert response.content_type == "video/mp4"
        assert response.headers["Content-Disposition"] == (
            'attachment; filename="carousel-dl_2.mp4"'
        )
        assert await response.read() == instagram.bytes_of("carousel-dl")[1]


async def test_each_file_is_served_inline_at_its_url(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    url = "https://www.instagram.com/p/carousel-inline/"
    async with client.post("/scrape", json={"url": url}) as response:
        items = (await response.json())["media"]
    for item, content in zip(items, instagram.bytes_of("carousel-inline"), strict=True):
        async with client.get(item["url"]) as response:
            assert response.status == 200
            assert (
                response.content_type
                == f"{item['type']}/{'mp4' if item['type'] == 'video' else 'jpeg'}"
            )
            assert response.headers["Content-Disposition"].startswith("inline")
            assert await response.read() == content


async def test_download_returns_any_item_of_a_carousel(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": "https://www.instagram.com/p/carousel-item/"})
    async with client.get("/download/carousel-item?item=3") as response:
        assert response.status == 200
        assert response.content_type == "image/jpeg"
        assert await response.read() == instagram.bytes_of("carousel-item")[2]


async def test_one_request_fetches_a_post_and_returns_its_file(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    url = "https://www.instagram.com/p/carousel-by-url/"
    contents = instagram.bytes_of("carousel-by-url")
    async with client.get("/download", params={"url": url}) as response:
        assert response.status == 200
        assert "carousel-by-url_2.mp4" in response.headers["Content-Disposition"]
        assert await response.read() == contents[1]
    async with client.get("/download", params={"url": url, "item": "3"}) as response:
        assert await response.read() == contents[2]
    async with client.get("/download", params={"url": f"{url}?img_index=1 "}) as response:
        assert await response.read() == contents[0]
    params = {"url": f"{url}?img_index=1", "item": "3"}
    async with client.get("/download", params=params) as response:
        assert await response.read() == contents[2]
    async with client.get("/download", params={"url": f"{url}?img_index=4"}) as response:
        assert response.status == 404
    async with client.get("/download", params={"url": url, "archive": "zip"}) as response:
        archive = ZipFile(BytesIO(await response.read()))
        assert [archive.read(name) for name in archive.namelist()] == contents
    assert instagram.requests("graphql") == 1


async def test_downloads_by_url_reject_invalid_parameters_and_links(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    for query, status, code in (
        ("", 400, "invalid_parameter"),
        ("?url=", 400, "invalid_parameter"),
        ("?url=https://example.com/", 400, "invalid_url"),
        ("?url=https://www.instagram.com/someone/", 400, "unsupported_link"),
        ("?url=https://www.instagram.com/reel/notfound-by-url/", 404, "post_not_found"),
        ("?url=https://www.instagram.com/reel/reel-by-url/&item=0", 400, "invalid_parameter"),
        ("?url=https://www.instagram.com/reel/reel-by-url/&archive=tar", 400, "invalid_parameter"),
        ("?url=https://www.instagram.com/reel/reel-by-url/&item=2", 404, "not_found"),
    ):
        async with client.get(f"/download{query}") as response:
            assert (response.status, (await response.json())["code"]) == (status, code), query


async def test_a_download_by_url_uses_the_smaller_bucket(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(RATE_LIMIT_MAX_REQUESTS="2", RATE_LIMIT_WINDOW_SECONDS="3600")
    url = "https://www.instagram.com/reel/reel-one-token/"
    async with client.get("/download", params={"url": url}) as response:
        assert (response.status, response.headers["RateLimit-Remaining"]) == (200, "1")
    async with client.get("/download/reel-one-token") as response:
        assert (response.status, response.headers["RateLimit-Limit"]) == (200, "20")


@pytest.mark.parametrize(
    ("fetched", "status"),
    [
        (("cross-site", "no-cors", "image"), 403),
        (("cross-site", "navigate", "iframe"), 403),
        (("cross-site", "navigate", "document"), 200),
        (("same-origin", "no-cors", "image"), 200),
        (("none", "navigate", "document"), 200),
    ],
)
async def test_another_site_can_link_to_downloads_but_not_embed_them(
    instagram: StandIn, start_service: StartService, fetched: tuple[str, ...], status: int
) -> None:
    client = await start_service()
    url = "https://www.instagram.com/reel/reel-visit/"
    names = ("Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest")
    headers = dict(zip(names, fetched, strict=True))
    async with client.get("/download", params={"url": url}, headers=headers) as response:
        assert response.status == status
    assert instagram.requests("graphql") == (status == 200)


@pytest.mark.parametrize(
    ("agent", "accept", "status"),
    [
        ("Mozilla/5.0 (X11) Firefox/140.0", "image/avif,image/webp,*/*;q=0.8", 403),
        ("Mozilla/5.0 (X11) Firefox/140.0", "*/*", 403),
        ("Mozilla/5.0 (X11) Firefox/140.0", "text/html,application/xhtml+xml,*/*;q=0.8", 200),
        ("Mozilla/5.0 (Windows NT) WindowsPowerShell/5.1", None, 200),
        ("curl/8.14.1", "*/*", 200),
    ],
)
async def test_a_browser_without_fetch_metadata_cannot_embed_downloads(
    instagram: StandIn, start_service: StartService, agent: str, accept: str | None, status: int
) -> None:
    client = await start_service()
    headers = {"User-Agent": agent, **({"Accept": accept} if accept else {})}
    url = "https://www.instagram.com/reel/reel-plain-http/"
    async with client.get(
        "/download", params={"url": url}, headers=headers, skip_auto_headers=["Accept"]
    ) as response:
        assert response.status == status


@pytest.mark.parametrize("path", ["/", "/media/reel-dated/reel-dated.mp4", "/download/reel-dated"])
@pytest.mark.parametrize("name", ["If-Modified-Since", "If-Unmodified-Since", "If-Range"])
async def test_an_impossible_date_is_rejected(
    instagram: StandIn, start_service: StartService, path: str, name: str
) -> None:
    client = await start_service()
    url = "https://www.instagram.com/reel/reel-dated/"
    assert (await client.post("/scrape", json={"url": url})).status == 200
    headers = {name: "Mon, 01 Jan 99999999999 00:00:00 GMT", "Range": "bytes=0-1"}
    async with client.get(path, headers=headers) as response:
        assert (response.status, (await response.json())["code"]) == (400, "bad_request")


async def test_download_returns_a_whole_carousel_as_an_archive(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": "https://www.instagram.com/p/carousel-zip/"})
    async with client.get("/download/carousel-zip?archive=zip") as response:
        assert response.status == 200
        assert response.content_type == "application/zip"
        assert response.headers["Content-Disposition"] == 'attachment; filename="carousel-zip.zip"'
        content = await response.read()
        assert response.content_length == len(content)
    with ZipFile(BytesIO(content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == ["carousel-zip_1.jpg", "carousel-zip_2.mp4", "carousel-zip_3.jpg"]
        assert [archive.read(name) for name in names] == instagram.bytes_of("carousel-zip")
    async with client.head("/download/carousel-zip?archive=zip") as response:
        assert (response.status, response.content_length) == (200, len(content))


async def test_an_archive_is_aborted_when_a_file_changes(
    instagram: StandIn,
    start_service: StartService,
    media_root: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = await start_service()
    for shortcode in ("big-gone", "reel-after"):
        await client.post("/scrape", json={"url": f"https://www.instagram.com/p/{shortcode}/"})
    async with client.get("/download/big-gone?archive=zip") as response:
        os.truncate(media_root / "big-gone/big-gone.mp4", 1000)
        with pytest.raises(ClientPayloadError):
            await response.read()
    assert (await client.get("/download/reel-after?archive=zip")).status == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_an_archive_of_a_just_removed_post_is_a_404(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": "https://www.instagram.com/p/reel-gone/"})
    # The service now caches the post for a moment.
    assert (await client.get("/posts/reel-gone")).status == 200
    (media_root / "reel-gone/reel-gone.mp4").unlink()
    async with client.get("/download/reel-gone?archive=zip") as response:
        assert (response.status, (await response.json())["code"]) == (404, "not_stored")


async def test_invalid_and_missing_items_are_rejected(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": "https://www.instagram.com/p/carousel-no/"})
    for query, status in (
        ("item=0", 400),
        ("item=4", 404),
        ("item=" + "9" * 5000, 404),
        ("item=x", 400),
        ("item=-1", 400),
        ("item=", 400),
        ("archive=rar", 400),
        ("archive=", 400),
        ("archive=zip&item=4", 404),
    ):
        async with client.get(f"/download/carousel-no?{query}") as response:
            assert (response.status, bool((await response.json())["error"])) == (status, True), (
                query
            )


async def test_an_unchanged_file_is_not_sent_again(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": "https://www.instagram.com/reel/reel-etag/"})
    path = "/media/reel-etag/reel-etag.mp4"
    async with client.head(path) as response:
        assert response.status == 200
        assert response.content_length == len(instagram.bytes_of("reel-etag")[0])
        etag = response.headers["ETag"]
    async with client.get(path, headers={"If-None-Match": etag}) as response:
        assert response.status == 304
    async with client.get(path, headers={"If-None-Match": '"another"'}) as response:
        assert response.status == 200


async def test_a_symlink_in_place_of_a_file_is_not_followed(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": "https://www.instagram.com/reel/reel-link/"})
    path = media_root / "reel-link/reel-link.mp4"
    path.rename(media_root.parent / "elsewhere.mp4")
    path.symlink_to(media_root.parent / "elsewhere.mp4")
    # The cached post still names the file, which is checked again for each request.
    for file in (
        "/media/reel-link/reel-link.mp4",
        "/download/reel-link",
        "/download/reel-link?archive=zip",
        "/download?shortcodes=reel-link&archive=zip",
    ):
        assert (await client.get(file)).status == 404, file


async def test_the_cover_of_a_video_is_stored_and_served(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    url = "https://www.instagram.com/p/carousel-cover/"
    async with client.post("/scrape", json={"url": url}) as response:
        thumbnail = (await response.json())["thumbnail"]
    assert thumbnail["type"] == "image"
    assert thumbnail["url"] == "/media/carousel-cover/carousel-cover.jpg"
    async with client.get(thumbnail["url"]) as response:
        assert response.content_type == "image/jpeg"
        assert len(await response.read()) == thumbnail["size"]


async def test_a_part_of_a_file_can_be_requested(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": "https://www.instagram.com/reel/reel-range/"})
    async with client.get("/download/reel-range", headers={"Range": "bytes=2-5"}) as response:
        assert response.status == 206
        assert await response.read() == instagram.bytes_of("reel-range")[0][2:6]


@pytest.mark.parametrize("path", ["/download/{}", "/media/{}/x.mp4"])
async def test_files_of_an_unknown_post_are_not_found(
    start_service: StartService, path: str
) -> None:
    client = await start_service()
    for shortcode, expected in (
        ("unknown", (404, "The post is not stored")),
        ("four", (400, "Invalid shortcode")),
        ("%2e%2e%2fetc", (400, "Invalid shortcode")),
        (".incoming", (400, "Invalid shortcode")),
        ("abcde%00", (400, "Invalid shortcode")),
        ("x" * 65, (400, "Invalid shortcode")),
    ):
        async with client.get(path.format(shortcode)) as response:
            assert (response.status, (await response.json())["error"]) == expected, shortcode


async def test_only_media_files_of_the_post_are_served(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": "https://www.instagram.com/reel/reel-name/"})
    for name in ("post.json", "other.mp4", "..%2freel-name%2freel-name.mp4", "%2e%2e", "a%00"):
        async with client.get(f"/media/reel-name/{name}") as response:
            assert response.status == 404, name


async def test_a_truncated_file_is_never_served(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": "https://www.instagram.com/reel/reel-half/"})
    path = media_root / "reel-half/reel-half.mp4"
    path.write_bytes(path.read_bytes()[:100])
    assert (await client.get("/download/reel-half")).status == 404


async def test_an_aborted_archive_leaves_no_file_open(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": "https://www.instagram.com/p/big-archive/"})
    path = str(media_root / "big-archive")

    def open_files() -> list[str]:
        return [file.path for file in psutil.Process().open_files() if file.path.startswith(path)]

    responses = [await client.get("/download/big-archive?archive=zip") for _ in range(5)]
    for response in responses:
        await response.content.readany()
        response.close()
    gc.disable()
    try:
        await until(lambda: not open_files())
    finally:
        gc.enable()


@pytest.mark.parametrize("content", [b"[" * 10**6, b"{" * 10**6, b"nonsense", b"[]", b""])
async def test_an_unreadable_post_is_hidden_and_can_be_deleted(
    instagram: StandIn,
    start_service: StartService,
    media_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
) -> None:
    monkeypatch.setattr("scrapper.library.index._TRUSTED_SECONDS", 0)
    client = await start_service()
    for shortcode in ("reel-good", "reel-damaged"):
        url = f"https://www.instagram.com/reel/{shortcode}/"
        await client.post("/scrape", json={"url": url})
    manifest = media_root / "reel-damaged" / "post.json"
    await asyncio.to_thread(manifest.write_bytes, content)
    assert (await client.get("/posts/reel-damaged")).status == 404
    listing = await client.get("/posts")
    assert [post["shortcode"] for post in (await listing.json())["posts"]] == ["reel-good"]
    assert (await client.delete("/posts/reel-damaged")).status == 204
    assert "reel-damaged" not in {Path(file).parts[0] for file in stored_files(media_root)}


@pytest.mark.parametrize("path", ["/media/reel-part/reel-part.mp4", "/download/reel-part", "/"])
async def test_a_range_of_another_version_returns_the_whole_file(
    instagram: StandIn, start_service: StartService, path: str
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": "https://www.instagram.com/reel/reel-part/"})
    async with client.get(path) as response:
        content, etag = await response.read(), response.headers["ETag"]
        modified = response.headers["Last-Modified"]
    later = "Sat, 31 Dec 2129 23:59:59 GMT"

    async def get(method: str = "GET", **headers: str) -> tuple[int, bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with client.request(method, path, headers=sent) as response:
            return response.status, await response.read()

    for same in (etag, modified):
        assert await get(Range="bytes=2-5", If_Range=same) == (206, content[2:6])
    for other in ('"another"', f"W/{etag}", later, "nonsense", etag.strip('"')):
        assert await get(Range="bytes=2-5", If_Range=other) == (200, content)
    for unknown in ("items=0-1", "none", "bytes=0-1,4-5", "seconds=1-2", "bytes=-0", "bytes=-"):
        assert await get(Range=unknown) == (200, content)
    assert await get(If_Range='"another"') == (200, content)
    assert await get(Range="BYTES=0-0") == (206, content[:1])
    assert (await get(Range=f"bytes={len(content)}-"))[0] == 416
    assert await get("HEAD", Range="bytes=0-1") == (200, b"")
    # If-Match takes precedence: the client requires another version.
    assert (await get(Range="bytes=2-5", If_Match='"another"'))[0] == 412


@pytest.mark.parametrize(
    "path", ["/media/reel-refused/reel-refused.mp4", "/download/reel-refused", "/", "/docs"]
)
async def test_a_refused_condition_or_range_is_a_json_error(
    instagram: StandIn, start_service: StartService, path: str
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": "https://www.instagram.com/reel/reel-refused/"})
    size = (await client.head(path)).content_length
    for name, value, status, code in (
        ("If-Match", '"another"', 412, "precondition_failed"),
        ("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT", 412, "precondition_failed"),
        ("Range", f"bytes={size}-", 416, "range_not_satisfiable"),
        ("Range", "bytes=2-1", 416, "range_not_satisfiable"),
    ):
        async with client.get(path, headers={name: value}) as response:
            body = await response.json()
            assert (response.status, body["code"]) == (status, code), value
            assert body["request_id"] == response.headers["X-Request-ID"]
            assert response.headers["Cache-Control"] == "no-store"
            assert not {"ETag", "Last-Modified", "Content-Disposition"} & response.headers.keys()
            expected = f"bytes */{size}" if status == 416 else None
            assert response.headers.get("Content-Range") == expected


@pytest.mark.parametrize(
    ("request_line", "header", "status"),
    [
        ("GET /media/reel-bytes/reel-bytes.mp4", b"Referer: http://h/caf\xe9", 200),
        ("HEAD /media/reel-bytes/reel-bytes.mp4", b"Referer: http://h/caf\xe9", 200),
        ("GET /media/reel-bytes/reel-bytes.mp4", b"Range: bytes=\xb2-", 416),
        ("GET /download/reel-bytes", b"Cookie: \xff", 200),
        ("GET /download?link=https://www.instagram.com/reel/reel-bytes/", b"X-A: \xe9", 200),
        ("GET /posts/reel-bytes/thumbnail", b"X-A: \xe9", 200),
        ("GET /", b"Range: items=0-1\r\nX-A: \xe9", 200),
        ("GET /docs", b"Range: items=0-1\r\nX-A: \xe9", 200),
    ],
)
async def test_a_header_need_not_be_utf8(
    instagram: StandIn,
    start_service: StartService,
    request_line: str,
    header: bytes,
    status: int,
) -> None:
    client = await start_service()
    url = "https://www.instagram.com/reel/reel-bytes/"
    assert (await client.post("/scrape", json={"url": url})).status == 200
    head = f"{request_line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode()
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(head + header + b"\r\n\r\n")
    received = await reader.read()
    writer.close()
    assert received.startswith(b"HTTP/1.1 %d " % status)


async def test_a_resumed_download_never_mixes_two_versions(
    instagram: StandIn, start_service: StartService
) -> None:
    client, body = await start_service(), {"url": "https://www.instagram.com/reel/reel-joined/"}
    await client.post("/scrape", json=body)
    async with client.get("/download/reel-joined") as response:
        etag = response.headers["ETag"]
    async with client.post("/scrape", json={**body, "refresh": True}) as response:
        assert not (await response.json())["cached"]
    headers = {"Range": "bytes=2-", "If-Range": etag}
    async with client.get("/download/reel-joined", headers=headers) as response:
        assert (response.status, await response.read()) == (
            200,
            instagram.bytes_of("reel-joined")[0],
        )


async def test_files_and_archive_entries_have_the_post_s_time(
    instagram: StandIn,
    start_service: StartService,
    media_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    client = await start_service()
    await client.post("/scrape", json={"url": "https://www.instagram.com/p/carousel-time/"})
    folder = media_root / "carousel-time"
    taken = 1_768_478_400
    times = {name: (folder / name).stat().st_mtime for name in os.listdir(folder)}
    assert times.pop("post.json") > taken + 86_400
    assert set(times.values()) == {taken}
    assert len(times) == 4
    async with client.get("/download/carousel-time?archive=zip") as response:
        archive = ZipFile(BytesIO(await response.read()))
    assert {info.date_time for info in archive.infolist()} == {time.localtime(taken)[:6]}


async def refreshed(client: Client, instagram: StandIn) -> tuple[dict[str, str], dict[str, str]]:
    """Return the validators of a file before and after a refresh with a file of the same size."""
    url, path = "https://www.instagram.com/p/dated-one/", "/media/dated-one/dated-one.jpg"
    found: list[dict[str, str]] = []
    for name in ("photo.jpg", "other.jpg"):
        answers = {"best/1": [Answer(name)]}
        instagram.set_scenario("dated", Scenario("", shape="photo", answers=answers))
        await client.post("/scrape", json={"url": url, "refresh": True})
        # Make the seconds in Last-Modified differ, too.
        manifest = client.app[LIBRARY].root / "dated-one/post.json"
        os.utime(manifest, (1_800_000_000 + len(found),) * 2)
        async with client.get(path) as response:
            found.append({key: response.headers[key] for key in ("ETag", "Last-Modified")})
    return found[0], found[1]


async def test_conditions_distinguish_a_refreshed_file(
    instagram: StandIn, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.library.index._TRUSTED_SECONDS", 0)
    client = await start_service()
    old, new = await refreshed(client, instagram)
    path = "/media/dated-one/dated-one.jpg"
    assert old["ETag"] != new["ETag"]
    cases = [
        ({"If-None-Match": old["ETag"]}, 200),
        ({"If-None-Match": new["ETag"]}, 304),
        ({"If-None-Match": f"W/{new['ETag']}"}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-Modified-Since": old["Last-Modified"]}, 200),
        ({"If-Modified-Since": new["Last-Modified"]}, 304),
        ({"If-None-Match": old["ETag"], "If-Modified-Since": new["Last-Modified"]}, 200),
        ({"If-Match": old["ETag"]}, 412),
        ({"If-Match": new["ETag"]}, 200),
        ({"If-Unmodified-Since": old["Last-Modified"]}, 412),
        ({"If-Unmodified-Since": new["Last-Modified"]}, 200),
        ({"Range": "bytes=1-2", "If-Range": old["ETag"]}, 200),
        ({"Range": "bytes=1-2", "If-Range": new["ETag"]}, 206),
        ({"Range": "bytes=1-2", "If-Range": old["Last-Modified"]}, 200),
        ({"Range": "bytes=1-2", "If-Range": new["Last-Modified"]}, 206),
        ({"Range": "bytes=1-2", "If-Match": new["ETag"]}, 206),
        ({"Range": "bytes=999999-"}, 416),
    ]
    for headers, status in cases:
        async with client.get(path, headers=headers) as response:
            assert (headers, response.status) == (headers, status)
            if status < 400:
                assert response.headers["ETag"] == new["ETag"]
                assert response.headers["Last-Modified"] == new["Last-Modified"]


async def test_downloads_are_named_by_the_template(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(DOWNLOAD_NAME="{owner} {date} {number} \u202eö")
    await client.post("/scrape", json={"url": "https://www.instagram.com/p/carousel-named/"})
    async with client.get("/download/carousel-named?item=3") as response:
        assert response.headers["Content-Disposition"] == (
            'attachment; filename="someone 2026-01-15 3 _.jpg"; '
            "filename*=UTF-8''someone%202026-01-15%203%20%C3%B6.jpg"
        )
    async with client.get("/download/carousel-named?archive=zip") as response:
        assert "someone%202026-01-15" in response.headers["Content-Disposition"]
        names = ZipFile(BytesIO(await response.read())).namelist()
    assert names == [
        f"someone 2026-01-15 {n} ö.{e}" for n, e in ((1, "jpg"), (2, "mp4"), (3, "jpg"))
    ]
    async with client.get("/media/carousel-named/carousel-named_3.jpg") as response:
        assert 'filename="carousel-named_3.jpg"' in response.headers["Content-Disposition"]


async def test_no_other_item_is_returned_for_a_missing_one(
    instagram: StandIn, start_service: StartService
) -> None:
    def change(media: dict[str, Any]) -> dict[str, Any]:
        media["carousel_media"][1] |= {"code": media["code"], "pk": media["pk"]}
        return media | {"code": "DParent0001", "pk": "1"}

    client = await start_service()
    instagram.set_scenario("lost", Scenario("", shape="carousel", media="slide404", change=change))
    url = "https://www.instagram.com/p/lost-slide/"
    async with client.get("/download", params={"url": f"{url}?img_index=3"}) as response:
        assert response.status == 200
        assert await response.read() == instagram.bytes_of("lost-slide")[2]
    for path in ("/download/lost-slide?item=2", f"/download?url={url}", "/download/lost-slide"):
        async with client.get(path) as response:
            assert response.status == 404
            assert "missing" in await response.text()
    assert (await client.get("/download/lost-slide?item=4")).status == 404
    async with client.get("/download/lost-slide?archive=zip") as response:
        assert response.status == 200


async def test_an_item_s_shortcode_fetches_its_carousel(
    instagram: StandIn, start_service: StartService
) -> None:
    def change(media: dict[str, Any]) -> dict[str, Any]:
        media["carousel_media"][2] |= {"code": media["code"], "pk": media["pk"]}
        return media | {"code": "DParent0001", "pk": "1"}

    client = await start_service()
    for number, refusal in enumerate(("post", "forbidden")):
        scenario = Scenario("", shape="carousel", change=change, api=refusal, page="post")
        instagram.set_scenario("slide", scenario)
        url = f"https://www.instagram.com/p/slide-{number}/"
        async with client.post("/scrape", json={"url": url}) as response:
            post = await response.json()
        assert (response.status, len(post["media"])) == (200, 3)
        async with client.get(f"/download/slide-{number}") as response:
            assert f"slide-{number}_3.jpg" in response.headers["Content-Disposition"]


async def test_link_is_another_name_for_url(start_service: StartService) -> None:
    client = await start_service()
    for name, code in (
        ("link", "invalid_url"),
        ("url", "invalid_url"),
        ("href", "invalid_parameter"),
    ):
        async with client.get("/download", params={name: "https://example.com/"}) as response:
            assert (await response.json())["code"] == code


async def test_several_posts_are_returned_as_one_archive(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(DOWNLOAD_NAME="{owner}")
    for path in ("reel/reel-one", "p/carousel-one"):
        url = f"https://www.instagram.com/{path}/"
        assert (await client.post("/scrape", json={"url": url})).status == 200
    query = "shortcodes=reel-one,never-stored,carousel-one,reel-one&archive=zip"
    async with client.get(f"/download?{query}") as response:
        assert (response.status, response.content_type) == (200, "application/zip")
        assert response.headers["X-Not-Stored"] == "never-stored"
        assert "2 posts.zip" in response.headers["Content-Disposition"]
        content = await response.read()
        assert len(content) == response.content_length
    with ZipFile(BytesIO(content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        # Both posts have the same owner, so the second folder gets a number.
        assert names == [
            "someone/someone.mp4",
            "someone (2)/someone_1.jpg",
            "someone (2)/someone_2.mp4",
            "someone (2)/someone_3.jpg",
        ]
        reel = (media_root / "reel-one/reel-one.mp4").read_bytes()
        assert archive.read(names[0]) == reel
    assert instagram.requests("graphql", "never-stored") == 0


async def test_an_archive_of_posts_checks_its_parameters(start_service: StartService) -> None:
    client = await start_service()
    for query in (
        "shortcodes=reel-one",
        "shortcodes=&archive=zip",
        "shortcodes=reel-one,&archive=zip",
        "shortcodes=reel-one,../x&archive=zip",
        "shortcodes=" + ",".join(f"reel-{number}" for number in range(101)) + "&archive=zip",
        "shortcodes=reel-one&archive=zip&item=1",
        "shortcodes=reel-one&archive=zip&audio=1",
        "shortcodes=reel-one&archive=zip&url=https://www.instagram.com/reel/reel-one/",
        "shortcodes=reel-one&archive=zip&link=https://www.instagram.com/reel/reel-one/",
    ):
        async with client.get(f"/download?{query}") as response:
            code = (await response.json())["code"]
            assert (response.status, code) == (400, "invalid_parameter"), query


async def test_an_archive_of_posts_downloads_nothing(start_service: StartService) -> None:
    client = await start_service(RATE_LIMIT_MAX_REQUESTS="2", RATE_LIMIT_WINDOW_SECONDS="3600")
    async with client.get("/download?shortcodes=reel-one&archive=zip") as response:
        assert (response.status, (await response.json())["code"]) == (404, "not_stored")
        assert response.headers["RateLimit-Limit"] == "20"
    # A page of another site cannot use the same path to trigger a download.
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    query = "shortcodes=reel-one&archive=zip&link=https://www.instagram.com/reel/reel-one/"
    async with client.get(f"/download?{query}", headers=headers) as response:
        assert response.status == 403
