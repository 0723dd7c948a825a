"""What Instagram's answers mean, logged out and with a session, over a real socket."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.conftest import StartService
from tests.instagram import Scenario, StandIn
from tests.instagram.answers import ANSWERS
from tests.service.instagram.test_sources import scrape, session_file

LIMIT, LOGIN, CHALLENGE = "instagram_rate_limited", "login_required", "challenge_required"
CHANGED = "instagram_changed"


@pytest.mark.parametrize(
    ("answer", "expected", "cools_down"),
    [
        ("ratecode", (429, LIMIT), True),
        ("ratetext", (429, LIMIT), True),
        ("toomany", (429, LIMIT), True),
        ("softblocked", (429, LIMIT), True),
        ("waitcapital", (429, LIMIT), False),
        ("staletokens", (403, LOGIN), False),
        ("tlsrefused", (403, LOGIN), False),
        ("feedbackword", (403, LOGIN), False),
        ("guarded", (502, CHANGED), False),
        ("geoblock", (403, LOGIN), False),
        ("consentword", (403, CHALLENGE), False),
        ("errortype", (403, CHALLENGE), False),
        ("to_consent", (403, LOGIN), False),
        ("to_authplatform", (403, CHALLENGE), False),
        ("to_terms", (403, CHALLENGE), False),
        ("to_nourl", (502, CHANGED), False),
        ("to_noport", (502, CHANGED), False),
        ("deleted", (404, "post_not_found"), False),
        ("retiredquery", (403, LOGIN), False),
        ("nonsense", (502, CHANGED), False),
        ("teapot", (502, CHANGED), False),
        ("fivehundred", (502, "instagram_failed"), False),
    ],
)
async def test_response_and_cool_down_for_each_api_answer(
    instagram: StandIn,
    start_service: StartService,
    answer: str,
    expected: tuple[int, str],
    cools_down: bool,
) -> None:
    instagram.set_scenario("same", Scenario("", api=answer, page="loginroute"))
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="600")
    status, body = await scrape(client, "same-one")
    assert (status, body["code"]) == expected
    status, body = await scrape(client, "reel-next")
    assert (status, body.get("code")) == ((429, "cooling_down") if cools_down else (200, None))


@pytest.mark.parametrize("answer", sorted(ANSWERS))
async def test_post_is_found_despite_any_answer_from_one_source(
    instagram: StandIn, start_service: StartService, answer: str
) -> None:
    instagram.set_scenario("one", Scenario("", api=answer, web=answer, page="post"))
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="600")
    assert (await scrape(client, "one-query"))[0] == 200
    instagram.override_answer("page", answer)
    assert (await scrape(client, "reel-page"))[0] == 200


async def test_media_with_a_warning_is_accepted(
    instagram: StandIn, start_service: StartService
) -> None:
    instagram.set_scenario("warned", Scenario("", api="warned", page="loginroute"))
    assert (await scrape(await start_service(), "warned-one"))[0] == 200


async def test_unknown_answer_is_logged_without_secrets(
    instagram: StandIn, start_service: StartService
) -> None:
    instagram.set_scenario("odd", Scenario("", api="nonsense", page="loginroute"))
    client = await start_service()
    with capture_logs() as logs:
        await scrape(client, "odd-one")
    (seen, *_) = [line["seen"] for line in logs if "seen" in line]
    assert (seen["status"], seen["keys"]) == (200, ["surprise"])
    assert "s3cret" not in repr(logs)


async def test_stale_tokens_are_replaced_once(
    instagram: StandIn, start_service: StartService
) -> None:
    instagram.set_scenario("stale", Scenario("", api="staleonce", page="loginroute"))
    client = await start_service(SCRAPE_CONCURRENCY="1")
    assert (await scrape(client, "stale-one"))[0] == 200
    assert (instagram.requests("start_page"), instagram.requests("graphql")) == (2, 2)


async def test_tokens_that_stay_stale_are_replaced_only_once(
    instagram: StandIn, start_service: StartService
) -> None:
    instagram.set_scenario("staler", Scenario("", api="staletokens", page="loginroute"))
    client = await start_service(SCRAPE_CONCURRENCY="1")
    for _ in range(2):
        assert (await scrape(client, "staler-one"))[0] == 403
    assert instagram.requests("start_page") == 2


async def test_rate_limit_in_a_200_slows_the_pace(
    instagram: StandIn, start_service: StartService
) -> None:
    instagram.set_scenario("slowed", Scenario("", api="ratecode", page="post"))
    client = await start_service(INSTAGRAM_MAX_QUERIES="200", SCRAPE_CONCURRENCY="1")
    assert (await scrape(client, "slowed-one"))[0] == 200
    ready = await (await client.get("/ready")).json()
    assert ready["instagram"]["logged_out"]["allowed"] < 200


@pytest.mark.parametrize(
    "answer",
    [
        "to_challenge",
        "to_authplatform",
        "to_terms",
        "to_privacy",
        "to_suspended",
        "to_disabled",
        "to_consent",
        "consentword",
        "checkpointword",
        "errortype",
        "errortypeonly",
    ],
)
async def test_challenged_account_is_no_longer_used(
    instagram: StandIn,
    start_service: StartService,
    tmp_path: Path,
    mode: dict[str, str],
    answer: str,
) -> None:
    instagram.override_answer("info", answer)
    settings = {**session_file(tmp_path, "alive"), "SCRAPE_CONCURRENCY": "1"}
    clients = [await start_service(**settings) for _ in range(2 if mode else 1)]
    with capture_logs() as logs:
        status, body = await scrape(clients[0], "private-first")
        assert (status, body["code"]) == (403, CHALLENGE)
        for number, client in enumerate(clients * 2):
            assert (await scrape(client, f"private-{number}"))[1]["code"] == LOGIN
            assert (await scrape(client, f"reel-{number}"))[0] == 200
            ready = await (await client.get("/ready")).json()
            assert ready["login"] == "challenged"
            metrics = await (await client.get("/metrics")).text()
            assert 'instagram_login_state{state="challenged"} 1.0' in metrics
    assert instagram.requests("account") == 1
    assert [line["event"] for line in logs].count("instagram login lost") == 1


@pytest.mark.parametrize(
    ("answer", "first"),
    [
        ("feedbackword", (429, LIMIT)),
        ("tlsrefused", (429, LIMIT)),
        ("toomany", (429, LIMIT)),
        ("ratecode", (429, LIMIT)),
        ("softblocked", (429, LIMIT)),
        ("fivehundred", (502, "instagram_failed")),
        ("nonsense", (502, CHANGED)),
        ("to_nourl", (502, CHANGED)),
    ],
)
async def test_refusal_with_a_session_pauses_the_account(
    instagram: StandIn, start_service: StartService, tmp_path: Path, answer: str, first: Any
) -> None:
    instagram.override_answer("info", answer)
    settings = {"SCRAPE_CONCURRENCY": "1", "INSTAGRAM_COOLDOWN_SECONDS": "300"}
    client = await start_service(**session_file(tmp_path, "alive"), **settings)
    status, body = await scrape(client, "private-first")
    assert (status, body["code"]) == first
    sent = instagram.requests("account")
    status, body = await scrape(client, "private-second")
    assert (status, body["code"]) == (429, LIMIT)
    assert instagram.requests("account") == sent


async def test_post_hidden_in_this_country_takes_one_request(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    instagram.override_answer("info", "geoblock")
    client = await start_service(**session_file(tmp_path, "alive"), SCRAPE_CONCURRENCY="1")
    for number in range(2):
        assert (await scrape(client, f"private-{number}"))[1]["code"] == LOGIN
    assert instagram.requests("account") == 2


SCRIPTS = {
    "one.js": b"var x;",
    "two.js": b'__d("PolarisPostRootQuery_instagramRelayOperation",[],(function(t){'
    b't.exports="300000"}),null);__d("PolarisPostRootQuery$Parameters",["PolarisNew.relayprovider"],(function(){}));',
}


@pytest.mark.parametrize("retired", ["retired", "nullinfo"])
async def test_replacement_for_a_retired_document_is_found(
    instagram: StandIn, start_service: StartService, mode: dict[str, str], retired: str
) -> None:
    instagram.link_scripts(SCRIPTS)
    instagram.set_root_query("300000", {"PolarisNew": False})
    for source in ("api", "web"):
        instagram.override_answer(source, retired)
    client = await start_service(SCRAPE_CONCURRENCY="1")
    for number in range(3):
        assert (await scrape(client, f"photo-{number}"))[0] == 200
    counts = [instagram.requests(kind) for kind in ("script", "root_query", "post_page")]
    assert counts == [2, 2, 1]
    ready = (await (await client.get("/ready")).json())["instagram"]["logged_out"]
    assert ready["queries"] == {"root_query": "300000"}
    metrics = await (await client.get("/metrics")).text()
    assert 'instagram_requests_total{outcome="ok",source="lookup_root_query"} 1.0' in metrics
    if not mode:
        await client.close()
    other = await start_service(SCRAPE_CONCURRENCY="1")
    for number in range(3):
        assert (await scrape(other, f"reel-{number}"))[0] == 200
    assert instagram.requests("script") == 2
    assert instagram.requests("post_page") == 1


async def test_batch_succeeds_while_all_documents_are_retired(
    instagram: StandIn, start_service: StartService
) -> None:
    instagram.link_scripts(SCRIPTS)
    instagram.set_root_query("300000", {"PolarisNew": False})
    instagram.accept_document("1234567890")
    instagram.override_answer("api", "retired")
    client = await start_service(SCRAPE_TIMEOUT_SECONDS="600")
    results = await asyncio.gather(*(scrape(client, f"photo-{number}") for number in range(50)))
    assert {status for status, _ in results} == {200}


async def test_post_deleted_according_to_the_account_is_not_found(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    instagram.set_scenario("erased", Scenario("", api="forbidden", page="gated", info="deleted"))
    client = await start_service(**session_file(tmp_path, "alive"))
    assert (await scrape(client, "erased-one"))[0] == 404


@pytest.mark.parametrize("answer", ["to_nourl", "to_noport", "to_elsewhere", "teapot", "nonsense"])
async def test_answers_to_new_cookies_never_cause_an_internal_error(
    instagram: StandIn, start_service: StartService, answer: str
) -> None:
    key = {"X-API-Key": "a-key-of-the-tests"}
    client = await start_service(API_KEY=key["X-API-Key"])
    instagram.override_answer("start", answer)
    body: dict[str, Any] = {"sessionid": "1%3Aalive%3A12"}
    response = await client.put("/login", json=body, headers=key)
    assert response.status in (403, 502)


@pytest.mark.parametrize("answer", ["to_nourl", "teapot", "nonsense", "guarded"])
async def test_share_link_answers_never_cause_an_internal_error(
    instagram: StandIn, start_service: StartService, answer: str
) -> None:
    client = await start_service()
    url = f"https://www.instagram.com/share/{answer}-token/"
    response = await client.post("/scrape", json={"url": url})
    assert (response.status, (await response.json())["code"]) == (502, CHANGED)
