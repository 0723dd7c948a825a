"""Which files are stored, depending on the CDN's answers and on the sources."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrapper.errors import MediaIncomplete, ScrapeError
from scrapper.instagram.client import Instagram
from scrapper.instagram.files.kinds import is_whole, read_kind
from scrapper.library.post import Fetch, Post
from scrapper.settings import load_settings
from tests.conftest import Client, StartService, stored_files
from tests.instagram import Answer, Scenario, StandIn
from tests.instagram.posts import content_of

POST = "https://www.instagram.com/p/{}/"
MEDIA = Path(__file__).parents[2] / "instagram/media"

JPEG, VIDEO, SILENT = Answer("photo.jpg"), Answer("video.mp4"), Answer("silent.mp4")
AVIF = Answer("picture.avif", "image/avif")
GONE, BROKEN, BUSY = Answer(status=404), Answer(status=500), Answer(status=503)
CUT, DRIP = Answer(only=1000), Answer(wire="drip")


async def scrape(client: Client, shortcode: str, **body: Any) -> tuple[int, dict[str, Any]]:
    async with client.post("/scrape", json={"url": POST.format(shortcode), **body}) as response:
        return response.status, await response.json()


def contents_of(post: dict[str, Any]) -> list[bytes]:
    return [Path(item["path"]).read_bytes() for item in post["media"]]


def suffixes_of(post: dict[str, Any]) -> list[str]:
    return [Path(item["path"]).suffix for item in post["media"]]


def second_video(media: dict[str, Any]) -> dict[str, Any]:
    """Add another candidate for each video."""
    for item in (media, *media.get("carousel_media", ())):
        for version in item.get("video_versions", ())[:1]:
            url = version["url"].replace("/best/", "/second/")
            item["video_versions"].append({**version, "url": url, "width": 90, "height": 160})
    return media


class Case(NamedTuple):
    about: str
    shape: str
    answers: Mapping[str, Sequence[Answer]]
    files: Sequence[str] = ()
    """The names of the files in ``media`` that must be stored, in order."""
    missing: Sequence[int] = ()
    code: str = ""
    change: Callable[[dict[str, Any]], dict[str, Any]] | None = second_video


CAROUSEL = ("photo.jpg", "video.mp4", "photo2.jpg")
CASES = [
    Case(
        "all files are fine",
        "carousel",
        {},
        CAROUSEL,
    ),
    Case(
        "a video is a picture",
        "carousel",
        {"best/2": [JPEG], "second/2": [JPEG]},
        ("photo.jpg", "photo2.jpg"),
        [2],
    ),
    Case(
        "a slide fails with 503 once",
        "carousel",
        {"best/2": [BUSY, VIDEO]},
        CAROUSEL,
    ),
    Case(
        "a slide fails with 500 every time",
        "carousel",
        {"best/2": [BROKEN], "second/2": [BROKEN]},
        ("photo.jpg", "photo2.jpg"),
        [2],
    ),
    Case(
        "a slide is cut off every time",
        "carousel",
        {"best/3": [CUT], "small/3": [CUT]},
        ("photo.jpg", "video.mp4"),
        [3],
    ),
    Case(
        "a slide is cut off once",
        "carousel",
        {"best/3": [CUT, Answer()]},
        CAROUSEL,
    ),
    Case(
        "a file fails with 502 once",
        "video",
        {"best/1": [Answer(status=502), VIDEO]},
        ["video.mp4"],
    ),
    Case(
        "the first candidate fails with 500",
        "video",
        {"best/1": [BROKEN], "second/1": [VIDEO]},
        ["video.mp4"],
    ),
    Case(
        "the first candidate fails with 404",
        "photo",
        {"best/1": [GONE], "small/1": [JPEG]},
        ["photo.jpg"],
    ),
    Case(
        "a picture is labelled as a video",
        "video",
        {"best/1": [Answer("photo.jpg", "video/mp4")], "second/1": [VIDEO]},
        ["video.mp4"],
    ),
    Case(
        "the first candidate of a video is AVIF",
        "video",
        {"best/1": [AVIF], "second/1": [VIDEO]},
        ["video.mp4"],
    ),
    Case(
        "all candidates of a video are pictures",
        "video",
        {"best/1": [AVIF], "second/1": [JPEG]},
        code="media_unexpected",
    ),
    Case(
        "a picture is WebP",
        "photo",
        {"best/1": [Answer("picture.webp", "image/jpeg")]},
        ["picture.webp"],
    ),
    Case(
        "a picture is AVIF",
        "photo",
        {"best/1": [AVIF]},
        ["picture.avif"],
    ),
    Case(
        "a picture is PNG",
        "photo",
        {"best/1": [Answer("picture.png", "image/pjpeg")]},
        ["picture.png"],
    ),
    Case(
        "a picture is GIF",
        "photo",
        {"best/1": [Answer("picture.gif", "image/gif")]},
        ["picture.gif"],
    ),
    Case(
        "a picture is HEIC",
        "photo",
        {"best/1": [Answer("picture.heic", "image/heif")]},
        ["picture.heic"],
    ),
    Case(
        "the content type is misspelled",
        "photo",
        {"best/1": [Answer("photo.jpg", "image/jpg")]},
        ["photo.jpg"],
    ),
    Case(
        "the content type is application/mp4",
        "video",
        {"best/1": [Answer("video.mp4", "application/mp4")]},
        ["video.mp4"],
    ),
    Case(
        "the content type is wrong",
        "video",
        {"best/1": [Answer("video.mp4", "text/html")]},
        ["video.mp4"],
    ),
    Case(
        "a picture is an HTML page",
        "photo",
        {
            "best/1": [Answer("text:<html>Log in</html>", "application/octet-stream")],
            "small/1": [JPEG],
        },
        ["photo.jpg"],
    ),
    Case(
        "a video is plain text",
        "video",
        {"best/1": [Answer("text:Bad URL", "video/mp4")], "second/1": [VIDEO]},
        ["video.mp4"],
    ),
    Case(
        "an unrequested range covers the file",
        "video",
        {"best/1": [Answer(wire="part")]},
        ["video.mp4"],
    ),
    Case(
        "an unrequested range covers half",
        "video",
        {"best/1": [Answer(wire="half")], "second/1": [VIDEO]},
        ["video.mp4"],
    ),
    Case(
        "no length, but complete",
        "video",
        {"best/1": [Answer(wire="bare")]},
        ["video.mp4"],
    ),
    Case(
        "no length, cut off once",
        "video",
        {"best/1": [Answer(wire="bare", only=6000), VIDEO]},
        ["video.mp4"],
    ),
    Case(
        "no length, and the first candidate is cut off",
        "video",
        {"best/1": [Answer(wire="bare", only=6000)], "second/1": [VIDEO]},
        ["video.mp4"],
    ),
    Case(
        "no length, cut off every time",
        "video",
        {
            "best/1": [Answer(wire="bare", only=6000)],
            "second/1": [Answer(wire="chunked", only=6000)],
        },
        code="media_incomplete",
    ),
    Case(
        "compressed without being requested",
        "video",
        {"best/1": [Answer(wire="packed")]},
        ["video.mp4"],
    ),
    Case(
        "compressed and cut off",
        "video",
        {"best/1": [Answer(wire="packed", only=5000)], "second/1": [VIDEO]},
        ["video.mp4"],
    ),
    Case(
        "chunked and cut off",
        "photo",
        {"best/1": [Answer(wire="chunked", only=2000)], "small/1": [JPEG]},
        ["photo.jpg"],
    ),
    Case(
        "the second candidate has sound",
        "video",
        {"best/1": [SILENT], "second/1": [VIDEO]},
        ["video.mp4"],
    ),
    Case(
        "no candidate has sound",
        "video",
        {"best/1": [SILENT], "second/1": [Answer("silent.mp4")]},
        ["silent.mp4"],
    ),
    Case(
        "the first candidate of a video is a sound",
        "video",
        {"best/1": [Answer("sound.m4a")], "second/1": [VIDEO]},
        ["video.mp4"],
    ),
    Case(
        "only the silent candidate is available",
        "video",
        {"best/1": [SILENT], "second/1": [GONE]},
        ["silent.mp4"],
    ),
    Case(
        "a video is QuickTime",
        "video",
        {"best/1": [Answer("movie.mov", "video/quicktime")]},
        ["movie.mov"],
    ),
    Case(
        "the failures differ",
        "carousel",
        {
            "best/1": [GONE],
            "small/1": [GONE],
            "best/2": [CUT],
            "second/2": [CUT],
            "best/3": [GONE],
            "small/3": [GONE],
        },
        code="media_incomplete",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.about)
async def test_best_available_file_of_each_item_is_stored(
    instagram: StandIn, start_service: StartService, media_root: Path, case: Case
) -> None:
    instagram.set_scenario(
        "case", Scenario("", shape=case.shape, answers=case.answers, change=case.change)
    )
    status, post = await scrape(await start_service(), "case-one")
    assert post.get("code", "") == case.code
    if case.code:
        assert stored_files(media_root) == set()
        return
    assert (status, post["missing"]) == (200, list(case.missing))
    assert contents_of(post) == [content_of(name) for name in case.files]
    assert suffixes_of(post) == [name[name.index(".") :] for name in case.files]
    for item, name in zip(post["media"], case.files, strict=True):
        assert item["has_audio"] is (None if item["type"] == "image" else name != "silent.mp4")
    assert not any(name.endswith(".part") for name in stored_files(media_root))


async def test_rate_limit_of_the_cdn_stops_the_post(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    answers = {"best/2": [Answer(status=429)]}
    instagram.set_scenario("limit", Scenario("", shape="carousel", answers=answers))
    status, post = await scrape(await start_service(), "limit-one")
    assert (status, post["code"]) == (429, "instagram_rate_limited")
    assert stored_files(media_root) == set()


async def test_rate_limit_for_the_cover_does_not_stop_the_post(
    instagram: StandIn, start_service: StartService
) -> None:
    answers = {"best/1": [VIDEO], "small/1": [Answer(status=429)]}

    def change(media: dict[str, Any]) -> dict[str, Any]:
        del media["image_versions2"]["candidates"][0]
        return media

    instagram.set_scenario("limit", Scenario("", answers=answers, change=change))
    status, post = await scrape(await start_service(), "limit-one")
    assert (status, post["thumbnail"]) == (200, None)


@pytest.mark.parametrize(("signed_anew", "most"), [(False, 5 * 2), (True, 3 * 5 * 2)])
async def test_number_of_requests_for_a_file_is_limited(
    instagram: StandIn, start_service: StartService, signed_anew: bool, most: int
) -> None:
    descriptions = count()

    def change(media: dict[str, Any]) -> dict[str, Any]:
        [version] = media["video_versions"]
        url, expiry = version["url"].split("&oe=")
        if signed_anew:
            expiry = f"{int(expiry, 16) - next(descriptions):X}"
        media["video_versions"] = [
            {**version, "url": f"{url.replace('/best/', f'/best{number}/')}&oe={expiry}"}
            for number in range(9)
        ]
        return media

    # The other URLs return pictures.
    answers = {f"best{number}/1": [CUT] for number in range(9)}
    instagram.set_scenario("never", Scenario("", answers=answers, change=change))
    assert (await scrape(await start_service(), "never-one"))[1]["code"] == "media_incomplete"
    # For each description with new URLs, five are tried twice. The cover is tried at most twice.
    assert most <= instagram.requests("media", "never-one") <= most + 2
    described = [instagram.requests(kind, "never-one") for kind in ("graphql", "web_query")]
    assert described == [2, 1]


async def test_broken_connection_counts_as_an_attempt(
    instagram: StandIn, start_service: StartService
) -> None:
    answers = {name: [Answer(wire="reset")] for name in ("best/1", "small/1")}
    instagram.set_scenario("noanswer", Scenario("", shape="photo", answers=answers))
    _, post = await scrape(await start_service(), "noanswer-one")
    assert post["code"] == "instagram_unreachable"
    assert instagram.requests("media", "noanswer-one") == 2 * 2


# ---- files from other sources


def withheld(media: dict[str, Any]) -> dict[str, Any]:
    url = "https://static.cdninstagram.com/rsrc.php/null.jpg"
    media["image_versions2"]["candidates"] = [{"url": url, "width": 320, "height": 400}]
    return media


def over_http(media: dict[str, Any]) -> dict[str, Any]:
    for candidate in media["image_versions2"]["candidates"]:
        candidate["url"] = candidate["url"].replace("https://", "http://")
    return media


async def test_withheld_files_come_from_another_source(
    instagram: StandIn, start_service: StartService
) -> None:
    changes = {"api": withheld, "web": withheld}
    instagram.set_scenario("withheld", Scenario("", shape="photo", change_by=changes))
    assert (await scrape(await start_service(), "withheld-one"))[0] == 200


async def test_files_withheld_by_every_source_need_a_login(
    instagram: StandIn, start_service: StartService
) -> None:
    instagram.set_scenario("withheld", Scenario("", shape="photo", change=withheld))
    status, post = await scrape(await start_service(), "withheld-one")
    assert (status, post["code"]) == (403, "login_required")


@pytest.mark.parametrize("answer", [Answer(), GONE])
async def test_http_url_is_tried_once_over_https(
    instagram: StandIn, start_service: StartService, answer: Answer
) -> None:
    answers = {"best/1": [answer], "small/1": [GONE]}
    scenario = Scenario("", shape="photo", change=over_http, answers=answers)
    instagram.set_scenario("plain", scenario)
    status, post = await scrape(await start_service(), "plain-one")
    expected = (200, None) if answer.status == 200 else (403, "login_required")
    assert (status, post.get("code")) == expected


async def test_http_url_is_replaced_by_one_from_another_source(
    instagram: StandIn, start_service: StartService
) -> None:
    changes = {"api": over_http_and_gone}
    scenario = Scenario("", shape="photo", change_by=changes, answers={"gone/1": [GONE]})
    instagram.set_scenario("plain", scenario)
    assert (await scrape(await start_service(), "plain-one"))[0] == 200
    assert instagram.requests("media", "plain-one") == 2


def over_http_and_gone(media: dict[str, Any]) -> dict[str, Any]:
    media["image_versions2"]["candidates"] = over_http(media)["image_versions2"]["candidates"][:1]
    [candidate] = media["image_versions2"]["candidates"]
    candidate["url"] = candidate["url"].replace("/best/", "/gone/")
    return media


async def test_file_that_fails_comes_from_another_source(
    instagram: StandIn, start_service: StartService
) -> None:
    def other(media: dict[str, Any]) -> dict[str, Any]:
        [version] = media["carousel_media"][1]["video_versions"]
        version["url"] = version["url"].replace("/best/", "/other/")
        return media

    answers = {"best/2": [GONE], "other/2": [VIDEO]}
    scenario = Scenario("", shape="carousel", change_by={"web": other}, answers=answers)
    instagram.set_scenario("other", scenario)
    status, post = await scrape(await start_service(), "other-one")
    assert (status, post["missing"]) == (200, [])
    assert instagram.requests("graphql", "other-one") == 2
    assert instagram.requests("web_query", "other-one") == 1


async def test_smaller_picture_from_another_source_replaces_failed_ones(
    instagram: StandIn, start_service: StartService
) -> None:
    def six_gone(media: dict[str, Any]) -> dict[str, Any]:
        [best, *_] = large(media)["image_versions2"]["candidates"]
        media["image_versions2"]["candidates"] = [
            {**best, "url": best["url"].replace("/large/", f"/gone{number}/")}
            for number in range(6)
        ]
        return media

    answers = {**SIZES, **{f"gone{number}/1": [GONE] for number in range(6)}}
    changes = {"api": six_gone, "web": small, "page": six_gone}
    instagram.set_scenario("other", Scenario("", shape="photo", change_by=changes, answers=answers))
    status, post = await scrape(await start_service(), "other-one")
    assert (status, post["media"][0]["width"]) == (200, 640)


def as_single(media: dict[str, Any]) -> dict[str, Any]:
    return {**media, "media_type": 1, "carousel_media": None, "carousel_media_count": None}


def with_slides(*numbers: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(media: dict[str, Any]) -> dict[str, Any]:
        slides = media["carousel_media"]
        slides = [slides[number - 1] for number in numbers]
        return {**media, "carousel_media": slides, "carousel_media_count": len(slides)}

    return change


@pytest.mark.parametrize(
    ("renewed", "stored"),
    [
        pytest.param(as_single, [1, 3], id="a single picture"),
        pytest.param(with_slides(1), [1, 3], id="one slide"),
        pytest.param(with_slides(1, 2), [1, 3], id="two slides"),
        pytest.param(with_slides(1, 2, 3, 3), [1, 3, 4], id="four slides"),
    ],
)
async def test_renewed_description_never_drops_downloaded_files(
    instagram: StandIn,
    start_service: StartService,
    media_root: Path,
    renewed: Callable[[dict[str, Any]], dict[str, Any]],
    stored: list[int],
) -> None:
    descriptions = count()

    def second_is_renewed(media: dict[str, Any]) -> dict[str, Any]:
        return renewed(media) if next(descriptions) else media

    changes = {"api": second_is_renewed, "web": renewed}
    answers = {f"{name}/2": [Answer(status=403)] for name in ("best", "small")}
    scenario = Scenario("", shape="carousel", change_by=changes, answers=answers)
    instagram.set_scenario("renewed", scenario)
    status, post = await scrape(await start_service(), "renewed-one")
    assert (status, post["missing"]) == (200, [2])
    names = [f"renewed-one_{number}.jpg" for number in stored]
    assert [Path(item["path"]).name for item in post["media"]] == names
    assert {Path(name).name for name in stored_files(media_root)} == {*names, "post.json"}


async def test_single_item_that_fails_may_turn_out_to_be_a_carousel(
    instagram: StandIn, start_service: StartService
) -> None:
    answers = {"cover/1": [Answer(status=403)]}

    def only_cover(media: dict[str, Any]) -> dict[str, Any]:
        [best, *_] = media["image_versions2"]["candidates"]
        cover = {**best, "url": best["url"].replace("/best/", "/cover/")}
        return as_single({**media, "image_versions2": {"candidates": [cover]}})

    scenario = Scenario("", shape="carousel", change_by={"api": only_cover}, answers=answers)
    instagram.set_scenario("single", scenario)
    status, post = await scrape(await start_service(), "single-one")
    assert (status, post["missing"]) == (200, [])
    assert contents_of(post) == [content_of(name) for name in CAROUSEL]


# ---- larger pictures


def small(media: dict[str, Any]) -> dict[str, Any]:
    for candidate in media["image_versions2"]["candidates"]:
        candidate["url"] = candidate["url"].replace("/best/", "/medium/")
        candidate |= {"width": 640, "height": 800}
    return media | {"original_width": 1440, "original_height": 1800}


def large(media: dict[str, Any]) -> dict[str, Any]:
    for candidate in media["image_versions2"]["candidates"]:
        candidate["url"] = candidate["url"].replace("/best/", "/large/")
        candidate |= {"width": 1440, "height": 1800}
    return media | {"original_width": 1440, "original_height": 1800}


SIZES = {"medium/1": [Answer("medium.jpg")], "large/1": [Answer("large.jpg")]}


@pytest.mark.parametrize("source", ["page", "web"])
async def test_largest_picture_of_all_sources_is_stored(
    instagram: StandIn, start_service: StartService, source: str
) -> None:
    changes = {"api": small, "web": small, "page": small, source: large}
    page = "" if source == "page" else "login"
    scenario = Scenario("", shape="photo", page=page, change_by=changes, answers=SIZES)
    instagram.set_scenario("small", scenario)
    client = await start_service()
    # The page is tried first. If it has no larger pictures, the web app's query is tried next time.
    for number in range(2):
        status, post = await scrape(client, f"small-{number}")
    [item] = post["media"]
    assert (status, item["width"], item["height"]) == (200, 1440, 1800)
    assert contents_of(post) == [content_of("large.jpg")]


@pytest.mark.parametrize("larger_from", ["page", "web", ""])
async def test_search_for_larger_pictures_takes_few_requests(
    instagram: StandIn, start_service: StartService, larger_from: str
) -> None:
    changes = {"api": small, "web": small, "page": small}
    if larger_from:
        changes[larger_from] = large
    scenario = Scenario("", shape="photo", change_by=changes, answers=SIZES)
    instagram.set_scenario("many", scenario)
    client = await start_service()
    posts = [await scrape(client, f"many-{number:02}") for number in range(20)]
    assert {status for status, _ in posts} == {200}
    metadata = instagram.requests() - sum(
        instagram.requests(kind) for kind in ("media", "cookie", "account")
    )
    assert metadata <= 25
    widths = [post["media"][0]["width"] for _, post in posts]
    assert widths.count(1440) >= (18 if larger_from else 0)


async def test_smaller_picture_is_stored_if_the_largest_is_gone(
    instagram: StandIn, start_service: StartService
) -> None:
    changes = {"api": large, "page": small}
    answers = {**SIZES, "large/1": [GONE]}
    instagram.set_scenario(
        "fallen", Scenario("", shape="photo", change_by=changes, answers=answers)
    )
    status, _ = await scrape(await start_service(), "fallen-one")
    assert status == 200


# ---- the deadline


async def test_files_complete_at_the_deadline_are_stored(
    instagram: StandIn, start_service: StartService
) -> None:
    instagram.set_scenario("stuck", Scenario("", shape="carousel", media="slidedrip"))
    status, post = await scrape(await start_service(SCRAPE_TIMEOUT_SECONDS="2"), "stuck-one")
    assert (status, post["missing"], len(post["media"])) == (200, [2], 2)


async def test_very_slow_slide_does_not_stop_the_others(
    instagram: StandIn, start_service: StartService
) -> None:
    answers = {"best/1": [GONE], "small/1": [GONE], "best/2": [DRIP], "small/2": [DRIP]}
    instagram.set_scenario("dripping", Scenario("", shape="ten", answers=answers))
    status, post = await scrape(await start_service(SCRAPE_TIMEOUT_SECONDS="3"), "dripping-one")
    assert (status, post["missing"]) == (200, [1, 2])


async def test_expired_urls_are_renewed_once_for_all_files(
    instagram: StandIn, start_service: StartService
) -> None:
    instagram.set_scenario("expired", Scenario("", shape="ten", media="worn"))
    status, post = await scrape(await start_service(), "expired-one")
    assert (status, post["missing"]) == (200, [])
    described = [instagram.requests(kind, "expired-one") for kind in ("graphql", "web_query")]
    assert described == [2, 0]


async def test_stalled_file_is_replaced_by_its_next_candidate(
    instagram: StandIn, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.instagram.client.STALLED_SECONDS", 0.3)
    answers = {"best/2": [Answer(wire="stall")], "second/2": [VIDEO]}
    instagram.set_scenario(
        "stall", Scenario("", shape="carousel", change=second_video, answers=answers)
    )
    status, post = await scrape(await start_service(), "stall-one")
    assert (status, post["missing"]) == (200, [])


async def test_slow_files_are_abandoned_while_others_wait(
    instagram: StandIn, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.instagram.files.fetch._SPEED_AFTER_SECONDS", 0.2)
    names = [f"{name}/{number}" for name in ("best", "small") for number in range(1, 5)]
    answers = {name: [DRIP] for name in names}
    instagram.set_scenario("slowly", Scenario("", shape="ten", answers=answers))
    status, post = await scrape(await start_service(SCRAPE_TIMEOUT_SECONDS="3"), "slowly-one")
    assert (status, post["missing"]) == (200, [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("scenario", "files"),
    [
        (Scenario("", shape="photo", answers={"best/1": [DRIP], "small/1": [JPEG]}), 1),
        (
            Scenario(
                "",
                shape="carousel",
                answers={"best/2": [DRIP], "second/2": [VIDEO]},
                change=second_video,
            ),
            3,
        ),
    ],
)
async def test_slow_file_is_replaced_by_its_next_candidate(
    instagram: StandIn,
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
    scenario: Scenario,
    files: int,
) -> None:
    monkeypatch.setattr("scrapper.instagram.files.fetch._SPEED_AFTER_SECONDS", 0.2)
    instagram.set_scenario("slowly", scenario)
    status, post = await scrape(await start_service(SCRAPE_TIMEOUT_SECONDS="5"), "slowly-one")
    assert (status, len(post.get("media", ()))) == (200, files)


async def test_files_come_only_from_the_cdn(
    instagram: StandIn, start_service: StartService
) -> None:
    def change(media: dict[str, Any]) -> dict[str, Any]:
        [best, *others] = media["image_versions2"]["candidates"]
        media["image_versions2"]["candidates"] = [
            {**best, "url": POST.format("other-page")},
            {**best, "url": best["url"].replace("/best/", "/lead/")},
            *others,
        ]
        return media

    answers = {"lead/1": [Answer(wire="to " + POST.format("other-page"))], "small/1": [JPEG]}
    instagram.set_scenario("cdn", Scenario("", shape="photo", change=change, answers=answers))
    assert (await scrape(await start_service(), "cdn-one"))[0] == 200
    assert instagram.requests("media", "cdn-one") == 2
    assert instagram.requests(shortcode="other-page") == 0


# ---- refreshes and missing files


async def test_refresh_keeps_old_files_that_it_cannot_replace(
    instagram: StandIn,
    start_service: StartService,
    media_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrapper.library.index._TRUSTED_SECONDS", 0)
    client = await start_service()
    instagram.set_scenario("old", Scenario("", shape="carousel"))
    _, first = await scrape(client, "old-one")
    lost = {"best/2": [GONE], "small/2": [GONE], "best/1": [Answer("picture.webp")]}
    instagram.set_scenario("old", Scenario("", shape="carousel", answers=lost))
    status, post = await scrape(client, "old-one", refresh=True)
    assert (status, post["missing"]) == (200, [])
    assert suffixes_of(post) == [".webp", ".mp4", ".jpg"]
    assert post["media"][1] == first["media"][1]
    assert contents_of(post)[1] == content_of("video.mp4")
    assert post["thumbnail"]
    assert len(stored_files(media_root)) == 5
    # After an hour, the missing file is requested again, and arrives.
    instagram.set_scenario("old", Scenario("", shape="carousel"))
    manifest = media_root / "old-one/post.json"
    assert json.loads(manifest.read_text())["outdated"] == [2]
    assert (await scrape(client, "old-one"))[1]["cached"]
    age(manifest, 3700)
    assert not (await scrape(client, "old-one"))[1]["cached"]
    assert json.loads(manifest.read_text())["outdated"] == []


def age(manifest: Path, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(manifest, (moment, moment))


async def test_missing_slide_is_retried_with_exponential_backoff(
    instagram: StandIn,
    start_service: StartService,
    media_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrapper.library.index._TRUSTED_SECONDS", 0)
    client = await start_service()
    manifest = media_root / "oneslidegone-x/post.json"
    assert (await scrape(client, "oneslidegone-x"))[1]["missing"] == [2]
    for hours in (1, 2, 4, 8, 16, 24, 24):
        age(manifest, 3600 * hours - 60)
        assert (await scrape(client, "oneslidegone-x"))[1]["cached"]
        age(manifest, 3600 * hours + 60)
        _, post = await scrape(client, "oneslidegone-x")
        assert (post["cached"], post["missing"]) == (False, [2])


# ---- hypothesis: stored files are complete and correctly named


class Fetcher:
    """Downloads posts in this thread, without the service."""

    def __init__(self, instagram: StandIn, folder: Path) -> None:
        self._instagram = instagram
        self._folder = folder
        self._number = 0
        self._client = Instagram.from_settings(
            load_settings(media_root=folder, instagram_max_queries=0, min_free_disk_mb=0)
        )

    def fetch(self, scenario: Scenario) -> tuple[Path, Post]:
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        self._instagram.set_scenario("random", scenario)
        code = f"random-{self._number}"
        deadline = time.monotonic() + 600
        fetch = Fetch(code, POST.format(code), deadline)
        return folder, self._client.fetch(fetch, folder, query_gate=nullcontext)


@pytest.fixture
def fetcher(instagram: StandIn, tmp_path: Path) -> Fetcher:
    return Fetcher(instagram, tmp_path)


NAMES = sorted(path.name for path in MEDIA.iterdir())
TYPES = ["video/mp4", "image/jpeg", "text/html", "application/octet-stream", "", "x"]
ANSWERS = st.builds(
    Answer,
    file=st.sampled_from([*NAMES, *NAMES, "text:<html>", "text:nothing"]),
    content_type=st.sampled_from(TYPES),
    wire=st.sampled_from(["length", "bare", "chunked", "packed", "part", "half"]),
    only=st.none() | st.integers(1, 13_000),
    status=st.sampled_from([200] * 8 + [206, 403, 404, 500]),
)
EVERY_CANDIDATE = [f"{name}/{n}" for name in ("best", "small", "second") for n in (1, 2, 3)]


@settings(
    max_examples=int(os.environ.get("RANDOM_CUTS", "50")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    answers=st.fixed_dictionaries(
        {name: st.lists(ANSWERS, min_size=1, max_size=3) for name in EVERY_CANDIDATE}
    ),
    shape=st.sampled_from(["video", "photo", "carousel"]),
)
def test_incomplete_or_mislabelled_files_are_never_stored(
    fetcher: Fetcher, answers: dict[str, list[Answer]], shape: str
) -> None:
    scenario = Scenario("", shape=shape, answers=answers, change=second_video)
    try:
        folder, post = fetcher.fetch(scenario)
    except ScrapeError:
        return
    originals = {content_of(name): Path(name).suffix for name in NAMES}
    for item in post.files:
        path = folder / item.filename
        assert originals.get(path.read_bytes()) == path.suffix, answers
        with path.open("rb") as file:
            kind = read_kind(file)
            assert kind is not None
            assert is_whole(file, kind)
        assert kind.type == item.type
    assert {path.name for path in folder.iterdir()} == {item.filename for item in post.files}
    total = 3 if shape == "carousel" else 1
    assert sorted((*post.missing, *map(post.number_of, post.media))) == list(range(1, total + 1))


def test_post_without_files_is_an_error(fetcher: Fetcher) -> None:
    with pytest.raises(MediaIncomplete):
        fetcher.fetch(Scenario("", answers={"best/1": [CUT]}))
