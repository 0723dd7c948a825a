"""``/login``: the state of the Instagram login, and replacing or removing it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Client, StartService, both_modes, stored_files
from tests.instagram import StandIn

KEY = {"X-API-Key": "a-key-of-the-tests"}
PRIVATE = {"url": "https://www.instagram.com/p/private-post/"}


def cookies_txt(session: str) -> str:
    return (
        "# Netscape HTTP Cookie File\n"
        f"#HttpOnly_.instagram.com\tTRUE\t/\tTRUE\t0\tsessionid\t{session}-session\n"
        ".instagram.com\tTRUE\t/\tTRUE\t0\tds_user_id\t1\n"
    )


@pytest.fixture
async def client(instagram: StandIn, start_service: StartService) -> Client:
    return await start_service(API_KEY=KEY["X-API-Key"])


async def put(client: Client, body: str) -> tuple[int, dict[str, Any]]:
    response = await client.put("/login", data=body, headers=KEY)
    return response.status, await response.json()


async def state(client: Client) -> Any:
    response = await client.get("/login", headers=KEY)
    assert response.status == 200
    return (await response.json())["state"]


async def test_browser_cookies_give_access_to_gated_posts(
    instagram: StandIn, client: Client, media_root: Path
) -> None:
    assert (await client.post("/scrape", json=PRIVATE, headers=KEY)).status == 403
    assert await state(client) == "none"
    instagram.reset_counters()
    status, answer = await put(client, cookies_txt("alive"))
    assert (status, answer["state"], answer["username"]) == (200, "active", "alive.user")
    assert answer["since"].endswith("Z")
    assert instagram.requests("account") == instagram.requests() / 2 == 1
    assert (await client.post("/scrape", json=PRIVATE, headers=KEY)).status == 200
    stored = media_root / ".state" / "login.json"
    assert stored.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"sessionid": "1%3Aalive%3A12"}),
        json.dumps([{"name": "sessionid", "value": "1%3Aalive%3A12", "domain": ".instagram.com"}]),
        "1%3Aalive%3A12",
        "Cookie: sessionid=1%3Aalive%3A12; mid=m",
        cookies_txt("alive").replace("\t", "  "),
    ],
)
async def test_every_form_of_a_session_is_accepted(
    instagram: StandIn, client: Client, body: str
) -> None:
    status, answer = await put(client, body)
    assert (status, answer["username"]) == (200, "alive.user")
    # Instagram's response to the check set the other cookies, which media_info requires.
    assert (await client.post("/scrape", json=PRIVATE, headers=KEY)).status == 200


@pytest.mark.parametrize(
    ("session", "code"), [("expired", "login_required"), ("challenged", "challenge_required")]
)
async def test_a_dead_session_does_not_replace_the_login(
    client: Client, session: str, code: str
) -> None:
    assert (await put(client, cookies_txt("alive")))[0] == 200
    status, answer = await put(client, cookies_txt(session))
    assert (status, answer["code"]) == (403, code)
    assert await state(client) == "active"


async def test_the_login_is_unchanged_if_instagram_is_unreachable(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    status, answer = await put(client, cookies_txt("alive"))
    assert (status, answer["code"]) == (503, "instagram_unreachable")
    assert await state(client) == "none"


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        ("softblocked", 429, "instagram_rate_limited"),
        ("ratecode", 429, "instagram_rate_limited"),
        ("feedbackword", 429, "instagram_rate_limited"),
        ("nonsense", 502, "instagram_changed"),
        ("blank", 502, "instagram_changed"),
    ],
)
async def test_an_unexpected_page_does_not_replace_the_login(
    instagram: StandIn, client: Client, answer: str, status: int, code: str
) -> None:
    assert (await put(client, cookies_txt("alive")))[0] == 200
    instagram.override_answer("start", answer)
    response = await client.put("/login", data=cookies_txt("other"), headers=KEY)
    assert (response.status, (await response.json())["code"]) == (status, code)
    assert ("Retry-After" in response.headers) == (status == 429)
    assert (await (await client.get("/login", headers=KEY)).json())["username"] == "alive.user"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "nonsense",
        "{",
        "[]",
        "{}",
        '{"sessionid": 1}',
        '{"sessionid": "1:a"}',
        '{"sessionid": "1%3Aabc%3Ad"}',
        cookies_txt("alive").replace("alive-session", "seven-7"),
        cookies_txt("alive") + ".instagram.com\tTRUE\t/\tTRUE\t0\tcsrftoken\t,\n",
        '{"sessionid": ""}',
        '{"sessionid": "no number"}',
        '{"sessionid": "1:a\\r\\nX-Evil: 1"}',
        '{"sessionid": "1:' + "a" * 5000 + '"}',
        cookies_txt("alive").replace("instagram.com", "example.com"),
        cookies_txt("a\x01b"),
        "\ud800".encode("utf-8", "surrogatepass"),
    ],
)
async def test_a_body_without_a_session_causes_no_request_to_instagram(
    instagram: StandIn, client: Client, body: str
) -> None:
    status, answer = await put(client, body)
    assert (status, answer["code"]) == (400, "invalid_body")
    assert "a cookies.txt" in answer["error"]
    assert "^" not in answer["error"]
    assert instagram.requests() == 0


async def test_a_body_over_a_megabyte_is_too_large(client: Client) -> None:
    status, answer = await put(client, "#" * 1_000_001)
    assert (status, answer["code"]) == (413, "body_too_large")


async def test_a_removed_login_is_no_longer_used(instagram: StandIn, client: Client) -> None:
    assert (await put(client, cookies_txt("alive")))[0] == 200
    assert (await client.delete("/login", headers=KEY)).status == 204
    assert await state(client) == "none"
    instagram.reset_counters()
    assert (await client.post("/scrape", json=PRIVATE, headers=KEY)).status == 403
    assert instagram.requests("account") == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_the_login_cannot_be_changed_without_an_api_key(
    instagram: StandIn, start_service: StartService, method: str
) -> None:
    client = await start_service()
    response = await client.request(method, "/login", data=cookies_txt("alive"))
    assert (response.status, (await response.json())["code"]) == (403, "unauthorized")
    assert instagram.requests() == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_wrong_key_is_rejected(client: Client, method: str) -> None:
    response = await client.request(method, "/login", headers={"X-API-Key": "wrong"})
    assert response.status == 401


@both_modes
async def test_a_login_survives_a_restart_and_reaches_other_replicas(
    start_service: StartService, client: Client, mode: dict[str, str], media_root: Path
) -> None:
    assert (await put(client, cookies_txt("alive")))[0] == 200
    if not mode:
        await client.close()
    other = await start_service(API_KEY=KEY["X-API-Key"])
    assert await state(other) == "active"
    if not mode:
        return
    assert (await client.delete("/login", headers=KEY)).status == 204
    # The other replica checks the file once a second.
    while await state(other) != "none":  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert stored_files(media_root) == set()


async def test_no_response_contains_a_cookie(client: Client) -> None:
    response = await client.put("/login", data=cookies_txt("alive"), headers=KEY)
    others = [await client.get(path, headers=KEY) for path in ("/login", "/ready", "/metrics")]
    put, login, ready, metrics = [await each.text() for each in (response, *others)]
    assert "alive.user" in login
    assert not any("alive-session" in text or "sessionid" in text for text in (put, login, ready))
    assert 'instagram_login_state{state="active"} 1.0' in metrics
