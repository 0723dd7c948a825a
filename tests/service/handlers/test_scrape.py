"""``POST /scrape`` with the real Instaloader against the stand-in for Instagram."""

import asyncio
import json
import os
import pickle
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrapper.library.post import moment
from tests.conftest import Client, StartService, both_modes, stored_files, until
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS

REEL = "https://www.instagram.com/reel/{}/"


async def scrape(client: Client, shortcode: str, **body: Any) -> tuple[int, dict[str, Any]]:
    async with client.post("/scrape", json={"url": REEL.format(shortcode), **body}) as response:
        return response.status, await response.json()


@both_modes
async def test_a_reel_is_downloaded_stored_and_returned(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    status, answer = await scrape(client, "reel-one")
    path = media_root / "reel-one/reel-one.mp4"
    content = path.read_bytes()
    assert status == 200
    assert [content] == instagram.bytes_of("reel-one")
    cdn_url = answer["cdn_url"]
    assert cdn_url.startswith("https://scontent-")
    assert answer["taken_at"].endswith("Z")
    assert answer["owner"]
    assert answer["description"]
    thumbnail = answer["thumbnail"]
    cover = media_root / "reel-one/reel-one.jpg"
    assert (thumbnail["path"], thumbnail["size"]) == (str(cover), cover.stat().st_size)
    assert answer["details"]["owner_name"]
    assert answer.pop("thumbnail_url").startswith("/posts/reel-one/thumbnail?v=")
    stored_at = (media_root / "reel-one/post.json").stat().st_mtime
    assert answer.pop("stored_at") == moment(stored_at)
    assert answer["expires_at"] == moment(stored_at + 7 * 24 * 60 * 60)
    for key in ("taken_at", "owner", "description", "thumbnail", "details", "expires_at"):
        del answer[key]
    assert answer == {
        "shortcode": "reel-one",
        "video": str(path),
        "cdn_url": cdn_url,
        "object_url": None,
        "original_url": REEL.format("reel-one"),
        "media": [
            {
                "type": "video",
                "path": str(path),
                "url": "/media/reel-one/reel-one.mp4",
                "cdn_url": cdn_url,
                "object_url": None,
                "size": len(content),
                "width": 180,
                "height": 320,
                "alt_text": None,
                "duration": 1.0,
                "has_audio": True,
                "codec": "h264",
                "bit_rate": 91216,
            }
        ],
        "missing": [],
        "kept": False,
        "cached": False,
        "stale": False,
    }
    names = {"reel-one/reel-one.mp4", "reel-one/reel-one.jpg", "reel-one/post.json"}
    assert stored_files(media_root) == names


async def test_a_photo_is_stored_without_a_video(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    status, answer = await scrape(client, "photo-one")
    assert (status, answer["video"]) == (200, None)
    assert [item["type"] for item in answer["media"]] == ["image"]
    assert Path(answer["media"][0]["path"]) == media_root / "photo-one/photo-one.jpg"
    assert [(media_root / "photo-one/photo-one.jpg").read_bytes()] == instagram.bytes_of(
        "photo-one"
    )


async def test_a_carousel_is_stored_in_instagram_s_order(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    status, answer = await scrape(client, "carousel-one")
    names = ["carousel-one_1.jpg", "carousel-one_2.mp4", "carousel-one_3.jpg"]
    assert status == 200
    assert [Path(item["path"]).name for item in answer["media"]] == names
    assert Path(answer["video"]).name == names[1]
    assert answer["cdn_url"] == answer["media"][1]["cdn_url"]
    contents = [(media_root / "carousel-one" / name).read_bytes() for name in names]
    assert contents == instagram.bytes_of("carousel-one")


async def test_a_post_without_a_caption_has_an_empty_description(
    instagram: StandIn, start_service: StartService
) -> None:
    _, answer = await scrape(await start_service(), "nocaption-one")
    assert answer["description"] == ""


async def test_a_caption_with_emoji_survives(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    _, first = await scrape(client, "emoji-one")
    _, again = await scrape(client, "emoji-one")
    assert first["description"] == again["description"]
    assert "\n" in first["description"]
    assert any(ord(character) > 0xFFFF for character in first["description"])


async def test_a_caption_that_ends_in_half_an_emoji_is_stored(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    for cached in (False, True):
        status, answer = await scrape(client, "halfemoji-one")
        assert (status, answer["description"], answer["cached"]) == (200, "Sun ?", cached)


async def test_a_webp_picture_keeps_its_extension(
    instagram: StandIn, start_service: StartService
) -> None:
    _, answer = await scrape(await start_service(), "webp-one")
    assert answer["media"][0]["path"].endswith("/webp-one.webp")


@both_modes
async def test_a_stored_post_causes_no_request_to_instagram(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    _, first = await scrape(client, "reel-stored")
    requests = instagram.requests()
    status, again = await scrape(client, "reel-stored")
    assert (status, again) == (200, {**first, "cached": True})
    assert instagram.requests() == requests


async def test_the_response_has_the_url_of_its_request(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    await scrape(client, "reel-urls")
    url = "https://instagram.com/someone/p/reel-urls/?igsh=x"
    async with client.post("/scrape", json={"url": url}) as response:
        assert (await response.json())["original_url"] == url


@both_modes
async def test_refresh_downloads_a_stored_post_again(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    await scrape(client, "reel-again")
    status, answer = await scrape(client, "reel-again", refresh=True)
    assert (status, answer["cached"]) == (200, False)
    assert instagram.requests("media", "reel-again") == 4


@both_modes
async def test_the_old_post_stays_until_its_refresh_is_complete(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    await scrape(client, "reel-kept")
    instagram.hold_media()
    refresh = asyncio.create_task(scrape(client, "reel-kept", refresh=True))
    await until(lambda: instagram.requests("media", "reel-kept") == 3)
    async with client.get("/download/reel-kept") as response:
        assert [await response.read()] == instagram.bytes_of("reel-kept")
    instagram.release_media()
    status, answer = await refresh
    assert (status, answer["cached"]) == (200, False)


@both_modes
async def test_a_failed_refresh_keeps_the_old_post(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    await scrape(client, "reel-old")
    await client.close()
    before = stored_files(media_root)
    client = await start_service(SCRAPE_TIMEOUT_SECONDS="1")
    instagram.hold()
    status, _ = await scrape(client, "reel-old", refresh=True)
    assert status == 503
    assert stored_files(media_root) == before
    assert (await scrape(client, "reel-old"))[0] == 200


async def test_a_post_whose_signed_url_expired_is_downloaded_again(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    for _ in range(2):
        status, answer = await scrape(client, "expired-one")
        assert (status, answer["cached"]) == (200, False)


async def test_a_post_without_signed_urls_is_fresh_for_a_day(
    instagram: StandIn,
    start_service: StartService,
    media_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrapper.library.index._TRUSTED_SECONDS", 0)
    client = await start_service()
    await scrape(client, "unsigned-one")
    for hours, cached in ((23.9, True), (24.1, False)):
        moment = time.time() - hours * 3600
        os.utime(media_root / "unsigned-one/post.json", (moment, moment))
        assert (await scrape(client, "unsigned-one"))[1]["cached"] is cached


class Fault(NamedTuple):
    scenario: str
    status: int
    code: str
    retry_after: str | None = None


FORBIDDEN = "login_required"
CHALLENGE = "challenge_required"
REMOVED = "post_not_found"
LIMITED = "instagram_rate_limited"
CHANGED = "instagram_changed"
FAILED = "instagram_failed"
CUT = "media_incomplete"
TYPE = "media_unexpected"
UNREACHABLE = "instagram_unreachable"
LATE = "deadline_exceeded"

FAULTS = [
    Fault("removed", 404, REMOVED),
    Fault("nullinfo", 404, REMOVED),
    Fault("notfound", 404, REMOVED),
    Fault("login", 403, FORBIDDEN),
    Fault("loginonly", 403, FORBIDDEN),
    Fault("forbidden", 403, FORBIDDEN),
    Fault("unauthorized", 403, FORBIDDEN),
    Fault("challenge", 403, CHALLENGE),
    Fault("checkpoint", 403, CHALLENGE),
    Fault("feedback", 403, FORBIDDEN),
    Fault("limited", 429, LIMITED, "17"),
    Fault("limitedbare", 429, LIMITED, "1"),
    Fault("wait", 429, LIMITED, "1"),
    Fault("wait200", 429, LIMITED, "1"),
    Fault("badrequest", 502, CHANGED),
    Fault("html", 502, CHANGED),
    Fault("servererror", 502, FAILED),
    Fault("jsonnull", 502, CHANGED),
    Fault("jsonlist", 502, CHANGED),
    Fault("nodata", 502, CHANGED),
    Fault("datanull", 502, CHANGED),
    Fault("nokey", 502, CHANGED),
    Fault("errors", 502, CHANGED),
    Fault("unknowntype", 502, CHANGED),
    Fault("changed", 502, CHANGED),
    Fault("novideo", 502, CHANGED),
    Fault("apicut", 502, CHANGED),
    Fault("reset", 503, UNREACHABLE),
    Fault("silent", 503, LATE),
    Fault("apidrip", 503, LATE),
    Fault("headerdrip", 503, LATE),
    Fault("cdnforbidden", 403, FORBIDDEN),
    Fault("cdnnotfound", 404, REMOVED),
    Fault("cdnerror", 502, FAILED),
    Fault("cdnlimited", 429, LIMITED, "1"),
    Fault("cdnhtml", 502, TYPE),
    Fault("cdnswap", 502, TYPE),
    Fault("cdnempty", 502, CUT),
    Fault("cut", 502, CUT),
    Fault("cutchunked", 502, CUT),
    Fault("cdnredirect", 502, CHANGED),
    Fault("cdnprivate", 502, CHANGED),
    Fault("offsite", 502, CHANGED),
    Fault("cdnreset", 503, UNREACHABLE),
    Fault("cdnsilent", 503, LATE),
    Fault("drip", 503, LATE),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.scenario)
async def test_each_fault_of_instagram_returns_its_error_and_stores_nothing(
    instagram: StandIn, start_service: StartService, media_root: Path, fault: Fault
) -> None:
    late = fault.code == LATE
    client = await start_service(SCRAPE_TIMEOUT_SECONDS="0.5" if late else "20")
    url = REEL.format(f"{fault.scenario}-one")
    async with client.post("/scrape", json={"url": url}) as response:
        body = await response.json()
        assert (response.status, body) == (
            fault.status,
            {
                "error": body["error"],
                "code": fault.code,
                "request_id": response.headers["X-Request-ID"],
            },
        )
        assert response.headers.get("Retry-After") == fault.retry_after
    assert stored_files(media_root) == set()
    assert set(os.listdir(media_root)) - {".state"} == {".incoming"}
    assert os.listdir(media_root / ".incoming") == []


@both_modes
async def test_errors_are_not_cached(instagram: StandIn, start_service: StartService) -> None:
    client = await start_service()
    for number in (1, 2):
        assert (await scrape(client, "removed-one"))[0] == 404
        assert instagram.requests("graphql", "removed-one") == number


async def test_a_truncated_file_is_downloaded_again_immediately(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    status, _ = await scrape(client, "cutonce-one")
    assert status == 200
    content = (media_root / "cutonce-one/cutonce-one.mp4").read_bytes()
    assert [content] == instagram.bytes_of("cutonce-one")
    assert instagram.requests("graphql", "cutonce-one") == 1


async def test_the_public_page_is_the_fallback_for_the_api(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    status, _ = await scrape(client, "refused-one")
    assert status == 200
    content = (media_root / "refused-one/refused-one.mp4").read_bytes()
    assert [content] == instagram.bytes_of("refused-one")
    assert instagram.requests("post_page", "refused-one") == 1


async def test_stale_tokens_are_renewed_once(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(SCRAPE_CONCURRENCY="1")
    assert (await scrape(client, "reel-before"))[0] == 200
    assert (await scrape(client, "stale-one"))[0] == 200
    assert instagram.requests("graphql", "stale-one") == 2
    assert instagram.requests("start_page") == 2


async def test_refusals_cause_only_requests_that_may_help(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(SCRAPE_CONCURRENCY="1")
    for number in range(3):
        assert (await scrape(client, f"forbidden-{number}"))[0] == 403
    assert instagram.requests("start_page") == 1
    assert instagram.requests("graphql") == 3
    assert instagram.requests("web_query") == 3
    # Each post is requested as /p/ and as /reel/.
    assert instagram.requests("post_page") == 6


async def test_an_exceeded_pace_returns_retry_after(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(INSTAGRAM_MAX_QUERIES="3", SCRAPE_CONCURRENCY="1")
    async with client.post("/scrape", json={"url": REEL.format("forbidden-one")}) as response:
        assert (response.status, (await response.json())["code"]) == (429, "pace_exceeded")
        assert int(response.headers["Retry-After"]) > 0
    assert (instagram.requests("post_page"), instagram.requests("embed_page")) == (2, 0)


@both_modes
async def test_instagram_gets_no_request_during_the_cool_down(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="600")
    await scrape(client, "reel-known")
    assert (await scrape(client, "limitedbare-one"))[0] == 429
    requests = instagram.requests()
    async with client.post("/scrape", json={"url": REEL.format("reel-other")}) as response:
        assert response.status == 429
        assert 0 < int(response.headers["Retry-After"]) <= 600
    assert (await scrape(client, "reel-known"))[0] == 200
    assert instagram.requests() == requests


@both_modes
async def test_instagram_is_queried_again_after_the_cool_down(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="0.5")
    assert (await scrape(client, "limitedbare-one"))[0] == 429
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await scrape(client, "reel-other"))[0] == 429:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert instagram.requests("graphql", "reel-other") == 1


@both_modes
async def test_an_exceeded_pace_causes_no_request_to_instagram(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(INSTAGRAM_MAX_QUERIES="2", INSTAGRAM_WINDOW_SECONDS="600")
    for number in (1, 2):
        assert (await scrape(client, f"reel-pace{number}"))[0] == 200
    async with client.post("/scrape", json={"url": REEL.format("reel-pace3")}) as response:
        assert response.status == 429
        assert 0 < int(response.headers["Retry-After"]) <= 600
    assert instagram.requests("graphql") == 2
    assert (await scrape(client, "reel-pace1"))[0] == 200


async def test_a_session_file_gives_access_to_gated_posts(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    session = tmp_path / "session-someone"
    cookies = {"sessionid": "s3ss10n-1", "csrftoken": "t0ken-of-1", "ds_user_id": "1", "mid": "m"}
    session.write_bytes(pickle.dumps(cookies))
    client = await start_service(INSTAGRAM_SESSION_FILE=str(session), INSTAGRAM_USERNAME="someone")
    assert (await scrape(client, "loginonly-one"))[0] == 200
    assert (await scrape(client, "carousel-one"))[0] == 200


async def test_files_are_requested_without_cookies(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(SCRAPE_CONCURRENCY="1")
    for shortcode in ("carousel-first", "reel-second"):
        assert (await scrape(client, shortcode))[0] == 200
    assert instagram.requests("media") == 6
    assert instagram.requests("cookie") == 0


async def test_connections_to_the_cdn_are_reused(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(SCRAPE_CONCURRENCY="2")
    shortcodes = [f"carousel-{number}" for number in range(10)]
    answers = await asyncio.gather(*(scrape(client, shortcode) for shortcode in shortcodes))
    assert {status for status, _ in answers} == {200}
    assert instagram.requests("media") == 40
    assert instagram.connections() <= 4


async def test_an_invalid_body_is_a_400_with_the_reason(start_service: StartService) -> None:
    client = await start_service()
    for body, error in (
        (b"", "The body is not a JSON object"),
        (b"{", "The body is not a JSON object"),
        (b"[]", "The body is not a JSON object"),
        (b"null", "The body is not a JSON object"),
        (b'"https://www.instagram.com/p/SHORTCODE/"', "The body is not a JSON object"),
        (b"\xff\xfe\x00", "The body is not a JSON object"),
        (b"[" * 4000, "The body is not a JSON object"),
        (b"{}", "url: Field required"),
        (b'{"url": null}', "url: Input should be a valid string"),
        (b'{"url": 7}', "url: Input should be a valid string"),
        (b'{"url": ""}', "url: String should have at least 1 character"),
        (b'{"url": "https://example.com/p/SHORTCODE/"}', "Invalid URL format"),
        (
            b'{"url": "https://www.instagram.com/p/SHORTCODE/", "refresh": 1}',
            "refresh: Input should be a valid boolean",
        ),
    ):
        async with client.post("/scrape", data=body) as response:
            assert (response.status, (await response.json())["error"]) == (400, error), body


async def test_a_body_that_cannot_be_decompressed_is_a_400(start_service: StartService) -> None:
    client = await start_service()
    headers = {"Content-Encoding": "gzip"}
    async with client.post("/scrape", data=b"{}", headers=headers) as response:
        assert response.status == 400
        assert "its encoding does not match its headers" in (await response.json())["error"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    body=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.text() | st.floats(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["url", "refresh"]), inner),
        max_leaves=5,
    ).map(lambda data: json.dumps(data).encode())
)
async def test_no_body_causes_an_internal_error(client_for_bodies: Client, body: bytes) -> None:
    async with client_for_bodies.post("/scrape", data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]


@pytest.fixture
async def client_for_bodies(start_service: StartService) -> Client:
    return await start_service()


async def test_a_body_over_the_limit_is_a_413(start_service: StartService) -> None:
    client = await start_service(MAX_JSON_BODY_BYTES="100")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 50

    for body in (b" " * 101, chunks()):
        async with client.post("/scrape", data=body) as response:
            assert response.status == 413
            assert (await response.json())["error"] == "The body is larger than 100 bytes"


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("https://example.com/", 400),
        ("", 400),
        ("https://www.instagram.com/p/notfound-limits/", 404),
        ("https://www.instagram.com/p/servererror-limits/", 502),
        ("https://www.instagram.com/p/reel-limits/", 200),
    ],
)
async def test_every_response_shows_the_rate_limit(
    instagram: StandIn, start_service: StartService, url: str, status: int
) -> None:
    client = await start_service(RATE_LIMIT_MAX_REQUESTS="7")
    async with client.post("/scrape", json={"url": url}) as response:
        assert response.status == status
        assert response.headers["RateLimit-Limit"] == "7"
        assert response.headers["RateLimit-Remaining"] == "6"
        assert "RateLimit-Reset" in response.headers
