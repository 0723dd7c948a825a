"""How the service responds when its sources answer or refuse, over a real socket."""

import asyncio
import json
import pickle
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrapper.errors import ScrapeError
from scrapper.instagram.client import Instagram
from scrapper.instagram.transport import TransportPool, tls_context
from scrapper.library.post import Fetch, Post
from scrapper.settings import load_settings
from tests.conftest import Client, StartService, both_modes
from tests.instagram import Scenario, StandIn
from tests.instagram.posts import Posts
from tests.process import PATIENCE_SECONDS, Service
from tests.service.handlers.test_jobs import finish

POST = "https://www.instagram.com/p/{}/"


async def scrape(client: Client, shortcode: str) -> tuple[int, dict[str, Any]]:
    async with client.post("/scrape", json={"url": POST.format(shortcode)}) as response:
        return response.status, await response.json()


def contents_of(post: dict[str, Any]) -> list[bytes]:
    return [Path(item["path"]).read_bytes() for item in post["media"]]


@pytest.mark.parametrize(
    "scenario",
    [
        "refused",
        "apiwait",
        "apinull",
        "apiretired",
        "apiclosed",
        "apihome",
        "apilimited",
        "apisilent",
        "webonly",
        "oldpage",
        "reelonly",
    ],
)
async def test_refused_post_comes_from_another_source(
    instagram: StandIn, start_service: StartService, scenario: str
) -> None:
    # A source that hangs gets half of the remaining time.
    timeout = "6" if scenario == "apisilent" else "20"
    client = await start_service(SCRAPE_TIMEOUT_SECONDS=timeout, INSTAGRAM_COOLDOWN_SECONDS="600")
    status, post = await scrape(client, f"{scenario}-one")
    assert (status, post.get("code"), post.get("missing")) == (200, None, [])
    assert contents_of(post) == instagram.bytes_of(f"{scenario}-one")
    # There is no cool-down: another source had the post, so any sign of a rate limit was wrong.
    assert (await scrape(client, "reel-next"))[0] == 200


class Outcome(NamedTuple):
    scenario: str
    status: int
    code: str
    cools_down: bool = False


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome("gone", 404, "post_not_found"),
        Outcome("gonewait", 404, "post_not_found"),
        Outcome("gonelimited", 404, "post_not_found"),
        Outcome("gonepage", 404, "post_not_found"),
        Outcome("goneblocked", 404, "post_not_found"),
        Outcome("removed", 404, "post_not_found"),
        Outcome("gated", 403, "login_required"),
        Outcome("gatednull", 403, "login_required"),
        Outcome("gatedwait", 403, "login_required"),
        Outcome("walled", 403, "login_required"),
        Outcome("walledhome", 403, "login_required"),
        Outcome("retiredwall", 403, "login_required"),
        Outcome("throttled", 429, "instagram_rate_limited", cools_down=True),
        Outcome("throttledpage", 429, "instagram_rate_limited", cools_down=True),
        Outcome("softblock", 429, "instagram_rate_limited", cools_down=True),
        Outcome("limited", 429, "instagram_rate_limited", cools_down=True),
        Outcome("wait", 429, "instagram_rate_limited"),
        Outcome("pagechanged", 403, "login_required"),
    ],
    ids=lambda outcome: outcome.scenario,
)
async def test_response_and_cool_down_when_all_sources_refuse(
    instagram: StandIn, start_service: StartService, outcome: Outcome
) -> None:
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="600")
    async with client.post(
        "/scrape", json={"url": POST.format(f"{outcome.scenario}-x")}
    ) as response:
        assert (response.status, (await response.json())["code"]) == (outcome.status, outcome.code)
        assert ("Retry-After" in response.headers) == (outcome.status == 429)
    status, body = await scrape(client, "reel-next")
    expected = (429, "cooling_down") if outcome.cools_down else (200, None)
    assert (status, body.get("code")) == expected


@pytest.mark.parametrize(
    ("scenario", "seconds"),
    [("limited", "17"), ("retry22", "86400"), ("retry400", "86400"), ("retrydate", "86400")],
)
async def test_retry_after_is_capped_at_a_day(
    instagram: StandIn, start_service: StartService, scenario: str, seconds: str
) -> None:
    client = await start_service()
    async with client.post("/scrape", json={"url": POST.format(f"{scenario}-x")}) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, seconds)


def memory_of(service: Service, name: str) -> int:
    """Return the service's memory in bytes: the peak (``VmHWM``) or the current (``VmRSS``)."""
    lines = Path(f"/proc/{service.pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def process(
    shared_stand_in: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service in its own process, which has already downloaded a post."""
    environment = {**shared_stand_in.environment, "INSTAGRAM_MAX_QUERIES": "0"}
    with Service(tmp_path_factory.mktemp("media"), environment) as service:
        assert service.scrape(POST.format("reel-first")).status_code == 200
        yield service


@pytest.mark.parametrize(
    ("scenario", "code"),
    [
        ("apiendless", "instagram_changed"),
        ("apibomb", "instagram_changed"),
        ("pageendless", "login_required"),
        ("pagebomb", "login_required"),
        ("apinested", "instagram_changed"),
        ("pagenested", "login_required"),
        ("apivalues", "instagram_changed"),
        ("apiloop", "instagram_changed"),
        ("cdnloop", "instagram_changed"),
    ],
)
def test_oversized_answer_is_refused_without_using_much_memory(
    instagram: StandIn, process: Service, scenario: str, code: str
) -> None:
    # This resets VmHWM; see proc_pid_clear_refs(5).
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    idle = memory_of(process, "VmRSS")
    assert process.scrape(POST.format(f"{scenario}-x")).json()["code"] == code
    assert memory_of(process, "VmHWM") - idle < 64_000_000
    assert process.scrape(POST.format(f"reel-after-{scenario}")).status_code == 200


@pytest.mark.parametrize("scenario", ["hugenumbers", "nullside", "cdnlength", "longcaption"])
async def test_odd_details_and_headers_never_break_the_download(
    instagram: StandIn, start_service: StartService, scenario: str
) -> None:
    status, post = await scrape(await start_service(), f"{scenario}-x")
    assert status == 200
    assert contents_of(post) == instagram.bytes_of(f"{scenario}-x")
    assert len(post["description"]) <= 10_000


@pytest.mark.parametrize(
    "scenario", ["unsorted", "unsortedvideo", "crops", "carousel", "twenty", "photo"]
)
async def test_best_candidate_is_stored_and_never_a_crop(
    instagram: StandIn, start_service: StartService, scenario: str
) -> None:
    status, post = await scrape(await start_service(), f"{scenario}-x")
    assert (status, contents_of(post)) == (200, instagram.bytes_of(f"{scenario}-x"))


@pytest.mark.parametrize("scenario", ["best400", "best403", "best404"])
async def test_candidate_refused_by_the_cdn_is_replaced_by_another(
    instagram: StandIn, start_service: StartService, scenario: str
) -> None:
    status, post = await scrape(await start_service(), f"{scenario}-x")
    assert (status, post["missing"]) == (200, [2] if scenario == "best404" else [])
    assert all(item["path"].endswith(".jpg") for item in post["media"])


async def test_fresh_description_replaces_urls_refused_by_the_cdn(
    instagram: StandIn, start_service: StartService
) -> None:
    status, _ = await scrape(await start_service(), "worn-x")
    assert status == 200
    assert instagram.requests("graphql", "worn-x") == 2


async def test_missing_items_of_a_carousel_are_listed(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    for cached in (False, True):
        status, post = await scrape(client, "oneslidegone-x")
        numbers = [item["path"].rpartition("_")[2] for item in post["media"]]
        assert (status, post["missing"], post["cached"]) == (200, [2], cached)
        assert numbers == ["1.jpg", "3.jpg"]


async def test_slide_without_a_url_comes_from_another_source(
    instagram: StandIn, start_service: StartService
) -> None:
    status, post = await scrape(await start_service(), "slidefrompage-x")
    assert (status, post["missing"], len(post["media"])) == (200, [], 3)


async def test_details_are_read_from_the_media_object(
    instagram: StandIn, start_service: StartService
) -> None:
    _, post = await scrape(await start_service(), "carousel-details")
    assert post["details"] == {
        "owner_name": "Some One",
        "owner_id": "100",
        "coauthors": ["co.author"],
        "likes": 1234,
        "comments": 56,
        "views": None,
        "location": "Some Place",
        "tagged": ["tagged.one"],
        "music": {"title": "Original audio", "artist": "someone", "url": None},
        "product_type": "carousel_container",
    }
    assert [item["alt_text"] for item in post["media"]] == [
        "Alt text 1.",
        "Alt text 2.",
        "Alt text 3.",
    ]
    assert [item["duration"] for item in post["media"]] == [None, 1.0, None]


async def test_shortcode_of_a_private_post_keeps_its_key(
    instagram: StandIn, start_service: StartService
) -> None:
    shortcode = "reel-aaaaaa" + "k" * 28
    status, post = await scrape(await start_service(), shortcode)
    assert (status, post["shortcode"]) == (200, shortcode)


@pytest.mark.parametrize(("form", "status"), [("lsd", 200), ("eqmc", 200), ("none", 200)])
async def test_post_is_found_with_each_form_of_tokens(
    instagram: StandIn, start_service: StartService, form: str, status: int
) -> None:
    instagram.set_token_form(form)
    assert (await scrape(await start_service(), "reel-tokens"))[0] == status
    assert (instagram.requests("graphql") == 0) == (form == "none")


@pytest.mark.parametrize("shape", ["video", "photo", "carousel"])
async def test_embed_page_has_posts_that_the_page_refuses(
    instagram: StandIn, start_service: StartService, shape: str
) -> None:
    instagram.set_scenario(
        "framed", Scenario("", api="wait", page="login", shape=shape, embed="post")
    )
    status, post = await scrape(await start_service(), "framed-x")
    assert (status, post.get("missing"), post.get("owner")) == (200, [], "someone")
    assert contents_of(post) == instagram.bytes_of("framed-x")


@pytest.mark.parametrize(
    ("shape", "embed"), [("novideo", "post"), ("video", "empty"), ("video", "notfound")]
)
async def test_embed_page_without_the_file_does_not_decide_the_error(
    instagram: StandIn, start_service: StartService, shape: str, embed: str
) -> None:
    scenario = Scenario("", api="forbidden", page="login", shape=shape, embed=embed)
    instagram.set_scenario("framed", scenario)
    status, body = await scrape(await start_service(), "framed-x")
    assert (status, body["code"]) == (403, "login_required")


@pytest.mark.parametrize("by", ["api", "page", "embed", "info"])
async def test_shortcode_of_a_slide_returns_the_whole_post(
    instagram: StandIn, start_service: StartService, tmp_path: Path, by: str
) -> None:
    def change(media: dict[str, Any]) -> dict[str, Any]:
        media["carousel_media"][1]["code"] = "slide-two"
        return {**media, "code": "carousel-whole", "pk": "1"}

    answers: dict[str, Any] = {
        name: "post" if name == by else "login" for name in ("api", "page", "embed")
    }
    instagram.set_scenario("slide", Scenario("", shape="carousel", change=change, **answers))
    client = await start_service(**session_file(tmp_path, "alive"))
    for cached in (False, True):
        status, post = await scrape(client, "slide-two")
        assert (status, post.get("shortcode"), post.get("cached")) == (
            200,
            "slide-two",
            cached,
        )
    assert contents_of(post) == instagram.bytes_of("slide-two")
    url = POST.format("slide-two")
    async with client.get("/download", params={"url": url}) as response:
        assert await response.read() == instagram.bytes_of("slide-two")[1]
    async with client.post("/jobs", json={"urls": [url]}) as response:
        job = await finish(client, await response.json())
    assert job["posts"][0]["shortcode"] == "slide-two"


async def test_document_in_the_settings_replaces_the_built_in_one(
    instagram: StandIn, start_service: StartService
) -> None:
    instagram.accept_document("1234567890")
    client = await start_service(INSTAGRAM_DOC_ID="1234567890")
    assert (await scrape(client, "webonly-x"))[0] == 200


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("api", "wait"),
        ("api", "nullinfo"),
        ("api", "forbidden"),
        ("web", "retired"),
        ("root", "retired"),
        ("page", "loginroute"),
        ("embed", "login"),
        ("page", "throttled"),
    ],
)
async def test_batch_succeeds_while_one_source_fails(
    instagram: StandIn,
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    answer: str,
) -> None:
    monkeypatch.setattr("scrapper.instagram.order._SCOUT_SECONDS", 600)
    monkeypatch.setattr("scrapper.instagram.order._SCOUT_SHARE", 1)
    instagram.override_answer(source, answer)
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="600", SCRAPE_TIMEOUT_SECONDS="600")
    shortcodes = [f"photo-batch{number}" for number in range(20)]
    results = await asyncio.gather(*(scrape(client, shortcode) for shortcode in shortcodes))
    assert {status for status, _ in results} == {200}
    kinds = ("start_page", "graphql", "root_query", "web_query", "post_page", "embed_page")
    assert sum(instagram.requests(kind) for kind in kinds) <= 25


async def test_batch_takes_few_requests_while_the_api_refuses(
    instagram: StandIn, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.instagram.order._SCOUT_SECONDS", 600)
    monkeypatch.setattr("scrapper.instagram.order._SCOUT_SHARE", 1)
    for source in ("api", "root", "web"):
        instagram.override_answer(source, "wait")
    client = await start_service(SCRAPE_TIMEOUT_SECONDS="600")
    shortcodes = [f"photo-batch{number}" for number in range(50)]
    results = await asyncio.gather(*(scrape(client, shortcode) for shortcode in shortcodes))
    assert {status for status, _ in results} == {200}
    kinds = ("start_page", "graphql", "root_query", "web_query", "post_page", "embed_page")
    assert sum(instagram.requests(kind) for kind in kinds) <= 55
    async with client.get("/ready") as response:
        order = (await response.json())["instagram"]["logged_out"]["sources"]
    assert order == ["page", "embed", "api", "root_query", "logged_out_api"]
    async with client.get("/metrics") as response:
        text = await response.text()
    assert 'instagram_requests_total{outcome="wait",source="api"} 1.0' in text
    assert 'instagram_requests_total{outcome="ok",source="page"} 50.0' in text


@both_modes
async def test_slowed_pace_survives_a_restart(
    instagram: StandIn, start_service: StartService, mode: dict[str, str]
) -> None:
    for _ in range(2):
        client = await start_service(INSTAGRAM_MAX_QUERIES="200", SCRAPE_CONCURRENCY="1")
        async with client.get("/ready") as response:
            allowed = (await response.json())["instagram"]["logged_out"]["allowed"]
        if instagram.requests("graphql", "throttled-x") == 0:
            assert allowed == 200
            assert (await scrape(client, "throttled-x"))[0] == 429
        await client.close()
    assert allowed < 200


async def test_connections_through_a_socks_proxy_are_pooled(
    instagram: StandIn, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, instagram.socks_url)
    before = instagram.socks_connections()
    client = await start_service(SCRAPE_CONCURRENCY="1")
    for number in range(3):
        assert (await scrape(client, f"carousel-socks{number}"))[0] == 200
    assert instagram.connections() == 0
    assert instagram.socks_connections() - before == 2


@pytest.mark.parametrize("kind", ["proxy_url", "socks_url"])
def test_proxied_connections_disable_the_nagle_algorithm(
    instagram: StandIn, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, getattr(instagram, kind))
    pool = TransportPool(("instagram.com",), tls_context())
    deadline = time.monotonic() + PATIENCE_SECONDS
    with (
        closing(pool),
        pool.borrow(deadline) as transport,
        requests.Session() as session,
    ):
        session.mount("https://", transport)
        response = session.get("https://www.instagram.com/", stream=True)
        connection: Any = response.raw.connection
        # Without this, the kernel delays a body until the packet with its headers is acknowledged.
        assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_deadline_holds_behind_a_socks_proxy(
    instagram: StandIn, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, instagram.socks_url)
    client = await start_service(SCRAPE_TIMEOUT_SECONDS="2")
    status, body = await scrape(client, "silent-socks")
    assert (status, body["code"]) == (503, "deadline_exceeded")


def session_file(tmp_path: Path, sessionid: str) -> dict[str, str]:
    file = tmp_path / "session-someone"
    cookies = {"sessionid": f"{sessionid}-session", "csrftoken": "t0ken-of-1", "ds_user_id": "1"}
    file.write_bytes(pickle.dumps(cookies))
    file.chmod(0o600)
    return {"INSTAGRAM_SESSION_FILE": str(file), "INSTAGRAM_USERNAME": "someone"}


async def test_browser_cookies_give_access_to_gated_posts(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    file = tmp_path / "cookies.txt"
    lines = [
        f"#HttpOnly_.instagram.com\tTRUE\t/\tTRUE\t0\t{name}\t{value}"
        for name, value in (("sessionid", "alive-session"), ("csrftoken", "t0ken-of-1"))
    ]
    file.write_text("\n".join(lines))
    file.chmod(0o600)
    client = await start_service(INSTAGRAM_COOKIES_FILE=str(file))
    assert (await scrape(client, "private-cookies"))[0] == 200
    async with client.get("/ready") as response:
        assert (await response.json())["login"] == "active"


async def test_session_without_a_csrf_token_fetches_one_first(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    file = tmp_path / "cookies.txt"
    file.write_text(".instagram.com\tTRUE\t/\tTRUE\t0\tsessionid\talive-session\n")
    file.chmod(0o600)
    client = await start_service(INSTAGRAM_COOKIES_FILE=str(file), SCRAPE_CONCURRENCY="1")
    for number in range(2):
        assert (await scrape(client, f"private-{number}"))[0] == 200
    assert instagram.requests("account") == 3


async def test_account_is_used_only_for_posts_that_need_it(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    client = await start_service(**session_file(tmp_path, "alive"))
    for shortcode in ("reel-public", "refused-public", "gone-x"):
        await scrape(client, shortcode)
    assert instagram.requests("account") == 0
    assert (await scrape(client, "private-x"))[0] == 200
    assert instagram.requests("media_info", "private-x") == 1


async def test_login_can_be_used_first(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    client = await start_service(**session_file(tmp_path, "alive"), INSTAGRAM_LOGIN_USE="always")
    assert (await scrape(client, "reel-public"))[0] == 200
    assert instagram.requests("media_info", "reel-public") == 1


async def test_doubtful_session_is_checked_once(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    client = await start_service(**session_file(tmp_path, "expired401"))
    for number in range(2):
        url = f"https://www.instagram.com/p/private-{number}/"
        response = await client.post("/scrape", json={"url": url})
        assert response.status in (403, 429)
    assert (await (await client.get("/ready")).json())["login"] == "expired"
    # One request for the first post's media info, and one for the start page, to check the session.
    assert instagram.requests("account") == 2


async def test_cookies_that_instagram_rotates_are_stored(
    instagram: StandIn, start_service: StartService, tmp_path: Path, media_root: Path
) -> None:
    client = await start_service(**session_file(tmp_path, "alive"))
    url = "https://www.instagram.com/p/private-rotated/"
    assert (await client.post("/scrape", json={"url": url})).status == 200
    stored = json.loads((media_root / ".state" / "login.json").read_bytes())
    assert stored["cookies"]["csrftoken"] != "t0ken-of-1"
    assert stored["cookies"]["mid"]


@pytest.mark.parametrize(
    ("sessionid", "code"), [("expired", "login_required"), ("challenged", "challenge_required")]
)
async def test_ended_session_affects_only_gated_posts(
    instagram: StandIn, start_service: StartService, tmp_path: Path, sessionid: str, code: str
) -> None:
    client = await start_service(
        **session_file(tmp_path, sessionid), INSTAGRAM_LOGIN_USE="always", SCRAPE_CONCURRENCY="1"
    )
    assert (await scrape(client, "reel-public"))[0] == 200
    sent = instagram.requests("account")
    status, body = await scrape(client, "private-x")
    assert (status, body["code"]) in ((403, code), (403, "login_required"))
    assert (await scrape(client, "reel-another"))[0] == 200
    # The service checked the session once, and is ready nonetheless.
    assert instagram.requests("account") == sent == 1
    async with client.get("/ready") as response:
        ready = await response.json()
    assert (response.status, ready["login"]) == (200, sessionid)


@pytest.mark.parametrize(
    "path", ["share/reel-shared1/", "share/p/reel-shared1", "share/reel/reel-shared1/?x=1"]
)
async def test_share_link_is_opened_once_and_its_post_downloaded(
    instagram: StandIn, start_service: StartService, path: str
) -> None:
    client = await start_service()
    url = f"https://www.instagram.com/{path}"
    for cached in (False, True):
        async with client.post("/scrape", json={"url": url}) as response:
            post = await response.json()
            assert (response.status, post["shortcode"]) == (200, "reel-shared1")
            assert (post["original_url"], post["cached"]) == (url, cached)
    assert instagram.requests("share") == 1


@pytest.mark.parametrize(
    ("token", "requests"),
    [
        *(("next", 1), ("canonical", 1), ("ogurl", 1), ("slash", 2), ("form", 2)),
        *(("relative", 1), ("unquoted", 1), ("bare", 1), ("plain", 1), ("host", 2)),
    ],
)
async def test_every_form_of_share_link_leads_to_its_post(
    instagram: StandIn, start_service: StartService, token: str, requests: int
) -> None:
    client = await start_service()
    url = f"\ufeff https://www.instagram.com/share/{token}-token/\u200e\n"
    async with client.post("/scrape", json={"url": url}) as response:
        post = await response.json()
    assert (response.status, post["shortcode"]) == (200, f"reel-{token}-token")
    assert post["original_url"] == f"https://www.instagram.com/share/{token}-token/"
    assert instagram.requests("share") == requests


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [
        ("loop-token", 400, "unsupported_link"),
        ("profilepage-token", 400, "unsupported_link"),
        ("profile-token", 400, "unsupported_link"),
        ("story-token", 400, "unsupported_link"),
        ("offsite-token", 400, "unsupported_link"),
        ("nowhere-token", 404, "post_not_found"),
        ("login-token", 403, "login_required"),
    ],
)
async def test_share_link_without_a_post_is_an_error(
    instagram: StandIn, start_service: StartService, token: str, status: int, code: str
) -> None:
    client = await start_service()
    url = f"https://www.instagram.com/share/{token}/"
    async with client.post("/scrape", json={"url": url}) as response:
        assert (response.status, (await response.json())["code"]) == (status, code)


@both_modes
async def test_job_accepts_a_share_link(instagram: StandIn, start_service: StartService) -> None:
    client = await start_service()
    urls = ["https://www.instagram.com/share/reel/reel-shared2/"]
    async with client.post("/jobs", json={"urls": urls}) as response:
        job = await finish(client, await response.json())
    assert job["posts"][0]["shortcode"] == "reel-shared2"
    assert job["posts"][0]["state"] == "done"


# ---- hypothesis: a realistic media object with one broken value

ANYTHING = st.sampled_from([None, "", "text", 0, -1, 10**30, 1.5, True, [], {}, [None], {"a": 1}])
SHAPES = ("video", "photo", "carousel")
POSTS = Posts(None)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a media object."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from paths_of(inner, (*path, key))


def items_of(media: dict[str, Any], shape: str) -> list[Any]:
    if shape != "carousel":
        return [media]
    children = media.get("carousel_media")
    return children if isinstance(children, list) else []


def urls_of(item: Any, *, is_video: bool) -> set[str]:
    """Return the URLs of an item's file; for a video, not those of its cover."""
    if not isinstance(item, dict):
        return set()
    versions = item.get("video_versions")
    if not is_video:
        images = item.get("image_versions2")
        versions = images.get("candidates") if isinstance(images, dict) else None
    found = set()
    for version in versions if isinstance(versions, list) else ():
        url = version.get("url") if isinstance(version, dict) else None
        if isinstance(url, str) and url.startswith("https://") and "stp=c0." not in url:
            found.add(url)
    return found


class Fetcher:
    """Downloads posts in this thread, without the service."""

    def __init__(self, instagram: StandIn, folder: Path) -> None:
        self.instagram = instagram
        self._folder = folder
        self._number = 0
        self._client = Instagram.from_settings(
            load_settings(media_root=folder, instagram_max_queries=0, min_free_disk_mb=0)
        )

    def fetch(self, name: str) -> Post:
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        shortcode = f"{name}-{self._number}"
        fetch = Fetch(shortcode, POST.format(shortcode), time.monotonic() + 600)
        return self._client.fetch(fetch, folder)


@pytest.fixture
def fetcher(instagram: StandIn, tmp_path: Path) -> Fetcher:
    return Fetcher(instagram, tmp_path)


@settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data(), shape=st.sampled_from(SHAPES), by_page=st.booleans())
def test_one_broken_value_loses_no_file_with_a_url(
    fetcher: Fetcher, data: st.DataObject, shape: str, by_page: bool
) -> None:
    template = POSTS.describe("broken-0", Scenario("", shape=shape))
    path = data.draw(st.sampled_from(sorted(paths_of(template), key=str)))
    value, remove = data.draw(ANYTHING), data.draw(st.booleans())
    seen: list[dict[str, Any]] = []

    def change(media: dict[str, Any]) -> dict[str, Any]:
        place: Any = media
        for key in path[:-1]:
            place = place[key]
        if remove and isinstance(place, dict):
            del place[path[-1]]
        else:
            place[path[-1]] = value
        seen.append(media)
        return media

    scenario = Scenario("broken", shape=shape, change=change)
    if by_page:
        scenario = replace(scenario, api="forbidden", web="forbidden", page="post")
    fetcher.instagram.set_scenario("broken", scenario)
    try:
        post = fetcher.fetch("broken")
    except ScrapeError:
        post = None
    media = seen[0]
    are_videos = ["video_versions" in item for item in items_of(template, shape)]
    wanted = [
        urls_of(item, is_video=is_video)
        for item, is_video in zip(items_of(media, shape), are_videos, strict=False)
    ]
    usable_type = not isinstance(media.get("media_type"), int) or media["media_type"] in (1, 2, 8)
    if not any(wanted) or not usable_type or not _may_be_the_post(media):
        return
    assert post is not None, (path, value, remove)
    assert len(post.media) >= sum(map(bool, wanted)), (path, value, remove)


def _may_be_the_post(media: dict[str, Any]) -> bool:
    """Return whether *media* has the post's code or no code at all."""
    return not isinstance(media.get("code"), str) or media["code"].startswith("broken")
